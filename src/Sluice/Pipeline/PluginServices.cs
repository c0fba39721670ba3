using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Sluice.Model.Settings;
using Sluice.Observability;
using Sluice.Pipeline.Secrets;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>What plugins share with the gateway; lives as long as the process, through every change of configuration.</summary>
public sealed class PluginServices : IDisposable
{
    readonly ConcurrentDictionary<string, Lazy<object>> _shared = new();

    readonly Lazy<LuaEngine> _lua;

    public PluginServices(TimeProvider time, ILoggerFactory loggers, GatewayMetrics metrics)
    {
        Time = time;
        Loggers = loggers;
        Metrics = metrics;
        _lua = new(() => MakeLua?.Invoke() ?? new LuaEngine(new LuaOptions(Directory.GetCurrentDirectory()), Time, Loggers.CreateLogger<LuaEngine>()));
    }

    public TimeProvider Time { get; }

    public ILoggerFactory Loggers { get; }

    public GatewayMetrics Metrics { get; }

    /// <summary>Where request bodies go that are too large for memory.</summary>
    public string TemporaryDirectory { get; init; } = Path.GetTempPath();

    /// <summary>Runs Lua; made when the first script is there.</summary>
    public LuaEngine Lua => _lua.Value;

    /// <summary>Whether a script has registered a variable of this name.</summary>
    public bool HasScriptVariable(string name) => _lua.IsValueCreated && _lua.Value.HasVariable(name);

    /// <summary>Runs Lua, if there has been a script.</summary>
    public LuaEngine? RunningLua => _lua.IsValueCreated ? _lua.Value : null;

    public static LuaOptions LuaOptions(GatewaySettings settings) => new(settings.Prefix, settings.ExtraLuaPath, settings.LuaSandbox, settings.LuaMemoryLimit)
    {
        Jit = settings.LuaJit,
        LocalConfiguration = settings.Local,
        InstanceId = settings.InstanceId,
    };

    /// <summary>How Lua runs here; before the first script.</summary>
    public Func<LuaEngine>? MakeLua { get; set; }

    /// <summary>Runs an exchange through the gateway, for <see cref="InnerRequest"/>.</summary>
    public Func<Exchange, Task> Inner { get; set; } = static _ => throw new InvalidOperationException("there is no gateway here");

    /// <summary>What <c>$secret://</c> and <c>$env://</c> stand for.</summary>
    public SecretStore Secrets
    {
        get => field ??= new(Time, Environment.GetEnvironmentVariable, new SecretManagers(Time), Loggers.CreateLogger<SecretStore>());
        init;
    }

    /// <summary>State that survives a change of configuration, such as counters. The key names the plugin first: <c>limit-count/…</c>.</summary>
    public T Shared<T>(string key, Func<T> make) where T : class => (T)_shared.GetOrAdd(key, _ => new(() => make())).Value;

    public void Dispose()
    {
        if (_lua.IsValueCreated)
        {
            _lua.Value.Dispose();
        }
    }
}

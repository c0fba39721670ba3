using Microsoft.Extensions.Logging;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Observability;
using Sluice.Pipeline.References;
using Sluice.Relay.Queues;
using Sluice.Relay.Topics;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>What plugins share with the gateway; lives as long as the process, through every change of configuration.</summary>
public sealed class PluginServices : IDisposable
{
    readonly Lazy<LuaEngine> _lua;

    internal PluginServices(TimeProvider time, ILoggerFactory loggers, GatewayMetrics metrics)
    {
        Time = time;
        Loggers = loggers;
        Metrics = metrics;
        Lives = new(loggers.CreateLogger<PluginLives>());
        Counters = new(time);
        _lua = new(() => MakeLua?.Invoke()
            ?? new LuaEngine(new LuaOptions(Directory.GetCurrentDirectory()), Time, Loggers.CreateLogger<LuaEngine>()));
    }

    public TimeProvider Time { get; }

    public ILoggerFactory Loggers { get; }

    internal GatewayMetrics Metrics { get; }

    /// <summary>The responses that are under way.</summary>
    internal LiveStreams Live => field ??= new(Time);

    /// <summary>Where request bodies go that are too large for memory.</summary>
    public string TemporaryDirectory { get; init; } = Path.GetTempPath();

    /// <summary>Runs Lua; made when the first script is there.</summary>
    internal LuaEngine Lua => _lua.Value;

    /// <summary>Whether a script has registered a variable of this name.</summary>
    public bool HasScriptVariable(string name) => _lua.IsValueCreated && _lua.Value.HasVariable(name);

    /// <summary>Runs Lua, if there has been a script.</summary>
    internal LuaEngine? RunningLua => _lua.IsValueCreated ? _lua.Value : null;

    /// <summary>Whether there is a Lua file for a plugin of this name.</summary>
    public bool IsScript(string name) => LuaEngine.IsPluginName(name) && Lua.HasPlugin(name);

    internal static LuaOptions LuaOptions(GatewaySettings settings) =>
        new(settings.Prefix, settings.ExtraLuaPath, settings.LuaSandbox, settings.LuaMemoryLimit)
    {
        Jit = settings.LuaJit,
        LocalConfiguration = settings.Local,
        InstanceId = settings.InstanceId,
    };

    /// <summary>How Lua runs here; before the first script.</summary>
    internal Func<LuaEngine>? MakeLua { get; set; }

    /// <summary>Runs an exchange through the gateway, for <see cref="InnerRequest"/>.</summary>
    public Func<Exchange, Task> Inner { get; set; } = static _ => throw new InvalidOperationException("there is no gateway here");

    /// <summary>Forwards an exchange without a client, for <see cref="DetachedRequest"/>.</summary>
    internal Func<DetachedRequest, Task> Alone { get; set; } = static _ => throw new InvalidOperationException("there is no gateway here");

    /// <summary>What waits for clients that are behind.</summary>
    internal QueueMemory Queues { get; } = new();

    /// <summary>Streams with a history.</summary>
    internal TopicStore Topics => field ??= new(Time);

    /// <summary>For every HTTP call that the gateway makes in its own name.</summary>
    public OutgoingHttp Http
    {
        get => field ??= new(Time);
        init;
    }

    /// <summary>What <c>$secret://</c> and <c>$env://</c> stand for.</summary>
    internal SecretStore Secrets
    {
        get => field ??= new(Time, Environment.GetEnvironmentVariable, new SecretManagers(Time, Http), Loggers.CreateLogger<SecretStore>());
        init;
    }

    /// <summary>What plugins own and share.</summary>
    internal PluginLives Lives { get; }

    /// <summary>Counters in this process's memory.</summary>
    internal LocalCounters Counters { get; }

    /// <summary>Told when log files have been moved away: they are opened anew.</summary>
    public event Action? LogsMoved;

    public void ReopenLogs() => LogsMoved?.Invoke();

    public void Dispose()
    {
        Topics.Dispose();
        if (_lua.IsValueCreated)
        {
            _lua.Value.Dispose();
        }
    }
}

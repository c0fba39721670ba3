using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>A custom plugin in Lua, or a route's script, at one place where it is configured.</summary>
sealed class ScriptedPlugin(LuaUnit unit, IReadOnlyCollection<string> phases)
    : IChosenPhases, IRewrite, IAccess, IBeforeProxy, IHeaderFilter, IBodyFilter, ILog
{
    readonly bool _rewrite = phases.Contains("rewrite");
    readonly bool _access = phases.Contains("access");
    readonly bool _beforeProxy = phases.Contains("before_proxy");
    readonly bool _headerFilter = phases.Contains("header_filter");
    readonly bool _bodyFilter = phases.Contains("body_filter");
    readonly bool _log = phases.Contains("log");

    public bool TakesPart<TPhase>() => phases.Contains(ScriptPhases.NameOf<TPhase>());

    public ValueTask<Answer?> RewriteAsync(Exchange exchange) => _rewrite ? ScriptPhases.RunAsync(exchange, unit, LuaPhase.Rewrite, "rewrite") : default;

    public ValueTask<Answer?> AccessAsync(Exchange exchange) => _access ? ScriptPhases.RunAsync(exchange, unit, LuaPhase.Access, "access") : default;

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange) =>
        _beforeProxy ? ScriptPhases.RunAsync(exchange, unit, LuaPhase.BeforeProxy, "before_proxy") : default;

    public void FilterHeaders(Exchange exchange)
    {
        if (_headerFilter)
        {
            ScriptPhases.FilterHeaders(exchange, unit);
        }
    }

    public IPieceFilter? OpenBody(Exchange exchange) => _bodyFilter ? ScriptPhases.OpenBody(exchange, unit) : null;

    public void Log(Exchange exchange)
    {
        if (_log)
        {
            ScriptPhases.Log(exchange, unit);
        }
    }
}

/// <summary>Makes plugins of Lua files and of routes' scripts.</summary>
static partial class ScriptedPlugins
{
    static readonly string[] AllPhases = ["rewrite", "access", "before_proxy", "header_filter", "body_filter", "log"];

    static readonly PluginDescriptor RouteScript = PluginDescriptor.Scripted(
        new("script", 0, "{}", "A route's script."), AllPhases, static (_, _) => null, static (_, _) => throw new InvalidOperationException("made by OfRoute"));

    /// <summary>What runs instead of plugins on a route that has a <c>script</c>.</summary>
    public static PluginUse OfRoute(PluginServices services, string route, string text)
    {
        var unit = LuaUnit.OfScript(services.Lua, $"route {route}, script", text);
        return new(RouteScript, new ScriptedPlugin(unit, AllPhases), PluginMeta.None, [], $"route {route}");
    }

    /// <summary>Those of <c>plugins:</c> in conf/config.yaml that are Lua files (<c>apisix/plugins/NAME.lua</c> on the Lua path) and no built-in ones.</summary>
    /// <param name="running">Those that there are now: what would be lost of them is a problem.</param>
    public static (IReadOnlyList<PluginDescriptor> Loaded, IReadOnlyList<Problem> Broken) Load(PluginServices services, IEnumerable<string> names, PluginRegistry? running)
    {
        List<PluginDescriptor> loaded = [];
        List<Problem> broken = [];
        foreach (var name in names)
        {
            if (!LuaEngine.IsPluginName(name) || !services.Lua.HasPlugin(name))
            {
                continue;
            }
            var (made, error) = Load(services.Lua, name);
            if (made is not null)
            {
                loaded.Add(made);
                continue;
            }
            LogNotLoaded(services.Loggers.CreateLogger("Lua"), name, error);
            if (running?.Find(name) is not null)
            {
                broken.Add(Problem.Error($"plugin {name}", $"{error}; the one that runs stays"));
            }
        }
        return (loaded, broken);
    }

    static (PluginDescriptor? Made, string? Error) Load(LuaEngine engine, string name)
    {
        try
        {
            var (facts, error) = engine.LoadPlugin(name);
            return facts is null ? (null, error) : (Of(name, facts, engine), null);
        }
        catch (Exception e) when (e is FormatException or JsonException or InvalidOperationException or ArgumentException)
        {
            return (null, e.Message);
        }
    }

    static PluginDescriptor Of(string name, JsonObject facts, LuaEngine engine)
    {
        var phases = facts["phases"]!.AsArray().Select(phase => (string)phase!).ToArray();
        var info = new PluginInfo(name, (int)facts["priority"]!.GetValue<double>(), facts["schema"]!.ToJsonString(), "A plugin in Lua.")
        {
            Version = facts["version"]!.ToString(),
            IsAuth = facts["auth"]?.GetValue<bool>() == true,
            ConsumerSchema = facts["consumer_schema"]?.ToJsonString(),
            MetadataSchema = facts["metadata_schema"]?.ToJsonString(),
        };
        return PluginDescriptor.Scripted(info, phases, (part, config) => engine.CheckPlugin(name, (int)part, config), (config, context) =>
            new ScriptedPlugin(LuaUnit.OfPlugin(context.Services.Lua, name, $"{context.Scope}, plugin {name}", config.DeepClone(), context.Metadata), phases));
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to load plugin [{Name}] err: {Error}")]
    static partial void LogNotLoaded(ILogger logger, string name, string? error);
}

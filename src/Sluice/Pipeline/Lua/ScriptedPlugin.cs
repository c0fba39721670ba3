using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary>A custom plugin in Lua, or a route's script, at one place where it is configured.</summary>
sealed class ScriptedPlugin(LuaUnit unit) : IRewrite, IAccess, IBeforeProxy, IHeaderFilter, IBodyFilter, IEventFilter, ILog
{
    public ValueTask<Answer?> RewriteAsync(Exchange exchange) => ScriptPhases.RunAsync(exchange, unit, Phase.Rewrite);

    public ValueTask<Answer?> AccessAsync(Exchange exchange) => ScriptPhases.RunAsync(exchange, unit, Phase.Access);

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange) => ScriptPhases.RunAsync(exchange, unit, Phase.BeforeProxy);

    public void FilterHeaders(Exchange exchange) => ScriptPhases.FilterHeaders(exchange, unit);

    public IPieceFilter? OpenBody(Exchange exchange) => ScriptPhases.OpenBody(exchange, unit);

    public IEventStep? OpenEvents(Exchange exchange) => ScriptPhases.OpenEvents(exchange, unit);

    public void Log(Exchange exchange) => ScriptPhases.Log(exchange, unit);
}

/// <summary>Makes plugins of Lua files and of routes' scripts.</summary>
static partial class ScriptedPlugins
{
    static readonly string[] AllPhases = [.. Phase.All
        .Where(phase => phase.Lua is not null && phase.Contract.IsAssignableFrom(typeof(ScriptedPlugin))).Select(phase => phase.Name)];

    static readonly PluginDescriptor RouteScript = Script([.. AllPhases.Where(static phase => phase != Phase.Events.Name)]);

    static readonly PluginDescriptor RouteScriptOfEvents = Script(AllPhases);

    static PluginDescriptor Script(string[] phases) => PluginDescriptor.Scripted(
        new("script", 0, "{}", "A route's script."), phases, static (_, _) => null,
        static (_, _) => throw new InvalidOperationException("made by OfRoute"));

    /// <summary>What runs instead of plugins on a route that has a <c>script</c>.</summary>
    public static PluginUse OfRoute(PluginServices services, string route, string text)
    {
        var unit = LuaUnit.OfScript(services.Lua, $"route {route}, script", text);
        // cutting a stream into its events costs something: only for those who name the phase
        var script = text.Contains(Phase.Events.Name, StringComparison.Ordinal) ? RouteScriptOfEvents : RouteScript;
        return new(script, new ScriptedPlugin(unit), PluginMeta.None, [], $"route {route}");
    }

    /// <summary>
    /// Those of <c>plugins:</c> in conf/config.yaml that are Lua files (<c>apisix/plugins/NAME.lua</c> on the Lua path) and no built-in
    /// ones.
    /// </summary>
    /// <param name="running">Those that there are now: what would be lost of them is a problem.</param>
    public static (IReadOnlyList<PluginDescriptor> Loaded, IReadOnlyList<Problem> Broken) Load(PluginServices services,
        IEnumerable<string> names, PluginRegistry? running)
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
            new ScriptedPlugin(LuaUnit.OfPlugin(context.Services.Lua, name, $"{context.Scope}, plugin {name}", config.DeepClone(),
                context.Metadata)));
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to load plugin [{Name}] err: {Error}")]
    static partial void LogNotLoaded(ILogger logger, string name, string? error);
}

using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Plugins.Scripting;

/// <summary>Lua functions in one phase of a request: what the two serverless plugins share.</summary>
internal abstract class Serverless(Serverless.Config config, PluginContext context, string name)
    : IRewrite, IAccess, IBeforeProxy, IHeaderFilter, IBodyFilter, IEventFilter, ILog
{
    /// <summary>What users write.</summary>
    public sealed record Config(string[] Functions, string Phase = "access");

    public const string Schema =
        """
        {
          "type": "object",
          "properties": {
            "phase": {
              "type": "string", "default": "access",
              "enum": ["rewrite", "access", "header_filter", "body_filter", "log", "before_proxy", "event_filter"],
              "description": "when the functions run; `event_filter`: for each event of a stream"
            },
            "functions": {
              "type": "array", "items": { "type": "string" }, "minItems": 1,
              "description": "Lua texts, each returning a function that gets `conf` and `ctx`; run in this order"
            }
          },
          "required": ["functions"]
        }
        """;

    internal const string About =
        """
        A function may answer the request: with `ngx.say` and the like, with `ngx.exit`, or by returning a status and a body. It keeps its
        upvalues from one request to the next. What scripts find is in [lua.md](../lua.md). A text that returns no function and
        needs a request to run is itself the function and runs once per request (APISIX runs it once when it is loaded). Who prints does not end the request for the plugins
        behind it: the response ends before the upstream would be asked.
        """;

    readonly LuaUnit _unit = LuaUnit.OfFunctions(
        context.Services.Lua, name, $"{context.Scope}, plugin {name}", Settings(config), Functions(config));

    /// <exception cref="ConfigException">A text is no Lua, or returns something else than a function.</exception>
    static string[] Functions(Config config) =>
        config.Functions.Select(LuaCheck.Function).FirstOrDefault(error => error is not null) is { } error
        ? throw new ConfigException(error) : config.Functions;

    static JsonObject Settings(Config config) => new()
    {
        ["phase"] = config.Phase,
        ["functions"] = new JsonArray([.. config.Functions.Select(text => JsonValue.Create(text))]),
    };

    /// <summary>Only in the phase that the configuration names.</summary>
    protected static bool TakesPart(JsonObject config, Phase phase) => phase.Name == ((string?)config["phase"] ?? "access");

    public ValueTask<Answer?> RewriteAsync(Exchange exchange) => ScriptPhases.RunAsync(exchange, _unit, Phase.Rewrite);

    public ValueTask<Answer?> AccessAsync(Exchange exchange) => ScriptPhases.RunAsync(exchange, _unit, Phase.Access);

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange) => ScriptPhases.RunAsync(exchange, _unit, Phase.BeforeProxy);

    public void FilterHeaders(Exchange exchange) => ScriptPhases.FilterHeaders(exchange, _unit);

    public IPieceFilter? OpenBody(Exchange exchange) => ScriptPhases.OpenBody(exchange, _unit);

    public IEventStep? OpenEvents(Exchange exchange) => ScriptPhases.OpenEvents(exchange, _unit);

    public void Log(Exchange exchange) => ScriptPhases.Log(exchange, _unit);
}

/// <summary>Functions before all other plugins.</summary>
internal sealed class ServerlessPreFunction(Serverless.Config config, PluginContext context)
    : Serverless(config, context, "serverless-pre-function"), IPlugin<ServerlessPreFunction, Serverless.Config>
{
    public static PluginInfo Info { get; } = new("serverless-pre-function", 10000, Schema,
        "Runs Lua functions before the other plugins of a phase. " + About)
    {
        TakesPart = TakesPart,
        Example =
            """
            ```json
            {"serverless-pre-function": {"phase": "access", "functions": ["return function(conf, ctx) if ctx.var.arg_key ~= 'secret' then return 403, {message = 'no'} end end"]}}
            ```

            `curl 'http://127.0.0.1:9080/?key=secret'` is let through, other requests are answered `403 {"message":"no"}`.
            """,
    };

    public static JsonTypeInfo<Config> ConfigType => ServerlessJson.Default.Config;

    public static ServerlessPreFunction Create(Config config, PluginContext context) => new(config, context);
}

/// <summary>Functions after all other plugins.</summary>
internal sealed class ServerlessPostFunction(Serverless.Config config, PluginContext context)
    : Serverless(config, context, "serverless-post-function"), IPlugin<ServerlessPostFunction, Serverless.Config>
{
    public static PluginInfo Info { get; } = new("serverless-post-function", -2000, Schema,
        "Runs Lua functions after the other plugins of a phase. " + About)
    {
        TakesPart = TakesPart,
        Example =
            """
            ```json
            {"serverless-post-function": {"phase": "header_filter", "functions": ["return function() ngx.header['X-Served-By'] = ngx.var.upstream_addr end"]}}
            ```

            Answers say which node gave them.
            """,
    };

    public static JsonTypeInfo<Config> ConfigType => ServerlessJson.Default.Config;

    public static ServerlessPostFunction Create(Config config, PluginContext context) => new(config, context);
}

[JsonSerializable(typeof(Serverless.Config))]
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
sealed partial class ServerlessJson : JsonSerializerContext;

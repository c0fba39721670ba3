using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Plugins.Scripting;

/// <summary>Lua functions in one phase of a request: what the two serverless plugins share.</summary>
public abstract class Serverless(Serverless.Config config, PluginContext context, string name)
    : IChosenPhases, IRewrite, IAccess, IBeforeProxy, IHeaderFilter, IBodyFilter, ILog
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
              "enum": ["rewrite", "access", "header_filter", "body_filter", "log", "before_proxy"],
              "description": "when the functions run"
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
        upvalues from one request to the next. What scripts find is in [lua.md](../lua.md). A text that returns no function is itself the function and runs once per
        request (APISIX runs it once when it is loaded).
        """;

    readonly LuaUnit _unit = LuaUnit.OfFunctions(
        context.Services.Lua, name, $"{context.Scope}, plugin {name}", Settings(config), config.Functions);

    static JsonObject Settings(Config config) => new()
    {
        ["phase"] = config.Phase,
        ["functions"] = new JsonArray([.. config.Functions.Select(text => JsonValue.Create(text))]),
    };

    /// <summary>Texts that are no Lua, or return something else than a function.</summary>
    public static string? Check(Config config) => config.Functions.Select(LuaCheck.Function).FirstOrDefault(error => error is not null);

    public bool TakesPart<TPhase>() => config.Phase == ScriptPhases.NameOf<TPhase>();

    public ValueTask<Answer?> RewriteAsync(Exchange exchange) => RunAsync(exchange, "rewrite", LuaPhase.Rewrite);

    public ValueTask<Answer?> AccessAsync(Exchange exchange) => RunAsync(exchange, "access", LuaPhase.Access);

    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange) => RunAsync(exchange, "before_proxy", LuaPhase.BeforeProxy);

    ValueTask<Answer?> RunAsync(Exchange exchange, string name, LuaPhase phase) =>
        config.Phase == name ? ScriptPhases.RunAsync(exchange, _unit, phase, name) : default;

    public void FilterHeaders(Exchange exchange)
    {
        if (config.Phase == "header_filter")
        {
            ScriptPhases.FilterHeaders(exchange, _unit);
        }
    }

    public IPieceFilter? OpenBody(Exchange exchange) => config.Phase == "body_filter" ? ScriptPhases.OpenBody(exchange, _unit) : null;

    public void Log(Exchange exchange)
    {
        if (config.Phase == "log")
        {
            ScriptPhases.Log(exchange, _unit);
        }
    }
}

/// <summary>Functions before all other plugins.</summary>
public sealed class ServerlessPreFunction(Serverless.Config config, PluginContext context)
    : Serverless(config, context, "serverless-pre-function"), IPlugin<ServerlessPreFunction, Serverless.Config>
{
    public static PluginInfo Info { get; } = new("serverless-pre-function", 10000, Schema,
        "Runs Lua functions before the other plugins of a phase. " + About)
    {
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

    static string? IPlugin<ServerlessPreFunction, Config>.Check(Config config) => Check(config);
}

/// <summary>Functions after all other plugins.</summary>
public sealed class ServerlessPostFunction(Serverless.Config config, PluginContext context)
    : Serverless(config, context, "serverless-post-function"), IPlugin<ServerlessPostFunction, Serverless.Config>
{
    public static PluginInfo Info { get; } = new("serverless-post-function", -2000, Schema,
        "Runs Lua functions after the other plugins of a phase. " + About)
    {
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

    static string? IPlugin<ServerlessPostFunction, Config>.Check(Config config) => Check(config);
}

[JsonSerializable(typeof(Serverless.Config))]
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
sealed partial class ServerlessJson : JsonSerializerContext;

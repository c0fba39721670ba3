using System.Buffers;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Api;
using Sluice.Model.Json;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Plugins.Core;

/// <summary>Says in the log when which phase runs.</summary>
internal sealed partial class ExamplePlugin
    : IPlugin<ExamplePlugin, ExamplePlugin.Config>, IRewrite, IAccess, IHeaderFilter, IBodyFilter, ILog
{
    public static PluginInfo Info { get; } = new(
        Name: "example-plugin",
        Priority: 0,
        Schema: """
            {
              "type": "object",
              "properties": {
                "i": { "type": "number", "minimum": 0 },
                "s": { "type": "string" },
                "t": { "type": "array", "minItems": 1 },
                "ip": { "type": "string", "description": "requests go to this address instead of the route's upstream" },
                "port": { "type": "integer", "description": "its port; 80 when it is not said" }
              },
              "required": ["i"]
            }
            """,
        Summary: """
            APISIX's example of a plugin: warns in the log in each phase, with the configuration, and sends requests elsewhere when `ip` is there. The Control API answers `GET /v1/plugin/example-plugin/hello` with `world`.
            How to write one is in [writing a plugin](../writing-a-plugin.md).
            """)
    {
        MetadataSchema = """
            {
              "type": "object",
              "properties": { "ikey": { "type": "number", "minimum": 0 }, "skey": { "type": "string" } },
              "required": ["ikey", "skey"]
            }
            """,
        Endpoints = static _ =>
            [new("GET", "/v1/plugin/example-plugin/hello", ApiAccess.Read, static call => !call.Query.ContainsKey("json")
            ? JsonAnswer.Text(200, "world\n") : JsonAnswer.Object(200, ("msg", "world")))],
        Example = """
            ```json
            {"example-plugin": {"i": 1, "s": "text", "t": ["item"]}}
            ```
            """,
    };

    public sealed record Config(double I, string? S = null, JsonArray? T = null, string? Ip = null, int? Port = null);

    readonly ForwardTo.To? _target;
    readonly string _config;
    readonly ILogger _logger;

    ExamplePlugin(Config config, PluginContext context)
    {
        _config = JsonBytes.Text(context.Config);
        _logger = context.Services.Loggers.CreateLogger<ExamplePlugin>();
        if (config.Ip is { } ip)
        {
            var node = new JsonObject { ["host"] = ip, ["port"] = config.Port ?? 80, ["weight"] = 1 };
            _target = context.Upstreams.Make(new JsonObject { ["type"] = "roundrobin", ["nodes"] = new JsonArray(node) });
        }
    }

    public static JsonTypeInfo<Config> ConfigType => ExamplePluginJson.Default.Config;

    public static ExamplePlugin Create(Config config, PluginContext context) => new(config, context);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        LogPhase("rewrite", _config);
        return default;
    }

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        LogPhase("access", _config);
        if (_target is not null)
        {
            exchange.ForwardTo = _target;
        }
        return default;
    }

    public void FilterHeaders(Exchange exchange) => LogPhase("header_filter", _config);

    public IPieceFilter? OpenBody(Exchange exchange) => new Pieces(this);

    public void Log(Exchange exchange) => LogPhase("log", _config);

    sealed class Pieces(ExamplePlugin plugin) : IPieceFilter
    {
        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            plugin.LogPiece(last ? "true" : "false", plugin._config);
            output.Write(piece.Span);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "plugin {Phase} phase, conf: {Config}")]
    partial void LogPhase(string phase, string config);

    [LoggerMessage(Level = LogLevel.Warning, Message = "plugin body_filter phase, eof: {Last}, conf: {Config}")]
    partial void LogPiece(string last, string config);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ExamplePlugin.Config))]
sealed partial class ExamplePluginJson : JsonSerializerContext;

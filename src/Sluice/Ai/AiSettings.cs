using System.Text.Json.Nodes;
using Sluice.Pipeline;

namespace Sluice.Ai;

/// <summary>What holds for all exchanges of a plugin that asks models, whichever instance is asked.</summary>
internal sealed record AiSettings(
    int Timeout, int MaxReqBodySize, long? MaxStreamDurationMs, long? MaxResponseBytes, bool Keepalive, int KeepaliveTimeout,
    int KeepalivePool, bool SslVerify,
    bool LogsSummaries, bool LogsPayloads)
{
    /// <summary>Clients see what APISIX shows them, to the letter.</summary>
    public bool IsApisix { get; init; } = true;

    /// <summary>Reads them of a configuration that has the schema's defaults.</summary>
    public static AiSettings Of(PluginContext context)
    {
        var config = context.Config;
        var logging = config["logging"] as JsonObject;
        return new(
            Whole("timeout") ?? 30000, Whole("max_req_body_size") ?? 64 * 1024 * 1024, Whole("max_stream_duration_ms"),
            Whole("max_response_bytes"),
            Flag(config, "keepalive") ?? true, Whole("keepalive_timeout") ?? 60000, Whole("keepalive_pool") ?? 30,
            Flag(config, "ssl_verify") ?? true,
            Flag(logging, "summaries") == true, Flag(logging, "payloads") == true)
        {
            IsApisix = (string?)context.Attr?["profile"] switch
            {
                null or "apisix" => true,
                "sluice" => false,
                var other => throw new ConfigException($"plugin_attr.profile is \"{other}\": apisix or sluice is expected"),
            },
        };

        int? Whole(string name) => config[name] is JsonValue value ? (int)Math.Min(value.GetValue<double>(), int.MaxValue) : null;
    }

    static bool? Flag(JsonObject? config, string name) => config?[name]?.GetValue<bool>();

    /// <summary>The schema of these properties.</summary>
    public const string Schema = """
        "logging": {
          "type": "object",
          "properties": {
            "summaries": { "type": "boolean", "default": false, "description": "entries of loggers have `llm_summary`: models, tokens, times" },
            "payloads": { "type": "boolean", "default": false, "description": "entries of loggers have `llm_request` and `llm_response_text`: what was asked and answered" }
          }
        },
        "timeout": { "type": "integer", "minimum": 1, "maximum": 600000, "default": 30000, "description": "milliseconds to connect, to send, and between two pieces of the response" },
        "max_req_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "bytes; larger bodies are answered 413" },
        "max_stream_duration_ms": { "type": "integer", "minimum": 1, "description": "a stream that goes on after so many milliseconds is cut" },
        "max_response_bytes": { "type": "integer", "minimum": 1, "description": "a response with more bytes is refused, a stream cut" },
        "keepalive": { "type": "boolean", "default": true },
        "keepalive_timeout": { "type": "integer", "minimum": 1000, "default": 60000, "description": "milliseconds that an unused connection is kept" },
        "keepalive_pool": { "type": "integer", "minimum": 1, "default": 30, "description": "unused connections that are kept" },
        "streaming_flush_interval_ms": { "type": "integer", "minimum": 0, "default": 10, "description": "without effect: each piece leaves at once" },
        "ssl_verify": { "type": "boolean", "default": true }
        """;
}

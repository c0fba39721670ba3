using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to Grafana Loki.</summary>
internal sealed class LokiLogger : BatchLogger<LokiLogger.Line>, IPlugin<LokiLogger, JsonObject>
{
    public static PluginInfo Info { get; } = new("loki-logger", 414,
        $$"""
        {
          "type": "object",
          "properties": {
            "endpoint_addrs": { "type": "array", "minItems": 1, "items": {{LogSchema.Uri}}, "description": "each batch goes to one of them, by chance" },
            "endpoint_uri": { "type": "string", "minLength": 1, "default": "/loki/api/v1/push" },
            "tenant_id": { "type": "string", "default": "fake", "description": "sent as `X-Scope-OrgID`" },
            "headers": { "type": "object", "patternProperties": { ".*": { "type": "string", "minLength": 1 } } },
            "log_labels": {
              "type": "object", "patternProperties": { ".*": { "type": "string", "minLength": 1 } }, "default": { "job": "apisix" },
              "description": "labels of an entry's stream; `$name` in their values is a variable of the request"
            },
            "ssl_verify": { "type": "boolean", "default": false },
            "timeout": { "type": "integer", "minimum": 1, "maximum": 60000, "default": 3000, "description": "milliseconds for a whole batch" },
            "keepalive": { "type": "boolean", "default": true },
            "keepalive_timeout": { "type": "integer", "minimum": 1000, "default": 60000, "description": "milliseconds" },
            "keepalive_pool": { "type": "integer", "minimum": 1, "default": 5 },
            "name": { "type": "string", "default": "loki logger" },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "encrypt_fields": ["headers"],
          "required": ["endpoint_addrs"]
        }
        """,
        "Sends an entry for each request to Grafana Loki, in batches: a stream for each set of labels." + LogSchema.About)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"loki-logger": {"endpoint_addrs": ["http://127.0.0.1:3100"], "log_labels": {"job": "gateway", "route": "$route_id"}}}
            ```
            """,
    };

    /// <summary>An entry with the labels of its stream and its time, in nanoseconds since 1970.</summary>
    public sealed record Line(string Key, JsonObject Labels, string Time, string Entry);

    readonly JsonObject _labels;

    LokiLogger(PluginContext context)
        : base(Info, "loki logger", context, Sender(context))
    {
        _labels = context.Config["log_labels"] as JsonObject ?? new() { ["job"] = "apisix" };
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static LokiLogger Create(JsonObject config, PluginContext context) => new(context);

    private protected override string Unmatched => "no-matched";

    private protected override Line Waiting(Exchange exchange, JsonObject entry)
    {
        var labels = new JsonObject(_labels.OrderBy(label => label.Key, StringComparer.Ordinal)
            .Select(label => KeyValuePair.Create(label.Key, (JsonNode?)Template.Expand((string)label.Value!, exchange))));
        var ticks = (exchange.Services.Time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks
            - (TimeSpan.TicksPerMillisecond * (long)exchange.ElapsedMs);
        return new(labels.ToJsonString(), labels, (ticks * 100).ToString(CultureInfo.InvariantCulture),
            Encoding.UTF8.GetString(LogRecord.Bytes(entry)));
    }

    static Func<IReadOnlyList<Line>, CancellationToken, Task> Sender(PluginContext context)
    {
        var config = context.Config;
        var keepAlive = config["keepalive"]?.GetValue<bool>() != false;
        var server = LogServer.Of(
            context,
            LogServer.Options(config, TimeSpan.FromMilliseconds(SocketTarget.Number(config, "timeout", 3000)), verifies: false) with
            {
                KeepAlive = keepAlive,
                IdleTimeout = TimeSpan.FromMilliseconds(SocketTarget.Number(config, "keepalive_timeout", 60000)),
            });
        var path = (string?)config["endpoint_uri"] ?? "/loki/api/v1/push";
        KeyValuePair<string, string>[] headers =
        [
            .. (config["headers"] as JsonObject
                ?? []).Where(header => !header.Key.Equals("X-Scope-OrgID", StringComparison.OrdinalIgnoreCase))
                .Select(header => KeyValuePair.Create(header.Key, (string)header.Value!)),
            new("X-Scope-OrgID", (string?)config["tenant_id"] ?? "fake"),
        ];
        var logger = context.Services.Loggers.CreateLogger<LokiLogger>();
        return async (lines, cancellation) =>
        {
            var uri = server.Any + path;
            LogWarnings.Sending(logger, uri);
            using var response = await server.SendAsync("POST", uri, LogRecord.Bytes(Push(lines)), "application/json", headers,
                cancellation);
            if (response.Status >= 300)
            {
                throw new IOException($"loki server returned status: {response.Status}, body: {response.Text}");
            }
        };
    }

    static JsonObject Push(IReadOnlyList<Line> lines)
    {
        var streams = lines.GroupBy(line => line.Key).Select(stream => (JsonNode)new JsonObject
        {
            ["stream"] = stream.First().Labels.DeepClone(),
            ["values"] = new JsonArray([.. stream.Select(line => new JsonArray(line.Time, line.Entry))]),
        });
        return new() { ["streams"] = new JsonArray([.. streams]) };
    }
}

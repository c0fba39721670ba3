using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to Splunk.</summary>
internal sealed class SplunkHecLogging : BatchLogger, IPlugin<SplunkHecLogging, JsonObject>
{
    public static PluginInfo Info { get; } = new("splunk-hec-logging", 409,
        $$"""
        {
          "type": "object",
          "properties": {
            "endpoint": {
              "type": "object",
              "properties": {
                "uri": {{LogSchema.Uri}},
                "token": { "type": "string" },
                "channel": { "type": "string" },
                "timeout": { "type": "integer", "minimum": 1, "default": 10, "description": "seconds for a whole batch" },
                "keepalive_timeout": { "type": "integer", "minimum": 1000, "default": 60000, "description": "milliseconds" }
              },
              "required": ["uri", "token"]
            },
            "ssl_verify": { "type": "boolean", "default": true },
            "name": { "type": "string", "default": "splunk-hec-logging" },
            {{LogSchema.Batch}},
            {{LogSchema.Format}}
          },
          "encrypt_fields": ["endpoint.token"],
          "required": ["endpoint"]
        }
        """,
        "Sends an event for each request to Splunk's HTTP event collector, in batches. Bodies are not logged." + LogSchema.AboutQueue)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"splunk-hec-logging": {"endpoint": {"uri": "http://127.0.0.1:8088/services/collector", "token": "BD274822-96AA-4DA6-90EC-18940FB2414C"}}}
            ```
            """,
    };

    SplunkHecLogging(PluginContext context)
        : base(Info, "splunk-hec-logging", context, Sender(context))
    {
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static SplunkHecLogging Create(JsonObject config, PluginContext context) => new(context);

    private protected override byte[] Waiting(Exchange exchange, JsonObject entry)
    {
        var splunk = new JsonObject
        {
            ["time"] = exchange.Services.Time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0,
            ["source"] = "apache-apisix-splunk-hec-logging",
            ["sourcetype"] = "_json",
            ["host"] = Environment.MachineName,
            ["event"] = Record.IsCustom ? entry : Event(exchange, entry),
        };
        return LogRecord.Bytes(splunk);
    }

    JsonObject Event(Exchange exchange, JsonObject entry)
    {
        JsonObject about = [];
        foreach (var (name, part, member) in Members)
        {
            if ((part is null ? entry : entry[part])?[member]?.DeepClone() is { } value)
            {
                about[name] = value;
            }
        }
        Record.AddExtra(exchange, about);
        return about;
    }

    static readonly (string Name, string? Part, string Member)[] Members =
    [
        ("request_url", "request", "url"),
        ("request_method", "request", "method"),
        ("request_headers", "request", "headers"),
        ("request_query", "request", "querystring"),
        ("request_size", "request", "size"),
        ("response_headers", "response", "headers"),
        ("response_status", "response", "status"),
        ("response_size", "response", "size"),
        ("latency", null, "latency"),
        ("upstream", null, "upstream"),
    ];

    static Func<IReadOnlyList<byte[]>, CancellationToken, Task> Sender(PluginContext context)
    {
        var endpoint = context.Config["endpoint"]!.AsObject();
        var uri = (string)endpoint["uri"]!;
        var server = new LogServer(
            context, [uri],
            LogServer.Options(context.Config, TimeSpan.FromSeconds(SocketTarget.Number(endpoint, "timeout", 10)), verifies: true) with
            {
                IdleTimeout = TimeSpan.FromMilliseconds(SocketTarget.Number(endpoint, "keepalive_timeout", 60000)),
            });
        List<KeyValuePair<string, string>> headers = [new("Authorization", $"Splunk {endpoint["token"]}")];
        if ((string?)endpoint["channel"] is { } channel)
        {
            headers.Add(new("X-Splunk-Request-Channel", channel));
        }
        var logger = context.Services.Loggers.CreateLogger<SplunkHecLogging>();
        return async (entries, cancellation) =>
        {
            LogWarnings.Sending(logger, uri);
            try
            {
                using var response = await server.SendAsync("POST", uri, Joined(entries, "", "", ""), "application/json", headers,
                    cancellation);
                if (response.Status != 200)
                {
                    throw new IOException($"failed to send splunk, {TextOf(response) ?? $"http status code: {response.Status}"}");
                }
            }
            catch (OutgoingException e)
            {
                throw new IOException($"failed to write log to splunk, {e.Message}", e);
            }
        };
    }

    /// <summary>What Splunk says of a refusal.</summary>
    static string? TextOf(OutgoingResponse response)
    {
        try
        {
            return JsonNode.Parse(response.Text) is JsonObject body ? body["text"]?.ToString() : null;
        }
        catch (System.Text.Json.JsonException)
        {
            return null;
        }
    }
}

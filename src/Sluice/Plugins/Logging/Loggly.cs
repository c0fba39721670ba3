using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to Loggly.</summary>
internal sealed class Loggly : BatchLogger, IPlugin<Loggly, JsonObject>
{
    const string Severities =
        """["EMEGR", "emegr", "ALERT", "alert", "CRIT", "crit", "ERR", "err", "WARNING", "warning", "NOTICE", "notice", "INFO", "info", "DEBUG", "debug"]""";

    static readonly string[] ByNumber = ["EMEGR", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG"];

    public static PluginInfo Info { get; } = new("loggly", 411,
        $$"""
        {
          "type": "object",
          "properties": {
            "customer_token": { "type": "string" },
            "severity": { "type": "string", "default": "INFO", "enum": {{Severities}} },
            "severity_map": {
              "type": "object", "patternProperties": { "^[1-5][0-9]{2}$": { "type": "string", "enum": {{Severities}} } }, "additionalProperties": false,
              "description": "the severity by the status of the response"
            },
            "tags": { "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "^(?!tag=)[ -~]*" }, "default": ["apisix"] },
            "ssl_verify": { "type": "boolean", "default": true },
            "name": { "type": "string", "default": "loggly" },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "encrypt_fields": ["customer_token"],
          "required": ["customer_token"]
        }
        """,
        "Sends an entry for each request to Loggly: as a syslog message (RFC 5424) over UDP, or in batches to its bulk endpoint, as the "
            + "metadata's `protocol` says." + LogSchema.About)
    {
        MetadataSchema = """
            { "type": "object", "properties": {
                "host": { "type": "string", "default": "logs-01.loggly.com" },
                "port": { "type": "integer", "default": 514 },
                "protocol": { "type": "string", "default": "syslog", "enum": ["syslog", "http", "https"] },
                "timeout": { "type": "integer", "minimum": 1, "default": 5000, "description": "milliseconds" },
                "log_format": { "type": "object" },
                "log_format_extra": { "type": "object" },
                "max_pending_entries": { "type": "integer", "minimum": 1, "default": 8192, "description": "entries beyond are dropped and counted" } } }
            """,
        Example = """
            ```json
            {"loggly": {"customer_token": "0e6fe4bf-376e-40f4-b25f-1d55cb29f5a2", "severity_map": {"503": "ERR"}}}
            ```
            """,
    };

    readonly bool _isSyslog;
    readonly string _structuredData;
    readonly int _severity;
    readonly Dictionary<int, int> _severities;

    Loggly(PluginContext context)
        : base(Info, "loggly", context, Sender(context), sendsByMetadata: true)
    {
        var config = context.Config;
        _isSyslog = Protocol(context) == "syslog";
        _structuredData = $"[{config["customer_token"]}@41058 {string.Join(' ', Tags(config).Select(tag => $"tag=\"{tag}\""))}]";
        _severity = Severity((string?)config["severity"] ?? "INFO");
        _severities = (config["severity_map"] as JsonObject ?? []).ToDictionary(pair => int.Parse(pair.Key, CultureInfo.InvariantCulture),
            pair => Severity((string)pair.Value!));
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static Loggly Create(JsonObject config, PluginContext context) => new(context);

    static string Protocol(PluginContext context) => (string?)context.Metadata?["protocol"] ?? "syslog";

    static IEnumerable<string> Tags(JsonObject config) => config["tags"] is JsonArray tags ? tags.Select(tag => (string)tag!) : ["apisix"];

    static int Severity(string name) => Array.FindIndex(ByNumber, known => known.Equals(name, StringComparison.OrdinalIgnoreCase));

    private protected override byte[] Waiting(Exchange exchange, JsonObject entry)
    {
        var json = LogRecord.Bytes(entry);
        if (!_isSyslog)
        {
            return json;
        }
        // facility 1: user-level messages
        return [.. Rfc5424.Head(exchange, 8 + _severities.GetValueOrDefault(exchange.Response.StatusCode, _severity), _structuredData),
            .. json];
    }

    static Func<IReadOnlyList<byte[]>, CancellationToken, Task> Sender(PluginContext context)
    {
        var config = context.Config;
        var host = (string?)context.Metadata?["host"] ?? "logs-01.loggly.com";
        var port = context.Metadata is { } metadata ? SocketTarget.Number(metadata, "port", 514) : 514;
        var timeout = TimeSpan.FromMilliseconds(context.Metadata is { } also ? SocketTarget.Number(also, "timeout", 5000) : 5000);
        var logger = context.Services.Loggers.CreateLogger<Loggly>();
        if (Protocol(context) == "syslog")
        {
            var target = new DatagramTarget(host, port);
            return async (entries, cancellation) =>
            {
                LogWarnings.Sending(logger, host);
                await target.SendAsync([.. entries.Select(entry => (IReadOnlyList<byte[]>)[entry])], cancellation);
            };
        }
        var address =
            $"{(host.StartsWith("http", StringComparison.Ordinal) ? host : $"{Protocol(context)}://{host}")}/bulk/{config["customer_token"]}/tag/bulk";
        var server = new LogServer(context, [address], LogServer.Options(config, timeout, verifies: true));
        KeyValuePair<string, string>[] headers = [.. Tags(config).Select(tag => KeyValuePair.Create("X-LOGGLY-TAG", tag))];
        return async (entries, cancellation) =>
        {
            LogWarnings.Sending(logger, host);
            try
            {
                using var response = await server.SendAsync("POST", address, Joined(entries, "", "\n", ""), "application/json", headers,
                    cancellation);
                if (response.Status != 200)
                {
                    throw new IOException(
                        $"failed to send log to loggly, http status code: {response.Status} response body: {response.Text}");
                }
            }
            catch (OutgoingException e)
            {
                throw new IOException($"failed to write log to loggly, {e.Message}", e);
            }
        };
    }
}

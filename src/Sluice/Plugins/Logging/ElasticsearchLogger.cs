using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends log entries to Elasticsearch.</summary>
internal sealed partial class ElasticsearchLogger : BatchLogger<ElasticsearchLogger.Document>, IPlugin<ElasticsearchLogger, JsonObject>
{
    public static PluginInfo Info { get; } = new("elasticsearch-logger", 413,
        $$"""
        {
          "type": "object",
          "properties": {
            "endpoint_addr": { "type": "string", "pattern": "[^/]$", "description": "old: `endpoint_addrs` with one address" },
            "endpoint_addrs": {
              "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "[^/]$" },
              "description": "addresses without a slash at the end; each batch goes to one of them, by chance"
            },
            "field": {
              "type": "object",
              "properties": { "index": { "type": "string", "description": "where entries go: `$name` is a variable, `{%Y.%m.%d}` the date" } },
              "required": ["index"]
            },
            "auth": {
              "type": "object",
              "properties": { "username": { "type": "string", "minLength": 1 }, "password": { "type": "string", "minLength": 1 } },
              "oneOf": [{ "required": ["username", "password"] }]
            },
            "headers": {
              "type": "object", "minProperties": 1, "patternProperties": { "^[^:]+$": { "type": "string", "minLength": 1 } }, "additionalProperties": false,
              "description": "sent with each request; they win over those of `auth`"
            },
            "timeout": { "type": "integer", "minimum": 1, "default": 10, "description": "seconds for a whole batch" },
            "ssl_verify": { "type": "boolean", "default": true },
            "name": { "type": "string", "default": "elasticsearch-logger" },
            {{LogSchema.Batch}},
            {{LogSchema.Entry}}
          },
          "encrypt_fields": ["auth.password", "headers"],
          "oneOf": [{ "required": ["endpoint_addr", "field"] }, { "required": ["endpoint_addrs", "field"] }]
        }
        """,
        "Sends an entry for each request to Elasticsearch (or OpenSearch), in batches, with the `_bulk` API. Its version is asked for "
            + "once, since those before 7 want a type." + LogSchema.About)
    {
        MetadataSchema = LogSchema.Metadata,
        Example = """
            ```json
            {"elasticsearch-logger": {"endpoint_addrs": ["http://127.0.0.1:9200"], "field": {"index": "gateway-{%Y.%m.%d}"}}}
            ```
            """,
    };

    /// <summary>An entry and the index it belongs to.</summary>
    public sealed record Document(string Index, byte[] Entry);

    readonly string _index;

    ElasticsearchLogger(PluginContext context)
        : base(Info, "elasticsearch-logger", context, new Cluster(context).SendAsync)
    {
        _index = (string)context.Config["field"]!["index"]!;
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static ElasticsearchLogger Create(JsonObject config, PluginContext context) => new(context);

    private protected override Document Waiting(Exchange exchange, JsonObject entry)
    {
        var index = DateInBraces().Replace(_index, match => DateAs(match.Groups[1].Value, exchange.Services.Time));
        return new(Template.Expand(index, exchange), LogRecord.Bytes(entry));
    }

    string DateAs(string format, TimeProvider time)
    {
        if (Strftime.Format(format, time.GetLocalNow()) is { } date)
        {
            return date;
        }
        LogWarnings.Failed(Logger, $"failed to parse time format: {format}");
        return "";
    }

    [GeneratedRegex(@"(?<!\$)\{([^}]*)\}")]
    private static partial Regex DateInBraces();

    /// <summary>The servers of one configuration, and which version they are.</summary>
    sealed class Cluster(PluginContext context)
    {
        readonly LogServer _server = LogServer.Of(
            context,
            LogServer.Options(context.Config, TimeSpan.FromSeconds(SocketTarget.Number(context.Config, "timeout", 10)), verifies: true));
        readonly KeyValuePair<string, string>[] _headers = HeadersOf(context.Config);
        readonly ILogger _logger = context.Services.Loggers.CreateLogger<ElasticsearchLogger>();
        string? _version;

        static KeyValuePair<string, string>[] HeadersOf(JsonObject config)
        {
            var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
            if (config["auth"] is { } auth)
            {
                headers["Authorization"] = "Basic "
                    + Convert.ToBase64String(Encoding.UTF8.GetBytes($"{auth["username"]}:{auth["password"]}"));
            }
            foreach (var (name, value) in config["headers"] as JsonObject ?? [])
            {
                headers[name] = (string)value!;
            }
            return [.. headers];
        }

        public async Task SendAsync(IReadOnlyList<Document> documents, CancellationToken cancellation)
        {
            _version ??= await AskVersionAsync(cancellation);
            var body = new MemoryStream();
            foreach (var (index, entry) in documents)
            {
                JsonObject at = new() { ["_index"] = index };
                if (_version is "5" or "6")
                {
                    at["_type"] = "_doc";
                }
                body.Write(LogRecord.Bytes(new JsonObject { ["index"] = at }));
                body.WriteByte((byte)'\n');
                body.Write(entry);
                body.WriteByte((byte)'\n');
            }
            var uri = $"{_server.Any}/_bulk";
            LogWarnings.Sending(_logger, uri);
            KeyValuePair<string, string>[] headers = Array.Exists(_headers,
                header => header.Key.Equals("Accept", StringComparison.OrdinalIgnoreCase))
                ? _headers : [.. _headers, new("Accept", "application/vnd.elasticsearch+json")];
            using var response = await _server.SendAsync("POST", uri, body.ToArray(), "application/x-ndjson", headers, cancellation);
            if (response.Status != 200)
            {
                throw new IOException($"elasticsearch server returned status: {response.Status}, body: {response.Text}");
            }
        }

        /// <summary>The first number of the version; null when nobody says it, and then it is asked for again with the next
        /// batch.</summary>
        async Task<string?> AskVersionAsync(CancellationToken cancellation)
        {
            try
            {
                using var response = await _server.SendAsync("GET", _server.Any, null, null, _headers, cancellation);
                if (response.Status != 200)
                {
                    throw new IOException($"server returned status: {response.Status}, body: {response.Text}");
                }
                var number = (string?)JsonNode.Parse(response.Text)?["version"]?["number"]
                    ?? throw new IOException("failed to get version from response body");
                return number.IndexOf('.', StringComparison.Ordinal) is > 0 and var dot ? number[..dot]
                    : throw new IOException($"invalid version format: {number}");
            }
            catch (Exception e) when (e is IOException or System.Text.Json.JsonException or InvalidOperationException)
            {
                LogWarnings.Failed(_logger,
                    $"failed to get Elasticsearch version: {(e is IOException ? e.Message : "failed to decode response body: " + e.Message)}");
                return null;
            }
        }
    }
}

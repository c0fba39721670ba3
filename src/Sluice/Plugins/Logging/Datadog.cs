using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;

namespace Sluice.Plugins.Logging;

/// <summary>Sends metrics of requests to a Datadog agent.</summary>
internal sealed class Datadog : BatchLogger<IReadOnlyList<byte[]>>, IPlugin<Datadog, JsonObject>
{
    /// <summary>What an agent takes in one piece.</summary>
    const int MaxDatagram = 8192;

    const string Tag = """{ "type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[\\p{L}][\\p{L}\\p{N}_.:/-]*(?<!:)$" }""";

    public static PluginInfo Info { get; } = new("datadog", 495,
        $$"""
        {
          "type": "object",
          "properties": {
            "prefer_name": { "type": "boolean", "default": true, "description": "tags carry the names of route and service instead of their ids" },
            "include_path": { "type": "boolean", "default": false, "description": "a tag with the route's path" },
            "include_method": { "type": "boolean", "default": false },
            "constant_tags": { "type": "array", "items": {{Tag}}, "default": [] },
            "name": { "type": "string", "default": "datadog" },
            {{LogSchema.Batch}}
          }
        }
        """,
        "Sends six metrics of each request (count, latencies, sizes) to a DogStatsD agent over UDP, where the metadata says, one "
            + "datagram a request." + LogSchema.AboutQueue)
    {
        MetadataSchema = $$"""
            { "type": "object", "properties": {
                "host": { "type": "string", "default": "127.0.0.1" },
                "port": { "type": "integer", "minimum": 0, "default": 8125 },
                "namespace": { "type": "string", "default": "apisix" },
                "constant_tags": { "type": "array", "items": {{Tag}}, "default": ["source:apisix"] },
                "max_pending_entries": { "type": "integer", "minimum": 1, "default": 8192, "description": "entries beyond are dropped and counted" } } }
            """,
        Example = """
            ```json
            {"datadog": {"constant_tags": ["team:streams"]}}
            ```
            """,
    };

    readonly bool _prefersName;
    readonly bool _path;
    readonly bool _method;
    readonly string _prefix;
    readonly string[] _tags;

    Datadog(PluginContext context)
        : base(Info, "datadog", context, Sender(context), sendsByMetadata: true)
    {
        var config = context.Config;
        _prefersName = config["prefer_name"]?.GetValue<bool>() != false;
        _path = config["include_path"]?.GetValue<bool>() == true;
        _method = config["include_method"]?.GetValue<bool>() == true;
        _prefix = ((string?)context.Metadata?["namespace"] ?? "apisix") is { Length: > 0 } space ? space + "." : "";
        _tags = [.. Tags(context.Metadata) ?? ["source:apisix"], .. Tags(config) ?? []];
    }

    public static JsonTypeInfo<JsonObject> ConfigType => LogJson.Default.JsonObject;

    public static Datadog Create(JsonObject config, PluginContext context) => new(context);

    static IEnumerable<string>? Tags(JsonObject? config) => (config?["constant_tags"] as JsonArray)?.Select(tag => (string)tag!);

    /// <summary>The lines of a request in as few datagrams as take them.</summary>
    private protected override IReadOnlyList<byte[]> Waiting(Exchange exchange, JsonObject entry)
    {
        var tags = TagsOf(exchange, entry);
        List<string> lines = [Line("request.counter", 1, "c"), Line("request.latency", entry["latency"], "h")];
        if (entry["upstream_latency"] is { } upstream)
        {
            lines.Add(Line("upstream.latency", upstream, "h"));
        }
        lines.Add(Line("apisix.latency", entry["apisix_latency"], "h"));
        lines.Add(Line("ingress.size", entry["request"]!["size"], "ms"));
        lines.Add(Line("egress.size", entry["response"]!["size"], "ms"));
        var all = Encoding.UTF8.GetBytes(string.Join('\n', lines));
        return all.Length <= MaxDatagram ? [all] : [.. lines.Select(Encoding.UTF8.GetBytes)];

        string Line(string name, JsonNode? value, string kind) => $"{_prefix}{name}:{value?.ToJsonString()}|{kind}{tags}";
    }

    string TagsOf(Exchange exchange, JsonObject entry)
    {
        var status = exchange.Response.StatusCode;
        var route = (_prefersName && exchange.Route?.Config.Name is { Length: > 0 } name ? name : null) ?? (string?)entry["route_id"];
        var service = (_prefersName && exchange.Route?.Service?.Name is { Length: > 0 } named ? named : null)
            ?? (string?)entry["service_id"];
        (string Name, string? Value)[] ofRequest =
        [
            ("route_name", route),
            ("path", _path ? exchange.MatchedUri : null),
            ("method", _method ? exchange.Request.Method : null),
            ("service_name", service),
            ("consumer", exchange.Consumer?.Username),
            ("balancer_ip", exchange.Upstream.NodeIp),
            ("response_status", status.ToString(CultureInfo.InvariantCulture)),
            ("response_status_class", string.Create(CultureInfo.InvariantCulture, $"{status / 100}xx")),
            ("scheme", exchange.Upstream.Scheme),
        ];
        return "|#" + string.Join(',',
            [.. _tags, .. ofRequest.Where(tag => !string.IsNullOrEmpty(tag.Value)).Select(tag => $"{tag.Name}:{tag.Value}")]);
    }

    static Func<IReadOnlyList<IReadOnlyList<byte[]>>, CancellationToken, Task> Sender(PluginContext context)
    {
        var host = (string?)context.Metadata?["host"] ?? "127.0.0.1";
        var port = context.Metadata is { } metadata ? SocketTarget.Number(metadata, "port", 8125) : 8125;
        var target = new DatagramTarget(host, port);
        var logger = context.Services.Loggers.CreateLogger<Datadog>();
        return (entries, cancellation) =>
        {
            LogWarnings.Say(logger, LogLevel.Information, $"sending batch metrics to dogstatsd: {host}:{port}");
            return target.SendAsync(entries, cancellation);
        };
    }
}

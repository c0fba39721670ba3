using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model.Expressions;
using Sluice.Model.Json;

namespace Sluice.Model;

/// <summary>
/// Binds validated JSON to the records of Resources.cs. What the schema guarantees is not checked again; an empty array where an object
/// belongs (APISIX accepts that) reads as an empty object.
/// </summary>
internal static class ResourceBinder
{
    public static RouteConfig Route(Document document)
    {
        var value = document.Value;
        return new RouteConfig(
            document.Id,
            Text(value, "name"),
            Text(value, "uri"),
            Texts(value, "uris"),
            Text(value, "host"),
            Texts(value, "hosts"),
            Texts(value, "methods"),
            (Texts(value, "remote_addrs") ?? (Text(value, "remote_addr") is { } one ? [one] : null)) is { } addresses
            ? CidrSet.Parse(addresses) : null,
            value["vars"] is JsonArray { Count: > 0 } vars ? Expression.Of(vars) : null,
            Text(value, "filter_func"),
            Text(value, "script"),
            Map(value, "plugins"),
            Map(value, "upstream") is { } upstream ? Upstream(upstream, id: null) : null,
            Id(value, "upstream_id"),
            Id(value, "service_id"),
            Id(value, "plugin_config_id"),
            Timeout(value),
            Map(value, "labels"),
            Flag(value, "enable_websocket"),
            Integer(value, "priority") ?? 0,
            Integer(value, "status") ?? 1);
    }

    public static ServiceConfig Service(Document document)
    {
        var value = document.Value;
        return new ServiceConfig(
            document.Id,
            Text(value, "name"),
            Texts(value, "hosts"),
            Map(value, "plugins"),
            Map(value, "upstream") is { } upstream ? Upstream(upstream, id: null) : null,
            Id(value, "upstream_id"),
            Flag(value, "enable_websocket"),
            Map(value, "labels"),
            Text(value, "script"));
    }

    public static UpstreamConfig Upstream(Document document) => Upstream(document.Value, document.Id);

    /// <param name="id">Null for an upstream that is written inside a route or service.</param>
    public static UpstreamConfig Upstream(JsonObject value, string? id) => new(
        id,
        Text(value, "name"),
        Nodes(value["nodes"]),
        Text(value, "type") ?? "roundrobin",
        Text(value, "hash_on"),
        Text(value, "key"),
        Text(value, "scheme") ?? "http",
        Text(value, "pass_host") ?? "pass",
        Text(value, "upstream_host"),
        Timeout(value),
        Integer(value, "retries"),
        Number(value, "retry_timeout") ?? 0,
        Map(value, "keepalive_pool") is { } pool ? KeepalivePool(pool) : null,
        Map(value, "tls") is { } tls ? Tls(tls) : null,
        Map(value, "checks") is { } checks ? Checks(checks) : null,
        Text(value, "service_name"),
        Text(value, "discovery_type"),
        Map(value, "labels"));

    public static ConsumerConfig Consumer(Document document) => new(
        Text(document.Value, "username") ?? document.Id,
        Id(document.Value, "group_id"),
        Map(document.Value, "plugins"),
        Map(document.Value, "labels"));

    public static CredentialConfig Credential(Document document)
    {
        var (username, id) = ResourceKinds.CredentialOf(document.Id);
        return new(username, id, Map(document.Value, "plugins"), Map(document.Value, "labels"));
    }

    public static ConsumerGroupConfig ConsumerGroup(Document document) => new(document.Id, Map(document.Value, "plugins") ?? []);

    public static PluginConfigConfig PluginConfig(Document document) => new(document.Id, Map(document.Value, "plugins") ?? []);

    public static GlobalRuleConfig GlobalRule(Document document) => new(document.Id, Map(document.Value, "plugins") ?? []);

    public static StreamRouteConfig StreamRoute(Document document)
    {
        var value = document.Value;
        return new(
            document.Id,
            Text(value, "name"),
            Text(value, "remote_addr") is { } remote ? CidrSet.Parse([remote]) : null,
            Text(value, "server_addr") is { } server ? CidrSet.Parse([server]) : null,
            Integer(value, "server_port"),
            Text(value, "sni"),
            Map(value, "upstream") is { } upstream ? Upstream(upstream, id: null) : null,
            Id(value, "upstream_id"),
            Id(value, "service_id"),
            Map(value, "plugins"));
    }

    public static SslConfig Ssl(Document document)
    {
        var value = document.Value;
        var client = Map(value, "client");
        return new(
            document.Id,
            Text(value, "type") != "client",
            [.. (Texts(value, "snis") ?? (Text(value, "sni") is { } only ? [only] : [])).Select(name => name.ToLowerInvariant()
                .TrimEnd('.'))],
            [(Text(value, "cert") ?? "", Text(value, "key") ?? ""), .. (Texts(value, "certs") ?? []).Zip(Texts(value, "keys") ?? [])],
            client is null ? null : s_clients.GetValue(client, SslClient),
            Texts(value, "ssl_protocols"),
            (Integer(value, "status") ?? 1) == 1,
            Map(value, "ocsp_stapling") is { } stapling && Flag(stapling, "enabled") == true);
    }

    /// <summary>An id as text; APISIX takes <c>"upstream_id": 1</c> and <c>"1"</c> alike.</summary>
    public static string? Id(JsonObject value, string name) => value[name] switch
    {
        null => null,
        var node when node.GetValueKind() == JsonValueKind.Number => LuaText.ToDouble(node) is var number && Math.Abs(number) < 1e15
            ? ((long)number).ToString(CultureInfo.InvariantCulture)
            : LuaText.Number(number),
        var node => node.GetValue<string>(),
    };

    /// <summary>What is compiled of a document stays with it.</summary>
    static readonly ConditionalWeakTable<JsonObject, SslClientConfig> s_clients = [];

    static SslClientConfig SslClient(JsonObject client) =>
        new(Text(client, "ca")!, Integer(client, "depth") ?? 1, Texts(client, "skip_mtls_uri_regex"));

    static NodeConfig[] Nodes(JsonNode? nodes) => nodes switch
    {
        JsonObject map => [.. map.Select(node => Node(node.Key, Integer(node.Value!)))],
        JsonArray list => [.. list.Select(node => Node((JsonObject)node!))],
        _ => [],
    };

    static NodeConfig Node(string address, int weight) => NodeAddress.TryParse(address, out var host, out var port)
        ? new NodeConfig(host, port, weight)
        : throw new FormatException($"node {address}: expected host or host:port");

    static NodeConfig Node(JsonObject node)
    {
        // "host": "127.0.0.1:8080"
        var (host, port) = (Text(node, "host")!, Integer(node, "port"));
        if (port is null && NodeAddress.TryParse(host, out var alone, out var written) && written is not null)
        {
            (host, port) = (alone, written);
        }
        return Node(node, host, port);
    }

    static NodeConfig Node(JsonObject node, string host, int? port) => new(
        host.Trim('[', ']'),
        port,
        Integer(node, "weight") ?? 1,
        Integer(node, "priority") ?? 0,
        Map(node, "metadata"));

    static TimeoutConfig? Timeout(JsonObject value) => Map(value, "timeout") is { } timeout
        ? new TimeoutConfig(Number(timeout, "connect"), Number(timeout, "send"), Number(timeout, "read"))
        : null;

    static KeepalivePoolConfig KeepalivePool(JsonObject value) => new(
        Integer(value, "size") ?? 320,
        Number(value, "idle_timeout") ?? 60,
        Integer(value, "requests") ?? 1000);

    static TlsConfig Tls(JsonObject value) => new(
        Flag(value, "verify") ?? false,
        Text(value, "client_cert"),
        Text(value, "client_key"),
        Id(value, "client_cert_id"));

    static ChecksConfig Checks(JsonObject value) => new(
        Map(value, "active") is { } active ? ActiveCheck(active) : null,
        Map(value, "passive") is { } passive ? PassiveCheck(passive) : null);

    static ActiveCheckConfig ActiveCheck(JsonObject value) => new(
        Text(value, "type") ?? "http",
        Number(value, "timeout") ?? 1,
        Integer(value, "concurrency") ?? 10,
        Text(value, "host"),
        Integer(value, "port"),
        Text(value, "http_method") ?? "GET",
        Text(value, "http_path") ?? "/",
        Flag(value, "https_verify_certificate") ?? true,
        Texts(value, "req_headers") ?? [],
        Healthy(value, [200, 302], successes: 2),
        Unhealthy(value, [429, 404, 500, 501, 502, 503, 504, 505], httpFailures: 5, tcpFailures: 2, timeouts: 3));

    static PassiveCheckConfig PassiveCheck(JsonObject value) => new(
        Text(value, "type") ?? "http",
        Healthy(value, [200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308], successes: 5),
        Unhealthy(value, [429, 500, 503], httpFailures: 5, tcpFailures: 2, timeouts: 7));

    static HealthyConfig Healthy(JsonObject check, int[] statuses, int successes)
    {
        var value = Map(check, "healthy") ?? [];
        return new(Number(value, "interval") ?? 1, Integers(value, "http_statuses") ?? statuses, Integer(value, "successes") ?? successes);
    }

    static UnhealthyConfig Unhealthy(JsonObject check, int[] statuses, int httpFailures, int tcpFailures, int timeouts)
    {
        var value = Map(check, "unhealthy") ?? [];
        return new(
            Number(value, "interval") ?? 1,
            Integers(value, "http_statuses") ?? statuses,
            Integer(value, "http_failures") ?? httpFailures,
            Integer(value, "tcp_failures") ?? tcpFailures,
            Integer(value, "timeouts") ?? timeouts);
    }

    static string? Text(JsonObject value, string name) => value[name]?.GetValue<string>();

    static string[]? Texts(JsonObject value, string name) => value[name] switch
    {
        JsonArray list => [.. list.Select(item => item!.GetValue<string>())],
        JsonObject => [],
        _ => null,
    };

    static JsonObject? Map(JsonObject value, string name) => value[name] switch
    {
        JsonObject map => map,
        JsonArray => [],
        _ => null,
    };

    static bool? Flag(JsonObject value, string name) => value[name]?.GetValue<bool>();

    static double? Number(JsonObject value, string name) => value[name] is { } number ? LuaText.ToDouble(number) : null;

    static int[]? Integers(JsonObject value, string name) =>
        value[name] is JsonArray list ? [.. list.Select(item => Integer(item!))] : null;

    static int? Integer(JsonObject value, string name) => value[name] is { } number ? Integer(number) : null;

    /// <summary>A whole number; what is beyond an int's range is the nearest int.</summary>
    static int Integer(JsonNode number) => (int)Math.Clamp(LuaText.ToDouble(number), int.MinValue, int.MaxValue);
}

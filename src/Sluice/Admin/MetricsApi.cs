using System.Net;
using System.Text.Json.Nodes;
using Sluice.Api;
using Sluice.Observability;

namespace Sluice.Admin;

/// <summary>The Prometheus endpoint (APISIX: plugins/prometheus, <c>plugin_attr.prometheus</c>): 127.0.0.1:9091,
/// /apisix/prometheus/metrics.</summary>
sealed class MetricsApi(GatewayMetrics metrics, string uri) : IApiRoutes
{
    public IEnumerable<ApiRoute> Routes =>
    [
        new("*", uri, ApiAccess.Open, _ => new StreamedAnswer(200, "text/plain; version=0.0.4; charset=utf-8", metrics.WriteAsync)),
    ];

    /// <summary>Where the endpoint listens; null when <c>enable_export_server</c> is false.</summary>
    public static (IPEndPoint Listen, string Uri)? Address(JsonObject? attributes)
    {
        if (attributes?["enable_export_server"] is JsonValue enabled && enabled.TryGetValue(out bool on) && !on)
        {
            return null;
        }
        var address = attributes?["export_addr"] as JsonObject;
        var ip = address?["ip"] is JsonValue text && IPAddress.TryParse(text.ToString(), out var given) ? given : IPAddress.Loopback;
        var port = address?["port"] is JsonValue number && int.TryParse(number.ToString(), out var chosen) ? chosen : 9091;
        return (new IPEndPoint(ip, port), attributes?["export_uri"]?.ToString() ?? "/apisix/prometheus/metrics");
    }
}

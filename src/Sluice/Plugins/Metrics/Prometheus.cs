using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Plugins.Metrics;

/// <summary>Counts a route's requests in the gateway's metrics.</summary>
public sealed class Prometheus(Prometheus.Config config, PluginContext context) : IPlugin<Prometheus, Prometheus.Config>, IHeaderFilter, ILog
{
    public static PluginInfo Info { get; } = new(
        Name: "prometheus",
        Priority: 500,
        Schema: """
            {
              "type": "object",
              "properties": {
                "prefer_name": {
                  "type": "boolean",
                  "default": false,
                  "description": "labels carry the names of route and service instead of their ids"
                }
              }
            }
            """,
        Summary: """
            Counts the requests of a route, or with a global rule of all routes, in the metrics that the gateway exposes on port 9091
            at `/apisix/prometheus/metrics`: `apisix_http_status`, `apisix_http_latency`, `apisix_bandwidth`, and Sluice's own for streams
            (`sluice_active_streams`, `sluice_time_to_first_byte_seconds`, `sluice_stream_duration_seconds`, `sluice_stream_ends_total`). The lifetime of
            a stream is no latency and is not in `apisix_http_latency`. On a route with the plugin the global rule does not count again.
            """)
    {
        Version = "0.2",
        Apis = [new("GET", "/apisix/prometheus/metrics", ExposeAsync, UriAttribute: "export_uri")],
        Example = """
            A global rule, for all routes:

            ```json
            {"id": "1", "plugins": {"prometheus": {"prefer_name": true}}}
            ```
            """,
    };

    public sealed record Config(bool PreferName = false);

    sealed record Bound(Sluice.Pipeline.Route? Route, string? MatchedUri, string MatchedHost, RouteMeters Meters);

    readonly bool _isGlobal = context.Scope.StartsWith("global_rule ", StringComparison.Ordinal);
    readonly GatewayMetrics _metrics = context.Services.Metrics;
    Bound? _last;

    public static JsonTypeInfo<Config> ConfigType => PrometheusJson.Default.Config;

    public static Prometheus Create(Config config, PluginContext context) => new(config, context);

    static async ValueTask<Answer> ExposeAsync(Exchange exchange)
    {
        using var text = new MemoryStream();
        await exchange.Services.Metrics.WriteAsync(text, exchange.Http.RequestAborted);
        return new(200, text.ToArray(), "text/plain; version=0.0.4; charset=utf-8");
    }

    public void FilterHeaders(Exchange exchange)
    {
        if (!IsCountedElsewhere(exchange) && !exchange.AnsweredByGateway
            && BufferingRules.IsStream(exchange.Response.ContentType) && exchange.Items.TryAdd(this, MetersFor(exchange)))
        {
            MetersFor(exchange).StreamStarted();
        }
    }

    public void Log(Exchange exchange)
    {
        if (IsCountedElsewhere(exchange))
        {
            return;
        }
        var total = TimeSpan.FromMilliseconds(exchange.ElapsedMs);
        var opened = (RouteMeters?)exchange.Find(this);
        var isStream = opened is not null;
        var meters = opened ?? MetersFor(exchange);
        if (isStream)
        {
            meters.StreamEnded(exchange.Failure?.Kind ?? "complete", total);
            meters.Events(exchange.EventsSeen);
        }
        meters.Spooled(exchange.SpooledBytes);
        if (exchange.FirstByteTimestamp != 0)
        {
            meters.FirstByte(context.Services.Time.GetElapsedTime(exchange.StartTimestamp, exchange.FirstByteTimestamp));
        }
        TimeSpan? upstream = exchange.Upstream.ResponseSeconds is { } seconds ? TimeSpan.FromSeconds(seconds) : null;
        meters.For(new(exchange.Consumer?.Username ?? "", exchange.Upstream.NodeIp ?? "")).Finish(new ExchangeSummary(
            exchange.Response.StatusCode, !exchange.AnsweredByGateway && exchange.Upstream.Status != 0, total, upstream,
            exchange.BodyBytesReceived, exchange.BodyBytesSent, isStream));
    }

    /// <summary>As APISIX's <c>run_policy = "prefer_route"</c>: a route's own plugin counts, the global rule's does not.</summary>
    bool IsCountedElsewhere(Exchange exchange) => _isGlobal && Array.Exists(exchange.Chain.Log, static step => step.Phase is Prometheus);

    RouteMeters MetersFor(Exchange exchange)
    {
        var host = MatchedHost(exchange);
        var last = Volatile.Read(ref _last);
        if (last is null || !ReferenceEquals(last.Route, exchange.Route) || last.MatchedUri != exchange.MatchedUri || last.MatchedHost != host)
        {
            var route = exchange.Route;
            var service = route?.Config.ServiceId ?? "";
            var labels = new RouteLabels(
                (config.PreferName ? route?.Config.Name : null) ?? route?.Id ?? "",
                exchange.MatchedUri ?? "",
                host,
                (config.PreferName ? route?.Service?.Name : null) ?? service);
            last = new Bound(route, exchange.MatchedUri, host, _metrics.ForRoute(labels));
            Volatile.Write(ref _last, last);
        }
        return last.Meters;
    }

    /// <summary>The host as the route writes it, <c>*.example.com</c> too.</summary>
    static string MatchedHost(Exchange exchange)
    {
        var route = exchange.Route?.Config;
        if (route?.Host is { } only)
        {
            return only;
        }
        foreach (var host in route?.Hosts ?? exchange.Route?.Service?.Hosts ?? [])
        {
            if (host.StartsWith('*') ? exchange.Host.EndsWith(host[1..], StringComparison.OrdinalIgnoreCase) : host.Equals(exchange.Host, StringComparison.OrdinalIgnoreCase))
            {
                return host;
            }
        }
        return "";
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Prometheus.Config))]
sealed partial class PrometheusJson : JsonSerializerContext;

using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Net.Http;
using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Plugins.Metrics;

/// <summary>Counts a route's requests in the gateway's metrics.</summary>
internal sealed class Prometheus(Prometheus.Config config, PluginContext context) : IPlugin<Prometheus, Prometheus.Config>, IHeaderFilter,
    ILog
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
            at `/apisix/prometheus/metrics`: `apisix_http_status`, `apisix_http_latency`, `apisix_bandwidth`, of requests to language models `apisix_llm_latency`, `apisix_llm_prompt_tokens`, `apisix_llm_completion_tokens` and both with `_dist`, and Sluice's own for streams
            (`sluice_active_streams`, `sluice_time_to_first_byte_seconds`, `sluice_stream_duration_seconds`, `sluice_stream_ends_total`, …: see
            [logs and metrics](../concepts/logs-and-metrics.md#metrics)). Counters of streams go on while these run. The lifetime of a stream is no latency and is not in `apisix_http_latency`. On a route with the plugin the global rule does not count again.
            """)
    {
        Version = "0.2",
        Attributes = ["enable_export_server", "export_uri", "export_addr.ip", "export_addr.port"],
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

    sealed record Counted(RouteMeters Meters, string Kind);

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
        if (!IsCountedElsewhere(exchange) && !exchange.AnsweredByGateway && exchange.StreamKind is { } kind
            && !exchange.Items.ContainsKey(this))
        {
            var meters = MetersFor(exchange);
            exchange.StreamMeters = meters;
            if (exchange.Detached is null)
            {
                // of a stream with a history its clients are counted; the upstream's side has no end of its own while they are there
                exchange.Items.Add(this, new Counted(meters, kind));
                meters.StreamStarted(kind);
            }
        }
    }

    public void Log(Exchange exchange)
    {
        if (IsCountedElsewhere(exchange))
        {
            return;
        }
        var total = TimeSpan.FromMilliseconds(exchange.ElapsedMs);
        var opened = (Counted?)exchange.Find(this);
        var isStream = opened is not null || exchange is { Detached: not null, StreamKind: not null };
        var meters = opened?.Meters ?? MetersFor(exchange);
        if (opened is not null)
        {
            meters.StreamEnded(opened.Kind, exchange.StreamEnd, total);
        }
        if (exchange.StreamRefusal is { } refusal)
        {
            meters.StreamRefused(refusal);
        }
        if (exchange.ShieldedStatus is > 0 and var shielded)
        {
            meters.Reconnect(shielded);
        }
        meters.Spooled(exchange.SpooledBytes);
        if (exchange.FirstByteTimestamp != 0)
        {
            meters.FirstByte(context.Services.Time.GetElapsedTime(exchange.StartTimestamp, exchange.FirstByteTimestamp));
        }
        TimeSpan? upstream = exchange.Upstream.ResponseSeconds is { } seconds ? TimeSpan.FromSeconds(seconds) : null;
        var traffic = meters.For(AiFacts.Labels(exchange));
        traffic.Finish(new ExchangeSummary(
            exchange.ShieldedStatus > 0 ? exchange.ShieldedStatus : exchange.Response.StatusCode,
            !exchange.AnsweredByGateway && exchange.Upstream.Status != 0, total, upstream,
            exchange.BodyBytesReceived, exchange.BodyBytesSent, isStream));
        if (exchange.Ai is { AskedTimestamp: not 0 } model)
        {
            traffic.Finish(new ModelSummary(
                exchange.Response.StatusCode, model.ResponseMs ?? 0, model.IsStream ? model.FirstTokenMs : null, model.Usage?.Prompt ?? 0,
                model.Usage?.Completion ?? 0));
        }
    }

    /// <summary>As APISIX's <c>run_policy = "prefer_route"</c>: a route's own plugin counts, the global rule's does not.</summary>
    bool IsCountedElsewhere(Exchange exchange) =>
        _isGlobal && Array.Exists(exchange.Chain.Steps(Phase.Log), static step => step.Phase is Prometheus);

    RouteMeters MetersFor(Exchange exchange)
    {
        var host = MatchedHost(exchange);
        var last = Volatile.Read(ref _last);
        if (last is null || !ReferenceEquals(last.Route, exchange.Route) || last.MatchedUri != exchange.MatchedUri
            || last.MatchedHost != host)
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
            var name = HostName.Normalize(host);
            if (name is ['*', ..] ? exchange.Host.EndsWith(name[1..], StringComparison.Ordinal) : name == exchange.Host)
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

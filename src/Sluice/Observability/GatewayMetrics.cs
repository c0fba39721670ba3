using System.Collections.Concurrent;
using System.Globalization;
using Prometheus;

namespace Sluice.Observability;

/// <summary>What an instance exposes and how: <c>plugin_attr.prometheus</c>.</summary>
internal sealed record GatewayMetricsOptions(
    string MetricPrefix = "apisix_", double[]? DefaultBuckets = null, int SeriesLimit = 10_000, string Hostname = "", string Version = "");

/// <summary>The labels that a route's configuration fixes; empty for requests that matched no route.</summary>
internal sealed record RouteLabels(string Route = "", string MatchedUri = "", string MatchedHost = "", string Service = "");

/// <summary>The labels that requests of one route differ in.</summary>
internal readonly record struct TrafficLabels(
    string Consumer = "", string Node = "", string RequestType = TrafficLabels.Http, string RequestModel = "", string Model = "")
{
    public const string Http = "traditional_http";

    public TrafficLabels() : this("") { }
}

/// <summary>What is counted of language models.</summary>
internal sealed record ModelFamilies(Histogram Latency, Counter Prompt, Counter Completion, Histogram PromptDist, Histogram CompletionDist);

/// <summary>One exchange with a language model at its end.</summary>
/// <param name="FirstTokenMs">Null: it was no stream.</param>
internal readonly record struct ModelSummary(int Status, long ResponseMs, long? FirstTokenMs, long Prompt, long Completion);

/// <summary>One exchange at its end. <paramref name="Upstream"/> is null when no upstream answered.</summary>
internal readonly record struct ExchangeSummary(
    int Status, bool FromUpstream, TimeSpan Total, TimeSpan? Upstream, long BytesIn, long BytesOut, bool IsStream);

/// <summary>
/// All meters of the gateway: APISIX's with its names and labels, and Sluice's own for streams. Label values that come from traffic are
/// bounded: above
/// <see cref="GatewayMetricsOptions.SeriesLimit"/> sets per family they are counted as <c>other</c>, with one warning.
/// <code>var meters = metrics.ForRoute(labels);  // once per route    meters.For(new(consumer, node)).Finish(summary);  // per request: no
/// label lookup</code>
/// </summary>
internal sealed partial class GatewayMetrics
{
    internal const string Other = "other";

    static readonly double[] LatencyBuckets = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000];
    static readonly double[] TokenBuckets = [1, 10, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000,
        1000000];
    static readonly double[] FirstByteBuckets = [.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60];
    static readonly double[] FirstEventBuckets = [.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300];
    static readonly double[] GapBuckets = [.005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300];
    static readonly double[] LifetimeBuckets = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 21600, 86400];

    readonly CollectorRegistry _registry = Metrics.NewCustomRegistry();
    readonly ConcurrentDictionary<RouteLabels, RouteMeters> _routes = [];
    readonly ILogger _log;
    readonly int _limit;
    readonly ConcurrentDictionary<string, int> _series = [];
    readonly ConcurrentDictionary<string, bool> _warned = [];
    readonly Gauge _requests;
    readonly Gauge _upstreamStatus, _detachedStreams, _tailBytes;
    readonly Counter _resumes;
    readonly Counter _accessLogDrops;
    readonly Lazy<Gauge> _etcdReachable, _etcdRevision, _leftOut;

    readonly Lazy<ModelFamilies> _models;

    internal ModelFamilies Models => _models.Value;

    internal readonly Counter Status, Bandwidth, StreamEnds, StreamEvents, StreamBytes, StreamsRefused, SpooledBytes;
    internal readonly Histogram Latency, FirstByte, FirstEvent, EventGap, StreamLifetime;
    internal readonly Counter StreamDropped, StreamHeartbeats, StreamReconnects;
    internal readonly Gauge ActiveStreams, QueueBytes, SlowStreams;

    public GatewayMetrics(ILogger log, GatewayMetricsOptions? options = null)
    {
        options ??= new GatewayMetricsOptions();
        _log = log;
        _limit = options.SeriesLimit;
        var make = Metrics.WithCustomRegistry(_registry);
        var prefix = options.MetricPrefix;
        string[] traffic = ["route", "service", "consumer", "node", "request_type", "request_llm_model", "llm_model"];

        var connections = make.CreateGauge(prefix + "nginx_http_current_connections", "Number of HTTP connections", ["state"]);
        Connections = new ConnectionMeters(connections);
        _registry.AddBeforeCollectCallback(Connections.Refresh);
        _requests = make.CreateGauge(prefix + "http_requests_total", "The total number of client requests since the gateway started");
        make.CreateGauge(prefix + "node_info", "Info of the gateway node", ["hostname", "version"])
            .WithLabels(options.Hostname.Length > 0 ? options.Hostname : Environment.MachineName, options.Version).Set(1);
        _upstreamStatus = make.CreateGauge(prefix + "upstream_status", "Upstream status from health check", ["name", "ip", "port"]);
        Status = make.CreateCounter(prefix + "http_status", "HTTP status codes per service in the gateway",
            ["code", "route", "matched_uri", "matched_host", "service", "consumer", "node", "request_type", "request_llm_model",
                "llm_model", "response_source"]);
        Latency = make.CreateHistogram(prefix + "http_latency",
            "HTTP request latency in milliseconds per service in the gateway; streams are not in it",
            ["type", .. traffic], new HistogramConfiguration { Buckets = options.DefaultBuckets ?? LatencyBuckets });
        string[] model = ["route_id", "service_id", "consumer", "node", "request_type", "request_llm_model", "llm_model"];
        // families that are there only where there is a language model
        _models = new(() => new(
            make.CreateHistogram(
                prefix + "llm_latency", "Latency of language models in milliseconds", ["type", .. model],
                new HistogramConfiguration { Buckets = options.DefaultBuckets ?? LatencyBuckets }),
            make.CreateCounter(prefix + "llm_prompt_tokens", "Tokens that were sent to language models", model),
            make.CreateCounter(prefix + "llm_completion_tokens", "Tokens that language models have answered", model),
            make.CreateHistogram(prefix + "llm_prompt_tokens_dist", "Tokens of a request to a language model", model,
                new HistogramConfiguration { Buckets = TokenBuckets }),
            make.CreateHistogram(prefix + "llm_completion_tokens_dist", "Tokens of a language model's answer", model,
                new HistogramConfiguration { Buckets = TokenBuckets })));
        Bandwidth = make.CreateCounter(prefix + "bandwidth", "Total bandwidth in bytes consumed per service in the gateway",
            ["type", .. traffic]);

        FirstByte = make.CreateHistogram("sluice_time_to_first_byte_seconds",
            "From a request's arrival to the first byte of its answer's body",
            ["route"], new HistogramConfiguration { Buckets = FirstByteBuckets });
        ActiveStreams = make.CreateGauge("sluice_active_streams", "Streams that are open now", ["route", "kind"]);
        FirstEvent = make.CreateHistogram("sluice_time_to_first_event_seconds",
            "From a request's arrival to its response's first event, on routes that look at events",
            ["route"], new HistogramConfiguration { Buckets = FirstEventBuckets });
        EventGap = make.CreateHistogram("sluice_event_gap_seconds", "Time between two events of a stream, on routes that look at events",
            ["route"], new HistogramConfiguration { Buckets = GapBuckets });
        StreamBytes = make.CreateCounter("sluice_stream_bytes_total", "Bytes of streams' bodies: received from upstreams, sent to clients",
            ["route", "direction"]);
        StreamsRefused = make.CreateCounter("sluice_streams_refused_total", "Streams that were not let in", ["route", "reason"]);
        StreamLifetime = make.CreateHistogram("sluice_stream_duration_seconds", "How long streams were open",
            ["route"], new HistogramConfiguration { Buckets = LifetimeBuckets });
        StreamEnds = make.CreateCounter("sluice_stream_ends_total", "Streams that ended, by reason", ["route", "reason"]);
        StreamEvents = make.CreateCounter("sluice_stream_events_total", "Events that passed, on routes that look at events", ["route"]);
        StreamHeartbeats = make.CreateCounter("sluice_stream_heartbeats_total", "Heartbeats that clients of streams got", ["route"]);
        StreamReconnects = make.CreateCounter("sluice_stream_reconnects_total",
            "Answers in whose place a client of event streams was told to come back", ["route", "status"]);
        StreamDropped = make.CreateCounter("sluice_stream_dropped_events_total",
            "Events that clients did not get, as they were slower than their streams", ["route", "policy"]);
        QueueBytes = make.CreateGauge("sluice_stream_queue_bytes", "Bytes that wait for clients of streams", ["route"]);
        SlowStreams = make.CreateGauge("sluice_slow_streams", "Streams whose client has not taken what it was given", ["route", "policy"]);
        SpooledBytes = make.CreateCounter("sluice_spooled_bytes_total", "Bytes of buffered bodies that went to temporary files", ["route"]);
        _resumes = make.CreateCounter("sluice_stream_resumes_total", "Clients that came back for a stream, by what they got",
            ["route", "result"]);
        _detachedStreams = make.CreateGauge("sluice_detached_streams", "Upstreams that run on without a client", ["route"]);
        _tailBytes = make.CreateGauge("sluice_tail_bytes", "Bytes that the tails of resumable streams hold", ["store"]);
        // series only where there is an etcd
        _leftOut = new(() => make.CreateGauge("sluice_resources_left_out", "Resources of the store that are wrong and not in force"));
        _etcdReachable = new(() => make.CreateGauge(prefix + "etcd_reachable",
            "Config server etcd reachable from the gateway, 0 is unreachable"));
        _etcdRevision = new(() => make.CreateGauge(prefix + "etcd_modify_indexes", "Etcd modify index for the keys of the gateway",
            ["key"]));
        _accessLogDrops = make.CreateCounter("sluice_access_log_dropped_lines_total", "Access log lines that were never written");
    }

    public ConnectionMeters Connections { get; }

    public void RequestStarted()
    {
        _requests.Inc();
        Connections.Busy(1);
    }

    public void RequestEnded() => Connections.Busy(-1);

    /// <summary>What nginx's stub_status tells.</summary>
    public (long Active, long Accepted, long Requests, long Writing, long Waiting) Counts()
    {
        var (active, accepted, writing) = Connections.Counts();
        return (active, accepted, (long)_requests.Value, writing, Math.Max(0, active - writing));
    }

    /// <summary>The meters of a route; the same labels give the same meters, so that they outlive a change of configuration.</summary>
    public RouteMeters ForRoute(RouteLabels labels) =>
        _routes.GetOrAdd(labels, static (key, metrics) => new RouteMeters(metrics, key), this);

    /// <summary>A route is gone: so are its series. Requests still on their way count into nothing.</summary>
    public void Forget(RouteLabels labels)
    {
        if (_routes.TryRemove(labels, out var meters))
        {
            meters.Remove(lastOfItsRoute: !_routes.Keys.Any(other => other.Route == labels.Route));
        }
    }

    /// <summary>Forgets the routes that are gone.</summary>
    /// <param name="isThere">Whether there is a route of this id or name.</param>
    public void ForgetRoutes(Func<string, bool> isThere)
    {
        foreach (var labels in _routes.Keys.Where(labels => labels.Route.Length > 0 && !isThere(labels.Route)).ToArray())
        {
            Forget(labels);
        }
        foreach (var labels in _resumes.GetAllLabelValues().Where(labels => !isThere(labels[0])).ToArray())
        {
            _resumes.RemoveLabelled(labels);
        }
    }

    readonly Lock _looking = new();

    /// <summary>Asks whenever the metrics are read.</summary>
    /// <param name="tell">Tells the meters of routes what their streams have had, and what waits for them.</param>
    public void WatchStreams(Action tell) => BeforeReading(() =>
    {
        lock (_looking)
        {
            foreach (var route in _routes.Values)
            {
                route.BeginWaiting();
            }
            tell();
            foreach (var route in _routes.Values)
            {
                route.EndWaiting();
            }
        }
    });

    /// <summary>Called whenever the metrics are read, before.</summary>
    public void BeforeReading(Action tell) => _registry.AddBeforeCollectCallback(tell);

    /// <summary>What the health checks say of a node. Nodes are configuration, not traffic: they have no limit, and are forgotten by
    /// name.</summary>
    public void UpstreamStatus(string upstream, string ip, int port, bool healthy)
    {
        _upstreamStatus.WithLabels(upstream, ip, port.ToString(CultureInfo.InvariantCulture)).Set(healthy ? 1 : 0);
    }

    public void ForgetUpstreamStatus(string upstream, string ip, int port) =>
        _upstreamStatus.RemoveLabelled(upstream, ip, port.ToString(CultureInfo.InvariantCulture));

    /// <summary>Asks for the count whenever the metrics are read.</summary>
    public void WatchAccessLogDrops(Func<long> dropped) =>
        _registry.AddBeforeCollectCallback(() => _accessLogDrops.IncTo(dropped()));

    /// <summary>Asks whenever the metrics are read.</summary>
    public void WatchEtcd(Func<(bool Reachable, long Revision)> state) => _registry.AddBeforeCollectCallback(() =>
    {
        var (reachable, revision) = state();
        _etcdReachable.Value.Set(reachable ? 1 : 0);
        _etcdRevision.Value.WithLabels("max_modify_index").Set(revision);
    });

    /// <summary>A client came back for a stream.</summary>
    /// <param name="result">What it got: <c>tail</c>, <c>live</c>, <c>gap</c>, <c>upstream</c>, <c>unknown</c>, <c>foreign</c>,
    /// <c>expired</c>.</param>
    public void StreamResumed(string route, string result) => _resumes.WithLabels(route, result).Inc();

    /// <summary>Asks whenever the metrics are read.</summary>
    /// <param name="detached">Upstreams without a client, by route.</param>
    /// <param name="memory">Bytes of all tails.</param>
    public void WatchTopics(Func<IEnumerable<KeyValuePair<string, int>>> detached, Func<long> memory) =>
        _registry.AddBeforeCollectCallback(() =>
    {
        var now = detached().ToDictionary();
        foreach (var labels in _detachedStreams.GetAllLabelValues())
        {
            if (!now.ContainsKey(labels[0]))
            {
                _detachedStreams.RemoveLabelled(labels);
            }
        }
        foreach (var (route, count) in now)
        {
            _detachedStreams.WithLabels(route).Set(count);
        }
        _tailBytes.WithLabels("memory").Set(memory());
    });

    /// <summary>How many timers of event loops are armed: asked whenever the metrics are read.</summary>
    public void WatchTimers(Func<int> count)
    {
        var timers = Metrics.WithCustomRegistry(_registry).CreateGauge("sluice_event_loop_timers", "Timers of event loops that are armed");
        _registry.AddBeforeCollectCallback(() => timers.Set(count()));
    }

    /// <summary>How many resources of the store are wrong and not in force: asked whenever the metrics are read.</summary>
    public void WatchLeftOut(Func<int> count) => _registry.AddBeforeCollectCallback(() => _leftOut.Value.Set(count()));

    /// <summary>The text exposition format.</summary>
    public Task WriteAsync(Stream stream, CancellationToken cancel = default) => _registry.CollectAndExportAsTextAsync(stream, cancel);

    /// <summary>Whether the family may have one label set more.</summary>
    internal bool Claim(string family)
    {
        var count = _series.AddOrUpdate(family, 1, (_, claimed) => Math.Min(claimed, _limit) + 1);
        if (count > _limit && _warned.TryAdd(family, true))
        {
            LogLimit(_log, family, _limit);
        }
        return count <= _limit;
    }

    internal void Release(string family, int count) =>
        _series.AddOrUpdate(family, 0, (_, claimed) => Math.Max(0, Math.Min(claimed, _limit) - count));

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "metrics: more than {Limit} label sets in {Family}; further consumers, nodes and models are counted as \"other\"")]
    static partial void LogLimit(ILogger log, string family, int limit);
}

/// <summary>APISIX's nginx connection gauges.</summary>
internal sealed class ConnectionMeters
{
    readonly Gauge.Child _active, _accepted, _handled, _reading, _writing, _waiting;
    long _busy;

    internal ConnectionMeters(Gauge gauge)
    {
        _active = gauge.WithLabels("active");
        _accepted = gauge.WithLabels("accepted");
        _handled = gauge.WithLabels("handled");
        _reading = gauge.WithLabels("reading");
        _writing = gauge.WithLabels("writing");
        _waiting = gauge.WithLabels("waiting");
    }

    public void Opened()
    {
        _accepted.Inc();
        _handled.Inc();
        _active.Inc();
    }

    public void Closed() => _active.Dec();

    /// <summary>Requests that began (or ended, below zero).</summary>
    public void Busy(int requests) => Interlocked.Add(ref _busy, requests);

    public (long Active, long Accepted, long Writing) Counts() =>
        ((long)_active.Value, (long)_accepted.Value, Math.Max(0, Interlocked.Read(ref _busy)));

    /// <summary>What the open connections do: writing an answer, or idle. Heads are read within the server, nobody sees them
    /// come.</summary>
    internal void Refresh()
    {
        var (active, _, writing) = Counts();
        _reading.Set(0);
        _writing.Set(writing);
        _waiting.Set(Math.Max(0, active - writing));
    }
}

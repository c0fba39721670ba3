using System.Collections.Concurrent;
using System.Globalization;
using Prometheus;

namespace Sluice.Observability;

/// <summary>A route's meters with their labels bound: made when the snapshot is compiled, used by every request.</summary>
internal sealed class RouteMeters
{
    const string EndsFamily = "sluice_stream_ends_total";
    const string TrafficFamily = "http_status, http_latency, bandwidth";

    readonly GatewayMetrics _metrics;
    readonly Histogram.Child _firstByte, _firstEvent, _gap, _lifetime;
    readonly Counter.Child _events, _received, _sent, _spooled, _heartbeats;
    readonly ConcurrentDictionary<int, Counter.Child> _reconnects = [];
    readonly ConcurrentDictionary<string, (Gauge.Child Gauge, int Now)> _slow = [];
    readonly Gauge.Child _queue;
    long _queued;
    readonly ConcurrentDictionary<string, Gauge.Child> _active = [];
    readonly ConcurrentDictionary<string, Counter.Child> _refused = [], _dropped = [];
    readonly ConcurrentDictionary<string, Counter.Child> _ends = [];
    readonly ConcurrentDictionary<TrafficLabels, TrafficMeters> _traffic = [];
    readonly Lazy<TrafficMeters> _otherTraffic;
    TrafficMeters? _last;

    internal RouteMeters(GatewayMetrics metrics, RouteLabels labels)
    {
        _metrics = metrics;
        Labels = labels;
        _firstByte = metrics.FirstByte.WithLabels(labels.Route);
        _lifetime = metrics.StreamLifetime.WithLabels(labels.Route);
        _firstEvent = metrics.FirstEvent.WithLabels(labels.Route);
        _gap = metrics.EventGap.WithLabels(labels.Route);
        _received = metrics.StreamBytes.WithLabels(labels.Route, "received");
        _sent = metrics.StreamBytes.WithLabels(labels.Route, "sent");
        _events = metrics.StreamEvents.WithLabels(labels.Route);
        _heartbeats = metrics.StreamHeartbeats.WithLabels(labels.Route);
        _queue = metrics.QueueBytes.WithLabels(labels.Route);
        _spooled = metrics.SpooledBytes.WithLabels(labels.Route);
        _otherTraffic = new Lazy<TrafficMeters>(() => new TrafficMeters(metrics, labels,
            new TrafficLabels(GatewayMetrics.Other, GatewayMetrics.Other, GatewayMetrics.Other, GatewayMetrics.Other,
                GatewayMetrics.Other)));
    }

    public RouteLabels Labels { get; }

    /// <summary>The meters for a consumer's requests to a node. Mostly those of the request before: then it costs a comparison.</summary>
    public TrafficMeters For(TrafficLabels labels)
    {
        var last = Volatile.Read(ref _last);
        if (last is not null && last.Labels == labels)
        {
            return last;
        }
        if (!_traffic.TryGetValue(labels, out var meters))
        {
            meters = _metrics.Claim(TrafficFamily)
                ? _traffic.GetOrAdd(labels, new TrafficMeters(_metrics, Labels, labels))
                : _otherTraffic.Value;
        }
        Volatile.Write(ref _last, meters);
        return meters;
    }

    /// <param name="lastOfItsRoute">Labels may change while the route's id stays: then the series that carry only the id stay too.</param>
    internal void Remove(bool lastOfItsRoute)
    {
        foreach (var meters in _traffic.Values)
        {
            meters.Remove();
        }
        _metrics.Release(TrafficFamily, _traffic.Count);
        if (_otherTraffic.IsValueCreated)
        {
            _otherTraffic.Value.Remove();
        }
        if (!lastOfItsRoute)
        {
            return;
        }
        foreach (var ends in _ends.Values)
        {
            ends.Remove();
        }
        _metrics.Release(EndsFamily, _ends.Count);
        _firstByte.Remove();
        _lifetime.Remove();
        foreach (var active in _active.Values)
        {
            active.Remove();
        }
        foreach (var refused in _refused.Values)
        {
            refused.Remove();
        }
        foreach (var dropped in _dropped.Values)
        {
            dropped.Remove();
        }
        foreach (var reconnects in _reconnects.Values)
        {
            reconnects.Remove();
        }
        foreach (var (slow, _) in _slow.Values)
        {
            slow.Remove();
        }
        _heartbeats.Remove();
        _queue.Remove();
        _firstEvent.Remove();
        _gap.Remove();
        _received.Remove();
        _sent.Remove();
        _events.Remove();
        _spooled.Remove();
    }

    public void FirstByte(TimeSpan sinceRequest) => _firstByte.Observe(sinceRequest.TotalSeconds);

    public void FirstEvent(TimeSpan sinceRequest) => _firstEvent.Observe(sinceRequest.TotalSeconds);

    /// <summary>Time between two events, so many times.</summary>
    public void EventGap(TimeSpan gap, int count) => _gap.Observe(gap.TotalSeconds, count);

    /// <param name="kind">One of the few kinds that there are.</param>
    public void StreamStarted(string kind) => ActiveOf(kind).Inc();

    /// <summary>A stream that was not let in.</summary>
    /// <param name="reason">One of the few that there are.</param>
    public void StreamRefused(string reason) =>
        _refused.GetOrAdd(reason, static (reason, self) => self._metrics.StreamsRefused.WithLabels(self.Labels.Route, reason), this).Inc();

    /// <summary>A client of event streams was told to come back.</summary>
    /// <param name="status">In whose place; one of those that the configuration names.</param>
    public void Reconnect(int status) => _reconnects.GetOrAdd(
        status, static (status, self) =>
        self._metrics.StreamReconnects.WithLabels(self.Labels.Route, status.ToString(CultureInfo.InvariantCulture)), this).Inc();

    public void Heartbeats(int count)
    {
        if (count > 0)
        {
            _heartbeats.Inc(count);
        }
    }

    /// <param name="policy">One of the few that there are.</param>
    public void Dropped(string policy, long count)
    {
        if (count > 0)
        {
            _dropped.GetOrAdd(policy, static (policy, self) => self._metrics.StreamDropped.WithLabels(self.Labels.Route, policy), this)
                .Inc(count);
        }
    }

    // what waits is added up while the metrics are read, one reader at a time

    internal void BeginWaiting()
    {
        _queued = 0;
        foreach (var (policy, slow) in _slow)
        {
            _slow[policy] = slow with { Now = 0 };
        }
    }

    /// <summary>What waits for the client of one stream.</summary>
    /// <param name="policy">One of the few that there are.</param>
    public void Waiting(string policy, long bytes, bool isSlow)
    {
        _queued += bytes;
        if (isSlow)
        {
            var slow = _slow.GetOrAdd(policy, static (policy, self) => (self._metrics.SlowStreams.WithLabels(self.Labels.Route, policy), 0),
                this);
            _slow[policy] = slow with { Now = slow.Now + 1 };
        }
    }

    internal void EndWaiting()
    {
        _queue.Set(_queued);
        foreach (var (gauge, now) in _slow.Values)
        {
            gauge.Set(now);
        }
    }

    Gauge.Child ActiveOf(string kind) =>
        _active.GetOrAdd(kind, static (kind, self) => self._metrics.ActiveStreams.WithLabels(self.Labels.Route, kind), this);

    /// <summary>A stream's end. Its lifetime is no latency: it has a family of its own.</summary>
    public void StreamEnded(string kind, string reason, TimeSpan lifetime)
    {
        ActiveOf(kind).Dec();
        _lifetime.Observe(lifetime.TotalSeconds);
        if (!_ends.TryGetValue(reason, out var ends))
        {
            var label = _metrics.Claim(EndsFamily) ? reason : GatewayMetrics.Other;
            ends = _metrics.StreamEnds.WithLabels(Labels.Route, label);
            if (label == reason)
            {
                _ends.TryAdd(reason, ends);
            }
        }
        ends.Inc();
    }

    public void Events(long count)
    {
        if (count > 0)
        {
            _events.Inc(count);
        }
    }

    /// <summary>Bytes of streams' bodies, while they go on.</summary>
    public void Payload(long received, long sent)
    {
        if (received > 0)
        {
            _received.Inc(received);
        }
        if (sent > 0)
        {
            _sent.Inc(sent);
        }
    }

    public void Spooled(long fileBytes)
    {
        if (fileBytes > 0)
        {
            _spooled.Inc(fileBytes);
        }
    }
}

/// <summary>The meters of requests that have all labels but the status in common.</summary>
internal sealed class TrafficMeters
{
    readonly GatewayMetrics _metrics;
    readonly RouteLabels _route;
    readonly Histogram.Child _request, _gateway, _upstream;
    readonly Counter.Child _ingress, _egress;
    readonly ConcurrentDictionary<(int Code, bool FromUpstream), Counter.Child> _statuses = [];

    internal TrafficMeters(GatewayMetrics metrics, RouteLabels route, TrafficLabels labels)
    {
        _metrics = metrics;
        _route = route;
        Labels = labels;
        _request = metrics.Latency.WithLabels(Of("request"));
        _gateway = metrics.Latency.WithLabels(Of("apisix"));
        _upstream = metrics.Latency.WithLabels(Of("upstream"));
        _ingress = metrics.Bandwidth.WithLabels(Of("ingress"));
        _egress = metrics.Bandwidth.WithLabels(Of("egress"));
    }

    public TrafficLabels Labels { get; }

    /// <summary>Counts an exchange at its end. A stream counts with its status and bytes, not with its latency.</summary>
    public void Finish(in ExchangeSummary exchange)
    {
        StatusOf(exchange.Status, exchange.FromUpstream).Inc();
        Bytes(exchange.BytesIn, exchange.BytesOut);
        if (exchange.IsStream)
        {
            return;
        }
        var total = exchange.Total.TotalMilliseconds;
        _request.Observe(total);
        if (exchange.Upstream is { } upstream)
        {
            _upstream.Observe(upstream.TotalMilliseconds);
        }
        _gateway.Observe(Math.Max(0, total - (exchange.Upstream?.TotalMilliseconds ?? 0)));
    }

    /// <summary>Counts an exchange with a language model at its end.</summary>
    public void Finish(in ModelSummary exchange)
    {
        var meters = LazyInitializer.EnsureInitialized(ref _model, () => new(_metrics.Models, _route, Labels));
        meters.Finish(exchange);
    }

    ModelMeters? _model;

    /// <summary>Bytes of an exchange that goes on: a stream's traffic need not wait for its end. What was told here is not in the
    /// summary.</summary>
    public void Bytes(long received, long sent)
    {
        if (received > 0)
        {
            _ingress.Inc(received);
        }
        if (sent > 0)
        {
            _egress.Inc(sent);
        }
    }

    internal void Remove()
    {
        _request.Remove();
        _gateway.Remove();
        _upstream.Remove();
        _ingress.Remove();
        _egress.Remove();
        _model?.Remove();
        foreach (var status in _statuses.Values)
        {
            status.Remove();
        }
    }

    Counter.Child StatusOf(int code, bool fromUpstream)
    {
        // upstreams may send any number: those that HTTP does not know share one series
        code = code is >= 100 and <= 599 ? code : 0;
        return _statuses.TryGetValue((code, fromUpstream), out var child)
            ? child
            : _statuses.GetOrAdd((code, fromUpstream), _metrics.Status.WithLabels(
                code == 0 ? GatewayMetrics.Other : code.ToString(CultureInfo.InvariantCulture),
                _route.Route, _route.MatchedUri, _route.MatchedHost, _route.Service,
                Labels.Consumer, Labels.Node, Labels.RequestType, Labels.RequestModel, Labels.Model, fromUpstream ? "upstream" : "apisix"));
    }

    string[] Of(string type) =>
        [type, _route.Route, _route.Service, Labels.Consumer, Labels.Node, Labels.RequestType, Labels.RequestModel, Labels.Model];
}

/// <summary>A route's meters for language models.</summary>
sealed class ModelMeters
{
    readonly Histogram.Child _total, _firstToken, _promptDist, _completionDist;
    readonly Counter.Child _prompt, _completion;

    internal ModelMeters(ModelFamilies families, RouteLabels route, TrafficLabels traffic)
    {
        string[] labels = [route.Route, route.Service, traffic.Consumer, traffic.Node, traffic.RequestType, traffic.RequestModel,
            traffic.Model];
        _total = families.Latency.WithLabels(["total", .. labels]);
        _firstToken = families.Latency.WithLabels(["ttft", .. labels]);
        _prompt = families.Prompt.WithLabels(labels);
        _completion = families.Completion.WithLabels(labels);
        _promptDist = families.PromptDist.WithLabels(labels);
        _completionDist = families.CompletionDist.WithLabels(labels);
    }

    public void Finish(in ModelSummary exchange)
    {
        if (exchange.Status < 400)
        {
            _total.Observe(exchange.ResponseMs);
            if (exchange.FirstTokenMs is { } first)
            {
                _firstToken.Observe(first);
            }
        }
        _prompt.Inc(exchange.Prompt);
        _completion.Inc(exchange.Completion);
        if (exchange.Prompt > 0)
        {
            _promptDist.Observe(exchange.Prompt);
        }
        if (exchange.Completion > 0)
        {
            _completionDist.Observe(exchange.Completion);
        }
    }

    public void Remove()
    {
        _total.Remove();
        _firstToken.Remove();
        _prompt.Remove();
        _completion.Remove();
        _promptDist.Remove();
        _completionDist.Remove();
    }
}

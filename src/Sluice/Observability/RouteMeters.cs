using System.Collections.Concurrent;
using System.Globalization;
using Prometheus;

namespace Sluice.Observability;

/// <summary>A route's meters with their labels bound: made when the snapshot is compiled, used by every request.</summary>
public sealed class RouteMeters
{
    const string EndsFamily = "sluice_stream_ends_total";
    const string TrafficFamily = "http_status, http_latency, bandwidth";

    readonly GatewayMetrics _metrics;
    readonly Histogram.Child _firstByte, _lifetime;
    readonly Gauge.Child _activeStreams;
    readonly Counter.Child _events, _spooled;
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
        _activeStreams = metrics.ActiveStreams.WithLabels(labels.Route);
        _events = metrics.StreamEvents.WithLabels(labels.Route);
        _spooled = metrics.SpooledBytes.WithLabels(labels.Route);
        _otherTraffic = new Lazy<TrafficMeters>(() => new TrafficMeters(metrics, labels,
            new TrafficLabels(GatewayMetrics.Other, GatewayMetrics.Other, GatewayMetrics.Other, GatewayMetrics.Other, GatewayMetrics.Other)));
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
        _activeStreams.Remove();
        _events.Remove();
        _spooled.Remove();
    }

    public void FirstByte(TimeSpan sinceRequest) => _firstByte.Observe(sinceRequest.TotalSeconds);

    public void StreamStarted() => _activeStreams.Inc();

    /// <summary>A stream's end. Its lifetime is no latency: it has a family of its own.</summary>
    public void StreamEnded(string reason, TimeSpan lifetime)
    {
        _activeStreams.Dec();
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

    public void Events(long count) => _events.Inc(count);

    public void Spooled(long fileBytes)
    {
        if (fileBytes > 0)
        {
            _spooled.Inc(fileBytes);
        }
    }
}

/// <summary>The meters of requests that have all labels but the status in common.</summary>
public sealed class TrafficMeters
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

    /// <summary>Bytes of an exchange that goes on: a stream's traffic need not wait for its end. What was told here is not in the summary.</summary>
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

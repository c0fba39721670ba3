using System.Buffers;
using Microsoft.Extensions.Primitives;
using Sluice.Net;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>What a policy asks for a stream while it runs: limits, heartbeats, a place for last words. Null where it asks for nothing,
/// which then costs nothing.</summary>
sealed class StreamCare : IStreamClockOwner
{
    const long DefaultHold = 64 * 1024;

    readonly Exchange _exchange;
    readonly StreamPolicy _policy;
    readonly IBodySource _body;
    readonly byte[]? _beat;
    LiveStream? _live;
    BodyRelay? _relay;

    StreamCare(Exchange exchange, StreamPolicy policy, IBodySource body, bool isPromised, bool isQueued, TimeSpan readTimeout)
    {
        (_exchange, _policy, _body) = (exchange, policy, body);
        var kind = LiveStream.KindOf(exchange);
        var isPlain = exchange.Response.Headers.ContentEncoding is var coding
            && (StringValues.IsNullOrEmpty(coding) || coding == "identity");
        var words = (policy.Ending?.Mode ?? (policy.IsOfPlugin ? "dialect" : "abort")) == "dialect";
        // a body in another coding, or of a promised length, has no place for bytes of ours
        _beat = isPromised || !isPlain || policy.Heartbeat is not { Interval: { IsOff: false } } heartbeat ? null : heartbeat.Bytes(kind);
        var edge = isPromised || !isPlain ? null : kind switch
        {
            StreamKind.Sse when words || _beat is not null || policy.Reconnect?.Start == true => new SseEdge(),
            StreamKind.Ndjson when (words && policy.Ending?.Ndjson == "line") || _beat is not null => new LineEdge(),
            _ => (EdgeWatch?)null,
        };
        var (first, idle) = (Of(policy.FirstEventTimeout), Of(policy.EventIdleTimeout));
        var holds = policy.Hold == "event";
        var framed = (kind is StreamKind.Sse && isPlain) || kind is StreamKind.Ndjson && isPlain;
        var hasUnits = framed || kind == StreamKind.Grpc;
        var limits = new StreamLimits(
            readTimeout, first, hasUnits ? idle : default, policy.SendTimeout?.Time ?? exchange.Scope.SendTimeout,
            _beat is null ? default : policy.Heartbeat!.Interval!.Value.Time)
        {
            EndsAt = exchange.StreamEndsAt,
            BytesAreUnits = !hasUnits,
        };
        if (limits.EndsAt != 0 || limits.FirstEvent > TimeSpan.Zero || limits.EventIdle > TimeSpan.Zero || _beat is not null)
        {
            Clock = new(exchange.Services.Time, limits);
        }
        Edge = kind == StreamKind.Grpc && (words || Clock is not null) ? new MessageEdge(Message) : edge;
        exchange.Edge = Edge;
        if (framed && (holds || first > TimeSpan.Zero || idle > TimeSpan.Zero))
        {
            Stage = new(kind == StreamKind.Sse ? new SseFramer() : new LineFramer(), Clock, isQueued ? null : Counts,
                holds ? policy.HoldBytes?.Bytes ?? DefaultHold : 0);
        }
    }

    public StreamClock? Clock { get; }

    public EdgeWatch? Edge { get; }

    public UnitStage? Stage { get; }

    EventCounts Counts => _exchange.Events ??= new(_exchange);

    void Message(uint bytes)
    {
        Clock?.Unit();
        Counts.Add(1, (int)Math.Min(bytes, int.MaxValue));
    }

    static TimeSpan Of(Model.Duration? duration) => duration is { IsOff: false } on ? on.Time : default;

    /// <param name="isQueued">Units wait for the client behind what is done here: they are counted there.</param>
    public static StreamCare? Open(Exchange exchange, IBodySource body, bool isPromised, bool isQueued, TimeSpan readTimeout) =>
        exchange.Streams is { } policy ? new(exchange, policy, body, isPromised, isQueued, readTimeout) : null;

    /// <summary>The relay is about to begin.</summary>
    public void Start(LiveStream live, BodyRelay relay)
    {
        (_live, _relay) = (live, relay);
        if (Edge is SseEdge && Stage is not { Holds: true } && _policy.Reconnect is { Start: true } reconnect)
        {
            _exchange.Response.BodyWriter.Write(System.Text.Encoding.ASCII.GetBytes($"retry: {reconnect.Draw()}\n\n"));
        }
        Clock?.Start(this);
    }

    void IStreamClockOwner.HeartbeatDue() => _relay!.Beat(_beat);

    void IStreamClockOwner.LimitReached(StreamLimit limit)
    {
        if (limit == StreamLimit.Send)
        {
            ((IRelayOwner)_live!).ClientStalled();
            return;
        }
        _exchange.EndReason ??= limit switch
        {
            StreamLimit.Idle => _policy.IdleTimeout is null ? "read_timeout" : "idle_timeout",
            StreamLimit.FirstEvent => "first_event_timeout",
            StreamLimit.EventIdle => "event_idle_timeout",
            _ => "max_duration",
        };
        _body.Abort(UpstreamFailureKind.ReadTimeout);
        _ = _live!.CutLaterAsync(_exchange.EndReason);
    }
}

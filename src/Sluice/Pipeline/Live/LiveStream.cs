using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>What a live stream carries; decided at the response's head.</summary>
internal enum StreamKind
{
    Body,
    Sse,
    Ndjson,
    Grpc,
    EventStream,
    WebSocket,
    Tunnel,
}

/// <summary>What is known of a live stream at one moment.</summary>
/// <param name="Phase"><c>head</c> while nothing of the body has come (where events are counted: no event), then <c>open</c>.</param>
/// <param name="BytesSent">Payload bytes handed to the client.</param>
/// <param name="BytesReceived">Payload bytes that came from the source.</param>
/// <param name="Slow">The client has not taken what it was given.</param>
/// <param name="Idle">How long nothing has come: no event where they are counted, else no byte.</param>
/// <param name="Events">Null: nobody cuts it into events.</param>
/// <param name="EndsAt">After which age it is over, by <c>max_duration</c>.</param>
/// <param name="Topic">Which history it is a part of; null: it has none.</param>
internal sealed record LiveStreamFacts(
    string Id, StreamKind Kind, string Mode, string Phase, string? Route, string? Service, string? Consumer, string Client, string Protocol,
    string Method, string Uri,
    string? Node, DateTimeOffset Started, TimeSpan Age, TimeSpan? FirstByte, long BytesSent, long BytesReceived, bool Slow, TimeSpan Idle,
    LiveEventFacts? Events, int Taps,
    QueueFacts Queue, int Heartbeats, TimeSpan? EndsAt, string? Topic)
{
    /// <summary>When it ended; null: it is under way.</summary>
    public DateTimeOffset? Ended { get; init; }

    /// <summary>Why it ended.</summary>
    public string? Reason { get; init; }
}

/// <summary>What is known of a live stream's events.</summary>
/// <param name="Last">The last one: how long ago it was, and its bytes.</param>
internal sealed record LiveEventFacts(long Count, TimeSpan? First, double PerSecond,
    (TimeSpan Ago, string? Name, string? Id, int Bytes)? Last, TimeSpan MaxGap);

/// <summary>A place in the list of live streams.</summary>
internal class LiveLink
{
    internal LiveLink()
    {
    }

    internal LiveLink? Next { get; set; }

    internal LiveLink? Previous { get; set; }
}

/// <summary>
/// A response under way: what its relay asks, and what the registry shows of it. Nothing is counted for it, it reads what the relay counts
/// anyway; an observer costs its stream only while it is there.
/// </summary>
internal sealed partial class LiveStream : LiveLink, IRelayOwner, IDisposable
{
    readonly LiveStreams _streams;
    readonly Exchange _exchange;
    readonly IResponseSource? _source;
    BodySpool? _spool;
    Observers? _observers;
    LiveStreamFacts? _last;
    long _toldEvents, _toldSent, _toldReceived;
    bool _seen, _killed, _ended, _concluded;

    internal LiveStream(LiveStreams streams, long number, Exchange exchange, IResponseSource? source)
    {
        (_streams, Number, _exchange, _source) = (streams, number, exchange, source);
        (StartTimestamp, Kind) = (exchange.StartTimestamp, KindOf(exchange));
    }

    internal long Number { get; }

    internal long StartTimestamp { get; }

    internal StreamKind Kind { get; }

    /// <summary>It is one of the gateway's streams: no plain body, and not what other streams come from.</summary>
    internal bool Counts => Kind != StreamKind.Body && _exchange.Detached is null;

    /// <summary>The upstream's side of a stream is its clients' while there are any.</summary>
    internal bool IsOfClients => _exchange.Detached is { HasClients: true };

    /// <summary>Who carries the body; set when that has begun.</summary>
    internal ILiveBody? Body
    {
        get;
        set
        {
            field = value;
            if (_observers is not null)
            {
                value?.Observer = _observers;
            }
        }
    }

    internal string Mode => Body is { Mode: "queue" } ? "queue" : _exchange.Topic is not null ? "topic" : _exchange.Events is not null
        ? "events" : Body?.Mode ?? "direct";

    internal string Phase => _exchange.Detached is not null ? "detached" : Body?.Holds == true ? "held"
        : (_exchange.Events?.Count ?? Body?.BytesReceived ?? 0) == 0 ? "head" : "open";

    /// <summary>What waits for the client: in a queue, or in a buffered response's spool.</summary>
    internal QueueFacts Queue => Body is { } body ? body.Queue with { Bytes = body.Queue.Bytes + (_spool?.Held ?? 0) } : default;

    internal bool IsSlow => Body?.WaitsForClient == true;

    internal long SpooledBytes => _spool?.FileBytes ?? 0;

    /// <summary>For operators; another one after a restart.</summary>
    public string Id => LiveStreams.IdOf(Number);

    /// <summary>What is known of it now; null when it has ended.</summary>
    public LiveStreamFacts? Look()
    {
        // an exchange is another request's as soon as its own has ended
        lock (this)
        {
            _seen = true;
            return _ended || IsOfClients ? null : Facts();
        }
    }

    LiveStreamFacts Facts()
    {
        var (exchange, time) = (_exchange, _streams.Time);
        var age = time.GetElapsedTime(StartTimestamp);
        LiveEventFacts? events = null;
        if (exchange.Events is { } counts)
        {
            var running = counts.FirstTimestamp == 0 ? 0 : time.GetElapsedTime(counts.FirstTimestamp).TotalSeconds;
            events = new(
                counts.Count, counts.FirstTimestamp == 0 ? null : time.GetElapsedTime(StartTimestamp, counts.FirstTimestamp),
                running < 1 ? counts.Count : counts.Count / running,
                counts.Count == 0 ? null : Last(counts), counts.MaxGap);
        }
        return new(
            Id, Kind, Mode, Phase, exchange.Route?.Id, exchange.Route?.Service?.Id, exchange.Consumer?.Username,
            $"{exchange.RemoteAddress}:{exchange.RemotePort}",
            exchange.Request.Protocol, exchange.Request.Method, ShownUri(exchange),
            exchange.Upstream.NodeIp is { } ip ? $"{ip}:{exchange.Upstream.NodePort}" : null,
            _streams.WallClock(StartTimestamp), age,
            Body is { FirstByteTimestamp: > 0 and var first } ? time.GetElapsedTime(StartTimestamp, first) : null,
            Body?.BytesSent ?? 0, Body?.BytesReceived ?? 0, IsSlow, Idle(), events, _observers?.Count ?? 0,
            Queue, Body?.Heartbeats ?? 0, exchange.StreamEndsAt == 0 ? null : time.GetElapsedTime(StartTimestamp, exchange.StreamEndsAt),
            exchange.Topic?.Mark);
    }

    (TimeSpan Ago, string? Name, string? Id, int Bytes)? Last(EventCounts counts)
    {
        var (name, id) = Kind == StreamKind.Sse ? counts.LastNames() : default;
        // an id of the gateway's own names the stream to whoever may read on
        id = id is not null && _exchange.Topic is { Id: var secret } && id.StartsWith(secret, StringComparison.Ordinal)
            ? id[(secret.Length + 1)..] : id;
        return (_streams.Time.GetElapsedTime(counts.LastTimestamp), name, id, counts.LastBytes);
    }

    TimeSpan Idle() => _streams.Time.GetElapsedTime(LastTimestamp);

    long LastTimestamp => _exchange.Events?.LastTimestamp is > 0 and var counted ? counted
        : _exchange.Events is null && Body?.LastByteTimestamp is > 0 and var last ? last : StartTimestamp;

    /// <summary>The path, and the names of the arguments: their values may be secrets.</summary>
    static string ShownUri(Exchange exchange) => exchange.Args.Length == 0 ? exchange.Uri
        : $"{exchange.Uri}?{string.Join('&', exchange.Args.Split('&').Select(static pair => pair.IndexOf('=', StringComparison.Ordinal) is > 0 and var equals ? pair[..equals] + "=***" : "***"))}";

    /// <summary>Looks at its exchange while that is still its own; null when it has ended.</summary>
    internal T? Ask<T>(Func<Exchange, T?> look)
        where T : class
    {
        lock (this)
        {
            return _ended ? null : look(_exchange);
        }
    }

    /// <summary>How long nothing has come of it; null when it has ended.</summary>
    public TimeSpan? LookIdle()
    {
        lock (this)
        {
            return _ended ? null : Idle();
        }
    }

    /// <summary>What it is sorted by, when it is one of those that are meant.</summary>
    /// <param name="sources">So is an upstream's side, which is its clients' while there are any.</param>
    internal bool Matches(StreamFilter filter, StreamOrder order, bool sources, out long key)
    {
        key = 0;
        lock (this)
        {
            var exchange = _exchange;
            if (_ended
                || (!sources && IsOfClients)
                || (filter.Kind is { } kind && kind != Kind)
                || (filter.Route is { } route && route != (exchange.Route?.Id ?? ""))
                || (filter.Service is { } service && service != (exchange.Route?.Service?.Id ?? ""))
                || (filter.Consumer is { } consumer && consumer != (exchange.Consumer?.Username ?? ""))
                || (filter.Client is { } client && !client.Contains(exchange.RemoteAddress))
                || (filter.Phase is { } phase && phase != Phase)
                || (filter.Mode is { } mode && mode != Mode)
                || (filter.MinAge is { } age && _streams.Time.GetElapsedTime(StartTimestamp) < age)
                || (filter.Idle is { } idle && Idle() < idle)
                || (filter.Topic is { } topic && topic != (exchange.Topic?.Mark ?? ""))
                || (filter.Slow is { } slow && slow != IsSlow))
            {
                return false;
            }
            key = order switch
            {
                // ages grow together: what they began at does not change between two pages
                StreamOrder.Age => -StartTimestamp,
                StreamOrder.Idle => -LastTimestamp,
                StreamOrder.Events => exchange.Events?.Count ?? 0,
                // who holds nothing may be behind all the same
                StreamOrder.Queue => Queue.Bytes + (IsSlow ? 1 : 0),
                _ => Body?.BytesSent ?? 0,
            };
            return true;
        }
    }

    /// <summary>
    /// Ends it: with last words where its policy has some and they can be said, else the client sees an abort. The upstream is let go.
    /// False when it had ended.
    /// </summary>
    /// <param name="message">Why, for people.</param>
    /// <param name="reason">As <c>$sluice_failure</c> says it.</param>
    /// <param name="abort">Without a word, whatever the policy says.</param>
    /// <param name="words">What the client is told, in the place of the reason's own words; null: those.</param>
    /// <param name="retry">Milliseconds after which it is told to come back; null: what its policy says.</param>
    public bool Kill(string message, string reason = "killed", bool abort = false, string? words = null, long? retry = null)
    {
        lock (this)
        {
            if (_ended || _killed)
            {
                return false;
            }
            _killed = true;
            _exchange.Failure ??= new(FailureSource.Gateway, reason, message, StreamReason.Of(reason).Status);
            if (!abort && StreamEnding.MayHaveWords(_exchange))
            {
                _exchange.EndReason ??= reason;
                _exchange.EndMessage ??= words;
                _exchange.EndRetry ??= retry;
                if (Body?.TryEnd() == true)
                {
                    _ = CutLaterAsync(reason);
                    return true;
                }
            }
            _exchange.Http.Abort();
            if (_exchange.Scope.IgnoreClientAbort)
            {
                _source?.Abandon();
            }
            return true;
        }
    }

    /// <summary>Tells the meters what has come and gone since they were last told.</summary>
    internal void Tell()
    {
        lock (this)
        {
            if (!_ended && _exchange.StreamMeters is { } meters)
            {
                var (events, sent, received) = (_exchange.Events?.Count ?? 0, Body?.BytesSent ?? 0, Body?.BytesReceived ?? 0);
                if (_exchange.Detached is not null)
                {
                    // what goes to clients is counted with them
                    (events, sent) = (0, 0);
                }
                else if (_exchange.Topic is not null)
                {
                    // what came has come once, for all of them
                    received = 0;
                }
                meters.Events(events - _toldEvents);
                meters.Payload(received - _toldReceived, sent - _toldSent);
                (_toldEvents, _toldSent, _toldReceived) = (events, sent, received);
                meters.Heartbeats(Body?.TakeHeartbeats() ?? 0);
                meters.Dropped(_exchange.Streams?.SlowConsumer?.Policy ?? "block", Body?.TakeDropped() ?? 0);
            }
        }
    }

    /// <summary>Adds what waits for its client to what its route's meters are about to say.</summary>
    internal void TellWaiting()
    {
        lock (this)
        {
            if (!_ended && _exchange.StreamMeters is { } meters)
            {
                meters.Waiting(_exchange.Streams?.SlowConsumer?.Policy ?? "block", Queue.Bytes, IsSlow);
            }
        }
    }

    /// <summary>Cuts it off if it is still there after a while: a client that does not take the last of it is not waited for.</summary>
    internal async Task CutLaterAsync(string reason)
    {
        await Task.Delay(StreamEnding.LastWords, _streams.Time).ConfigureAwait(false);
        lock (this)
        {
            if (!_ended)
            {
                _exchange.Failure ??= new(FailureSource.Gateway, reason, "the client did not take the rest",
                    StreamReason.Of(reason).Status);
                _exchange.Http.Abort();
            }
        }
    }

    /// <summary>Lets an observer see the pieces from the next one on, until what is given back is disposed; null when the stream has
    /// ended.</summary>
    public IDisposable? Tap(IPieceObserver observer)
    {
        lock (this)
        {
            if (_ended)
            {
                return null;
            }
            _observers = new([.. _observers?.All ?? [], observer]);
            Body?.Observer = _observers;
            return new Tapped(this, observer);
        }
    }

    void Untap(IPieceObserver observer)
    {
        lock (this)
        {
            if (_observers is null || _ended)
            {
                return;
            }
            var rest = Array.FindAll(_observers.All, one => one != observer);
            _observers = rest.Length == 0 ? null : new(rest);
            Body?.Observer = _observers;
        }
    }

    /// <summary>It is under way no longer.</summary>
    public void Dispose()
    {
        Observers? observers;
        Tell();
        lock (this)
        {
            if (_ended)
            {
                return;
            }
            _last = Kind != StreamKind.Body || _seen ? Facts() : null;
            _ended = true;
            (observers, _observers) = (_observers, null);
        }
        _streams.Remove(this);
        observers?.OnPiece(default, last: true);
    }

    /// <summary>It is over, and why is known by now.</summary>
    internal void Conclude()
    {
        Dispose();
        if (_last is { } last && !_concluded)
        {
            _concluded = true;
            _streams.Keep(last with { Ended = _streams.Time.GetUtcNow(), Reason = _exchange.StreamEnd });
        }
    }

    /// <summary>By the response's head, as it is now.</summary>
    internal static StreamKind KindOf(Exchange exchange)
    {
        if (exchange.OpensTunnel || exchange.Response.StatusCode == 101)
        {
            return exchange.ExtendedConnect is not null
                || exchange.Request.Headers.Upgrade.ToString().Equals("websocket", StringComparison.OrdinalIgnoreCase)
                ? StreamKind.WebSocket : StreamKind.Tunnel;
        }
        var type = (exchange.Response.ContentType ?? "").AsSpan();
        return Is(type, "text/event-stream") ? StreamKind.Sse
            : Is(type, "application/grpc") && !Is(type, "application/grpc-web-text") ? StreamKind.Grpc
            : Is(type, "application/vnd.amazon.eventstream") ? StreamKind.EventStream
            : Is(type, "application/x-ndjson") || Is(type, "application/jsonl") || Is(type, "application/ndjson")
            || Is(type, "application/stream+json") ? StreamKind.Ndjson
            : StreamKind.Body;
    }

    static bool Is(ReadOnlySpan<char> type, string other) => type.StartsWith(other, StringComparison.OrdinalIgnoreCase);

    // -- What the relay asks

    BodySpool IRelayOwner.OpenSpool()
    {
        var scope = _exchange.Scope;
        return _spool = new(
            new(scope.ProxyBuffersNumber, scope.ProxyBuffersSize, scope.ProxyMaxTempFileSize,
                scope.ProxyTempPath ?? _exchange.Services.TemporaryDirectory),
            failure => LogNoFile(_exchange.Services.Loggers.CreateLogger<LiveStream>(), _exchange.Route?.Id, failure.Message));
    }

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "route {Route}: the upstream waits for the client, as its response cannot be spooled: {Detail}")]
    static partial void LogNoFile(ILogger logger, string? route, string detail);

    ValueTask IRelayOwner.SourceEndedAsync() => _source?.EndedAsync() ?? ValueTask.CompletedTask;

    void IRelayOwner.ClientStalled()
    {
        _exchange.Failure ??= new(FailureSource.Client, "send_timeout", "the client took nothing for the whole send_timeout", 408);
        _exchange.Http.Abort();
    }

    sealed class Tapped(LiveStream stream, IPieceObserver observer) : IDisposable
    {
        public void Dispose() => stream.Untap(observer);
    }

    /// <summary>One after the other; one that fails is its own problem, never the stream's.</summary>
    sealed class Observers(IPieceObserver[] all) : IPieceObserver
    {
        public IPieceObserver[] All => all;

        public int Count => all.Length;

        public void OnPiece(ReadOnlySpan<byte> piece, bool last)
        {
            foreach (var observer in all)
            {
                try
                {
                    observer.OnPiece(piece, last);
                }
                catch (Exception)
                {
                    // it looks on, it has no say
                }
            }
        }
    }
}

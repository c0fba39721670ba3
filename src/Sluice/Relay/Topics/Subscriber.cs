using System.Threading.Tasks.Sources;
using Sluice.Net;
using Sluice.Net.Epoll;

namespace Sluice.Relay.Topics;

/// <summary>
/// One client's place in a topic: what is kept from there on, then what comes, in one row, so that nothing is lost or doubled where the two
/// meet. It is the body of that client's response.
/// </summary>
internal sealed class Subscriber : IBodySource, IValueTaskSource, IDisposable
{
    readonly Topic _topic;
    readonly EventLoop? _loop;

    /// <summary>What came before and is no unit was for those who were there.</summary>
    readonly long _joined;

    ManualResetValueTaskSourceCore<bool> _signal;
    bool _isWaiting, _isOver;
    UpstreamFailureKind? _aborted;
    TopicEnd? _evicted;
    ReadOnlyMemory<byte> _rest;
    long _number;

    internal Subscriber(Topic topic, long next, long joined, long number, ReadOnlyMemory<byte> lead, EventLoop? loop)
    {
        (_topic, Next, _joined, _number, _rest, _loop) = (topic, next, joined, number, lead, loop);
        _signal.RunContinuationsAsynchronously = false;
    }

    /// <summary>Told once, when the topic broke off and all that is kept was given.</summary>
    public Action<TopicEnd>? BrokeOff { get; set; }

    /// <summary>Counts the units that are given; null: nobody does.</summary>
    public IUnitCounter? Counter { get; set; }

    /// <summary>The sequence of the entry that is given next.</summary>
    internal long Next { get; private set; }

    public BodyFraming Framing => new(BodyKind.Chunked, 0);

    public bool Ended => _isOver;

    public ValueTask WaitReadableAsync()
    {
        lock (_topic.Gate)
        {
            if (HasSomething)
            {
                return ValueTask.CompletedTask;
            }
            _signal.Reset();
            _isWaiting = true;
            return new(this, _signal.Version);
        }
    }

    /// <summary>Within the topic's lock.</summary>
    bool HasSomething => !_rest.IsEmpty || _aborted is not null || _evicted is not null || Next < _topic.History.NextSequence
        || _topic.End is not null;

    public async ValueTask<int> ReadAsync(Memory<byte> destination)
    {
        while (true)
        {
            TopicEnd? end;
            lock (_topic.Gate)
            {
                var given = Fill(destination.Span);
                if (given > 0)
                {
                    _topic.HasRead();
                    return given;
                }
                end = _evicted ?? _topic.End;
                if (_aborted is { } reason)
                {
                    throw new UpstreamException(reason);
                }
            }
            if (end is null)
            {
                await WaitReadableAsync();
                continue;
            }
            _isOver = true;
            if (end.IsComplete)
            {
                return 0;
            }
            BrokeOff?.Invoke(end);
            throw new UpstreamException(UpstreamFailureKind.Shutdown, end.Detail);
        }
    }

    int Fill(Span<byte> destination)
    {
        var given = 0;
        while (given < destination.Length)
        {
            if (_rest.IsEmpty && !TakeNext())
            {
                break;
            }
            var part = Math.Min(_rest.Length, destination.Length - given);
            _rest.Span[..part].CopyTo(destination[given..]);
            _rest = _rest[part..];
            given += part;
        }
        return given;
    }

    bool TakeNext()
    {
        var history = _topic.History;
        if (_evicted is not null || _aborted is not null)
        {
            return false;
        }
        if (Next < history.FirstSequence)
        {
            // the tail was cut under a client that is there
            Next = history.FirstSequence;
            if (history.FirstNumber > _number + 1)
            {
                _rest = EventBytes.Gap("expired", _number + 1, history.FirstNumber - 1);
                _number = history.FirstNumber - 1;
                return true;
            }
        }
        while (Next < history.NextSequence)
        {
            var entry = history[Next++];
            if (entry.Kind != EntryKind.Passage || entry.Sequence >= _joined)
            {
                (_rest, _number) = (entry.Raw, entry.Number);
                if (entry.Kind == EntryKind.Unit)
                {
                    Counter?.Show(_rest.Span, isFirst: true);
                    Counter?.Add(1, _rest.Length);
                }
                return true;
            }
        }
        return false;
    }

    internal void Evict()
    {
        lock (_topic.Gate)
        {
            _evicted = TopicEnd.Evicted;
        }
        Wake();
    }

    public void Abort(UpstreamFailureKind reason)
    {
        lock (_topic.Gate)
        {
            _aborted ??= reason;
        }
        Wake();
    }

    /// <summary>There may be something to read. On the client's own loop, where it has one; never on the stack of who calls.</summary>
    internal void Wake()
    {
        lock (_topic.Gate)
        {
            if (!_isWaiting)
            {
                return;
            }
            _isWaiting = false;
        }
        if (_loop is not null)
        {
            _loop.Post(static self => ((Subscriber)self!)._signal.SetResult(true), this);
        }
        else
        {
            ThreadPool.UnsafeQueueUserWorkItem(static self => self._signal.SetResult(true), this, preferLocal: false);
        }
    }

    /// <summary>The client has gone, or has it all.</summary>
    public void Dispose() => _topic.Leave(this);

    void IValueTaskSource.GetResult(short token) => _signal.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _signal.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _signal.OnCompleted(continuation, state, token, flags);
}

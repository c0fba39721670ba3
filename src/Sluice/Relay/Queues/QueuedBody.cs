using System.Buffers;
using System.Runtime.ExceptionServices;
using System.Threading.Tasks.Sources;
using Sluice.Net;
using Sluice.Net.Epoll;

namespace Sluice.Relay.Queues;

/// <summary>
/// A body whose source is read at its own pace, whatever the client takes: between the two stands a queue of whole units. The filters of
/// the body run here, before the queue.
/// </summary>
sealed class QueuedBody(IBodySource inner, IPieceFilter? filters, IEventFramer framer, UnitQueue queue, IUnitCounter counter) : IBodySource,
    IValueTaskSource
{
    const int PieceSize = 16 * 1024;

    /// <summary>So many pieces, and others have their turn.</summary>
    const int Turn = 32;

    readonly Lock _gate = new();
    readonly ArrayBufferWriter<byte>? _passed = filters is null ? null : new();
    ManualResetValueTaskSourceCore<bool> _signal;
    Task _reading = Task.CompletedTask;
    StreamClock? _clock;
    IdleDeadline? _silence;
    TimeSpan _readTimeout;
    Exception? _failure;
    bool _hasBegun, _isWaiting, _hasEnded, _isOver, _isClosed;
    long _received;
    int _inRow;             // pieces that were not waited for

    /// <summary>Called once, when the client is too slow for its stream; what is thrown then ends the stream.</summary>
    public Func<Exception>? TooSlow { get; init; }

    /// <summary>Called once, for a unit that is larger than units may be.</summary>
    public Func<Exception>? TooLarge { get; init; }

    /// <summary>Bytes that have come from the source.</summary>
    public long Received => Volatile.Read(ref _received);

    public IBodySource Source => inner;

    public bool Holds => filters?.Holds == true;

    public QueueFacts Facts
    {
        get
        {
            lock (_gate)
            {
                return new(queue.Bytes, queue.Units, queue.Dropped);
            }
        }
    }

    /// <summary>Units that were dropped and that nobody has asked for yet.</summary>
    public long TakeDropped()
    {
        lock (_gate)
        {
            var more = queue.Dropped - _told;
            _told = queue.Dropped;
            return more;
        }
    }

    long _told;

    /// <summary>Nobody is promised a length of which parts may be dropped.</summary>
    public BodyFraming Framing => new(BodyKind.CloseDelimited);

    public bool Ended => _isOver;

    // -- The source

    /// <summary>What measures the source's silence. It is read from when somebody first waits for something.</summary>
    public void Measure(StreamClock? clock, IdleDeadline silence, TimeSpan readTimeout) =>
        (_clock, _silence, _readTimeout) = (clock, silence, readTimeout);

    async Task ReadSourceAsync()
    {
        Exception? failure = null;
        try
        {
            Resume();
            while (true)
            {
                var readable = inner.WaitReadableAsync();
                _inRow = readable.IsCompleted ? _inRow + 1 : 0;
                await readable;
                var buffer = ArrayPool<byte>.Shared.Rent(PieceSize);
                try
                {
                    if (!Took(buffer, await inner.ReadAsync(buffer.AsMemory(0, PieceSize))))
                    {
                        break;
                    }
                }
                finally
                {
                    ArrayPool<byte>.Shared.Return(buffer);
                }
                if (_inRow == Turn)
                {
                    _inRow = 0;
                    await EventLoop.Later();
                }
            }
        }
        catch (Exception e)
        {
            failure = e;
        }
        Pause();
        framer.Dispose();
        lock (_gate)
        {
            _failure ??= failure;
            _hasEnded = true;
        }
        Wake();
    }

    /// <summary>Passes on what was read; false at the end.</summary>
    bool Took(byte[] buffer, int read)
    {
        if (read > 0)
        {
            var now = _silence!.Touch();
            _clock?.Read(now);
            Volatile.Write(ref _received, _received + read);
        }
        Pass(buffer.AsMemory(0, read), last: read == 0);
        if (read > 0 && filters?.Ended == true)
        {
            // what the source still sends is nobody's
            inner.Abort(UpstreamFailureKind.Shutdown);
            Pass(default, last: true);
            return false;
        }
        return read > 0;
    }

    void Pass(ReadOnlyMemory<byte> piece, bool last)
    {
        if (filters is not null)
        {
            _passed!.ResetWrittenCount();
            filters.Filter(piece, last, _passed);
            piece = _passed.WrittenMemory;
        }
        if (!piece.IsEmpty)
        {
            framer.Push(piece);
            Add();
        }
        if (last)
        {
            framer.End();
            Add();
        }
        Wake();
    }

    void Add()
    {
        while (framer.TryRead(out var frame))
        {
            if (frame.Kind == FrameKind.TooLarge)
            {
                throw TooLarge!();
            }
            bool wakes;
            lock (_gate)
            {
                wakes = _isWaiting && queue.MayDropFor(frame.Raw.Length);
            }
            if (wakes)
            {
                // the client keeps up: it has what there is before anything is dropped
                Wake();
            }
            lock (_gate)
            {
                if (_isClosed)
                {
                    return;
                }
                if (queue.TryAdd(frame.Raw.Span, frame.Kind == FrameKind.Event))
                {
                    continue;
                }
                queue.Dispose();
            }
            var failure = TooSlow!();
            inner.Abort(UpstreamFailureKind.Shutdown);
            throw failure;
        }
    }

    void Resume()
    {
        if (_clock is { } clock)
        {
            clock.Resume();
        }
        else
        {
            _silence!.Start(_readTimeout);
        }
    }

    void Pause()
    {
        if (_clock is { } clock)
        {
            clock.Pause();
        }
        else
        {
            _silence!.Stop();
        }
    }

    // -- The client

    public ValueTask WaitReadableAsync()
    {
        lock (_gate)
        {
            if (!queue.IsEmpty || _hasEnded)
            {
                return default;
            }
            _signal.Reset();
            _isWaiting = true;
            return new(this, _signal.Version);
        }
    }

    void Wake()
    {
        lock (_gate)
        {
            if (!_isWaiting || (queue.IsEmpty && !_hasEnded))
            {
                return;
            }
            _isWaiting = false;
        }
        _signal.SetResult(true);
    }

    public ValueTask<int> ReadAsync(Memory<byte> destination)
    {
        lock (_gate)
        {
            if (TryRead(destination.Span) is >= 0 and var read)
            {
                return new(read);
            }
        }
        return ReadLaterAsync(destination);
    }

    async ValueTask<int> ReadLaterAsync(Memory<byte> destination)
    {
        while (true)
        {
            await WaitReadableAsync();
            lock (_gate)
            {
                if (TryRead(destination.Span) is >= 0 and var read)
                {
                    return read;
                }
            }
        }
    }

    /// <summary>-1: there is nothing now.</summary>
    int TryRead(Span<byte> destination)
    {
        if (queue.Fill(destination, counter) is > 0 and var read)
        {
            return read;
        }
        if (!_hasEnded)
        {
            return -1;
        }
        if (_failure is { } failure)
        {
            ExceptionDispatchInfo.Throw(failure);
        }
        _isOver = true;
        return 0;
    }

    public void Abort(UpstreamFailureKind reason)
    {
        lock (_gate)
        {
            if (!_isOver)
            {
                _failure ??= new UpstreamException(reason);
                _hasEnded = true;
            }
        }
        inner.Abort(reason);
        Wake();
    }

    /// <summary>Nobody reads any more; what waits goes.</summary>
    public async ValueTask CloseAsync()
    {
        if (!_hasEnded)
        {
            inner.Abort(UpstreamFailureKind.ClientGone);
        }
        lock (_gate)
        {
            _isClosed = true;
            queue.Dispose();
        }
        await _reading;
    }

    void IValueTaskSource.GetResult(short token) => _signal.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _signal.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags)
    {
        _signal.OnCompleted(continuation, state, token, flags & ~ValueTaskSourceOnCompletedFlags.UseSchedulingContext);
        if (!_hasBegun)
        {
            // whoever waits is there by now: nothing is dropped only because it had no turn
            _hasBegun = true;
            _reading = ReadSourceAsync();
        }
    }
}

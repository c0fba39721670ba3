using System.Buffers;
using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;
using Sluice.Net;
using Sluice.Net.Epoll;

namespace Sluice.Relay.Queues;

/// <summary>A body that is given no faster than it may be; its source is read no faster than that. The filters of the body run here,
/// before.</summary>
/// <param name="framer">Cuts it into units; null: nobody counts them.</param>
/// <param name="units">How many units; null: as many as come.</param>
/// <param name="bytes">How many bytes; null: as many as come.</param>
/// <param name="counter">Told of each unit that goes on; null: nobody counts them here.</param>
/// <param name="tooFast">Called when there is more than there may be, and gives what ends the stream; null: what is too much waits.</param>
sealed class PacedBody(
    IBodySource inner, IPieceFilter? filters, IEventFramer? framer, TokenBucket? units, TokenBucket? bytes, IUnitCounter? counter,
    Func<Exception>? tooFast, TimeProvider time,
    EventLoop? loop) : IBodySource, IValueTaskSource, IDisposable
{
    const int PieceSize = 16 * 1024;

    readonly ArrayBufferWriter<byte> _pending = new(), _passed = new();
    readonly Queue<(int Length, bool IsUnit)> _parts = [];
    readonly Lock _gate = new();
    ManualResetValueTaskSourceCore<bool> _signal;
    CancellationTokenRegistration _clientGone;
    ITimer? _timer;
    IdleDeadline? _silence;
    StreamClock? _clock;
    TimeSpan _readTimeout;
    UpstreamFailureKind? _aborted;
    int _at, _partAt;
    bool _isWaiting, _isRead;

    public IBodySource Source => inner;

    public bool Holds => filters?.Holds == true;

    public BodyFraming Framing => filters is null && framer is null ? inner.Framing : new(BodyKind.CloseDelimited);

    public bool Ended => _isRead && _parts.Count == 0;

    /// <summary>What measures the source's silence, which is not held against it while it may not go on.</summary>
    public void Measure(IdleDeadline silence, StreamClock? clock, TimeSpan readTimeout) =>
        (_silence, _clock, _readTimeout) = (silence, clock, readTimeout);

    public void Follow(CancellationToken clientGone) =>
        _clientGone = clientGone.UnsafeRegister(static body => ((PacedBody)body!).Abort(UpstreamFailureKind.ClientGone), this);

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask WaitReadableAsync()
    {
        while (true)
        {
            if (_aborted is { } reason)
            {
                throw new UpstreamException(reason);
            }
            if (_parts.Count > 0)
            {
                var wait = Wait();
                if (wait <= TimeSpan.Zero)
                {
                    return;
                }
                if (tooFast is not null)
                {
                    var failure = tooFast();
                    inner.Abort(UpstreamFailureKind.Shutdown);
                    throw failure;
                }
                Pause();
                await DelayAsync(wait);
                Resume();
                continue;
            }
            if (_isRead)
            {
                return;
            }
            await inner.WaitReadableAsync();
            var buffer = ArrayPool<byte>.Shared.Rent(PieceSize);
            try
            {
                Took(buffer, await inner.ReadAsync(buffer.AsMemory(0, PieceSize)));
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<int> ReadAsync(Memory<byte> destination)
    {
        await WaitReadableAsync();
        return Give(destination.Span);
    }

    // -- What has come

    void Took(byte[] buffer, int read)
    {
        _pending.ResetWrittenCount();
        _at = 0;
        Pass(buffer.AsMemory(0, read), last: read == 0);
        _isRead = read == 0;
        if (read > 0 && filters?.Ended == true)
        {
            // what the source still sends is nobody's
            inner.Abort(UpstreamFailureKind.Shutdown);
            Pass(default, last: true);
            _isRead = true;
        }
    }

    void Pass(ReadOnlyMemory<byte> piece, bool last)
    {
        if (filters is not null)
        {
            _passed.ResetWrittenCount();
            filters.Filter(piece, last, _passed);
            piece = _passed.WrittenMemory;
        }
        if (framer is null)
        {
            Add(piece.Span, isUnit: false);
            return;
        }
        if (!piece.IsEmpty)
        {
            framer.Push(piece);
            Cut();
        }
        if (last)
        {
            framer.End();
            Cut();
        }
    }

    void Cut()
    {
        while (framer!.TryRead(out var frame))
        {
            Add(frame.Raw.Span, frame.Kind == FrameKind.Event);
        }
    }

    void Add(ReadOnlySpan<byte> part, bool isUnit)
    {
        if (!part.IsEmpty)
        {
            _pending.Write(part);
            _parts.Enqueue((part.Length, isUnit));
        }
    }

    // -- What may go on

    /// <summary>How long the next byte has to wait.</summary>
    TimeSpan Wait()
    {
        var (length, isUnit) = _parts.Peek();
        var wait = units is not null && isUnit && _partAt == 0 ? units.Until(1) : TimeSpan.Zero;
        if (bytes is not null && bytes.Tokens < 1)
        {
            // not byte by byte: a twentieth of a second's at least
            var some = bytes.Until(Math.Min(Math.Min(length - _partAt, bytes.Burst), Math.Max(1, bytes.PerSecond / 20)));
            wait = some > wait ? some : wait;
        }
        return wait;
    }

    int Give(Span<byte> destination)
    {
        var given = 0;
        while (given < destination.Length && _parts.Count > 0)
        {
            var (length, isUnit) = _parts.Peek();
            if (units is not null && isUnit && _partAt == 0)
            {
                if (units.Tokens < 1 - 1e-9)
                {
                    break;
                }
                units.Take(1);
            }
            if (isUnit && _partAt == 0)
            {
                counter?.Show(_pending.WrittenSpan.Slice(_at, length), isFirst: true);
                counter?.Add(1, length);
            }
            var part = Math.Min(length - _partAt, destination.Length - given);
            if (bytes is not null)
            {
                part = (int)Math.Min(part, bytes.Tokens);
                bytes.Take(part);
            }
            if (part == 0)
            {
                break;
            }
            _pending.WrittenSpan.Slice(_at, part).CopyTo(destination[given..]);
            (_at, _partAt, given) = (_at + part, _partAt + part, given + part);
            if (_partAt == length)
            {
                _parts.Dequeue();
                _partAt = 0;
            }
        }
        return given;
    }

    // -- Time

    ValueTask DelayAsync(TimeSpan wait)
    {
        lock (_gate)
        {
            _signal.Reset();
            _isWaiting = true;
            // rounded up: who comes a tick early has to wait again
            wait = TimeSpan.FromMilliseconds(Math.Ceiling(wait.TotalMilliseconds));
            if (_timer is null)
            {
                using var flow = ExecutionContext.IsFlowSuppressed() ? default : ExecutionContext.SuppressFlow();
                _timer = time.CreateTimer(static body => ((PacedBody)body!).Wake(), this, wait, Timeout.InfiniteTimeSpan);
            }
            else
            {
                _timer.Change(wait, Timeout.InfiniteTimeSpan);
            }
        }
        return _aborted is null ? new(this, _signal.Version) : default;
    }

    void Wake()
    {
        lock (_gate)
        {
            if (!_isWaiting)
            {
                return;
            }
            _isWaiting = false;
        }
        if (loop is { IsCurrent: false })
        {
            loop.Post(static body => ((PacedBody)body!)._signal.SetResult(true), this);
        }
        else
        {
            _signal.SetResult(true);
        }
    }

    void Pause()
    {
        if (inner is QueuedBody)
        {
            return;
        }
        if (_clock is { } clock)
        {
            clock.Pause();
        }
        else
        {
            _silence?.Stop();
        }
    }

    void Resume()
    {
        if (inner is QueuedBody)
        {
            return;
        }
        if (_clock is { } clock)
        {
            clock.Resume();
        }
        else
        {
            _silence?.Start(_readTimeout);
        }
    }

    public void Abort(UpstreamFailureKind reason)
    {
        _aborted ??= reason;
        inner.Abort(reason);
        Wake();
    }

    public void Dispose()
    {
        _clientGone.Dispose();
        _timer?.Dispose();
        framer?.Dispose();
    }

    void IValueTaskSource.GetResult(short token) => _signal.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _signal.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _signal.OnCompleted(continuation, state, token, flags & ~ValueTaskSourceOnCompletedFlags.UseSchedulingContext);
}

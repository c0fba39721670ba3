using System.Diagnostics;
using Sluice.Net.Epoll;

namespace Sluice.Net;

/// <summary>
/// A limit on silence (<c>proxy_read_timeout</c>, <c>send_timeout</c>): the callback runs when <see cref="Touch"/> was not called for the
/// whole time. An event costs a reading of the clock and one volatile write; the timer looks at the last touch when it falls due and arms
/// itself for the rest. Start and Stop leave a timer that is already running alone where they can. Made on an event loop, it uses the
/// loop's coarse timers.
/// </summary>
/// <remarks>The callback runs on the timer's thread or loop. It may still be running when <see cref="Stop"/> returns, but does not begin
/// after it.</remarks>
public sealed class IdleDeadline : WheelTimer, IDisposable
{
    static readonly TimeSpan Longest = TimeSpan.FromDays(45);

    readonly TimeProvider _time;
    readonly Action<object?> _expire;
    readonly object? _state;
    readonly EventLoop? _loop;
    ITimer? _timer;
    long _touched;
    long _limit;            // ticks of the clock; 0 = stopped
    long _due;              // when the timer fires; 0 = not armed
    bool _disposed;

    /// <param name="loop">Whose timers to use; null: those of the loop that this runs on, or of the clock.</param>
    internal IdleDeadline(TimeProvider time, Action<object?> expire, object? state = null, EventLoop? loop = null)
    {
        _time = time;
        _expire = expire;
        _state = state;
        // a clock that is not the system's must be asked itself
        _loop = time == TimeProvider.System ? loop ?? EventLoop.Current : null;
    }

    /// <summary>Whether the limit was reached since the last <see cref="Start"/>: tells a timeout from other cancellations.</summary>
    public bool Expired { get; private set; }

    /// <summary>Something happened: the silence begins anew. Gives the clock's timestamp, on a loop that of its round.</summary>
    public long Touch()
    {
        var now = Now;
        Volatile.Write(ref _touched, now);
        return now;
    }

    long Now => _loop is { IsCurrent: true } ? _loop.Now : _time.GetTimestamp();

    /// <summary>Begins to watch, or goes on with another limit. Zero, negative and infinite mean no limit.</summary>
    public void Start(TimeSpan limit)
    {
        if (limit <= TimeSpan.Zero)
        {
            Stop();
            return;
        }
        lock (this)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            Touch();
            Expired = false;
            _limit = ToClock(limit < Longest ? limit : Longest);
            var end = _touched + _limit;
            if (_due == 0 || _due > end)
            {
                Arm(end, _touched);
            }
        }
    }

    public void Stop()
    {
        lock (this) { _limit = 0; }
    }

    public void Dispose()
    {
        lock (this)
        {
            _disposed = true;
            _limit = 0;
            _timer?.Dispose();
            _timer = null;
            _loop?.Remove(this);
        }
    }

    protected internal override void Due() => Fire();

    void Fire()
    {
        lock (this)
        {
            _due = 0;
            if (_limit == 0)
            {
                return;
            }
            var now = _time.GetTimestamp();
            var end = Volatile.Read(ref _touched) + _limit;
            if (end > now)
            {
                Arm(end, now);
                return;
            }
            _limit = 0;
            Expired = true;
        }
        _expire(_state);
    }

    void Arm(long end, long now)
    {
        _due = end;
        if (_loop is not null)
        {
            _loop.Set(this, end);
            return;
        }
        // rounded up: a timer that comes a tick early would have to be armed again
        var wait = TimeSpan.FromMilliseconds(Math.Ceiling(_time.GetElapsedTime(now, end).TotalMilliseconds));
        if (_timer is null)
        {
            // the timer must not keep the request's async context (its activity, its log scopes) alive
            using var flow = ExecutionContext.IsFlowSuppressed() ? default : ExecutionContext.SuppressFlow();
            _timer = _time.CreateTimer(static self => ((IdleDeadline)self!).Fire(), this, wait, Timeout.InfiniteTimeSpan);
        }
        else
        {
            _timer.Change(wait, Timeout.InfiniteTimeSpan);
        }
    }

    long ToClock(TimeSpan limit) => (long)(limit.TotalSeconds * _time.TimestampFrequency);
}

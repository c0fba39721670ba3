using Sluice.Net.Epoll;

namespace Sluice.Relay;

/// <summary>What ends a stream that took too long.</summary>
enum StreamLimit
{
    Idle,
    FirstEvent,
    EventIdle,
    MaxDuration,
    Send,
}

/// <summary>The limits of a stream; zero or less = none.</summary>
/// <param name="Idle">Silence of the upstream, while the gateway does not wait for the client.</param>
/// <param name="FirstEvent">From the response's head to the first unit.</param>
/// <param name="EventIdle">Between two units, while the gateway does not wait for the client.</param>
/// <param name="Send">The client takes nothing of what waits for it.</param>
/// <param name="Heartbeat">Silence towards the client after which it gets a heartbeat.</param>
readonly record struct StreamLimits(TimeSpan Idle, TimeSpan FirstEvent, TimeSpan EventIdle, TimeSpan Send, TimeSpan Heartbeat)
{
    /// <summary>Timestamp at which the stream has to be over; 0: never.</summary>
    public long EndsAt { get; init; }

    /// <summary>There are no units: the first byte stands for the first.</summary>
    public bool BytesAreUnits { get; init; }
}

/// <summary>Whom a clock tells.</summary>
interface IStreamClockOwner
{
    /// <summary>Once at most; on the clock's loop or a thread of the pool.</summary>
    void LimitReached(StreamLimit limit);

    void HeartbeatDue();
}

/// <summary>All limits of one stream, and its heartbeat, behind one timer. A piece costs one or two field writes; the timer looks at them
/// when it falls due.</summary>
sealed class StreamClock : WheelTimer, IDisposable
{
    static readonly TimeSpan Longest = TimeSpan.FromDays(45);

    readonly TimeProvider _time;
    readonly EventLoop? _loop;
    readonly StreamLimits _limits;
    IStreamClockOwner? _owner;
    ITimer? _timer;
    long _began, _read, _unit, _sent, _beat;
    long _pausedAt = 1;     // not zero: the upstream is not waited for
    long _clientWaits;      // since when; 0: nothing waits for the client
    bool _over;
    int _heartbeats, _told;
    long _paused;

    public StreamClock(TimeProvider time, in StreamLimits limits)
    {
        (_time, _limits) = (time, limits);
        // a clock that is not the system's must be asked itself
        _loop = time == TimeProvider.System ? EventLoop.Current : null;
        _began = _read = _sent = Now;
    }

    public bool Beats => _limits.Heartbeat > TimeSpan.Zero;

    long Now => _loop is { IsCurrent: true } ? _loop.Now : _time.GetTimestamp();

    public void Start(IStreamClockOwner owner)
    {
        lock (this)
        {
            _owner = owner;
            Arm(_time.GetTimestamp());
        }
    }

    /// <summary>Heartbeats that went to the client.</summary>
    public int Heartbeats => Volatile.Read(ref _heartbeats);

    /// <summary>Those that nobody has asked for yet.</summary>
    public int TakeHeartbeats()
    {
        var now = Heartbeats;
        return now - Interlocked.Exchange(ref _told, now);
    }

    /// <summary>Time in which the upstream was not read because the client was behind.</summary>
    public TimeSpan Paused => _time.GetElapsedTime(0, Volatile.Read(ref _paused));

    // -- What happens to the stream

    /// <summary>A heartbeat went to the client.</summary>
    public void Beaten() => Interlocked.Increment(ref _heartbeats);

    /// <summary>Something came from the upstream.</summary>
    public void Read(long now)
    {
        Volatile.Write(ref _read, now);
        if (_limits.BytesAreUnits && _unit == 0)
        {
            _unit = now;
        }
    }

    /// <summary>A unit is complete.</summary>
    public void Unit()
    {
        var now = Now;
        var isFirst = _unit == 0;
        Volatile.Write(ref _unit, now);
        if (isFirst && _limits.EventIdle > TimeSpan.Zero)
        {
            // what was waited for until now may be further away than the next one may be
            lock (this)
            {
                Rearm(now);
            }
        }
    }

    /// <summary>Something went to the client.</summary>
    public void Sent() => Volatile.Write(ref _sent, Now);

    /// <summary>The upstream is waited for (again).</summary>
    public void Resume()
    {
        lock (this)
        {
            var now = Now;
            if (_pausedAt > 1)
            {
                _paused += now - _pausedAt;
                _unit += _unit == 0 ? 0 : now - _pausedAt;
            }
            (_read, _pausedAt) = (now, 0);
            Rearm(now);
        }
    }

    /// <summary>The upstream is not waited for.</summary>
    public void Pause()
    {
        lock (this)
        {
            _pausedAt = Now;
        }
    }

    public void ClientWaits()
    {
        lock (this)
        {
            _clientWaits = Now;
            Rearm(_clientWaits);
        }
    }

    public void ClientTook()
    {
        lock (this)
        {
            _clientWaits = 0;
        }
        Sent();
    }

    public void Dispose()
    {
        lock (this)
        {
            _over = true;
            _owner = null;
            _timer?.Dispose();
            _loop?.Remove(this);
        }
    }

    // -- The timer

    protected internal override void Due() => Fire();

    void Fire()
    {
        IStreamClockOwner owner;
        StreamLimit? reached = null;
        lock (this)
        {
            if (_over || _owner is null)
            {
                return;
            }
            owner = _owner;
            var now = _time.GetTimestamp();
            var (due, limit) = Coming();
            if (due > now)
            {
                Arm(now);
                return;
            }
            if (limit is { } over)
            {
                _over = true;
                reached = over;
            }
            else
            {
                // said or not: the next is an interval away
                _beat = now;
                Arm(now);
            }
        }
        if (reached is { } end)
        {
            owner.LimitReached(end);
        }
        else
        {
            owner.HeartbeatDue();
        }
    }

    /// <summary>What comes next, and when; no limit: a heartbeat, or, far away, nothing at all.</summary>
    (long Due, StreamLimit? Limit) Coming()
    {
        (long Due, StreamLimit? Limit) next = (long.MaxValue, null);
        var (read, unit) = (Volatile.Read(ref _read), Volatile.Read(ref _unit));
        if (_limits.EndsAt != 0)
        {
            next = (_limits.EndsAt, StreamLimit.MaxDuration);
        }
        if (_pausedAt == 0)
        {
            Take(read, _limits.Idle, StreamLimit.Idle);
            if (unit != 0)
            {
                Take(unit, _limits.EventIdle, StreamLimit.EventIdle);
            }
        }
        if (unit == 0)
        {
            Take(_began, _limits.FirstEvent, StreamLimit.FirstEvent);
        }
        if (_clientWaits != 0)
        {
            Take(_clientWaits, _limits.Send, StreamLimit.Send);
        }
        Take(Math.Max(_beat, Volatile.Read(ref _sent)), _limits.Heartbeat, null);
        return next;

        void Take(long since, TimeSpan limit, StreamLimit? which)
        {
            if (limit > TimeSpan.Zero && since + ToClock(limit) is var due && due < next.Due)
            {
                next = (due, which);
            }
        }
    }

    long _armed;

    void Rearm(long now)
    {
        if (_owner is not null && !_over && (_armed == 0 || Coming().Due < _armed))
        {
            Arm(now);
        }
    }

    void Arm(long now)
    {
        var (due, _) = Coming();
        if (due == long.MaxValue)
        {
            _armed = 0;
            return;
        }
        _armed = due;
        if (_loop is not null)
        {
            _loop.Set(this, due);
            return;
        }
        // rounded up: a timer that comes a tick early would have to be armed again
        var wait = TimeSpan.FromMilliseconds(Math.Max(0, Math.Ceiling(_time.GetElapsedTime(now, due).TotalMilliseconds)));
        if (_timer is null)
        {
            // the timer must not keep the request's async context (its activity, its log scopes) alive
            using var flow = ExecutionContext.IsFlowSuppressed() ? default : ExecutionContext.SuppressFlow();
            _timer = _time.CreateTimer(static self => ((StreamClock)self!).Fire(), this, wait, Timeout.InfiniteTimeSpan);
        }
        else
        {
            _timer.Change(wait, Timeout.InfiniteTimeSpan);
        }
    }

    long ToClock(TimeSpan limit) => (long)((limit < Longest ? limit : Longest).TotalSeconds * _time.TimestampFrequency);
}

namespace Sluice.Net.Epoll;

/// <summary>Something that falls due on a loop. Belongs to at most one wheel; arming it again moves it.</summary>
public abstract class WheelTimer
{
    internal WheelTimer? Previous, Next;
    internal int Slot = -1;
    internal long Tick;

    /// <summary>Taken off the wheel and not called yet.</summary>
    internal bool Falls;

    /// <summary>Runs on the loop.</summary>
    protected internal abstract void Due();
}

/// <summary>
/// Coarse timers: thousands of them cost a linked list each, and nothing per event. A timer falls due up to two ticks late, never early.
/// Setting and removing may be done from any thread.
/// </summary>
sealed class TimerWheel(long now, Func<long, long> toTicks)
{
    const int Slots = 1024;

    readonly Lock _lock = new();
    readonly WheelTimer?[] _slots = new WheelTimer?[Slots];
    long _current = toTicks(now);
    long _next = long.MaxValue;

    int _count;

    /// <summary>How many timers are armed.</summary>
    public int Count => Volatile.Read(ref _count);

    public const int TickMilliseconds = 50;

    /// <summary>Arms the timer for a time of the loop's clock.</summary>
    /// <returns>Whether it is now the first to fall due: a sleeping loop has to look at its clock anew.</returns>
    public bool Set(WheelTimer timer, long due)
    {
        lock (_lock)
        {
            Unlink(timer);
            timer.Tick = Math.Max(toTicks(due) + 1, _current + 1);
            Link(timer);
            if (timer.Tick >= _next)
            {
                return false;
            }
            _next = timer.Tick;
            return true;
        }
    }

    /// <summary>The timer does not fall due any more; one that is being called already still runs.</summary>
    public void Remove(WheelTimer timer)
    {
        lock (_lock)
        {
            Unlink(timer);
        }
    }

    /// <summary>How long the loop may sleep; -1: as long as it likes.</summary>
    public int Sleep(long now)
    {
        var next = Volatile.Read(ref _next);
        return next == long.MaxValue ? -1 : (int)Math.Clamp((next - toTicks(now)) * TickMilliseconds, 0, 60_000);
    }

    /// <summary>Calls everything that has fallen due.</summary>
    public void Advance(long now)
    {
        var until = toTicks(now);
        if (until < Volatile.Read(ref _next))
        {
            return;
        }
        List<WheelTimer>? due = null;
        lock (_lock)
        {
            // after a long sleep each slot is looked at once
            for (var tick = Math.Max(_current + 1, until - Slots + 1); tick <= until; tick++)
            {
                Collect(tick, until, ref due);
            }
            _current = until;
            _next = FindNext();
        }
        if (due is not null)
        {
            Call(due);
        }
    }

    /// <summary>One that an earlier one armed anew or removed is not called; one that fails does not keep the others from it.</summary>
    void Call(List<WheelTimer> due)
    {
        List<Exception>? failures = null;
        foreach (var timer in due)
        {
            lock (_lock)
            {
                if (!timer.Falls)
                {
                    continue;
                }
                timer.Falls = false;
            }
            try
            {
                timer.Due();
            }
            catch (Exception e)
            {
                (failures ??= []).Add(e);
            }
        }
        if (failures is not null)
        {
            throw new AggregateException(failures);
        }
    }

    void Collect(long tick, long until, ref List<WheelTimer>? due)
    {
        for (var timer = _slots[tick & (Slots - 1)]; timer is not null;)
        {
            var following = timer.Next;
            if (timer.Tick <= until)
            {
                Unlink(timer);
                timer.Falls = true;
                (due ??= []).Add(timer);
            }
            timer = following;
        }
    }

    /// <summary>The next tick with a timer; a slot may hold timers of a later turn, so the tick itself is asked.</summary>
    long FindNext()
    {
        for (var tick = _current + 1; tick <= _current + Slots; tick++)
        {
            if (_slots[tick & (Slots - 1)] is not null)
            {
                return tick;
            }
        }
        return long.MaxValue;
    }

    void Link(WheelTimer timer)
    {
        timer.Slot = (int)(timer.Tick & (Slots - 1));
        timer.Next = _slots[timer.Slot];
        timer.Next?.Previous = timer;
        _slots[timer.Slot] = timer;
        _count++;
    }

    void Unlink(WheelTimer timer)
    {
        timer.Falls = false;
        if (timer.Slot < 0)
        {
            return;
        }
        if (timer.Previous is { } previous)
        {
            previous.Next = timer.Next;
        }
        else
        {
            _slots[timer.Slot] = timer.Next;
        }
        timer.Next?.Previous = timer.Previous;
        timer.Previous = timer.Next = null;
        timer.Slot = -1;
        _count--;
    }
}

using CsCheck;
using Sluice.Net.Epoll;

namespace Sluice.Tests.Net.Epoll;

/// <summary>Times are milliseconds here.</summary>
public class TimerWheelTests
{
    const long Begin = 1_000_000;

    readonly TimerWheel _wheel = New();
    long _now = Begin;

    static TimerWheel New() => new(Begin, static time => time / TimerWheel.TickMilliseconds);

    sealed class Timer(Action<Timer>? act = null) : WheelTimer
    {
        public int Calls { get; private set; }

        protected internal override void Due()
        {
            Calls++;
            act?.Invoke(this);
        }
    }

    void Advance(long by) => _wheel.Advance(_now += by);

    [Fact]
    public void A_timer_falls_due_once_never_early_and_at_most_two_ticks_late() =>
        Gen.Select(Gen.Long[0, 200_000], Gen.Long[1, 7_000].Array[1, 60]).Sample((after, steps) =>
        {
            var wheel = New();
            var timer = new Timer();
            wheel.Set(timer, Begin + after);
            var now = Begin;
            foreach (var step in steps)
            {
                wheel.Advance(now += step);
                var overdue = now - Begin - after;
                Assert.True(overdue >= 0 || timer.Calls == 0, "early");
                Assert.True(overdue <= 2 * TimerWheel.TickMilliseconds || timer.Calls == 1, "late");
                Assert.InRange(timer.Calls, 0, 1);
            }
        });

    [Fact]
    public void The_loop_sleeps_until_the_first_timer_and_for_ever_without_one()
    {
        Assert.Equal(-1, _wheel.Sleep(_now));
        Assert.True(_wheel.Set(new Timer(), _now + 500));
        Assert.False(_wheel.Set(new Timer(), _now + 5_000));
        Assert.InRange(_wheel.Sleep(_now), 500, 600);
        Assert.Equal(0, _wheel.Sleep(_now + 10_000));
    }

    [Fact]
    public void Arming_again_moves_a_timer_and_removing_it_silences_it()
    {
        var (moved, removed) = (new Timer(), new Timer());
        _wheel.Set(moved, _now + 100);
        _wheel.Set(removed, _now + 100);
        _wheel.Set(moved, _now + 1_000);
        _wheel.Remove(removed);
        _wheel.Remove(removed);
        Advance(500);
        Assert.Equal(0, moved.Calls);
        Advance(700);
        Assert.Equal((1, 0), (moved.Calls, removed.Calls));
    }

    [Fact]
    public void After_a_sleep_of_many_turns_everything_due_falls_and_the_rest_waits()
    {
        var timers = Enumerable.Range(0, 300).Select(_ => new Timer()).ToArray();
        for (var i = 0; i < timers.Length; i++)
        {
            _wheel.Set(timers[i], _now + (i * 1_000L));
        }
        Advance(200_100);
        Assert.All(timers[..200], timer => Assert.Equal(1, timer.Calls));
        Assert.All(timers[202..], timer => Assert.Equal(0, timer.Calls));
        Advance(200_000);
        Assert.All(timers, timer => Assert.Equal(1, timer.Calls));
        Assert.Equal(-1, _wheel.Sleep(_now));
    }

    [Fact]
    public void A_timer_that_another_one_moves_or_removes_in_the_same_moment_does_not_fall()
    {
        var others = new List<Timer>();
        var first = new Timer(self =>
        {
            _wheel.Set(others.Find(timer => timer != self)!, _now + 10_000);
            _wheel.Remove(others.FindLast(timer => timer != self)!);
        });
        others.AddRange([first, new(), new()]);
        // the last one set is called first
        foreach (var timer in Enumerable.Reverse(others))
        {
            _wheel.Set(timer, _now + 100);
        }
        Advance(1_000);
        Assert.Equal([1, 0, 0], others.Select(timer => timer.Calls));
        Advance(10_200);
        Assert.Equal([1, 1, 0], others.Select(timer => timer.Calls));
    }

    [Fact]
    public void A_timer_may_arm_itself_again_and_one_that_fails_does_not_stop_the_others()
    {
        var again = new Timer(self => _wheel.Set(self, _now + 100));
        var fails = new Timer(_ => throw new InvalidOperationException("a bug"));
        var last = new Timer();
        foreach (var timer in new[] { last, fails, again })
        {
            _wheel.Set(timer, _now + 100);
        }
        Assert.Throws<AggregateException>(() => Advance(300));
        Advance(300);
        Assert.Equal((2, 1, 1), (again.Calls, fails.Calls, last.Calls));
    }
}

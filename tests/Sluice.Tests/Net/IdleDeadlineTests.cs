using Sluice.Net;

namespace Sluice.Tests.Net;

public class IdleDeadlineTests
{
    readonly FakeTime _time = new();
    int _expired;

    IdleDeadline Deadline() => new(_time, _ => _expired++);

    [Fact]
    public void Silence_longer_than_the_limit_expires_once()
    {
        using var deadline = Deadline();
        deadline.Start(TimeSpan.FromSeconds(60));
        _time.Advance(TimeSpan.FromSeconds(59));
        Assert.Equal(0, _expired);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(1, _expired);
        Assert.True(deadline.Expired);
        _time.Advance(TimeSpan.FromHours(1));
        Assert.Equal(1, _expired);
    }

    [Fact]
    public void A_touch_gives_the_whole_limit_again_without_touching_the_timer()
    {
        using var deadline = Deadline();
        deadline.Start(TimeSpan.FromSeconds(10));
        for (var i = 0; i < 100; i++)
        {
            _time.Advance(TimeSpan.FromSeconds(1));
            deadline.Touch();
        }
        Assert.Equal(0, _expired);
        Assert.InRange(_time.TimerChanges, 1, 15);
        _time.Advance(TimeSpan.FromSeconds(9.9));
        Assert.Equal(0, _expired);
        _time.Advance(TimeSpan.FromSeconds(0.1));
        Assert.Equal(1, _expired);
    }

    [Fact]
    public void A_stopped_deadline_never_expires_and_can_start_again()
    {
        using var deadline = Deadline();
        deadline.Start(TimeSpan.FromSeconds(10));
        deadline.Stop();
        _time.Advance(TimeSpan.FromSeconds(100));
        Assert.Equal(0, _expired);
        deadline.Start(TimeSpan.FromSeconds(5));
        _time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal(1, _expired);
    }

    [Fact]
    public void A_shorter_limit_comes_into_force_at_once()
    {
        using var deadline = Deadline();
        deadline.Start(TimeSpan.FromSeconds(60));
        deadline.Start(TimeSpan.FromSeconds(1));
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(1, _expired);
    }

    [Fact]
    public void Starting_and_stopping_per_read_leaves_the_running_timer_alone()
    {
        using var deadline = Deadline();
        for (var i = 0; i < 1000; i++)
        {
            deadline.Start(TimeSpan.FromSeconds(60));
            deadline.Stop();
        }
        Assert.Equal(1, _time.TimerChanges);
    }

    [Fact]
    public void Zero_and_infinite_mean_no_limit_and_a_disposed_deadline_is_silent()
    {
        var deadline = Deadline();
        deadline.Start(TimeSpan.Zero);
        deadline.Start(Timeout.InfiniteTimeSpan);
        _time.Advance(TimeSpan.FromDays(1));
        deadline.Start(TimeSpan.FromSeconds(1));
        deadline.Dispose();
        _time.Advance(TimeSpan.FromDays(1));
        Assert.Equal(0, _expired);
        Assert.Equal(0, _time.ArmedTimers);
    }
}

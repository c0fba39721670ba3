using Sluice.Relay;

namespace Sluice.Tests.Relay.Live;

/// <summary>All limits of a stream and its heartbeat, on a clock that the test moves.</summary>
public sealed class StreamClockTests : IStreamClockOwner, IDisposable
{
    readonly FakeTime _time = new();
    readonly List<string> _told = [];
    StreamClock? _clock;
    DateTimeOffset _began;

    public void Dispose() => _clock?.Dispose();

    void IStreamClockOwner.LimitReached(StreamLimit limit) => Tell(limit.ToString());

    void IStreamClockOwner.HeartbeatDue() => Tell("heartbeat");

    void Tell(string what) => _told.Add($"{what} {(_time.GetUtcNow() - _began).TotalSeconds:0.###}");

    static TimeSpan Seconds(double seconds) => TimeSpan.FromSeconds(seconds);

    /// <summary>A stream whose head is out and whose upstream is waited for.</summary>
    StreamClock Start(double idle = 0, double firstEvent = 0, double eventIdle = 0, double send = 0, double heartbeat = 0,
        double endsAt = 0, bool bytesAreUnits = false)
    {
        _began = _time.GetUtcNow();
        _clock = new(_time,
            new StreamLimits(Idle: Seconds(idle), FirstEvent: Seconds(firstEvent), EventIdle: Seconds(eventIdle), Send: Seconds(send),
                Heartbeat: Seconds(heartbeat))
        {
            EndsAt = endsAt == 0 ? 0 : _time.GetTimestamp() + Seconds(endsAt).Ticks,
            BytesAreUnits = bytesAreUnits,
        });
        _clock.Start(this);
        _clock.Resume();
        return _clock;
    }

    void After(double seconds) => _time.Advance(Seconds(seconds));

    /// <summary>So often, so many seconds apart.</summary>
    void Each(double seconds, int times, Action happens)
    {
        for (var i = 0; i < times; i++)
        {
            After(seconds);
            happens();
        }
    }

    [Fact]
    public void Without_progress_each_limit_is_reached_at_its_moment_and_told_once()
    {
        (Action Begin, string Told)[] all =
        [
            (() => Start(idle: 2), "Idle 2"), (() => Start(firstEvent: 3), "FirstEvent 3"), (() => Start(endsAt: 4), "MaxDuration 4"),
            (() => Start(eventIdle: 1.5).Unit(), "EventIdle 1.5"), (() => Start(send: 2.5).ClientWaits(), "Send 2.5"),
            // the first that is reached, whatever else there is
            (() => Start(idle: 5, firstEvent: 2, eventIdle: 3, endsAt: 4, send: 9), "FirstEvent 2"),
        ];
        foreach (var (begin, told) in all)
        {
            _told.Clear();
            begin();
            After(100);
            Assert.Equal([told], _told);
            _clock!.Dispose();
        }
    }

    [Fact]
    public void Any_byte_is_progress_for_idle_and_only_units_are_for_events()
    {
        var clock = Start(idle: 2, firstEvent: 5);
        Each(1, 4, () => clock.Read(_time.GetTimestamp()));
        After(10);
        // comments keep it from being idle, and are no event
        Assert.Equal(["FirstEvent 5"], _told);

        _told.Clear();
        clock = Start(eventIdle: 3);
        clock.Unit();
        Each(1, 2, () => clock.Read(_time.GetTimestamp()));
        After(0.5);
        clock.Unit();
        After(10);
        Assert.Equal(["EventIdle 5.5"], _told);
    }

    [Fact]
    public void Where_there_are_no_units_the_first_byte_stands_for_the_first()
    {
        var clock = Start(firstEvent: 2, bytesAreUnits: true);
        After(1);
        clock.Read(_time.GetTimestamp());
        After(100);
        Assert.Empty(_told);
    }

    [Fact]
    public void The_gateways_own_heartbeats_are_progress_of_nothing()
    {
        var clock = Start(idle: 5, heartbeat: 2);
        Each(2, 2, clock.Sent);
        After(10);
        Assert.Equal(["heartbeat 2", "heartbeat 4", "Idle 5"], _told);
    }

    [Fact]
    public void Heartbeats_come_an_interval_after_the_last_byte_and_go_on_whether_one_was_said_or_not()
    {
        var clock = Start(heartbeat: 15);
        After(14);
        clock.Sent();
        After(14.9);
        Assert.Empty(_told);
        After(0.1);
        After(15);
        After(15);
        Assert.Equal(["heartbeat 29", "heartbeat 44", "heartbeat 59"], _told);
    }

    [Fact]
    public void While_the_client_is_waited_for_the_upstreams_silence_does_not_count()
    {
        var clock = Start(idle: 2, eventIdle: 4, send: 20);
        clock.Unit();
        clock.Pause();
        clock.ClientWaits();
        After(10);
        clock.ClientTook();
        clock.Resume();
        Assert.Equal(Seconds(10), clock.Paused);
        After(1.9);
        clock.Read(_time.GetTimestamp());
        After(1.9);
        Assert.Empty(_told);
        clock.Read(_time.GetTimestamp());
        After(1);
        // of the events' four seconds ten did not count
        Assert.Equal(["EventIdle 14"], _told);
    }

    [Fact]
    public void But_the_stream_is_over_when_it_has_to_be()
    {
        var clock = Start(idle: 2, endsAt: 5);
        clock.Pause();
        After(10);
        Assert.Equal(["MaxDuration 5"], _told);
    }

    [Fact]
    public void A_stream_that_has_ended_hears_nothing_and_leaves_no_timer()
    {
        Start(idle: 2, heartbeat: 1).Dispose();
        After(100);
        Assert.Empty(_told);
        Assert.Equal(0, _time.ArmedTimers);
    }

    [Fact]
    public void What_passes_changes_no_timer()
    {
        var clock = Start(idle: 60, eventIdle: 60, heartbeat: 60, send: 60);
        var before = _time.TimerChanges;
        for (var i = 0; i < 1000; i++)
        {
            clock.Read(_time.GetTimestamp());
            clock.Unit();
            clock.Sent();
        }
        Assert.Equal(before, _time.TimerChanges);
        Assert.Equal(0, Allocation.Of(() =>
        {
            clock.Read(_time.GetTimestamp());
            clock.Unit();
            clock.Sent();
        }));
    }

    [Fact]
    public void Heartbeats_are_counted_and_told_once()
    {
        var clock = Start(heartbeat: 1);
        clock.Beaten();
        clock.Beaten();
        Assert.Equal((2, 2, 0, 2), (clock.Heartbeats, clock.TakeHeartbeats(), clock.TakeHeartbeats(), clock.Heartbeats));
    }
}

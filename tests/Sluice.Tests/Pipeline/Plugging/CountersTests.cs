using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline.Plugging;

public sealed class CountersTests
{
    static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);

    // a whole minute since 1970
    readonly FakeTime _time = new(new DateTimeOffset(2026, 11, 23, 12, 0, 0, TimeSpan.Zero));
    readonly LocalCounters _counters;

    public CountersTests() => _counters = new(_time);

    async Task<Quota> FixedAsync(long cost = 1) =>
        await _counters.Fixed.TakeAsync("k", 10, Minute, cost, TestContext.Current.CancellationToken);

    async Task<Quota> SlidingAsync(long cost = 1) =>
        await _counters.Sliding.TakeAsync("k", 10, Minute, cost, TestContext.Current.CancellationToken);

    [Fact]
    public async Task A_fixed_window_begins_with_its_first_request()
    {
        _time.Advance(TimeSpan.FromSeconds(30));
        Assert.Equal(new(true, 9, Minute), await FixedAsync());
        _time.Advance(TimeSpan.FromSeconds(59));
        Assert.Equal(new(true, 8, TimeSpan.FromSeconds(1)), await FixedAsync());
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(new(true, 9, Minute), await FixedAsync());
    }

    [Fact]
    public async Task What_costs_more_than_is_left_takes_nothing()
    {
        Assert.Equal((true, 3), (await FixedAsync(7)) is var first ? (first.Granted, first.Remaining) : default);
        Assert.False((await FixedAsync(4)).Granted);
        Assert.Equal((true, 0), (await FixedAsync(3)) is var last ? (last.Granted, last.Remaining) : default);
        Assert.Equal((true, 0), (await FixedAsync(0)) is var look ? (look.Granted, look.Remaining) : default);
    }

    [Fact]
    public async Task Looking_begins_no_window()
    {
        Assert.Equal(10, (await FixedAsync(0)).Remaining);
        _time.Advance(TimeSpan.FromSeconds(30));
        Assert.Equal(Minute, (await FixedAsync()).Reset);
    }

    [Fact]
    public async Task A_sliding_window_remembers_the_last_one()
    {
        for (var i = 0; i < 10; i++)
        {
            Assert.True((await SlidingAsync()).Granted);
        }
        Assert.Equal(new(false, 0, Minute), await SlidingAsync());
        _time.Advance(Minute);
        // all of the last minute's ten count still
        Assert.False((await SlidingAsync()).Granted);
        _time.Advance(TimeSpan.FromSeconds(30));
        // half of them
        Assert.Equal(new(true, 4, TimeSpan.FromSeconds(30)), await SlidingAsync());
        for (var i = 0; i < 4; i++)
        {
            Assert.True((await SlidingAsync()).Granted);
        }
        // the next is free when the ten have shrunk from five to below five
        Assert.Equal(new(false, 0, TimeSpan.Zero), await SlidingAsync());
        _time.Advance(Minute + Minute);
        Assert.Equal(9, (await SlidingAsync()).Remaining);
    }
}

using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline.Live;

public class LiveStreamsTests
{
    [Fact]
    public async Task Those_that_stay_are_in_every_list_while_others_come_and_go()
    {
        const int Staying = 5000, Rounds = 40;
        var snapshot = TestExchange.Compile([]);
        var live = new LiveStreams(TimeProvider.System);
        var ids = Enumerable.Range(0, Staying).Select(_ => live.Add(TestExchange.Of(snapshot, "http://a/"), null).Number).ToHashSet();
        using var over = new CancellationTokenSource();
        var passed = 0;
        var passing = Enumerable.Range(0, 4).Select(_ => Task.Run(() =>
        {
            while (!over.IsCancellationRequested)
            {
                using var stream = live.Add(TestExchange.Of(snapshot, "http://a/"), null);
                Interlocked.Increment(ref passed);
            }
        })).ToArray();
        // however late the others get to run
        for (var i = 0; i < Rounds || Volatile.Read(ref passed) <= Rounds; i++)
        {
            var list = live.List();
            Assert.Equal(list.Count, list.Select(static stream => stream.Number).Distinct().Count());
            Assert.Equal(Staying, list.Count(stream => ids.Contains(stream.Number)));
        }
        await over.CancelAsync();
        await Task.WhenAll(passing);
        Assert.Equal(Staying, live.Count);
        Assert.Equal(Staying, live.List().Count);
    }

    [Fact]
    public void When_it_began_is_the_same_at_every_look()
    {
        var time = new FakeTime();
        var live = new LiveStreams(time);
        var began = time.GetUtcNow();
        var timestamp = time.GetTimestamp();
        time.Advance(TimeSpan.FromHours(1));
        Assert.Equal(began, live.WallClock(timestamp));
    }
}

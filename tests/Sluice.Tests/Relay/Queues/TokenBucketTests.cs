using Sluice.Relay.Queues;

namespace Sluice.Tests.Relay.Queues;

public class TokenBucketTests
{
    [Theory]
    [InlineData(0.5, 1)]
    [InlineData(10, 1)]
    [InlineData(10, 30)]
    [InlineData(1e6, 16384)]
    public void So_many_pass_in_a_time_and_so_many_at_once(double perSecond, double burst)
    {
        var time = new FakeTime();
        var bucket = new TokenBucket(perSecond, burst, time);
        var taken = 0.0;
        var step = burst < 100 ? 1 : 1000;
        for (var began = time.GetTimestamp(); time.GetElapsedTime(began) < TimeSpan.FromSeconds(10);)
        {
            if (bucket.Until(step) is var wait && wait > TimeSpan.Zero)
            {
                time.Advance(wait + TimeSpan.FromTicks(1));
            }
            bucket.Take(step);
            taken += step;
            Assert.True(taken <= burst + (time.GetElapsedTime(began).TotalSeconds * perSecond) + 1e-3);
        }
        Assert.InRange(taken, (10 * perSecond * 0.98) + burst - step, (10 * perSecond * 1.02) + burst + step);
    }
}

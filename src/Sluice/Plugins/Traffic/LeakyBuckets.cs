using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Buckets by key that leak a request each so and so long, as lua-resty-limit-traffic's <c>resty.limit.req</c> counts. As bounded
/// as counters are.</summary>
sealed class LeakyBuckets(TimeProvider time, int capacity = FixedCounters.DefaultCapacity) : BoundedCounters<LeakyBuckets.Bucket>(capacity)
{
    public sealed class Bucket : Counter
    {
        /// <summary>Requests beyond the rate, in thousandths.</summary>
        public double Excess { get; set; }

        /// <summary>Of the last request that passed; 0: there was none.</summary>
        public long Last { get; set; }

        /// <summary>When it has run empty.</summary>
        public long Ends { get; set; }
    }

    /// <summary>How many requests there are before this one; null: more than the burst, and it is none of them.</summary>
    public double? Add(string key, double rate, double burst)
    {
        var quota = Take(key, (long)Math.Min(burst * 1000, long.MaxValue / 2), TimeSpan.FromSeconds(Math.Min(1 / rate, 1e10)));
        return quota.Granted ? quota.Remaining / 1000.0 : null;
    }

    protected override bool IsOver(Bucket counter) => counter.Ends <= time.GetTimestamp();

    /// <param name="limit">The burst in thousandths.</param>
    /// <param name="window">What one request takes.</param>
    protected override Quota Take(Bucket counter, long limit, TimeSpan window, long cost)
    {
        var now = time.GetTimestamp();
        var excess = counter.Last == 0
            ? 0
            : Math.Max(counter.Excess - (time.GetElapsedTime(counter.Last, now) / window * 1000) + (cost * 1000), 0);
        if (excess > limit)
        {
            return new(false, (long)excess, default);
        }
        (counter.Excess, counter.Last) = (excess, now);
        counter.Ends = now + (long)Math.Min(((excess / 1000) + 1) * window.TotalSeconds * time.TimestampFrequency, long.MaxValue / 4);
        return new(true, (long)Math.Ceiling(excess), default);
    }
}

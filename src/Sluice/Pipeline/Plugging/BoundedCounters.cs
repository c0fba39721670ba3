using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;

namespace Sluice.Pipeline;

/// <summary>
/// Counters by key. Bounded: at most <paramref name="capacity"/> counters of at most a few hundred bytes; those that are over go first,
/// then any.
/// </summary>
abstract class BoundedCounters<TCounter>(int capacity)
    where TCounter : BoundedCounters<TCounter>.Counter, new()
{
    const int LongestKey = 128;
    const int FirstSweep = 1024;

    readonly ConcurrentDictionary<string, TCounter> _counters = new();
    readonly Lock _sweeping = new();
    int _count;
    int _sweepAt = Math.Min(FirstSweep, capacity);

    /// <summary>One key's count; locked while it is used.</summary>
    public class Counter
    {
        public bool Forgotten { get; set; }

        /// <summary>It was used since it was made.</summary>
        public bool Used { get; set; }
    }

    /// <summary>How many counters are kept.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>Nobody would miss it.</summary>
    protected abstract bool IsOver(TCounter counter);

    protected abstract Quota Take(TCounter counter, long limit, TimeSpan window, long cost);

    /// <summary>Takes from the quota of a key.</summary>
    public Quota Take(string key, long limit, TimeSpan window, long cost = 1)
    {
        key = Bounded(key);
        while (true)
        {
            var counter = _counters.TryGetValue(key, out var known) ? known : Add(key);
            lock (counter)
            {
                if (counter.Forgotten)
                {
                    continue;
                }
                counter.Used = true;
                return Take(counter, limit, window, cost);
            }
        }
    }

    TCounter Add(string key)
    {
        if (Count >= Volatile.Read(ref _sweepAt))
        {
            Sweep();
        }
        var fresh = new TCounter();
        var counter = _counters.GetOrAdd(key, fresh);
        if (ReferenceEquals(counter, fresh))
        {
            Interlocked.Increment(ref _count);
        }
        return counter;
    }

    void Sweep()
    {
        lock (_sweeping)
        {
            if (Count < _sweepAt)
            {
                return;
            }
            foreach (var pair in _counters)
            {
                Forget(pair, IsOver);
            }
            // still full: some have to go before their time, as in nginx's shared memory
            var tooMany = Count - capacity + (capacity / 16) + 1;
            if (Count >= capacity)
            {
                foreach (var pair in _counters.Take(tooMany))
                {
                    Forget(pair, static _ => true);
                }
            }
            Volatile.Write(ref _sweepAt, Math.Clamp(Count * 2, Math.Min(FirstSweep, capacity), capacity));
        }
    }

    void Forget(KeyValuePair<string, TCounter> pair, Func<TCounter, bool> which)
    {
        lock (pair.Value)
        {
            if (pair.Value.Used && which(pair.Value) && _counters.TryRemove(pair))
            {
                pair.Value.Forgotten = true;
                Interlocked.Decrement(ref _count);
            }
        }
    }

    /// <summary>Keys come from clients: a long one is kept as its hash.</summary>
    static string Bounded(string key) => key.Length <= LongestKey
        ? key
        : "sha256:" + Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(key)));
}

/// <summary>
/// Counters that start anew with each window, as lua-resty-limit-traffic's <c>resty.limit.count</c>: a window begins with the first request
/// after the last one ended.
/// </summary>
sealed class FixedCounters(TimeProvider time, int capacity = FixedCounters.DefaultCapacity)
    : BoundedCounters<FixedCounters.Window>(capacity), ICounters
{
    public const int DefaultCapacity = 1_000_000;

    public sealed class Window : Counter
    {
        public long Taken { get; set; }

        public long Ends { get; set; }
    }

    public ValueTask<Quota> TakeAsync(string key, long limit, TimeSpan window, long cost, CancellationToken cancellation) =>
        new(Take(key, limit, window, cost));

    protected override bool IsOver(Window counter) => counter.Ends <= time.GetTimestamp();

    protected override Quota Take(Window counter, long limit, TimeSpan window, long cost)
    {
        var now = time.GetTimestamp();
        if (counter.Ends <= now)
        {
            counter.Taken = 0;
            // one that only looks begins no window
            counter.Ends = cost == 0 ? now : now + (long)Math.Min(window.TotalSeconds * time.TimestampFrequency, long.MaxValue / 2);
        }
        // what was taken counts, whatever the limit was then: it may be another for each request
        var remaining = limit - counter.Taken - cost;
        if (remaining >= 0)
        {
            counter.Taken += cost;
        }
        return new(remaining >= 0, remaining, time.GetElapsedTime(now, counter.Ends));
    }
}

/// <summary>
/// Counters of windows that lie one after the other since 1970: what the last one took counts for as much as the present one has not run
/// yet. Who is refused is not counted.
/// </summary>
sealed class SlidingCounters(TimeProvider time, int capacity = FixedCounters.DefaultCapacity)
    : BoundedCounters<SlidingCounters.Windows>(capacity), ICounters
{
    public sealed class Windows : Counter
    {
        /// <summary>Which window is the present one.</summary>
        public long Number { get; set; }

        public long Present { get; set; }

        public long Last { get; set; }

        public double Ends { get; set; }
    }

    public ValueTask<Quota> TakeAsync(string key, long limit, TimeSpan window, long cost, CancellationToken cancellation) =>
        new(Take(key, limit, window, cost));

    double Now => (time.GetUtcNow() - DateTimeOffset.UnixEpoch).TotalSeconds;

    protected override bool IsOver(Windows counter) => counter.Ends <= Now;

    protected override Quota Take(Windows counter, long limit, TimeSpan window, long cost)
    {
        var (now, length) = (Now, window.TotalSeconds);
        var number = (long)Math.Floor(now / length);
        if (number != counter.Number)
        {
            (counter.Last, counter.Present, counter.Number) = (number == counter.Number + 1 ? counter.Present : 0, 0, number);
        }
        // the present window counts in the next one
        counter.Ends = (number + 2) * length;
        var left = length - (now - (number * length));
        var last = Math.Min(counter.Last, limit);
        var ofLast = last / length * left;
        if (counter.Present >= limit)
        {
            return new(false, 0, TimeSpan.FromSeconds(left));
        }
        if (ofLast + counter.Present >= limit)
        {
            // until the last window's part has shrunk to what is free
            var until = left - ((limit - counter.Present) * length / last);
            return new(false, 0, TimeSpan.FromSeconds(Math.Max(0, until)));
        }
        counter.Present += cost;
        return new(true, (long)Math.Floor(limit - counter.Present - ofLast), TimeSpan.FromSeconds(left));
    }
}

using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;

namespace Sluice.Plugins.Traffic;

/// <summary>
/// Counters that start anew with each window, as lua-resty-limit-traffic's <c>resty.limit.count</c>: a window begins with the first request
/// after the last one ended. Bounded: at most <paramref name="capacity"/> counters of at most a few hundred bytes; those whose window is over
/// go first, then any.
/// </summary>
sealed class FixedWindows(TimeProvider time, int capacity = FixedWindows.DefaultCapacity)
{
    public const int DefaultCapacity = 1_000_000;

    const int LongestKey = 128;
    const int FirstSweep = 1024;

    readonly ConcurrentDictionary<string, Window> _windows = new();
    readonly Lock _sweeping = new();
    int _count;
    int _sweepAt = Math.Min(FirstSweep, capacity);

    sealed class Window
    {
        public long Remaining;
        public long Ends;
        public bool Forgotten;
    }

    /// <summary>How many counters are kept.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>Takes one from the quota.</summary>
    /// <returns>What is left of it, below zero when there was nothing left; and when the window ends.</returns>
    public (long Remaining, TimeSpan Reset) Take(string key, long limit, TimeSpan length)
    {
        key = Bounded(key);
        while (true)
        {
            var window = _windows.TryGetValue(key, out var known) ? known : Add(key);
            lock (window)
            {
                if (window.Forgotten)
                {
                    continue;
                }
                var now = time.GetTimestamp();
                if (window.Ends <= now)
                {
                    window.Remaining = limit;
                    window.Ends = now + (long)Math.Min(length.TotalSeconds * time.TimestampFrequency, long.MaxValue / 2);
                }
                window.Remaining--;
                return (window.Remaining, time.GetElapsedTime(now, window.Ends));
            }
        }
    }

    Window Add(string key)
    {
        if (Count >= Volatile.Read(ref _sweepAt))
        {
            Sweep();
        }
        var fresh = new Window();
        var window = _windows.GetOrAdd(key, fresh);
        if (ReferenceEquals(window, fresh))
        {
            Interlocked.Increment(ref _count);
        }
        return window;
    }

    void Sweep()
    {
        lock (_sweeping)
        {
            if (Count < _sweepAt)
            {
                return;
            }
            var now = time.GetTimestamp();
            foreach (var pair in _windows)
            {
                Forget(pair, window => window.Ends <= now);
            }
            // still full: some have to go before their time, as in nginx's shared memory
            var tooMany = Count - capacity + (capacity / 16) + 1;
            if (Count >= capacity)
            {
                foreach (var pair in _windows.Take(tooMany))
                {
                    Forget(pair, _ => true);
                }
            }
            Volatile.Write(ref _sweepAt, Math.Clamp(Count * 2, Math.Min(FirstSweep, capacity), capacity));
        }
    }

    void Forget(KeyValuePair<string, Window> pair, Func<Window, bool> which)
    {
        lock (pair.Value)
        {
            // Ends is 0 for one that was just made and not used yet
            if (pair.Value.Ends != 0 && which(pair.Value) && _windows.TryRemove(pair))
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

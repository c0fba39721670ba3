using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>
/// Quotas in Redis that are asked in this process and told to Redis every <c>sync_interval</c>: faster, and a little more than the limit
/// passes when several gateways count. While Redis is away each gateway counts for itself.
/// </summary>
sealed partial class DelayedCounters : ICounters, IAsyncDisposable
{
    /// <summary>So many keys are kept; those that come then are asked in Redis.</summary>
    const int MostKeys = 10_000;

    static readonly TimeSpan BetweenWarnings = TimeSpan.FromSeconds(10);

    readonly RedisCounters _redis;
    readonly TimeProvider _time;
    readonly ILogger _logger;
    readonly ITimer _timer;
    readonly ConcurrentDictionary<string, Entry> _entries = new();
    int _count;
    long _warned;
    Task _round = Task.CompletedTask;

    public DelayedCounters(RedisCounters redis, TimeSpan interval, PluginServices services)
    {
        _redis = redis;
        _time = services.Time;
        _logger = services.Loggers.CreateLogger<DelayedCounters>();
        _timer = _time.CreateTimer(_ => Tick(), null, interval, interval);
    }

    sealed class Entry
    {
        public long Limit { get; set; }

        public TimeSpan Window { get; set; }

        /// <summary>What Redis has said is left.</summary>
        public long Remaining { get; set; }

        /// <summary>What was taken here and Redis does not know yet.</summary>
        public long Delta { get; set; }

        /// <summary>When what Redis has said is over; 0: it was never asked.</summary>
        public long Ends { get; set; }

        public bool Forgotten { get; set; }

        public Task? Asking { get; set; }
    }

    public async ValueTask<Quota> TakeAsync(string key, long limit, TimeSpan window, long cost, CancellationToken cancellation)
    {
        while (true)
        {
            if (!_entries.TryGetValue(key, out var entry))
            {
                if (Volatile.Read(ref _count) >= MostKeys)
                {
                    Warn();
                    return await _redis.TakeAsync(key, limit, window, cost, cancellation);
                }
                var fresh = new Entry();
                entry = _entries.GetOrAdd(key, fresh);
                if (ReferenceEquals(entry, fresh))
                {
                    Interlocked.Increment(ref _count);
                }
            }
            Task asking;
            lock (entry)
            {
                if (entry.Forgotten)
                {
                    continue;
                }
                // of another limit than before the same is used
                entry.Remaining += entry.Ends == 0 ? 0 : limit - entry.Limit;
                (entry.Limit, entry.Window) = (limit, window);
                var now = _time.GetTimestamp();
                if (entry.Ends > now)
                {
                    var remaining = entry.Remaining - entry.Delta - cost;
                    if (remaining >= 0)
                    {
                        entry.Delta += cost;
                    }
                    return new(remaining >= 0, remaining, _time.GetElapsedTime(now, entry.Ends));
                }
                asking = entry.Asking ??= TellAsync(key, entry);
            }
            await asking;
        }
    }

    /// <summary>Tells Redis what was taken, and learns what is left.</summary>
    async Task TellAsync(string key, Entry entry)
    {
        await Task.Yield();
        long delta, limit;
        TimeSpan window;
        lock (entry)
        {
            (delta, limit, window) = (entry.Delta, entry.Limit, entry.Window);
        }
        // the answer may be old when it is looked at
        var asked = _time.GetTimestamp();
        try
        {
            var quota = await _redis.AddAsync(key, limit, window, delta);
            lock (entry)
            {
                entry.Delta -= delta;
                entry.Remaining = quota.Remaining + (entry.Limit - limit);
                entry.Ends = After(asked, quota.Reset);
                entry.Asking = null;
            }
        }
        catch (IOException e)
        {
            LogFailed(e.Message);
            lock (entry)
            {
                entry.Asking = null;
                if (entry.Ends <= _time.GetTimestamp())
                {
                    // a window of this process's own
                    entry.Remaining = entry.Limit;
                    entry.Delta = 0;
                    entry.Ends = After(_time.GetTimestamp(), entry.Window);
                }
            }
        }
    }

    long After(long start, TimeSpan time) => start + Math.Max(1, (long)(time.TotalSeconds * _time.TimestampFrequency));

    void Tick()
    {
        if (_round.IsCompleted)
        {
            _round = TellAllAsync();
        }
    }

    async Task TellAllAsync()
    {
        // all at once: they share a connection, which sends them one behind the other
        var telling = new List<Task>();
        foreach (var (key, entry) in _entries)
        {
            lock (entry)
            {
                if (entry.Delta > 0)
                {
                    telling.Add(entry.Asking ??= TellAsync(key, entry));
                }
                else if (entry.Asking is null && entry.Ends <= _time.GetTimestamp() && _entries.TryRemove(new(key, entry)))
                {
                    entry.Forgotten = true;
                    Interlocked.Decrement(ref _count);
                }
            }
        }
        await Task.WhenAll(telling);
    }

    void Warn()
    {
        var now = _time.GetTimestamp();
        var warned = Volatile.Read(ref _warned);
        if ((warned == 0 || _time.GetElapsedTime(warned, now) >= BetweenWarnings)
            && Interlocked.CompareExchange(ref _warned, now, warned) == warned)
        {
            LogSaturated(MostKeys);
        }
    }

    /// <summary>Redis learns what it does not know yet.</summary>
    public async ValueTask DisposeAsync()
    {
        await _timer.DisposeAsync();
        await _round;
        await TellAllAsync();
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "sync to redis failed: {Error}")]
    partial void LogFailed(string error);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "delayed-sync queue saturated, more than {Most} keys: the others ask Redis each time")]
    partial void LogSaturated(int most);
}

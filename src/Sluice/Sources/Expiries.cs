using System.Globalization;

namespace Sluice.Sources;

/// <summary>
/// When resources of the embedded store end (<c>?ttl=60</c>): etcd has leases for that, here a key of its own tells the time,
/// <c>/sluice/expiry/apisix/routes/r1</c>,
/// and goes with its resource.
/// </summary>
sealed class Expiries : IDisposable
{
    const string Root = "/sluice/expiry";

    static readonly TimeSpan LongestWait = TimeSpan.FromDays(1);

    readonly TimeProvider _time;
    readonly ITimer _timer;
    readonly Lock _lock = new();
    readonly Dictionary<string, DateTimeOffset> _ends = [];

    /// <param name="due">Told when something may have ended; asks <see cref="Ended"/> then.</param>
    public Expiries(TimeProvider time, Action due)
    {
        _time = time;
        _timer = time.CreateTimer(_ => due(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    public async Task LoadAsync(IKeyValueStore store, CancellationToken cancel)
    {
        var entries = (await store.ListAsync(Root + "/", cancel)).Entries;
        lock (_lock)
        {
            foreach (var entry in entries)
            {
                if (long.TryParse(entry.Value, CultureInfo.InvariantCulture, out var milliseconds))
                {
                    _ends[entry.Key[Root.Length..]] = DateTimeOffset.FromUnixTimeMilliseconds(milliseconds);
                }
            }
            Wait();
        }
    }

    /// <summary>What to write together with a resource, so that it ends or no longer does.</summary>
    public StoreOp Op(string key, TimeSpan? ttl) => ttl is { } given
        ? new StoreOp.Put(Root + key, (_time.GetUtcNow() + given).ToUnixTimeMilliseconds().ToString(CultureInfo.InvariantCulture))
        : new StoreOp.Delete(Root + key);

    /// <summary>That was written.</summary>
    public void Written(string key, TimeSpan? ttl)
    {
        lock (_lock)
        {
            if (ttl is { } given)
            {
                _ends[key] = _time.GetUtcNow() + given;
            }
            else if (!_ends.Remove(key))
            {
                return;
            }
            Wait();
        }
    }

    /// <summary>Keys of resources whose time is over.</summary>
    public IReadOnlyList<string> Ended()
    {
        var now = _time.GetUtcNow();
        lock (_lock)
        {
            Wait();
            return [.. _ends.Where(end => end.Value <= now).Select(end => end.Key)];
        }
    }

    void Wait()
    {
        if (_ends.Count == 0)
        {
            _timer.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            return;
        }
        var wait = _ends.Values.Min() - _time.GetUtcNow();
        // what could not be removed is tried again in a while
        _timer.Change(wait <= TimeSpan.Zero ? TimeSpan.FromSeconds(1) : wait < LongestWait ? wait + TimeSpan.FromMilliseconds(1)
            : LongestWait, Timeout.InfiniteTimeSpan);
    }

    public void Dispose() => _timer.Dispose();
}

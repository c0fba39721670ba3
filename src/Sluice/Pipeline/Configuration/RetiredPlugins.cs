namespace Sluice.Pipeline;

/// <summary>
/// Ends plugins when nobody can use them any more: one that came with snapshot a and is not in snapshot b is used by requests of the
/// snapshots from a to b - 1, and by no others. A stream that stays on an old snapshot holds up only what that snapshot has.
/// </summary>
sealed class RetiredPlugins
{
    readonly Lock _lock = new();
    readonly SortedSet<long> _inUse = [];
    readonly List<(PluginLife Life, long Gone)> _waiting = [];

    /// <summary>How many plugins have gone from the configuration and wait for requests to end.</summary>
    public int Waiting
    {
        get
        {
            lock (_lock)
            {
                return _waiting.Count;
            }
        }
    }

    /// <summary>A snapshot takes the place of another, in which there were <paramref name="gone"/> that are not in the new one.</summary>
    public void Published(Snapshot next, Snapshot? previous, IReadOnlyCollection<PluginLife> made, IReadOnlyCollection<PluginLife> gone)
    {
        lock (_lock)
        {
            _inUse.Add(next.Version);
            foreach (var life in made)
            {
                life.Since = next.Version;
            }
            _waiting.AddRange(gone.Select(life => (life, next.Version)));
        }
        previous?.Uses.Retire(() => Unused(previous.Version));
    }

    void Unused(long version)
    {
        List<PluginLife> ending = [];
        lock (_lock)
        {
            _inUse.Remove(version);
            _waiting.RemoveAll(gone =>
            {
                var over = _inUse.GetViewBetween(gone.Life.Since, gone.Gone - 1).Count == 0;
                if (over)
                {
                    ending.Add(gone.Life);
                }
                return over;
            });
        }
        foreach (var life in ending)
        {
            _ = life.EndAsync();
        }
    }
}

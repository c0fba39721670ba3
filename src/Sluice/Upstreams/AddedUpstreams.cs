using System.Collections.Immutable;

namespace Sluice.Upstreams;

/// <summary>Upstreams beside those of the configuration, which somebody has made for requests of his own: they are discovered and checked
/// too.</summary>
internal sealed class AddedUpstreams
{
    readonly Lock _lock = new();

    /// <summary>Told after each change.</summary>
    public event Action? Changed;

    public ImmutableHashSet<Upstream> All { get; private set; } = [];

    public void Add(Upstream upstream) => Change(all => all.Add(upstream));

    public void Remove(Upstream upstream) => Change(all => all.Remove(upstream));

    void Change(Func<ImmutableHashSet<Upstream>, ImmutableHashSet<Upstream>> change)
    {
        lock (_lock)
        {
            var changed = change(All);
            if (ReferenceEquals(changed, All))
            {
                return;
            }
            All = changed;
        }
        Changed?.Invoke();
    }
}

/// <summary>Adds an upstream when the first request goes there: what was only tried, or is never used, is not asked for its
/// health.</summary>
sealed class UpstreamFollower(Upstream upstream, AddedUpstreams added) : IDisposable
{
    const int New = 0, Followed = 1, Ended = 2;

    readonly Lock _lock = new();
    int _state;

    public void Begin()
    {
        if (Volatile.Read(ref _state) != New)
        {
            return;
        }
        lock (_lock)
        {
            if (_state == New)
            {
                _state = Followed;
                added.Add(upstream);
            }
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            if (_state == Followed)
            {
                added.Remove(upstream);
            }
            _state = Ended;
        }
    }
}

namespace Sluice.Upstreams;

/// <summary>In between (<c>mostly_…</c>) is a node that is still treated as before, with reports against it.</summary>
internal enum HealthState
{
    Healthy,
    MostlyHealthy,
    MostlyUnhealthy,
    Unhealthy,
}

internal enum HealthReport
{
    Success,
    HttpFailure,
    TcpFailure,
    Timeout,
}

/// <summary>
/// Counts reports about a node as lua-resty-healthcheck does: so many in a row of one kind turn it; a success forgets failures and a
/// failure forgets successes; what says only what is known already is not counted.
/// </summary>
internal sealed class NodeHealth
{
    readonly Lock _lock = new();
    readonly int[] _counts = new int[4];
    volatile HealthState _state;

    public HealthState State => _state;

    public bool IsHealthy => State <= HealthState.MostlyHealthy;

    /// <summary>When the next active check is due, as a timestamp; 0: at once.</summary>
    internal long Due { get; set; }

    public int Count(HealthReport kind)
    {
        lock (_lock) { return _counts[(int)kind]; }
    }

    /// <param name="limit">So many of them turn the node; 0: this kind does not count.</param>
    /// <returns>Whether the node went from healthy to unhealthy or back.</returns>
    public bool Report(HealthReport kind, int limit)
    {
        lock (_lock)
        {
            var target = kind == HealthReport.Success ? HealthState.Healthy : HealthState.Unhealthy;
            if (limit == 0 || _state == target)
            {
                return false;
            }
            var before = _state <= HealthState.MostlyHealthy;
            var count = ++_counts[(int)kind];
            if (kind == HealthReport.Success)
            {
                _counts.AsSpan(1).Clear();
            }
            else
            {
                _counts[(int)HealthReport.Success] = 0;
            }
            _state = count >= limit ? target
                : kind == HealthReport.Success ? before ? _state : HealthState.MostlyUnhealthy
                : before ? HealthState.MostlyHealthy : _state;
            return before != _state <= HealthState.MostlyHealthy;
        }
    }
}

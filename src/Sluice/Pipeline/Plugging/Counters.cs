namespace Sluice.Pipeline;

/// <summary>What is left of a quota.</summary>
/// <param name="Granted">False: there was not enough, and nothing was taken.</param>
/// <param name="Remaining">May be below zero when more was taken than there was.</param>
/// <param name="Reset">Until there is more.</param>
public readonly record struct Quota(bool Granted, long Remaining, TimeSpan Reset);

/// <summary>Quotas by key: how much of a limit a window of time may take. In this process, or shared with others.</summary>
public interface ICounters
{
    /// <param name="cost">How much is taken; 0 looks and takes nothing.</param>
    /// <exception cref="IOException">Whoever keeps the counters cannot be asked; the message says why.</exception>
    ValueTask<Quota> TakeAsync(string key, long limit, TimeSpan window, long cost, CancellationToken cancellation);
}

/// <summary>The counters in this process's memory: they survive changes of the configuration.</summary>
internal sealed class LocalCounters(TimeProvider time)
{
    /// <summary>A window begins with its first request.</summary>
    public ICounters Fixed { get; } = new FixedCounters(time);

    /// <summary>The last window counts for as much as the present one has not run yet.</summary>
    public ICounters Sliding { get; } = new SlidingCounters(time);
}

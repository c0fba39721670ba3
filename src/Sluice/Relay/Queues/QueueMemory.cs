namespace Sluice.Relay.Queues;

/// <summary>What all queues of streams hold together. Beyond <see cref="Max"/> each may hold its share only.</summary>
sealed class QueueMemory
{
    /// <summary>So much is everybody's.</summary>
    public const int Least = 16 * 1024;

    long _used;
    int _behind;

    /// <summary><c>sluice.streams.queue_memory</c>.</summary>
    public long Max { get; set; } = 256 << 20;

    public long Used => Volatile.Read(ref _used);

    /// <summary>What a queue may hold that may hold so much when there is room.</summary>
    public long Limit(long own) => Used <= Max ? own : Math.Min(own, Math.Max(Least, Max / Math.Max(1, Volatile.Read(ref _behind))));

    /// <param name="bytes">More, or less.</param>
    /// <param name="queues">1: one more holds something; -1: one holds nothing any more.</param>
    public void Add(long bytes, int queues)
    {
        Interlocked.Add(ref _used, bytes);
        if (queues != 0)
        {
            Interlocked.Add(ref _behind, queues);
        }
    }
}

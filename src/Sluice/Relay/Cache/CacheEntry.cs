namespace Sluice.Relay.Cache;

/// <summary>A stored response. What can change of it changes under its zone's lock.</summary>
sealed class CacheEntry(CachedHead head, long length)
{
    public CachedHead Head => head;

    public long Length => length;

    /// <summary>What it counts for in its zone.</summary>
    public long Bytes => head.Bytes + length;

    /// <summary>The body in memory; null: it is in the file.</summary>
    public byte[][]? Blocks { get; set; }

    /// <summary>Null: it has none, or not yet.</summary>
    public string? File { get; set; }

    /// <summary>Where in the file the body begins.</summary>
    public long Start { get; set; }

    public bool IsGone { get; set; }

    /// <summary>In milliseconds since 1970.</summary>
    public long LastUsed { get; set; }

    public LinkedListNode<CacheEntry>? Place { get; set; }
}

namespace Sluice.Relay.Topics;

/// <summary>What a piece of a stream's history is.</summary>
internal enum EntryKind
{
    /// <summary>A unit: it has a number of its own.</summary>
    Unit,

    /// <summary>A block that tells a receiver nothing by itself (a <c>retry</c>, an id alone); it belongs to the unit before it.</summary>
    Fields,

    /// <summary>Bytes between units, a comment: for those who are there when it comes, never again.</summary>
    Passage,
}

/// <summary>One piece of a stream's history, as clients get it.</summary>
/// <param name="Sequence">Its place among all pieces, from 0.</param>
/// <param name="Number">The unit's number, from 1; of what is no unit, the number of the unit before it.</param>
/// <param name="SourceId">The id that the source's receivers have after it; null: none so far.</param>
/// <param name="Added">Timestamp.</param>
internal readonly record struct HistoryEntry(long Sequence, long Number, EntryKind Kind, ReadOnlyMemory<byte> Raw, string? SourceId,
    long Added);

/// <summary>
/// The newest part of a stream, from which readers that come late are served. Whoever holds it sees to it that one at a time uses it; what
/// an entry points to stays as it is for as long as somebody looks at it.
/// </summary>
internal interface IEventHistory
{
    /// <summary>The oldest entry that is kept; <see cref="NextSequence"/> when there is none.</summary>
    long FirstSequence { get; }

    long NextSequence { get; }

    /// <summary>Number of the newest unit, kept or not; 0: there was none.</summary>
    long LastNumber { get; }

    /// <summary>Number of the oldest unit that is kept; <see cref="LastNumber"/> + 1 when there is none.</summary>
    long FirstNumber { get; }

    /// <summary>Memory that it holds.</summary>
    long Bytes { get; }

    HistoryEntry this[long sequence] { get; }

    /// <summary>The id that the source's receivers have after its newest piece.</summary>
    string? LastSourceId { get; }

    /// <summary>The first sequence that stays when so much more comes.</summary>
    long FirstAfter(EntryKind kind, int length);

    /// <summary>Adds a piece, made of two parts; the oldest fall out as the limits say.</summary>
    void Append(EntryKind kind, ReadOnlySpan<byte> head, ReadOnlySpan<byte> body, string? sourceId, long now);

    /// <summary>What is older than the limit says falls out.</summary>
    void DropOld(long now);

    /// <summary>The older half falls out; false: there is nothing left to drop.</summary>
    bool DropHalf();
}

/// <summary>What a history holds at most; whichever is reached first.</summary>
internal sealed record TailLimits(int Events, long Bytes, TimeSpan Age);

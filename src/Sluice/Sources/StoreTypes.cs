namespace Sluice.Sources;

/// <summary>A key with its value, as of one revision. etcd's key-value.</summary>
/// <param name="CreateRevision">The revision at which the key came into being (Admin API: createdIndex).</param>
/// <param name="ModRevision">The revision that wrote this value (Admin API: modifiedIndex).</param>
/// <param name="Version">1 for a new key, one more with each write; a deletion starts over.</param>
internal sealed record StoreEntry(string Key, string Value, long CreateRevision, long ModRevision, long Version);

/// <summary>The entries below a prefix, ordered by key, as of one revision: watch from <c>Revision + 1</c> to miss nothing.</summary>
internal sealed record StoreRange(long Revision, IReadOnlyList<StoreEntry> Entries);

/// <summary>A condition of a transaction: the key's mod revision is this one; 0 = there is no such key.</summary>
/// <param name="IsPrefix">Instead: no key that begins so has been written after that revision.</param>
internal readonly record struct StoreCompare(string Key, long ModRevision, bool IsPrefix = false);

/// <summary>A step of a transaction.</summary>
internal abstract record StoreOp
{
    StoreOp()
    {
    }

    /// <param name="Ttl">How long it stays; only etcd keeps time.</param>
    public sealed record Put(string Key, string Value, TimeSpan? Ttl = null) : StoreOp;

    /// <summary>Deleting what does not exist is no change and no error.</summary>
    public sealed record Delete(string Key) : StoreOp;
}

/// <param name="Succeeded">False: a condition did not hold and nothing was changed.</param>
/// <param name="Revision">The store's revision after the transaction.</param>
/// <param name="Events">What changed, in the order of the operations; deletions of unknown keys leave no event.</param>
internal sealed record StoreResult(bool Succeeded, long Revision, IReadOnlyList<StoreEvent> Events);

/// <summary>One change of one key.</summary>
/// <param name="Entry">The new entry; for a deletion the key with an empty value and the deletion's revision.</param>
internal sealed record StoreEvent(StoreEventKind Kind, StoreEntry Entry);

internal enum StoreEventKind
{
    Put,
    Delete,
}

/// <summary>Changes that a watch delivers at once: whole transactions, in order, never a part of one.</summary>
/// <param name="Revision">The last revision that is covered: resume from <c>Revision + 1</c>.</param>
/// <param name="Resumed">The watch was interrupted: whether the store's history is still the same is for the reader to find out. Without
/// events.</param>
internal sealed record StoreChanges(long Revision, IReadOnlyList<StoreEvent> Events, bool Resumed = false);

/// <param name="KeepRevisions">How many revisions a watch can go back, at least.</param>
/// <param name="MaxPages">Upper bound of the file, in SQLite pages of 4 KiB; null = the disk's.</param>
internal sealed record StoreOptions(int KeepRevisions = 1000, int? MaxPages = null);

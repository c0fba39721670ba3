namespace Sluice.Sources;

/// <summary>A key with its value, as of one revision. etcd's key-value.</summary>
/// <param name="CreateRevision">The revision at which the key came into being (Admin API: createdIndex).</param>
/// <param name="ModRevision">The revision that wrote this value (Admin API: modifiedIndex).</param>
/// <param name="Version">1 for a new key, one more with each write; a deletion starts over.</param>
public sealed record StoreEntry(string Key, string Value, long CreateRevision, long ModRevision, long Version);

/// <summary>The entries below a prefix, ordered by key, as of one revision: watch from <c>Revision + 1</c> to miss nothing.</summary>
public sealed record StoreRange(long Revision, IReadOnlyList<StoreEntry> Entries);

/// <summary>A condition of a transaction: the key's mod revision is this one; 0 = there is no such key.</summary>
public readonly record struct StoreCompare(string Key, long ModRevision);

/// <summary>A step of a transaction.</summary>
public abstract record StoreOp
{
    StoreOp()
    {
    }

    /// <param name="Ttl">How long it stays; only etcd keeps time.</param>
    public sealed record Put(string Key, string Value, TimeSpan? Ttl = null) : StoreOp;

    /// <summary>Deleting what does not exist is no change and no error.</summary>
    public sealed record Delete(string Key) : StoreOp;

    /// <summary>
    /// Puts below <paramref name="Prefix"/> (<c>/apisix/routes/</c>) under the next sequential id, the transaction's revision with 20 digits.
    /// <paramref name="Value"/> makes the value from the id; it runs on the writer, so it must be quick.
    /// </summary>
    public sealed record PutNext(string Prefix, Func<string, string> Value) : StoreOp;
}

/// <param name="Succeeded">False: a condition did not hold and nothing was changed.</param>
/// <param name="Revision">The store's revision after the transaction.</param>
/// <param name="Events">What changed, in the order of the operations; deletions of unknown keys leave no event.</param>
public sealed record StoreResult(bool Succeeded, long Revision, IReadOnlyList<StoreEvent> Events);

/// <summary>One change of one key.</summary>
/// <param name="Entry">The new entry; for a deletion the key with an empty value and the deletion's revision.</param>
public sealed record StoreEvent(StoreEventKind Kind, StoreEntry Entry);

public enum StoreEventKind
{
    Put,
    Delete,
}

/// <summary>Changes that a watch delivers at once: whole transactions, in order, never a part of one.</summary>
/// <param name="Revision">The last revision that is covered: resume from <c>Revision + 1</c>.</param>
public sealed record StoreChanges(long Revision, IReadOnlyList<StoreEvent> Events);

/// <param name="KeepRevisions">How many revisions a watch can go back, at least.</param>
/// <param name="MaxPages">Upper bound of the file, in SQLite pages of 4 KiB; null = the disk's.</param>
public sealed record StoreOptions(int KeepRevisions = 1000, int? MaxPages = null);

namespace Sluice.Sources;

/// <summary>The store could not do what was asked. The message is meant for the user: it names the file and the way out.</summary>
internal class StoreException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Another process holds the data directory: one on the same prefix, or one on another whose <c>sluice.data_dir</c> is the
/// same.</summary>
internal sealed class PrefixInUseException(string prefix, string directory, int? holder, string? holdersPrefix)
    : StoreException(Describe(prefix, directory, holder, holdersPrefix))
{
    public string Prefix { get; } = prefix;

    /// <summary>The pid written in the lock file; null when it could not be read.</summary>
    public int? Holder { get; } = holder;

    static string Describe(string prefix, string directory, int? holder, string? holdersPrefix)
    {
        var other = $"another Sluice{(holder is { } pid ? $" (pid {pid})" : "")} already runs on ";
        return holdersPrefix is null || holdersPrefix == prefix
            ? $"{other}prefix {prefix}: stop it (sluice stop -p {prefix}) or choose another prefix with -p"
            : $"{other}prefix {holdersPrefix} with the same data directory {directory}: stop it (sluice stop -p {holdersPrefix}) or choose another sluice.data_dir";
    }
}

/// <summary>The store file is damaged. It was not changed: what can be saved from it still can.</summary>
internal sealed class StoreCorruptException(string file, string what, Exception? inner = null) : StoreException(
    $"the store {file} is damaged ({what}); it was left untouched. To save what can be saved: "
    + $"sqlite3 {file} \".recover\" | sqlite3 {file}.recovered, then move {file} and {file}-wal away and {file}.recovered in their place. "
    + "To start empty: move them away", inner)
{
    public string File { get; } = file;
}

/// <summary>A newer Sluice, or another program, wrote the store file.</summary>
internal sealed class StoreVersionException(string file, string what)
    : StoreException($"cannot use the store {file}: {what}; it was left untouched");

/// <summary>No room for a write. Nothing of the write is visible; the store goes on working.</summary>
internal sealed class StoreFullException(string file, Exception inner) : StoreException(
    $"no space left for the store {file}: nothing was changed; free some space and try again", inner);

/// <summary>The store's history is not the one that was followed: it was restored from a backup, or it is another store.</summary>
internal sealed class OtherHistoryException(long known, long revision) : StoreException(
    $"etcd is at revision {revision}, but {known} was known: it was restored from a snapshot, or it is another etcd");

/// <summary>A watch asked for revisions that are no longer kept: list again and watch from there.</summary>
internal sealed class CompactedException(long requested, long compacted) : StoreException(
    $"revision {requested} was compacted away: the history starts after revision {compacted}")
{
    public long CompactedRevision { get; } = compacted;
}

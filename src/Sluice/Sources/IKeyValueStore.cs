namespace Sluice.Sources;

/// <summary>One key space with etcd's semantics: in the embedded file (<see cref="EmbeddedStore"/>) or in etcd
/// (<see cref="Etcd.EtcdStore"/>).</summary>
internal interface IKeyValueStore
{
    /// <summary>Whether others write there, too: what they do comes through <see cref="Watch"/>.</summary>
    bool HasOtherWriters { get; }

    Task<StoreRange> ListAsync(string prefix, CancellationToken cancel = default);

    Task<StoreEntry?> GetAsync(string key, CancellationToken cancel = default);

    /// <summary>A number for an id that nobody has got before.</summary>
    Task<long> NextNumberAsync(CancellationToken cancel = default);

    /// <summary>All operations at one revision if all conditions hold, otherwise none.</summary>
    Task<StoreResult> Transaction(IReadOnlyList<StoreCompare> compares, IReadOnlyList<StoreOp> ops, CancellationToken cancel = default);

    /// <summary>The changes from a revision on, for as long as it is asked for more.</summary>
    /// <exception cref="CompactedException">They are no longer kept: list, and watch from there.</exception>
    IAsyncEnumerable<StoreChanges> Watch(string prefix, long fromRevision = 0, CancellationToken cancel = default);
}

using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Threading.Channels;

namespace Sluice.Sources;

/// <summary>
/// The documents of a gateway that has no etcd: one key space with etcd's semantics in <c>PREFIX/data/sluice.db</c>.
/// Reads come from memory, at one revision. Writes go through one writer, which puts those that arrive together into one commit:
/// a write that was answered is on the disk, whatever happens to the process or the power.
/// </summary>
/// <example><code>
/// await using var store = EmbeddedStore.Open(prefix);
/// var result = await store.Transaction([], [new StoreOp.Put("/apisix/routes/r1", json)]);
/// var routes = store.List("/apisix/routes/");
/// await foreach (var changes in store.Watch("/apisix/", routes.Revision + 1)) { … }
/// </code></example>
internal sealed class EmbeddedStore : IKeyValueStore, IAsyncDisposable
{
    const int LongestKey = 4096;
    const int LargestBatch = 256;

    readonly InstanceLock _lock;
    readonly StoreFile _file;
    readonly int _keepRevisions;
    readonly Task _writer;

    /// <summary>Full: callers wait for their turn, which slows them to the disk's pace.</summary>
    readonly Channel<Write> _writes = Channel.CreateBounded<Write>(new BoundedChannelOptions(1024) { SingleReader = true });

    volatile State _state;
    volatile bool _closed;

    EmbeddedStore(InstanceLock instanceLock, StoreFile file, StoreOptions options)
    {
        (_lock, _file, _keepRevisions) = (instanceLock, file, options.KeepRevisions);
        var (entries, revision, compacted) = file.Load();
        _state = new State(
            ImmutableSortedDictionary.CreateRange(StringComparer.Ordinal, entries.Select(entry => KeyValuePair.Create(entry.Key, entry))),
            revision, compacted);
        _writer = Task.Run(WriteLoop);
    }

    /// <exception cref="PrefixInUseException">Another Sluice runs on this prefix.</exception>
    /// <exception cref="StoreCorruptException">The file is damaged; it was not touched.</exception>
    /// <exception cref="StoreVersionException">The file is of a newer Sluice or not a store at all; it was not touched.</exception>
    /// <param name="directory"><c>sluice.data_dir</c>; null: data/ under the prefix.</param>
    public static EmbeddedStore Open(string prefix, StoreOptions? options = null, string? directory = null)
    {
        options ??= new StoreOptions();
        var instanceLock = InstanceLock.Acquire(prefix, directory);
        StoreFile? file = null;
        try
        {
            file = StoreFile.Open(Path.Combine(DataDirectory.Create(directory ?? DataDirectory.Of(prefix)), "sluice.db"), options);
            return new EmbeddedStore(instanceLock, file, options);
        }
        catch
        {
            file?.Dispose();
            instanceLock.Dispose();
            throw;
        }
    }

    /// <summary>Of the last committed write; 1 in a new store, as in etcd.</summary>
    public long Revision => _state.Revision;

    /// <summary>A watch can start after this revision.</summary>
    public long CompactedRevision => _state.Compacted;

    /// <summary>The file is locked: nobody else writes.</summary>
    public bool HasOtherWriters => false;

    public Task<StoreRange> ListAsync(string prefix, CancellationToken cancel = default) => Task.FromResult(List(prefix));

    public Task<StoreEntry?> GetAsync(string key, CancellationToken cancel = default) => Task.FromResult(Get(key));

    public Task<long> NextNumberAsync(CancellationToken cancel = default) => Task.FromResult(Revision + 1);

    public StoreEntry? Get(string key) => _state.Entries.GetValueOrDefault(key);

    public StoreRange List(string prefix)
    {
        var state = _state;
        return new StoreRange(state.Revision,
            [.. state.Entries.Values.Where(entry => entry.Key.StartsWith(prefix, StringComparison.Ordinal))]);
    }

    /// <summary>All operations at one revision if all conditions hold, otherwise none. No key may occur twice in the operations.</summary>
    /// <param name="cancel">Takes back what was not begun; a write that was begun is awaited.</param>
    /// <exception cref="StoreFullException">No space left; nothing was changed.</exception>
    public async Task<StoreResult> Transaction(
        IReadOnlyList<StoreCompare> compares, IReadOnlyList<StoreOp> ops, CancellationToken cancel = default)
    {
        Check(ops);
        var write = new Write(compares, ops, cancel);
        try
        {
            await _writes.Writer.WriteAsync(write, cancel);
        }
        catch (ChannelClosedException)
        {
            throw new ObjectDisposedException(nameof(EmbeddedStore));
        }
        return await write.Answer.Task;
    }

    /// <summary>
    /// The changes of keys that start with <paramref name="prefix"/> at <paramref name="fromRevision"/> and later, old ones first,
    /// then live ones as they are committed. Ends when the store is closed. A watcher that is slow holds up nobody: it reads from the file.
    /// </summary>
    /// <param name="fromRevision">0: from now on.</param>
    /// <exception cref="CompactedException">Revisions that were asked for, or not yet read, are no longer kept.</exception>
    public IAsyncEnumerable<StoreChanges> Watch(string prefix, long fromRevision = 0, CancellationToken cancel = default) =>
        Follow(prefix, fromRevision > 0 ? fromRevision : _state.Revision + 1, cancel);

    public async ValueTask DisposeAsync()
    {
        if (_closed)
        {
            return;
        }
        _writes.Writer.TryComplete();
        await _writer;
        _closed = true;
        _state.Changed.TrySetResult();
        _file.Dispose();
        _lock.Dispose();
    }

    async IAsyncEnumerable<StoreChanges> Follow(string prefix, long next, [EnumeratorCancellation] CancellationToken cancel)
    {
        while (!_closed)
        {
            cancel.ThrowIfCancellationRequested();
            var state = _state;
            if (next > state.Revision)
            {
                await state.Changed.Task.WaitAsync(cancel);
                continue;
            }
            if (_file.ReadHistory(prefix, next, state.Revision) is not { } changes)
            {
                yield break;
            }
            next = changes.Revision + 1;
            if (changes.Events.Count > 0)
            {
                yield return changes;
            }
        }
    }

    async Task WriteLoop()
    {
        var batch = new List<Write>(LargestBatch);
        while (await _writes.Reader.WaitToReadAsync())
        {
            batch.Clear();
            while (batch.Count < LargestBatch && _writes.Reader.TryRead(out var write))
            {
                batch.Add(write);
            }
            if (batch.Count == 1)
            {
                Commit(batch, isLastTry: true);
            }
            else if (!Commit(batch, isLastTry: false))
            {
                // one of them is too large for the disk, perhaps: the others must not suffer for it
                batch.ForEach(write => Commit([write], isLastTry: true));
            }
        }
    }

    /// <summary>Several writes, each with its own revision and answer, in one commit of the file.</summary>
    bool Commit(List<Write> batch, bool isLastTry)
    {
        var before = _state;
        var entries = before.Entries.ToBuilder();
        var revision = before.Revision;
        var events = new List<StoreEvent>();
        var answers = new List<(Write Write, StoreResult Result)>(batch.Count);
        foreach (var write in batch)
        {
            if (Plan(write, entries, revision) is { } result)
            {
                revision = result.Revision;
                events.AddRange(result.Events);
                answers.Add((write, result));
            }
        }
        if (events.Count > 0)
        {
            // a little more than asked for, so that not each write has to clean up
            var oldest = revision - _keepRevisions;
            var compacted = oldest - before.Compacted > Math.Max(1, _keepRevisions / 10) ? oldest : before.Compacted;
            try
            {
                _file.Write(events, revision, compacted, compact: compacted > before.Compacted);
            }
            catch (Exception e)
            {
                if (isLastTry)
                {
                    answers.ForEach(answer => answer.Write.Answer.TrySetException(e));
                }
                return false;
            }
            _state = new State(entries.ToImmutable(), revision, compacted);
            before.Changed.TrySetResult();
        }
        answers.ForEach(answer => answer.Write.Answer.TrySetResult(answer.Result));
        return true;
    }

    /// <summary>Applies a write to <paramref name="entries"/>. Null: it was taken back or failed on its own and has its answer.</summary>
    static StoreResult? Plan(Write write, ImmutableSortedDictionary<string, StoreEntry>.Builder entries, long revision)
    {
        if (write.Cancel.IsCancellationRequested)
        {
            write.Answer.TrySetCanceled(write.Cancel);
            return null;
        }
        if (!write.Compares.All(compare => compare.IsPrefix
            ? entries.All(entry => !entry.Key.StartsWith(compare.Key, StringComparison.Ordinal)
                || entry.Value.ModRevision <= compare.ModRevision)
            : (entries.GetValueOrDefault(compare.Key)?.ModRevision ?? 0) == compare.ModRevision))
        {
            return new StoreResult(false, revision, []);
        }
        var events = new List<StoreEvent>(write.Ops.Count);
        try
        {
            foreach (var op in write.Ops)
            {
                if (Change(op, entries, revision + 1) is { } change)
                {
                    events.Add(change);
                }
            }
        }
        catch (Exception e)
        {
            write.Answer.TrySetException(e);
            return null;
        }
        foreach (var (kind, entry) in events)
        {
            if (kind == StoreEventKind.Delete)
            {
                entries.Remove(entry.Key);
            }
            else
            {
                entries[entry.Key] = entry;
            }
        }
        return new StoreResult(true, events.Count > 0 ? revision + 1 : revision, events);
    }

    static StoreEvent? Change(StoreOp op, ImmutableSortedDictionary<string, StoreEntry>.Builder entries, long revision)
    {
        switch (op)
        {
            case StoreOp.Put put:
                var old = entries.GetValueOrDefault(put.Key);
                return new(StoreEventKind.Put, new(put.Key, put.Value, old?.CreateRevision ?? revision, revision, (old?.Version ?? 0) + 1));
            case StoreOp.Delete delete:
                return entries.ContainsKey(delete.Key) ? new(StoreEventKind.Delete, new(delete.Key, "", 0, revision, 0)) : null;
            default:
                throw new ArgumentException($"unknown operation {op}", nameof(op));
        }
    }

    static void Check(IReadOnlyList<StoreOp> ops)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var op in ops)
        {
            var key = op switch
            {
                StoreOp.Put put => put.Key,
                StoreOp.Delete delete => delete.Key,
                _ => throw new ArgumentException($"unknown operation {op}", nameof(ops)),
            };
            if (key.Length is 0 or > LongestKey || key[0] != '/' || key.AsSpan().IndexOfAnyInRange('\0', '\x1f') >= 0
                || HasLoneSurrogate(key))
            {
                throw new ArgumentException(
                    $"a key starts with / and has at most {LongestKey} characters, none of them a control character", nameof(ops));
            }
            if (!seen.Add(key))
            {
                throw new ArgumentException($"key {key} occurs twice in one transaction", nameof(ops));
            }
            if (op is StoreOp.Put { Value: var value })
            {
                Checked(value);
            }
        }
    }

    static bool HasLoneSurrogate(string text)
    {
        foreach (var rune in text.EnumerateRunes())
        {
            if (rune.Value == 0xFFFD)
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>SQLite's text ends at a NUL.</summary>
    static string Checked(string value) =>
        value.Contains('\0', StringComparison.Ordinal) ? throw new ArgumentException("a value must not contain NUL", nameof(value)) : value;

    /// <summary>What readers see: swapped as a whole after the commit.</summary>
    sealed record State(ImmutableSortedDictionary<string, StoreEntry> Entries, long Revision, long Compacted)
    {
        /// <summary>Set when there is a newer state.</summary>
        public TaskCompletionSource Changed { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    sealed record Write(IReadOnlyList<StoreCompare> Compares, IReadOnlyList<StoreOp> Ops, CancellationToken Cancel)
    {
        public TaskCompletionSource<StoreResult> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}

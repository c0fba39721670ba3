using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;
using Sluice.Sources.Etcd;

namespace Sluice.Sources;

internal enum WriteOutcome
{
    Created,
    Updated,
    Deleted,
    NotFound,

    /// <summary>What was asked is wrong; nothing was changed.</summary>
    Refused,

    /// <summary>The store could not write it; nothing was changed.</summary>
    Failed,

    /// <summary>Somebody else wrote it meanwhile; nothing was changed.</summary>
    Conflict,
}

/// <summary>What became of a write.</summary>
/// <param name="Key"><c>/apisix/routes/r1</c></param>
/// <param name="Document">As it is stored now; null when it was deleted or not written.</param>
/// <param name="Error">As it stands in <c>error_msg</c>; null when the write was done.</param>
/// <param name="Stored">The document's value as it stands in the store, secrets encrypted.</param>
/// <param name="Warnings">What was accepted and has no effect.</param>
internal sealed record WriteResult(
    WriteOutcome Outcome, string Key, Document? Document = null, string? Error = null, JsonObject? Stored = null,
    IReadOnlyList<string>? Warnings = null)
{
    /// <summary>After a conflict: the kinds of which something may have changed.</summary>
    internal ResourceKind[]? ReliesOn { get; init; }
}

/// <summary>
/// The resources in a store (embedded, or etcd), under etcd's keys (<c>/apisix/routes/r1</c>). One write at a time: check → compile → write
/// durably → swap. A document is applied whole or refused whole; a write that is refused or that the store refuses changes nothing.
/// What others write into the same store is taken in as it comes (<see cref="Follow"/>).
/// </summary>
/// <param name="live">Has its settings already: they say which plugins there are.</param>
/// <param name="prefix">Of all keys: <c>/apisix</c>.</param>
/// <param name="copy">Kept up to date with what is applied; null: none is kept.</param>
internal sealed partial class ResourceStore(
    IKeyValueStore store, LiveConfiguration live, TimeProvider time, ILogger<ResourceStore> logger,
    string prefix = ResourceStore.DefaultPrefix, LocalCopy? copy = null)
    : IAsyncDisposable
{
    public const string DefaultPrefix = "/apisix";

    /// <summary>More than a request may have: patches put values deeper.</summary>
    const int StoredDepth = 256;

    /// <summary>How often a write is tried when others change the same key meanwhile.</summary>
    const int MaxTries = 30;

    static readonly TimeSpan PauseAfterFailure = TimeSpan.FromSeconds(1);

    readonly string _root = prefix + "/";
    readonly SemaphoreSlim _writing = new(1, 1);
    readonly CancellationTokenSource _stopping = new();

    /// <summary>Keys that this gateway deleted, with the revision: events of before must not bring them back.</summary>
    readonly Dictionary<string, long> _deleted = [];

    /// <summary>By key.</summary>
    volatile ImmutableDictionary<string, LeftOut> _leftOut = ImmutableDictionary<string, LeftOut>.Empty;

    /// <summary>Null: the store keeps the time itself.</summary>
    Expiries? _expiries;
    Task _following = Task.CompletedTask;
    long _revision;

    /// <summary>Up to which revision of the store the configuration is.</summary>
    public long Revision => Volatile.Read(ref _revision);

    /// <summary>What is in the store and wrong, in the order of the keys.</summary>
    public IEnumerable<LeftOut> LeftOut => _leftOut.OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => pair.Value);

    public LeftOut? FindLeftOut(ResourceKind kind, string id) => _leftOut.GetValueOrDefault(KeyOf(kind, id));

    /// <summary>For readiness: how many are left out, and the first of them; null when none is.</summary>
    public string? LeftOutWarning
    {
        get
        {
            const int Shown = 3;
            var left = LeftOut.ToArray();
            return left.Length == 0 ? null
                : $"{left.Length} {(left.Length == 1 ? "resource" : "resources")} of the store left out: "
                    + string.Join("; ", left.Take(Shown).Select(one => $"{one.Document.Place}: {one.Problem}"))
                    + (left.Length > Shown ? "; …" : "");
        }
    }

    public static string Key(ResourceKind kind, string id, string prefix = DefaultPrefix) => $"{prefix}/{kind.Directory()}/{id}";

    string KeyOf(ResourceKind kind, string id) => Key(kind, id, prefix);

    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await _following;
        _expiries?.Dispose();
        if (copy is not null)
        {
            await copy.DisposeAsync();
        }
        _writing.Dispose();
        _stopping.Dispose();
    }

    // -- Loading

    /// <summary>
    /// Applies all that is stored. A document that does not pass the check (any more) is logged with its key, stays in the store and is
    /// left out of the configuration.
    /// </summary>
    /// <exception cref="StoreException">The store does not answer.</exception>
    public async Task<IReadOnlyList<Problem>> LoadAsync(CancellationToken cancel = default)
    {
        var range = await store.ListAsync(_root, cancel);
        var problems = await LoadAsync(range, cancel: cancel);
        if (!store.HasOtherWriters)
        {
            _expiries ??= new Expiries(time, () => _ = RemoveEndedAsync());
            await _expiries.LoadAsync(store, cancel);
        }
        return problems;
    }

    /// <summary>Applies what a store had at some time.</summary>
    /// <param name="isCopy">It is a local copy's, of which etcd may know more or other things.</param>
    public async Task<IReadOnlyList<Problem>> LoadAsync(StoreRange range, bool isCopy = false, CancellationToken cancel = default)
    {
        await _writing.WaitAsync(cancel);
        try
        {
            var problems = new List<Problem>();
            if (IsOtherHistory(range))
            {
                LogOtherHistory(Revision, range.Revision);
            }
            var same = range.Entries.Where(entry => _seen.TryGetValue(entry.Key, out var seen) && seen == Seen(entry))
                .Select(entry => entry.Key).ToHashSet();
            var documents = Read(range.Entries, problems, out var unreadable);
            var taken = ApplyAll(Check(documents, problems, same), problems);
            _leftOut =
                unreadable.Concat(
                    documents.Where(document => taken.Find(document.Kind, document.Id)?.ModifiedRevision != document.ModifiedRevision))
                .ToImmutableDictionary(document => document.Place, document => new LeftOut(document, ProblemOf(document, problems)));
            Volatile.Write(ref _revision, range.Revision);
            _deleted.Clear();
            _caughtUp.Clear();
            (_isCopy, _isUnverified) = (isCopy, false);
            _seen.Clear();
            foreach (var entry in store.HasOtherWriters ? range.Entries : [])
            {
                _seen[entry.Key] = Seen(entry);
            }
            SaveCopy();
            Log(problems);
            return problems;
        }
        finally
        {
            _writing.Release();
        }
    }

    /// <summary>Looks again at what was left out: after a reload there may be the plugin that was unknown. What the store does not tell
    /// stays left out.</summary>
    public async Task LookAgainAsync()
    {
        await _writing.WaitAsync(_stopping.Token);
        try
        {
            var events = new List<StoreEvent>();
            foreach (var key in _leftOut.Keys)
            {
                if (await store.GetAsync(key, _stopping.Token) is { } entry)
                {
                    events.Add(new(StoreEventKind.Put, entry));
                }
            }
            if (events.Count > 0)
            {
                ApplyEvents(events);
            }
        }
        catch (StoreException e)
        {
            LogNotLookedAt(e.Message);
        }
        finally
        {
            _writing.Release();
        }
    }

    void Log(IReadOnlyList<Problem> problems)
    {
        foreach (var (severity, place, message) in problems)
        {
            if (severity == Severity.Error)
            {
                LogLeftOut(place, message);
            }
            else
            {
                LogWarning(place, message);
            }
        }
    }

    static string ProblemOf(Document document, IReadOnlyList<Problem> problems) =>
        problems.FirstOrDefault(problem => problem.Severity == Severity.Error && problem.Place == document.Place)?.Message
        ?? "it contradicts another resource";

    /// <param name="unreadable">Without their properties.</param>
    List<Document> Read(IReadOnlyList<StoreEntry> entries, List<Problem> problems, out List<Document> unreadable)
    {
        unreadable = [];
        var documents = new List<Document>(entries.Count);
        foreach (var entry in entries)
        {
            if (!ResourceKinds.TryParseKey(entry.Key[_root.Length..], out var kind, out var id))
            {
                if (entry.Value != EtcdStore.DirectoryMark && !IsOthers(entry.Key))
                {
                    problems.Add(Problem.Warning(entry.Key, "no resource that this version of Sluice knows"));
                }
                continue;
            }
            if (Parse(kind, id, entry, out var error) is { } document)
            {
                documents.Add(document);
            }
            else
            {
                problems.Add(Problem.Error(entry.Key, error!));
                unreadable.Add(Unreadable(kind, id, entry));
            }
        }
        return documents;
    }

    static Document Unreadable(ResourceKind kind, string id, StoreEntry entry) =>
        new(kind, id, [], entry.CreateRevision, entry.ModRevision, entry.Key);

    /// <summary>Keys that APISIX itself uses beside the resources.</summary>
    bool IsOthers(string key) => key[_root.Length..] is "gen_id" or "plugins"
        || key.StartsWith(_root + "data_plane/", StringComparison.Ordinal);

    Document? Parse(ResourceKind kind, string id, StoreEntry entry, out string? error)
    {
        try
        {
            var value = CjsonReader.Parse(Encoding.UTF8.GetBytes(entry.Value), StoredDepth) as JsonObject;
            error = value is null ? "expected a JSON object" : null;
            if (value is not null)
            {
                Secrets.Decrypt(kind, id, value, live.Current.Plugins, live.Current.Settings.Encryption);
            }
            return value is null ? null : Document.Of(kind, id, value, entry.CreateRevision, entry.ModRevision, entry.Key);
        }
        catch (JsonTextException e)
        {
            error = e.Message;
            return null;
        }
    }

    /// <summary>What was read of each key, so that the same revision with another content is noticed. Empty where nobody else
    /// writes.</summary>
    readonly Dictionary<string, (long ModRevision, int Content)> _seen = [];

    /// <summary>The configuration is a local copy's: not everything that etcd had at its revision is in it.</summary>
    bool _isCopy;

    /// <summary>The watch was interrupted, and whether the history is still the same has not been found out.</summary>
    bool _isUnverified;

    static (long ModRevision, int Content) Seen(StoreEntry entry) => (entry.ModRevision, entry.Value.GetHashCode(StringComparison.Ordinal));

    void See(StoreEvent change)
    {
        if (change.Kind == StoreEventKind.Delete)
        {
            _seen.Remove(change.Entry.Key);
        }
        else if (store.HasOtherWriters)
        {
            _seen[change.Entry.Key] = Seen(change.Entry);
        }
    }

    /// <summary>Whether something of a revision that was followed is not as it was then: the store was restored from a snapshot.</summary>
    bool IsOtherHistory(StoreRange range) => Revision > 0 && store.HasOtherWriters && !_isCopy
        && (range.Revision < Revision || range.Entries.Any(entry => entry.ModRevision <= Revision
            && entry.Key.StartsWith(_root, StringComparison.Ordinal) && ResourceKinds.TryParseKey(entry.Key[_root.Length..], out _, out _)
            && (!_seen.TryGetValue(entry.Key, out var seen) || seen != Seen(entry))));

    /// <param name="same">Keys of which nothing has changed.</param>
    DocumentSet Check(List<Document> stored, List<Problem> problems, HashSet<string> same)
    {
        var running = live.Current.Documents;
        var all = DocumentSet.Of(stored);
        var intake = new DocumentIntake(live.Maker(all));
        var good = new List<Document>(stored.Count);
        foreach (var document in stored)
        {
            // the same object as before keeps what was compiled from it
            var known = running.Find(document.Kind, document.Id);
            if (known?.ModifiedRevision == document.ModifiedRevision && known.Place == document.Place && same.Contains(document.Place))
            {
                good.Add(known);
            }
            else if (IsGood(document, all, intake, problems))
            {
                good.Add(document);
            }
        }
        return DocumentSet.Of(good);
    }

    static bool IsGood(Document document, DocumentSet all, DocumentIntake intake, List<Problem> problems)
    {
        var (error, warnings) = intake.Take(document, all, mayMiss: true);
        problems.AddRange(warnings.Select(warning => Problem.Warning(document.Place, warning)));
        if (error is not null)
        {
            problems.Add(Problem.Error(document.Place, error));
        }
        return error is null;
    }

    /// <summary>Without the documents that the whole does not compile with.</summary>
    /// <returns>What was applied.</returns>
    DocumentSet ApplyAll(DocumentSet documents, List<Problem> problems)
    {
        while (true)
        {
            var found = live.Apply(documents: documents);
            problems.AddRange(found);
            var bad = found.Where(problem => problem.Severity == Severity.Error).Select(problem => problem.Place).ToHashSet();
            if (bad.Count == 0)
            {
                return documents;
            }
            var left = ResourceKinds.All.SelectMany(kind => documents[kind].Values).ToArray();
            var good = left.Where(document => !bad.Contains(document.Place)).ToArray();
            if (good.Length == left.Length)
            {
                return live.Current.Documents;
            }
            documents = DocumentSet.Of(good);
        }
    }

    // -- What ends on its own

    async Task RemoveEndedAsync()
    {
        try
        {
            foreach (var key in _expiries!.Ended())
            {
                if (key.StartsWith(_root, StringComparison.Ordinal)
                    && ResourceKinds.TryParseKey(key[_root.Length..], out var kind, out var id))
                {
                    // as with a lease, whoever still refers to it
                    var result = await DeleteAsync(kind, id, force: true, () => _expiries.Ended().Contains(key), _stopping.Token);
                    LogEnded(key, result.Error ?? "removed");
                    if (result.Outcome == WriteOutcome.NotFound)
                    {
                        _expiries.Written(key, null);
                    }
                }
            }
        }
        catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
        {
            // disposed
        }
    }

    // -- What others write

    /// <summary>Takes in from now on what others write into the store.</summary>
    public void Follow() => _following = FollowAsync(_stopping.Token);

    async Task FollowAsync(CancellationToken cancel)
    {
        while (!cancel.IsCancellationRequested)
        {
            if (_isCopy || _isUnverified)
            {
                await ReadAnewAsync(cancel);
                continue;
            }
            try
            {
                await foreach (var changes in store.Watch(_root, Revision + 1, cancel))
                {
                    if (changes.Resumed)
                    {
                        // what was restored from a snapshot may be past the revision that was known, with another content
                        _isUnverified = true;
                        await LoadAsync(await store.ListAsync(_root, cancel), cancel: cancel);
                        continue;
                    }
                    await ApplyEventsAsync(changes.Events, changes.Revision, cancel);
                }
                return;
            }
            catch (Exception e) when (e is CompactedException or OtherHistoryException)
            {
                LogReadAnew(e.Message);
                await ReadAnewAsync(cancel);
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
                return;
            }
            catch (EtcdUnavailableException)
            {
                // whoever keeps the store says that it is away
                await PauseAsync(cancel);
            }
            catch (Exception e)
            {
                _isUnverified = true;
                LogFollowFailed(e);
                await PauseAsync(cancel);
            }
        }
    }

    async Task ReadAnewAsync(CancellationToken cancel)
    {
        try
        {
            await LoadAsync(cancel);
        }
        catch (StoreException)
        {
            // whoever keeps the store says that it is away
            await PauseAsync(cancel);
        }
        catch (OperationCanceledException)
        {
            // disposed
        }
    }

    async Task PauseAsync(CancellationToken cancel)
    {
        try
        {
            await Task.Delay(PauseAfterFailure, time, cancel);
        }
        catch (OperationCanceledException)
        {
            // disposed
        }
    }

    async Task ApplyEventsAsync(IReadOnlyList<StoreEvent> events, long revision, CancellationToken cancel)
    {
        await _writing.WaitAsync(cancel);
        try
        {
            ApplyEvents(events);
            Volatile.Write(ref _revision, Math.Max(Revision, revision));
            foreach (var (key, _) in _deleted.Where(deletion => deletion.Value <= revision).ToArray())
            {
                _deleted.Remove(key);
            }
        }
        finally
        {
            _writing.Release();
        }
    }

    /// <summary>A change that is wrong is logged, and what was there before stays.</summary>
    void ApplyEvents(IReadOnlyList<StoreEvent> events)
    {
        var problems = new List<Problem>();
        foreach (var change in events)
        {
            See(change);
        }
        var before = live.Current.Documents;
        var after = events.Aggregate(before, (documents, change) => With(documents, change, problems));
        KeepLeftOut(events, problems);
        if (ReferenceEquals(before, after))
        {
            Log(problems);
            return;
        }
        var found = live.Apply(documents: after);
        if (found.Any(problem => problem.Severity == Severity.Error))
        {
            // one of them is wrong: the others must not suffer for it
            foreach (var change in events)
            {
                found = live.Apply(documents: With(live.Current.Documents, change, []));
                problems.AddRange(found);
                KeepLeftOut([change], problems);
            }
        }
        SaveCopy();
        Log(problems);
    }

    /// <summary>Of each key only its newest state can be left out.</summary>
    void KeepLeftOut(IReadOnlyList<StoreEvent> events, List<Problem> problems)
    {
        foreach (var (change, entry) in events)
        {
            if (!entry.Key.StartsWith(_root, StringComparison.Ordinal)
                || !ResourceKinds.TryParseKey(entry.Key[_root.Length..], out var kind, out var id)
                || entry.ModRevision < _leftOut.GetValueOrDefault(entry.Key)?.Document.ModifiedRevision)
            {
                continue;
            }
            var problem = change == StoreEventKind.Delete ? null
                : problems.FirstOrDefault(problem => problem.Severity == Severity.Error && problem.Place == entry.Key);
            _leftOut = problem is null
                ? _leftOut.Remove(entry.Key)
                : _leftOut.SetItem(entry.Key, new LeftOut(Parse(kind, id, entry, out _) ?? Unreadable(kind, id, entry), problem.Message));
        }
    }

    DocumentSet With(DocumentSet documents, StoreEvent change, List<Problem> problems)
    {
        var entry = change.Entry;
        if (!entry.Key.StartsWith(_root, StringComparison.Ordinal)
            || !ResourceKinds.TryParseKey(entry.Key[_root.Length..], out var kind, out var id))
        {
            return documents;
        }
        var known = documents.Find(kind, id);
        if (entry.ModRevision <= (known?.ModifiedRevision ?? _deleted.GetValueOrDefault(entry.Key)))
        {
            return documents;
        }
        if (change.Kind == StoreEventKind.Delete)
        {
            return known is null ? documents : documents.Without(kind, id);
        }
        if (Parse(kind, id, entry, out var error) is not { } document)
        {
            problems.Add(Problem.Error(entry.Key, error!));
            return documents;
        }
        return IsGood(document, documents, new(live.Maker()), problems) ? documents.With(document) : documents;
    }

    // -- Writing

    /// <param name="value">Belongs to the store from now on.</param>
    /// <param name="ttl">How long the resource stays; null: until it is deleted.</param>
    /// <param name="cancel">Takes the write back while it waits for its turn; one that was begun is finished.</param>
    public Task<WriteResult> PutAsync(ResourceKind kind, string id, JsonObject value, TimeSpan? ttl = null,
        CancellationToken cancel = default) => InTurn(
        async () =>
        {
            var draft = value.DeepClone().AsObject();
            Stamp(kind, draft, live.Current.Documents.Find(kind, id)?.Value);
            return await WriteAsync(kind, id, draft, ttl);
        },
        cancel);

    /// <summary>Puts under the next sequential id.</summary>
    /// <param name="owner">Whose it is; null: it stands alone.</param>
    public Task<WriteResult> PostAsync(ResourceKind kind, JsonObject value, TimeSpan? ttl = null, string? owner = null,
        CancellationToken cancel = default) => InTurn(
        async () =>
        {
            var number = await store.NextNumberAsync(CancellationToken.None);
            string own, id;
            do
            {
                own = number++.ToString("D20", CultureInfo.InvariantCulture);
                id = owner is null ? own : kind.OwnedPrefix(owner) + own;
            }
            while (await store.GetAsync(KeyOf(kind, id), CancellationToken.None) is not null);
            var draft = value.DeepClone().AsObject();
            draft["id"] = own;
            Stamp(kind, draft, previous: null);
            return await WriteAsync(kind, id, draft, ttl);
        },
        cancel);

    /// <param name="change">Changes a copy of the stored value in place; answers what is wrong, or null.</param>
    public Task<WriteResult> PatchAsync(
        ResourceKind kind, string id, Func<JsonObject, string?> change, TimeSpan? ttl = null, CancellationToken cancel = default) => InTurn(
        async () =>
        {
            await CatchUpAsync(kind, id);
            // what is wrong in the store can be mended there
            if ((FindLeftOut(kind, id)?.Document ?? live.Current.Documents.Find(kind, id)) is not { } old)
            {
                return new WriteResult(WriteOutcome.NotFound, KeyOf(kind, id));
            }
            var value = old.Sent.DeepClone().AsObject();
            var before = value["update_time"]?.ToJsonString();
            if (change(value) is { } error)
            {
                return new WriteResult(WriteOutcome.Refused, KeyOf(kind, id), Error: error);
            }
            if (value["update_time"]?.ToJsonString() == before)
            {
                value.Remove("update_time");
            }
            Stamp(kind, value, old.Sent);
            return await WriteAsync(kind, id, value, ttl);
        },
        cancel);

    /// <param name="force">Also when other documents still refer to it.</param>
    public Task<WriteResult> DeleteAsync(ResourceKind kind, string id, bool force = false, CancellationToken cancel = default) =>
        DeleteAsync(kind, id, force, null, cancel);

    /// <param name="still">Asked when its turn has come; null: yes.</param>
    Task<WriteResult> DeleteAsync(ResourceKind kind, string id, bool force, Func<bool>? still, CancellationToken cancel) => InTurn(
        async () =>
        {
            var key = KeyOf(kind, id);
            if (still?.Invoke() == false)
            {
                return new WriteResult(WriteOutcome.Refused, key, Error: "it was written again");
            }
            if (await store.GetAsync(key, CancellationToken.None) is not { } entry)
            {
                return new WriteResult(WriteOutcome.NotFound, key);
            }
            var documents = live.Current.Documents;
            var owned = documents.OwnedBy(kind, id).ToArray();
            var without = owned.Aggregate(documents.Without(kind, id), (rest, one) => rest.Without(one.Kind, one.Id));
            if (!force && DocumentReferences.UsedBy(documents, kind, id) is { } inUse)
            {
                return new WriteResult(WriteOutcome.Refused, key, Error: inUse);
            }
            using var prepared = live.Prepare(without);
            if (ErrorOf(key, prepared) is { } error)
            {
                return new WriteResult(WriteOutcome.Refused, key, Error: error);
            }
            string[] keys = [key, .. owned.Select(one => KeyOf(one.Kind, one.Id))];
            var deletions = keys.SelectMany(one => _expiries is { } expiries ? [new StoreOp.Delete(one), expiries.Op(one, null)]
                : (StoreOp[])[new StoreOp.Delete(one)]).ToArray();
            var users = force ? [] : DocumentReferences.UsersOf(kind);
            return await CommitAsync(key, entry.ModRevision, [.. Unchanged(users)], users, deletions, result =>
            {
                KnownUpTo(users, result);
                if (store.HasOtherWriters)
                {
                    result.Events.ToList().ForEach(deletion => _deleted[deletion.Entry.Key] = deletion.Entry.ModRevision);
                }
                foreach (var one in keys)
                {
                    _expiries?.Written(one, null);
                }
                _leftOut = _leftOut.RemoveRange(keys);
                Publish(key, prepared);
                return new WriteResult(WriteOutcome.Deleted, key);
            });
        },
        cancel);

    /// <summary>Again, from the start, when somebody else changed the same key meanwhile.</summary>
    async Task<WriteResult> InTurn(Func<Task<WriteResult>> write, CancellationToken cancel)
    {
        await _writing.WaitAsync(cancel);
        try
        {
            for (var i = 1; ; i++)
            {
                var result = await write();
                if (result.Outcome != WriteOutcome.Conflict)
                {
                    return result;
                }
                if (i == MaxTries)
                {
                    return result with { Outcome = WriteOutcome.Failed };
                }
                // of several gateways that write one key in turn each gets through, sooner or later
                await Task.Delay(TimeSpan.FromMilliseconds(Random.Shared.Next(2 * i)), time, CancellationToken.None);
                await RefreshAsync(result.Key);
                foreach (var kind in result.ReliesOn ?? [])
                {
                    await CatchUpAsync(kind);
                }
            }
        }
        catch (StoreException e)
        {
            return new WriteResult(WriteOutcome.Failed, _root, Error: e.Message);
        }
        finally
        {
            _writing.Release();
        }
    }

    /// <summary>What a key is in the store now: its news may still be on their way.</summary>
    async Task<StoreEntry?> RefreshAsync(string key)
    {
        var entry = await store.GetAsync(key, CancellationToken.None);
        if (entry is not null)
        {
            ApplyEvents([new StoreEvent(StoreEventKind.Put, entry)]);
        }
        return entry;
    }

    /// <summary>What was written elsewhere a moment ago counts, too.</summary>
    async Task CatchUpAsync(ResourceKind kind, string id)
    {
        if (store.HasOtherWriters && live.Current.Documents.Find(kind, id) is null)
        {
            await RefreshAsync(KeyOf(kind, id));
        }
    }

    /// <summary>Up to which revision a kind is known when that is further than <see cref="Revision"/>.</summary>
    readonly Dictionary<ResourceKind, long> _caughtUp = [];

    /// <summary>Reads all resources of a kind that changed since they were known.</summary>
    async Task CatchUpAsync(ResourceKind kind)
    {
        var prefix = $"{_root}{kind.Directory()}/";
        var range = await store.ListAsync(prefix, CancellationToken.None);
        var there = range.Entries.Select(entry => entry.Key).ToHashSet();
        var known = live.Current.Documents[kind].Values.Concat(kind.OwnedKind() is { } owned ? live.Current.Documents[owned].Values : []);
        var gone = known.Select(document => KeyOf(document.Kind, document.Id)).Where(key => !there.Contains(key))
            .Select(key => new StoreEvent(StoreEventKind.Delete, new StoreEntry(key, "", 0, range.Revision, 0)));
        ApplyEvents([.. range.Entries.Where(entry => !_seen.TryGetValue(entry.Key, out var seen) || seen != Seen(entry))
            .Select(entry => new StoreEvent(StoreEventKind.Put, entry)), .. gone]);
        _caughtUp[kind] = range.Revision;
    }

    /// <summary>The condition that nobody has written a resource of these kinds since they were read; none where nobody else
    /// writes.</summary>
    IEnumerable<StoreCompare> Unchanged(IEnumerable<ResourceKind> kinds) => store.HasOtherWriters
        ? kinds.Select(kind => new StoreCompare($"{_root}{kind.Directory()}/", Math.Max(Revision, _caughtUp.GetValueOrDefault(kind)),
            IsPrefix: true))
        : [];

    async Task<WriteResult> WriteAsync(ResourceKind kind, string id, JsonObject value, TimeSpan? ttl)
    {
        var key = KeyOf(kind, id);
        if (kind.OwnerKind() is { } ownerKind)
        {
            var owner = kind.OwnedParts(id).Owner;
            await CatchUpAsync(ownerKind, owner);
            if (live.Current.Documents.Find(ownerKind, owner) is null)
            {
                return new WriteResult(WriteOutcome.NotFound, key, Error: $"{ownerKind.Singular()} not found");
            }
        }
        foreach (var (referred, reference) in DocumentReferences.ReferencesOf(value))
        {
            await CatchUpAsync(referred, reference);
        }
        var (documents, consumers) = (live.Current.Documents, live.Current.Consumers);
        Secrets.DecryptClientKey(kind, value, live.Current.Settings.Encryption);
        if (kind == ResourceKind.PluginMetadata)
        {
            value["id"] = id;
        }
        var draft = Document.Of(kind, id, value, 0, 0, key);
        var intake = new DocumentIntake(live.Maker());
        var (error, warnings) = intake.Take(draft, documents);
        error ??= intake.Conflict(kind, id, draft.Value, documents, consumers);
        using var prepared = error is null ? live.Prepare(documents.With(draft)) : null;
        if ((error ?? ErrorOf(key, prepared!)) is { } refused)
        {
            return new WriteResult(WriteOutcome.Refused, key, Error: refused);
        }
        var revision = FindLeftOut(kind, id)?.Document.ModifiedRevision ?? documents.Find(kind, id)?.ModifiedRevision
            ?? (await store.GetAsync(key, CancellationToken.None))?.ModRevision ?? 0;
        var stored = Stored(draft);
        StoreOp put = new StoreOp.Put(key, JsonBytes.Text(stored), ttl);
        // what it refers to is as it was checked, and no other has taken what must be its alone
        ResourceKind[] alone = DocumentIntake.MayConflictWith(kind);
        ResourceKind[] references = [.. DocumentReferences.ReferencesOf(value).Select(reference => reference.Kind).Distinct()];
        StoreCompare[] conditions = store.HasOtherWriters
            ? [.. Unchanged(alone), .. DocumentReferences.ReferencesOf(value)
                .Select(reference => documents.Find(reference.Kind, reference.Id)).OfType<Document>()
                .Where(referred => referred.ModifiedRevision > 0)
                .Select(referred => new StoreCompare(referred.Place, referred.ModifiedRevision)).Distinct()]
            : [];
        return await CommitAsync(key, revision, conditions, [.. alone, .. references],
            _expiries is { } expiries ? [put, expiries.Op(key, ttl)] : [put], result =>
        {
            KnownUpTo(alone, result);
            _expiries?.Written(key, ttl);
            _leftOut = _leftOut.Remove(key);
            var entry = result.Events[0].Entry;
            draft.Written(entry.CreateRevision, entry.ModRevision);
            Publish(key, prepared!);
            foreach (var warning in warnings)
            {
                LogWarning(key, warning);
            }
            return new WriteResult(entry.Version == 1 ? WriteOutcome.Created : WriteOutcome.Updated, key, draft, Stored: stored,
                Warnings: warnings);
        });
    }

    /// <summary>After a write under the condition that these were unchanged.</summary>
    void KnownUpTo(IEnumerable<ResourceKind> kinds, StoreResult result)
    {
        foreach (var kind in store.HasOtherWriters ? kinds : [])
        {
            _caughtUp[kind] = result.Revision;
        }
    }

    /// <param name="conditions">Of what the write relies on besides its own key.</param>
    /// <param name="reliesOn">What to read again when they do not hold.</param>
    async Task<WriteResult> CommitAsync(
        string key, long revision, IReadOnlyList<StoreCompare> conditions, ResourceKind[] reliesOn, IReadOnlyList<StoreOp> ops,
        Func<StoreResult, WriteResult> done)
    {
        try
        {
            var result = await store.Transaction([new StoreCompare(key, revision), .. conditions], ops, CancellationToken.None);
            if (!result.Succeeded)
            {
                return new WriteResult(WriteOutcome.Conflict, key, Error: "value changed before overwritten") { ReliesOn = reliesOn };
            }
            foreach (var change in result.Events)
            {
                See(change);
            }
            return done(result);
        }
        catch (Exception e)
        {
            LogWriteFailed(e, key);
            return new WriteResult(WriteOutcome.Failed, key, Error: e.Message);
        }
    }

    /// <summary>The first error of the whole, or null.</summary>
    static string? ErrorOf(string key, PreparedConfiguration prepared) =>
        prepared.Problems.FirstOrDefault(problem => problem.Severity == Severity.Error) is { } problem
            ? $"invalid configuration: {(problem.Place == key ? problem.Message : problem.ToString())}"
            : null;

    void Publish(string key, PreparedConfiguration prepared)
    {
        // it compiled a moment ago; the settings may have changed since
        foreach (var problem in live.Publish(prepared).Where(problem => problem.Severity == Severity.Error))
        {
            LogNotApplied(key, problem.Place, problem.Message);
        }
        SaveCopy();
    }

    JsonObject Stored(Document document) =>
        Secrets.Encrypted(document.Kind, document.Id, document.Sent, live.Current.Plugins, live.Current.Settings.Encryption);

    void SaveCopy() => copy?.Schedule(() =>
    {
        var revision = Revision;
        return new StoreRange(revision, [.. ResourceKinds.All.SelectMany(kind => live.Current.Documents[kind].Values).Select(document =>
            new StoreEntry(document.Place, JsonBytes.Text(Stored(document)), document.CreatedRevision, document.ModifiedRevision, 1))]);
    });

    /// <summary>create_time stays, update_time is now unless the value brings its own. Metadata has neither.</summary>
    void Stamp(ResourceKind kind, JsonObject value, JsonObject? previous)
    {
        if (kind == ResourceKind.PluginMetadata)
        {
            return;
        }
        var now = time.GetUtcNow().ToUnixTimeSeconds();
        value["create_time"] ??= previous?["create_time"]?.DeepClone() ?? now;
        value["update_time"] ??= now;
    }

    [LoggerMessage(Level = LogLevel.Error,
        Message = "{Key}: {Problem}; this state of it stays in the store and is left out of the configuration")]
    partial void LogLeftOut(string key, string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "what was left out of the configuration could not be looked at again: {Reason}")]
    partial void LogNotLookedAt(string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the store's changes can no longer be followed ({Reason}); reading everything anew")]
    partial void LogReadAnew(string reason);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "etcd has another history than the one that was followed up to revision {Known} (it is at {Revision} now): it was "
            + "restored from a snapshot, or is another etcd; everything was read anew")]
    partial void LogOtherHistory(long known, long revision);

    [LoggerMessage(Level = LogLevel.Error, Message = "following the store failed; it is tried again")]
    partial void LogFollowFailed(Exception exception);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Key}: its time is over: {Outcome}")]
    partial void LogEnded(string key, string outcome);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Key}: {Problem}")]
    partial void LogWarning(string key, string problem);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Key} could not be written; nothing was changed")]
    partial void LogWriteFailed(Exception exception, string key);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Key} was stored, but the configuration could not be applied: {Place}: {Problem}")]
    partial void LogNotApplied(string key, string place, string problem);
}

using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;
using Sluice.Sources.Etcd;

namespace Sluice.Sources;

public enum WriteOutcome
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
public sealed record WriteResult(
    WriteOutcome Outcome, string Key, Document? Document = null, string? Error = null, JsonObject? Stored = null, IReadOnlyList<string>? Warnings = null);

/// <summary>
/// The resources in a store (embedded, or etcd), under etcd's keys (<c>/apisix/routes/r1</c>). One write at a time: check → compile → write
/// durably → swap. A document is applied whole or refused whole; a write that is refused or that the store refuses changes nothing.
/// What others write into the same store is taken in as it comes (<see cref="Follow"/>).
/// </summary>
/// <param name="live">Has its settings already: they say which plugins there are.</param>
/// <param name="prefix">Of all keys: <c>/apisix</c>.</param>
/// <param name="copy">Kept up to date with what is applied; null: none is kept.</param>
public sealed partial class ResourceStore(
    IKeyValueStore store, LiveConfiguration live, TimeProvider time, ILogger<ResourceStore> logger, string prefix = ResourceStore.DefaultPrefix, LocalCopy? copy = null)
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
    /// <summary>Null: the store keeps the time itself.</summary>
    Expiries? _expiries;
    Task _following = Task.CompletedTask;
    long _revision;

    /// <summary>Up to which revision of the store the configuration is.</summary>
    public long Revision => Volatile.Read(ref _revision);

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
    /// Applies all that is stored. A document that does not pass the check (any more) is logged with its key, stays in the store and is left
    /// out of the configuration.
    /// </summary>
    /// <exception cref="StoreException">The store does not answer.</exception>
    public async Task<IReadOnlyList<Problem>> LoadAsync(CancellationToken cancel = default)
    {
        var range = await store.ListAsync(_root, cancel);
        var problems = await LoadAsync(range, cancel);
        if (!store.HasOtherWriters)
        {
            _expiries ??= new Expiries(time, () => _ = RemoveEndedAsync());
            await _expiries.LoadAsync(store, cancel);
        }
        return problems;
    }

    /// <summary>Applies what a store had at some time.</summary>
    public async Task<IReadOnlyList<Problem>> LoadAsync(StoreRange range, CancellationToken cancel = default)
    {
        await _writing.WaitAsync(cancel);
        try
        {
            var problems = new List<Problem>();
            ApplyAll(Check(Read(range.Entries, problems), problems), problems);
            Volatile.Write(ref _revision, range.Revision);
            _deleted.Clear();
            SaveCopy();
            Log(problems);
            return problems;
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

    List<Document> Read(IReadOnlyList<StoreEntry> entries, List<Problem> problems)
    {
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
            }
        }
        return documents;
    }

    /// <summary>Keys that APISIX itself uses beside the resources.</summary>
    bool IsOthers(string key) => key[_root.Length..] is "gen_id" or "plugins" || key.StartsWith(_root + "data_plane/", StringComparison.Ordinal);

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
            return value is null ? null : new Document(kind, id, value, entry.CreateRevision, entry.ModRevision, entry.Key);
        }
        catch (JsonTextException e)
        {
            error = e.Message;
            return null;
        }
    }

    DocumentSet Check(List<Document> stored, List<Problem> problems)
    {
        var (running, plugins) = (live.Current.Documents, live.Current.Plugins);
        var all = DocumentSet.Of(stored);
        var good = new List<Document>(stored.Count);
        foreach (var document in stored)
        {
            // the same object as before keeps what was compiled from it
            var known = running.Find(document.Kind, document.Id);
            if (known?.ModifiedRevision == document.ModifiedRevision && known.Place == document.Place)
            {
                good.Add(known);
            }
            else if (IsGood(document, all, plugins, problems))
            {
                good.Add(document);
            }
        }
        return DocumentSet.Of(good);
    }

    static bool IsGood(Document document, DocumentSet all, PluginRegistry plugins, List<Problem> problems)
    {
        var warnings = new List<string>();
        var error = DocumentCheck.Check(document.Kind, document.Id, document.Value, all.WithMissingReferences(document.Value), plugins, warnings);
        problems.AddRange(warnings.Select(warning => Problem.Warning(document.Place, warning)));
        if (error is not null)
        {
            problems.Add(Problem.Error(document.Place, error));
        }
        return error is null;
    }

    /// <summary>Without the documents that the whole does not compile with.</summary>
    void ApplyAll(DocumentSet documents, List<Problem> problems)
    {
        while (true)
        {
            var found = live.Apply(documents: documents);
            problems.AddRange(found);
            var bad = found.Where(problem => problem.Severity == Severity.Error).Select(problem => problem.Place).ToHashSet();
            if (bad.Count == 0)
            {
                return;
            }
            var left = ResourceKinds.All.SelectMany(kind => documents[kind].Values).ToArray();
            var good = left.Where(document => !bad.Contains(document.Place)).ToArray();
            if (good.Length == left.Length)
            {
                return;
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
                if (key.StartsWith(_root, StringComparison.Ordinal) && ResourceKinds.TryParseKey(key[_root.Length..], out var kind, out var id))
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
            try
            {
                await foreach (var changes in store.Watch(_root, Revision + 1, cancel))
                {
                    await TakeInAsync(changes.Events, changes.Revision, cancel);
                }
                return;
            }
            catch (CompactedException e)
            {
                LogReadAnew(e.Message);
                await ReadAnewAsync(cancel);
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
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

    async Task TakeInAsync(IReadOnlyList<StoreEvent> events, long revision, CancellationToken cancel)
    {
        await _writing.WaitAsync(cancel);
        try
        {
            TakeIn(events);
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
    void TakeIn(IReadOnlyList<StoreEvent> events)
    {
        var problems = new List<Problem>();
        var before = live.Current.Documents;
        var after = events.Aggregate(before, (documents, change) => With(documents, change, problems));
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
            }
        }
        SaveCopy();
        Log(problems);
    }

    DocumentSet With(DocumentSet documents, StoreEvent change, List<Problem> problems)
    {
        var entry = change.Entry;
        if (!entry.Key.StartsWith(_root, StringComparison.Ordinal) || !ResourceKinds.TryParseKey(entry.Key[_root.Length..], out var kind, out var id))
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
        return IsGood(document, documents, live.Current.Plugins, problems) ? documents.With(document) : documents;
    }

    // -- Writing

    /// <param name="value">Belongs to the store from now on.</param>
    /// <param name="ttl">How long the resource stays; null: until it is deleted.</param>
    /// <param name="cancel">Takes the write back while it waits for its turn; one that was begun is finished.</param>
    public Task<WriteResult> PutAsync(ResourceKind kind, string id, JsonObject value, TimeSpan? ttl = null, CancellationToken cancel = default) => InTurn(
        async () =>
        {
            var draft = value.DeepClone().AsObject();
            Stamp(kind, draft, live.Current.Documents.Find(kind, id)?.Value);
            return await WriteAsync(kind, id, draft, ttl);
        },
        cancel);

    /// <summary>Puts under the next sequential id.</summary>
    public Task<WriteResult> PostAsync(ResourceKind kind, JsonObject value, TimeSpan? ttl = null, CancellationToken cancel = default) => InTurn(
        async () =>
        {
            var number = await store.NextNumberAsync(CancellationToken.None);
            string id;
            do
            {
                id = number++.ToString("D20", CultureInfo.InvariantCulture);
            }
            while (await store.GetAsync(KeyOf(kind, id), CancellationToken.None) is not null);
            var draft = value.DeepClone().AsObject();
            draft["id"] = id;
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
            if (live.Current.Documents.Find(kind, id) is not { } old)
            {
                return new WriteResult(WriteOutcome.NotFound, KeyOf(kind, id));
            }
            var value = old.Value.DeepClone().AsObject();
            var before = value["update_time"]?.ToJsonString();
            if (change(value) is { } error)
            {
                return new WriteResult(WriteOutcome.Refused, KeyOf(kind, id), Error: error);
            }
            if (value["update_time"]?.ToJsonString() == before)
            {
                value.Remove("update_time");
            }
            Stamp(kind, value, old.Value);
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
            var credentials = kind == ResourceKind.Consumers ? documents.CredentialsOf(id).ToArray() : [];
            var without = credentials.Aggregate(documents.Without(kind, id), (rest, credential) => rest.Without(credential.Kind, credential.Id));
            if ((force ? null : DocumentCheck.UsedBy(documents, kind, id)) is { } error || (error = Compile(key, without)) is not null)
            {
                return new WriteResult(WriteOutcome.Refused, key, Error: error);
            }
            string[] keys = [key, .. credentials.Select(credential => KeyOf(credential.Kind, credential.Id))];
            var deletions = keys.SelectMany(one => _expiries is { } expiries ? [new StoreOp.Delete(one), expiries.Op(one, null)] : (StoreOp[])[new StoreOp.Delete(one)]).ToArray();
            return await Durably(key, entry.ModRevision, deletions, result =>
            {
                if (store.HasOtherWriters)
                {
                    result.Events.ToList().ForEach(deletion => _deleted[deletion.Entry.Key] = deletion.Entry.ModRevision);
                }
                foreach (var one in keys)
                {
                    _expiries?.Written(one, null);
                }
                Swap(key, without);
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
            TakeIn([new StoreEvent(StoreEventKind.Put, entry)]);
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

    async Task<WriteResult> WriteAsync(ResourceKind kind, string id, JsonObject value, TimeSpan? ttl)
    {
        var key = KeyOf(kind, id);
        if (kind == ResourceKind.Credentials)
        {
            var username = ResourceKinds.CredentialOf(id).Username;
            await CatchUpAsync(ResourceKind.Consumers, username);
            if (live.Current.Documents.Find(ResourceKind.Consumers, username) is null)
            {
                return new WriteResult(WriteOutcome.NotFound, key, Error: "consumer not found");
            }
        }
        foreach (var (referred, reference) in DocumentCheck.ReferencesOf(value))
        {
            await CatchUpAsync(referred, reference);
        }
        var warnings = new List<string>();
        var (documents, plugins, consumers) = (live.Current.Documents, live.Current.Plugins, live.Current.Consumers);
        Secrets.DecryptClientKey(kind, value, live.Current.Settings.Encryption);
        var draft = new Document(kind, id, value, 0, 0, key);
        var error = DocumentCheck.Check(kind, id, value, documents, plugins, warnings)
            ?? DocumentCheck.Conflict(kind, id, value, documents, plugins, consumers)
            ?? Compile(key, documents.With(draft));
        if (error is not null)
        {
            return new WriteResult(WriteOutcome.Refused, key, Error: error);
        }
        var revision = documents.Find(kind, id)?.ModifiedRevision ?? (await store.GetAsync(key, CancellationToken.None))?.ModRevision ?? 0;
        var stored = Stored(draft);
        StoreOp put = new StoreOp.Put(key, JsonBytes.Text(stored), ttl);
        return await Durably(key, revision, _expiries is { } expiries ? [put, expiries.Op(key, ttl)] : [put], result =>
        {
            _expiries?.Written(key, ttl);
            var entry = result.Events[0].Entry;
            var document = draft with { CreatedRevision = entry.CreateRevision, ModifiedRevision = entry.ModRevision };
            Swap(key, documents.With(document));
            warnings.ForEach(warning => LogWarning(key, warning));
            return new WriteResult(entry.Version == 1 ? WriteOutcome.Created : WriteOutcome.Updated, key, document, Stored: stored, Warnings: warnings);
        });
    }

    async Task<WriteResult> Durably(string key, long revision, IReadOnlyList<StoreOp> ops, Func<StoreResult, WriteResult> done)
    {
        try
        {
            var result = await store.Transaction([new StoreCompare(key, revision)], ops, CancellationToken.None);
            return result.Succeeded
                ? done(result)
                : new WriteResult(WriteOutcome.Conflict, key, Error: "value changed before overwritten");
        }
        catch (Exception e)
        {
            LogWriteFailed(e, key);
            return new WriteResult(WriteOutcome.Failed, key, Error: e.Message);
        }
    }

    /// <summary>The first error of the whole, or null.</summary>
    string? Compile(string key, DocumentSet documents) =>
        live.Try(documents).FirstOrDefault(problem => problem.Severity == Severity.Error) is { } problem
            ? $"invalid configuration: {(problem.Place == key ? problem.Message : problem.ToString())}"
            : null;

    void Swap(string key, DocumentSet documents)
    {
        // it compiled a moment ago; the settings may have changed since
        foreach (var problem in live.Apply(documents: documents).Where(problem => problem.Severity == Severity.Error))
        {
            LogNotApplied(key, problem.Place, problem.Message);
        }
        SaveCopy();
    }

    JsonObject Stored(Document document) =>
        Secrets.Encrypted(document.Kind, document.Id, document.Value, live.Current.Plugins, live.Current.Settings.Encryption);

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

    [LoggerMessage(Level = LogLevel.Error, Message = "{Key}: {Problem}; this state of it stays in the store and is left out of the configuration")]
    partial void LogLeftOut(string key, string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the store's changes can no longer be followed ({Reason}); reading everything anew")]
    partial void LogReadAnew(string reason);

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

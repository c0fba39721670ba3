using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;

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
}

/// <summary>What became of a write.</summary>
/// <param name="Key"><c>/apisix/routes/r1</c></param>
/// <param name="Document">As it is stored now; null when it was deleted or not written.</param>
/// <param name="Error">As it stands in <c>error_msg</c>; null when the write was done.</param>
/// <param name="Warnings">What was accepted and has no effect.</param>
public sealed record WriteResult(WriteOutcome Outcome, string Key, Document? Document = null, string? Error = null, IReadOnlyList<string>? Warnings = null);

/// <summary>
/// The resources in the embedded store, under etcd's keys (<c>/apisix/routes/r1</c>). One write at a time: check → compile → write
/// durably → swap. A document is applied whole or refused whole; a write that is refused or that the disk refuses changes nothing.
/// </summary>
/// <param name="live">Has its settings already: they say which plugins there are.</param>
public sealed partial class ResourceStore(EmbeddedStore store, LiveConfiguration live, TimeProvider time, ILogger<ResourceStore> logger) : IDisposable
{
    const string Prefix = "/apisix/";

    /// <summary>More than a request may have: patches put values deeper.</summary>
    const int StoredDepth = 256;

    readonly SemaphoreSlim _writing = new(1, 1);

    public static string Key(ResourceKind kind, string id) => $"{Prefix}{kind.Directory()}/{id}";

    public void Dispose() => _writing.Dispose();

    // -- Loading

    /// <summary>
    /// Applies all that is stored: at the start, and again when the settings changed. A document that does not pass the check (any more) is
    /// logged with its key, stays in the store and is left out of the configuration.
    /// </summary>
    public IReadOnlyList<Problem> Load()
    {
        _writing.Wait();
        try
        {
            var problems = new List<Problem>();
            Apply(Check(Read(problems), problems), problems);
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
            return problems;
        }
        finally
        {
            _writing.Release();
        }
    }

    List<Document> Read(List<Problem> problems)
    {
        var documents = new List<Document>();
        foreach (var entry in store.List(Prefix).Entries)
        {
            if (!ResourceKinds.TryParseKey(entry.Key[Prefix.Length..], out var kind, out var id))
            {
                problems.Add(Problem.Warning(entry.Key, "no resource that this version of Sluice knows"));
                continue;
            }
            try
            {
                if (CjsonReader.Parse(Encoding.UTF8.GetBytes(entry.Value), StoredDepth) is JsonObject value)
                {
                    documents.Add(new Document(kind, id, value, entry.CreateRevision, entry.ModRevision, entry.Key));
                }
                else
                {
                    problems.Add(Problem.Error(entry.Key, "expected a JSON object"));
                }
            }
            catch (JsonTextException e)
            {
                problems.Add(Problem.Error(entry.Key, e.Message));
            }
        }
        return documents;
    }

    DocumentSet Check(List<Document> stored, List<Problem> problems)
    {
        var (running, plugins) = (live.Current.Documents, live.Current.Plugins);
        var all = DocumentSet.Of(stored);
        var good = new List<Document>(stored.Count);
        foreach (var document in stored)
        {
            var warnings = new List<string>();
            var error = DocumentCheck.Check(document.Kind, document.Id, document.Value, all.WithMissingReferences(document.Value), plugins, warnings);
            problems.AddRange(warnings.Select(warning => Problem.Warning(document.Place, warning)));
            if (error is not null)
            {
                problems.Add(Problem.Error(document.Place, error));
                continue;
            }
            // the same object as before keeps what was compiled from it
            var known = running.Find(document.Kind, document.Id);
            good.Add(known?.ModifiedRevision == document.ModifiedRevision && known.Place == document.Place ? known : document);
        }
        return DocumentSet.Of(good);
    }

    /// <summary>Without the documents that the whole does not compile with.</summary>
    void Apply(DocumentSet documents, List<Problem> problems)
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

    // -- Writing

    /// <param name="value">Belongs to the store from now on.</param>
    /// <param name="cancel">Takes the write back while it waits for its turn; one that was begun is finished.</param>
    public Task<WriteResult> PutAsync(ResourceKind kind, string id, JsonObject value, CancellationToken cancel = default) => InTurn(
        documents =>
        {
            Stamp(kind, value, documents.Find(kind, id)?.Value);
            return WriteAsync(kind, id, value, documents);
        },
        cancel);

    /// <summary>Puts under the next sequential id.</summary>
    public Task<WriteResult> PostAsync(ResourceKind kind, JsonObject value, CancellationToken cancel = default) => InTurn(
        documents =>
        {
            var number = store.Revision + 1;
            string id;
            do
            {
                id = number++.ToString("D20", CultureInfo.InvariantCulture);
            }
            while (store.Get(Key(kind, id)) is not null);
            value["id"] = id;
            Stamp(kind, value, previous: null);
            return WriteAsync(kind, id, value, documents);
        },
        cancel);

    /// <param name="change">Changes a copy of the stored value in place; answers what is wrong, or null.</param>
    public Task<WriteResult> PatchAsync(
        ResourceKind kind, string id, Func<JsonObject, string?> change, CancellationToken cancel = default) => InTurn(
        async documents =>
        {
            if (documents.Find(kind, id) is not { } old)
            {
                return new WriteResult(WriteOutcome.NotFound, Key(kind, id));
            }
            var value = old.Value.DeepClone().AsObject();
            var before = value["update_time"]?.ToJsonString();
            if (change(value) is { } error)
            {
                return new WriteResult(WriteOutcome.Refused, Key(kind, id), Error: error);
            }
            if (value["update_time"]?.ToJsonString() == before)
            {
                value.Remove("update_time");
            }
            Stamp(kind, value, old.Value);
            return await WriteAsync(kind, id, value, documents);
        },
        cancel);

    /// <param name="force">Also when other documents still refer to it.</param>
    public Task<WriteResult> DeleteAsync(ResourceKind kind, string id, bool force = false, CancellationToken cancel = default) => InTurn(
        async documents =>
        {
            var key = Key(kind, id);
            if (store.Get(key) is not { } entry)
            {
                return new WriteResult(WriteOutcome.NotFound, key);
            }
            var credentials = kind == ResourceKind.Consumers ? documents.CredentialsOf(id).ToArray() : [];
            var without = credentials.Aggregate(documents.Without(kind, id), (rest, credential) => rest.Without(credential.Kind, credential.Id));
            if ((force ? null : DocumentCheck.UsedBy(documents, kind, id)) is { } error || (error = Compile(key, without)) is not null)
            {
                return new WriteResult(WriteOutcome.Refused, key, Error: error);
            }
            StoreOp[] deletions = [new StoreOp.Delete(key), .. credentials.Select(credential => new StoreOp.Delete(Key(credential.Kind, credential.Id)))];
            return await Durably(entry.Key, entry.ModRevision, deletions, _ =>
            {
                Swap(key, without);
                return new WriteResult(WriteOutcome.Deleted, key);
            });
        },
        cancel);

    async Task<WriteResult> InTurn(Func<DocumentSet, Task<WriteResult>> write, CancellationToken cancel)
    {
        await _writing.WaitAsync(cancel);
        try
        {
            return await write(live.Current.Documents);
        }
        finally
        {
            _writing.Release();
        }
    }

    async Task<WriteResult> WriteAsync(ResourceKind kind, string id, JsonObject value, DocumentSet documents)
    {
        var key = Key(kind, id);
        if (kind == ResourceKind.Credentials && documents.Find(ResourceKind.Consumers, ResourceKinds.CredentialOf(id).Username) is null)
        {
            return new WriteResult(WriteOutcome.NotFound, key, Error: "consumer not found");
        }
        var warnings = new List<string>();
        var plugins = live.Current.Plugins;
        var draft = new Document(kind, id, value, 0, 0, key);
        var error = DocumentCheck.Check(kind, id, value, documents, plugins, warnings)
            ?? DocumentCheck.Conflict(kind, id, value, documents, plugins)
            ?? Compile(key, documents.With(draft));
        if (error is not null)
        {
            return new WriteResult(WriteOutcome.Refused, key, Error: error);
        }
        return await Durably(key, store.Get(key)?.ModRevision ?? 0, [new StoreOp.Put(key, JsonBytes.Text(value))], entry =>
        {
            var document = draft with { CreatedRevision = entry.CreateRevision, ModifiedRevision = entry.ModRevision };
            Swap(key, documents.With(document));
            warnings.ForEach(warning => LogWarning(key, warning));
            return new WriteResult(entry.Version == 1 ? WriteOutcome.Created : WriteOutcome.Updated, key, document, Warnings: warnings);
        });
    }

    async Task<WriteResult> Durably(string key, long revision, IReadOnlyList<StoreOp> ops, Func<StoreEntry, WriteResult> done)
    {
        try
        {
            var result = await store.Transaction([new StoreCompare(key, revision)], ops, CancellationToken.None);
            return result.Succeeded
                ? done(result.Events[0].Entry)
                : new WriteResult(WriteOutcome.Failed, key, Error: "value changed before overwritten");
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
    }

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

    [LoggerMessage(Level = LogLevel.Error, Message = "{Key}: {Problem}; the document stays in the store and is left out of the configuration")]
    partial void LogLeftOut(string key, string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Key}: {Problem}")]
    partial void LogWarning(string key, string problem);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Key} could not be written; nothing was changed")]
    partial void LogWriteFailed(Exception exception, string key);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Key} was stored, but the configuration could not be applied: {Place}: {Problem}")]
    partial void LogNotApplied(string key, string place, string problem);
}

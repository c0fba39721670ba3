using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sluice.Model;

namespace Sluice.Pipeline.References;

/// <summary>How long a secret that was found, or not found, is not asked for again.</summary>
internal sealed record SecretTimes(TimeSpan Found, TimeSpan NotFound)
{
    public static SecretTimes Default { get; } = new(TimeSpan.FromMinutes(5), TimeSpan.FromMinutes(1));
}

/// <summary>
/// What references stand for, fetched when first needed and kept for a time. When a manager cannot be asked later on, the last value stays
/// in use.
/// </summary>
internal sealed partial class SecretStore(
    TimeProvider time, Func<string, string?> environment, SecretManagers managers, ILogger<SecretStore> logger)
{
    const int MaxKept = 4096;

    readonly ConcurrentDictionary<string, Entry> _entries = new();

    sealed class Entry
    {
        public Document? Manager;
        public string? Value;
        public Task<string>? Fetch;
        public long Since;
        public TimeSpan Keep;
    }

    /// <summary>Where the managers' configurations are.</summary>
    public Func<DocumentSet> Documents { get; set; } = static () => DocumentSet.Empty;

    public SecretTimes Times { get; set; } = SecretTimes.Default;

    /// <summary>What a text stands for: itself, when it refers to nothing.</summary>
    /// <exception cref="SecretException">It refers to something that is not there.</exception>
    public ValueTask<string> ResolveAsync(string text) =>
        !SecretReference.Is(text) ? new(text)
        : SecretReference.IsEnvironment(text) ? new(SecretReference.Environment(text, environment))
        : FetchAsync(text);

    /// <summary>A copy of a configuration without references.</summary>
    public async ValueTask<JsonNode> ResolveAsync(JsonNode tree)
    {
        Dictionary<string, string> values = [];
        foreach (var reference in SecretReference.In(tree).Distinct())
        {
            values[reference] = await ResolveAsync(reference);
        }
        return SecretReference.Replace(tree, values.GetValueOrDefault)!;
    }

    /// <summary>The configuration with the environment's part replaced, itself when there is none; what is not set stays, for
    /// <see cref="ResolveAsync(JsonNode)"/> to complain.</summary>
    public JsonObject WithEnvironment(JsonObject tree) =>
        !SecretReference.In(tree).Any(SecretReference.IsEnvironment) ? tree
            : (JsonObject)SecretReference.Replace(tree, text => SecretReference.IsEnvironment(text) ? KnownEnvironment(text) : null)!;

    string? KnownEnvironment(string reference)
    {
        try
        {
            return SecretReference.Environment(reference, environment);
        }
        catch (SecretException)
        {
            return null;
        }
    }

    /// <summary>The value without waiting: null while nobody has fetched it.</summary>
    public string? Known(string reference) =>
        SecretReference.IsEnvironment(reference) ? KnownEnvironment(reference)
            : _entries.TryGetValue(reference, out var entry) && entry.Manager == ManagerOf(reference) ? Volatile.Read(ref entry.Value)
            : null;

    Document? ManagerOf(string reference)
    {
        try
        {
            var (manager, id, _) = SecretReference.Parse(reference);
            return Documents().Find(ResourceKind.Secrets, $"{manager}/{id}");
        }
        catch (SecretException)
        {
            return null;
        }
    }

    async ValueTask<string> FetchAsync(string reference)
    {
        var (name, id, key) = SecretReference.Parse(reference);
        var manager = Documents().Find(ResourceKind.Secrets, $"{name}/{id}")
            ?? throw new SecretException($"{reference}: no secret conf: there is no resource secrets/{name}/{id}");
        if (_entries.Count > MaxKept)
        {
            _entries.Clear();
        }
        var entry = _entries.GetOrAdd(reference, static _ => new());
        Task<string> fetch;
        string? last;
        lock (entry)
        {
            if (!ReferenceEquals(entry.Manager, manager))
            {
                (entry.Manager, entry.Value, entry.Fetch) = (manager, null, null);
            }
            if (entry.Fetch is null || (entry.Fetch.IsCompleted && time.GetElapsedTime(entry.Since) >= entry.Keep))
            {
                entry.Fetch = AskAsync(entry, reference, name, key, manager);
            }
            (fetch, last) = (entry.Fetch, entry.Value);
        }
        return last ?? await fetch;
    }

    async Task<string> AskAsync(Entry entry, string reference, string name, string key, Document manager)
    {
        // not under the caller's lock
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        try
        {
            var value = await managers.AskAsync(name, manager.Value, key, reference, ResolveManagersOwn);
            lock (entry)
            {
                if (ReferenceEquals(entry.Manager, manager))
                {
                    (entry.Value, entry.Since, entry.Keep) = (value, time.GetTimestamp(), Times.Found);
                }
            }
            return value;
        }
        catch (Exception e)
        {
            lock (entry)
            {
                (entry.Since, entry.Keep) = (time.GetTimestamp(), Times.NotFound);
            }
            var failure = e as SecretException ?? new SecretException($"{reference}: {e.Message}", e);
            LogFailed(failure.Message);
            throw failure;
        }
    }

    /// <summary>A manager's token may itself stand in the environment.</summary>
    string ResolveManagersOwn(string text) => SecretReference.IsEnvironment(text) ? SecretReference.Environment(text, environment) : text;

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to fetch secret value: {What}")]
    partial void LogFailed(string what);
}

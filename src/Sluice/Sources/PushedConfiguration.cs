using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Sources;

/// <summary>What is wrong with one item of a pushed configuration; without an index, with the whole of a kind.</summary>
internal sealed record PushProblem(string Kind, int? Index, string Message, string? Id = null);

internal enum PushOutcome
{
    Applied,

    /// <summary>The digest is that of what is running.</summary>
    Unchanged,

    /// <summary>Nothing was changed.</summary>
    Refused,
}

/// <summary>
/// APISIX's API-driven standalone mode: the whole configuration comes as one JSON object, <c>{"routes": […], "routes_conf_version": 7,
/// …}</c>, with a digest, and
/// is applied whole or refused whole. It is kept in memory; a kind whose version is the running one stays as it is.
/// </summary>
/// <param name="live">Has its settings already: they say which plugins there are.</param>
internal sealed class PushedConfiguration(LiveConfiguration live, TimeProvider time) : IConfigurationSource
{
    const string VersionEnding = "_conf_version";

    static readonly ResourceKind[] Kinds = [.. ResourceKinds.All.Where(kind => kind.OwnerKind() is null)];

    readonly Lock _pushing = new();
    State _state = new(Kinds.ToDictionary(kind => kind, _ => new Section([], 0)), null, 0);

    /// <summary>As it was sent.</summary>
    sealed record Section(JsonArray Items, double Version);

    sealed record State(IReadOnlyDictionary<ResourceKind, Section> Sections, string? Digest, long LastModified);

    /// <summary>Of the running configuration; null before the first push.</summary>
    public string? Digest => Volatile.Read(ref _state).Digest;

    /// <summary>When it was pushed, in seconds since 1970.</summary>
    public long LastModified => Volatile.Read(ref _state).LastModified;

    public string? NotReady => Digest is null ? "no configuration was put to /apisix/admin/configs yet" : null;

    /// <summary>There is nothing before the first push.</summary>
    public Task<IReadOnlyList<Problem>> StartAsync(CancellationToken cancel) => Task.FromResult<IReadOnlyList<Problem>>([]);

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <summary>The running configuration as it was sent, with the versions of all kinds.</summary>
    public JsonObject Show()
    {
        var state = Volatile.Read(ref _state);
        var shown = new JsonObject();
        foreach (var (kind, section) in state.Sections)
        {
            if (section.Items.Count > 0)
            {
                shown[kind.Segment()] = section.Items.DeepClone();
            }
            shown[kind.Segment() + VersionEnding] = section.Version;
        }
        if (state.Digest is { } digest)
        {
            shown["X-Digest"] = digest;
            shown["X-Last-Modified"] = state.LastModified;
        }
        return shown;
    }

    /// <param name="digest">Whatever the sender tells one configuration from another by.</param>
    public (PushOutcome Outcome, string? Error) Push(JsonObject body, string digest)
    {
        lock (_pushing)
        {
            if (digest == _state.Digest)
            {
                return (PushOutcome.Unchanged, null);
            }
            var sections = new Dictionary<ResourceKind, Section>();
            foreach (var kind in Kinds)
            {
                if (Next(kind, body, _state.Sections[kind], out var section) is { } wrong)
                {
                    return (PushOutcome.Refused, wrong);
                }
                sections[kind] = section;
            }
            var problems = new List<PushProblem>();
            var documents = Check(sections.ToDictionary(pair => pair.Key, pair => pair.Value.Items), problems);
            if ((problems is [var first, ..] ? first.Message : Apply(documents)) is { } error)
            {
                return (PushOutcome.Refused, error);
            }
            Volatile.Write(ref _state, new State(sections, digest, time.GetUtcNow().ToUnixTimeSeconds()));
            return (PushOutcome.Applied, null);
        }
    }

    /// <summary>Everything that is wrong with a configuration; nothing is applied.</summary>
    public static IReadOnlyList<PushProblem> Validate(JsonObject body, DocumentIntake intake)
    {
        var problems = new List<PushProblem>();
        Dictionary<ResourceKind, JsonArray> items = [];
        foreach (var kind in Kinds)
        {
            if (body[kind.Segment() + VersionEnding] is { } version && version.GetValueKind() != JsonValueKind.Number)
            {
                problems.Add(new(kind.Segment(), null, $"{kind.Segment()}{VersionEnding} must be a number, got {LuaText.Type(version)}"));
            }
            if (ItemsOf(kind, body, out var list) is { } wrong)
            {
                problems.Add(new(kind.Segment(), null, wrong));
            }
            items[kind] = list;
        }
        Check(items, problems, intake);
        return problems;
    }

    static string? ItemsOf(ResourceKind kind, JsonObject body, out JsonArray items)
    {
        items = body[kind.Segment()] as JsonArray ?? [];
        return body[kind.Segment()] is null or JsonArray or JsonObject { Count: 0 } ? null : $"{kind.Segment()} must be a list";
    }

    static string? Next(ResourceKind kind, JsonObject body, Section now, out Section next)
    {
        next = now;
        if (ItemsOf(kind, body, out var items) is { } wrong)
        {
            return wrong;
        }
        var name = kind.Segment() + VersionEnding;
        var version = now.Version + 1;
        if (body[name] is { } given)
        {
            if (given.GetValueKind() != JsonValueKind.Number)
            {
                return $"{name} must be a number";
            }
            version = LuaText.ToDouble(given);
            if (version < now.Version)
            {
                return $"{name} must be greater than or equal to ({now.Version.ToString(CultureInfo.InvariantCulture)})";
            }
        }
        if (version != now.Version)
        {
            next = new Section(items.DeepClone().AsArray(), version);
        }
        return null;
    }

    DocumentSet Check(Dictionary<ResourceKind, JsonArray> items, List<PushProblem> problems) =>
        Check(items, problems, new DocumentIntake(live.Maker()));

    static DocumentSet Check(Dictionary<ResourceKind, JsonArray> items, List<PushProblem> problems, DocumentIntake intake)
    {
        var documents = new List<Document>();
        foreach (var (kind, list) in items)
        {
            HashSet<string> seen = [];
            for (var i = 0; i < list.Count; i++)
            {
                if (Read(kind, list[i], i, intake, out var error) is { } document)
                {
                    documents.Add(document);
                }
                if (error is not null)
                {
                    problems.Add(new(kind.Segment(), i, error, NameOf(list[i])));
                }
                if (Duplicate(kind, list[i], seen) is { } duplicate)
                {
                    problems.Add(new(kind.Segment(), i, duplicate, NameOf(list[i])));
                }
            }
        }
        return DocumentSet.Of(documents);
    }

    /// <summary>As <c>resource_id</c> tells it: the id, or the username.</summary>
    static string NameOf(JsonNode? item) =>
        item is JsonObject value && (value["id"] ?? value["username"]) is JsonValue name ? name.ToString() : "";

    static string? Duplicate(ResourceKind section, JsonNode? item, HashSet<string> seen)
    {
        var isCredential = section == ResourceKind.Consumers && (item as JsonObject)?["id"] is not null;
        return NameOf(item) is { Length: > 0 } name && !seen.Add(name)
            ? $"found duplicate {(section != ResourceKind.Consumers ? "id" : isCredential ? "credential id" : "username")} {name} in {section.Segment()}"
            : null;
    }

    static Document? Read(ResourceKind section, JsonNode? item, int index, DocumentIntake intake, out string? error)
    {
        if (item?.DeepClone() is not JsonObject value)
        {
            error = $"invalid configuration: wrong type: expected object, got {LuaText.Type(item)}";
            return null;
        }
        var revision = value["modifiedIndex"] is { } given && given.GetValueKind() == JsonValueKind.Number ? (long)LuaText.ToDouble(given)
            : 0;
        value.Remove("modifiedIndex");
        var (kind, id) = Identify(section, value);
        if (id is null)
        {
            switch (section)
            {
                case ResourceKind.Consumers:
                    error = "invalid configuration: property \"username\" is required";
                    return null;
                case ResourceKind.PluginMetadata:
                    error = "invalid configuration: property \"id\" is required";
                    return null;
                default:
                    // as in apisix.yaml
                    id = string.Create(CultureInfo.InvariantCulture, $"arr_{index + 1}");
                    break;
            }
        }
        // what it refers to may be missing, as in APISIX: the route answers 503 then
        var document = Document.Of(kind, id, value, revision, revision, $"/apisix/admin/configs ({section.Segment()}[{index}])");
        error = intake.Take(document, DocumentSet.Empty, mayMiss: true).Error;
        if (error is not null)
        {
            return null;
        }
        return document;
    }

    /// <summary>A consumer has its name, a credential <c>jack/credentials/1</c>.</summary>
    static (ResourceKind Kind, string? Id) Identify(ResourceKind section, JsonObject value)
    {
        var id = value["id"] is JsonValue ? ResourceBinder.Id(value, "id") : null;
        if (section != ResourceKind.Consumers)
        {
            return (section, id);
        }
        if (id is not null && ResourceKinds.IsCredential(id))
        {
            value["id"] = ResourceKinds.CredentialOf(id).Id;
            return (ResourceKind.Credentials, id);
        }
        return (section, value["username"] is JsonValue name && name.GetValueKind() == JsonValueKind.String ? name.GetValue<string>()
            : null);
    }

    /// <summary>The first error, or null. What says the same as before stays the same object, and so does what was compiled from
    /// it.</summary>
    string? Apply(DocumentSet documents)
    {
        var running = live.Current.Documents;
        var found = live.Apply(documents: DocumentSet.Of(ResourceKinds.All.SelectMany(kind => documents[kind].Values).Select(document =>
            running.Find(document.Kind, document.Id) is { } known && known.ModifiedRevision == document.ModifiedRevision
            && LuaEquality.Instance.Equals(known.Value, document.Value)
                ? known : document)));
        return found.FirstOrDefault(problem => problem.Severity == Severity.Error)?.ToString();
    }
}

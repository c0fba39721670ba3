using System.Text.Json.Nodes;

namespace Sluice.Model;

/// <summary>The resource types of the Admin API, by their path segment (<c>routes</c>, <c>plugin_metadata</c>, …).</summary>
internal enum ResourceKind
{
    Routes,
    Services,
    Upstreams,
    Consumers,
    ConsumerGroups,
    GlobalRules,
    PluginConfigs,
    PluginMetadata,
    Credentials,
    Protos,
    Secrets,
    Ssls,
    StreamRoutes,
    GraphqlCostDecorations,
}

/// <summary>
/// One resource: validated, with the schema's defaults filled in, and as it was sent. Never mutated after it is in force:
/// a compiled resource is reused as long as its document is the same object, and what was parsed of its value stays with the value.
/// </summary>
/// <param name="Id">
/// Unique within its kind; for consumers the username, for plugin metadata the plugin's name, for credentials <c>jack/credentials/c1</c>,
/// for secrets
/// <c>vault/1</c>, for decorations <c>shop/graphql_cost_decorations/d1</c>: what follows the kind's directory in a store's key.
/// </param>
/// <param name="Value">What holds at run time: with the defaults. The Control API shows it.</param>
/// <param name="CreatedRevision">etcd's create_revision (Admin API: createdIndex).</param>
/// <param name="ModifiedRevision">etcd's mod_revision (Admin API: modifiedIndex).</param>
/// <param name="Place">Where it was written, for errors: <c>/apisix/routes/r1</c> or <c>conf/apisix.yaml:12 (routes[0])</c>.</param>
internal sealed record Document(
    ResourceKind Kind, string Id, JsonObject Value, long CreatedRevision, long ModifiedRevision, string Place)
{
    /// <summary>What is stored and what the Admin API answers: as it was written, without the defaults, plus id and times.</summary>
    public JsonObject Sent { get; init; } = Value;

    public long CreatedRevision { get; private set; } = CreatedRevision;

    public long ModifiedRevision { get; private set; } = ModifiedRevision;

    /// <summary>The store has written it: before it comes into force it gets its revisions, and stays the object that was
    /// compiled.</summary>
    public void Written(long created, long modified) => (CreatedRevision, ModifiedRevision) = (created, modified);

    /// <summary>A document of what was written, to be checked: the check fills the defaults into <see cref="Value"/>, a copy.</summary>
    public static Document Of(ResourceKind kind, string id, JsonObject sent, long created, long modified, string place) =>
        new(kind, id, sent.DeepClone().AsObject(), created, modified, place) { Sent = sent };
}

internal static class ResourceKinds
{
    static readonly string[] Segments =
    [
        "routes", "services", "upstreams", "consumers", "consumer_groups", "global_rules", "plugin_configs", "plugin_metadata",
        "credentials", "protos", "secrets", "ssls", "stream_routes", "graphql_cost_decorations",
    ];

    /// <summary>Between the consumer's name and the credential's id.</summary>
    public const string CredentialsDirectory = "/credentials/";

    /// <summary>The kind whose resources have those of this one below them, as a consumer its credentials; they go with it. Null: they
    /// stand alone.</summary>
    public static ResourceKind? OwnerKind(this ResourceKind kind) => kind switch
    {
        ResourceKind.Credentials => ResourceKind.Consumers,
        ResourceKind.GraphqlCostDecorations => ResourceKind.Services,
        _ => null,
    };

    /// <summary>What resources of a kind have below them; null: nothing.</summary>
    public static ResourceKind? OwnedKind(this ResourceKind kind) => kind switch
    {
        ResourceKind.Consumers => ResourceKind.Credentials,
        ResourceKind.Services => ResourceKind.GraphqlCostDecorations,
        _ => null,
    };

    /// <summary>What begins the ids of all that one resource has below it: <c>jack/credentials/</c>.</summary>
    public static string OwnedPrefix(this ResourceKind owned, string owner) => $"{owner}/{owned.Segment()}/";

    /// <summary>The two parts of an owned resource's id, <c>jack/credentials/c1</c>; empty when it is none.</summary>
    public static (string Owner, string Id) OwnedParts(this ResourceKind owned, string id) =>
        id.Split('/') is [{ Length: > 0 } owner, var segment, { Length: > 0 } own] && segment == owned.Segment() ? (owner, own) : ("", "");

    public static IReadOnlyList<ResourceKind> All { get; } = Enum.GetValues<ResourceKind>();

    /// <summary><c>routes</c>, <c>global_rules</c>, …: as in Admin API paths, store keys and apisix.yaml.</summary>
    public static string Segment(this ResourceKind kind) => Segments[(int)kind];

    /// <summary>Where documents of the kind are in a store: as the segment, but what has an owner is below it.</summary>
    public static string Directory(this ResourceKind kind) => (kind.OwnerKind() ?? kind).Segment();

    /// <summary>What <c>routes/r1</c>, the part of a store's key behind its prefix, stands for.</summary>
    public static bool TryParseKey(string key, out ResourceKind kind, out string id)
    {
        (kind, id) = (default, "");
        if (key.Split('/', 2) is not [var segment, { Length: > 0 } rest] || !TryParse(segment, out kind) || kind.OwnerKind() is not null)
        {
            return false;
        }
        id = rest;
        if (kind.OwnedKind() is { } owned && rest.Contains('/', StringComparison.Ordinal))
        {
            kind = owned;
            return owned.OwnedParts(rest).Id.Length > 0;
        }
        return kind == ResourceKind.Secrets ? rest.Count(c => c == '/') == 1 : !rest.Contains('/', StringComparison.Ordinal);
    }

    /// <summary>Whether this is a credential's id: <c>jack/credentials/c1</c>.</summary>
    public static bool IsCredential(string id) => CredentialOf(id).Id.Length > 0;

    /// <summary>The two parts of a credential's id; empty when it is none.</summary>
    public static (string Username, string Id) CredentialOf(string id) => ResourceKind.Credentials.OwnedParts(id);

    /// <summary><c>route</c>, <c>global rule</c>, …: as in APISIX's error messages ("missing route id").</summary>
    public static string Singular(this ResourceKind kind) =>
        kind == ResourceKind.PluginMetadata ? "plugin_metadata" : Segments[(int)kind].Replace('_', ' ')[..^1];

    public static bool TryParse(string segment, out ResourceKind kind)
    {
        var index = Array.IndexOf(Segments, segment);
        kind = (ResourceKind)Math.Max(index, 0);
        return index >= 0;
    }
}

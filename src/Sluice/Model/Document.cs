using System.Text.Json.Nodes;

namespace Sluice.Model;

/// <summary>The resource types of the Admin API, by their path segment (<c>routes</c>, <c>plugin_metadata</c>, …).</summary>
public enum ResourceKind
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
}

/// <summary>
/// One resource as it is stored: validated, with the schema's defaults filled in. Never mutated after it was made:
/// a compiled resource is reused as long as its document is the same object.
/// </summary>
/// <param name="Id">
/// Unique within its kind; for consumers the username, for plugin metadata the plugin's name, for credentials <c>jack/credentials/c1</c>, for secrets
/// <c>vault/1</c>: what follows the kind's directory in a store's key.
/// </param>
/// <param name="Value">The JSON object that a GET answers as <c>value</c>.</param>
/// <param name="CreatedRevision">etcd's create_revision (Admin API: createdIndex).</param>
/// <param name="ModifiedRevision">etcd's mod_revision (Admin API: modifiedIndex).</param>
/// <param name="Place">Where it was written, for errors: <c>/apisix/routes/r1</c> or <c>conf/apisix.yaml:12 (routes[0])</c>.</param>
public sealed record Document(
    ResourceKind Kind, string Id, JsonObject Value, long CreatedRevision, long ModifiedRevision, string Place);

public static class ResourceKinds
{
    static readonly string[] Segments =
    [
        "routes", "services", "upstreams", "consumers", "consumer_groups", "global_rules", "plugin_configs", "plugin_metadata",
        "credentials", "protos", "secrets", "ssls", "stream_routes",
    ];

    /// <summary>Between the consumer's name and the credential's id.</summary>
    public const string CredentialsDirectory = "/credentials/";

    public static IReadOnlyList<ResourceKind> All { get; } = Enum.GetValues<ResourceKind>();

    /// <summary><c>routes</c>, <c>global_rules</c>, …: as in Admin API paths, store keys and apisix.yaml.</summary>
    public static string Segment(this ResourceKind kind) => Segments[(int)kind];

    /// <summary>Where documents of the kind are in a store: as the segment, but credentials are below their consumer.</summary>
    public static string Directory(this ResourceKind kind) => (kind == ResourceKind.Credentials ? ResourceKind.Consumers : kind).Segment();

    /// <summary>What <c>routes/r1</c>, the part of a store's key behind its prefix, stands for.</summary>
    public static bool TryParseKey(string key, out ResourceKind kind, out string id)
    {
        (kind, id) = (default, "");
        if (key.Split('/', 2) is not [var segment, { Length: > 0 } rest] || !TryParse(segment, out kind) || kind == ResourceKind.Credentials)
        {
            return false;
        }
        id = rest;
        if (kind == ResourceKind.Consumers && rest.Contains('/', StringComparison.Ordinal))
        {
            kind = ResourceKind.Credentials;
            return IsCredential(rest);
        }
        return kind == ResourceKind.Secrets ? rest.Count(c => c == '/') == 1 : !rest.Contains('/', StringComparison.Ordinal);
    }

    /// <summary>Whether this is a credential's id: <c>jack/credentials/c1</c>.</summary>
    public static bool IsCredential(string id) => CredentialOf(id) is { Username.Length: > 0, Id.Length: > 0 } parts && !parts.Id.Contains('/', StringComparison.Ordinal);

    /// <summary>The two parts of a credential's id; empty when it is none.</summary>
    public static (string Username, string Id) CredentialOf(string id) =>
        id.IndexOf(CredentialsDirectory, StringComparison.Ordinal) is >= 0 and var at ? (id[..at], id[(at + CredentialsDirectory.Length)..]) : ("", "");

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

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
}

/// <summary>
/// One resource as it is stored: validated, with the schema's defaults filled in. Never mutated after it was made:
/// a compiled resource is reused as long as its document is the same object.
/// </summary>
/// <param name="Id">Unique within its kind; for consumers the username, for plugin metadata the plugin's name.</param>
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
    ];

    public static IReadOnlyList<ResourceKind> All { get; } = Enum.GetValues<ResourceKind>();

    /// <summary><c>routes</c>, <c>global_rules</c>, …: as in Admin API paths, store keys and apisix.yaml.</summary>
    public static string Segment(this ResourceKind kind) => Segments[(int)kind];

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

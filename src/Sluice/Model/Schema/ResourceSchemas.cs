using System.Text.Json.Nodes;
using Sluice.Model.Json;

namespace Sluice.Model.Schema;

/// <summary>The JSON schemas of the resources, with APISIX's properties, defaults and messages.</summary>
internal static partial class ResourceSchemas
{
    /// <summary>What <c>type</c> of an upstream may be.</summary>
    public static IReadOnlyList<string> BalancerTypes { get; } = ["roundrobin", "chash", "ewma", "least_conn"];

    /// <summary>The schema of an upstream that is written in another document, for the schemas of plugins.</summary>
    public static string UpstreamText => Upstream;

    static readonly Compiled[] All = [.. ResourceKinds.All.Select(kind => new Compiled(Text(kind)))];

    sealed class Compiled(string text)
    {
        readonly Lazy<JsonSchema> schema = new(() => JsonSchema.Compile(JsonNode.Parse(text)!));

        public JsonSchema Schema => schema.Value;

        public JsonObject Source() => JsonNode.Parse(text)!.AsObject();
    }

    public static JsonSchema For(ResourceKind kind) => All[(int)kind].Schema;

    /// <summary>The schema as JSON, for <c>GET /apisix/admin/schema/route</c>; the caller may change its copy.</summary>
    public static JsonObject Source(ResourceKind kind) => All[(int)kind].Source();

    /// <summary>
    /// Checks a resource and fills in its defaults. Plugins' own configuration, references to other resources and <c>vars</c> are
    /// checked elsewhere.
    /// </summary>
    /// <returns>Null, or what is wrong, to stand behind <c>invalid configuration: </c>.</returns>
    public static string? Check(ResourceKind kind, JsonObject value) => kind == ResourceKind.Secrets ? CheckSecret(value) :
        For(kind).Validate(value) is { } error ? WithBalancerTypes(error, kind, value) : CheckPlugins(value) ?? CheckUpstreams(kind, value);

    static readonly Dictionary<string, JsonSchema> SecretManagers = SecretTypes.ToDictionary(type => type.Type,
        type => JsonSchema.Compile(JsonNode.Parse(type.Schema)!));

    /// <summary>The secret manager is the first part of the id: <c>vault/1</c>.</summary>
    static string? CheckSecret(JsonObject value)
    {
        var type = value["id"] is JsonValue id && id.GetValueKind() == System.Text.Json.JsonValueKind.String
            ? id.GetValue<string>().Split('/')[0] : "";
        return SecretManagers.TryGetValue(type, out var schema)
            ? schema.Validate(value)
            : $"invalid secret manager: {LuaText.Quote(type)}, there are {string.Join(", ", SecretManagers.Keys)}";
    }

    static JsonObject? UpstreamOf(ResourceKind kind, JsonObject value) =>
        kind == ResourceKind.Upstreams ? value : value["upstream"] as JsonObject;

    // the schema's message would not say which types there are
    static string WithBalancerTypes(string error, ResourceKind kind, JsonObject value) =>
        error.EndsWith("property \"type\" validation failed: matches none of the enum values", StringComparison.Ordinal)
        && UpstreamOf(kind, value)?["type"] is JsonValue type
            ? $"{error}: {string.Join(", ", BalancerTypes)}, got {type.ToJsonString()}"
            : error;

    static string? CheckPlugins(JsonObject value)
    {
        foreach (var (name, configuration) in value["plugins"] as JsonObject ?? [])
        {
            if (LuaText.Type(configuration) != "table")
            {
                return $"invalid plugin conf {configuration?.ToJsonString() ?? "null"} for plugin [{name}]";
            }
        }
        return null;
    }

    static string? CheckUpstreams(ResourceKind kind, JsonObject value)
    {
        if (UpstreamOf(kind, value) is not { } upstream || CheckUpstream(upstream) is not { } error)
        {
            return null;
        }
        return kind == ResourceKind.Upstreams ? error : $"property \"upstream\" validation failed: {error}";
    }

    static string? CheckUpstream(JsonObject upstream)
    {
        foreach (var (address, _) in upstream["nodes"] as JsonObject ?? [])
        {
            if (!NodeAddress.TryParse(address, out _, out _))
            {
                return $"property \"nodes\" validation failed: expected host or host:port, got {LuaText.Quote(address)}";
            }
        }
        return null;
    }

    static readonly JsonSchema HashVariable = JsonSchema.Compile(JsonNode.Parse(HashVariableText)!);
    static readonly JsonSchema HashHeader = JsonSchema.Compile(JsonNode.Parse(HashHeaderText)!);

    /// <summary>Checks what a chash upstream hashes by; that there is a <c>key</c> was seen before.</summary>
    public static string? CheckHashKey(JsonObject upstream) => (string?)upstream["hash_on"] switch
    {
        "vars" => HashVariable.Validate(upstream["key"]),
        "header" or "cookie" => HashHeader.Validate(upstream["key"]),
        _ => null,
    };
}

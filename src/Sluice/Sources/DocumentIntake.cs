using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;
using Sluice.Pipeline.References;

namespace Sluice.Sources;

/// <summary>What became of a document that came in.</summary>
/// <param name="Error">As it stands in <c>error_msg</c>; null: it is good.</param>
/// <param name="Warnings">What is accepted and has no effect.</param>
internal sealed record Taken(string? Error, IReadOnlyList<string> Warnings);

/// <summary>
/// The one way in for documents, whatever source they come from: checked, the schemas' defaults filled in, and parsed once: what is
/// compiled of a document afterwards is made of what was read here.
/// </summary>
/// <param name="maker">Makes their plugins, to see whether they can be.</param>
internal sealed class DocumentIntake(PluginMaker maker)
{
    PluginRegistry Plugins => maker.Registry;

    /// <summary>Takes a document in.</summary>
    /// <param name="documents">What it may refer to.</param>
    /// <param name="mayMiss">What it refers to may be gone: the route answers 503 then, it does not vanish with the next start.</param>
    public Taken Take(Document document, DocumentSet documents, bool mayMiss = false)
    {
        var (kind, id, value, warnings) = (document.Kind, document.Id, document.Value, new List<string>());
        documents = mayMiss ? documents.WithMissingReferences(value) : documents;
        ReadEmptyLists(value);
        if (kind != ResourceKind.PluginMetadata)
        {
            return new(ResourceChecker.Check(kind, id, value, documents, maker, warnings), warnings);
        }
        // the id is the plugin's name and no property of the plugin's schema
        value.Remove("id");
        var error = ResourceChecker.Check(kind, id, value, documents, maker, warnings);
        value["id"] = id;
        return new(error, warnings);
    }

    /// <summary>A plugin's configuration that is an empty list is an empty mapping: Lua, in which APISIX reads both, does not tell them
    /// apart.</summary>
    static void ReadEmptyLists(JsonObject value)
    {
        var plugins = PluginsOf(value);
        foreach (var name in plugins.Where(plugin => plugin.Value is JsonArray { Count: 0 }).Select(plugin => plugin.Key).ToArray())
        {
            plugins[name] = new JsonObject();
        }
    }

    /// <summary>What contradicts another document of the same kind, or null: two consumers with one key, two global rules with one
    /// plugin.</summary>
    /// <param name="consumers">Of these documents; null: nobody made an index of them.</param>
    public string? Conflict(ResourceKind kind, string id, JsonObject value, DocumentSet documents, ConsumerIndex? consumers = null) =>
        kind switch
    {
        ResourceKind.Consumers or ResourceKind.Credentials => SharedKey(kind, id, value, documents, consumers),
        ResourceKind.GlobalRules => SharedPlugin(id, value, documents),
        ResourceKind.Ssls when (string?)value["type"] != "client" && DocumentReferences.ShownBy(id, documents) is { } user =>
            $"can not change the type of this ssl, {user.Kind.Singular()} [{user.Id}] is still using it as a client certificate",
        ResourceKind.GraphqlCostDecorations => SharedPath(id, value, documents),
        _ => null,
    }
    ?? OtherOfGroup(kind, id, value, documents);

    static readonly ResourceKind[] WithPlugins =
    [
        ResourceKind.Routes, ResourceKind.Services, ResourceKind.Consumers, ResourceKind.ConsumerGroups, ResourceKind.PluginConfigs,
        ResourceKind.GlobalRules,
    ];

    /// <summary>Two uses of a plugin that share something by a name and are not configured the same.</summary>
    string? OtherOfGroup(ResourceKind kind, string id, JsonObject value, DocumentSet documents)
    {
        foreach (var (name, config) in PluginsOf(value))
        {
            if (Plugins.Find(name)?.Info.SharedBy is { } property && Text(config, property) is { } group
                && WithPlugins.SelectMany(other => documents[other].Values).Any(other => (other.Kind, other.Id) != (kind, id)
                    && other.Value["plugins"] is JsonObject others && Text(others[name], property) == group
                    && !SaysTheSame((JsonObject)others[name]!, (JsonObject)config!)))
            {
                return $"failed to check the configuration of plugin {name} err: {property} conf mismatched";
            }
        }
        return null;

        static bool SaysTheSame(JsonObject one, JsonObject other) => LuaEquality.Instance.Equals(WithoutMeta(one), WithoutMeta(other));

        static JsonObject WithoutMeta(JsonObject config)
        {
            var copy = config.DeepClone().AsObject();
            copy.Remove("_meta");
            return copy;
        }
    }

    string? SharedKey(ResourceKind kind, string id, JsonObject value, DocumentSet documents, ConsumerIndex? consumers)
    {
        foreach (var (name, config) in PluginsOf(value))
        {
            if (Plugins.Find(name)?.Info.ConsumerKey is { } property && Text(config, property) is { } key
                && (consumers is null || SecretReference.Is(key) ? Written(name, property, key) : Compiled(name, key)) is { } holder)
            {
                return $"duplicate {property} of plugin {name} found with {holder}";
            }
        }
        return null;

        string? Written(string name, string property, string key) =>
            documents[ResourceKind.Consumers].Values.Concat(documents[ResourceKind.Credentials].Values).FirstOrDefault(other =>
                !IsSelf(other.Kind, other.Id) && other.Value["plugins"] is JsonObject others
                && Text(others[name], property) == key) is { } other
                ? Holder(other.Kind, other.Id) : null;

        string? Compiled(string name, string key) => consumers.Holders(name, key)
            .Select(holder => holder.CredentialId is { } credential
                ? (ResourceKind.Credentials, $"{holder.Username}{ResourceKinds.CredentialsDirectory}{credential}")
                : (ResourceKind.Consumers, holder.Username))
            .Where(holder => !IsSelf(holder.Item1, holder.Item2)).Select(holder => Holder(holder.Item1, holder.Item2)).FirstOrDefault();

        // a consumer is told from its own credentials by nothing
        bool IsSelf(ResourceKind other, string otherId) => (other, otherId) == (kind, id)
            || (kind == ResourceKind.Consumers && other == ResourceKind.Credentials && ResourceKinds.CredentialOf(otherId).Username == id);

        static string Holder(ResourceKind kind, string id) => kind == ResourceKind.Consumers
            ? $"consumer: {id}" : $"credential: {ResourceKinds.CredentialOf(id).Id} of consumer: {ResourceKinds.CredentialOf(id).Username}";
    }

    static string? SharedPath(string id, JsonObject value, DocumentSet documents)
    {
        const ResourceKind Kind = ResourceKind.GraphqlCostDecorations;
        return documents.OwnedBy(ResourceKind.Services, Kind.OwnedParts(id).Owner)
            .FirstOrDefault(other => other.Id != id && (string?)other.Value["field_path"] == (string?)value["field_path"]) is { } other
            ? $"field_path {value["field_path"]} is already decorated on this service by [{Kind.OwnedParts(other.Id).Id}]" : null;
    }

    static string? SharedPlugin(string id, JsonObject value, DocumentSet documents)
    {
        foreach (var (name, _) in PluginsOf(value))
        {
            if (documents[ResourceKind.GlobalRules].Values.FirstOrDefault(other =>
                other.Id != id && other.Value["plugins"] is JsonObject others && others.ContainsKey(name)) is { } holder)
            {
                return $"plugin '{name}' already exists in global rule with id '{holder.Id}'";
            }
        }
        return null;
    }

    /// <summary>The kinds whose resources <see cref="Conflict"/> looks at. What is owned lies in its owners' directory.</summary>
    public static ResourceKind[] MayConflictWith(ResourceKind kind) => kind switch
    {
        ResourceKind.Consumers or ResourceKind.Credentials => [ResourceKind.Consumers],
        ResourceKind.GlobalRules => [ResourceKind.GlobalRules],
        ResourceKind.GraphqlCostDecorations => [ResourceKind.Services],
        _ => [],
    };

    static JsonObject PluginsOf(JsonObject value) => value["plugins"] as JsonObject ?? [];

    static string? Text(JsonNode? config, string property) =>
        config is JsonObject map && map[property] is JsonValue value && value.GetValueKind() == JsonValueKind.String
        ? value.GetValue<string>() : null;
}

using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Pipeline.Secrets;

namespace Sluice.Sources;

/// <summary>What every source asks of a resource before it becomes a document.</summary>
static class DocumentCheck
{
    static readonly (string Property, ResourceKind Kind)[] References =
    [
        ("upstream_id", ResourceKind.Upstreams),
        ("service_id", ResourceKind.Services),
        ("plugin_config_id", ResourceKind.PluginConfigs),
        ("group_id", ResourceKind.ConsumerGroups),
    ];

    /// <summary>The error as it stands in <c>error_msg</c>, or null; the defaults are filled in.</summary>
    public static string? Check(
        ResourceKind kind, string id, JsonObject value, DocumentSet documents, PluginRegistry plugins, ICollection<string>? warnings = null)
    {
        if (kind != ResourceKind.PluginMetadata)
        {
            return ResourceChecker.Check(kind, id, value, documents, plugins, warnings);
        }
        // the id is the plugin's name and no property of the plugin's schema
        value.Remove("id");
        var error = ResourceChecker.Check(kind, id, value, documents, plugins, warnings);
        value["id"] = id;
        return error;
    }

    /// <summary>
    /// The documents and, in place of those that <paramref name="value"/> refers to and that are gone (a forced deletion leaves that behind),
    /// empty ones: the route answers 503 then, it does not vanish with the next start.
    /// </summary>
    public static DocumentSet WithMissingReferences(this DocumentSet documents, JsonObject value)
    {
        foreach (var (property, kind) in References)
        {
            if (value[property] is JsonValue reference && documents.Find(kind, reference.ToString()) is null)
            {
                documents = documents.With(new Document(kind, reference.ToString(), [], 0, 0, ""));
            }
        }
        return documents;
    }

    /// <summary>What a value refers to.</summary>
    public static IEnumerable<(ResourceKind Kind, string Id)> ReferencesOf(JsonObject value) =>
        References.Where(reference => value[reference.Property] is JsonValue).Select(reference => (reference.Kind, value[reference.Property]!.ToString()));

    /// <summary>What contradicts another document of the same kind, or null: two consumers with one key, two global rules with one plugin.</summary>
    /// <param name="consumers">Of these documents; null: nobody made an index of them.</param>
    public static string? Conflict(ResourceKind kind, string id, JsonObject value, DocumentSet documents, PluginRegistry plugins, ConsumerIndex? consumers = null) => kind switch
    {
        ResourceKind.Consumers or ResourceKind.Credentials => SharedKey(kind, id, value, documents, plugins, consumers),
        ResourceKind.GlobalRules => SharedPlugin(id, value, documents),
        _ => null,
    };

    static string? SharedKey(ResourceKind kind, string id, JsonObject value, DocumentSet documents, PluginRegistry plugins, ConsumerIndex? consumers)
    {
        foreach (var (name, config) in PluginsOf(value))
        {
            if (plugins.Find(name)?.Info.ConsumerKey is { } property && Text(config, property) is { } key
                && (consumers is null || SecretReference.Is(key) ? Written(name, property, key) : Compiled(name, key)) is { } holder)
            {
                return $"duplicate key found with {holder}";
            }
        }
        return null;

        string? Written(string name, string property, string key) =>
            documents[ResourceKind.Consumers].Values.Concat(documents[ResourceKind.Credentials].Values).FirstOrDefault(other =>
                (other.Kind, other.Id) != (kind, id) && other.Value["plugins"] is JsonObject others && Text(others[name], property) == key) is { } other
                ? Holder(other.Kind, other.Id) : null;

        string? Compiled(string name, string key) => consumers.Holders(name, key)
            .Select(holder => holder.CredentialId is { } credential ? (ResourceKind.Credentials, $"{holder.Username}{ResourceKinds.CredentialsDirectory}{credential}") : (ResourceKind.Consumers, holder.Username))
            .Where(holder => holder != (kind, id)).Select(holder => Holder(holder.Item1, holder.Item2)).FirstOrDefault();

        static string Holder(ResourceKind kind, string id) => $"{(kind == ResourceKind.Consumers ? "consumer" : "credential")}: {id}";
    }

    /// <summary>The credentials of a consumer.</summary>
    public static IEnumerable<Document> CredentialsOf(this DocumentSet documents, string username) =>
        documents[ResourceKind.Credentials].Values.Where(credential => ResourceKinds.CredentialOf(credential.Id).Username == username);

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

    /// <summary>Why a document must not be deleted: the one that still uses it, in APISIX's words; null when nobody does.</summary>
    public static string? UsedBy(DocumentSet documents, ResourceKind kind, string id)
    {
        return kind switch
        {
            ResourceKind.Upstreams => User("upstream", "upstream_id", ResourceKind.Routes) ?? User("upstream", "upstream_id", ResourceKind.Services) ?? User("upstream", "upstream_id", ResourceKind.StreamRoutes),
            ResourceKind.Services => User("service directly", "service_id", ResourceKind.Routes)
                ?? User("service directly", "service_id", ResourceKind.StreamRoutes),
            ResourceKind.Protos => ProtoUser(ResourceKind.Routes) ?? ProtoUser(ResourceKind.Services),
            ResourceKind.PluginConfigs => User("plugin config", "plugin_config_id", ResourceKind.Routes),
            ResourceKind.ConsumerGroups => User("consumer group", "group_id", ResourceKind.Consumers),
            _ => null,
        };

        string? User(string what, string property, ResourceKind users) =>
            documents[users].Values.FirstOrDefault(user => ResourceBinder.Id(user.Value, property) == id) is { } user
                ? $"can not delete this {what}, {users.Singular()} [{user.Id}] is still using it now"
                : null;

        string? ProtoUser(ResourceKind users) =>
            documents[users].Values.FirstOrDefault(user => PluginsOf(user.Value)["grpc-transcode"] is JsonObject transcode && ResourceBinder.Id(transcode, "proto_id") == id) is { } user
                ? $"can not delete this proto, {users.Singular()} [{user.Id}] is still using it now"
                : null;
    }

    static JsonObject PluginsOf(JsonObject value) => value["plugins"] as JsonObject ?? [];

    static string? Text(JsonNode? config, string property) =>
        config is JsonObject map && map[property] is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;
}

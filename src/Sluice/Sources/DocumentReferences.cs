using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Sources;

/// <summary>What documents have to do with each other: who refers to whom, and who is whose.</summary>
static class DocumentReferences
{
    static readonly (string Property, ResourceKind Kind)[] References =
    [
        ("upstream_id", ResourceKind.Upstreams),
        ("service_id", ResourceKind.Services),
        ("plugin_config_id", ResourceKind.PluginConfigs),
        ("group_id", ResourceKind.ConsumerGroups),
    ];

    /// <summary>
    /// The documents and, in place of those that <paramref name="value"/> refers to and that are gone (a forced deletion leaves that
    /// behind), empty ones: the route answers 503 then, it does not vanish with the next start.
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
        foreach (var ssl in CertificatesShownBy(value))
        {
            documents = documents.With(new Document(ResourceKind.Ssls, ssl, new JsonObject { ["type"] = "client" }, 0, 0, ""));
        }
        return documents;
    }

    /// <summary>What a value refers to.</summary>
    public static IEnumerable<(ResourceKind Kind, string Id)> ReferencesOf(JsonObject value) =>
        References.Where(reference => value[reference.Property] is JsonValue)
        .Select(reference => (reference.Kind, value[reference.Property]!.ToString()))
            .Concat(CertificatesShownBy(value).Select(ssl => (ResourceKind.Ssls, ssl)));

    /// <summary>The ssl resources that an upstream, or the upstream in a route, service or stream route, shows to its nodes.</summary>
    static IEnumerable<string> CertificatesShownBy(JsonObject value) => ((JsonNode?[])[value, value["upstream"]]).OfType<JsonObject>()
        .Select(upstream => upstream["tls"] is JsonObject tls && tls["client_cert_id"] is JsonValue
            ? ResourceBinder.Id(tls, "client_cert_id") : null).OfType<string>();

    /// <summary>What a resource has below it: the credentials of a consumer.</summary>
    public static IEnumerable<Document> OwnedBy(this DocumentSet documents, ResourceKind kind, string owner) =>
        kind.OwnedKind() is { } owned
        ? documents[owned].Values.Where(document => owned.OwnedParts(document.Id).Owner == owner) : [];

    /// <summary>The kinds whose resources may refer to one of this kind.</summary>
    public static ResourceKind[] UsersOf(ResourceKind kind) => kind switch
    {
        ResourceKind.Upstreams =>
        [
            ResourceKind.Routes, ResourceKind.Services, ResourceKind.StreamRoutes, ResourceKind.PluginConfigs, ResourceKind.Consumers,
            ResourceKind.ConsumerGroups,
            ResourceKind.GlobalRules,
        ],
        // its decorations go with it
        ResourceKind.Services => [ResourceKind.Routes, ResourceKind.StreamRoutes, ResourceKind.Services],
        ResourceKind.Protos => [ResourceKind.Routes, ResourceKind.Services],
        ResourceKind.PluginConfigs => [ResourceKind.Routes],
        ResourceKind.ConsumerGroups => [ResourceKind.Consumers],
        ResourceKind.Ssls => [ResourceKind.Routes, ResourceKind.Services, ResourceKind.StreamRoutes, ResourceKind.Upstreams],
        // its credentials go with it
        ResourceKind.Consumers => [ResourceKind.Consumers],
        _ => [],
    };

    /// <summary>Why a document must not be deleted: the one that still uses it, in APISIX's words; null when nobody does.</summary>
    public static string? UsedBy(DocumentSet documents, ResourceKind kind, string id)
    {
        return kind switch
        {
            ResourceKind.Upstreams => UpstreamUser(ResourceKind.Routes) ?? UpstreamUser(ResourceKind.Services)
                ?? UpstreamUser(ResourceKind.StreamRoutes)
                ?? NamingPlugin(ResourceKind.PluginConfigs) ?? NamingPlugin(ResourceKind.Consumers)
                ?? NamingPlugin(ResourceKind.ConsumerGroups)
                ?? NamingPlugin(ResourceKind.GlobalRules),
            ResourceKind.Services => User("service directly", "service_id", ResourceKind.Routes)
                ?? User("service directly", "service_id", ResourceKind.StreamRoutes),
            ResourceKind.Protos => ProtoUser(ResourceKind.Routes) ?? ProtoUser(ResourceKind.Services),
            ResourceKind.PluginConfigs => User("plugin config", "plugin_config_id", ResourceKind.Routes),
            ResourceKind.ConsumerGroups => User("consumer group", "group_id", ResourceKind.Consumers),
            ResourceKind.Ssls => ShownBy(id, documents) is { } user
                ? $"can not delete this ssl, {user.Kind.Singular()} [{user.Id}] is still using it now" : null,
            _ => null,
        };

        string? User(string what, string property, ResourceKind users) =>
            documents[users].Values.FirstOrDefault(user => ResourceBinder.Id(user.Value, property) == id) is { } user
                ? $"can not delete this {what}, {users.Singular()} [{user.Id}] is still using it now"
                : null;

        string? UpstreamUser(ResourceKind users) => NamingPlugin(users) ?? User("upstream", "upstream_id", users);

        string? NamingPlugin(ResourceKind users) =>
            documents[users].Values.FirstOrDefault(user => PluginUpstreams.NamedIn(PluginsOf(user.Value)).Contains(id)) is { } user
                ? $"can not delete this upstream, plugin in {(users == ResourceKind.GlobalRules ? "global_rules" : users.Singular())} [{user.Id}] is still using it now"
                : null;

        string? ProtoUser(ResourceKind users) =>
            documents[users].Values.FirstOrDefault(user => PluginsOf(user.Value)["grpc-transcode"] is JsonObject transcode
                && ResourceBinder.Id(transcode, "proto_id") == id) is { } user
                ? $"can not delete this proto, {users.Singular()} [{user.Id}] is still using it now"
                : null;
    }

    /// <summary>Whose upstream shows this ssl to its nodes.</summary>
    public static Document? ShownBy(string ssl, DocumentSet documents) =>
        ((ResourceKind[])[ResourceKind.Upstreams, ResourceKind.Routes, ResourceKind.Services, ResourceKind.StreamRoutes])
            .SelectMany(kind => documents[kind].Values).FirstOrDefault(user => CertificatesShownBy(user.Value).Contains(ssl));

    static JsonObject PluginsOf(JsonObject value) => value["plugins"] as JsonObject ?? [];
}

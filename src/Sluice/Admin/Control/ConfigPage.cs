using System.Text.Json;
using Sluice.Api;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Sources;

namespace Sluice.Admin.Control;

/// <summary>
/// <c>/v1/config</c>: the configuration that requests meet: every resource with secrets masked, and what each route came to when it was
/// merged with what it refers to.
/// </summary>
static class ConfigPage
{
    /// <param name="store">Null: the resources are in none.</param>
    public static JsonAnswer Answer(Snapshot snapshot, ResourceStore? store) => JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartObject();
        writer.WriteNumber("version", snapshot.Version);
        writer.WriteString("config_provider", snapshot.Settings.ConfigProvider.ToString().ToLowerInvariant());
        writer.WriteStartObject("resources");
        foreach (var kind in ResourceKinds.All)
        {
            WriteKind(writer, kind, snapshot);
        }
        writer.WriteEndObject();
        writer.WriteStartArray("left_out");
        foreach (var left in store?.LeftOut ?? [])
        {
            writer.WriteStartObject();
            writer.WriteString("key", left.Document.Place);
            writer.WriteNumber("modifiedIndex", left.Document.ModifiedRevision);
            writer.WriteString("error", left.Problem);
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
        writer.WriteStartArray("global_plugins");
        WriteUses(writer, snapshot.GlobalRules);
        writer.WriteEndArray();
        writer.WriteStartObject("effective_routes");
        foreach (var (id, route) in snapshot.Routes.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            WriteRoute(writer, id, route);
        }
        writer.WriteEndObject();
        writer.WriteEndObject();
    });

    static void WriteKind(Utf8JsonWriter writer, ResourceKind kind, Snapshot snapshot)
    {
        writer.WriteStartArray(kind.Segment());
        foreach (var document in snapshot.Documents[kind].Values)
        {
            writer.WriteStartObject();
            writer.WriteString("id", document.Id);
            writer.WriteNumber("modifiedIndex", document.ModifiedRevision);
            writer.WritePropertyName("value");
            Secrets.Masked(kind, document.Id, document.Value, snapshot.Plugins).WriteTo(writer);
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
    }

    static void WriteRoute(Utf8JsonWriter writer, string id, Route route)
    {
        writer.WriteStartObject(id);
        writer.WriteStartArray("uris");
        foreach (var uri in Router.UrisOf(route.Config))
        {
            writer.WriteStringValue(uri);
        }
        writer.WriteEndArray();
        writer.WriteStartArray("hosts");
        foreach (var host in Router.HostsOf(route))
        {
            writer.WriteStringValue(host);
        }
        writer.WriteEndArray();
        if (route.Upstream is { } upstream)
        {
            writer.WriteString("upstream", upstream.Key);
        }
        else
        {
            writer.WriteNull("upstream");
        }
        writer.WriteStartArray("plugins");
        WriteUses(writer, route.Chain);
        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    /// <summary>In the order in which they run; where each is configured.</summary>
    static void WriteUses(Utf8JsonWriter writer, PluginChain chain)
    {
        foreach (var use in chain.Uses)
        {
            writer.WriteStartObject();
            writer.WriteString("name", use.Descriptor.Name);
            writer.WriteNumber("priority", use.Priority);
            writer.WriteString("from", use.Scope);
            writer.WriteEndObject();
        }
    }
}

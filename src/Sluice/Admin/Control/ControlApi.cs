using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Api;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Sources;
using Sluice.Upstreams;
using Sluice.Upstreams.Discovery;

namespace Sluice.Admin.Control;

/// <summary>
/// APISIX's Control API (<c>/v1/…</c>): what the gateway is running right now, as a table of endpoints. Sluice adds <c>/v1/plugins</c>,
/// <c>/v1/config</c> (<see cref="ConfigPage"/>) and <c>/v1/buffering</c> (<see cref="BufferingPage"/>); what plugins that are enabled add
/// is in it, too.
/// </summary>
/// <param name="store">Null: the resources are in none.</param>
/// <param name="more">Endpoints of other folders.</param>
sealed class ControlApi(LiveConfiguration live, PluginServices services, UpstreamServices upstreams, ResourceStore? store = null,
    params IEnumerable<IApiRoutes> more) : IApiRoutes
{
    public IEnumerable<ApiRoute> Routes =>
    [
        // these two change nothing that was configured, and APISIX asks for no key either
        new("PUT", "/v1/plugins/reload", ApiAccess.Open, _ => SchemaPages.Reload(live)),
        new("POST", "/v1/gc", ApiAccess.Open, static _ => Collect()),
        Page("/v1/schema", (_, now) => SchemaPages.Everything(now.Plugins)),
        Page("/v1/plugins", (_, now) => Plugins(now.Plugins)),
        Page("/v1/healthcheck", (call, now) => HealthPages.All(call.Request, now, upstreams.Added.All)),
        Page("/v1/healthcheck/{kind}", (call, _) => JsonAnswer.Error(404, $"missing src id for src type {call["kind"]}")),
        Page("/v1/healthcheck/{kind}/{id}", (call, now) => HealthPages.One(call.Request, now, call["kind"], call["id"])),
        .. Resources("routes", "route", ResourceKind.Routes),
        .. Resources("services", "service", ResourceKind.Services),
        .. Resources("upstreams", "upstream", ResourceKind.Upstreams),
        Page("/v1/plugin_metadatas", (_, now) => AllMetadata(now)),
        Page("/v1/plugin_metadata/{name}", (call, now) => Metadata(now, call["name"])),
        Page("/v1/discovery/{type}/dump",
            (call, _) => upstreams.Discoveries.Find(call["type"]) is { } discovery ? JsonAnswer.Write(200, discovery.WriteDump) : NotFound),
        Page("/v1/discovery/consul/show_dump_file",
            (_, _) => upstreams.Discoveries.Find("consul") is ConsulDiscovery consul ? ConsulDump(consul) : NotFound),
        Page("/v1/config", (_, now) => ConfigPage.Answer(now, store)),
        Page("/v1/buffering", (call, now) => BufferingPage.Answer(call.Query, now, services)),
        .. more.SelectMany(one => one.Routes),
        .. live.Current.Plugins.All.SelectMany(plugin => plugin.Info.Endpoints?.Invoke(services) ?? [])
            .Where(route => !route.Pattern.StartsWith(AdminApi.Prefix + "/", StringComparison.Ordinal)),
    ];

    /// <summary>An endpoint that shows something of the running configuration.</summary>
    ApiRoute Page(string pattern, Func<ApiCall, Snapshot, JsonAnswer> show) =>
        new("GET", pattern, ApiAccess.Read, call => show(call, live.Current));

    IEnumerable<ApiRoute> Resources(string all, string one, ResourceKind kind) =>
    [
        Page("/v1/" + all, (_, now) => All(now, kind)),
        Page($"/v1/{one}/{{id}}", (call, now) => One(now, kind, call["id"])),
    ];

    static JsonAnswer Collect()
    {
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: false);
        return new JsonAnswer(200);
    }

    // -- Resources

    JsonAnswer All(Snapshot snapshot, ResourceKind kind) => JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartArray();
        foreach (var document in snapshot.Documents[kind].Values)
        {
            WriteDocument(writer, document, snapshot);
        }
        foreach (var left in (store?.LeftOut ?? []).Where(one => one.Document.Kind == kind))
        {
            WriteDocument(writer, left.Document, snapshot, left);
        }
        writer.WriteEndArray();
    });

    JsonAnswer One(Snapshot snapshot, ResourceKind kind, string id) => snapshot.Documents.Find(kind, id) is { } document
        ? JsonAnswer.Write(200, writer => WriteDocument(writer, document, snapshot))
        : store?.FindLeftOut(kind, id) is { } left ? JsonAnswer.Write(200, writer => WriteDocument(writer, left.Document, snapshot, left))
        : JsonAnswer.Error(404, $"{kind.Singular()}[{id}] not found");

    /// <param name="left">What is wrong with it, when it is not in force.</param>
    static void WriteDocument(Utf8JsonWriter writer, Document document, Snapshot snapshot, LeftOut? left = null)
    {
        writer.WriteStartObject();
        writer.WriteString("key", ResourceStore.Key(document.Kind, document.Id, snapshot.Settings.KeyPrefix));
        writer.WritePropertyName("value");
        AtRunTime(document, snapshot).WriteTo(writer);
        writer.WriteNumber("createdIndex", document.CreatedRevision);
        writer.WriteNumber("modifiedIndex", document.ModifiedRevision);
        writer.WriteNumber("orig_modifiedIndex", document.ModifiedRevision);
        writer.WriteStartObject("clean_handlers");
        writer.WriteEndObject();
        if (left is null)
        {
            writer.WriteBoolean("has_domain", HasDomain(document));
        }
        else
        {
            writer.WriteString("left_out", left.Problem);
        }
        writer.WriteEndObject();
    }

    /// <summary>No key is asked for here, so nothing secret is shown.</summary>
    static JsonObject Masked(Document document, Snapshot snapshot) =>
        Secrets.Masked(document.Kind, document.Id, document.Value, snapshot.Plugins);

    /// <summary>As APISIX has it at run time: nodes are a list, each plugin has a <c>_meta</c>.</summary>
    static JsonObject AtRunTime(Document document, Snapshot snapshot)
    {
        var value = Masked(document, snapshot);
        if ((document.Kind == ResourceKind.Upstreams ? value : value["upstream"]) is JsonObject upstream && upstream["nodes"] is JsonObject)
        {
            upstream["nodes"] = new JsonArray([.. ResourceBinder.Upstream(upstream, null).Nodes.Select(Node)]);
        }
        foreach (var config in (value["plugins"] as JsonObject ?? []).Select(plugin => plugin.Value).OfType<JsonObject>())
        {
            config["_meta"] ??= new JsonObject();
        }
        return value;

        static JsonNode Node(NodeConfig node)
        {
            var shown = new JsonObject { ["host"] = node.Host, ["weight"] = node.Weight };
            if (node.Port is { } port)
            {
                shown["port"] = port;
            }
            return shown;
        }
    }

    static bool HasDomain(Document document)
    {
        var upstream = document.Kind == ResourceKind.Upstreams ? document.Value : document.Value["upstream"] as JsonObject;
        return upstream is not null && ResourceBinder.Upstream(upstream, null).Nodes.Any(node => !IPAddress.TryParse(node.Host, out _));
    }

    static JsonAnswer AllMetadata(Snapshot snapshot) => JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartArray();
        foreach (var document in snapshot.Documents[ResourceKind.PluginMetadata].Values.Where(
            one => snapshot.Plugins.Find(one.Id) is not null))
        {
            Masked(document, snapshot).WriteTo(writer);
        }
        writer.WriteEndArray();
    });

    static JsonAnswer Metadata(Snapshot snapshot, string name) => snapshot.Documents.Find(ResourceKind.PluginMetadata, name) is { } document
        ? JsonAnswer.Write(200, writer => Masked(document, snapshot).WriteTo(writer))
        : JsonAnswer.Error(404, $"plugin metadata[{name}] not found");

    // -- Plugins

    static JsonAnswer Plugins(PluginRegistry plugins) => JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartArray();
        foreach (var plugin in plugins.All)
        {
            writer.WriteStartObject();
            writer.WriteString("name", plugin.Name);
            writer.WriteNumber("priority", plugin.Info.Priority);
            writer.WriteStartArray("phases");
            foreach (var phase in plugin.Phases)
            {
                writer.WriteStringValue(phase);
            }
            writer.WriteEndArray();
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
    });

    static JsonAnswer ConsulDump(ConsulDiscovery consul) =>
        consul.DumpText() is { } text ? JsonAnswer.Text(200, text, "application/json") : JsonAnswer.Text(503, "there is no dump file\n");

    static readonly JsonAnswer NotFound = JsonAnswer.Error(404, "404 Not Found");
}

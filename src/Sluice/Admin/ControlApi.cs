using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Sources;
using Sluice.Upstreams.Discovery;

namespace Sluice.Admin;

/// <summary>
/// APISIX's Control API (<c>/v1/…</c>): what the gateway is running right now. No key: it listens on 127.0.0.1. Sluice adds
/// <c>/v1/plugins</c>, <c>/v1/config</c> (<see cref="ConfigPage"/>) and <c>/v1/buffering</c> (<see cref="BufferingPage"/>).
/// </summary>
public sealed partial class ControlApi(LiveConfiguration live, PluginServices services, Discoveries discoveries, ILogger<ControlApi> logger)
{
    public async Task HandleAsync(HttpContext http)
    {
        JsonAnswer answer;
        try
        {
            answer = Answer(http.Request, http.Features.Get<IHttpRequestFeature>()?.RawTarget ?? http.Request.Path);
        }
        catch (Exception e)
        {
            LogBug(e, http.Request.Method, http.Request.Path);
            answer = JsonAnswer.Error(500, "internal error, see the error log");
        }
        await answer.SendAsync(http);
    }

    JsonAnswer Answer(HttpRequest request, string target)
    {
        if (!AdminPath.TryParse(target, out var path, out var error))
        {
            return JsonAnswer.Error(400, error);
        }
        var snapshot = live.Current;
        if (path is ["v1", "plugins", "reload"] && HttpMethods.IsPut(request.Method))
        {
            return live.ReloadPlugins().FirstOrDefault(problem => problem.Severity == Severity.Error) is { } problem
                ? JsonAnswer.Error(500, problem.ToString())
                : JsonAnswer.Text(200, "done");
        }
        if (path is ["v1", "gc"] && HttpMethods.IsPost(request.Method))
        {
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: false);
            return new JsonAnswer(200);
        }
        if (!HttpMethods.IsGet(request.Method) && !HttpMethods.IsHead(request.Method))
        {
            return NotFound;
        }
        return path switch
        {
            ["v1", "schema"] => SchemaPages.Everything(snapshot.Plugins),
            ["v1", "plugins"] => Plugins(snapshot.Plugins),
            ["v1", "healthcheck"] => HealthPages.All(request, snapshot),
            ["v1", "healthcheck", var kind] => JsonAnswer.Error(404, $"missing src id for src type {kind}"),
            ["v1", "healthcheck", var kind, var id] => HealthPages.One(request, snapshot, kind, id),
            ["v1", "routes"] => All(snapshot, ResourceKind.Routes),
            ["v1", "route", var id] => One(snapshot, ResourceKind.Routes, id),
            ["v1", "services"] => All(snapshot, ResourceKind.Services),
            ["v1", "service", var id] => One(snapshot, ResourceKind.Services, id),
            ["v1", "upstreams"] => All(snapshot, ResourceKind.Upstreams),
            ["v1", "upstream", var id] => One(snapshot, ResourceKind.Upstreams, id),
            ["v1", "plugin_metadatas"] => AllMetadata(snapshot),
            ["v1", "plugin_metadata", var name] => Metadata(snapshot, name),
            ["v1", "discovery", var type, "dump"] => discoveries.Find(type) is { } discovery ? JsonAnswer.Write(200, discovery.WriteDump) : NotFound,
            ["v1", "discovery", "consul", "show_dump_file"] when discoveries.Find("consul") is ConsulDiscovery consul => ConsulDump(consul),
            ["v1", "config"] => ConfigPage.Answer(snapshot),
            ["v1", "buffering"] => BufferingPage.Answer(request.Query, snapshot, services),
            _ => NotFound,
        };
    }

    // -- Resources

    static JsonAnswer All(Snapshot snapshot, ResourceKind kind) => JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartArray();
        foreach (var document in snapshot.Documents[kind].Values)
        {
            WriteDocument(writer, document, snapshot);
        }
        writer.WriteEndArray();
    });

    static JsonAnswer One(Snapshot snapshot, ResourceKind kind, string id) => snapshot.Documents.Find(kind, id) is { } document
        ? JsonAnswer.Write(200, writer => WriteDocument(writer, document, snapshot))
        : JsonAnswer.Error(404, $"{kind.Singular()}[{id}] not found");

    static void WriteDocument(Utf8JsonWriter writer, Document document, Snapshot snapshot)
    {
        writer.WriteStartObject();
        writer.WriteString("key", ResourceStore.Key(document.Kind, document.Id, snapshot.Settings.KeyPrefix));
        writer.WritePropertyName("value");
        document.Value.WriteTo(writer);
        writer.WriteNumber("createdIndex", document.CreatedRevision);
        writer.WriteNumber("modifiedIndex", document.ModifiedRevision);
        writer.WriteNumber("orig_modifiedIndex", document.ModifiedRevision);
        writer.WriteStartObject("clean_handlers");
        writer.WriteEndObject();
        writer.WriteBoolean("has_domain", HasDomain(document));
        writer.WriteEndObject();
    }

    static bool HasDomain(Document document)
    {
        var upstream = document.Kind == ResourceKind.Upstreams ? document.Value : document.Value["upstream"] as JsonObject;
        return upstream is not null && ResourceBinder.Upstream(upstream, null).Nodes.Any(node => !IPAddress.TryParse(node.Host, out _));
    }

    static JsonAnswer AllMetadata(Snapshot snapshot) => JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartArray();
        foreach (var document in snapshot.Documents[ResourceKind.PluginMetadata].Values.Where(one => snapshot.Plugins.Find(one.Id) is not null))
        {
            document.Value.WriteTo(writer);
        }
        writer.WriteEndArray();
    });

    static JsonAnswer Metadata(Snapshot snapshot, string name) => snapshot.Documents.Find(ResourceKind.PluginMetadata, name) is { } document
        ? JsonAnswer.Write(200, writer => document.Value.WriteTo(writer))
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

    [LoggerMessage(Level = LogLevel.Error, Message = "Control API: unexpected failure in {Method} {Path}")]
    partial void LogBug(Exception exception, string method, string path);
}

using System.Net;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline;

/// <summary>Compiles routes and makes exchanges, without sockets.</summary>
static class TestExchange
{
    public static PluginServices Services(TimeProvider? time = null) =>
        new(time ?? TimeProvider.System, NullLoggerFactory.Instance, new GatewayMetrics(NullLogger.Instance));

    public static Document Document(ResourceKind kind, string id, string json)
    {
        var value = JsonNode.Parse(json)!.AsObject();
        value[kind == ResourceKind.Consumers ? "username" : "id"] = id;
        return new Document(kind, id, value, 1, 1, $"/apisix/{kind.Segment()}/{id}");
    }

    public static Snapshot Compile(IEnumerable<Document> documents, IReadOnlyList<PluginDescriptor>? plugins = null,
        Snapshot? previous = null, GatewaySettings? settings = null)
    {
        var (snapshot, problems) = new SnapshotCompiler(Services(), plugins ?? []).Compile(
            settings ?? previous?.Settings ?? DefaultSettings, DocumentSet.Of(documents), previous);
        return snapshot ?? throw new InvalidOperationException(string.Join('\n', problems));
    }

    /// <summary>Makes plugins for documents that are checked.</summary>
    public static PluginMaker Maker(IReadOnlyList<PluginDescriptor> plugins, DocumentSet? documents = null) =>
        new SnapshotCompiler(Services(), plugins).Maker(DefaultSettings, new(plugins), documents ?? DocumentSet.Empty);

    public static GatewaySettings DefaultSettings { get; } = SettingsReader.Parse("/", "", null, _ => null).Settings!;

    public static Exchange Of(Snapshot snapshot, string url, string method = "GET", string address = "127.0.0.1",
        params (string Name, string Value)[] headers)
    {
        var uri = new Uri(url);
        var http = new DefaultHttpContext();
        http.Request.Method = method;
        http.Request.Scheme = uri.Scheme;
        http.Request.Host = new HostString(uri.Authority);
        http.Request.Path = uri.AbsolutePath;
        http.Connection.RemoteIpAddress = IPAddress.Parse(address);
        foreach (var (name, value) in headers)
        {
            http.Request.Headers[name] = name == "Host" ? value
                : Microsoft.Extensions.Primitives.StringValues.Concat(http.Request.Headers[name], value);
        }
        return new Exchange(http, snapshot, Services(), 0) { Uri = Uri.UnescapeDataString(uri.AbsolutePath),
            Args = uri.Query.TrimStart('?') };
    }
}

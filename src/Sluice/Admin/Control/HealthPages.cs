using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.Api;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Upstreams;

namespace Sluice.Admin.Control;

/// <summary><c>/v1/healthcheck</c> and <c>/v1/healthcheck/{type}/{id}</c> as APISIX answers them: JSON, or a table for whoever accepts
/// text/html.</summary>
static class HealthPages
{
    static readonly ResourceKind[] Kinds = [ResourceKind.Routes, ResourceKind.Services, ResourceKind.Upstreams];

    /// <summary>One resource with <c>checks</c>; its upstream is null as long as no route uses it: then nothing is checked.</summary>
    sealed record Checked(string Name, string Type, Upstream? Upstream)
    {
        /// <summary>As in APISIX, what is asked at one address is there once, also when several nodes hang on it.</summary>
        public IEnumerable<Node> Nodes =>
            Upstream?.Nodes.DistinctBy(node => (node.Config.Host, Upstream.Checks!.PortOf(node), node.HostName)) ?? [];
    }

    /// <param name="added">Upstreams that plugins have made, and to which requests have gone.</param>
    public static JsonAnswer All(HttpRequest request, Snapshot snapshot, IReadOnlyCollection<Upstream> added)
    {
        Checked[] all =
        [
            .. Kinds.SelectMany(kind => snapshot.Documents[kind].Values).Select(document => Of(snapshot, document)).OfType<Checked>(),
            .. added.Where(upstream => upstream.Checks is not null).OrderBy(upstream => upstream.Key, StringComparer.Ordinal)
            .Select(upstream => Of(snapshot, upstream)),
        ];
        return WantsHtml(request) ? Html(all) : JsonAnswer.Write(200, writer =>
        {
            writer.WriteStartArray();
            foreach (var one in all)
            {
                Write(writer, one);
            }
            writer.WriteEndArray();
        });
    }

    public static JsonAnswer One(HttpRequest request, Snapshot snapshot, string segment, string id)
    {
        if (!ResourceKinds.TryParse(segment, out var kind) || !Kinds.Contains(kind))
        {
            return JsonAnswer.Error(400, $"invalid src type {segment}");
        }
        if (snapshot.Documents.Find(kind, id) is not { } document)
        {
            return JsonAnswer.Error(404, $"{segment}[{id}] not found");
        }
        return Of(snapshot, document) is not { } one ? JsonAnswer.Error(404, $"no checker for {segment}[{id}]")
            : WantsHtml(request) ? Html([one])
            : JsonAnswer.Write(200, writer => Write(writer, one));
    }

    static Checked? Of(Snapshot snapshot, Document document)
    {
        var checks = (document.Kind == ResourceKind.Upstreams ? document.Value : document.Value["upstream"])?["checks"];
        if (checks is not JsonObject)
        {
            return null;
        }
        var key = $"{document.Kind.Segment()}/{document.Id}";
        var type = (string?)checks["active"]?["type"] ?? (string?)checks["passive"]?["type"] ?? "http";
        return new(NameOf(snapshot, key), type,
            snapshot.Upstreams.GetValueOrDefault(key) is { Checks: not null } upstream ? upstream : null);
    }

    /// <summary>One that stands in a plugin is named by its place: <c>/apisix/routes/r1#4f1c2a90</c>.</summary>
    static Checked Of(Snapshot snapshot, Upstream made) =>
        new(NameOf(snapshot, made.Key), made.Checks!.Config.Active?.Type ?? made.Checks.Config.Passive?.Type ?? "http", made);

    /// <summary>As in APISIX: what a store has is named by its key.</summary>
    static string NameOf(Snapshot snapshot, string key) => snapshot.Settings.IsStandalone ? $"/{key}" : $"/apisix/{key}";

    static bool WantsHtml(HttpRequest request) =>
        request.Headers.Accept.ToString().Contains("text/html", StringComparison.OrdinalIgnoreCase);

    static string Text(HealthState state) => JsonNamingPolicy.SnakeCaseLower.ConvertName(state.ToString());

    static void Write(Utf8JsonWriter writer, Checked one)
    {
        writer.WriteStartObject();
        writer.WriteString("name", one.Name);
        writer.WriteString("type", one.Type);
        writer.WriteStartArray("nodes");
        foreach (var node in one.Nodes)
        {
            var health = node.Health!;
            writer.WriteStartObject();
            writer.WriteString("ip", node.Config.Host);
            writer.WriteNumber("port", one.Upstream!.Checks!.PortOf(node));
            writer.WriteString("hostname", one.Upstream.Checks.Config.Active?.Host ?? node.HostName);
            writer.WriteString("status", Text(health.State));
            writer.WriteStartObject("counter");
            writer.WriteNumber("success", health.Count(HealthReport.Success));
            writer.WriteNumber("http_failure", health.Count(HealthReport.HttpFailure));
            writer.WriteNumber("tcp_failure", health.Count(HealthReport.TcpFailure));
            writer.WriteNumber("timeout_failure", health.Count(HealthReport.Timeout));
            writer.WriteEndObject();
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    static JsonAnswer Html(IEnumerable<Checked> all)
    {
        var rows = new StringBuilder();
        var index = 0;
        foreach (var one in all)
        {
            foreach (var node in one.Nodes)
            {
                var health = node.Health!;
                string[] cells =
                [
                    Number(++index), one.Name, one.Type, $"{node.Config.Host}:{one.Upstream!.Checks!.PortOf(node)}", Text(health.State),
                    Number(health.Count(HealthReport.Success)), Number(health.Count(HealthReport.TcpFailure)),
                    Number(health.Count(HealthReport.HttpFailure)), Number(health.Count(HealthReport.Timeout)),
                ];
                rows.Append(node.IsHealthy ? "<tr>" : "<tr bgcolor=\"#FF0000\">");
                rows.AppendJoin("", cells.Select(cell => $"<td>{WebUtility.HtmlEncode(cell)}</td>"));
                rows.Append("</tr>\n");
            }
        }
        return JsonAnswer.Text(
            200,
            $"""
            <!DOCTYPE html>
            <html>
            <head><meta charset="utf-8"><title>upstream check status</title></head>
            <body>
            <h1>Upstream check status</h1>
            <table cellspacing="0" cellpadding="3" border="1">
            <tr><th>Index</th><th>Upstream</th><th>Check type</th><th>Host</th><th>Status</th><th>Success counts</th><th>TCP Failures</th><th>HTTP Failures</th><th>TIMEOUT Failures</th></tr>
            {rows}</table>
            </body>
            </html>

            """,
            "text/html; charset=utf-8");
    }

    static string Number(int number) => number.ToString(CultureInfo.InvariantCulture);
}

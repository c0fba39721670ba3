using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Admin.Control;
using Sluice.Api;
using Sluice.Model;
using Sluice.Net;
using Sluice.Pipeline;
using Sluice.Upstreams;

namespace Sluice.Admin.Doctor;

/// <summary>
/// <c>/v1/doctor</c>: what in the configuration hurts streams, of one route (<c>route</c>, or <c>uri</c> with <c>host</c> and
/// <c>method</c>) or of all, and
/// what <c>sluice doctor</c> needs to look at the route from outside.
/// </summary>
/// <remarks>More arguments, for what was measured: <c>content_type</c> of the response, <c>silence_ms</c> of the upstream.</remarks>
sealed class DoctorApi(LiveConfiguration configuration, PluginServices services) : IApiRoutes
{
    static readonly string[] s_known = ["route", "uri", "host", "method", "content_type", "silence_ms"];

    /// <summary>What asks the upstream for something else than the client asked for.</summary>
    static readonly string[] s_rewriting = ["proxy-rewrite", "serverless-pre-function", "serverless-post-function", "degraphql",
        "traffic-split", "workflow"];

    public IEnumerable<ApiRoute> Routes => [new("GET", "/v1/doctor", ApiAccess.Read, Show)];

    JsonAnswer Show(ApiCall call)
    {
        var (snapshot, query) = (configuration.Current, call.Query);
        foreach (var name in query.Keys)
        {
            if (!s_known.Contains(name))
            {
                return JsonAnswer.Error(400, $"unknown argument \"{name}\"{Suggestion.For(name, s_known)}");
            }
        }
        TimeSpan? silence = null;
        if (Text(query, "silence_ms") is { } given)
        {
            if (!int.TryParse(given, NumberStyles.None, CultureInfo.InvariantCulture, out var milliseconds))
            {
                return JsonAnswer.Error(400, $"argument \"silence_ms\": \"{given}\" is no number");
            }
            silence = TimeSpan.FromMilliseconds(milliseconds);
        }
        List<(Route Route, Exchange Exchange)> targets = [];
        if (Text(query, "uri") is { } uri)
        {
            if (Pretend(snapshot, uri, Text(query, "host"), Text(query, "method"), out var exchange) is { } error)
            {
                return JsonAnswer.Error(400, error);
            }
            if (snapshot.Router.Match(exchange, exchange.Host) is not { } route)
            {
                return JsonAnswer.Error(404, $"no route takes {exchange.Request.Method} {uri}");
            }
            targets.Add((route, exchange));
        }
        else
        {
            var wanted = Text(query, "route");
            foreach (var (_, route) in snapshot.Routes.OrderBy(static pair => pair.Key, StringComparer.Ordinal))
            {
                if ((wanted is null || wanted == route.Id || wanted == route.Config.Name)
                    && Pretend(snapshot, UriOf(route), HostOf(route), MethodOf(route), out var exchange) is null)
                {
                    targets.Add((route, exchange));
                }
            }
            if (wanted is not null && targets.Count == 0)
            {
                return JsonAnswer.Error(404, $"no route {wanted}");
            }
        }
        var all = query.Count == 0;
        return JsonAnswer.Write(200, writer =>
        {
            writer.WriteStartObject();
            writer.WriteStartArray("targets");
            foreach (var (route, exchange) in targets)
            {
                Write(writer, snapshot, route, exchange, Text(query, "content_type"), silence);
            }
            writer.WriteEndArray();
            Write(writer, all ? Everywhere() : []);
            writer.WriteEndObject();
        });
    }

    static string? Text(IQueryCollection query, string name) =>
        query.TryGetValue(name, out var value) && value.ToString() is { Length: > 0 } text ? text : null;

    static string UriOf(Route route) => route.Config.Uri ?? route.Config.Uris?.FirstOrDefault() ?? "/";

    static string? HostOf(Route route) =>
        route.Config.Host ?? route.Config.Hosts?.FirstOrDefault() ?? route.Service?.Hosts?.FirstOrDefault();

    static string MethodOf(Route route) => route.Config.Methods is { Length: > 0 } methods && !methods.Contains("GET") ? methods[0] : "GET";

    string? Pretend(Snapshot snapshot, string uri, string? host, string? method, out Exchange exchange)
    {
        Dictionary<string, StringValues> query = new() { ["uri"] = uri, ["content_type"] = "text/event-stream" };
        if (host is not null)
        {
            query["host"] = host;
        }
        if (method is not null)
        {
            query["method"] = method;
        }
        return BufferingPage.Pretend(new QueryCollection(query), snapshot, services, out exchange);
    }

    void Write(Utf8JsonWriter writer, Snapshot snapshot, Route route, Exchange exchange, string? contentType, TimeSpan? silence)
    {
        (exchange.Route, exchange.Chain) = (route, route.Chain);
        var check = new RouteCheck(snapshot, route, exchange, services.Live, contentType, silence);
        writer.WriteStartObject();
        writer.WriteString("route", route.Id);
        writer.WriteString("name", route.Config.Name);
        writer.WriteString("uri", UriOf(route));
        writer.WriteString("host", HostOf(route));
        writer.WriteString("method", MethodOf(route));
        writer.WriteNumber("idle_timeout_ms", (long)check.IdleTimeout.TotalMilliseconds);
        writer.WriteStartArray("nodes");
        if (route.Upstream is { } upstream && upstream.Config.Scheme is "http" or "https")
        {
            foreach (var node in upstream.Nodes)
            {
                writer.WriteStartObject();
                writer.WriteString("url", $"{upstream.Config.Scheme}://{node.Name}");
                writer.WriteString("host", upstream.Config.PassHost switch
                {
                    "node" => node.HostHeader(upstream.Config.Scheme),
                    "rewrite" => upstream.Config.UpstreamHost,
                    _ => null,
                });
                writer.WriteEndObject();
            }
        }
        writer.WriteEndArray();
        writer.WriteString("rewritten_by",
            snapshot.GlobalRules.Uses.Concat(route.Chain.Uses).Select(static use => use.Descriptor.Name)
            .FirstOrDefault(s_rewriting.Contains));
        Write(writer, check.Findings());
        writer.WriteEndObject();
    }

    /// <summary>What is of no route.</summary>
    IEnumerable<Finding> Everywhere()
    {
        var (limit, most) = (Descriptors.Limit, configuration.Current.Settings.Live.Max);
        if (most > 0 && limit < 2 * most)
        {
            yield return Finding.Warn(
                "C09", "conf/config.yaml", $"{limit} file descriptors are too few for {most} streams, which take two each",
                $"sluice.streams.max {most}, ulimit -n {limit}",
                $"ulimit -n {(2 * most) + 1000}, or a smaller sluice.streams.max");
        }
    }

    static void Write(Utf8JsonWriter writer, IEnumerable<Finding> findings)
    {
        writer.WriteStartArray("findings");
        foreach (var finding in findings)
        {
            Write(writer, finding);
        }
        writer.WriteEndArray();
    }

    internal static void Write(Utf8JsonWriter writer, Finding finding)
    {
        writer.WriteStartObject();
        writer.WriteString("code", finding.Code);
        writer.WriteString("severity", finding.Severity);
        writer.WriteString("hop", finding.Hop);
        writer.WriteString("text", finding.Text);
        writer.WriteString("evidence", finding.Evidence);
        writer.WriteString("fix", finding.Fix);
        writer.WriteEndObject();
    }
}

using System.Globalization;
using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Api;
using Sluice.Model;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Admin.Control;

/// <summary>
/// <c>/v1/buffering?host=…&amp;uri=…&amp;method=…</c>: whether a request like this one and its answer would be buffered, by which rule, and
/// which rules that one overrode. Works on a pretend request with the real router, plugins and nginx blocks; nothing is sent anywhere.
/// </summary>
/// <remarks>
/// More arguments: <c>port</c> (where the request comes in), <c>remote_addr</c>, <c>consumer</c>, <c>header.NAME</c>; of the request
/// <c>request_content_type</c>; of the answer <c>content_type</c>, <c>status</c>, <c>x_accel_buffering</c>.
/// </remarks>
static class BufferingPage
{
    static readonly string[] Known =
        ["host", "uri", "method", "port", "remote_addr", "consumer", "request_content_type", "content_type", "status", "x_accel_buffering"];

    public static JsonAnswer Answer(IQueryCollection query, Snapshot snapshot, PluginServices services)
    {
        if (Pretend(query, snapshot, services, out var exchange) is { } error)
        {
            return JsonAnswer.Error(400, error);
        }
        exchange.Route = snapshot.Router.Match(exchange, exchange.Host);
        exchange.Chain = exchange.Route?.Chain ?? PluginChain.Empty;
        if (query.TryGetValue("consumer", out var name))
        {
            if (!snapshot.Consumers.All.TryGetValue(name.ToString(), out var consumer))
            {
                return JsonAnswer.Error(400, $"consumer: there is no consumer {name}");
            }
            exchange.Consumer = consumer;
            exchange.Chain = exchange.Route?.ChainFor(consumer) ?? PluginChain.Empty;
        }
        var accel = query.TryGetValue("x_accel_buffering", out var given) ? given.ToString() : null;
        var response = BufferingRules.ExplainResponse(exchange, accel, MediaType.IsStream(exchange.Response.ContentType));
        var request = BufferingRules.ExplainRequest(exchange, MediaType.IsStream(exchange.Request.ContentType));
        return JsonAnswer.Write(200, writer => Write(writer, exchange, response, request));
    }

    /// <summary>What is wrong with the arguments, or null.</summary>
    internal static string? Pretend(IQueryCollection query, Snapshot snapshot, PluginServices services, out Exchange exchange)
    {
        var http = new DefaultHttpContext();
        exchange = new Exchange(http, snapshot, services, services.Time.GetTimestamp());
        foreach (var (name, value) in query)
        {
            if (name.StartsWith("header.", StringComparison.OrdinalIgnoreCase) && name.Length > 7)
            {
                http.Request.Headers[name[7..]] = value;
            }
            else if (!Known.Contains(name))
            {
                return $"unknown argument {name}{Suggestion.For(name, Known)}";
            }
        }
        if (query.TryGetValue("host", out var host))
        {
            http.Request.Headers.Host = host;
        }
        http.Request.Method = query.TryGetValue("method", out var method) ? method.ToString().ToUpperInvariant() : HttpMethods.Get;
        http.Request.Protocol = "HTTP/1.1";
        http.Request.Scheme = "http";
        var target = query["uri"].ToString();
        if (target.Length == 0 || target[0] != '/')
        {
            return "uri: expected a path that starts with a slash, such as /sse?id=1 (encode ? as %3F and & as %26)";
        }
        var question = target.IndexOf('?', StringComparison.Ordinal);
        var path = question < 0 ? target : target[..question];
        if (!RequestTarget.TryNormalize(Uri.EscapeDataString(path).Replace("%2F", "/", StringComparison.Ordinal)
            .Replace("%25", "%", StringComparison.Ordinal), out var uri))
        {
            return "uri: malformed path";
        }
        http.Request.Path = uri;
        http.Request.QueryString = question < 0 ? default : new QueryString(target[question..]);
        http.Features.Get<IHttpRequestFeature>()!.RawTarget = target;
        if (query.TryGetValue("request_content_type", out var requestType))
        {
            http.Request.ContentType = requestType;
        }
        if (query.TryGetValue("content_type", out var type))
        {
            http.Response.ContentType = type;
        }
        if (Number(query, "status", 100, 599, 200, out var status) is { } badStatus)
        {
            return badStatus;
        }
        http.Response.StatusCode = status;
        if (Number(query, "port", 1, 65535, 80, out var port) is { } badPort)
        {
            return badPort;
        }
        http.Connection.LocalIpAddress = IPAddress.Loopback;
        http.Connection.LocalPort = port;
        exchange.RemoteAddress = IPAddress.Loopback;
        if (query.TryGetValue("remote_addr", out var remote))
        {
            if (!Cidr.TryParseAddress(remote.ToString(), out var address))
            {
                return $"remote_addr: expected an address, got {remote}";
            }
            exchange.RemoteAddress = address;
        }
        exchange.Uri = uri;
        exchange.Target = target;
        exchange.Args = question < 0 ? "" : target[(question + 1)..];
        exchange.Scope = snapshot.Settings.Nginx.Select(IPAddress.Loopback, port, exchange.Host, uri);
        return null;
    }

    static string? Number(IQueryCollection query, string name, int least, int most, int otherwise, out int number)
    {
        number = otherwise;
        return !query.TryGetValue(name, out var text)
            || (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number >= least && number <= most)
                ? null
                : $"{name}: expected a number from {least} to {most}, got {text}";
    }

    static void Write(Utf8JsonWriter writer, Exchange exchange, BufferingDecision response, BufferingDecision request)
    {
        writer.WriteStartObject();
        if (exchange.Route is { } route)
        {
            writer.WriteStartObject("route");
            writer.WriteString("id", route.Id);
            if (route.Config.Name is { } name)
            {
                writer.WriteString("name", name);
            }
            writer.WriteString("matched_uri", exchange.MatchedUri);
            writer.WriteEndObject();
        }
        else
        {
            writer.WriteNull("route");
            writer.WriteString("message",
                "no route matches: the request is answered 404; below is what would decide if one matched and said nothing itself");
        }
        writer.WriteString("nginx_block", exchange.Scope.Block);
        Write(writer, "response", response);
        Write(writer, "request", request);
        writer.WriteStartArray("needs_whole_body");
        foreach (var use in exchange.Snapshot.GlobalRules.BodyFilters.Concat(exchange.Chain.BodyFilters))
        {
            if (use.In(Phase.WholeBody, exchange) is { } filter && use.Applies(exchange))
            {
                writer.WriteStartObject();
                writer.WriteString("plugin", use.Descriptor.Name);
                writer.WriteString("place", use.Scope);
                writer.WriteBoolean("wants_this_answer", filter.WantsWholeBody(exchange));
                writer.WriteString("effect", "the answer leaves only when it has arrived whole, whatever the buffering rules say");
                writer.WriteEndObject();
            }
        }
        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    static void Write(Utf8JsonWriter writer, string name, BufferingDecision decision)
    {
        writer.WriteStartObject(name);
        writer.WriteString("buffering", decision.On ? "on" : "off");
        writer.WritePropertyName("rule");
        Write(writer, decision.Winner);
        writer.WriteStartArray("overridden");
        foreach (var reason in decision.Overridden)
        {
            Write(writer, reason);
        }
        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    static void Write(Utf8JsonWriter writer, BufferingReason reason)
    {
        writer.WriteStartObject();
        writer.WriteString("level", reason.Level);
        writer.WriteString("buffering", reason.On ? "on" : "off");
        writer.WriteString("text", reason.Text);
        writer.WriteString("place", reason.Place);
        writer.WriteEndObject();
    }
}

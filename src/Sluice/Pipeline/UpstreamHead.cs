using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Net;
using Sluice.Net.Http1;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>Heads in both directions: what the upstream is sent of the client's request, and the client of the upstream's answer.</summary>
static class UpstreamHead
{
    /// <summary>Headers of one connection only (RFC 9110, section 7.6.1), and those that are written anew.</summary>
    static bool IsOurs(string name) => name.Length switch
    {
        2 => Is(name, "TE"),
        4 => Is(name, "Host"),
        6 => Is(name, "Expect"),
        7 => Is(name, "Upgrade"),
        9 => Is(name, "X-Real-IP"),
        10 => Is(name, "Connection") || Is(name, "Keep-Alive"),
        14 => Is(name, "Content-Length") || Is(name, "HTTP2-Settings"),
        15 => Is(name, "X-Forwarded-For"),
        16 => Is(name, "X-Forwarded-Host") || Is(name, "X-Forwarded-Port") || Is(name, "Proxy-Connection"),
        17 => Is(name, "Transfer-Encoding") || Is(name, "X-Forwarded-Proto"),
        _ => name.StartsWith(':'),
    };

    /// <summary>Of an answer: hop-by-hop headers, and what nginx keeps for itself.</summary>
    public static bool StaysHere(string name) => name.Length switch
    {
        5 => Is(name, "X-Pad"),
        6 => Is(name, "Server"),
        7 => Is(name, "Upgrade"),
        10 => Is(name, "Connection") || Is(name, "Keep-Alive"),
        14 => Is(name, "Content-Length"),
        15 => Is(name, "X-Accel-Charset") || Is(name, "X-Accel-Expires"),
        16 => Is(name, "Proxy-Connection") || Is(name, "X-Accel-Redirect"),
        17 => Is(name, "Transfer-Encoding") || Is(name, "X-Accel-Buffering"),
        18 => Is(name, "X-Accel-Limit-Rate"),
        _ => false,
    };

    /// <summary>An answer has one; the upstream knows its body, whatever a plugin on the way there said.</summary>
    public static bool IsContentType(string name) => Is(name, "Content-Type");

    static bool Is(string name, string other) => name.Equals(other, StringComparison.OrdinalIgnoreCase);

    /// <summary>Whether the client asks for an upgrade (WebSocket) that the route allows.</summary>
    public static bool WantsUpgrade(Exchange exchange) =>
        exchange.Route!.EnableWebsocket
        && exchange.Http.Features.Get<Microsoft.AspNetCore.Http.Features.IHttpUpgradeFeature>()?.IsUpgradableRequest == true;

    /// <summary>What a request's headers are written into.</summary>
    public interface IWriter
    {
        void AddHeader(string name, string value);
    }

    readonly struct Http1Writer(UpstreamConnection connection) : IWriter
    {
        public void AddHeader(string name, string value) => connection.AddHeader(name, value);
    }

    /// <summary>What the node is asked for, and under which name.</summary>
    public static void Address(Exchange exchange, Node node)
    {
        var upstream = exchange.Route!.Upstream!.Config;
        exchange.Upstream.Uri = exchange.UpstreamUri ?? exchange.Target;
        exchange.Upstream.Host = exchange.UpstreamHost ?? upstream.PassHost switch
        {
            "node" => node.HostHeader,
            "rewrite" => upstream.UpstreamHost ?? node.HostHeader,
            _ => exchange.Request.Headers.Host.ToString(),
        };
    }

    /// <summary>Writes the request's head into the connection.</summary>
    public static void WriteRequest(Exchange exchange, UpstreamConnection connection, Node node, RequestBodyFraming framing)
    {
        var headers = exchange.Request.Headers;
        Address(exchange, node);
        connection.BeginRequest(exchange.UpstreamMethod, exchange.Upstream.Uri!, framing);
        if (WantsUpgrade(exchange))
        {
            connection.AddHeader("Upgrade", headers.Upgrade.ToString());
            connection.AddHeader("Connection", "Upgrade");
        }
        else if (headers.TE.ToString().Contains("trailers", StringComparison.OrdinalIgnoreCase))
        {
            connection.AddHeader("TE", "trailers");
            connection.AddHeader("Connection", "TE");
        }
        WriteHeaders(exchange, new Http1Writer(connection));
    }

    /// <summary>The client's headers and APISIX's: Host, X-Real-IP, X-Forwarded-For, -Proto, -Host, -Port.</summary>
    public static void WriteHeaders<TWriter>(Exchange exchange, TWriter connection)
        where TWriter : IWriter
    {
        var request = exchange.Request;
        var headers = request.Headers;
        var overrides = exchange.Scope.SetHeaders;
        Add("Host", exchange.Upstream.Host!);
        var peer = exchange.RemoteAddressText;
        Add("X-Real-IP", peer);
        Add("X-Forwarded-For", headers["X-Forwarded-For"] is { Count: > 0 } chain ? $"{string.Join(", ", chain.ToArray())}, {exchange.Get("realip_remote_addr")}" : peer);
        Add("X-Forwarded-Proto", Given("X-Forwarded-Proto") ?? request.Scheme);
        Add("X-Forwarded-Host", Given("X-Forwarded-Host") ?? exchange.Host);
        Add("X-Forwarded-Port", Given("X-Forwarded-Port") ?? exchange.LocalPortText);
        var named = headers.Connection;
        if (headers is HeaderList list)
        {
            for (var i = 0; i < list.Places; i++)
            {
                var (name, values) = list.At(i);
                Pass(name, values);
            }
        }
        else
        {
            foreach (var (name, values) in headers)
            {
                Pass(name, values);
            }
        }
        foreach (var header in overrides)
        {
            var value = Template.Expand(header.Value, exchange);
            if (value.Length > 0 && !IsHop(header.Name))
            {
                connection.AddHeader(header.Name, value);
            }
        }

        void Pass(string name, StringValues values)
        {
            if (IsOurs(name) || IsNamed(named, name))
            {
                return;
            }
            if (!RequestHeadWriter.IsName(name))
            {
                // Kestrel takes them
                throw new BadHttpRequestException("a header name with characters that no name has");
            }
            if (values.Count > 1 && Is(name, "Cookie"))
            {
                Add(name, string.Join("; ", values.ToArray()));
                return;
            }
            foreach (var value in values)
            {
                Add(name, value ?? "");
            }
        }
        string? Given(string name) => headers[name] is { Count: > 0 } values ? values[0] : null;

        void Add(string name, string value)
        {
            foreach (var header in overrides)
            {
                if (Is(header.Name, name))
                {
                    return;
                }
            }
            connection.AddHeader(name, value);
        }
    }

    /// <summary>Trailers come too late to say how long a body is, to whom it goes or who asks (RFC 9110, section 6.5.1).</summary>
    public static bool MayTrail(string name) =>
        RequestHeadWriter.IsName(name) && !IsOurs(name) && !Is(name, "Trailer") && !Is(name, "Authorization") && !Is(name, "Proxy-Authorization")
        && !Is(name, "Cookie") && !name.StartsWith("Content-", StringComparison.OrdinalIgnoreCase);

    static bool IsHop(string name) => IsOurs(name) && !Is(name, "Host") && !name.StartsWith("X-", StringComparison.OrdinalIgnoreCase);

    /// <summary><c>X-APISIX-Upstream-Status</c>: the status of every attempt, when the last one failed or <c>show_upstream_status_in_response_header</c> says always.</summary>
    public static void ShowStatus(Exchange exchange, int status)
    {
        if (status >= 500 || exchange.Snapshot.Settings.Http.ShowUpstreamStatus)
        {
            exchange.Response.Headers["X-APISIX-Upstream-Status"] = exchange.Upstream.Statuses;
        }
    }

    /// <summary>What of an interim answer (103 Early Hints) goes on to the client.</summary>
    public static HeaderList InterimHeaders(ResponseHead head)
    {
        var headers = new HeaderList();
        for (var i = 0; i < head.Headers.Count; i++)
        {
            if (head.Headers.Name(i) is var name && !StaysHere(name))
            {
                headers.Append(name, head.Headers.Value(i));
            }
        }
        return headers;
    }

    /// <summary>Copies status and headers of the upstream's answer to the client's.</summary>
    public static void CopyResponse(Exchange exchange, ResponseHead head)
    {
        var response = exchange.Response;
        response.StatusCode = head.Status;
        var named = new StringValues(head.Headers.First("Connection"));
        var headers = response.Headers;
        if (headers is HeaderList { Count: 0 } list && named.Count == 0)
        {
            // nobody has said anything yet, so nothing has to be searched for
            for (var i = 0; i < head.Headers.Count; i++)
            {
                if (head.Headers.Name(i) is var name && !StaysHere(name))
                {
                    list.Receive(name, head.Headers.ValueBytes(i));
                }
            }
            return;
        }
        for (var i = 0; i < head.Headers.Count; i++)
        {
            var name = head.Headers.Name(i);
            if (StaysHere(name) || IsNamed(named, name))
            {
                continue;
            }
            if (!IsContentType(name))
            {
                response.Headers.Append(name, head.Headers.Value(i));
            }
        }
        if (head.Headers.First("Content-Type") is { } contentType)
        {
            response.Headers.ContentType = contentType;
        }
    }

    /// <summary>Whether a Connection header names this one as belonging to the connection.</summary>
    static bool IsNamed(StringValues connection, string name)
    {
        foreach (var value in connection)
        {
            foreach (var range in value.AsSpan().Split(','))
            {
                if (value.AsSpan(range).Trim().Equals(name, StringComparison.OrdinalIgnoreCase))
                {
                    return true;
                }
            }
        }
        return false;
    }
}

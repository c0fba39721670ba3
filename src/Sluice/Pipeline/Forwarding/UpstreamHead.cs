using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Model;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Net.Http1;
using Sluice.Upstreams;

namespace Sluice.Pipeline;

/// <summary>Heads in both directions: what the upstream is sent of the client's request, and the client of the upstream's answer.</summary>
static class UpstreamHead
{
    /// <summary>Headers of one connection only (RFC 9110, section 7.6.1), and those that are written anew.</summary>
    static bool IsOurs(string name) => name.Length switch
    {
        4 => Is(name, "Host"),
        9 => Is(name, "X-Real-IP"),
        15 => Is(name, "X-Forwarded-For"),
        _ => name.StartsWith(':') || HopByHop.ContainsOfRequest(name),
    };

    /// <summary>Of an answer: hop-by-hop headers, and what nginx keeps for itself.</summary>
    public static bool StaysHere(string name) => name.Length switch
    {
        5 => Is(name, "X-Pad"),
        6 => Is(name, "Server"),
        15 => Is(name, "X-Accel-Charset") || Is(name, "X-Accel-Expires"),
        16 when Is(name, "X-Accel-Redirect") => true,
        17 when Is(name, "X-Accel-Buffering") => true,
        18 => Is(name, "X-Accel-Limit-Rate"),
        _ => HopByHop.Contains(name),
    };

    /// <summary>An answer has one; the upstream knows its body, whatever a plugin on the way there said.</summary>
    public static bool IsContentType(string name) => Is(name, "Content-Type");

    static bool Is(string name, string other) => HeaderName.Is(name, other);

    /// <summary>What a request's headers are written into.</summary>
    public interface IWriter
    {
        void AddHeader(string name, string value);
    }

    readonly struct Http1Writer(UpstreamConnection connection) : IWriter
    {
        public void AddHeader(string name, string value) => connection.Request.AddHeader(name, value);
    }

    /// <summary>What the node is asked for, and under which name.</summary>
    public static void Address(Exchange exchange, UpstreamConfig upstream, Node node)
    {
        exchange.Upstream.Uri = exchange.UpstreamUri ?? exchange.Target;
        exchange.Upstream.Host = exchange.UpstreamHost ?? upstream.PassHost switch
        {
            "node" => node.HostHeader(exchange.Upstream.Scheme ?? upstream.Scheme),
            "rewrite" => upstream.UpstreamHost ?? node.HostHeader(exchange.Upstream.Scheme ?? upstream.Scheme),
            _ => exchange.Request.Headers.Host.ToString(),
        };
    }

    /// <summary>Writes the request's head into the connection.</summary>
    public static void WriteRequest(Exchange exchange, UpstreamConnection connection, UpstreamConfig upstream, Node node,
        RequestBodyFraming framing)
    {
        var headers = exchange.Request.Headers;
        Address(exchange, upstream, node);
        connection.Request.Begin(exchange.UpstreamMethod, exchange.Upstream.Uri!, framing);
        if (WebSocketHandshake.IsWanted(exchange))
        {
            connection.Request.AddHeader("Upgrade", headers.Upgrade.ToString());
            connection.Request.AddHeader("Connection", "Upgrade");
        }
        else if (headers.TE.ToString().Contains("trailers", StringComparison.OrdinalIgnoreCase))
        {
            connection.Request.AddHeader("TE", "trailers");
            connection.Request.AddHeader("Connection", "TE");
        }
        WriteHeaders(exchange, new Http1Writer(connection));
    }

    /// <summary>The client's headers, X-Forwarded-Proto, -Host and -Port as <see cref="ClientAddress"/> left them among them, and APISIX's:
    /// Host, X-Real-IP, X-Forwarded-For.</summary>
    public static void WriteHeaders<TWriter>(Exchange exchange, TWriter connection)
        where TWriter : IWriter
    {
        var request = exchange.Request;
        var headers = request.Headers;
        var overrides = exchange.Scope.SetHeaders;
        Add("Host", exchange.Upstream.Host!);
        if (exchange.ForwardTo is not ForwardTo.To { Tries: not null })
        {
            var peer = exchange.RemoteAddressText;
            Add("X-Real-IP", peer);
            Add("X-Forwarded-For", headers["X-Forwarded-For"] is { Count: > 0 } chain
                ? $"{string.Join(", ", chain.ToArray())}, {exchange.Get("realip_remote_addr")}" : peer);
        }
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
            var value = Template.ExpandHeader(header.Value, exchange.InNginx);
            if (value.Length > 0 && !HopByHop.ContainsOfRequest(header.Name))
            {
                connection.AddHeader(header.Name, value);
            }
        }

        void Pass(string name, StringValues values)
        {
            if (IsOurs(name) || HopByHop.IsNamed(named, name))
            {
                return;
            }
            if (!HeaderName.IsToken(name))
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
        HeaderName.IsToken(name) && !IsOurs(name) && !Is(name, "Trailer") && !Is(name, "Authorization") && !Is(name, "Proxy-Authorization")
        && !Is(name, "Cookie") && !Is(name, "Forwarded") && !name.StartsWith("X-Forwarded-", StringComparison.OrdinalIgnoreCase)
        && !name.StartsWith("Content-", StringComparison.OrdinalIgnoreCase);

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
    public static void CopyResponse(Exchange exchange, ResponseHead head, IUpstreamTries? tries = null)
    {
        var response = exchange.Response;
        response.StatusCode = head.Status;
        var named = new StringValues(head.Headers.First("Connection"));
        var headers = response.Headers;
        if (headers is HeaderList { Count: 0 } list && named.Count == 0 && tries is null)
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
            if (StaysHere(name) || HopByHop.IsNamed(named, name) || tries?.Passes(name) == false)
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
}

using Microsoft.AspNetCore.Http;
using Sluice.Model.Settings;

namespace Sluice.Pipeline;

/// <summary>
/// What a well-formed request may not ask of a gateway, and the target's normalisation. That it is well-formed has been seen to before, by
/// <see cref="Net.Http1.RequestHead"/> or by Kestrel (HTTP/2, HTTP/3).
/// </summary>
static class RequestCheck
{
    /// <summary>
    /// A 400 (405 for CONNECT), or null when the request is sound; sets <see cref="Exchange.Uri"/> and <see cref="Exchange.Args"/>. After a refusal
    /// the connection ends: where its next request begins is as doubtful as this one.
    /// </summary>
    public static Answer? Refuse(Exchange exchange)
    {
        var refusal = Check(exchange);
        if (refusal is not null)
        {
            EndConnection(exchange);
        }
        return refusal;
    }

    public static void EndConnection(Exchange exchange)
    {
        if (exchange.Request.Protocol.StartsWith("HTTP/1", StringComparison.Ordinal))
        {
            exchange.Response.Headers.Connection = "close";
        }
    }

    static Answer? Check(Exchange exchange)
    {
        var request = exchange.Request;
        if (string.Equals(request.Method, "CONNECT", StringComparison.Ordinal))
        {
            return Answer.OwnError(405, "405 Not Allowed");
        }
        var target = exchange.RawTarget;
        if (target.Length > 0 && target[0] != '/' && target.IndexOf("://", StringComparison.Ordinal) is > 0 and var scheme)
        {
            // absolute form: the authority has become the Host header already
            var end = target.AsSpan(scheme + 3).IndexOfAny('/', '?', '#');
            target = end < 0 ? "/" : target[(scheme + 3 + end)..];
            target = target[0] == '/' ? target : "/" + target;
        }
        if (target.AsSpan().ContainsAnyInRange('\0', ' ') || target.Contains('\x7f', StringComparison.Ordinal))
        {
            return Bad("control character in the request target");
        }
        exchange.Target = target;
        var question = target.IndexOf('?', StringComparison.Ordinal);
        var path = question < 0 ? target : target[..question];
        if (!RequestTarget.TryNormalize(path, out var uri))
        {
            return Bad("malformed request target");
        }
        exchange.Args = question < 0 ? "" : WithoutFragment(target[(question + 1)..]);
        var settings = exchange.Snapshot.Settings.Http;
        if (!settings.UnderscoresInHeaders)
        {
            DropUnderscores(request.Headers);
        }
        return SetPath(exchange, settings, path, uri);
    }

    /// <summary>The settings that change how a path is matched; the upstream gets what the client sent all the same.</summary>
    static Answer? SetPath(Exchange exchange, HttpSettings settings, string raw, string uri)
    {
        var matched = settings.MatchUriEncodedSlash ? RequestTarget.WithEncodedSlashes(raw, uri) : null;
        if (settings.NormalizeUriLikeServlet)
        {
            if (RequestTarget.WithoutParameters(uri) is not { } plain)
            {
                return Bad("path parameters on a dot segment or an empty one");
            }
            uri = plain;
            matched = matched is null ? null : RequestTarget.WithoutParameters(matched);
        }
        if (settings.DeleteUriTailSlash)
        {
            uri = WithoutTailSlash(uri);
            matched = matched is null ? null : WithoutTailSlash(matched);
        }
        exchange.Uri = uri;
        exchange.MatchPath = matched;
        return null;
    }

    static string WithoutTailSlash(string path) => path.Length > 1 && path[^1] == '/' ? path[..^1] : path;

    static void DropUnderscores(IHeaderDictionary headers)
    {
        foreach (var name in headers.Keys.Where(static name => name.Contains('_', StringComparison.Ordinal)).ToArray())
        {
            headers.Remove(name);
        }
    }

    static string WithoutFragment(string args) => args.IndexOf('#', StringComparison.Ordinal) is >= 0 and var hash ? args[..hash] : args;

    static Answer Bad(string what) => Answer.OwnError(400, $"400 Bad Request: {what}");
}

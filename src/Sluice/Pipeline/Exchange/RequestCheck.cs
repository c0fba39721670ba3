using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Model.Settings;
using Sluice.Net.Http;
using Sluice.Net.Http1;

namespace Sluice.Pipeline;

/// <summary>
/// What a well-formed request may not ask of a gateway, and the target's normalisation. That it is well-formed has been seen to before, by
/// <see cref="Net.Http1.RequestHead"/> or by Kestrel (HTTP/2, HTTP/3).
/// </summary>
static partial class RequestCheck
{
    /// <summary>
    /// A 400 (405 for CONNECT, unless it asks for a WebSocket), or null when the request is sound; sets <see cref="Exchange.Uri"/> and
    /// <see cref="Exchange.Args"/>. After a refusal the connection ends: where its next request begins is as doubtful as this one.
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
        if (WebSocketHandshake.Take(exchange) is { } refused)
        {
            return refused;
        }
        var isOwn = exchange.Http is Http1Context;
        if (request.Headers.Host.ToString() is { Length: > 0 } authority)
        {
            if (HostName.Of(authority) is null)
            {
                return Bad("an invalid Host");
            }
        }
        else if (!isOwn && !request.Protocol.StartsWith("HTTP/1", StringComparison.Ordinal))
        {
            // HTTP/1.0 needs none; of HTTP/1.1 it was asked before
            return Bad("no Host");
        }
        if (!isOwn && exchange.RawTarget.AsSpan().ContainsAnyInRange('\x7f', '\xff'))
        {
            return Bad("a non-ASCII character in the request target");
        }
        if ((exchange.Http is Http1Context own ? own.InvalidHeader : LeaveOutInvalid(request.Headers)) is { } name
            && RefuseOrLog(exchange, name) is { } refusal)
        {
            return refusal;
        }
        var target = RequestTarget.OriginForm(exchange.RawTarget);
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

    /// <summary>nginx's <c>ignore_invalid_headers</c>, for what Kestrel lets through: the name of a header that is gone now.</summary>
    static string? LeaveOutInvalid(IHeaderDictionary headers)
    {
        string? first = null;
        foreach (var (name, _) in headers)
        {
            if (!HeaderName.IsToken(name) && !name.StartsWith(':'))
            {
                first = name;
                break;
            }
        }
        if (first is not null)
        {
            foreach (var name in headers.Keys.Where(static name => !HeaderName.IsToken(name) && !name.StartsWith(':')).ToArray())
            {
                headers.Remove(name);
            }
        }
        return first;
    }

    static Answer? RefuseOrLog(Exchange exchange, string name)
    {
        var connection = exchange.Http.Connection;
        if (connection.LocalIpAddress is { } address
            && !exchange.Snapshot.Settings.Nginx.Default(new(address, connection.LocalPort)).Heads.IgnoreInvalid)
        {
            return Bad("an invalid header name");
        }
        LogInvalidHeader(exchange.Services.Loggers.CreateLogger("Sluice.Pipeline.RequestCheck"),
            HeaderText.Escape(name.Length > 64 ? name[..64] : name), exchange.RemoteAddressText);
        return null;
    }

    [LoggerMessage(Level = LogLevel.Information,
        Message = "client sent a header with an invalid name: \"{Name}\", it is left out, client: {Client}")]
    static partial void LogInvalidHeader(ILogger logger, string name, string client);

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

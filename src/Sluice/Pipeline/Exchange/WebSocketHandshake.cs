using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Net.Http;

namespace Sluice.Pipeline;

/// <summary>
/// The WebSocket handshake in the two forms that it has: an Upgrade in HTTP/1.1 (RFC 6455), an extended CONNECT in HTTP/2 (RFC 8441).
/// Plugins, routes and scripts see the first form whatever the client speaks; nodes are asked in the form of their protocol.
/// </summary>
static class WebSocketHandshake
{
    const string Guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

    /// <summary>Null for a method other than CONNECT, and for an extended CONNECT, which becomes the GET that it stands for; otherwise the
    /// refusal.</summary>
    public static Answer? Take(Exchange exchange)
    {
        var request = exchange.Request;
        if (!string.Equals(request.Method, "CONNECT", StringComparison.Ordinal))
        {
            return null;
        }
        if (exchange.Http.Features.Get<IHttpExtendedConnectFeature>() is not { IsExtendedConnect: true } connect)
        {
            return Answer.OwnError(405, "405 Not Allowed");
        }
        if (!string.Equals(connect.Protocol, "websocket", StringComparison.OrdinalIgnoreCase))
        {
            return Answer.OwnError(501, "501 Not Implemented: extended CONNECT for another protocol than websocket");
        }
        exchange.ExtendedConnect = connect;
        request.Method = exchange.UpstreamMethod = "GET";
        request.Headers.Upgrade = "websocket";
        request.Headers.Connection = "Upgrade";
        request.Headers.SecWebSocketKey = Convert.ToBase64String(RandomNumberGenerator.GetBytes(16));
        return null;
    }

    /// <summary>Whether the client asks for an upgrade, and the route allows it or the nginx block by the two headers that nginx wants for
    /// it.</summary>
    public static bool IsWanted(Exchange exchange) =>
        (exchange.ExtendedConnect is not null || exchange.Http.Features.Get<IHttpUpgradeFeature>()?.IsUpgradableRequest == true)
        && IsAllowed(exchange);

    public static bool IsAllowed(Exchange exchange) =>
        exchange.Route!.EnableWebsocket || (exchange.Scope.Upgrade is { } headers && PassesUpgrade(exchange, headers));

    static bool PassesUpgrade(Exchange exchange, (string Upgrade, string Connection) headers) =>
        Template.Expand(headers.Upgrade, exchange.InNginx).Length > 0
        && HopByHop.IsNamed(Template.Expand(headers.Connection, exchange.InNginx), "upgrade");

    /// <summary>The proof that a server has read this key (RFC 6455, section 4.2.2).</summary>
    public static string Accept(string key)
    {
#pragma warning disable CA5350 // the protocol's, and no secret
        return Convert.ToBase64String(SHA1.HashData(Encoding.ASCII.GetBytes(key + Guid)));
#pragma warning restore CA5350
    }
}

using System.Globalization;
using System.Net;
using Microsoft.Extensions.Primitives;
using Sluice.Model;
using Sluice.Model.Settings;

namespace Sluice.Pipeline;

/// <summary>
/// Who asks, when proxies stand in between: nginx's realip (<c>real_ip_header</c>, <c>real_ip_from</c>, <c>real_ip_recursive</c>), and
/// whose
/// <c>X-Forwarded-*</c> is believed (<c>apisix.trusted_addresses</c>).
/// </summary>
static class ClientAddress
{

    /// <summary>Sets <see cref="Exchange.RemoteAddress"/> and replaces what an untrusted peer says of itself.</summary>
    public static void Find(Exchange exchange)
    {
        var settings = exchange.Snapshot.Settings.Http;
        var peer = exchange.RemoteAddress;
        if (settings.RealIpSources.Contains(peer) && Named(exchange, settings) is { } named)
        {
            exchange.RemoteAddress = named.Address;
            exchange.RemotePort = named.Port;
        }
        var isTrusted = settings.TrustedSources.Contains(peer);
        var headers = exchange.Request.Headers;
        exchange.HasOwnProto = Tell(headers, "X-Forwarded-Proto", isTrusted, exchange.Request.Scheme);
        var host = headers.Host.ToString();
        exchange.HasOwnHost = Tell(headers, "X-Forwarded-Host", isTrusted, host.Length > 0 ? host : exchange.Host);
        exchange.HasOwnPort = Tell(headers, "X-Forwarded-Port", isTrusted, PortOf(host) ?? exchange.LocalPortText);
        if (!isTrusted)
        {
            headers.Remove("Forwarded");
            // the chain of addresses ends here only where a trust boundary is configured
            if (!settings.TrustedSources.IsEmpty)
            {
                headers.Remove("X-Forwarded-For");
            }
        }
    }

    /// <summary>What a trusted peer says stands; of all others, and when it says nothing, it is what the gateway sees itself. From here on
    /// it is a header like others: plugins may change it.</summary>
    /// <returns>Whether the header is the gateway's alone: the client has sent none.</returns>
    static bool Tell(Microsoft.AspNetCore.Http.IHeaderDictionary headers, string name, bool isTrusted, string own)
    {
        if (headers[name] is not { Count: > 0 } said)
        {
            headers[name] = own;
            return true;
        }
        if (!isTrusted)
        {
            headers[name] = own;
        }
        else if (said.Count > 1)
        {
            headers[name] = string.Join(", ", said.ToArray());
        }
        else if (string.IsNullOrEmpty(said[0]))
        {
            headers[name] = own;
        }
        return false;
    }

    /// <summary>The digits behind a Host header's last colon; null when there are none.</summary>
    static string? PortOf(string host)
    {
        var colon = host.LastIndexOf(':');
        return colon >= 0 && colon + 1 < host.Length && !host.AsSpan(colon + 1).ContainsAnyExceptInRange('0', '9') ? host[(colon + 1)..]
            : null;
    }

    static IPEndPoint? Named(Exchange exchange, HttpSettings settings)
    {
        if (settings.RealIpHeader.Equals("proxy_protocol", StringComparison.OrdinalIgnoreCase))
        {
            return exchange.Http.Features.Get<IProxiedConnection>()?.Source;
        }
        var values = exchange.Request.Headers[settings.RealIpHeader];
        return values.Count == 0 ? null : Last(values, settings.RealIpSources, settings.RealIpRecursive);
    }

    /// <summary>From the right: the last address; recursive: the last that is not trusted. Null when there is no address where one should
    /// be.</summary>
    static IPEndPoint? Last(StringValues values, CidrSet trusted, bool recursive)
    {
        IPEndPoint? found = null;
        for (var i = values.Count - 1; i >= 0; i--)
        {
            var rest = values[i].AsSpan();
            while (true)
            {
                var comma = rest.LastIndexOf(',');
                if (!TryParse(rest[(comma + 1)..].Trim(), out var address))
                {
                    return found;
                }
                found = address;
                if (!recursive || !trusted.Contains(address.Address))
                {
                    return found;
                }
                if (comma < 0)
                {
                    break;
                }
                rest = rest[..comma];
            }
        }
        return found;
    }

    /// <summary><c>192.0.2.1</c>, <c>192.0.2.1:80</c>, <c>2001:db8::1</c>, <c>[2001:db8::1]:80</c>; the port is 0 when there is
    /// none.</summary>
    internal static bool TryParse(ReadOnlySpan<char> text, out IPEndPoint address)
    {
        address = null!;
        var port = 0;
        var colon = text.LastIndexOf(':');
        if (text is ['[', ..])
        {
            var end = text.IndexOf(']');
            if (end < 0 || (end + 1 < text.Length && (colon != end + 1 || !TryParsePort(text[(colon + 1)..], out port))))
            {
                return false;
            }
            text = text[1..end];
        }
        else if (colon >= 0 && text.IndexOf(':') == colon)
        {
            if (!TryParsePort(text[(colon + 1)..], out port))
            {
                return false;
            }
            text = text[..colon];
        }
        if (!Cidr.TryParseAddress(text, out var ip))
        {
            return false;
        }
        address = new(ip, port);
        return true;
    }

    static bool TryParsePort(ReadOnlySpan<char> text, out int port) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out port) && port is > 0 and <= 65535;
}

/// <summary>A connection whose opener told who is behind it (PROXY protocol).</summary>
internal interface IProxiedConnection
{
    /// <summary>The client; null for a health check of the proxy itself (LOCAL, UNKNOWN).</summary>
    IPEndPoint? Source { get; }

    /// <summary>Where the client connected to.</summary>
    IPEndPoint? Destination { get; }
}

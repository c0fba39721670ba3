using System.Globalization;
using System.Net;
using Microsoft.Extensions.Primitives;
using Sluice.Model;
using Sluice.Model.Settings;

namespace Sluice.Pipeline;

/// <summary>
/// Who asks, when proxies stand in between: nginx's realip (<c>real_ip_header</c>, <c>real_ip_from</c>, <c>real_ip_recursive</c>), and whose
/// <c>X-Forwarded-*</c> is believed (<c>apisix.trusted_addresses</c>).
/// </summary>
static class ClientAddress
{
    static readonly string[] Forwarded = ["X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"];

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
        if (!settings.TrustedSources.Contains(peer))
        {
            Distrust(exchange, settings);
        }
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

    /// <summary>From the right: the last address; recursive: the last that is not trusted. Null when there is no address where one should be.</summary>
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

    /// <summary><c>192.0.2.1</c>, <c>192.0.2.1:80</c>, <c>2001:db8::1</c>, <c>[2001:db8::1]:80</c>; the port is 0 when there is none.</summary>
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

    /// <summary>Scheme, host and port are what the gateway sees itself. The chain of addresses ends here only where a trust boundary is configured.</summary>
    static void Distrust(Exchange exchange, HttpSettings settings)
    {
        var headers = exchange.Request.Headers;
        foreach (var name in Forwarded)
        {
            headers.Remove(name);
        }
        if (!settings.TrustedSources.IsEmpty)
        {
            headers.Remove("X-Forwarded-For");
        }
    }
}

/// <summary>A connection whose opener told who is behind it (PROXY protocol).</summary>
public interface IProxiedConnection
{
    /// <summary>The client; null for a health check of the proxy itself (LOCAL, UNKNOWN).</summary>
    IPEndPoint? Source { get; }

    /// <summary>Where the client connected to.</summary>
    IPEndPoint? Destination { get; }
}

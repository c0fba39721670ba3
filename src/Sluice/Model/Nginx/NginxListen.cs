using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Sluice.Model.Nginx;

/// <summary>An address that a <c>listen</c> opens.</summary>
/// <param name="DefaultServer">Its server answers names that no server of this address has.</param>
/// <param name="Ipv6Only">False: <c>[::]</c> takes IPv4 connections as well.</param>
internal sealed record NginxListen(
    IPAddress Address, int Port, bool DefaultServer, bool Ssl, bool Http2, bool Ipv6Only, string Place)
{
    public IPEndPoint EndPoint => new(Address, Port);

    /// <summary>Reads the arguments of a <c>listen</c>; null when they are wrong.</summary>
    internal static NginxListen? Parse(NginxDirective directive, Action<Problem> report)
    {
        void Error(string message) => report(Problem.Error(directive.Place, message));
        var text = directive.Arguments[0];
        if (text.StartsWith("unix:", StringComparison.Ordinal))
        {
            Error($"\"listen {text}\": unix sockets are not supported here, only addresses and ports");
            return null;
        }
        if (!TryParseAddress(text, out var address, out var port))
        {
            Error(address is null
                ? $"host not found in \"{text}\" of the \"listen\" directive: write a port, IP:port or [IPv6]:port"
                : $"invalid port in \"{text}\" of the \"listen\" directive");
            return null;
        }
        var listen = new NginxListen(address!, port, false, false, false, true, directive.Place);
        foreach (var parameter in directive.Arguments.Skip(1))
        {
            var name = parameter.Split('=')[0];
            switch (name)
            {
                case "default_server" or "default" when name == parameter:
                    listen = listen with { DefaultServer = true };
                    break;
                case "ssl" when name == parameter:
                    listen = listen with { Ssl = true };
                    break;
                case "http2" when name == parameter:
                    listen = listen with { Http2 = true };
                    break;
                case "ipv6only" when parameter is "ipv6only=on" or "ipv6only=off":
                    listen = listen with { Ipv6Only = parameter == "ipv6only=on" };
                    break;
                case "backlog" or "reuseport" or "deferred" or "bind" or "fastopen" or "rcvbuf" or "sndbuf" or "setfib" or "so_keepalive"
                    or "accept_filter"
                    or "quic" or "proxy_protocol" or "multipath" or "spdy":
                    report(Problem.Warning(directive.Place, $"parameter \"{parameter}\" of \"listen\" has no meaning here and is ignored"));
                    break;
                default:
                    Error($"invalid parameter \"{parameter}\" in \"listen\" directive");
                    return null;
            }
        }
        return listen;
    }

    /// <summary>A port, an address (port 80) or both. When it fails, a null address means that the address is wrong.</summary>
    static bool TryParseAddress(string text, out IPAddress? address, out int port)
    {
        port = 80;
        address = IPAddress.Any;
        if (text.Length > 0 && text.All(char.IsAsciiDigit))
        {
            return TryParsePort(text, out port);
        }
        var end = text.StartsWith('[') ? text.IndexOf(']', StringComparison.Ordinal) + 1 : text.IndexOf(':', StringComparison.Ordinal);
        end = end <= 0 ? text.Length : end;
        address = text[..end] switch
        {
            "*" => IPAddress.Any,
            "localhost" => IPAddress.Loopback,
            ['[', .. var inner, ']'] => IPAddress.TryParse(inner, out var six) && six.AddressFamily == AddressFamily.InterNetworkV6 ? six
                : null,
            var four => four.Count(c => c == '.') == 3 && IPAddress.TryParse(four, out var ip) ? ip : null,
        };
        return address is not null && (end == text.Length || (text[end] == ':' && TryParsePort(text.AsSpan(end + 1), out port)));
    }

    static bool TryParsePort(ReadOnlySpan<char> text, out int port) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out port) && port is > 0 and < 65536;
}

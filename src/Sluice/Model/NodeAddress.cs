using System.Globalization;

namespace Sluice.Model;

/// <summary>A node as the keys of <c>nodes</c> write it: <c>host</c>, <c>host:port</c>, <c>[::1]:8080</c>.</summary>
internal static class NodeAddress
{
    /// <param name="host">Without the brackets of an IPv6 address.</param>
    public static bool TryParse(string text, out string host, out int? port)
    {
        port = null;
        host = text;
        var portText = ReadOnlySpan<char>.Empty;
        if (text.StartsWith('['))
        {
            var close = text.IndexOf(']', StringComparison.Ordinal);
            if (close < 0 || (close + 1 < text.Length && text[close + 1] != ':'))
            {
                return false;
            }
            host = text[1..close];
            portText = text.AsSpan(close + 1);
        }
        else if (text.IndexOf(':', StringComparison.Ordinal) is >= 0 and var colon && text.LastIndexOf(':') == colon)
        {
            host = text[..colon];
            portText = text.AsSpan(colon);
        }
        if (!portText.IsEmpty)
        {
            if (!int.TryParse(portText[1..], NumberStyles.None, CultureInfo.InvariantCulture, out var number) || number is < 1 or > 65535)
            {
                return false;
            }
            port = number;
        }
        return IsHost(host);
    }

    /// <summary>An IPv6 address, or anything that can be a name: no white space, control characters, separators.</summary>
    static bool IsHost(string host) => host.Contains(':', StringComparison.Ordinal)
        ? Cidr.TryParseAddress(host, out _)
        : host.Length > 0 && host.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_');
}

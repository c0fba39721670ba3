using Sluice.Net.Http;

namespace Sluice.Plugins.Auth;

/// <summary>User name and password of an <c>Authorization: Basic …</c> header, as APISIX reads it: without any white space in
/// them.</summary>
readonly record struct BasicCredentials(string User, string Password)
{
    /// <summary>Null: it is no such header, and the error says why, without what the client sent.</summary>
    public static BasicCredentials? Read(string header, out string error)
    {
        error = "Invalid authorization header format";
        if (Encoded(header) is not { } encoded)
        {
            return null;
        }
        error = "Failed to decode authentication header";
        if (NginxBase64.Decode(encoded) is not { } decoded)
        {
            return null;
        }
        error = "Split authorization err: invalid decoded data";
        var colon = decoded.AsSpan().IndexOf((byte)':');
        return colon < 0 ? null : new(Text(decoded.AsSpan(0, colon)), Text(decoded.AsSpan(colon + 1)));
    }

    /// <summary>What follows the first <c>basic</c> with white space behind it, wherever it stands.</summary>
    static string? Encoded(string header)
    {
        const string Scheme = "basic";
        for (var at = 0; (at = header.IndexOf(Scheme, at, StringComparison.OrdinalIgnoreCase)) >= 0; at++)
        {
            var end = at + Scheme.Length;
            if (end + 1 < header.Length && header[end] is ' ' or '\t')
            {
                return header[(end + 1)..];
            }
        }
        return null;
    }

    static string Text(ReadOnlySpan<byte> bytes)
    {
        var text = new byte[bytes.Length];
        var length = 0;
        foreach (var one in bytes)
        {
            if (one is not ((byte)' ' or (>= (byte)'\t' and <= (byte)'\r')))
            {
                text[length++] = one;
            }
        }
        return ByteText.Of(text.AsSpan(0, length));
    }
}

using System.Buffers;
using System.Text;
using Sluice.Net.Http;

namespace Sluice.Pipeline;

/// <summary>
/// The request target as nginx normalises it before matching (<c>$uri</c>): percent-decoded, <c>//</c> merged, <c>.</c> and
/// <c>..</c> resolved (RFC 3986, section 5.2.4). The upstream still gets the raw target.
/// </summary>
internal static class RequestTarget
{
    static readonly SearchValues<char> Unusual = SearchValues.Create("%.#");

    /// <summary>Path and query as sent; of a target in absolute form without the authority, which has become the Host header
    /// already.</summary>
    public static string OriginForm(string target)
    {
        if (target is ['/', ..] || target.IndexOf("://", StringComparison.Ordinal) is not (> 0 and var scheme))
        {
            return target;
        }
        var end = target.AsSpan(scheme + 3).IndexOfAny('/', '?', '#');
        target = end < 0 ? "/" : target[(scheme + 3 + end)..];
        return target[0] == '/' ? target : "/" + target;
    }

    /// <summary>False for what nginx answers 400: a bad percent code, an encoded NUL, a path above the root, no leading slash.</summary>
    /// <param name="rawPath">The target up to the question mark.</param>
    public static bool TryNormalize(string rawPath, out string uri)
    {
        uri = rawPath;
        if (rawPath.Length == 0 || rawPath[0] != '/')
        {
            return false;
        }
        if (rawPath.AsSpan().IndexOfAny(Unusual) < 0 && !rawPath.Contains("//", StringComparison.Ordinal))
        {
            return true;
        }
        var bytes = ArrayPool<byte>.Shared.Rent(rawPath.Length * 3);
        try
        {
            if (!TryDecode(rawPath, bytes, out var length) || !TryResolve(bytes, ref length))
            {
                return false;
            }
            uri = ByteText.Of(bytes.AsSpan(0, length));
            return true;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    /// <summary>A path as it may stand in a request line, escaped as nginx escapes: the reverse of <see cref="TryNormalize"/>.</summary>
    public static string Escape(string path)
    {
        if (!path.AsSpan().ContainsAnyExcept(Plain))
        {
            return path;
        }
        var bytes = ByteText.GetBytes(path);
        var result = new StringBuilder(path.Length + 32);
        foreach (var value in bytes)
        {
            if (Plain.Contains((char)value))
            {
                result.Append((char)value);
            }
            else
            {
                result.Append('%').Append(value.ToString("X2", System.Globalization.CultureInfo.InvariantCulture));
            }
        }
        return result.ToString();
    }

    /// <summary>What RFC 3986 lets stand in a path, without the percent sign and the question mark.</summary>
    static readonly SearchValues<char> Plain =
        SearchValues.Create("!$&'()*+,-./0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~");

    /// <summary>
    /// The path with its encoded slashes left encoded. Null, so that the normalised path is matched, when there is none or when
    /// anything but percent-decoding was needed to normalise: what dots or double slashes mean is decided once, by
    /// <see cref="TryNormalize"/>.
    /// </summary>
    internal static string? WithEncodedSlashes(string rawPath, string normalized)
    {
        if (!rawPath.Contains("%2F", StringComparison.OrdinalIgnoreCase) || rawPath.Contains("%25", StringComparison.Ordinal))
        {
            return null;
        }
        var bytes = new byte[rawPath.Length];
        if (!TryDecode(rawPath, bytes, out var length) || ByteText.Of(bytes.AsSpan(0, length)) != normalized)
        {
            return null;
        }
        var kept = new StringBuilder(rawPath.Length);
        var start = 0;
        for (var at = 0; at < rawPath.Length;)
        {
            at = rawPath.IndexOf("%2F", start, StringComparison.OrdinalIgnoreCase);
            at = at < 0 ? rawPath.Length : at;
            if (!TryDecode(rawPath[start..at], bytes, out length))
            {
                return null;
            }
            kept.Append(ByteText.Of(bytes.AsSpan(0, length)));
            start = Math.Min(at + 3, rawPath.Length);
            kept.Append(rawPath, at, start - at);
        }
        return kept.ToString();
    }

    /// <summary>
    /// As Java servlets see a path: without what follows a semicolon in each segment. Null for what would get around rules that
    /// look at the path: dot segments and empty ones with parameters.
    /// </summary>
    internal static string? WithoutParameters(string path)
    {
        if (!path.Contains(';', StringComparison.Ordinal))
        {
            return path;
        }
        var segments = path.Split('/');
        for (var i = 0; i < segments.Length; i++)
        {
            var semicolon = segments[i].IndexOf(';', StringComparison.Ordinal);
            if (semicolon < 0)
            {
                continue;
            }
            var segment = segments[i][..semicolon];
            if (segment is "." or ".." || (segment.Length == 0 && i < segments.Length - 1)
                || segment.ToLowerInvariant() is "%2e" or "%2e%2e")
            {
                return null;
            }
            segments[i] = segment;
        }
        return string.Join('/', segments);
    }

    static bool TryDecode(string path, byte[] bytes, out int length)
    {
        length = 0;
        for (var i = 0; i < path.Length; i++)
        {
            var c = path[i];
            if (c == '#')
            {
                break;
            }
            if (c != '%')
            {
                // targets come as Latin-1: one char is one byte
                bytes[length++] = (byte)c;
                continue;
            }
            if (i + 2 >= path.Length || !char.IsAsciiHexDigit(path[i + 1]) || !char.IsAsciiHexDigit(path[i + 2]))
            {
                return false;
            }
            var value = (byte)Convert.ToInt32(path.Substring(i + 1, 2), 16);
            if (value == 0)
            {
                return false;
            }
            bytes[length++] = value;
            i += 2;
        }
        return true;
    }

    /// <summary>Segment by segment, in place: empty and <c>.</c> go, <c>..</c> takes the one before away.</summary>
    static bool TryResolve(byte[] bytes, ref int length)
    {
        var write = 1;
        var read = 1;
        while (read <= length)
        {
            var end = Array.IndexOf(bytes, (byte)'/', read, length - read);
            var isLast = end < 0;
            end = isLast ? length : end;
            var segment = bytes.AsSpan(read, end - read);
            if (segment.SequenceEqual(".."u8))
            {
                if (write == 1)
                {
                    return false;
                }
                write = Array.LastIndexOf(bytes, (byte)'/', write - 2) + 1;
            }
            else if (segment.Length > 0 && !segment.SequenceEqual("."u8))
            {
                segment.CopyTo(bytes.AsSpan(write));
                write += segment.Length;
                if (!isLast)
                {
                    bytes[write++] = (byte)'/';
                }
            }
            read = end + 1;
        }
        length = write;
        return true;
    }
}

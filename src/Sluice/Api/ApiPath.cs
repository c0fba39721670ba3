using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace Sluice.Api;

/// <summary>The path of a request to one of the gateway's own interfaces, as segments. What could be read in two ways is refused.</summary>
static class ApiPath
{
    static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <param name="target">The request target as the client sent it; Kestrel's own decoding would hide an encoded slash.</param>
    public static bool TryParse(string target, out string[] segments, [NotNullWhen(false)] out string? error)
    {
        segments = [];
        if (target.IndexOf("://", StringComparison.Ordinal) is > 0 and var scheme && target[0] != '/')
        {
            target = target.IndexOf('/', scheme + 3) is > 0 and var slash ? target[slash..] : "/";
        }
        var end = target.AsSpan().IndexOfAny('?', '#');
        var raw = (end < 0 ? target : target[..end]).TrimEnd('/').Split('/');
        var decoded = new string[Math.Max(raw.Length - 1, 0)];
        for (var i = 1; i < raw.Length; i++)
        {
            if (Decode(raw[i]) is not { } segment)
            {
                error = "invalid path: malformed percent-encoding";
                return false;
            }
            if (segment is "" or "." or ".." || segment.AsSpan().ContainsAny('/', '\\') || segment.Any(char.IsControl))
            {
                error = "invalid path: an empty part, a dot part, an encoded slash or a control character";
                return false;
            }
            decoded[i - 1] = segment;
        }
        segments = decoded;
        error = null;
        return true;
    }

    static string? Decode(string text)
    {
        var bytes = new byte[text.Length];
        var length = 0;
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] > '~')
            {
                return null;
            }
            if (text[i] != '%')
            {
                bytes[length++] = (byte)text[i];
                continue;
            }
            if (i + 2 >= text.Length || !char.IsAsciiHexDigit(text[i + 1]) || !char.IsAsciiHexDigit(text[i + 2]))
            {
                return null;
            }
            bytes[length++] = Convert.ToByte(text.Substring(i + 1, 2), 16);
            i += 2;
        }
        try
        {
            return StrictUtf8.GetString(bytes, 0, length);
        }
        catch (DecoderFallbackException)
        {
            return null;
        }
    }
}

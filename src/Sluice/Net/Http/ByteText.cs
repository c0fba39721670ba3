using System.Buffers;
using System.Text;

namespace Sluice.Net.Http;

/// <summary>
/// Paths as text of which each byte can be got back. Bytes that are UTF-8 are that text; one that is not becomes a lone surrogate of its
/// own (U+DC80 to U+DCFF), which no UTF-8 text has.
/// </summary>
static class ByteText
{
    const char First = '\uDC80', Last = '\uDCFF';

    static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>The most bytes that text of this length can be.</summary>
    public static int MaxBytes(int length) => Encoding.UTF8.GetMaxByteCount(length);

    public static string Of(ReadOnlySpan<byte> bytes)
    {
        try
        {
            return StrictUtf8.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            return OfInvalid(bytes);
        }
    }

    static string OfInvalid(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder(bytes.Length);
        while (!bytes.IsEmpty)
        {
            if (Rune.DecodeFromUtf8(bytes, out var rune, out var length) == OperationStatus.Done)
            {
                text.Append(rune.ToString());
                bytes = bytes[length..];
            }
            else
            {
                text.Append((char)(0xDC00 + bytes[0]));
                bytes = bytes[1..];
            }
        }
        return text.ToString();
    }

    public static byte[] GetBytes(string text)
    {
        var bytes = new byte[MaxBytes(text.Length)];
        return bytes[..GetBytes(text, bytes)];
    }

    /// <returns>How many bytes were written.</returns>
    public static int GetBytes(ReadOnlySpan<char> text, Span<byte> destination)
    {
        if (!text.ContainsAnyInRange(First, Last))
        {
            return Encoding.UTF8.GetBytes(text, destination);
        }
        var at = 0;
        while (!text.IsEmpty)
        {
            if (text[0] is >= First and <= Last and var escaped)
            {
                destination[at++] = (byte)(escaped - 0xDC00);
                text = text[1..];
                continue;
            }
            // a pair whose second half lies in the range is one character
            _ = Rune.DecodeFromUtf16(text, out var rune, out var length);
            at += rune.EncodeToUtf8(destination[at..]);
            text = text[length..];
        }
        return at;
    }

    /// <summary>The same bytes as Latin-1, one character for each: what header values are made of.</summary>
    public static string ToWire(string text) =>
        !text.AsSpan().ContainsAnyExceptInRange('\0', '\x7f') ? text : Encoding.Latin1.GetString(GetBytes(text));

    /// <summary>Whether a variable's value comes from the wire, each character a byte of it; otherwise it is text.</summary>
    public static bool IsWire(string variable) =>
        variable.StartsWith("http_", StringComparison.Ordinal) || variable.StartsWith("arg", StringComparison.Ordinal)
        || variable.StartsWith("cookie_", StringComparison.Ordinal) || variable.StartsWith("sent_", StringComparison.Ordinal)
        || variable.StartsWith("upstream_http_", StringComparison.Ordinal)
        || variable is "query_string" or "real_request_uri" or "request" or "content_type" or "proxy_add_x_forwarded_for" or "upstream_uri"
        or "upstream_host";
}

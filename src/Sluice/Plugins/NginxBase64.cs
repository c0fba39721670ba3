using System.Text;

namespace Sluice.Plugins;

/// <summary>Base64 as nginx reads it: padding may be missing, and what follows it does not count.</summary>
static class NginxBase64
{
    /// <summary>Null: it is not Base64.</summary>
    public static byte[]? Decode(string text) =>
        DecodeAny(text, static c => c is (>= 'A' and <= 'Z') or (>= 'a' and <= 'z') or (>= '0' and <= '9') or '+' or '/');

    /// <summary>The same for the alphabet of URLs.</summary>
    public static byte[]? DecodeUrl(string text) =>
        DecodeAny(text, static c => c is (>= 'A' and <= 'Z') or (>= 'a' and <= 'z') or (>= '0' and <= '9') or '-' or '_');

    static byte[]? DecodeAny(string text, Func<char, bool> isDigit)
    {
        var end = text.IndexOf('=', StringComparison.Ordinal) is >= 0 and var padding ? padding : text.Length;
        if (end % 4 == 1 || !text.AsSpan(0, end).ToArray().All(isDigit))
        {
            return null;
        }
        var whole = new StringBuilder(text, 0, end, end + 3).Replace('-', '+').Replace('_', '/').Append('=', (4 - (end % 4)) % 4)
            .ToString();
        var bytes = new byte[whole.Length / 4 * 3];
        // bits beyond the last byte do not count
        return Convert.TryFromBase64String(whole, bytes, out var length) ? bytes[..length] : null;
    }
}

using System.Buffers;
using System.Text;

namespace Sluice.Pipeline;

/// <summary>Header names and values that configurations and variables make up: none of them breaks out of its line.</summary>
public static class HeaderText
{
    static readonly SearchValues<char> NameCharacters = SearchValues.Create("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

    /// <summary>A token (RFC 9110, section 5.1).</summary>
    public static bool IsName(string name) => name.Length > 0 && !name.AsSpan().ContainsAnyExcept(NameCharacters);

    /// <summary>Control characters become <c>%0A</c> and the like, as OpenResty does; what is not Latin-1 becomes its UTF-8 bytes.</summary>
    public static string Escape(string value)
    {
        foreach (var c in value)
        {
            if (IsControl(c) || c > 0xff)
            {
                return EscapeAll(value);
            }
        }
        return value;
    }

    static string EscapeAll(string value)
    {
        var result = new StringBuilder(value.Length + 16);
        Span<byte> bytes = stackalloc byte[4];
        foreach (var rune in value.EnumerateRunes())
        {
            if (rune.Value < 0x80 && IsControl((char)rune.Value))
            {
                result.Append('%').Append(rune.Value.ToString("X2", System.Globalization.CultureInfo.InvariantCulture));
            }
            else if (rune.Value > 0xff)
            {
                result.Append(Encoding.Latin1.GetString(bytes[..rune.EncodeToUtf8(bytes)]));
            }
            else
            {
                result.Append((char)rune.Value);
            }
        }
        return result.ToString();
    }

    static bool IsControl(char c) => c is < ' ' and not '\t' or '\x7f';
}

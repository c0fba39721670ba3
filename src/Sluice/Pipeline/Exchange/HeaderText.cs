using System.Text;
using Sluice.Net.Http;

namespace Sluice.Pipeline;

/// <summary>Header values that configurations and variables make up: none of them breaks out of its line.</summary>
internal static class HeaderText
{
    /// <summary>Control characters become <c>%0A</c> and the like, as OpenResty does; what is not Latin-1 becomes its UTF-8
    /// bytes.</summary>
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
        // what has characters that no byte is, is text
        foreach (var c in value.AsSpan().ContainsAnyExceptInRange('\0', '\xff') ? ByteText.ToWire(value) : value)
        {
            if (IsControl(c))
            {
                result.Append('%').Append(((int)c).ToString("X2", System.Globalization.CultureInfo.InvariantCulture));
            }
            else
            {
                result.Append(c);
            }
        }
        return result.ToString();
    }

    static bool IsControl(char c) => c is < ' ' and not '\t' or '\x7f';
}

using System.Globalization;
using System.Text;

namespace Sluice.Scripting.Api;

/// <summary>Escapes and Base64.</summary>
static class TextApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("escape_uri", EscapeUri), ("unescape_uri", UnescapeUri), ("base64", Base64), ("unbase64", Unbase64),
    ];

    /// <summary>
    /// Which printable characters each of nginx's ways escapes: as a URI, in arguments, as a component (the default), and four for other
    /// uses.
    /// </summary>
    static readonly string[] EscapedPrintables = ["#%?", "#%+?", "\"#$%&+,/:;<=>?@[\\]^`{|}", "\"#%'", "\"'", "%", "%"];

    static int EscapeUri(LuaLane lane, LuaStack stack)
    {
        var kind = stack.OptionalInteger(2) ?? 2;
        var special = EscapedPrintables[kind];
        var escaped = new StringBuilder();
        foreach (var b in stack.Bytes(1))
        {
            var c = (char)b;
            _ = c <= ' ' || (c >= '\x7f' && kind < 5) || special.Contains(c, StringComparison.Ordinal)
                ? escaped.Append('%').Append(b.ToString("X2", CultureInfo.InvariantCulture))
                : escaped.Append(c);
        }
        stack.Push(escaped.ToString());
        return 1;
    }

    static int UnescapeUri(LuaLane lane, LuaStack stack)
    {
        var bytes = stack.Bytes(1);
        var result = new byte[bytes.Length];
        var length = 0;
        for (var i = 0; i < bytes.Length; i++)
        {
            if (bytes[i] == '%' && i + 2 < bytes.Length && char.IsAsciiHexDigit((char)bytes[i + 1])
                && char.IsAsciiHexDigit((char)bytes[i + 2]))
            {
                result[length++] = (byte)((Hex(bytes[i + 1]) << 4) | Hex(bytes[i + 2]));
                i += 2;
            }
            else
            {
                result[length++] = bytes[i] == '+' ? (byte)' ' : bytes[i];
            }
        }
        stack.Push(result.AsSpan(0, length));
        return 1;
    }

    static int Hex(byte digit) => digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10;

    static int Base64(LuaLane lane, LuaStack stack)
    {
        var text = Convert.ToBase64String(stack.Bytes(1));
        stack.Push(stack.Flag(2) ? text.TrimEnd('=') : text);
        return 1;
    }

    static int Unbase64(LuaLane lane, LuaStack stack)
    {
        var text = stack.Text(1).Split('=', 2)[0];
        var padded = text.PadRight((text.Length + 3) / 4 * 4, '=');
        var bytes = new byte[padded.Length];
        if (!Convert.TryFromBase64String(padded, bytes, out var length))
        {
            return 0;
        }
        stack.Push(bytes.AsSpan(0, length));
        return 1;
    }
}

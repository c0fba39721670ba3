using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sluice.Model.Json;

/// <summary>Values as Lua sees, compares and prints them: what APISIX's messages are made of.</summary>
internal static class LuaText
{
    internal const NumberStyles FloatStyle = NumberStyles.Float;

    /// <summary>Lua's <c>type()</c> of a decoded JSON value.</summary>
    public static string Type(JsonNode? value) => Kind(value) switch
    {
        JsonValueKind.Object or JsonValueKind.Array => "table",
        JsonValueKind.String => "string",
        JsonValueKind.Number => "number",
        JsonValueKind.True or JsonValueKind.False => "boolean",
        _ => "userdata", // cjson.null
    };

    /// <summary>The kind of a node; null is JSON's null.</summary>
    public static JsonValueKind Kind(JsonNode? value) => value?.GetValueKind() ?? JsonValueKind.Null;

    /// <summary>A number node's value, whether it was parsed or made from any CLR number.</summary>
    public static double ToDouble(JsonNode number)
    {
        var value = number.AsValue();
        return value.TryGetValue(out double d) ? d
            : value.TryGetValue(out long l) ? l
            : value.TryGetValue(out int i) ? i
            : double.Parse(value.ToJsonString(), FloatStyle, CultureInfo.InvariantCulture);
    }

    /// <summary><c>tostring(number)</c>: C's <c>%.14g</c>, or with another number of digits.</summary>
    public static string Number(double value, int digits = 14)
    {
        if (value == 0)
        {
            return double.IsNegative(value) ? "-0" : "0";
        }
        if (!double.IsFinite(value))
        {
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        }
        var scientific = value.ToString($"E{digits - 1}", CultureInfo.InvariantCulture);
        var at = scientific.IndexOf('E', StringComparison.Ordinal);
        var exponent = int.Parse(scientific.AsSpan(at + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        if (exponent < -4 || exponent >= digits)
        {
            var mantissa = scientific[..at].Contains('.', StringComparison.Ordinal) ? scientific[..at].TrimEnd('0').TrimEnd('.')
                : scientific[..at];
            return string.Create(CultureInfo.InvariantCulture, $"{mantissa}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}");
        }
        var plain = value.ToString("F" + (digits - 1 - exponent).ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
        return plain.Contains('.', StringComparison.Ordinal) ? plain.TrimEnd('0').TrimEnd('.') : plain;
    }

    /// <summary><c>string.format("%q", text)</c> as LuaJIT writes it.</summary>
    public static string Quote(string text)
    {
        var quoted = new StringBuilder(text.Length + 2).Append('"');
        for (var i = 0; i < text.Length; i++)
        {
            var c = text[i];
            if (c is '"' or '\\' or '\n')
            {
                quoted.Append('\\').Append(c);
            }
            else if (c < ' ' || c == '\x7f')
            {
                var beforeDigit = i + 1 < text.Length && char.IsAsciiDigit(text[i + 1]);
                quoted.Append('\\').Append(((int)c).ToString(beforeDigit ? "000" : "0", CultureInfo.InvariantCulture));
            }
            else
            {
                quoted.Append(c);
            }
        }
        return quoted.Append('"').ToString();
    }

    /// <summary>Lua's <c>tonumber</c> of a string: decimal or hexadecimal, white space around it allowed.</summary>
    public static bool TryToNumber(ReadOnlySpan<char> text, out double number)
    {
        text = text.Trim(" \t\n\v\f\r");
        var digits = text.StartsWith("-") || text.StartsWith("+") ? text[1..] : text;
        number = 0;
        if (digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            var ok = ulong.TryParse(digits[2..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var hex);
            number = text[0] == '-' ? -(double)hex : hex;
            return ok;
        }
        return !digits.IsEmpty && (char.IsAsciiDigit(digits[0]) || digits[0] == '.')
            && double.TryParse(text, FloatStyle, CultureInfo.InvariantCulture, out number);
    }
}

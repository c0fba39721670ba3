using System.Globalization;
using System.Text;

namespace Sluice.Plugins.Logging;

/// <summary>Dates as C's strftime writes them in the C locale (POSIX), which is how log indexes are named.</summary>
static class Strftime
{
    /// <summary>Null: a table or nothing that can be written (<c>*t</c> of Lua's os.date).</summary>
    /// <param name="format">A <c>!</c> in front means UTC, as in Lua.</param>
    public static string? Format(string format, DateTimeOffset now)
    {
        if (format is ['!', ..])
        {
            (format, now) = (format[1..], now.ToUniversalTime());
        }
        if (format.StartsWith("*t", StringComparison.Ordinal))
        {
            return null;
        }
        var text = new StringBuilder();
        for (var i = 0; i < format.Length; i++)
        {
            if (format[i] != '%' || i + 1 == format.Length)
            {
                text.Append(format[i]);
            }
            else if (Field(format[++i], now) is { } field)
            {
                text.Append(field);
            }
            else
            {
                text.Append('%').Append(format[i]);
            }
        }
        return text.ToString();
    }

    static string? Field(char letter, DateTimeOffset now) => letter switch
    {
        'Y' => Text(now, "yyyy"),
        'y' => Text(now, "yy"),
        'C' => Number(now.Year / 100, 2),
        'm' => Text(now, "MM"),
        'd' => Text(now, "dd"),
        'e' => Text(now, "%d").PadLeft(2),
        'H' => Text(now, "HH"),
        'I' => Text(now, "hh"),
        'M' => Text(now, "mm"),
        'S' => Text(now, "ss"),
        'p' => Text(now, "tt"),
        'j' => Number(now.DayOfYear, 3),
        'a' => Text(now, "ddd"),
        'A' => Text(now, "dddd"),
        'b' or 'h' => Text(now, "MMM"),
        'B' => Text(now, "MMMM"),
        'u' => Number(now.DayOfWeek == DayOfWeek.Sunday ? 7 : (int)now.DayOfWeek, 1),
        'w' => Number((int)now.DayOfWeek, 1),
        'U' => Number((now.DayOfYear + 6 - (int)now.DayOfWeek) / 7, 2),
        'W' => Number((now.DayOfYear + 6 - (((int)now.DayOfWeek + 6) % 7)) / 7, 2),
        'V' => Number(ISOWeek.GetWeekOfYear(now.DateTime), 2),
        'G' => Number(ISOWeek.GetYear(now.DateTime), 4),
        'g' => Number(ISOWeek.GetYear(now.DateTime) % 100, 2),
        'F' => Text(now, "yyyy-MM-dd"),
        'T' or 'X' => Text(now, "HH:mm:ss"),
        'R' => Text(now, "HH:mm"),
        'D' or 'x' => Text(now, "MM'/'dd'/'yy"),
        'r' => Text(now, "hh:mm:ss tt"),
        'c' => $"{Text(now, "ddd MMM")} {Text(now, "%d").PadLeft(2)} {Text(now, "HH:mm:ss yyyy")}",
        's' => now.ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture),
        'z' => Text(now, "zzz").Replace(":", "", StringComparison.Ordinal),
        'Z' => now.Offset == TimeSpan.Zero ? "UTC" : Text(now, "zzz").Replace(":", "", StringComparison.Ordinal),
        'n' => "\n",
        't' => "\t",
        '%' => "%",
        _ => null,
    };

    static string Text(DateTimeOffset now, string format) => now.ToString(format, CultureInfo.InvariantCulture);

    static string Number(int number, int digits) => number.ToString(CultureInfo.InvariantCulture).PadLeft(digits, '0');
}

using System.Globalization;

namespace Sluice.Model.Nginx;

/// <summary>nginx's sizes (<c>512</c>, <c>1k</c>, <c>4m</c>, <c>1g</c>) and times (<c>60</c>, <c>60s</c>, <c>1h30m</c>,
/// <c>500ms</c>).</summary>
internal static class NginxUnits
{
    public static bool TryParseSize(string text, out long bytes)
    {
        bytes = 0;
        var shift = text.Length == 0 ? 0 : text[^1] switch { 'k' or 'K' => 10, 'm' or 'M' => 20, 'g' or 'G' => 30, _ => 0 };
        var digits = shift == 0 ? text : text[..^1];
        if (!long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var value) || value > long.MaxValue >> shift)
        {
            return false;
        }
        bytes = value << shift;
        return true;
    }

    /// <summary>Seconds; timers take no more than 2^32 milliseconds.</summary>
    const double LongestTimer = 49 * 86400;

    static readonly (string Suffix, double Seconds)[] TimeUnits =
        [("y", 365 * 86400d), ("M", 30 * 86400d), ("w", 7 * 86400d), ("d", 86400d), ("h", 3600d), ("m", 60d), ("s", 1d), ("ms", 0.001)];

    /// <summary>Units must come from large to small, as in nginx; a number without a unit is seconds.</summary>
    public static bool TryParseTime(string text, out TimeSpan time)
    {
        time = default;
        var total = 0d;
        var unit = 0;
        for (var at = 0; at < text.Length;)
        {
            var start = at;
            while (at < text.Length && char.IsAsciiDigit(text[at]))
            {
                at++;
            }
            if (!long.TryParse(text.AsSpan(start, at - start), NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                return false;
            }
            var suffixStart = at;
            while (at < text.Length && char.IsAsciiLetter(text[at]))
            {
                at++;
            }
            var suffix = text[suffixStart..at];
            var index = Array.FindIndex(TimeUnits, candidate => candidate.Suffix == (suffix.Length == 0 ? "s" : suffix));
            if (index < unit || (suffix.Length == 0 && at < text.Length && text[at] != ' '))
            {
                return false;
            }
            unit = index + 1;
            total += number * TimeUnits[index].Seconds;
            while (at < text.Length && text[at] == ' ')
            {
                at++;
            }
        }
        if (text.Length == 0)
        {
            return false;
        }
        time = TimeSpan.FromMilliseconds(Math.Round(Math.Min(total, LongestTimer) * 1000));
        return true;
    }
}

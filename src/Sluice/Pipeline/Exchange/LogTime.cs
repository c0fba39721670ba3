using System.Globalization;

namespace Sluice.Pipeline;

/// <summary>A second's texts, made once for all lines of it.</summary>
sealed record LogTime(long Second, TimeProvider Clock, string Local, string Iso8601)
{
    static LogTime? s_last;

    public static LogTime Of(DateTimeOffset now, TimeProvider clock)
    {
        var second = now.ToUnixTimeSeconds();
        if (Volatile.Read(ref s_last) is { } last && last.Second == second && last.Clock == clock)
        {
            return last;
        }
        var local = TimeZoneInfo.ConvertTime(now, clock.LocalTimeZone);
        var made = new LogTime(
            second,
            clock,
            local.ToString("dd/MMM/yyyy:HH:mm:ss zz", CultureInfo.InvariantCulture)
            + local.Offset.ToString("mm", CultureInfo.InvariantCulture),
            local.ToString("yyyy-MM-ddTHH:mm:sszzz", CultureInfo.InvariantCulture));
        Volatile.Write(ref s_last, made);
        return made;
    }
}

using System.Globalization;
using System.Text.RegularExpressions;

namespace Sluice.Scripting.Api;

/// <summary>Clocks and dates.</summary>
static partial class TimeApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("now", Now), ("time_text", TimeText), ("http_time", HttpTime), ("parse_http_time", ParseHttpTime), ("find_time", FindTime),
    ];

    static int Now(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Engine.Time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0);
        return 1;
    }

    static int TimeText(LuaLane lane, LuaStack stack)
    {
        var now = stack.Flag(1) ? lane.Engine.Time.GetUtcNow() : lane.Engine.Time.GetLocalNow();
        stack.Push(now.ToString(stack.Flag(2) ? "yyyy-MM-dd" : "yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture));
        return 1;
    }

    static int HttpTime(LuaLane lane, LuaStack stack)
    {
        stack.Push(DateTimeOffset.FromUnixTimeSeconds((long)Math.Clamp(stack.Number(1), 0, 253402300799))
            .ToString("R", CultureInfo.InvariantCulture));
        return 1;
    }

    /// <summary>In RFC 1123's, RFC 850's or asctime's format; as in nginx the day of the week counts for nothing.</summary>
    static int ParseHttpTime(LuaLane lane, LuaStack stack)
    {
        var match = HttpTimes().Match(stack.Text(1));
        if (!match.Success)
        {
            return 0;
        }
        string Part(string name) => match.Groups[name].Value;
        var year = Part("year");
        year = year.Length > 2 ? year : string.CompareOrdinal(year, "70") < 0 ? "20" + year : "19" + year;
        if (DateTimeOffset.TryParseExact($"{year} {Part("month")} {Part("day").PadLeft(2, '0')} {Part("time")}", "yyyy MMM dd HH:mm:ss",
            CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var time))
        {
            stack.Push(time.ToUnixTimeSeconds());
            return 1;
        }
        return 0;
    }

    [GeneratedRegex(
        @"^\w+(?:, ?(?<day>\d\d)[ -](?<month>\w{3})[ -](?<year>\d{4}|\d\d) (?<time>\d\d:\d\d:\d\d)| (?<month>\w{3}) +(?<day>\d{1,2}) (?<time>\d\d:\d\d:\d\d) (?<year>\d{4}))")]
    private static partial Regex HttpTimes();

    static int FindTime(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Engine.Time.GetTimestamp() / (double)lane.Engine.Time.TimestampFrequency);
        return 1;
    }
}

using Sluice.Observability;

namespace Sluice.Scripting.Api;

/// <summary><c>ngx.log</c>.</summary>
static class LogApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("log", Write),
    ];

    /// <summary>Characters of one line that a script logs; the rest is left out.</summary>
    const int LongestText = 64 * 1024;

    /// <summary>level (nginx's number), place, text.</summary>
    static int Write(LuaLane lane, LuaStack stack)
    {
        var severity = (LogSeverity)Math.Clamp(stack.Integer(1), 0, (int)LogSeverity.Debug);
        if (lane.Engine.Log.IsEnabled(SevereText.LevelOf(severity)))
        {
            var text = stack.Utf8(3);
            SevereText.Log(lane.Engine.Log, severity,
                $"[lua] {stack.Utf8(2)} {(text.Length > LongestText ? text[..LongestText] + "…" : text)}{lane.Running?.Place}");
        }
        return 0;
    }
}

namespace Sluice.Scripting.Api;

/// <summary><c>ngx.timer</c>.</summary>
static class TimersApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("timer", StartTimer), ("timers_pending", PendingTimers), ("timers_running", RunningTimers),
    ];

    /// <summary>number, seconds.</summary>
    static int StartTimer(LuaLane lane, LuaStack stack)
    {
        var delay = TimeSpan.FromSeconds(Math.Clamp(stack.Number(2), 0, 1e6));
        var refused = lane.Retired && delay > TimeSpan.Zero
            ? "process exiting"
            : lane.Engine.TryStartTimer() ? null : "too many pending timers";
        if (refused is not null)
        {
            stack.Push(refused);
            return 1;
        }
        lane.Start(stack.Integer(1), delay);
        return 0;
    }

    static int PendingTimers(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Engine.PendingTimers);
        return 1;
    }

    static int RunningTimers(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Engine.RunningTimers);
        return 1;
    }
}

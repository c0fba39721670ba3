namespace Sluice.Scripting.Api;

/// <summary>The process and its lanes, as scripts see them.</summary>
static class WorkerApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("lane", LaneNumber), ("lanes", LaneCount), ("id", NewId), ("instance_id", InstanceId), ("pid", ProcessId),
        ("exiting", IsExiting),
    ];

    static int LaneNumber(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Index);
        return 1;
    }

    static int LaneCount(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Options.Lanes > 0 ? lane.Options.Lanes : Environment.ProcessorCount);
        return 1;
    }

    static int IsExiting(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Retired);
        return 1;
    }

    static int ProcessId(LuaLane lane, LuaStack stack)
    {
        stack.Push(Environment.ProcessId);
        return 1;
    }

    static int InstanceId(LuaLane lane, LuaStack stack)
    {
        stack.PushUtf8(lane.Engine.Id);
        return 1;
    }

    static int NewId(LuaLane lane, LuaStack stack)
    {
        stack.Push(Guid.NewGuid().ToString());
        return 1;
    }
}

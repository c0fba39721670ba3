using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting.Api;

/// <summary>Light threads: all but <c>kill</c> are waits.</summary>
static class ThreadsApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("thread_kill", KillThread),
    ];

    static int KillThread(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Threads.Kill(lua_tothread(stack.State, 1)));
        return 1;
    }
}

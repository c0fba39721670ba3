namespace Sluice.Scripting.Api;

/// <summary><c>ngx.semaphore</c>; to wait for one is a wait.</summary>
static class SemaphoresApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("semaphore", NewSemaphore), ("sem_post", PostSemaphore), ("sem_count", CountSemaphore), ("sem_free", FreeSemaphore),
    ];

    static int NewSemaphore(LuaLane lane, LuaStack stack)
    {
        stack.Push(ScriptSemaphore.Add(Math.Max(0, stack.Integer(1))));
        return 1;
    }

    static int PostSemaphore(LuaLane lane, LuaStack stack)
    {
        ScriptSemaphore.Find(stack.Integer(1))?.Post(Math.Max(1, stack.Integer(2)));
        return 0;
    }

    static int CountSemaphore(LuaLane lane, LuaStack stack)
    {
        stack.Push(ScriptSemaphore.Find(stack.Integer(1))?.Count ?? 0);
        return 1;
    }

    static int FreeSemaphore(LuaLane lane, LuaStack stack)
    {
        ScriptSemaphore.Remove(stack.Integer(1));
        return 0;
    }
}

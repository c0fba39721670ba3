namespace Sluice.Scripting.Api;

/// <summary><c>ngx.location.capture</c> is a wait; here is what a request is told of itself.</summary>
static class SubrequestsApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("is_subrequest", IsSubrequest),
    ];

    static int IsSubrequest(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaHost.Exchange(lane).IsSubrequest);
        return 1;
    }
}

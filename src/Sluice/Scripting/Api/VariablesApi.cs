using Sluice.Net.Http;

namespace Sluice.Scripting.Api;

/// <summary>Variables: <c>ngx.var</c>.</summary>
static class VariablesApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("var", Variable), ("set_var", SetVariable), ("register_var", RegisterVariable),
    ];

    static int Variable(LuaLane lane, LuaStack stack)
    {
        var name = stack.Text(1);
        if (name == "request_body")
        {
            return RequestApi.Body(lane, stack);
        }
        if (name == "request_body_file")
        {
            return RequestApi.BodyFile(lane, stack);
        }
        var value = LuaHost.Exchange(lane).Get(name);
        if (ByteText.IsWire(name))
        {
            stack.Push(value);
        }
        else
        {
            stack.PushUtf8(value);
        }
        return 1;
    }

    static int SetVariable(LuaLane lane, LuaStack stack)
    {
        LuaHost.Exchange(lane).Set(stack.Text(1), stack.IsNil(2) ? null : stack.Utf8(2));
        return 0;
    }

    /// <summary>name, plugin.</summary>
    static int RegisterVariable(LuaLane lane, LuaStack stack)
    {
        lane.Engine.Register(stack.Utf8(1), stack.Utf8(2));
        return 0;
    }
}

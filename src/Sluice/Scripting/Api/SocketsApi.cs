namespace Sluice.Scripting.Api;

/// <summary>Cosockets, in what they need not wait for.</summary>
static class SocketsApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("sock_new", NewSocket), ("sock_body", BodySocket), ("sock_try", TryReceive), ("sock_close", CloseSocket),
        ("sock_timeouts", SetTimeouts), ("sock_keep", KeepSocket), ("sock_reused", ReusedTimes), ("sock_option", SocketOption),
        ("sock_open", SocketIsOpen), ("sock_ended", SocketHasEnded),
    ];

    static int NewSocket(LuaLane lane, LuaStack stack)
    {
        var number = lane.Running!.Sockets.Open();
        lane.Running.Sockets.At(number).Datagram = stack.Flag(1);
        stack.Push(number);
        return 1;
    }

    /// <summary>The request's body, or its whole connection: its number; or nil and why there is none.</summary>
    static int BodySocket(LuaLane lane, LuaStack stack)
    {
        _ = LuaHost.Exchange(lane);
        var (number, error) = stack.Flag(1) ? lane.Running!.Sockets.OpenConnection() : lane.Running!.Sockets.OpenBody();
        return LuaHost.NumberOr(stack, number, error);
    }

    /// <summary>number, mode, size: what is there already, or nothing.</summary>
    static int TryReceive(LuaLane lane, LuaStack stack) =>
        lane.Running!.Sockets.At(stack.Integer(1)).TryReceive(stack, (ReceiveMode)stack.Integer(2), stack.Integer(3)) ? 1 : 0;

    static int CloseSocket(LuaLane lane, LuaStack stack)
    {
        lane.Running!.Sockets.At(stack.Integer(1)).End();
        return 0;
    }

    static int SocketIsOpen(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Sockets.At(stack.Integer(1)).IsOpen);
        return 1;
    }

    static int SocketHasEnded(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Sockets.At(stack.Integer(1)).HasEnded);
        return 1;
    }

    /// <summary>number, then connect, send and read time-outs in milliseconds.</summary>
    static int SetTimeouts(LuaLane lane, LuaStack stack)
    {
        var socket = lane.Running!.Sockets.At(stack.Integer(1));
        socket.ConnectTimeout = Milliseconds(stack, 2) ?? socket.ConnectTimeout;
        socket.SendTimeout = Milliseconds(stack, 3) ?? socket.SendTimeout;
        socket.ReadTimeout = Milliseconds(stack, 4) ?? socket.ReadTimeout;
        return 0;
    }

    static TimeSpan? Milliseconds(LuaStack stack, int index) =>
        stack.IsNil(index) ? null : TimeSpan.FromMilliseconds(Math.Clamp(stack.Number(index), 0, 1e9));

    static int KeepSocket(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Sockets.At(stack.Integer(1)).Keep(Milliseconds(stack, 2) ?? TimeSpan.Zero,
            KeptConnections.SizeOr(stack.OptionalInteger(3))));
        return 1;
    }

    /// <summary>number, option, value (nil: it is only asked for): the value it has; or nil and why not.</summary>
    static int SocketOption(LuaLane lane, LuaStack stack)
    {
        var (value, error) = lane.Running!.Sockets.At(stack.Integer(1)).Option(stack.Text(2), stack.OptionalInteger(3));
        return LuaHost.NumberOr(stack, value, error);
    }

    static int ReusedTimes(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Sockets.At(stack.Integer(1)).ReusedTimes);
        return 1;
    }
}

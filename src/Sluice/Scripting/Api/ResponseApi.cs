using System.Text;
using Microsoft.AspNetCore.Http;
using Sluice.Observability;

namespace Sluice.Scripting.Api;

/// <summary>The response: its head, and what is printed.</summary>
static class ResponseApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("print", Print), ("status", Status), ("set_status", SetStatus), ("headers_sent", HeadersSent), ("resp_get", ResponseHeader),
        ("resp_set", SetResponseHeader), ("resp_headers", ResponseHeaders),
    ];

    static IHeaderDictionary Response(LuaLane lane) => LuaHost.Exchange(lane).Http.Response.Headers;

    /// <summary>Prints its arguments; the number of bytes that wait to be sent.</summary>
    static int Print(LuaLane lane, LuaStack stack)
    {
        var context = lane.Running!;
        _ = LuaHost.Exchange(lane);
        context.Printed = true;
        for (var i = 1; i <= stack.Top; i++)
        {
            var bytes = stack.Bytes(i);
            bytes.CopyTo(context.Output.GetSpan(bytes.Length));
            context.Output.Advance(bytes.Length);
        }
        stack.Push(context.Output.WrittenCount);
        return 1;
    }

    static int Status(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaHost.Exchange(lane).Http.Response.StatusCode);
        return 1;
    }

    static int SetStatus(LuaLane lane, LuaStack stack)
    {
        var http = LuaHost.Exchange(lane).Http;
        if (IsTooLate(lane))
        {
            return TooLate(lane, "ngx.status");
        }
        var status = stack.Integer(1);
        http.Response.StatusCode = status is StatusCodes.Status101SwitchingProtocols or (>= 200 and <= 999)
            ? status
            : throw new LuaException($"bad status: {status}");
        return 0;
    }

    /// <summary>What was printed is taken for sent, as in nginx; while its head goes through the filters it can still be changed.</summary>
    static bool IsTooLate(LuaLane lane) =>
        LuaHost.Exchange(lane).Http.Response.HasStarted
            || lane.Running is { HasConnection: true } or { Printed: true, Phase: <= LuaPhase.BeforeProxy };

    /// <summary>As with nginx, a line of the error log and no error.</summary>
    static int TooLate(LuaLane lane, string what)
    {
        SevereText.Log(lane.Engine.Log, LogSeverity.Error,
            $"[lua] attempt to set {what} after sending out response headers{lane.Running?.Place}");
        return 0;
    }

    static int HeadersSent(LuaLane lane, LuaStack stack)
    {
        stack.Push(IsTooLate(lane) || (LuaHost.Exchange(lane).Answered && lane.Running!.Phase != LuaPhase.HeaderFilter));
        return 1;
    }

    static int ResponseHeader(LuaLane lane, LuaStack stack)
    {
        var values = Response(lane)[stack.Text(1)];
        if (values.Count == 0)
        {
            return 0;
        }
        HeaderTables.PushValues(stack, values);
        return 1;
    }

    /// <summary>name, value (nil: away), add.</summary>
    static int SetResponseHeader(LuaLane lane, LuaStack stack)
    {
        if (IsTooLate(lane))
        {
            return TooLate(lane, "ngx.header.HEADER");
        }
        // how an answer is framed is the connection's affair
        if (!stack.Text(1).Equals("Transfer-Encoding", StringComparison.OrdinalIgnoreCase))
        {
            HeaderTables.Set(Response(lane), stack);
        }
        return 0;
    }

    static int ResponseHeaders(LuaLane lane, LuaStack stack)
    {
        stack.Push(HeaderTables.Push(stack, Response(lane), stack.OptionalInteger(1) ?? 100, stack.Flag(2)));
        return 2;
    }
}

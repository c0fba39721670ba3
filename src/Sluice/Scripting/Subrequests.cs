using System.Text;
using Microsoft.AspNetCore.Http;
using Sluice.Net.Http;

namespace Sluice.Scripting;

/// <summary>Requests of scripts to the gateway itself: <c>ngx.location.capture</c>.</summary>
static class Subrequests
{
    /// <summary>
    /// Method, target, body, sharing, variables and ctx of each request, all at once; status, headers and body of each answer. Nil: one was
    /// not made.
    /// </summary>
    public static async ValueTask<object?[]> CaptureAsync(LuaContext context, object?[] arguments)
    {
        var answers = await Task.WhenAll(arguments.Chunk(6).Select(request => CaptureOneAsync(context, context.Exchange!, request)));
        return answers.Contains(null) ? [null] : [.. answers.SelectMany(static answer => answer!)];
    }

    /// <returns>Null: it was not made.</returns>
    static async Task<object?[]?> CaptureOneAsync(LuaContext context, IScriptExchange exchange, object?[] request)
    {
        var headers = new HeaderDictionary();
        foreach (var (name, values) in exchange.Http.Request.Headers)
        {
            if (!HopByHop.IsFraming(name))
            {
                headers[name] = values;
            }
        }
        var body = (byte[]?)request[2] ?? [];
        if (body.Length > 0)
        {
            headers.ContentLength = body.Length;
        }
        var method = Encoding.Latin1.GetString((byte[])request[0]!);
        var target = Encoding.Latin1.GetString((byte[])request[1]!);
        if (!exchange.MayCapture)
        {
            LuaContext.LogCycle(context.Engine.Log, target.Split('?')[0], context.Place);
            return null;
        }
        var options = new SubrequestOptions((VariableSharing)(int)(double)request[3]!, Pairs(request[4] as byte[] ?? []))
        {
            Open = request[5] is double ctx ? inner => Lend(context.Lane, inner, (int)ctx) : null,
        };
        return await exchange.CaptureAsync(method, target, headers, body, options) is { } answer
            ? [answer.Status, answer.Headers, answer.Body]
            : [500, new HeaderDictionary(), Array.Empty<byte>()];
    }

    /// <summary>Where a subrequest runs that has a table of this state's as its <c>ngx.ctx</c>.</summary>
    static LuaContext Lend(LuaLane lane, IScriptExchange exchange, int ctx)
    {
        if (!lane.TryUse())
        {
            return LuaContext.For(lane.Engine, exchange);
        }
        var context = new LuaContext(exchange, lane);
        using (lane.Enter())
        {
            lane.Call("adopt", context, (stack, _) =>
            {
                stack.Push(ctx);
                return 1;
            }, static _ => null);
        }
        return context;
    }

    static (string Name, string Value)[] Pairs(byte[] text) =>
        [.. Encoding.UTF8.GetString(text).Split('\0').SkipLast(1).Chunk(2).Select(static pair => (pair[0], pair[1]))];
}

using System.Text;

namespace Sluice.Scripting.Api;

/// <summary>The request: its line, its headers, its body.</summary>
static class RequestApi
{
    public static readonly (string Name, LuaHost.HostFunction Function)[] Functions =
    [
        ("req_headers", RequestHeaders), ("req_get", RequestHeader), ("req_set", SetRequestHeader), ("method", Method),
        ("set_method", SetMethod), ("set_uri", SetUri), ("set_args", SetArguments), ("args", Arguments), ("raw_header", RawHeader),
        ("http_version", HttpVersion), ("start_time", StartTime), ("body", Body), ("body_file", BodyFile), ("set_body", SetBody),
        ("body_known", BodyIsKnown), ("has_request", HasRequest), ("matched_route", MatchedRoute),
    ];

    static int HasRequest(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running?.Exchange is not null);
        return 1;
    }

    static int MatchedRoute(LuaLane lane, LuaStack stack)
    {
        if (lane.Running?.Exchange?.MatchedRoute is not { } route)
        {
            return 0;
        }
        stack.Push(route, lane.ArrayMetatable);
        return 1;
    }

    static int RequestHeaders(LuaLane lane, LuaStack stack)
    {
        stack.Push(HeaderTables.Push(stack, LuaHost.Exchange(lane).Http.Request.Headers, stack.OptionalInteger(1) ?? 100, stack.Flag(2)));
        return 2;
    }

    static int RequestHeader(LuaLane lane, LuaStack stack)
    {
        var values = LuaHost.Exchange(lane).Http.Request.Headers[stack.Text(1)];
        if (values.Count == 0)
        {
            return 0;
        }
        stack.Push(values[0]);
        return 1;
    }

    static int SetRequestHeader(LuaLane lane, LuaStack stack)
    {
        var exchange = LuaHost.Exchange(lane);
        HeaderTables.Set(exchange.Http.Request.Headers, stack);
        exchange.HeaderChanged(stack.Text(1));
        return 0;
    }

    static int Method(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaHost.Exchange(lane).Method);
        return 1;
    }

    static int SetMethod(LuaLane lane, LuaStack stack)
    {
        LuaHost.Exchange(lane).Method = stack.Text(1);
        return 0;
    }

    static int SetUri(LuaLane lane, LuaStack stack)
    {
        var uri = stack.Utf8(1);
        LuaHost.Exchange(lane).Uri = uri.StartsWith('/') ? uri
            : throw new LuaException(uri.Length == 0 ? "attempt to use zero-length uri" : "attempt to use a uri without a slash");
        return 0;
    }

    static int SetArguments(LuaLane lane, LuaStack stack)
    {
        LuaHost.Exchange(lane).Args = HeaderTables.Escaped(stack.Text(1)).Replace(" ", "%20", StringComparison.Ordinal);
        return 0;
    }

    static int Arguments(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaHost.Exchange(lane).Args);
        return 1;
    }

    static int RawHeader(LuaLane lane, LuaStack stack)
    {
        var exchange = LuaHost.Exchange(lane);
        var request = exchange.Http.Request;
        var text = new StringBuilder();
        if (!stack.Flag(1))
        {
            text.Append(request.Method).Append(' ').Append(exchange.RawTarget).Append(' ').Append(request.Protocol).Append("\r\n");
        }
        foreach (var (name, values) in request.Headers)
        {
            if (exchange.IsAdded(name))
            {
                continue;
            }
            foreach (var value in values)
            {
                text.Append(name).Append(": ").Append(value).Append("\r\n");
            }
        }
        stack.Push(text.Append("\r\n").ToString());
        return 1;
    }

    static int HttpVersion(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaHost.Exchange(lane).Http.Request.Protocol switch
        {
            "HTTP/1.0" => 1.0,
            "HTTP/2" => 2.0,
            "HTTP/3" => 3.0,
            _ => 1.1,
        });
        return 1;
    }

    static int StartTime(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaHost.Exchange(lane).StartTime);
        return 1;
    }

    /// <summary>The body that was read: nil before <c>read_body</c>, when there is none, and when it is in a file.</summary>
    internal static int Body(LuaLane lane, LuaStack stack)
    {
        _ = LuaHost.Exchange(lane);
        if (lane.Running!.Body is not { Bytes.IsEmpty: false } body)
        {
            return 0;
        }
        stack.Push(body.Bytes.Span);
        return 1;
    }

    internal static int BodyFile(LuaLane lane, LuaStack stack)
    {
        _ = LuaHost.Exchange(lane);
        if (lane.Running!.Body?.File is not { } file)
        {
            return 0;
        }
        stack.PushUtf8(file);
        return 1;
    }

    /// <summary>It was read, or set, or there is none.</summary>
    static int BodyIsKnown(LuaLane lane, LuaStack stack)
    {
        _ = LuaHost.Exchange(lane);
        stack.Push(lane.Running!.Body is not null);
        return 1;
    }

    static int SetBody(LuaLane lane, LuaStack stack)
    {
        var body = stack.ByteArray(1);
        lane.Running!.Body = new(body);
        LuaHost.Exchange(lane).ReplaceBody(body);
        return 0;
    }
}

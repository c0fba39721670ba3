using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Model.Json;
using Sluice.Observability;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting;

/// <summary>
/// What Lua can ask of the host: small functions, from which boot.lua makes <c>ngx</c>. Each takes its arguments from the stack and returns how many
/// results it pushed; what it throws becomes a Lua error.
/// </summary>
static partial class LuaHost
{
    public delegate int HostFunction(LuaLane lane, LuaStack stack);

    /// <summary>First result: the second is an error to raise.</summary>
    public const nint Fail = 1;

    /// <summary>First value of a yield: a wait for the host, not the script's own.</summary>
    public const nint Wait = 2;

    public static readonly (string Name, HostFunction Function)[] Functions =
    [
        ("log", Write), ("source", Source), ("module", Module), ("local_conf", LocalConfiguration),
        ("print", Print), ("status", Status), ("set_status", SetStatus), ("headers_sent", HeadersSent),
        ("resp_get", ResponseHeader), ("resp_set", SetResponseHeader), ("resp_headers", ResponseHeaders),
        ("req_headers", RequestHeaders), ("req_get", RequestHeader), ("req_set", SetRequestHeader), ("method", Method), ("set_method", SetMethod),
        ("set_uri", SetUri), ("set_args", SetArguments), ("args", Arguments), ("raw_header", RawHeader), ("http_version", HttpVersion),
        ("start_time", StartTime), ("body", Body), ("body_file", BodyFile), ("set_body", SetBody), ("body_known", BodyIsKnown), ("has_request", HasRequest), ("is_subrequest", IsSubrequest),
        ("var", Variable), ("set_var", SetVariable),
        ("now", Now), ("escape_uri", EscapeUri), ("unescape_uri", UnescapeUri), ("base64", Base64), ("unbase64", Unbase64),
        ("digest", Digest), ("hmac", Hmac), ("crc32", Crc32), ("random", RandomBytes), ("time_text", TimeText), ("http_time", HttpTime), ("parse_http_time", ParseHttpTime),
        ("json_encode", JsonEncode), ("json_decode", JsonDecode), ("check_schema", CheckSchema),
        ("regex", RegexMatch), ("regex_check", RegexCheck),
        ("sock_new", NewSocket), ("sock_body", BodySocket), ("sock_try", TryReceive), ("sock_close", CloseSocket), ("sock_timeouts", SetTimeouts), ("sock_keep", KeepSocket),
        ("sock_reused", ReusedTimes), ("sock_option", SocketOption), ("sock_open", SocketIsOpen), ("sock_ended", SocketHasEnded),
        ("dict", DictionaryExists), ("dict_get", DictionaryGet), ("dict_store", DictionaryStore), ("dict_incr", DictionaryIncrement), ("dict_op", DictionaryOperation),
        ("timer", StartTimer), ("timers_pending", PendingTimers), ("timers_running", RunningTimers), ("semaphore", NewSemaphore), ("sem_post", PostSemaphore), ("sem_count", CountSemaphore), ("sem_free", FreeSemaphore), ("thread_kill", KillThread),
        ("ip_valid", AddressIsValid), ("ip_in", AddressIsIn),
        ("consumers_version", ConsumersVersion), ("consumers", Consumers), ("consumer_find", FindConsumer), ("consumer_named", NamedConsumer), ("consumer_attached", AttachedConsumer),
        ("consumer_attach", AttachConsumer),
        ("sandbox", Sandbox), ("jit", Jit), ("lane", LaneNumber), ("lanes", LaneCount), ("id", NewId), ("instance_id", InstanceId), ("register_var", RegisterVariable),
        ("pid", ProcessId), ("is_stopped", IsStopped), ("exiting", IsExiting), ("find_time", FindTime),
    ];

    static IScriptExchange Exchange(LuaLane lane) =>
        lane.Running?.Exchange ?? throw new LuaException("API disabled in the current context");

    static IHeaderDictionary Response(LuaLane lane) => Exchange(lane).Http.Response.Headers;

    // -- Logs and modules

    /// <summary>Characters of one line that a script logs; the rest is left out.</summary>
    const int LongestText = 64 * 1024;

    /// <summary>level (nginx's number), place, text.</summary>
    static int Write(LuaLane lane, LuaStack stack)
    {
        var severity = (LogSeverity)Math.Clamp(stack.Integer(1), 0, (int)LogSeverity.Debug);
        if (lane.Engine.Log.IsEnabled(SevereText.LevelOf(severity)))
        {
            var text = stack.Utf8(3);
            SevereText.Log(lane.Engine.Log, severity, $"[lua] {stack.Utf8(2)} {(text.Length > LongestText ? text[..LongestText] + "…" : text)}{lane.Running?.Place}");
        }
        return 0;
    }

    static int LocalConfiguration(LuaLane lane, LuaStack stack)
    {
        stack.Push(CjsonReader.Parse(Encoding.UTF8.GetBytes(lane.Options.LocalConfiguration)), lane.ArrayMetatable);
        return 1;
    }

    /// <summary>A Lua file that comes with Sluice: its text, or nil.</summary>
    static int Source(LuaLane lane, LuaStack stack)
    {
        if (LuaLane.Shipped(stack.Text(1)) is { } text)
        {
            stack.Push(text.AsSpan());
            return 1;
        }
        return 0;
    }

    /// <summary>A module on the search path: its text and its file; or nil and the files that were tried.</summary>
    static int Module(LuaLane lane, LuaStack stack)
    {
        var name = stack.Utf8(1).Replace('.', '/');
        if (name.Contains("//", StringComparison.Ordinal) || name.StartsWith('/') || name.Contains('\0', StringComparison.Ordinal))
        {
            throw new LuaException($"bad module name '{name}'");
        }
        var tried = new StringBuilder();
        foreach (var file in FilesOf(lane.Options, stack.Utf8(1)))
        {
            if (File.Exists(file))
            {
                stack.Push(File.ReadAllBytes(file).AsSpan());
                stack.PushUtf8(file);
                return 2;
            }
            tried.Append("\n\tno file '").Append(file).Append('\'');
        }
        stack.PushNil();
        stack.PushUtf8(tried.ToString());
        return 2;
    }

    /// <summary>Where a module may be.</summary>
    public static IEnumerable<string> FilesOf(LuaOptions options, string module)
    {
        var name = module.Replace('.', '/');
        List<string> templates = [Path.Combine(options.Prefix, "lua", "?.lua"), Path.Combine(options.Prefix, "lua", "?", "init.lua")];
        templates.AddRange(options.ExtraPath.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(template => Path.Combine(options.Prefix, template.Contains('?', StringComparison.Ordinal) ? template : Path.Combine(template, "?.lua"))));
        return templates.Select(template => template.Replace("?", name, StringComparison.Ordinal));
    }

    // -- The answer

    /// <summary>Prints its arguments; the number of bytes that wait to be sent.</summary>
    static int Print(LuaLane lane, LuaStack stack)
    {
        var context = lane.Running!;
        _ = Exchange(lane);
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
        stack.Push(Exchange(lane).Http.Response.StatusCode);
        return 1;
    }

    static int SetStatus(LuaLane lane, LuaStack stack)
    {
        var http = Exchange(lane).Http;
        if (IsTooLate(lane))
        {
            return TooLate(lane, "ngx.status");
        }
        var status = stack.Integer(1);
        http.Response.StatusCode = status is StatusCodes.Status101SwitchingProtocols or (>= 200 and <= 999) ? status : throw new LuaException($"bad status: {status}");
        return 0;
    }

    /// <summary>What was printed is taken for sent, as in nginx; while its head goes through the filters it can still be changed.</summary>
    static bool IsTooLate(LuaLane lane) =>
        Exchange(lane).Http.Response.HasStarted || lane.Running is { HasConnection: true } or { Printed: true, Phase: <= LuaPhase.BeforeProxy };

    /// <summary>As with nginx, a line of the error log and no error.</summary>
    static int TooLate(LuaLane lane, string what)
    {
        SevereText.Log(lane.Engine.Log, LogSeverity.Error, $"[lua] attempt to set {what} after sending out response headers{lane.Running?.Place}");
        return 0;
    }

    static int HeadersSent(LuaLane lane, LuaStack stack)
    {
        stack.Push(IsTooLate(lane) || (Exchange(lane).Answered && lane.Running!.Phase != LuaPhase.HeaderFilter));
        return 1;
    }

    static int ResponseHeader(LuaLane lane, LuaStack stack)
    {
        var values = Response(lane)[stack.Text(1)];
        if (values.Count == 0)
        {
            return 0;
        }
        LuaContext.PushValues(stack, values);
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
            SetHeader(Response(lane), stack);
        }
        return 0;
    }

    static void SetHeader(IHeaderDictionary headers, LuaStack stack)
    {
        var name = Header(stack.Text(1));
        if (name.Length == 0)
        {
            return;
        }
        var values = Values(stack, 2);
        if (stack.Flag(3))
        {
            headers[name] = StringValues.Concat(headers[name], values);
        }
        else if (values.Count == 0)
        {
            headers.Remove(name);
        }
        else
        {
            headers[name] = values;
        }
    }

    /// <summary>As nginx does, what cannot be in a name is escaped.</summary>
    static string Header(string name) => name.All(IsToken) ? name : string.Concat(name.Select(c => IsToken(c) ? c.ToString() : $"%{(int)c:X2}"));

    static bool IsToken(char c) => char.IsAsciiLetterOrDigit(c) || "!#$%&'*+-.^_`|~".Contains(c, StringComparison.Ordinal);

    static StringValues Values(LuaStack stack, int index)
    {
        switch (stack.TypeAt(index))
        {
            case LuaType.Nil or LuaType.None:
                return StringValues.Empty;
            case LuaType.Table:
                var values = new string[(int)lua_objlen(stack.State, index)];
                for (var i = 0; i < values.Length; i++)
                {
                    lua_rawgeti(stack.State, index, i + 1);
                    values[i] = Escaped(stack.Text(-1));
                    lua_settop(stack.State, -2);
                }
                return values;
            default:
                return Escaped(stack.Text(index));
        }
    }

    /// <summary>No value breaks out of its line.</summary>
    static string Escaped(string value)
    {
        if (!value.Any(char.IsControl))
        {
            return value;
        }
        var escaped = new StringBuilder();
        foreach (var c in value)
        {
            _ = c is < ' ' and not '\t' or '\x7f' ? escaped.Append('%').Append(((int)c).ToString("X2", System.Globalization.CultureInfo.InvariantCulture)) : escaped.Append(c);
        }
        return escaped.ToString();
    }

    static int ResponseHeaders(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaContext.PushHeaders(stack, Response(lane), stack.OptionalInteger(1) ?? 100, stack.Flag(2)));
        return 2;
    }

    // -- The request

    static int HasRequest(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running?.Exchange is not null);
        return 1;
    }

    static int IsSubrequest(LuaLane lane, LuaStack stack)
    {
        stack.Push(Exchange(lane).IsSubrequest);
        return 1;
    }

    static int RequestHeaders(LuaLane lane, LuaStack stack)
    {
        stack.Push(LuaContext.PushHeaders(stack, Exchange(lane).Http.Request.Headers, stack.OptionalInteger(1) ?? 100, stack.Flag(2)));
        return 2;
    }

    static int RequestHeader(LuaLane lane, LuaStack stack)
    {
        var values = Exchange(lane).Http.Request.Headers[stack.Text(1)];
        if (values.Count == 0)
        {
            return 0;
        }
        stack.Push(values[0]);
        return 1;
    }

    static int SetRequestHeader(LuaLane lane, LuaStack stack)
    {
        var exchange = Exchange(lane);
        SetHeader(exchange.Http.Request.Headers, stack);
        exchange.HeaderChanged(stack.Text(1));
        return 0;
    }

    static int Method(LuaLane lane, LuaStack stack)
    {
        stack.Push(Exchange(lane).Method);
        return 1;
    }

    static int SetMethod(LuaLane lane, LuaStack stack)
    {
        Exchange(lane).Method = stack.Text(1);
        return 0;
    }

    static int SetUri(LuaLane lane, LuaStack stack)
    {
        var uri = stack.Utf8(1);
        Exchange(lane).Uri = uri.StartsWith('/') ? uri
            : throw new LuaException(uri.Length == 0 ? "attempt to use zero-length uri" : "attempt to use a uri without a slash");
        return 0;
    }

    static int SetArguments(LuaLane lane, LuaStack stack)
    {
        Exchange(lane).Args = Escaped(stack.Text(1)).Replace(" ", "%20", StringComparison.Ordinal);
        return 0;
    }

    static int Arguments(LuaLane lane, LuaStack stack)
    {
        stack.Push(Exchange(lane).Args);
        return 1;
    }

    static int RawHeader(LuaLane lane, LuaStack stack)
    {
        var exchange = Exchange(lane);
        var request = exchange.Http.Request;
        var text = new StringBuilder();
        if (!stack.Flag(1))
        {
            text.Append(request.Method).Append(' ').Append(exchange.RawTarget).Append(' ').Append(request.Protocol).Append("\r\n");
        }
        foreach (var (name, values) in request.Headers)
        {
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
        stack.Push(Exchange(lane).Http.Request.Protocol switch
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
        stack.Push(Exchange(lane).StartTime);
        return 1;
    }

    /// <summary>The body that was read: nil before <c>read_body</c>, when there is none, and when it is in a file.</summary>
    static int Body(LuaLane lane, LuaStack stack)
    {
        _ = Exchange(lane);
        if (lane.Running!.Body is not { Bytes.IsEmpty: false } body)
        {
            return 0;
        }
        stack.Push(body.Bytes.Span);
        return 1;
    }

    static int BodyFile(LuaLane lane, LuaStack stack)
    {
        _ = Exchange(lane);
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
        _ = Exchange(lane);
        stack.Push(lane.Running!.Body is not null);
        return 1;
    }

    static int SetBody(LuaLane lane, LuaStack stack)
    {
        var body = stack.ByteArray(1);
        lane.Running!.Body = new(body);
        Exchange(lane).ReplaceBody(body);
        return 0;
    }

    static int Variable(LuaLane lane, LuaStack stack)
    {
        var name = stack.Text(1);
        if (name == "request_body")
        {
            return Body(lane, stack);
        }
        if (name == "request_body_file")
        {
            return BodyFile(lane, stack);
        }
        var value = Exchange(lane).Get(name);
        if (IsWire(name))
        {
            stack.Push(value);
        }
        else
        {
            stack.PushUtf8(value);
        }
        return 1;
    }

    /// <summary>Variables that come from the wire are Latin-1 already.</summary>
    static bool IsWire(string name) => name.StartsWith("http_", StringComparison.Ordinal) || name.StartsWith("arg", StringComparison.Ordinal)
        || name.StartsWith("cookie_", StringComparison.Ordinal) || name.StartsWith("sent_", StringComparison.Ordinal) || name is "query_string" or "real_request_uri" or "request";

    static int SetVariable(LuaLane lane, LuaStack stack)
    {
        Exchange(lane).Set(stack.Text(1), stack.IsNil(2) ? null : stack.Utf8(2));
        return 0;
    }

    // -- Time and texts

    static int Now(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Engine.Time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0);
        return 1;
    }

    static int TimeText(LuaLane lane, LuaStack stack)
    {
        var now = stack.Flag(1) ? lane.Engine.Time.GetUtcNow() : lane.Engine.Time.GetLocalNow();
        stack.Push(now.ToString(stack.Flag(2) ? "yyyy-MM-dd" : "yyyy-MM-dd HH:mm:ss", System.Globalization.CultureInfo.InvariantCulture));
        return 1;
    }

    static int HttpTime(LuaLane lane, LuaStack stack)
    {
        stack.Push(DateTimeOffset.FromUnixTimeSeconds((long)Math.Clamp(stack.Number(1), 0, 253402300799)).ToString("R", System.Globalization.CultureInfo.InvariantCulture));
        return 1;
    }

    /// <summary>In RFC 1123's, RFC 850's or asctime's format; as in nginx the day of the week counts for nothing.</summary>
    static int ParseHttpTime(LuaLane lane, LuaStack stack)
    {
        var match = HttpTimes().Match(stack.Text(1));
        if (!match.Success)
        {
            return 0;
        }
        string Part(string name) => match.Groups[name].Value;
        var year = Part("year");
        year = year.Length > 2 ? year : string.CompareOrdinal(year, "70") < 0 ? "20" + year : "19" + year;
        if (DateTimeOffset.TryParseExact($"{year} {Part("month")} {Part("day").PadLeft(2, '0')} {Part("time")}", "yyyy MMM dd HH:mm:ss",
            System.Globalization.CultureInfo.InvariantCulture, System.Globalization.DateTimeStyles.AssumeUniversal, out var time))
        {
            stack.Push(time.ToUnixTimeSeconds());
            return 1;
        }
        return 0;
    }

    [GeneratedRegex(@"^\w+(?:, ?(?<day>\d\d)[ -](?<month>\w{3})[ -](?<year>\d{4}|\d\d) (?<time>\d\d:\d\d:\d\d)| (?<month>\w{3}) +(?<day>\d{1,2}) (?<time>\d\d:\d\d:\d\d) (?<year>\d{4}))")]
    private static partial Regex HttpTimes();

    static int FindTime(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Engine.Time.GetTimestamp() / (double)lane.Engine.Time.TimestampFrequency);
        return 1;
    }

    /// <summary>Which printable characters each of nginx's ways escapes: as a URI, in arguments, as a component (the default), and four for other uses.</summary>
    static readonly string[] EscapedPrintables = ["#%?", "#%+?", "\"#$%&+,/:;<=>?@[\\]^`{|}", "\"#%'", "\"'", "%", "%"];

    static int EscapeUri(LuaLane lane, LuaStack stack)
    {
        var kind = stack.OptionalInteger(2) ?? 2;
        var special = EscapedPrintables[kind];
        var escaped = new StringBuilder();
        foreach (var b in stack.Bytes(1))
        {
            var c = (char)b;
            _ = c <= ' ' || (c >= '\x7f' && kind < 5) || special.Contains(c, StringComparison.Ordinal)
                ? escaped.Append('%').Append(b.ToString("X2", System.Globalization.CultureInfo.InvariantCulture))
                : escaped.Append(c);
        }
        stack.Push(escaped.ToString());
        return 1;
    }

    static int UnescapeUri(LuaLane lane, LuaStack stack)
    {
        var bytes = stack.Bytes(1);
        var result = new byte[bytes.Length];
        var length = 0;
        for (var i = 0; i < bytes.Length; i++)
        {
            if (bytes[i] == '%' && i + 2 < bytes.Length && char.IsAsciiHexDigit((char)bytes[i + 1]) && char.IsAsciiHexDigit((char)bytes[i + 2]))
            {
                result[length++] = (byte)((Hex(bytes[i + 1]) << 4) | Hex(bytes[i + 2]));
                i += 2;
            }
            else
            {
                result[length++] = bytes[i] == '+' ? (byte)' ' : bytes[i];
            }
        }
        stack.Push(result.AsSpan(0, length));
        return 1;
    }

    static int Hex(byte digit) => digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10;

    static int Base64(LuaLane lane, LuaStack stack)
    {
        var text = Convert.ToBase64String(stack.Bytes(1));
        stack.Push(stack.Flag(2) ? text.TrimEnd('=') : text);
        return 1;
    }

    static int Unbase64(LuaLane lane, LuaStack stack)
    {
        var text = stack.Text(1).Split('=', 2)[0];
        var padded = text.PadRight((text.Length + 3) / 4 * 4, '=');
        var bytes = new byte[padded.Length];
        if (!Convert.TryFromBase64String(padded, bytes, out var length))
        {
            return 0;
        }
        stack.Push(bytes.AsSpan(0, length));
        return 1;
    }

    /// <summary>algorithm, text.</summary>
    static int Digest(LuaLane lane, LuaStack stack)
    {
        var text = stack.Bytes(2);
        stack.Push(stack.Text(1) switch
        {
#pragma warning disable CA5350, CA5351 // scripts ask for these by name
            "md5" => MD5.HashData(text),
            "sha1" => SHA1.HashData(text),
#pragma warning restore CA5350, CA5351
            "sha256" => SHA256.HashData(text),
            "sha384" => SHA384.HashData(text),
            "sha512" => SHA512.HashData(text),
            var other => throw new LuaException($"no such digest: {other}"),
        });
        return 1;
    }

    /// <summary>algorithm, key, text.</summary>
    static int Hmac(LuaLane lane, LuaStack stack)
    {
        var key = stack.Bytes(2);
        var text = stack.Bytes(3);
        stack.Push(stack.Text(1) switch
        {
#pragma warning disable CA5350, CA5351 // scripts ask for these by name
            "md5" => HMACMD5.HashData(key, text),
            "sha1" => HMACSHA1.HashData(key, text),
#pragma warning restore CA5350, CA5351
            "sha256" => HMACSHA256.HashData(key, text),
            "sha512" => HMACSHA512.HashData(key, text),
            var other => throw new LuaException($"no such digest: {other}"),
        });
        return 1;
    }

    static int Crc32(LuaLane lane, LuaStack stack)
    {
        var crc = uint.MaxValue;
        foreach (var b in stack.Bytes(1))
        {
            crc ^= b;
            for (var i = 0; i < 8; i++)
            {
                crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320);
            }
        }
        stack.Push(~crc);
        return 1;
    }

    static int RandomBytes(LuaLane lane, LuaStack stack)
    {
        stack.Push(RandomNumberGenerator.GetBytes(Math.Clamp(stack.Integer(1), 0, 65536)));
        return 1;
    }

    // -- Sockets

    static int NewSocket(LuaLane lane, LuaStack stack)
    {
        var number = lane.Running!.OpenSocket();
        lane.Running.Socket(number).Datagram = stack.Flag(1);
        stack.Push(number);
        return 1;
    }

    /// <summary>The request's body, or its whole connection: its number; or nil and why there is none.</summary>
    static int BodySocket(LuaLane lane, LuaStack stack)
    {
        _ = Exchange(lane);
        var (number, error) = stack.Flag(1) ? lane.Running!.OpenConnection() : lane.Running!.OpenBody();
        return NumberOr(stack, number, error);
    }

    /// <summary>number, mode, size: what is there already, or nothing.</summary>
    static int TryReceive(LuaLane lane, LuaStack stack) =>
        lane.Running!.Socket(stack.Integer(1)).TryReceive(stack, (ReceiveMode)stack.Integer(2), stack.Integer(3)) ? 1 : 0;

    static int CloseSocket(LuaLane lane, LuaStack stack)
    {
        lane.Running!.Socket(stack.Integer(1)).End();
        return 0;
    }

    static int SocketIsOpen(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Socket(stack.Integer(1)).IsOpen);
        return 1;
    }

    static int SocketHasEnded(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Socket(stack.Integer(1)).HasEnded);
        return 1;
    }

    /// <summary>number, then connect, send and read time-outs in milliseconds.</summary>
    static int SetTimeouts(LuaLane lane, LuaStack stack)
    {
        var socket = lane.Running!.Socket(stack.Integer(1));
        socket.ConnectTimeout = Milliseconds(stack, 2) ?? socket.ConnectTimeout;
        socket.SendTimeout = Milliseconds(stack, 3) ?? socket.SendTimeout;
        socket.ReadTimeout = Milliseconds(stack, 4) ?? socket.ReadTimeout;
        return 0;
    }

    static TimeSpan? Milliseconds(LuaStack stack, int index) => stack.IsNil(index) ? null : TimeSpan.FromMilliseconds(Math.Clamp(stack.Number(index), 0, 1e9));

    static int KeepSocket(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Socket(stack.Integer(1)).Keep(Milliseconds(stack, 2) ?? TimeSpan.Zero, KeptConnections.SizeOr(stack.OptionalInteger(3))));
        return 1;
    }

    /// <summary>number, option, value (nil: it is only asked for): the value it has; or nil and why not.</summary>
    static int SocketOption(LuaLane lane, LuaStack stack)
    {
        var (value, error) = lane.Running!.Socket(stack.Integer(1)).Option(stack.Text(2), stack.OptionalInteger(3));
        return NumberOr(stack, value, error);
    }

    static int ReusedTimes(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Socket(stack.Integer(1)).ReusedTimes);
        return 1;
    }

    // -- Shared dictionaries

    static SharedDictionary Dictionary(LuaLane lane, LuaStack stack) =>
        lane.Engine.Dictionary(stack.Text(1)) ?? throw new LuaException("too many shared dictionaries");

    static int DictionaryExists(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Engine.Dictionary(stack.Text(1)) is not null);
        return 1;
    }

    static void PushShared(LuaStack stack, object? value)
    {
        switch (value)
        {
            case bool flag:
                stack.Push(flag);
                break;
            case double number:
                stack.Push(number);
                break;
            case byte[] bytes:
                stack.Push(bytes.AsSpan());
                break;
            default:
                stack.PushNil();
                break;
        }
    }

    static object? Shared(LuaStack stack, int index) => stack.TypeAt(index) switch
    {
        LuaType.None or LuaType.Nil => null,
        LuaType.Boolean => stack.Flag(index),
        LuaType.Number => stack.Number(index),
        LuaType.String => stack.ByteArray(index),
        _ => throw new LuaException("bad value type"),
    };

    /// <summary>dictionary, key, stale: value, flags, whether it is stale.</summary>
    static int DictionaryGet(LuaLane lane, LuaStack stack)
    {
        var (value, flags, stale) = Dictionary(lane, stack).Get(stack.Text(2), stack.Flag(3));
        if (value is LinkedList<object>)
        {
            stack.PushNil();
            stack.Push("value is a list");
            return 2;
        }
        PushShared(stack, value);
        if (flags != 0)
        {
            stack.Push(flags);
        }
        else
        {
            stack.PushNil();
        }
        stack.Push(stale);
        return 3;
    }

    /// <summary>dictionary, mode, safe, key, value, seconds, flags: ok, error, whether something had to go.</summary>
    static int DictionaryStore(LuaLane lane, LuaStack stack)
    {
        var mode = (SharedDictionary.Mode)stack.Integer(2);
        var (error, forcible) = Dictionary(lane, stack).Store(stack.Text(4), Shared(stack, 5), stack.Number(6), stack.Integer(7), mode, stack.Flag(3));
        stack.Push(error is null);
        stack.Push(error);
        stack.Push(forcible);
        return 3;
    }

    static int DictionaryIncrement(LuaLane lane, LuaStack stack)
    {
        var (value, error, forcible) = Dictionary(lane, stack).Increment(
            stack.Text(2), stack.Number(3), stack.IsNil(4) ? null : stack.Number(4), stack.Number(5));
        if (value is { } number)
        {
            stack.Push(number);
        }
        else
        {
            stack.PushNil();
        }
        stack.Push(error);
        stack.Push(forcible);
        return 3;
    }

    /// <summary>dictionary, operation, key, value.</summary>
    static int DictionaryOperation(LuaLane lane, LuaStack stack)
    {
        var dictionary = Dictionary(lane, stack);
        var operation = stack.Text(2);
        switch (operation)
        {
            case "lpush" or "rpush":
                var (length, error) = dictionary.Push(stack.Text(3), Shared(stack, 4) ?? throw new LuaException("bad value type"), operation == "lpush");
                return NumberOr(stack, length, error);
            case "lpop" or "rpop":
                var (value, why) = dictionary.Pop(stack.Text(3), operation == "lpop");
                PushShared(stack, value);
                stack.Push(why);
                return 2;
            case "llen":
                var (count, not) = dictionary.Length(stack.Text(3));
                return NumberOr(stack, count, not);
            case "expire":
                var found = dictionary.Expire(stack.Text(3), stack.Number(4));
                stack.Push(found);
                stack.Push(found ? null : "not found");
                return 2;
            case "ttl":
                if (dictionary.TimeToLive(stack.Text(3)) is { } left)
                {
                    stack.Push(left);
                    return 1;
                }
                stack.PushNil();
                stack.Push("not found");
                return 2;
            case "flush_all":
                dictionary.FlushAll();
                return 0;
            case "flush_expired":
                stack.Push(dictionary.FlushExpired((int)stack.Number(3)));
                return 1;
            case "get_keys":
                var keys = dictionary.Keys(stack.IsNil(3) ? 1024 : stack.Integer(3));
                stack.NewTable(keys.Length);
                for (var i = 0; i < keys.Length; i++)
                {
                    stack.Push(keys[i]);
                    stack.SetIndex(i + 1);
                }
                return 1;
            case "capacity":
                stack.Push(dictionary.Capacity);
                return 1;
            case "free_space":
                stack.Push(dictionary.Free);
                return 1;
            default:
                throw new LuaException($"no such operation: {operation}");
        }
    }

    /// <summary>The number; or nil and what went wrong.</summary>
    static int NumberOr(LuaStack stack, int number, string? error)
    {
        if (error is null)
        {
            stack.Push(number);
            return 1;
        }
        stack.PushNil();
        stack.Push(error);
        return 2;
    }

    // -- Timers and semaphores

    /// <summary>number, seconds.</summary>
    static int StartTimer(LuaLane lane, LuaStack stack)
    {
        var delay = TimeSpan.FromSeconds(Math.Clamp(stack.Number(2), 0, 1e6));
        var refused = lane.Retired && delay > TimeSpan.Zero ? "process exiting" : lane.Engine.TryStartTimer() ? null : "too many pending timers";
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

    static int KillThread(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Running!.Kill(lua_tothread(stack.State, 1)));
        return 1;
    }

    static int s_lastSemaphore;

    public static ConcurrentDictionary<int, ScriptSemaphore> Semaphores { get; } = new();

    /// <summary><c>ngx.semaphore</c>: how many it lets through, and how many wait.</summary>
    public sealed class ScriptSemaphore(int count)
    {
        int _waiting;

        public SemaphoreSlim Places { get; } = new(count);

        public int Count => Places.CurrentCount > 0 ? Places.CurrentCount : -Volatile.Read(ref _waiting);

        public async Task WaitAsync(CancellationToken cancellation)
        {
            Interlocked.Increment(ref _waiting);
            try
            {
                await Places.WaitAsync(cancellation);
            }
            finally
            {
                Interlocked.Decrement(ref _waiting);
            }
        }
    }

    static int NewSemaphore(LuaLane lane, LuaStack stack)
    {
        var number = Interlocked.Increment(ref s_lastSemaphore);
        Semaphores[number] = new ScriptSemaphore(Math.Max(0, stack.Integer(1)));
        stack.Push(number);
        return 1;
    }

    static int PostSemaphore(LuaLane lane, LuaStack stack)
    {
        Semaphores.GetValueOrDefault(stack.Integer(1))?.Places.Release(Math.Max(1, stack.Integer(2)));
        return 0;
    }

    static int CountSemaphore(LuaLane lane, LuaStack stack)
    {
        stack.Push(Semaphores.GetValueOrDefault(stack.Integer(1))?.Count ?? 0);
        return 1;
    }

    static int FreeSemaphore(LuaLane lane, LuaStack stack)
    {
        Semaphores.TryRemove(stack.Integer(1), out _);
        return 0;
    }

    // -- Addresses

    static bool TryRange(string text, out IPNetwork range)
    {
        if (IPAddress.TryParse(text, out var one))
        {
            range = new IPNetwork(one, one.AddressFamily == AddressFamily.InterNetwork ? 32 : 128);
            return true;
        }
        // 10.1.2.3/8 is 10.0.0.0/8
        range = default;
        var slash = text.IndexOf('/', StringComparison.Ordinal);
        if (slash < 0 || !IPAddress.TryParse(text.AsSpan(0, slash), out var address) || !int.TryParse(text.AsSpan(slash + 1), out var bits)
            || bits < 0 || bits > address.GetAddressBytes().Length * 8)
        {
            return false;
        }
        var bytes = address.GetAddressBytes();
        for (var i = 0; i < bytes.Length; i++)
        {
            bytes[i] &= (byte)(0xff00 >> Math.Clamp(bits - (i * 8), 0, 8));
        }
        range = new IPNetwork(new IPAddress(bytes), bits);
        return true;
    }

    static int AddressIsValid(LuaLane lane, LuaStack stack)
    {
        stack.Push(TryRange(stack.Text(1), out _));
        return 1;
    }

    /// <summary>address, an address or a range.</summary>
    static int AddressIsIn(LuaLane lane, LuaStack stack)
    {
        stack.Push(IPAddress.TryParse(stack.Text(1), out var address) && TryRange(stack.Text(2), out var range) && range.Contains(address));
        return 1;
    }

    // -- Facts

    static int Sandbox(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Options.Sandbox);
        return 1;
    }

    static int Jit(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.Options.Jit);
        return 1;
    }

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

    static int IsStopped(LuaLane lane, LuaStack stack)
    {
        stack.Push(lane.IsStopping);
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

    /// <summary>name, plugin.</summary>
    static int RegisterVariable(LuaLane lane, LuaStack stack)
    {
        lane.Engine.Register(stack.Utf8(1), stack.Utf8(2));
        return 0;
    }

    static int NewId(LuaLane lane, LuaStack stack)
    {
        stack.Push(Guid.NewGuid().ToString());
        return 1;
    }
}

using System.Buffers;
using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sluice.Net.Epoll;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting;

/// <summary>What a script waits for.</summary>
enum LuaWait
{
    Yield = 0,
    Flush = 1,
    Exit,
    Sleep,
    Connect,
    Send,
    Receive,
    Handshake,
    ReadBody,
    Capture,
    Spawn,
    Join,
    Semaphore,
    Resolve,
    Eof,
}

/// <summary>
/// One request (or timer) as scripts know it: its coroutines, its sockets, what it has printed. Lives until the request has ended and takes everything that
/// is still open with it.
/// </summary>
public sealed partial class LuaContext : IDisposable
{
    const int MaxSockets = 1024;

    // few scripts have any of these
    List<LuaSocket>? _sockets;
    LightThreads? _light;

    SemaphoreSlim? _turn;
    Task? _sending;
    CancellationTokenSource? _end;
    CancellationTokenRegistration _client;
    bool _finished;
    bool _disposed;

    /// <param name="lane">One that somebody is in.</param>
    internal LuaContext(LuaLane lane, IScriptExchange? exchange)
        : this(exchange, lane) => lane.Use();

    LuaContext(IScriptExchange? exchange, LuaLane used)
    {
        Lane = used;
        Exchange = exchange;
    }

    /// <summary>For a request, in the lane whose turn it is.</summary>
    public static LuaContext For(LuaEngine engine, IScriptExchange exchange)
    {
        LuaLane lane;
        do
        {
            lane = engine.Pick();
        }
        while (!lane.TryUse());
        return new(exchange, lane);
    }

    /// <summary>For nobody's request; null: the lane has ended.</summary>
    internal static LuaContext? TryIn(LuaLane lane) => lane.TryUse() ? new(null, lane) : null;

    /// <summary>The same, in a lane that may not be there yet.</summary>
    internal static LuaContext In(LuaEngine engine, int index)
    {
        LuaLane lane;
        do
        {
            lane = engine.At(index);
        }
        while (!lane.TryUse());
        return new(null, lane);
    }

    LightThreads Light => LazyInitializer.EnsureInitialized(ref _light, static () => new());

    ConcurrentDictionary<nint, Task<object?[]>> Threads => Light.Running;

    internal LuaLane Lane { get; }

    internal LuaEngine Engine => Lane.Engine;

    public IScriptExchange? Exchange { get; }

    /// <summary>Printed and not sent yet.</summary>
    internal ArrayBufferWriter<byte> Output => _output ??= new();

    ArrayBufferWriter<byte>? _output;

    internal LuaPhase Phase { get; private set; }

    /// <summary>What runs; null in a timer.</summary>
    internal LuaUnit? Unit { get; private set; }

    /// <summary>The same for the error log.</summary>
    internal string Where => Unit?.Where ?? (Phase == LuaPhase.Timer ? "context: ngx.timer" : "");

    internal bool Printed { get; set; }

    /// <summary>The request's body, once it was read or set.</summary>
    internal ScriptBody? Body { get; set; }

    /// <summary>What Lua keeps for it (<c>ngx.ctx</c> and the like); 0: nothing.</summary>
    internal int Table;

    /// <summary>What its functions get as <c>ctx</c>; 0: none has run.</summary>
    internal int Api;

    /// <summary>The client has left, or the request has ended: nobody waits for anything any more.</summary>
    CancellationToken Ended
    {
        get
        {
            if (Volatile.Read(ref _end) is { } known)
            {
                return known.Token;
            }
            // light threads may ask at once
            using (Lane.Enter())
            {
                return (_end ??= End()).Token;
            }
        }
    }

    CancellationTokenSource End()
    {
        var end = new CancellationTokenSource();
        if (Exchange is not null && !_raw)
        {
            _client = Exchange.Http.RequestAborted.UnsafeRegister(static end => ((CancellationTokenSource)end!).Cancel(), end);
        }
        return end;
    }

    // -- Run

    /// <summary>Runs a unit's part in a phase in which it may wait.</summary>
    public ValueTask<LuaOutcome> RunAsync(LuaUnit unit, LuaPhase phase, string name)
    {
        Phase = phase;
        Unit = unit;
        (nint State, int Reference) coroutine;
        int status;
        Stop stop;
        using (Lane.Enter())
        {
            if (Lane.Ensure(unit, this) is { } error)
            {
                LogFailure(FailureOf(LuaPhase.Init), error, name);
                return new(new LuaOutcome(LuaEnd.Failed));
            }
            coroutine = Lane.RentCoroutine(Lane.RunEntry, unit);
            status = Lane.Resume(coroutine.State, 1, this, phase);
            if (status == 0 && !Printed)
            {
                Lane.ReturnCoroutine(coroutine, true);
                return new(new LuaOutcome(LuaEnd.Continue));
            }
            stop = Step(coroutine, status);
        }
        // outside: what it waits for may be a write to a socket
        return FollowAsync(coroutine, status, name, stop);
    }

    /// <summary>Runs a unit's part in a phase in which nothing can be waited for. False: it failed.</summary>
    public bool Run(LuaUnit unit, LuaPhase phase, string name)
    {
        Phase = phase;
        Unit = unit;
        using (Lane.Enter())
        {
            var error = Lane.Ensure(unit, this) ?? RunNow(unit, phase);
            if (error is not null)
            {
                LogFailure(FailureOf(phase), error, name);
            }
            return error is null;
        }
    }

    string? RunNow(LuaUnit unit, LuaPhase phase)
    {
        var coroutine = Lane.RentCoroutine(Lane.RunEntry, unit);
        var status = Lane.Resume(coroutine.State, 1, this, phase);
        var stack = new LuaStack(coroutine.State);
        // ngx.exit in a filter ends the function and nothing else
        var error = status == 0 || (status == Yielded && lua_touserdata(coroutine.State, 1) == LuaHost.Wait && stack.Integer(2) == (int)LuaWait.Exit)
            ? null
            : status == Yielded ? "attempt to yield in a phase that cannot wait" : Lane.ErrorOf(stack) + Lane.TraceOf(coroutine.State);
        Lane.ReturnCoroutine(coroutine, status == 0);
        return error;
    }

    /// <summary>A route's <c>filter_func</c>: whether it lets the request through; an error is a no.</summary>
    public bool Ask(LuaUnit unit)
    {
        Phase = LuaPhase.Init;
        Unit = unit;
        using (Lane.Enter())
        {
            if (Lane.Ensure(unit, this) is { } error)
            {
                LogFailure(FailureOf(LuaPhase.Init), error, "filter_func");
                return false;
            }
            var coroutine = Lane.RentCoroutine(Lane.AskEntry, unit);
            var stack = new LuaStack(coroutine.State);
            var status = Lane.Resume(coroutine.State, 1, this, LuaPhase.Log);
            var yes = status == 0 && stack.Flag(1);
            if (status != 0)
            {
                LogFailure("failed to run filter_func", status == Yielded ? "attempt to yield where nothing can be waited for" : Lane.ErrorOf(stack), "filter_func");
            }
            Lane.ReturnCoroutine(coroutine, status == 0);
            return yes;
        }
    }

    /// <summary>What a script has registered as a variable; null as well when Lua asks for it itself, as in APISIX, whose <c>ngx.var</c> has only nginx's.</summary>
    public string? Variable(string name)
    {
        using (Lane.Enter())
        {
            if (_disposed || Lane.Running is not null)
            {
                return null;
            }
            string? value = null;
            var error = Lane.Call("variable", this, (stack, lane) =>
            {
                stack.PushUtf8(name);
                stack.PushUtf8(lane.Engine.OwnerOf(name) ?? "");
                return 2;
            }, stack =>
            {
                value = stack.IsNil(1) ? null : stack.Utf8(1);
                return null;
            }, LuaPhase.Log);
            if (error is not null)
            {
                LogFailure("failed to get a registered variable", error, $"${name}");
            }
            return value;
        }
    }

    /// <summary>One piece of the answer through a unit's <c>body_filter</c>.</summary>
    /// <returns>False: it failed.</returns>
    public bool Filter(LuaUnit unit, ReadOnlySpan<byte> piece, ref bool last, IBufferWriter<byte> output)
    {
        Phase = LuaPhase.BodyFilter;
        Unit = unit;
        using (Lane.Enter())
        {
            if (Lane.Ensure(unit, this) is { } error)
            {
                LogFailure(FailureOf(LuaPhase.Init), error, "body_filter");
                return false;
            }
            var coroutine = Lane.RentCoroutine(Lane.FilterEntry, unit);
            var stack = new LuaStack(coroutine.State);
            stack.Push(piece);
            stack.Push(last);
            var status = Lane.Resume(coroutine.State, 3, this, LuaPhase.BodyFilter);
            if (status == 0)
            {
                if (stack.TypeAt(1) is LuaType.String or LuaType.Number)
                {
                    output.Write(stack.Bytes(1));
                }
                last |= stack.Flag(2);
            }
            else
            {
                LogFailure(FailureOf(Phase), status == Yielded ? "attempt to yield in body_filter" : Lane.ErrorOf(stack) + Lane.TraceOf(coroutine.State), "body_filter");
            }
            Lane.ReturnCoroutine(coroutine, status == 0);
            return status == 0;
        }
    }

    // -- Wait

    /// <summary>What a coroutine that has stopped wants: read while the lane is still held.</summary>
    readonly record struct Stop(int Status, LuaWait Wait, object?[] Arguments, string? Error, string? Trace = null);

    Stop Step((nint State, int Reference) coroutine, int status)
    {
        var stack = new LuaStack(coroutine.State);
        switch (status)
        {
            case 0:
                var returned = ReadArguments(stack, 1);
                lua_settop(coroutine.State, 0);
                return new(0, default, returned, null);
            case Yielded:
                if (lua_touserdata(coroutine.State, 1) != LuaHost.Wait)
                {
                    lua_settop(coroutine.State, 0);
                    return new(status, LuaWait.Yield, [], null);
                }
                var wait = (LuaWait)stack.Integer(2);
                var arguments = ReadArguments(stack, 3);
                lua_settop(coroutine.State, 0);
                return new(status, wait, arguments, null);
            default:
                return new(status, default, [], Lane.ErrorOf(stack), Lane.TraceOf(coroutine.State).Replace(":\n", ":\ncoroutine 0:\n", StringComparison.Ordinal));
        }
    }

    static object?[] ReadArguments(LuaStack stack, int first)
    {
        var count = stack.Top - first + 1;
        if (count <= 0)
        {
            return [];
        }
        var arguments = new object?[count];
        for (var i = 0; i < count; i++)
        {
            arguments[i] = stack.TypeAt(first + i) switch
            {
                LuaType.Nil => null,
                LuaType.Boolean => stack.Flag(first + i),
                LuaType.Number => stack.Number(first + i),
                LuaType.String => stack.ByteArray(first + i),
                LuaType.Thread => lua_tothread(stack.State, first + i),
                _ => null,
            };
        }
        return arguments;
    }

    async ValueTask<LuaOutcome> FollowAsync((nint State, int Reference) coroutine, int status, string name, Stop stop)
    {
        try
        {
            while (stop.Status == Yielded)
            {
                if (stop.Wait == LuaWait.Exit)
                {
                    return await ExitAsync(stop.Arguments);
                }
                (status, stop) = await WaitAsync(coroutine, stop);
            }
            if (stop.Error is { } error)
            {
                LogFailure(FailureOf(Phase), error + stop.Trace, name);
                return new(LuaEnd.Failed);
            }
            if (_light is { Running: { IsEmpty: false } threads })
            {
                await Task.WhenAll(threads.Values);
            }
            if (_light?.Exit is not null)
            {
                return await ExitAsync(TakeExit());
            }
            if (Printed || Exchange?.Answered == true)
            {
                return await ExitAsync([0.0]);
            }
            return new(LuaEnd.Continue);
        }
        catch (OperationCanceledException) when (_light?.Exit is not null && !_disposed)
        {
            return await ExitAsync(TakeExit());
        }
        finally
        {
            using (Lane.Enter())
            {
                Lane.ReturnCoroutine(coroutine, status == 0);
            }
        }
    }

    /// <summary>Does what a coroutine waits for and lets it go on.</summary>
    async ValueTask<(int Status, Stop Stop)> WaitAsync((nint State, int Reference) coroutine, Stop stop)
    {
        var results = stop.Wait == LuaWait.Spawn ? Spawn((nint)stop.Arguments[0]!) : await PerformAsync(stop.Wait, stop.Arguments);
        if (EventLoop.Current is { IsLate: true })
        {
            // what it waits for may be there at once, again and again
            await EventLoop.Later();
        }
        using (Lane.Enter())
        {
            if (_disposed || _light?.Exit is not null || _light?.Killed?.ContainsKey(coroutine.State) == true)
            {
                throw new OperationCanceledException();
            }
            Ended.ThrowIfCancellationRequested();
            var stack = new LuaStack(coroutine.State);
            lua_checkstack(coroutine.State, results.Length + 4);
            PushAll(stack, results);
            var status = Lane.Resume(coroutine.State, results.Length, this, Phase);
            return (status, Step(coroutine, status));
        }
    }

    static void PushAll(LuaStack stack, object?[] values)
    {
        foreach (var value in values)
        {
            switch (value)
            {
                case null:
                    stack.PushNil();
                    break;
                case bool flag:
                    stack.Push(flag);
                    break;
                case double number:
                    stack.Push(number);
                    break;
                case int number:
                    stack.Push(number);
                    break;
                case string text:
                    stack.Push(text);
                    break;
                case byte[] bytes:
                    stack.Push(bytes.AsSpan());
                    break;
                case ReadOnlyMemory<byte> bytes:
                    stack.Push(bytes.Span);
                    break;
                case IHeaderDictionary headers:
                    PushHeaders(stack, headers);
                    break;
                default:
                    throw new InvalidOperationException($"no Lua value: {value.GetType()}");
            }
        }
    }

    /// <returns>Whether there are more than that.</returns>
    internal static bool PushHeaders(LuaStack stack, IHeaderDictionary headers, int max = 0, bool raw = false)
    {
        stack.NewTable(0, headers.Count);
        var count = 0;
        foreach (var (name, values) in headers)
        {
            if (name.StartsWith(':') || (max > 0 && ++count > max))
            {
                continue;
            }
            stack.Push(raw ? name : name.ToLowerInvariant());
            PushValues(stack, values);
            lua_rawset(stack.State, -3);
        }
        return max > 0 && count > max;
    }

    internal static void PushValues(LuaStack stack, StringValues values)
    {
        if (values.Count <= 1)
        {
            stack.Push(values.Count == 0 ? "" : values[0]);
            return;
        }
        stack.NewTable(values.Count);
        for (var i = 0; i < values.Count; i++)
        {
            stack.Push(values[i]);
            stack.SetIndex(i + 1);
        }
    }

    static readonly object?[] Ok = [1.0];

    async ValueTask<object?[]> PerformAsync(LuaWait wait, object?[] arguments)
    {
        switch (wait)
        {
            case LuaWait.Yield:
                await EventLoop.Later();
                return [];
            case LuaWait.Flush:
                if (arguments[0] is not true)
                {
                    BeginFlush();
                    return Ok;
                }
                await FlushAsync();
                return Ok;
            case LuaWait.Sleep:
                await Task.Delay(Seconds(arguments[0]), Engine.Time, Ended);
                return [];
            case LuaWait.Connect:
                return await Socket(arguments[0]).ConnectAsync((byte[])arguments[1]!, (int)(double)(arguments[2] ?? 0.0), arguments[3] as byte[], Ended);
            case LuaWait.Send:
                return await Socket(arguments[0]).SendAsync((byte[])arguments[1]!, Ended);
            case LuaWait.Receive:
                return await Socket(arguments[0]).ReceiveAsync((ReceiveMode)(int)(double)arguments[1]!, (int)(double)arguments[2]!, arguments[3] as byte[], arguments[4] is true, Ended);
            case LuaWait.Handshake:
                return await Socket(arguments[0]).HandshakeAsync(arguments[1] as byte[], arguments[2] is true, Ended);
            case LuaWait.ReadBody:
                await ReadBodyAsync();
                return [];
            case LuaWait.Capture:
                return await CaptureAsync(arguments);
            case LuaWait.Join:
                return await JoinAsync(arguments);
            case LuaWait.Semaphore:
                return await SemaphoreAsync(arguments);
            case LuaWait.Eof:
                await FinishAsync();
                return Ok;
            case LuaWait.Resolve:
                return await ResolveAsync((byte[])arguments[0]!);
            default:
                throw new InvalidOperationException($"nothing waits like this: {wait}");
        }
    }

    static TimeSpan Seconds(object? value) => (double)value! is > 0 and var seconds ? TimeSpan.FromSeconds(Math.Min(seconds, 1_000_000)) : TimeSpan.Zero;

    /// <summary>Sends without waiting; while the client has not taken the last piece, what is printed stays for the next.</summary>
    void BeginFlush()
    {
        if (_sending is null or { IsCompleted: true })
        {
            _sending = FlushAsync().AsTask();
        }
    }

    ValueTask FlushAsync() => SendAsync(last: false);

    /// <summary>Ends the answer; the script may go on.</summary>
    async ValueTask FinishAsync()
    {
        await (_sending ?? Task.CompletedTask);
        await SendAsync(last: true);
    }

    /// <summary>Sends what is printed. Light threads may want to at once: one piece goes after the other.</summary>
    async ValueTask SendAsync(bool last)
    {
        var turn = LazyInitializer.EnsureInitialized(ref _turn, static () => new SemaphoreSlim(1));
        await turn.WaitAsync(Ended);
        try
        {
            var piece = Take();
            if (_finished || (!last && piece.Length == 0 && Exchange!.Answered))
            {
                return;
            }
            _finished = last;
            await (last ? Exchange!.FinishAsync(piece) : Exchange!.SendAsync(piece));
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>What is printed and not sent; what another thread prints from now on goes into the next piece.</summary>
    byte[] Take()
    {
        using (Lane.Enter())
        {
            var piece = Output.WrittenSpan.ToArray();
            Output.ResetWrittenCount();
            return piece;
        }
    }

    async ValueTask<LuaOutcome> ExitAsync(object?[] arguments)
    {
        var status = arguments.Length > 0 && arguments[0] is double code ? (int)code : 0;
        if (Exchange is null)
        {
            return new(LuaEnd.Answered, status);
        }
        if (arguments is [_, true])
        {
            return new(LuaEnd.Again);
        }
        if ((Printed || Exchange.Answered) && status == -1)
        {
            return new(LuaEnd.Failed);
        }
        // a status that was set goes before one that only says how well it went
        if (Printed || Exchange.Answered || (status is >= 200 and < 300 && Exchange.Http.Response.StatusCode is var set && set != 200 && set != status))
        {
            await FinishAsync();
            return new(LuaEnd.Answered);
        }
        return status switch
        {
            >= 200 => new(LuaEnd.Answered, status),
            -1 => new(LuaEnd.Answered, 500),
            > 0 => new(LuaEnd.Answered, 400), // no status of an answer
            _ => new(LuaEnd.Continue),
        };
    }

    /// <summary>Method, target, body, sharing, variables and ctx of each request, all at once; status, headers and body of each answer. Nil: one was not made.</summary>
    async ValueTask<object?[]> CaptureAsync(object?[] arguments)
    {
        var answers = await Task.WhenAll(arguments.Chunk(6).Select(CaptureOneAsync));
        return answers.Contains(null) ? [null] : [.. answers.SelectMany(static answer => answer!)];
    }

    /// <returns>Null: it was not made.</returns>
    async Task<object?[]?> CaptureOneAsync(object?[] request)
    {
        var headers = new HeaderDictionary();
        foreach (var (name, values) in Exchange!.Http.Request.Headers)
        {
            if (!name.Equals("Content-Length", StringComparison.OrdinalIgnoreCase) && !name.Equals("Transfer-Encoding", StringComparison.OrdinalIgnoreCase))
            {
                headers[name] = values;
            }
        }
        var body = (byte[]?)request[2] ?? [];
        if (body.Length > 0)
        {
            headers.ContentLength = body.Length;
        }
        var method = System.Text.Encoding.Latin1.GetString((byte[])request[0]!);
        var target = System.Text.Encoding.Latin1.GetString((byte[])request[1]!);
        if (!Exchange.MayCapture)
        {
            LogCycle(Engine.Log, target.Split('?')[0], Place);
            return null;
        }
        var options = new SubrequestOptions((VariableSharing)(int)(double)request[3]!, Pairs(request[4] as byte[] ?? []))
        {
            Open = request[5] is double ctx ? exchange => Lend(exchange, (int)ctx) : null,
        };
        return await Exchange.CaptureAsync(method, target, headers, body, options) is { } answer
            ? [answer.Status, answer.Headers, answer.Body]
            : [500, new HeaderDictionary(), Array.Empty<byte>()];
    }

    /// <summary>Where a subrequest runs that has a table of this state's as its <c>ngx.ctx</c>.</summary>
    LuaContext Lend(IScriptExchange exchange, int ctx)
    {
        if (!Lane.TryUse())
        {
            return For(Engine, exchange);
        }
        var context = new LuaContext(exchange, Lane);
        using (Lane.Enter())
        {
            Lane.Call("adopt", context, (stack, _) =>
            {
                stack.Push(ctx);
                return 1;
            }, static _ => null);
        }
        return context;
    }

    static (string Name, string Value)[] Pairs(byte[] text) =>
        [.. System.Text.Encoding.UTF8.GetString(text).Split('\0').SkipLast(1).Chunk(2).Select(static pair => (pair[0], pair[1]))];

    async ValueTask<object?[]> ResolveAsync(byte[] name)
    {
        try
        {
            var host = await Engine.Resolver.ResolveAsync(System.Text.Encoding.Latin1.GetString(name), Ended);
            return [host.Next().ToString()];
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            return [null, e.Message];
        }
    }

    // -- Light threads

    /// <summary>Starts a coroutine beside the one that asks; both go on from here, in the same lane.</summary>
    object?[] Spawn(nint thread)
    {
        if (Threads.Count >= 1024)
        {
            return [null, "too many threads"];
        }
        int reference;
        using (Lane.Enter())
        {
            lua_pushthread(thread);
            reference = Lane.Anchor(thread);
            Lane.Use();
        }
        Threads[thread] = ThreadAsync((thread, reference));
        return [true];
    }

    async Task<object?[]> ThreadAsync((nint State, int Reference) coroutine)
    {
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            await EventLoop.Later();
        }
        try
        {
            return await RunThreadAsync(coroutine);
        }
        finally
        {
            using (Lane.Enter())
            {
                _light?.Killed?.TryRemove(coroutine.State, out _);
                Lane.Unreference(coroutine.Reference);
            }
            Lane.Release();
        }
    }

    async ValueTask<object?[]> RunThreadAsync((nint State, int Reference) coroutine)
    {
        int status;
        Stop stop;
        using (Lane.Enter())
        {
            if (_disposed)
            {
                throw new OperationCanceledException();
            }
            // the function and its arguments are on the coroutine's stack already
            status = Lane.Resume(coroutine.State, lua_gettop(coroutine.State) - 1, this, Phase);
            stop = Step(coroutine, status);
        }
        while (stop.Status == Yielded)
        {
            if (stop.Wait == LuaWait.Exit)
            {
                EndAll(stop.Arguments);
                return [false, "exited"];
            }
            (_, stop) = await WaitAsync(coroutine, stop);
        }
        if (stop.Error is { } error)
        {
            LogFailure(ThreadFailure, error + stop.Trace, "thread");
            return [false, error];
        }
        if (stop.Arguments is [_, byte[] failed])
        {
            LogFailure(ThreadFailure, System.Text.Encoding.UTF8.GetString(failed), "thread");
        }
        return [true, stop.Arguments[0]];
    }

    sealed class LightThreads
    {
        public ConcurrentDictionary<nint, Task<object?[]>> Running { get; } = [];

        public ConcurrentDictionary<nint, bool>? Killed;

        /// <summary>How one of them has ended the request; null: none has.</summary>
        public object?[]? Exit;
    }

    /// <summary>The script may run again: ngx.exec.</summary>
    object?[] TakeExit() => Interlocked.Exchange(ref Light.Exit, null)!;

    /// <summary>Everything that runs for the request ends where it waits.</summary>
    void EndAll(object?[] arguments)
    {
        CancellationTokenSource? waits;
        CancellationTokenRegistration client;
        using (Lane.Enter())
        {
            Light.Exit ??= arguments;
            foreach (var thread in Threads.Keys)
            {
                Kill(thread);
            }
            (waits, _end, client) = (_end, null, _client);
        }
        client.Dispose();
        waits?.Cancel();
    }

    /// <summary>It never goes on; what it waits for ends with the request at the latest.</summary>
    /// <returns>Why not; null: it is done.</returns>
    internal string? Kill(nint thread)
    {
        if (Threads.TryGetValue(thread, out var running) && running.IsCompleted)
        {
            return "already terminated";
        }
        if (!Threads.TryRemove(thread, out _))
        {
            return "already waited or killed";
        }
        LazyInitializer.EnsureInitialized(ref Light.Killed, static () => [])[thread] = true;
        return null;
    }

    async ValueTask<object?[]> JoinAsync(object?[] arguments)
    {
        var wanted = arguments.OfType<nint>().Where(Threads.ContainsKey).ToDictionary(thread => Threads[thread]);
        if (wanted.Count == 0)
        {
            return [null, "already waited or killed"];
        }
        var first = await Task.WhenAny(wanted.Keys);
        Threads.TryRemove(wanted[first], out _);
        return await first;
    }

    async ValueTask<object?[]> SemaphoreAsync(object?[] arguments)
    {
        var semaphore = LuaHost.Semaphores.GetValueOrDefault((int)(double)arguments[0]!);
        var patience = Seconds(arguments[1]);
        return semaphore is null ? [null, "no such semaphore"]
            : await semaphore.Places.WaitAsync(0) ? [true]
            : patience == TimeSpan.Zero ? [null, "timeout"]
            : await WaitAsync(semaphore, patience) ? [true, null] : [false, "timeout"];
    }

    /// <returns>False: it took too long by the gateway's clock.</returns>
    async ValueTask<bool> WaitAsync(LuaHost.ScriptSemaphore semaphore, TimeSpan patience)
    {
        using var late = new CancellationTokenSource(patience, Engine.Time);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(late.Token, Ended);
        try
        {
            await semaphore.WaitAsync(end.Token);
            return true;
        }
        catch (OperationCanceledException) when (!Ended.IsCancellationRequested)
        {
            return false;
        }
    }

    // -- Sockets

    internal int OpenSocket()
    {
        _sockets ??= [];
        if (_sockets.Count >= MaxSockets)
        {
            throw new LuaException("too many sockets in one request");
        }
        _sockets.Add(new LuaSocket(Engine));
        return _sockets.Count - 1;
    }

    bool _bodyTaken;
    bool _bodyRead;
    bool _raw;

    async ValueTask ReadBodyAsync()
    {
        if (Body is null && !_bodyTaken)
        {
            _bodyRead = true;
            Body = await Exchange!.ReadBodyAsync();
        }
    }

    /// <summary>The request's body as a socket; or why not.</summary>
    internal (int Socket, string? Error) OpenBody()
    {
        if (Body is not null || _bodyTaken)
        {
            return (0, "request body already exists");
        }
        if (Exchange!.OpenBody() is not { } body)
        {
            return (0, "no body");
        }
        _bodyTaken = true;
        var socket = OpenSocket();
        Exchange.ReplaceBody(Socket(socket).Read(body));
        return (socket, null);
    }

    /// <summary>The client's connection as a socket; or why not. From here on the client is gone when a read or a write says so.</summary>
    internal (int Socket, string? Error) OpenConnection()
    {
        var error = _raw ? "duplicate call"
            : _finished ? "seen eof"
            : _output is { WrittenCount: > 0 } || _sending is { IsCompleted: false } ? "pending data to write"
            : null;
        if (error is not null)
        {
            return (0, error);
        }
        var (connection, refused) = Exchange!.TakeConnection(_bodyRead || _bodyTaken);
        if (connection is null)
        {
            return (0, refused);
        }
        _raw = _finished = _bodyTaken = Printed = true;
        _client.Unregister();
        var socket = OpenSocket();
        Socket(socket).Take(connection, Exchange.Sent);
        return (socket, null);
    }

    /// <summary>The script has taken the connection: there is no answer of the gateway's any more.</summary>
    internal bool HasConnection => _raw;

    internal LuaSocket Socket(object? number) => Socket((int)(double)number!);

    internal LuaSocket Socket(int number) =>
        _sockets is not null && number >= 0 && number < _sockets.Count ? _sockets[number] : throw new LuaException("bad request: a socket of another request");

    // -- Timers

    /// <summary>Runs what a timer holds; nobody waits for it.</summary>
    internal static async Task RunTimerAsync(LuaLane lane, int timer, bool premature)
    {
        var context = new LuaContext(lane, null) { Phase = LuaPhase.Timer };
        lane.Engine.TimerRuns();
        try
        {
            (nint State, int Reference) coroutine;
            int status;
            Stop stop;
            using (lane.Enter())
            {
                coroutine = lane.RentCoroutine();
                lane.PushEntry(coroutine.State, "timer");
                new LuaStack(coroutine.State).Push(timer);
                new LuaStack(coroutine.State).Push(premature);
                status = lane.Resume(coroutine.State, 2, context, LuaPhase.Timer);
                stop = context.Step(coroutine, status);
            }
            await context.FollowAsync(coroutine, status, "timer", stop);
        }
        catch (Exception e)
        {
            context.LogFailure(FailureOf(LuaPhase.Timer), e.Message, "timer");
        }
        finally
        {
            lane.Engine.TimerEnded();
            context.Dispose();
        }
    }

    // -- End

    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }
        using (Lane.Enter())
        {
            _disposed = true;
            Lane.Drop(this);
        }
        _client.Dispose();
        _end?.Cancel();
        Exchange?.Dispose();
        foreach (var socket in _sockets ?? [])
        {
            socket.Close();
        }
        Lane.Release();
        _end?.Dispose();
    }
}

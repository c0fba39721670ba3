using System.Buffers;
using Microsoft.AspNetCore.Http;
using Sluice.Net.Epoll;
using Sluice.Scripting.Api;
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
/// One request (or timer) as scripts know it: its coroutines, its sockets, what it has printed. Lives until the request has ended and takes
/// everything that is still open with it.
/// </summary>
internal sealed partial class LuaContext : IDisposable
{
    // few scripts have any of these
    ScriptSockets? _sockets;
    LightThreads? _threads;

    SemaphoreSlim? _turn;
    Task? _sending;
    CancellationTokenSource? _end;
    CancellationTokenRegistration _client;
    bool _finished;

    /// <param name="lane">One that somebody is in.</param>
    internal LuaContext(LuaLane lane, IScriptExchange? exchange)
        : this(exchange, lane) => lane.Use();

    internal LuaContext(IScriptExchange? exchange, LuaLane used)
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

    internal LightThreads Threads => LazyInitializer.EnsureInitialized(ref _threads, () => new(this));

    internal ScriptSockets Sockets => _sockets ??= new(this);

    /// <summary>The script has taken the client's connection: there is no response of the gateway's any more.</summary>
    internal bool HasConnection => _sockets is { HasConnection: true };

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

    /// <summary>The request has ended: nothing runs for it any more.</summary>
    internal bool IsDisposed { get; private set; }

    internal bool Printed { get; set; }

    /// <summary>The request's body, once it was read or set.</summary>
    internal ScriptBody? Body { get; set; }

    /// <summary>What Lua keeps for it (<c>ngx.ctx</c> and the like); 0: nothing.</summary>
    internal int Table;

    /// <summary>What its functions get as <c>ctx</c>; 0: none has run.</summary>
    internal int Api;

    /// <summary>The client has left, or the request has ended: nobody waits for anything any more.</summary>
    internal CancellationToken Ended
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
        if (Exchange is not null && !HasConnection)
        {
            _client = Exchange.Http.RequestAborted.UnsafeRegister(static end => ((CancellationTokenSource)end!).Cancel(), end);
        }
        return end;
    }

    /// <summary>Ends what anything waits for; who waits from now on waits anew.</summary>
    internal void EndWaits()
    {
        CancellationTokenSource? waits;
        CancellationTokenRegistration client;
        using (Lane.Enter())
        {
            (waits, _end, client) = (_end, null, _client);
        }
        client.Dispose();
        waits?.Cancel();
    }

    /// <summary>Why the connection cannot be the script's alone; null when it can.</summary>
    internal string? PendingOutput =>
        _finished ? "seen eof" : _output is { WrittenCount: > 0 } || _sending is { IsCompleted: false } ? "pending data to write" : null;

    /// <summary>From here on the script writes to the client, and the client is gone when a read or a write says so.</summary>
    internal void ConnectionTaken()
    {
        _finished = Printed = true;
        _client.Unregister();
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
        var error = status == 0
            || (status == Yielded && lua_touserdata(coroutine.State, 1) == LuaHost.Wait && stack.Integer(2) == (int)LuaWait.Exit)
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
                LogFailure("failed to run filter_func", status == Yielded
                    ? "attempt to yield where nothing can be waited for" : Lane.ErrorOf(stack), "filter_func");
            }
            Lane.ReturnCoroutine(coroutine, status == 0);
            return yes;
        }
    }

    /// <summary>
    /// What a script has registered as a variable; null as well when Lua asks for it itself, as in APISIX, whose <c>ngx.var</c> has only
    /// nginx's.
    /// </summary>
    public string? Variable(string name)
    {
        using (Lane.Enter())
        {
            if (IsDisposed || Lane.Running is not null)
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
                LogFailure(FailureOf(Phase), status == Yielded
                    ? "attempt to yield in body_filter" : Lane.ErrorOf(stack) + Lane.TraceOf(coroutine.State), "body_filter");
            }
            Lane.ReturnCoroutine(coroutine, status == 0);
            return status == 0;
        }
    }

    /// <summary>Runs a plugin's own Lua, the first function of a unit, where nothing can be waited for.</summary>
    /// <returns>What it has returned, four texts or nulls; null: it failed, and the log says why.</returns>
    public byte[]?[]? Apply(LuaUnit unit, LuaPhase phase, string name, byte[]?[] arguments)
    {
        Phase = phase;
        Unit = unit;
        var results = new byte[]?[4];
        using (Lane.Enter())
        {
            var error = Lane.Ensure(unit, this) ?? Lane.Call("apply", this, (stack, _) =>
            {
                stack.Push(unit.Id);
                foreach (var argument in arguments)
                {
                    if (argument is null)
                    {
                        stack.PushNil();
                    }
                    else
                    {
                        stack.Push(argument.AsSpan());
                    }
                }
                return arguments.Length + 1;
            }, stack =>
            {
                for (var i = 0; i < results.Length && i < stack.Top; i++)
                {
                    results[i] = stack.TypeAt(i + 1) is LuaType.String ? stack.ByteArray(i + 1) : null;
                }
                return null;
            }, phase);
            if (error is not null)
            {
                LogFailure(FailureOf(phase), error, name);
                return null;
            }
        }
        return results;
    }

    // -- Wait

    /// <summary>What a coroutine that has stopped wants: read while the lane is still held.</summary>
    internal readonly record struct Stop(int Status, LuaWait Wait, object?[] Arguments, string? Error, string? Trace = null);

    internal Stop Step((nint State, int Reference) coroutine, int status)
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
                return new(status, default, [], Lane.ErrorOf(stack), Lane.TraceOf(coroutine.State)
                    .Replace(":\n", ":\ncoroutine 0:\n", StringComparison.Ordinal));
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
            if (_threads is { } threads)
            {
                await threads.WhenAllEnded();
                if (threads.HasExited)
                {
                    return await ExitAsync(threads.TakeExit());
                }
            }
            // who has printed has not ended anything: the response ends with its phases
            return new(LuaEnd.Continue);
        }
        catch (OperationCanceledException) when (_threads is { HasExited: true } && !IsDisposed)
        {
            return await ExitAsync(_threads.TakeExit());
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
    internal async ValueTask<(int Status, Stop Stop)> WaitAsync((nint State, int Reference) coroutine, Stop stop)
    {
        var results = stop.Wait == LuaWait.Spawn ? Threads.Spawn((nint)stop.Arguments[0]!) : await PerformAsync(stop.Wait, stop.Arguments);
        if (EventLoop.Current is { IsLate: true })
        {
            // what it waits for may be there at once, again and again
            await EventLoop.Later();
        }
        using (Lane.Enter())
        {
            if (IsDisposed || _threads?.HasEnded(coroutine.State) == true)
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
                    HeaderTables.Push(stack, headers);
                    break;
                default:
                    throw new InvalidOperationException($"no Lua value: {value.GetType()}");
            }
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
                return await Sockets.At((int)(double)arguments[0]!).ConnectAsync((byte[])arguments[1]!, (int)(double)(arguments[2] ?? 0.0),
                    arguments[3] as byte[], Ended);
            case LuaWait.Send:
                return await Sockets.At((int)(double)arguments[0]!).SendAsync((byte[])arguments[1]!, Ended);
            case LuaWait.Receive:
                return await Sockets.At((int)(double)arguments[0]!).ReceiveAsync((ReceiveMode)(int)(double)arguments[1]!,
                    (int)(double)arguments[2]!, arguments[3] as byte[], arguments[4] is true, Ended);
            case LuaWait.Handshake:
                return await Sockets.At((int)(double)arguments[0]!).HandshakeAsync(arguments[1] as byte[], arguments[2] is true, Ended);
            case LuaWait.ReadBody:
                await Sockets.ReadBodyAsync();
                return [];
            case LuaWait.Capture:
                return await Subrequests.CaptureAsync(this, arguments);
            case LuaWait.Join:
                return await Threads.JoinAsync(arguments);
            case LuaWait.Semaphore:
                return await TakeSemaphoreAsync(arguments);
            case LuaWait.Eof:
                await FinishAsync();
                return Ok;
            case LuaWait.Resolve:
                return await ResolveAsync((byte[])arguments[0]!);
            default:
                throw new InvalidOperationException($"nothing waits like this: {wait}");
        }
    }

    static TimeSpan Seconds(object? value) =>
        (double)value! is > 0 and var seconds ? TimeSpan.FromSeconds(Math.Min(seconds, 1_000_000)) : TimeSpan.Zero;

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

    /// <summary>A script has begun to respond with what it prints; the response is ended when all plugins of its phases have run.</summary>
    public bool HasPrinted => Printed;

    /// <summary>Ends the response that scripts have begun with one piece more.</summary>
    public async ValueTask EndPrintedAsync(ReadOnlyMemory<byte> last)
    {
        Output.Write(last.Span);
        await FinishAsync();
    }

    /// <summary>What is printed and not sent is not sent any more: an error takes its place.</summary>
    public void DiscardPrinted()
    {
        Printed = false;
        _output?.ResetWrittenCount();
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
        if (Printed || Exchange.Answered
            || (status is >= 200 and < 300 && Exchange.Http.Response.StatusCode is var set && set != 200 && set != status))
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

    async ValueTask<object?[]> TakeSemaphoreAsync(object?[] arguments)
    {
        var semaphore = ScriptSemaphore.Find((int)(double)arguments[0]!);
        var timeout = Seconds(arguments[1]);
        return semaphore is null ? [null, "no such semaphore"]
            : semaphore.TryTake() ? [true]
            : timeout == TimeSpan.Zero ? [null, "timeout"]
            : await semaphore.WaitAsync(timeout, Engine.Time, Ended) ? [true, null] : [false, "timeout"];
    }

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
        if (IsDisposed)
        {
            return;
        }
        using (Lane.Enter())
        {
            IsDisposed = true;
            Lane.Drop(this);
        }
        _client.Dispose();
        _end?.Cancel();
        Exchange?.Dispose();
        _sockets?.Close();
        Lane.Release();
        _end?.Dispose();
    }
}

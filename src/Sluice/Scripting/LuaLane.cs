using System.Collections.Concurrent;
using System.Diagnostics;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Extensions.Logging;
using static Sluice.Scripting.LuaNative;

namespace Sluice.Scripting;

/// <summary>
/// One Lua state. Whoever runs Lua in it holds <see cref="Enter"/>, for as long as one piece of Lua runs: until it ends or waits for
/// something. No managed frame ever lies below one that Lua unwinds: host functions return values, and Lua code around them raises.
/// </summary>
sealed unsafe partial class LuaLane
{
    struct Memory
    {
        public long Used;
        public long Limit;

        /// <summary>Lua is running and may be refused; the host never is.</summary>
        public int Strict;
    }

    /// <summary>
    /// After how many times of what is allowed the log says so: a script in compiled code, or in one long call, is not stopped.
    /// </summary>
    const int TimesUntilTold = 5;

    /// <summary>How often the watchdog has to find the same piece running over its time.</summary>
    const int Looks = 3;

    const int PooledCoroutines = 64;

    [ThreadStatic] static LuaLane? t_lane;

    static readonly nint Raise = Available ? Export("luaL_error") : 0;

    readonly Lock _gate = new();
    readonly Lock _hookGate = new();
    readonly ConcurrentQueue<int> _forgotten = new();
    readonly HashSet<int> _loaded = [];
    readonly Stack<(nint State, int Reference)> _coroutines = new();
    readonly Dictionary<string, int> _entries = [];
    readonly Stack<int> _apis = new();
    readonly Memory* _memory;
    readonly nint _state;
    readonly int _apiMetatable;
    long _piece;
    long _runs;
    long _seen;
    long _seenAt;
    long? _seenRun;
    int _clock;
    long _told;
    long _suspect;
    volatile bool _armed;
    string? _stopped;
    long _lookedAt;
    int _looks;
    int _users = 1;
    bool _retired;
    bool _closed;

    public LuaLane(LuaEngine engine, int index, LuaOptions options)
    {
        Engine = engine;
        Options = options;
        Index = index;
        _memory = (Memory*)NativeMemory.AllocZeroed((nuint)sizeof(Memory));
        _memory->Limit = options.MemoryLimit;
        _state = lua_newstate(&Allocate, _memory);
        if (_state == 0)
        {
            throw new InvalidOperationException("LuaJIT could not make a state");
        }
        t_lane = this;
        luaL_openlibs(_state);
        // compiled code calls no hooks, and the watchdog stops scripts by one
        luaJIT_setmode(_state, 0, options.Jit ? CompilerOn : CompilerOff);
        Boot();
        (RunEntry, FilterEntry, EventEntry, AskEntry, _apiMetatable) = (_entries["run"], _entries["filter"], _entries["event"],
            _entries["ask"], _entries["ctx_mt"]);
        t_lane = null;
    }

    public LuaEngine Engine { get; }

    /// <summary>As they were when it was made.</summary>
    public LuaOptions Options { get; }

    public int Index { get; }

    /// <summary>What Lua runs for at this moment.</summary>
    public LuaContext? Running { get; private set; }

    /// <summary>The memory is used up even after a collection: no new requests for this state.</summary>
    public bool IsUsedUp { get; private set; }

    /// <summary>No new requests come here: it ends with the last that is in it.</summary>
    public bool Retired => _retired;

    public long MemoryUsed => _memory->Used;

    internal int ArrayMetatable { get; private set; }

    /// <summary>Entries that requests go through.</summary>
    public int RunEntry { get; }

    public int FilterEntry { get; }

    public int EventEntry { get; }

    public int AskEntry { get; }

    // -- Start

    void Boot()
    {
        lua_settop(_state, 0);
        // slot 1 of the main stack: what every resume sets
        lua_createtable(_state, 4, 0);
        PushHost();
        Load(Resource("boot.lua"), "=boot.lua");
        lua_pushvalue(_state, 1);
        lua_pushvalue(_state, 2);
        if (lua_pcall(_state, 2, 1, 0) != 0)
        {
            throw new InvalidOperationException("Lua does not start: " + new LuaStack(_state).Text(-1));
        }
        // the entries that boot.lua returned, by name
        var entries = new LuaStack(_state);
        lua_pushnil(_state);
        while (lua_next(_state, -2) != 0)
        {
            var name = entries.Text(-2);
            _entries[name] = luaL_ref(_state, Registry);
        }
        ArrayMetatable = _entries["array_mt"];
        lua_settop(_state, 1);
    }

    void PushHost()
    {
        lua_createtable(_state, 0, LuaHost.Functions.Length + LuaHost.Numbers.Length);
        for (var i = 0; i < LuaHost.Functions.Length; i++)
        {
            new LuaStack(_state).Push(LuaHost.Functions[i].Name);
            lua_pushnumber(_state, i);
            lua_pushcclosure(_state, &CallHost, 1);
            lua_rawset(_state, -3);
        }
        foreach (var (name, members) in LuaHost.Numbers)
        {
            new LuaStack(_state).Push(name);
            lua_createtable(_state, 0, members.Length);
            foreach (var (member, number) in members)
            {
                new LuaStack(_state).Push(member);
                lua_pushnumber(_state, number);
                lua_rawset(_state, -3);
            }
            lua_rawset(_state, -3);
        }
        new LuaStack(_state).Push("FAIL");
        lua_pushlightuserdata(_state, LuaHost.Fail);
        lua_rawset(_state, -3);
        new LuaStack(_state).Push("WAIT");
        lua_pushlightuserdata(_state, LuaHost.Wait);
        lua_rawset(_state, -3);
        new LuaStack(_state).Push("prefix");
        new LuaStack(_state).PushUtf8(Options.Prefix);
        lua_rawset(_state, -3);
        new LuaStack(_state).Push("null");
        lua_pushlightuserdata(_state, 0);
        lua_rawset(_state, -3);
    }

    void Load(byte[] text, string name)
    {
        fixed (byte* start = text)
        fixed (byte* chunk = Encoding.UTF8.GetBytes(name + "\0"))
        {
            if (luaL_loadbuffer(_state, start, (nuint)text.Length, chunk) != 0)
            {
                throw new InvalidOperationException(new LuaStack(_state).Text(-1));
            }
        }
    }

    /// <summary>A Lua file that comes with Sluice; null when there is none of this name.</summary>
    internal static byte[]? Shipped(string name)
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream("lua/" + name);
        if (stream is null)
        {
            return null;
        }
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    static byte[] Resource(string name) => Shipped(name) ?? throw new InvalidOperationException($"{name} is missing");

    // -- In and out

    /// <summary>Inside, this thread is the one that may touch the state.</summary>
    public readonly ref struct Inside(LuaLane lane, LuaLane? outer)
    {
        public void Dispose()
        {
            t_lane = outer;
            lane._gate.Exit();
        }
    }

    public Inside Enter()
    {
        _gate.Enter();
        var outer = t_lane;
        t_lane = this;
        _clock = ThreadClock.Own;
        while (_forgotten.TryDequeue(out var unit))
        {
            if (_loaded.Remove(unit) && !_retired)
            {
                Unload(unit);
            }
        }
        return new(this, outer);
    }

    internal static LuaLane Current => t_lane!;

    public void Forget(int unit) => _forgotten.Enqueue(unit);

    /// <summary>Another context lives in this state from now on, beside one that does.</summary>
    public void Use() => Interlocked.Increment(ref _users);

    /// <summary>False: it has ended; there is, or will be, another lane in its place.</summary>
    public bool TryUse()
    {
        var users = Volatile.Read(ref _users);
        while (users > 0)
        {
            var seen = Interlocked.CompareExchange(ref _users, users + 1, users);
            if (seen == users)
            {
                return true;
            }
            users = seen;
        }
        return false;
    }

    public void Release()
    {
        if (Interlocked.Decrement(ref _users) == 0)
        {
            Close();
        }
    }

    readonly ConcurrentDictionary<LuaTimer, bool> _timers = new();

    internal void Start(int id, TimeSpan delay)
    {
        Use();
        var timer = new LuaTimer(this, id);
        _timers[timer] = true;
        timer.Start(delay);
        if (_retired)
        {
            // while it was put there; not from within Lua
            ThreadPool.UnsafeQueueUserWorkItem(static timer => timer.Run(), timer, preferLocal: false);
        }
    }

    internal void Forget(LuaTimer timer) => _timers.TryRemove(timer, out _);

    /// <summary>Timers run now; the state ends when the last context in it does.</summary>
    public void Retire()
    {
        lock (_hookGate)
        {
            if (_retired)
            {
                return;
            }
            _retired = true;
        }
        Engine.WatchUnlisted(this);
        foreach (var (timer, _) in _timers)
        {
            timer.Run();
        }
        Release();
    }

    void Close()
    {
        _gate.Enter();
        lock (_hookGate)
        {
            _closed = true;
        }
        var outer = t_lane;
        t_lane = this;
        lua_close(_state);
        NativeMemory.Free(_memory);
        t_lane = outer;
        _gate.Exit();
        Engine.Closed(this);
    }

    // -- Coroutines

    public (nint State, int Reference) RentCoroutine()
    {
        if (_coroutines.TryPop(out var known))
        {
            return known;
        }
        var made = lua_newthread(_state);
        return (made, luaL_ref(_state, Registry));
    }

    /// <param name="clean">It ended well and can be used again.</param>
    public void ReturnCoroutine((nint State, int Reference) coroutine, bool clean)
    {
        if (clean && _coroutines.Count < PooledCoroutines)
        {
            lua_settop(coroutine.State, 0);
            _coroutines.Push(coroutine);
            return;
        }
        luaL_unref(_state, Registry, coroutine.Reference);
    }

    public void Unreference(int reference) => luaL_unref(_state, Registry, reference);

    /// <summary>Takes the coroutine on top of a stack and keeps it alive while it waits.</summary>
    public int Anchor(nint holder)
    {
        lua_xmove(holder, _state, 1);
        return luaL_ref(_state, Registry);
    }

    public void PushEntry(nint coroutine, string name) => lua_rawgeti(coroutine, Registry, _entries[name]);

    /// <summary>A coroutine that will run an entry with a unit and what else is pushed.</summary>
    public (nint State, int Reference) RentCoroutine(int entry, LuaUnit unit)
    {
        var coroutine = RentCoroutine();
        lua_rawgeti(coroutine.State, Registry, entry);
        lua_pushnumber(coroutine.State, unit.Id);
        return coroutine;
    }

    /// <summary>Runs until it ends, waits or fails.</summary>
    public int Resume(nint coroutine, int arguments, LuaContext context, LuaPhase phase)
    {
        Running = context;
        Show(context, phase);
        Engine.Entered();
        Volatile.Write(ref _piece, ++_runs);
        _memory->Strict = 1;
        var status = lua_resume(coroutine, arguments);
        _memory->Strict = 0;
        Volatile.Write(ref _piece, 0);
        Running = null;
        Keep(context);
        if (_armed)
        {
            Disarm();
        }
        if (status == OutOfMemory)
        {
            Recover();
        }
        return status;
    }

    // Slots of the table that Lua looks into for what runs.
    const int TableSlot = 1;
    const int PhaseSlot = 2;
    const int ApiSlot = 3;
    const int UnitSlot = 4;

    void Show(LuaContext context, LuaPhase phase)
    {
        if (context.Api == 0 && context.Exchange is not null)
        {
            _apis.TryPop(out context.Api);
        }
        ShowReference(context.Table, TableSlot);
        lua_pushnumber(_state, (int)phase);
        SetSlot(_state, 1, PhaseSlot);
        ShowReference(context.Api, ApiSlot);
        lua_pushnumber(_state, context.Unit?.Id ?? 0);
        SetSlot(_state, 1, UnitSlot);
    }

    void ShowReference(int reference, int slot)
    {
        if (reference == 0)
        {
            lua_pushnil(_state);
        }
        else
        {
            lua_rawgeti(_state, Registry, reference);
        }
        SetSlot(_state, 1, slot);
    }

    /// <summary>Lua makes these tables when it needs them, and lets go of <c>ctx</c> when a request begins anew.</summary>
    void Keep(LuaContext context)
    {
        KeepSlot(ref context.Table, TableSlot);
        KeepSlot(ref context.Api, ApiSlot);
    }

    void KeepSlot(ref int reference, int slot)
    {
        lua_rawgeti(_state, 1, slot);
        var there = lua_type(_state, -1) == LuaType.Table;
        if (there && reference == 0)
        {
            reference = luaL_ref(_state, Registry);
            return;
        }
        lua_settop(_state, -2);
        if (!there && reference != 0)
        {
            Unreference(reference);
            reference = 0;
        }
    }

    /// <summary>A context ends. A <c>ctx</c> into which nothing was put is the next one's.</summary>
    public void Drop(LuaContext context)
    {
        if (context.Api != 0)
        {
            if (context.Table == 0 && _apis.Count < PooledCoroutines && IsUntouched(context.Api))
            {
                _apis.Push(context.Api);
            }
            else
            {
                Unreference(context.Api);
            }
        }
        if (context.Table != 0)
        {
            Unreference(context.Table);
        }
        (context.Table, context.Api) = (0, 0);
    }

    bool IsUntouched(int table)
    {
        lua_rawgeti(_state, Registry, table);
        lua_pushnil(_state);
        var untouched = lua_next(_state, -2) == 0 && lua_getmetatable(_state, -1) != 0;
        if (untouched)
        {
            lua_rawgeti(_state, Registry, _apiMetatable);
            untouched = lua_rawequal(_state, -1, -2) != 0;
        }
        lua_settop(_state, 1);
        return untouched;
    }

    /// <summary>What runs is being stopped: each of its instructions is an error.</summary>
    public bool IsStopping => _stopped is not null;

    /// <summary>Why the script was stopped, and where; null when it was not.</summary>
    public string? TakeStopped()
    {
        var stopped = _stopped;
        _stopped = null;
        return stopped;
    }

    /// <summary>A whole round of Lua's garbage collector.</summary>
    internal void Collect() => lua_gc(_state, 2, 0);

    void Recover()
    {
        Collect();
        IsUsedUp = _memory->Used > _memory->Limit / 10 * 8;
    }

    // -- Units

    /// <summary>Makes sure that the unit is there; the error, or null.</summary>
    public string? Ensure(LuaUnit unit, LuaContext context) => _loaded.Contains(unit.Id) ? null : Load(unit, context);

    string? Load(LuaUnit unit, LuaContext context)
    {
        var error = Call("load", context, (stack, lane) =>
        {
            stack.Push(unit.Id);
            stack.Push(unit.Kind);
            stack.Push(unit.Name);
            if (unit.Configuration is null)
            {
                stack.PushNil();
            }
            else
            {
                stack.Push(unit.Configuration, lane.ArrayMetatable);
            }
            foreach (var function in unit.Functions)
            {
                stack.PushUtf8(function);
            }
            return 4 + unit.Functions.Count;
        }, static stack => stack.Top > 0 && !stack.IsNil(1) ? stack.Text(1) : null);
        if (error is null)
        {
            _loaded.Add(unit.Id);
        }
        return error;
    }

    void Unload(int unit)
    {
        using var context = new LuaContext(this, null);
        Call("unload", context, (stack, _) =>
        {
            stack.Push(unit);
            return 1;
        }, static _ => null);
    }

    /// <summary>Runs an entry that may not wait.</summary>
    /// <returns>What <paramref name="read"/> made of the results, or the error.</returns>
    public string? Call(string entry, LuaContext context, Func<LuaStack, LuaLane, int> push, Func<LuaStack, string?> read,
        LuaPhase phase = LuaPhase.Init)
    {
        var coroutine = RentCoroutine();
        PushEntry(coroutine.State, entry);
        var stack = new LuaStack(coroutine.State);
        var status = Resume(coroutine.State, push(stack, this), context, phase);
        var result = status switch
        {
            0 => read(stack),
            Yielded => "attempt to yield where nothing can be waited for",
            _ => ErrorOf(stack),
        };
        ReturnCoroutine(coroutine, status == 0);
        return result;
    }

    public string ErrorOf(LuaStack stack)
    {
        if (TakeStopped() is { } stopped)
        {
            return stopped;
        }
        return stack.TypeAt(-1) is LuaType.String or LuaType.Number
            ? stack.Utf8(-1)
            : $"(error object is a {LuaStack.Name(stack.TypeAt(-1))} value)";
    }

    /// <summary>Where a coroutine that has failed was, as nginx writes it.</summary>
    public string TraceOf(nint coroutine)
    {
        luaL_traceback(_state, coroutine, null, 0);
        var text = new LuaStack(_state).Utf8(-1);
        lua_settop(_state, -2);
        return "\n" + text;
    }

    // -- Watchdog

    /// <returns>Whether Lua runs here.</returns>
    public bool Watch(long limit)
    {
        var piece = Volatile.Read(ref _piece);
        if (piece == 0)
        {
            return false;
        }
        var now = Stopwatch.GetTimestamp();
        if (piece != _seen)
        {
            (_seen, _seenAt, _seenRun) = (piece, now, ThreadClock.Read(Volatile.Read(ref _clock)));
        }
        else if (now - _seenAt > limit && !_armed && HasRun(limit))
        {
            lock (_hookGate)
            {
                if (!_closed)
                {
                    _armed = true;
                    Volatile.Write(ref _suspect, piece);
                    lua_sethook(_state, (nint)(delegate* unmanaged[Cdecl]<nint, LuaNative.Debug*, void>)&Hook, MaskCount, 1);
                }
            }
        }
        else if (now - _seenAt > limit * TimesUntilTold && _told != piece)
        {
            _told = piece;
            LogRunsOn(Engine.Log, Stopwatch.GetElapsedTime(_seenAt, now).TotalMilliseconds, Running?.Where ?? "");
        }
        return true;
    }

    /// <summary>On a machine that has more to do, time passes in which the script does not run.</summary>
    bool HasRun(long limit) =>
        _seenRun is not { } before || ThreadClock.Read(Volatile.Read(ref _clock)) is not { } now
            || (now - before) * 1e-9 * Stopwatch.Frequency > limit;

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "lua: a script has been running for {Milliseconds:F0} ms without waiting for anything, in {Where}")]
    static partial void LogRunsOn(ILogger logger, double milliseconds, string where);

    void Disarm()
    {
        lock (_hookGate)
        {
            lua_sethook(_state, 0, 0, 0);
            _armed = false;
        }
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    static void Hook(nint state, LuaNative.Debug* debug) => t_lane?.Stop(state, debug);

    /// <summary>
    /// The script's own thread, at its next instruction: notes where it is; from the next one on each raises an error, until Lua is left.
    /// </summary>
    void Stop(nint state, LuaNative.Debug* debug)
    {
        var piece = Volatile.Read(ref _piece);
        if (piece != Volatile.Read(ref _suspect))
        {
            Disarm(); // meant for the piece before this one
            return;
        }
        // A thread that the machine left waiting is soon done when it runs again: only who still runs when the watchdog has looked again,
        // twice, goes on for ever.
        _looks = piece == _lookedAt ? _looks + 1 : 1;
        _lookedAt = piece;
        if (_looks < Looks)
        {
            Disarm();
            return;
        }
        fixed (byte* what = "Sl\0"u8)
        {
            lua_getinfo(state, what, debug);
        }
        var source = Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated((byte*)&debug->ShortSource));
        _stopped =
            $"{source}:{debug->CurrentLine}: stopped: it ran for {Options.TimeLimit.TotalMilliseconds:F0} ms without waiting for anything";
        lua_sethook(state, Raise, MaskCount, 1);
    }

    // -- Called by LuaJIT

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    static void* Allocate(void* data, void* memory, nuint old, nuint size)
    {
        var account = (Memory*)data;
        if (size == 0)
        {
            account->Used -= (long)old;
            free(memory);
            return null;
        }
        var more = (long)size - (long)old;
        if (more > 0 && account->Strict != 0 && account->Used + more > account->Limit)
        {
            return null;
        }
        var moved = realloc(memory, size);
        if (moved is not null)
        {
            account->Used += more;
        }
        return moved;
    }

    /// <summary>
    /// Every host function: found by the number in its upvalue. Nothing is thrown past it; what is becomes <c>FAIL, message</c>.
    /// </summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    static int CallHost(nint state)
    {
        var lane = t_lane!;
        var memory = lane._memory;
        var strict = memory->Strict;
        memory->Strict = 0;
        try
        {
            return LuaHost.Functions[(int)lua_tonumber(state, UpValue(1))].Function(lane, new LuaStack(state));
        }
        catch (Exception e)
        {
            lua_settop(state, 0);
            lua_pushlightuserdata(state, LuaHost.Fail);
            new LuaStack(state).PushUtf8(e is LuaException ? e.Message : $"{e.GetType().Name}: {e.Message}");
            return 2;
        }
        finally
        {
            memory->Strict = strict;
        }
    }
}

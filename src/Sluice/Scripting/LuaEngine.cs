using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Net;
using Sluice.Net.Epoll;

namespace Sluice.Scripting;

/// <param name="Prefix">The instance's directory: <c>lua/</c> under it is searched first.</param>
/// <param name="ExtraPath"><c>apisix.extra_lua_path</c>: templates with a question mark, separated by semicolons.</param>
/// <param name="Sandbox">False: scripts may start processes, use ffi and native modules.</param>
/// <param name="MemoryLimit">Bytes that one lane's state may use.</param>
internal sealed record LuaOptions(string Prefix, string ExtraPath = "", bool Sandbox = true, long MemoryLimit = 256 << 20)
{
    /// <summary>How long a script may run without waiting for anything.</summary>
    public TimeSpan TimeLimit { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>LuaJIT compiles what runs often. What is compiled cannot be stopped.</summary>
    public bool Jit { get; init; }

    /// <summary>Lanes; 0: one per processor.</summary>
    public int Lanes { get; init; }

    /// <summary>conf/config.yaml as JSON, for <c>core.config.local_conf</c>.</summary>
    public string LocalConfiguration { get; init; } = "{}";

    /// <summary><c>apisix.id</c>; empty: one is made.</summary>
    public string InstanceId { get; init; } = "";
}

/// <summary>
/// Runs Lua on LuaJIT. There is a lane per processor: a Lua state and the guarantee that one thread at a time is in it. A request keeps to
/// one lane.
/// Unless asked otherwise code runs in LuaJIT's interpreter: compiled code could not be stopped, and a script that runs away must be.
/// </summary>
internal sealed partial class LuaEngine : IDisposable
{
    readonly LuaLane?[] _lanes;
    readonly Lock _making = new();
    readonly ConcurrentDictionary<string, SharedDictionary> _dictionaries = new(StringComparer.Ordinal);
    readonly ConcurrentDictionary<LuaLane, bool> _unlisted = new();
    readonly AutoResetEvent _wake = new(false);
    Thread? _watchdog;
    volatile bool _parked;
    volatile bool _disposed;
    int _turn;
    int _lastUnit;
    int _pendingTimers;
    int _runningTimers;

    public LuaEngine(LuaOptions options, TimeProvider time, ILogger? logger = null, HostResolver? resolver = null)
    {
        Options = options;
        Time = time;
        Log = logger ?? NullLogger.Instance;
        Resolver = resolver ?? new HostResolver();
        _lanes = new LuaLane?[options.Lanes > 0 ? options.Lanes : Environment.ProcessorCount];
    }

    /// <summary>Null, or why no Lua can be run: the package that is missing.</summary>
    public static string? Missing { get; } = LuaNative.Available
        ? null
        : $"Lua needs LuaJIT, which is not installed: apt-get install {LuaNative.Package}";

    /// <summary>Of the states that are made from now on.</summary>
    public LuaOptions Options { get; private set; }

    public TimeProvider Time { get; }

    internal ILogger Log { get; }

    internal HostResolver Resolver { get; }

    internal const int MaxTimers = 4096;

    const int MaxDictionaries = 256;

    internal int NextUnit() => Interlocked.Increment(ref _lastUnit);

    internal SharedDictionary? Dictionary(string name) =>
        _dictionaries.TryGetValue(name, out var known) ? known
        : _dictionaries.Count >= MaxDictionaries ? null
        : _dictionaries.GetOrAdd(name, _ => new SharedDictionary(Time));

    /// <summary>
    /// The lane for a new request: that of the event loop it is on, so that nobody else wants it; on other threads in turn.
    /// </summary>
    internal LuaLane Pick()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        var turn = EventLoop.Current is { } loop ? loop.Index : Interlocked.Increment(ref _turn);
        return At((int)((uint)turn % (uint)_lanes.Length));
    }

    internal LuaLane At(int index)
    {
        var lane = Volatile.Read(ref _lanes[index]);
        return lane is { IsUsedUp: false } ? lane : Replace(index, lane);
    }

    LuaLane Replace(int index, LuaLane? old)
    {
        lock (_making)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            var current = _lanes[index];
            if (current is { IsUsedUp: false })
            {
                return current;
            }
            if (Missing is { } missing)
            {
                throw new InvalidOperationException(missing);
            }
            if (current is not null)
            {
                LogUsedUp(Log, index, Options.MemoryLimit >> 20);
            }
            var fresh = new LuaLane(this, index, Options);
            Put(index, fresh);
            if (_watchdog is null)
            {
                _watchdog = new Thread(Watch) { IsBackground = true, Name = "lua watchdog" };
                _watchdog.Start();
            }
            return fresh;
        }
    }

    /// <summary>No request comes to it, any more or yet; the watchdog looks after it as well.</summary>
    internal void WatchUnlisted(LuaLane lane) => _unlisted[lane] = true;

    internal void Closed(LuaLane lane) => _unlisted.TryRemove(lane, out _);

    internal IEnumerable<LuaLane> Made
    {
        get
        {
            foreach (var lane in _lanes)
            {
                if (lane is not null)
                {
                    yield return lane;
                }
            }
        }
    }

    internal bool TryStartTimer()
    {
        if (Interlocked.Increment(ref _pendingTimers) <= MaxTimers)
        {
            return true;
        }
        Interlocked.Decrement(ref _pendingTimers);
        return false;
    }

    /// <summary>It waits no more.</summary>
    internal void TimerRuns()
    {
        Interlocked.Increment(ref _runningTimers);
        Interlocked.Decrement(ref _pendingTimers);
    }

    internal void TimerEnded() => Interlocked.Decrement(ref _runningTimers);

    internal int PendingTimers => Volatile.Read(ref _pendingTimers);

    internal int RunningTimers => Volatile.Read(ref _runningTimers);

    // -- Watchdog

    internal void Entered()
    {
        if (_parked)
        {
            _parked = false;
            _wake.Set();
        }
    }

    /// <summary>Looks every 10 ms whether a lane has been in one piece of Lua for too long; sleeps while nothing runs.</summary>
    void Watch()
    {
        var idle = 0;
        // from when it has seen the piece for the first time: that and the looks after it are the rest
        var limit = (long)(Options.TimeLimit.TotalSeconds * Stopwatch.Frequency) * 6 / 10;
        while (!_disposed)
        {
            var parked = _parked;
            _wake.WaitOne(parked ? Timeout.Infinite : 10);
            // whoever was woken stays awake for a while: waking it costs more than a short script
            idle = parked ? 0 : idle + 1;
            foreach (var lane in _lanes)
            {
                idle = lane?.Watch(limit) == true ? 0 : idle;
            }
            foreach (var (lane, _) in _unlisted)
            {
                idle = lane.Watch(limit) ? 0 : idle;
            }
            _parked = idle > 100;
        }
    }

    public void Dispose()
    {
        lock (_making)
        {
            for (var i = 0; i < _lanes.Length; i++)
            {
                Put(i, null);
            }
            _disposed = true;
            _wake.Set();
        }
    }

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "Lua state {Index} holds nearly all of the {Limit} MiB that it may: a new one takes its place")]
    static partial void LogUsedUp(ILogger logger, int index, long limit);
}

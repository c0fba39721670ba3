using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace Sluice.Net.Epoll;

/// <summary>
/// One thread that waits for its sockets with epoll, edge-triggered, and runs whoever waits for them, so that a request with everything it
/// needs stays on one core without locks. Nothing that runs here may block.
/// </summary>
internal sealed partial class EventLoop : IDisposable
{
    const int EventsPerWait = 256;

    static readonly TimeSpan LongRound = TimeSpan.FromMilliseconds(5);

    readonly record struct Work(Action<object?> Action, object? State);

    [ThreadStatic]
    static EventLoop? t_current;

    readonly Thread _thread;
    readonly ILogger _log;
    readonly TimerWheel _timers = new(Stopwatch.GetTimestamp(),
        static time => time / (Stopwatch.Frequency * TimerWheel.TickMilliseconds / 1000));
    readonly int _epoll = Posix.CreateEpoll();
    readonly int _wakeup = Posix.CreateWakeup();
    readonly ConcurrentQueue<Work> _posted = new();
    readonly byte[] _scratch = new byte[64 * 1024];
    Queue<Work> _own = new();
    Queue<Work> _running = new();
    LoopSocket?[] _sockets = new LoopSocket?[256];
    uint[] _generations = new uint[256];
    readonly Stack<int> _free = new();
    int _used;
    int _signalled;
    volatile bool _stopping;

    internal EventLoop(int index, ILogger log)
    {
        Index = index;
        _log = log;
        Posix.Add(_epoll, _wakeup, Posix.In | Posix.EdgeTriggered, ulong.MaxValue);
        _thread = new Thread(Run) { IsBackground = true, Name = $"loop {index}" };
        _thread.Start();
    }

    public int Index { get; }

    /// <summary>The loop whose thread this is; null on any other thread.</summary>
    public static EventLoop? Current => t_current;

    /// <summary>Whether this is the loop's thread.</summary>
    public bool IsCurrent => t_current == this;

    /// <summary>Timestamp of <see cref="Stopwatch"/> when this round began: as exact as timeouts need it, for the price of a
    /// field.</summary>
    public long Now { get; private set; } = Stopwatch.GetTimestamp();

    /// <summary>Counts rounds: each handles what was ready when it began.</summary>
    internal uint Round { get; private set; }

    /// <summary>For bytes that are passed on before the next await.</summary>
    internal Memory<byte> Scratch => _scratch;

    /// <summary>The local end of the connection accepted last: most have the same.</summary>
    internal IPEndPoint? LastLocal { get; set; }

    /// <summary>Runs an action on the loop: now is never, the next round at the latest. From any thread.</summary>
    public void Post(Action<object?> action, object? state)
    {
        if (IsCurrent)
        {
            _own.Enqueue(new(action, state));
            return;
        }
        _posted.Enqueue(new(action, state));
        if (Interlocked.Exchange(ref _signalled, 1) == 0)
        {
            Posix.Signal(_wakeup);
        }
    }

    /// <summary>Awaiting it goes on on the loop's thread; at once when it is there already.</summary>
    public Switch SwitchTo() => new(this);

    /// <summary>Awaiting it leaves the loop for the thread pool: for what may block or compute long. Awaiting any socket of the loop comes
    /// back.</summary>
    public static ThreadPoolSwitch Leave() => default;

    /// <summary>Awaiting it gives the others their turn: it goes on in the loop's next round, elsewhere on the thread pool.</summary>
    public static NextTurn Later() => default;

    /// <summary>This round has gone on for so long that who could go on should rather await <see cref="Later"/>. On the loop.</summary>
    public bool IsLate => Stopwatch.GetElapsedTime(Now) > LongRound;

    internal void Set(WheelTimer timer, long due)
    {
        if (_timers.Set(timer, due) && !IsCurrent)
        {
            Post(static _ => { }, null);
        }
    }

    /// <summary>How many timers are armed.</summary>
    internal int Timers => _timers.Count;

    internal void Remove(WheelTimer timer) => _timers.Remove(timer);

    // -- Sockets

    internal void Add(LoopSocket socket, uint events)
    {
        Debug.Assert(IsCurrent);
        if (!_free.TryPop(out var slot))
        {
            slot = _used++;
            if (slot == _sockets.Length)
            {
                Array.Resize(ref _sockets, slot * 2);
                Array.Resize(ref _generations, slot * 2);
            }
        }
        try
        {
            Posix.Add(_epoll, socket.Descriptor, events, ((ulong)_generations[slot] << 32) | (uint)slot);
        }
        catch
        {
            _free.Push(slot);
            throw;
        }
        socket.Slot = slot;
        _sockets[slot] = socket;
    }

    internal void Remove(LoopSocket socket)
    {
        Debug.Assert(IsCurrent);
        if (socket.Slot < 0)
        {
            // the kernel refused to watch it: it has no slot to give back
            return;
        }
        _sockets[socket.Slot] = null;
        _generations[socket.Slot]++;
        _free.Push(socket.Slot);
        Posix.Remove(_epoll, socket.Descriptor);
    }

    // -- The loop

    void Run()
    {
        t_current = this;
        var events = new Posix.Event[EventsPerWait];
        while (!_stopping)
        {
            try
            {
                RunOnce(events);
            }
            catch (Exception e)
            {
                // handlers keep their failures to themselves; a bug in one must not stop the others
                LogBug(e, Index);
            }
        }
        Posix.Close(_epoll);
        Posix.Close(_wakeup);
    }

    void RunOnce(Posix.Event[] events)
    {
        var busy = _own.Count > 0 || !_posted.IsEmpty;
        var count = Posix.Wait(_epoll, events, busy ? 0 : _timers.Sleep(Stopwatch.GetTimestamp()));
        Now = Stopwatch.GetTimestamp();
        Round++;
        for (var i = 0; i < count; i++)
        {
            try
            {
                Dispatch(events[i]);
            }
            catch (Exception e)
            {
                // edge-triggered: the events behind it would not be told again
                LogBug(e, Index);
            }
        }
        RunPosted();
        _timers.Advance(Now);
    }

    void Dispatch(in Posix.Event one)
    {
        if (one.Data == ulong.MaxValue)
        {
            Posix.TakeSignal(_wakeup);
            Volatile.Write(ref _signalled, 0);
            return;
        }
        var slot = (int)(uint)one.Data;
        // the descriptor may have been closed, and its slot taken again, by what ran before in this round
        if (_generations[slot] == (uint)(one.Data >> 32) && _sockets[slot] is { } socket)
        {
            socket.OnEvents(one.Events);
        }
    }

    /// <summary>What was posted before: what that posts itself waits for the next round, so sockets get their turn.</summary>
    void RunPosted()
    {
        (_running, _own) = (_own, _running);
        for (var other = _posted.Count; other > 0 && _posted.TryDequeue(out var work); other--)
        {
            Run(work);
        }
        while (_running.TryDequeue(out var work))
        {
            Run(work);
        }
    }

    void Run(in Work work)
    {
        try
        {
            work.Action(work.State);
        }
        catch (Exception e)
        {
            LogBug(e, Index);
        }
    }

    /// <summary>Ends the thread. What still waits on the loop waits forever: connections are closed before.</summary>
    public void Dispose()
    {
        if (_stopping)
        {
            return;
        }
        _stopping = true;
        Post(static _ => { }, null);
        if (!IsCurrent)
        {
            _thread.Join();
        }
    }

    public readonly struct Switch(EventLoop loop) : ICriticalNotifyCompletion
    {
        public Switch GetAwaiter() => this;

        public bool IsCompleted => loop.IsCurrent;

        public void OnCompleted(Action continuation) => UnsafeOnCompleted(continuation);

        public void UnsafeOnCompleted(Action continuation) => loop.Post(static action => ((Action)action!)(), continuation);

        public void GetResult()
        {
        }
    }

    public readonly struct NextTurn : ICriticalNotifyCompletion
    {
        public NextTurn GetAwaiter() => this;

        public bool IsCompleted => false;

        public void OnCompleted(Action continuation) => UnsafeOnCompleted(continuation);

        public void UnsafeOnCompleted(Action continuation)
        {
            if (Current is { } loop)
            {
                loop.SwitchTo().UnsafeOnCompleted(continuation);
            }
            else
            {
                Leave().UnsafeOnCompleted(continuation);
            }
        }

        public void GetResult()
        {
        }
    }

    public readonly struct ThreadPoolSwitch : ICriticalNotifyCompletion
    {
        public ThreadPoolSwitch GetAwaiter() => this;

        public bool IsCompleted => Current is null;

        public void OnCompleted(Action continuation) => UnsafeOnCompleted(continuation);

        public void UnsafeOnCompleted(Action continuation) =>
            ThreadPool.UnsafeQueueUserWorkItem(static action => action(), continuation, preferLocal: false);

        public void GetResult()
        {
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "unexpected failure on event loop {Index}")]
    partial void LogBug(Exception exception, int index);
}

/// <summary>The event loops of a gateway, one for each core it may use.</summary>
internal sealed class EventLoops(int count, ILogger log) : IDisposable
{
    readonly EventLoop[] _loops = [.. Enumerable.Range(0, count).Select(index => new EventLoop(index, log))];

    /// <summary>Whether event loops can run on this system.</summary>
    public static bool AreSupported => Posix.IsSupported;

    public IReadOnlyList<EventLoop> All => _loops;

    public void Dispose()
    {
        foreach (var loop in _loops)
        {
            loop.Dispose();
        }
    }
}

using System.Net;
using System.Net.Sockets;
using System.Threading.Tasks.Sources;

namespace Sluice.Net.Epoll;

/// <summary>Takes what a socket has to say, again and again, without being asked to wait each time.</summary>
interface ILoopReader
{
    /// <summary>A receive may have something to say, or the socket was closed. On the loop.</summary>
    void OnReadable();
}

/// <summary>
/// A socket of an event loop. System calls happen on the loop's thread only; whoever waits from elsewhere is continued on the loop. At most
/// one wait for reading and one for writing at a time. Holds no buffer.
/// </summary>
class LoopSocket
{
    /// <summary>What one socket may do in a round before the others get their turn.</summary>
    const int BytesPerRound = 256 * 1024;
    const int WaitsPerRound = 64;

    enum Life
    {
        Open,
        Closing,
        Closed,
    }

    Waiter? _reading, _writing;
    // an Action or a Waiter: a delegate for each waiter would be 64 bytes of each connection
    object? _onReadable, _onWritable;
    int _life;
    bool _readable;
    bool _writable;
    bool _peerClosed;
    uint _round;
    int _bytes;
    int _waits;

    /// <param name="connected">It may be used at once; otherwise the kernel says when (a connect under way).</param>
    protected LoopSocket(EventLoop loop, int descriptor, bool connected)
    {
        Loop = loop;
        Descriptor = descriptor;
        _readable = _writable = connected;
    }

    public EventLoop Loop { get; }

    internal int Descriptor { get; }

    /// <summary>Its place among the loop's sockets; -1: not registered.</summary>
    internal int Slot { get; set; } = -1;

    /// <summary>There may be something to receive or accept; false until the kernel says so again.</summary>
    protected bool Readable { get => _readable; set => _readable = value; }

    public bool IsClosed => Volatile.Read(ref _life) != (int)Life.Open;

    /// <summary>Begins to watch the socket. On the loop.</summary>
    /// <exception cref="SocketException">The kernel's table of watched descriptors is full.</exception>
    internal void Register() => Loop.Add(this, Posix.In | Posix.Out | Posix.PeerClosed | Posix.EdgeTriggered);

    // -- Events, on the loop

    internal void OnEvents(uint events)
    {
        var ended = (events & (Posix.Hup | Posix.Err | Posix.PeerClosed)) != 0;
        _peerClosed |= ended;
        if (ended || (events & Posix.In) != 0)
        {
            _readable = true;
            WakeReader();
        }
        if ((events & (Posix.Out | Posix.Hup | Posix.Err)) != 0)
        {
            _writable = true;
            WakeWriter();
        }
        if (ended && !IsClosed)
        {
            OnPeerClosed();
        }
    }

    /// <summary>The peer sends no more (FIN), or the connection broke. Called on the loop, once or more.</summary>
    protected virtual void OnPeerClosed()
    {
    }

    /// <summary>Who takes what comes until further notice; nobody may wait for it meanwhile.</summary>
    public ILoopReader? Reader { get; set; }

    /// <summary>The reader is not done, but others have their turn first. On the loop.</summary>
    public void ReadLater() => Loop.Post(static socket => ((LoopSocket)socket!).WakeReader(), this);

    void WakeReader()
    {
        if (Reader is { } reader)
        {
            reader.OnReadable();
            return;
        }
        var waiting = _onReadable;
        _onReadable = null;
        Tell(waiting);
    }

    void WakeWriter()
    {
        var waiting = _onWritable;
        _onWritable = null;
        Tell(waiting);
    }

    static void Tell(object? waiting)
    {
        if (waiting is Waiter waiter)
        {
            waiter.Complete();
        }
        else
        {
            ((Action?)waiting)?.Invoke();
        }
    }

    // -- Reading

    /// <summary>Completes when a receive would have something to say: bytes, the end or a failure.</summary>
    public ValueTask WaitReadableAsync()
    {
        if (Loop.IsCurrent && IsReadable)
        {
            return default;
        }
        _reading ??= new(this, reads: true);
        return _reading.Arm();
    }

    /// <summary>Whether a receive may say something now, and it is this socket's turn. On the loop.</summary>
    public bool IsReadable => _readable && InTurn();

    /// <summary>The kernel has more than this round let it take.</summary>
    public bool HasMore => _readable;

    /// <summary>Calls back once when a receive would have something to say: never from within. On the loop.</summary>
    public void WhenReadable(Action callback) => WhenReadable((object)callback);

    void WhenReadable(object callback)
    {
        _onReadable = callback;
        if (_readable || IsClosed)
        {
            // had its turn in this round, or comes from another thread
            Loop.Post(static socket => ((LoopSocket)socket!).WakeReader(), this);
        }
    }

    bool InTurn()
    {
        if (_round != Loop.Round)
        {
            _round = Loop.Round;
            _bytes = _waits = 0;
        }
        return _bytes < BytesPerRound && ++_waits <= WaitsPerRound;
    }

    /// <summary>Bytes, 0 at the end, -1: nothing there now. On the loop.</summary>
    /// <exception cref="SocketException">The connection broke.</exception>
    /// <exception cref="ObjectDisposedException">It was closed here.</exception>
    public int TryReceive(Span<byte> into)
    {
        ThrowIfClosed();
        var count = Posix.Receive(Descriptor, into);
        if (count >= 0)
        {
            _bytes += count;
            // edge-triggered: what comes after a short receive is told again, except an end that was told already
            _readable = count == into.Length || count == 0 || _peerClosed;
            return count;
        }
        if (count == -Posix.Again)
        {
            _readable = false;
            return -1;
        }
        return count == -Posix.Interrupted ? TryReceive(into) : throw Posix.Failure(-count);
    }

    // -- Writing

    /// <summary>Completes when the kernel has room again, or the connection broke.</summary>
    public ValueTask WaitWritableAsync()
    {
        if (Loop.IsCurrent && _writable)
        {
            return default;
        }
        _writing ??= new(this, reads: false);
        return _writing.Arm();
    }

    /// <summary>Connected: nobody waits for room as long as a stream is silent.</summary>
    internal void ForgetWriter() => _writing = null;

    /// <summary>Calls back once when the kernel has room again, or the connection broke: never from within. On the loop.</summary>
    public void WhenWritable(Action callback) => WhenWritable((object)callback);

    void WhenWritable(object callback)
    {
        _onWritable = callback;
        if (_writable || IsClosed)
        {
            Loop.Post(static socket => ((LoopSocket)socket!).WakeWriter(), this);
        }
    }

    /// <summary>How many bytes the kernel took: less than all means that it is full. On the loop.</summary>
    /// <param name="more">More is sent at once: the kernel may wait for it before it sends a packet.</param>
    /// <exception cref="SocketException">The connection broke.</exception>
    /// <exception cref="ObjectDisposedException">It was closed here.</exception>
    public int TrySend(ReadOnlySpan<byte> bytes, bool more = false)
    {
        ThrowIfClosed();
        var sent = 0;
        while (sent < bytes.Length)
        {
            var count = Posix.Send(Descriptor, bytes[sent..], more);
            if (count >= 0)
            {
                sent += count;
            }
            else if (count == -Posix.Again)
            {
                _writable = false;
                break;
            }
            else if (count != -Posix.Interrupted)
            {
                throw Posix.Failure(-count);
            }
        }
        return sent;
    }

    /// <summary>FIN: no more bytes come from here. From any thread.</summary>
    public void ShutdownSend() => OnLoop(static socket => Posix.ShutdownSend(socket.Descriptor));

    /// <summary>The error that the socket met meanwhile, as after a connect; 0: none.</summary>
    public int PendingError() => Posix.PendingError(Descriptor);

    public IPEndPoint? LocalEndPoint => IsClosed ? null : Posix.LocalEndPoint(Descriptor);

    void OnLoop(Action<LoopSocket> action)
    {
        if (!Loop.IsCurrent)
        {
            Loop.Post(static state =>
            {
                var (socket, action) = ((LoopSocket, Action<LoopSocket>))state!;
                socket.OnLoop(action);
            }, (this, action));
        }
        else if (_life != (int)Life.Closed)
        {
            action(this);
        }
    }

    // -- The end

    /// <summary>Closes the connection from any thread; who waits gets an <see cref="ObjectDisposedException"/> from the next
    /// call.</summary>
    /// <param name="reset">With RST instead of FIN.</param>
    public void Close(bool reset)
    {
        if (Interlocked.CompareExchange(ref _life, (int)Life.Closing, (int)Life.Open) != (int)Life.Open)
        {
            return;
        }
        if (reset)
        {
            Posix.DropOnClose(Descriptor);
        }
        if (Loop.IsCurrent)
        {
            CloseNow();
        }
        else
        {
            Loop.Post(static socket => ((LoopSocket)socket!).CloseNow(), this);
        }
    }

    void CloseNow()
    {
        _life = (int)Life.Closed;
        Loop.Remove(this);
        Posix.Close(Descriptor);
        OnClosed();
        // never from within the call that closes: it may hold a lock
        if (Reader is not null || _onReadable is not null || _onWritable is not null)
        {
            Loop.Post(static socket => ((LoopSocket)socket!).WakeAll(), this);
        }
    }

    /// <summary>The descriptor is closed. Called on the loop.</summary>
    protected virtual void OnClosed()
    {
    }

    void WakeAll()
    {
        WakeReader();
        WakeWriter();
    }

    void ThrowIfClosed() => ObjectDisposedException.ThrowIf(_life != (int)Life.Open, this);

    /// <summary>
    /// One side waiting; used again and again. Its start runs on the loop once somebody is there to be continued, so that the continuation
    /// always runs on the loop too.
    /// </summary>
    sealed class Waiter(LoopSocket socket, bool reads) : IValueTaskSource
    {
        ManualResetValueTaskSourceCore<bool> _core;

        public ValueTask Arm() => new(this, _core.Version);

        public void Complete() => _core.SetResult(true);

        void IValueTaskSource.GetResult(short token) => _core.Take(token);

        ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _core.GetStatus(token);

        void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags)
        {
            _core.OnCompleted(continuation, state, token, flags);
            if (socket.Loop.IsCurrent)
            {
                Start();
            }
            else
            {
                socket.Loop.Post(static waiter => ((Waiter)waiter!).Start(), this);
            }
        }

        void Start()
        {
            if (reads)
            {
                socket.WhenReadable(this);
            }
            else
            {
                socket.WhenWritable(this);
            }
        }
    }
}

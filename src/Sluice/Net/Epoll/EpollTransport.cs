using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace Sluice.Net.Epoll;

/// <summary>Kestrel's transport over the event loops: each loop listens on the address itself, and keeps the connections that it
/// accepts.</summary>
/// <param name="dualMode">An IPv6 address takes IPv4 clients too.</param>
/// <param name="serving">Who serves the connections right where they are accepted; null: Kestrel.</param>
internal sealed class EpollTransport(EventLoops loops, bool dualMode, ILogger<EpollTransport> log, IConnectionServer? serving = null,
    ListenSockets? sockets = null) : IConnectionListenerFactory, IConnectionListenerFactorySelector
{
    public bool CanBind(EndPoint endpoint) => endpoint is IPEndPoint;

    /// <exception cref="AddressInUseException">Somebody listens there.</exception>
    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        try
        {
            return new(new EpollListener((IPEndPoint)endpoint, loops.All, dualMode, log, serving, sockets));
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            throw new AddressInUseException(e.Message, e);
        }
    }
}

/// <summary>Serves connections on the loops that accepted them, past Kestrel.</summary>
internal interface IConnectionServer
{
    /// <summary>A new connection; whoever serves it also disposes it. On its loop.</summary>
    void Serve(EpollConnection connection);

    /// <summary>The address takes no more of them.</summary>
    void Stop();
}

/// <summary>An address that every loop listens on.</summary>
sealed partial class EpollListener : IConnectionListener
{
    const int Backlog = 4096;
    const int AcceptsPerRound = 64;
    const int PauseMilliseconds = 200;

    readonly ILogger _log;
    readonly IConnectionServer? _serving;
    readonly Channel<ConnectionContext> _accepted = Channel.CreateUnbounded<ConnectionContext>(new() { SingleReader = true });
    readonly List<Acceptor> _acceptors = [];
    long _warned;

    public EpollListener(IPEndPoint address, IReadOnlyList<EventLoop> loops, bool dualMode, ILogger log, IConnectionServer? serving,
        ListenSockets? sockets)
    {
        _log = log;
        _serving = serving;
        Probe(address, dualMode);
        try
        {
            foreach (var loop in loops)
            {
                // port 0: the first one finds it, the others share it
                var acceptor = new Acceptor(this, loop, Listen(address, dualMode));
                _acceptors.Add(acceptor);
                sockets?.Add(keepAlive => TcpKeepAlive.Apply(keepAlive, acceptor.Descriptor));
                address = Posix.LocalEndPoint(acceptor.Descriptor)!;
            }
        }
        catch
        {
            _acceptors.ForEach(acceptor => Posix.Close(acceptor.Descriptor));
            throw;
        }
        EndPoint = address;
        _acceptors.ForEach(static acceptor => acceptor.Start());
    }

    public EndPoint EndPoint { get; }

    /// <summary>A shared address may be joined by any process of the user's: another gateway on it must be an error all the same.</summary>
    static void Probe(IPEndPoint address, bool dualMode)
    {
        if (address.Port == 0)
        {
            return;
        }
        var descriptor = Posix.Open(address);
        try
        {
            Posix.Bind(descriptor, address, shared: false, dualMode);
        }
        finally
        {
            Posix.Close(descriptor);
        }
    }

    static int Listen(IPEndPoint address, bool dualMode)
    {
        var descriptor = Posix.Open(address);
        try
        {
            Posix.Bind(descriptor, address, shared: true, dualMode);
            Posix.Listen(descriptor, Backlog);
            return descriptor;
        }
        catch
        {
            Posix.Close(descriptor);
            throw;
        }
    }

    public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
    {
        try
        {
            return await _accepted.Reader.ReadAsync(cancellationToken);
        }
        catch (ChannelClosedException)
        {
            return null;
        }
    }

    public async ValueTask UnbindAsync(CancellationToken cancellationToken = default)
    {
        foreach (var acceptor in _acceptors)
        {
            await acceptor.StopAsync();
        }
        _serving?.Stop();
        _accepted.Writer.TryComplete();
    }

    public ValueTask DisposeAsync() => UnbindAsync();

    void WarnPaused(int error)
    {
        if (MayWarn())
        {
            LogPaused(EndPoint.ToString()!, Posix.Failure(error).Message);
        }
    }

    void WarnRefused()
    {
        if (MayWarn())
        {
            LogRefused(EndPoint.ToString()!, Descriptors.Limit);
        }
    }

    bool MayWarn()
    {
        var now = Environment.TickCount64;
        if (now - Interlocked.Read(ref _warned) < 5_000)
        {
            return false;
        }
        Interlocked.Exchange(ref _warned, now);
        return true;
    }

    [LoggerMessage(Level = LogLevel.Error,
        Message = "{Address}: connections are refused: of {Limit} file descriptors only the reserve is left")]
    partial void LogRefused(string address, int limit);

    /// <summary>One loop's listening socket.</summary>
    sealed class Acceptor(EpollListener listener, EventLoop loop, int descriptor) : LoopSocket(loop, descriptor, connected: true)
    {
        readonly TaskCompletionSource _stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Start() => Loop.Post(static acceptor => ((Acceptor)acceptor!).Begin(), this);

        async void Begin()
        {
            try
            {
                Register();
                while (!IsClosed)
                {
                    await WaitReadableAsync();
                    if (AcceptSome() is var error and not 0)
                    {
                        // no descriptors: those that wait in the queue go on waiting, and nobody spins
                        listener.WarnPaused(error);
                        await new Pause(Loop).For(PauseMilliseconds);
                    }
                }
            }
            catch (Exception e)
            {
                listener.LogAcceptFailed(e, listener.EndPoint.ToString()!);
            }
            _stopped.TrySetResult();
        }

        public Task StopAsync()
        {
            Loop.Post(static acceptor => ((Acceptor)acceptor!).Stop(), this);
            return _stopped.Task;
        }

        void Stop()
        {
            if (!IsClosed)
            {
                // who is in the queue already has been told that the connection is there
                while (AcceptSome() == 0 && Readable)
                {
                }
                Close(reset: false);
            }
            _stopped.TrySetResult();
        }

        /// <summary>0, or the error that asks for a pause.</summary>
        int AcceptSome()
        {
            for (var i = 0; i < AcceptsPerRound && !IsClosed; i++)
            {
                var accepted = Posix.Accept(Descriptor);
                if (accepted >= 0 && Descriptors.IsShort(accepted))
                {
                    Posix.Close(accepted);
                    listener.WarnRefused();
                    continue;
                }
                if (accepted >= 0)
                {
                    Take(accepted);
                    continue;
                }
                switch (-accepted)
                {
                    case Posix.Again:
                        Readable = false;
                        return 0;
                    case Posix.TooManyFiles or Posix.TooManyFilesOfSystem or Posix.NoMemory or Posix.NoBuffers:
                        return -accepted;
                    default:
                        // that connection is gone again
                        continue;
                }
            }
            return 0;
        }

        void Take(int accepted)
        {
            Posix.SetNoDelay(accepted);
            var connection = new EpollConnection(Loop, accepted);
            try
            {
                connection.Register();
            }
            catch (SocketException e)
            {
                Posix.Close(accepted);
                listener.LogAcceptFailed(e, listener.EndPoint.ToString()!);
                return;
            }
            if (listener._serving is { } serving)
            {
                serving.Serve(connection);
                return;
            }
            if (!listener._accepted.Writer.TryWrite(connection))
            {
                connection.Abort(new ConnectionAbortedException("no longer listening"));
            }
        }
    }

    /// <summary>A rest on the loop.</summary>
    sealed class Pause(EventLoop loop) : WheelTimer
    {
        readonly TaskCompletionSource _over = new();

        public Task For(int milliseconds)
        {
            loop.Set(this, System.Diagnostics.Stopwatch.GetTimestamp() + (System.Diagnostics.Stopwatch.Frequency * milliseconds / 1000));
            return _over.Task;
        }

        protected internal override void Due() => _over.TrySetResult();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Address}: new connections wait, they cannot be accepted now: {Reason}")]
    partial void LogPaused(string address, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Address}: accepting failed")]
    partial void LogAcceptFailed(Exception exception, string address);
}

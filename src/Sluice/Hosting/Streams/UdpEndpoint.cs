using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;
using Sluice.Net;

namespace Sluice.Hosting.Streams;

/// <summary>
/// One address whose UDP datagrams are relayed. What a client's address and port sends is one session, with a socket of its own towards the
/// upstream; silence ends it.
/// </summary>
sealed partial class UdpEndpoint : IStreamEndpoint
{
    const int MaxDatagram = 65_535, MaxWaiting = 64;

    /// <summary>After the address was closed a session that is silent for so long is over.</summary>
    static readonly TimeSpan DrainIdle = TimeSpan.FromSeconds(2);

    readonly Socket _socket;
    readonly StreamPipeline _pipeline;
    readonly LiveConfiguration _live;
    readonly ILogger _log;
    readonly ConcurrentDictionary<IPEndPoint, Session> _sessions = new();
    readonly CancellationTokenSource _aborting = new();
    readonly Task _receiving;
    readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    volatile bool _draining;
    int _open = 1;

    /// <exception cref="SocketException">The address is in use or not there.</exception>
    public UdpEndpoint(StreamAddress address, StreamPipeline pipeline, LiveConfiguration live, ILogger<UdpEndpoint> log)
    {
        (Address, _pipeline, _live, _log) = (address, pipeline, live, log);
        _socket = new Socket(address.EndPoint.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
        try
        {
            _socket.SetSocketOption(address.EndPoint.AddressFamily == AddressFamily.InterNetwork ? SocketOptionLevel.IP
                : SocketOptionLevel.IPv6, SocketOptionName.PacketInformation, true);
            _socket.Bind(address.EndPoint);
        }
        catch
        {
            _socket.Dispose();
            throw;
        }
        Bound = (IPEndPoint)_socket.LocalEndPoint!;
        _receiving = ReceiveAsync();
    }

    public StreamAddress Address { get; }

    public IPEndPoint Bound { get; }

    async Task ReceiveAsync()
    {
        var buffer = new byte[MaxDatagram];
        var anybody = new IPEndPoint(Bound.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
        while (!_aborting.IsCancellationRequested)
        {
            try
            {
                var received = await _socket.ReceiveMessageFromAsync(buffer, SocketFlags.None, anybody, _aborting.Token);
                var datagram = buffer.AsSpan(0, received.ReceivedBytes).ToArray();
                Take((IPEndPoint)received.RemoteEndPoint, new IPEndPoint(received.PacketInformation.Address ?? Bound.Address, Bound.Port),
                    datagram);
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
            {
                return;
            }
            catch (SocketException e)
            {
                LogReceiveFailed(Address.ToString(), e.Message);
            }
        }
    }

    void Take(IPEndPoint client, IPEndPoint local, byte[] datagram)
    {
        if (_sessions.TryGetValue(client, out var known))
        {
            known.Waiting.Writer.TryWrite(datagram);
            return;
        }
        var max = _live.Current.Settings.Streams.MaxSessions;
        if (_draining || _sessions.Count >= max)
        {
            if (!_draining)
            {
                LogTooMany(Address.ToString(), max);
            }
            return;
        }
        var session = new Session(this, client, local, datagram);
        if (_sessions.TryAdd(client, session))
        {
            Interlocked.Increment(ref _open);
            _ = Task.Run(session.RunAsync);
        }
    }

    sealed class Session(UdpEndpoint endpoint, IPEndPoint client, IPEndPoint local, byte[] first)
    {
        readonly CancellationTokenSource _end = CancellationTokenSource.CreateLinkedTokenSource(endpoint._aborting.Token);
        IdleDeadline? _silence;

        // Full: the upstream is slower than the client; datagrams may be lost.
        public Channel<byte[]> Waiting { get; } =
            Channel.CreateBounded<byte[]>(
                new BoundedChannelOptions(MaxWaiting) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true });

        public async Task RunAsync()
        {
            var snapshot = endpoint._live.Enter(out var seat);
            var session = new StreamSession(
                snapshot, endpoint._pipeline.Services, true, client, local, null,
                count => new(first.AsMemory(0, Math.Min(count, first.Length))))
            {
                Seat = seat,
            };
            var how = "refused";
            try
            {
                if (!await endpoint._pipeline.AdmitAsync(session))
                {
                    return;
                }
                using var upstream = await endpoint._pipeline.ConnectAsync(session, _end.Token);
                how = upstream is null ? "no upstream could be reached" : await RelayAsync(session, upstream.Socket);
            }
            catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                how = e.Message;
            }
            catch (Exception e)
            {
                endpoint.LogBug(e, endpoint.Address.ToString());
            }
            finally
            {
                endpoint._sessions.TryRemove(client, out _);
                endpoint._pipeline.End(session, how);
                _end.Dispose();
                endpoint.Leave();
            }
        }

        async Task<string> RelayAsync(StreamSession session, Socket upstream)
        {
            using var silence = new IdleDeadline(session.Services.Time, static self => ((Session)self!)._end.Cancel(), this);
            silence.Start(endpoint._draining ? DrainIdle : StreamPipeline.Idle(session));
            _silence = silence;
            var up = UpAsync(session, upstream, silence);
            var down = DownAsync(session, upstream, silence);
            try
            {
                await await Task.WhenAny(up, down);
                return "complete";
            }
            catch (OperationCanceledException)
            {
                return silence.Expired ? "idle" : "shutdown";
            }
            catch (SocketException e)
            {
                return e.Message;
            }
            finally
            {
                _silence = null;
                await _end.CancelAsync();
                await Task.WhenAll(up, down).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }

        async Task UpAsync(StreamSession session, Socket upstream, IdleDeadline silence)
        {
            for (var datagram = first; ; datagram = await Waiting.Reader.ReadAsync(_end.Token))
            {
                silence.Touch();
                await upstream.SendAsync(datagram, SocketFlags.None, _end.Token);
                session.Received(datagram.Length);
            }
        }

        async Task DownAsync(StreamSession session, Socket upstream, IdleDeadline silence)
        {
            while (true)
            {
                // an idle session holds no buffer
                await upstream.ReceiveAsync(Memory<byte>.Empty, SocketFlags.Peek, _end.Token);
                var buffer = System.Buffers.ArrayPool<byte>.Shared.Rent(MaxDatagram);
                try
                {
                    var length = await upstream.ReceiveAsync(buffer, SocketFlags.None, _end.Token);
                    silence.Touch();
                    await endpoint._socket.SendToAsync(buffer.AsMemory(0, length), SocketFlags.None, client, _end.Token);
                    session.Sent(length);
                }
                finally
                {
                    System.Buffers.ArrayPool<byte>.Shared.Return(buffer);
                }
            }
        }

        public void Drain() => _silence?.Start(DrainIdle);
    }

    void Leave()
    {
        if (Interlocked.Decrement(ref _open) == 0)
        {
            _drained.TrySetResult();
        }
    }

    public async Task StopAsync(CancellationToken tooLong)
    {
        if (_draining)
        {
            await _drained.Task;
            return;
        }
        _draining = true;
        foreach (var session in _sessions.Values)
        {
            try
            {
                session.Drain();
            }
            catch (ObjectDisposedException)
            {
                // ended just now
            }
        }
        Leave();
        await using (tooLong.UnsafeRegister(static source => ((CancellationTokenSource)source!).Cancel(), _aborting))
        {
            await _drained.Task;
        }
        await _aborting.CancelAsync();
        _socket.Dispose();
        await _receiving;
    }

    public async ValueTask DisposeAsync()
    {
        await _aborting.CancelAsync();
        await StopAsync(new CancellationToken(canceled: true));
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "stream {Address}/udp: receiving failed: {What}")]
    partial void LogReceiveFailed(string address, string what);

    [LoggerMessage(Level = LogLevel.Error,
        Message = "stream {Address}/udp: more than {Max} sessions, a datagram was dropped (sluice.stream_sessions)")]
    partial void LogTooMany(string address, int max);

    [LoggerMessage(Level = LogLevel.Error, Message = "stream {Address}/udp: unexpected failure")]
    partial void LogBug(Exception exception, string address);
}

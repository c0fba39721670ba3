using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;
using Sluice.Pipeline.Tls;

namespace Sluice.Hosting.Streams;

/// <summary>One address whose TCP connections are relayed.</summary>
sealed partial class TcpEndpoint : IStreamEndpoint
{
    static readonly TimeSpan OpeningTimeout = TimeSpan.FromSeconds(10);

    readonly Socket _listener;
    readonly StreamPipeline _pipeline;
    readonly LiveConfiguration _live;
    readonly TlsTermination _tls;
    readonly ILogger _log;
    readonly CancellationTokenSource _closing = new(), _aborting = new();
    readonly Task _accepting;
    readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    int _open = 1;

    /// <exception cref="SocketException">The address is in use or not there.</exception>
    public TcpEndpoint(StreamAddress address, StreamPipeline pipeline, LiveConfiguration live, TlsTermination tls, ILogger<TcpEndpoint> log)
    {
        (Address, _pipeline, _live, _tls, _log) = (address, pipeline, live, tls, log);
        _listener = new Socket(address.EndPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            _listener.Bind(address.EndPoint);
            _listener.Listen(511);
        }
        catch
        {
            _listener.Dispose();
            throw;
        }
        Bound = (IPEndPoint)_listener.LocalEndPoint!;
        _accepting = AcceptAsync();
    }

    public StreamAddress Address { get; }

    public IPEndPoint Bound { get; }

    async Task AcceptAsync()
    {
        while (!_closing.IsCancellationRequested)
        {
            Socket socket;
            try
            {
                socket = await _listener.AcceptAsync(_closing.Token);
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
            {
                return;
            }
            catch (SocketException e)
            {
                // no descriptors left, or the client left before it was accepted
                LogAcceptFailed(Address.ToString(), e.Message);
                await Task.Delay(TimeSpan.FromMilliseconds(50), _pipeline.Services.Time);
                continue;
            }
            if (Descriptors.IsShort(socket.Handle))
            {
                LogAcceptFailed(Address.ToString(), "too few file descriptors are left");
                socket.Dispose();
                continue;
            }
            if (Interlocked.Increment(ref _open) > _live.Current.Settings.Streams.MaxSessions + 1)
            {
                LogTooMany(Address.ToString(), _live.Current.Settings.Streams.MaxSessions);
                socket.Dispose();
                Leave();
                continue;
            }
            _ = Task.Run(() => ServeAsync(socket));
        }
    }

    async Task ServeAsync(Socket socket)
    {
        try
        {
            using (socket)
            {
                socket.NoDelay = true;
                await ServeAsync(socket, new NetworkStream(socket, ownsSocket: false));
            }
        }
        catch (Exception e)
            when (e is IOException or SocketException or OperationCanceledException or AuthenticationException or ObjectDisposedException)
        {
            LogConnectionFailed(Address.ToString(), e.Message);
        }
        catch (Exception e)
        {
            LogBug(e, Address.ToString());
        }
        finally
        {
            Leave();
        }
    }

    async Task ServeAsync(Socket socket, Stream stream)
    {
        using var opening = CancellationTokenSource.CreateLinkedTokenSource(_aborting.Token);
        opening.CancelAfter(OpeningTimeout);
        var (remote, local) = ((IPEndPoint)socket.RemoteEndPoint!, (IPEndPoint)socket.LocalEndPoint!);
        if (_live.Current.Settings.Streams.ProxyProtocolIn)
        {
            if (await ProxyOpening.ReadAsync(stream, opening.Token) is not var (header, rest))
            {
                LogNoProxyHeader(Address.ToString(), remote);
                return;
            }
            (remote, local) = (header.Source ?? remote, header.Destination ?? local);
            stream = rest;
        }
        TlsPeer? peer = null;
        if (Address.Tls)
        {
            if (await SecureAsync(stream, remote, opening.Token) is not var (tls, who))
            {
                return;
            }
            (stream, peer) = (tls, who);
        }
        opening.CancelAfter(Timeout.InfiniteTimeSpan);
        await using var opened = stream;
        await RunAsync(socket, opened, remote, local, peer);
    }

    async Task<(SslStream Stream, TlsPeer Peer)?> SecureAsync(Stream stream, IPEndPoint remote, CancellationToken cancellation)
    {
        var input = PipeReader.Create(stream, new StreamPipeReaderOptions(leaveOpen: true));
        var prepared = await _tls.PrepareAsync(new Duplex(input, PipeWriter.Create(stream, new StreamPipeWriterOptions(leaveOpen: true))),
            remote.ToString(), cancellation);
        if (prepared is null)
        {
            return null;
        }
        var tls = new SslStream(ProxyOpening.Rest(input, stream));
        try
        {
            await tls.AuthenticateAsServerAsync(prepared.Options, cancellation);
        }
        catch
        {
            await tls.DisposeAsync();
            throw;
        }
        if (prepared.Peer.Site.Clients is not null && prepared.Peer.ClientVerify != "SUCCESS")
        {
            LogClientRefused(Address.ToString(), remote, prepared.Peer.ClientVerify);
            await tls.DisposeAsync();
            return null;
        }
        return (tls, prepared.Peer);
    }

    sealed record Duplex(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    async Task RunAsync(Socket socket, Stream stream, IPEndPoint remote, IPEndPoint local, TlsPeer? peer)
    {
        PipeReader? peeked = null;
        var snapshot = _live.Enter(out var seat);
        var session = new StreamSession(snapshot, _pipeline.Services, false, remote, local, peer?.ServerName, async count =>
        {
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(_aborting.Token);
            patience.CancelAfter(OpeningTimeout);
            peeked ??= PipeReader.Create(stream, new StreamPipeReaderOptions(leaveOpen: true));
            return await ProxyOpening.PeekAsync(peeked, count, patience.Token);
        })
        {
            Seat = seat,
        };
        var how = "refused";
        try
        {
            if (!await _pipeline.AdmitAsync(session))
            {
                return;
            }
            using var upstream = await _pipeline.ConnectAsync(session, _aborting.Token);
            if (upstream is null)
            {
                how = "no upstream could be reached";
                return;
            }
            how = await new StreamRelay(session, peeked is null ? stream : ProxyOpening.Rest(peeked, stream), socket,
                upstream).RunAsync(_aborting.Token);
        }
        finally
        {
            _pipeline.End(session, how);
        }
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
        if (_closing.IsCancellationRequested)
        {
            await _drained.Task;
            return;
        }
        await _closing.CancelAsync();
        _listener.Dispose();
        await _accepting;
        Leave();
        await using var abort = tooLong.UnsafeRegister(static source => ((CancellationTokenSource)source!).Cancel(), _aborting);
        await _drained.Task;
    }

    public async ValueTask DisposeAsync()
    {
        await _aborting.CancelAsync();
        await StopAsync(new CancellationToken(canceled: true));
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "stream {Address}: accepting failed: {What}")]
    partial void LogAcceptFailed(string address, string what);

    [LoggerMessage(Level = LogLevel.Error,
        Message = "stream {Address}: more than {Max} connections, one was closed (sluice.stream_sessions)")]
    partial void LogTooMany(string address, int max);

    [LoggerMessage(Level = LogLevel.Information, Message = "stream {Address}: connection ended: {What}")]
    partial void LogConnectionFailed(string address, string what);

    [LoggerMessage(Level = LogLevel.Error,
        Message = "stream {Address}: {Client} sent no PROXY header, which apisix.proxy_protocol.enable_tcp_pp asks for")]
    partial void LogNoProxyHeader(string address, IPEndPoint client);

    [LoggerMessage(Level = LogLevel.Error, Message = "stream {Address}: {Client}: client certificate {Verify}")]
    partial void LogClientRefused(string address, IPEndPoint client, string verify);

    [LoggerMessage(Level = LogLevel.Error, Message = "stream {Address}: unexpected failure")]
    partial void LogBug(Exception exception, string address);
}

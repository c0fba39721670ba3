using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Sluice.Net.Epoll;

namespace Sluice.Net;

/// <summary>
/// A connected byte stream: what the upstream client needs from the operating system, through an event loop or through the framework's
/// sockets. At most one wait or receive and at most one send at a time; both may run at the same time. Failures are those of sockets and
/// streams (<see cref="SocketException"/>, <see cref="IOException"/>, <see cref="ObjectDisposedException"/>); the connection gives them
/// their meaning.
/// </summary>
abstract class ByteStream
{
    public abstract IPEndPoint? LocalEndPoint { get; }

    /// <summary>Completes when bytes, the end or a failure are there. Holds no buffer meanwhile.</summary>
    public abstract ValueTask WaitReadableAsync();

    /// <summary>A wait only ends; it is the receive after it that tells of a failure.</summary>
    public virtual bool WaitNeverFails => false;

    /// <summary>Whether a receive may say something now: a wait may complete although nothing is there.</summary>
    public virtual bool IsReadable => true;

    /// <summary>Some bytes as soon as there are any; 0 at the end.</summary>
    public abstract ValueTask<int> ReceiveAsync(Memory<byte> destination);

    /// <summary>Here and now, a receive does not have to be awaited: <see cref="TryReceive"/> says at once what there is.</summary>
    public virtual bool ReceivesAtOnce => false;

    /// <summary>Bytes, 0 at the end, -1: nothing there now. Only when <see cref="ReceivesAtOnce"/>.</summary>
    public virtual int TryReceive(Span<byte> destination) => throw new NotSupportedException();

    /// <summary>Sends all of it.</summary>
    public abstract ValueTask SendAsync(ReadOnlyMemory<byte> bytes);

    public abstract ValueTask ShutdownSendAsync();

    /// <summary>
    /// Calls back, on the loop, when a connection that nobody waits on has news: bytes, the end or a failure. Any wait ends the watch.
    /// False: this stream can't, it has to be waited on.
    /// </summary>
    public virtual bool TryWatch(Action news) => false;

    /// <summary>After a receive of 0: the other side said that this is the end. TLS without close_notify is a cut, not an end.</summary>
    public virtual bool EndWasAnnounced => true;

    /// <summary>Closes from any thread; what is pending fails.</summary>
    /// <param name="reset">With RST, at once; otherwise FIN.</param>
    public abstract void Close(bool reset);
}

/// <summary>A connection of an event loop: used from the loop, it never leaves its thread.</summary>
sealed class LoopByteStream : ByteStream
{
    readonly UpstreamSocket _socket;

    LoopByteStream(UpstreamSocket socket)
    {
        _socket = socket;
    }

    /// <exception cref="SocketException">No connection.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellation"/> said so.</exception>
    public static async ValueTask<LoopByteStream> ConnectAsync(EventLoop loop, EndPoint address, CancellationToken cancellation)
    {
        await loop.SwitchTo();
        var descriptor = Posix.Open(address);
        if (address is IPEndPoint)
        {
            Posix.SetNoDelay(descriptor);
        }
        if (Posix.Connect(descriptor, address) is var error && error is not (0 or Posix.InProgress))
        {
            Posix.Close(descriptor);
            throw Posix.Failure(error);
        }
        var socket = new UpstreamSocket(loop, descriptor);
        try
        {
            socket.Register();
            await using var registration = cancellation.UnsafeRegister(static socket => ((LoopSocket)socket!).Close(reset: true), socket);
            await socket.WaitWritableAsync();
            cancellation.ThrowIfCancellationRequested();
            if (socket.PendingError() is var failure and not 0)
            {
                throw Posix.Failure(failure);
            }
            socket.ForgetWriter();
            return new LoopByteStream(socket);
        }
        catch
        {
            socket.Close(reset: true);
            throw;
        }
    }

    public LoopSocket Socket => _socket;

    public override IPEndPoint? LocalEndPoint => _socket.LocalEndPoint;

    public override ValueTask WaitReadableAsync() => _socket.WaitReadableAsync();

    public override bool WaitNeverFails => true;

    public override bool ReceivesAtOnce => _socket.Loop.IsCurrent;

    public override bool IsReadable => _socket.IsReadable || _socket.IsClosed;

    public override int TryReceive(Span<byte> destination) => _socket.TryReceive(destination);

    public override ValueTask<int> ReceiveAsync(Memory<byte> destination) =>
        _socket.Loop.IsCurrent && _socket.TryReceive(destination.Span) is var count and >= 0 ? new(count) : ReceiveLaterAsync(destination);

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> ReceiveLaterAsync(Memory<byte> destination)
    {
        while (true)
        {
            await _socket.WaitReadableAsync();
            await _socket.Loop.SwitchTo();
            if (_socket.TryReceive(destination.Span) is var count and >= 0)
            {
                return count;
            }
        }
    }

    public override ValueTask SendAsync(ReadOnlyMemory<byte> bytes)
    {
        var sent = _socket.Loop.IsCurrent ? _socket.TrySend(bytes.Span) : 0;
        return sent == bytes.Length ? default : SendRestAsync(bytes[sent..]);
    }

    async ValueTask SendRestAsync(ReadOnlyMemory<byte> bytes)
    {
        while (true)
        {
            await _socket.WaitWritableAsync();
            await _socket.Loop.SwitchTo();
            bytes = bytes[_socket.TrySend(bytes.Span)..];
            if (bytes.IsEmpty)
            {
                return;
            }
        }
    }

    public override ValueTask ShutdownSendAsync()
    {
        _socket.ShutdownSend();
        return default;
    }

    public override bool TryWatch(Action news)
    {
        if (!_socket.Loop.IsCurrent)
        {
            return false;
        }
        _socket.WatchIdle(news);
        return true;
    }

    public override void Close(bool reset) => _socket.Close(reset);

    sealed class UpstreamSocket(EventLoop loop, int descriptor) : LoopSocket(loop, descriptor, connected: false)
    {
        Action? _news, _onReadable;

        /// <summary>As <see cref="LoopSocket.WhenReadable"/>, but what was received already is no news. On the loop.</summary>
        public void WatchIdle(Action news)
        {
            _news = news;
            WhenReadable(_onReadable ??= OnReadable);
        }

        void OnReadable()
        {
            if (!IsClosed && Posix.IsQuiet(Descriptor))
            {
                Readable = false;
                WhenReadable(_onReadable!);
            }
            else
            {
                _news!();
            }
        }
    }
}

/// <summary>A connection through the framework's sockets, for systems without event loops and for what does not run on one.</summary>
sealed class SocketByteStream(Socket socket) : ByteStream
{
    /// <exception cref="SocketException">No connection.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellation"/> said so.</exception>
    public static async ValueTask<SocketByteStream> ConnectAsync(EndPoint address, CancellationToken cancellation)
    {
        var unix = address is UnixDomainSocketEndPoint;
        var socket = new Socket(address.AddressFamily, SocketType.Stream, unix ? ProtocolType.Unspecified : ProtocolType.Tcp);
        try
        {
            if (!unix)
            {
                socket.NoDelay = true;
            }
            await socket.ConnectAsync(address, cancellation);
            return new SocketByteStream(socket);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    public override IPEndPoint? LocalEndPoint => socket.LocalEndPoint as IPEndPoint;

    public override void Close(bool reset)
    {
        try
        {
            if (reset)
            {
                socket.LingerState = new LingerOption(true, 0);
            }
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            // already closed
        }
        socket.Dispose();
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public override async ValueTask WaitReadableAsync()
    {
        do
        {
            await socket.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None);
        }
        // the framework completes a receive of nothing also for news of bytes that were received meanwhile
        while (!IsReadable);
    }

    /// <summary>.NET ends a wait with the next event of epoll, even when that tells of bytes which were received before the wait
    /// began.</summary>
    public override bool IsReadable => socket.Poll(0, SelectMode.SelectRead);

    public override ValueTask<int> ReceiveAsync(Memory<byte> destination) => socket.ReceiveAsync(destination, SocketFlags.None);

    public override ValueTask SendAsync(ReadOnlyMemory<byte> bytes)
    {
        var send = socket.SendAsync(bytes, SocketFlags.None);
        if (!send.IsCompletedSuccessfully)
        {
            return SendRestAsync(send, bytes);
        }
        var sent = send.Result;
        return sent == bytes.Length ? default : SendRestAsync(new ValueTask<int>(sent), bytes);
    }

    async ValueTask SendRestAsync(ValueTask<int> send, ReadOnlyMemory<byte> bytes)
    {
        while (true)
        {
            bytes = bytes[await send..];
            if (bytes.IsEmpty)
            {
                return;
            }
            send = socket.SendAsync(bytes, SocketFlags.None);
        }
    }

    public override ValueTask ShutdownSendAsync()
    {
        socket.Shutdown(SocketShutdown.Send);
        return default;
    }
}

/// <summary>TLS over any of the others.</summary>
sealed class TlsByteStream : ByteStream
{
    readonly ByteStream _below;
    readonly EndWatchingStream _inner;
    readonly SslStream _tls;

    TlsByteStream(ByteStream below, EndWatchingStream inner, SslStream tls)
    {
        _below = below;
        _inner = inner;
        _tls = tls;
    }

    public override IPEndPoint? LocalEndPoint => _below.LocalEndPoint;

    public override bool EndWasAnnounced => !_inner.Ended;

    /// <summary>The handshake. Closes the connection when it fails.</summary>
    public static async Task<TlsByteStream> ConnectAsync(ByteStream below, UpstreamTls options, CancellationToken cancellation)
    {
        var inner = new EndWatchingStream(below);
        var tls = new SslStream(inner, leaveInnerStreamOpen: false);
        var client = new SslClientAuthenticationOptions { TargetHost = options.ServerName ?? "", AllowRenegotiation = false,
            ClientCertificateContext = options.Client?.Context };
        client.CertificateChainPolicy = options.Roots?.Policy();
        if (!options.Verify)
        {
#pragma warning disable CA5359 // the user turned verification off for this upstream
            client.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        try
        {
            await using var registration = cancellation.UnsafeRegister(static below => ((ByteStream)below!).Close(reset: true), below);
            await tls.AuthenticateAsClientAsync(client, cancellation);
            return new TlsByteStream(below, inner, tls);
        }
        catch
        {
            await tls.DisposeAsync();
            throw;
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public override async ValueTask WaitReadableAsync()
    {
        var none = await _tls.ReadAsync(Memory<byte>.Empty);
        Debug.Assert(none == 0);
    }

    public override ValueTask<int> ReceiveAsync(Memory<byte> destination) => _tls.ReadAsync(destination);

    public override ValueTask SendAsync(ReadOnlyMemory<byte> bytes) => _tls.WriteAsync(bytes);

    public override async ValueTask ShutdownSendAsync()
    {
        await _tls.ShutdownAsync();
        await _below.ShutdownSendAsync();
    }

    public override void Close(bool reset)
    {
        _below.Close(reset);
        _tls.Dispose();
    }

    /// <summary>What SslStream reads and writes. It reads 0 for a close_notify and for a bare FIN alike; this tells them apart.</summary>
    sealed class EndWatchingStream(ByteStream below) : Stream
    {
        public bool Ended { get; private set; }

        public override bool CanRead => true;

        public override bool CanWrite => true;

        public override bool CanSeek => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (buffer.IsEmpty)
            {
                await below.WaitReadableAsync();
                return 0;
            }
            var count = await below.ReceiveAsync(buffer);
            Ended |= count == 0;
            return count;
        }

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
            below.SendAsync(buffer);

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            below.SendAsync(buffer.AsMemory(offset, count)).AsTask();

        public override void Flush()
        {
        }

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            below.Close(reset: false);
            base.Dispose(disposing);
        }
    }
}

using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Runtime.CompilerServices;

namespace Sluice.Net;

/// <summary>
/// A connected byte stream: what the upstream client needs from the operating system, and the seam where the epoll loops come in.
/// At most one wait or receive and at most one send at a time; both may run at the same time. Failures are those of sockets and streams
/// (<see cref="SocketException"/>, <see cref="IOException"/>, <see cref="ObjectDisposedException"/>); the connection gives them their meaning.
/// </summary>
abstract class ByteStream
{
    public abstract Socket Socket { get; }

    /// <summary>Completes when bytes, the end or a failure are there. Holds no buffer meanwhile.</summary>
    public abstract ValueTask WaitReadableAsync();

    /// <summary>Some bytes as soon as there are any; 0 at the end.</summary>
    public abstract ValueTask<int> ReceiveAsync(Memory<byte> destination);

    /// <summary>Sends all of it.</summary>
    public abstract ValueTask SendAsync(ReadOnlyMemory<byte> bytes);

    public abstract ValueTask ShutdownSendAsync();

    /// <summary>After a receive of 0: the other side said that this is the end. TLS without close_notify is a cut, not an end.</summary>
    public virtual bool EndWasAnnounced => true;

    /// <summary>RST, at once, from any thread. What is pending fails.</summary>
    public void Abort()
    {
        try
        {
            Socket.LingerState = new LingerOption(true, 0);
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            // already closed
        }
        Close();
    }

    /// <summary>FIN.</summary>
    public virtual void Close() => Socket.Dispose();
}

sealed class SocketByteStream(Socket socket) : ByteStream
{
    public override Socket Socket => socket;

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public override async ValueTask WaitReadableAsync() => await socket.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None);

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

sealed class TlsByteStream : ByteStream
{
    readonly EndWatchingStream inner;
    readonly SslStream tls;

    TlsByteStream(EndWatchingStream inner, SslStream tls)
    {
        this.inner = inner;
        this.tls = tls;
    }

    public override Socket Socket => inner.Socket;

    public override bool EndWasAnnounced => !inner.Ended;

    /// <summary>The handshake. Closes the socket when it fails.</summary>
    public static async Task<TlsByteStream> ConnectAsync(Socket socket, UpstreamTls options, CancellationToken cancellation)
    {
        var inner = new EndWatchingStream(socket);
        var tls = new SslStream(inner, leaveInnerStreamOpen: false);
        var client = new SslClientAuthenticationOptions { TargetHost = options.ServerName ?? "", AllowRenegotiation = false };
        if (!options.Verify)
        {
#pragma warning disable CA5359 // the user turned verification off for this upstream
            client.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        try
        {
            await tls.AuthenticateAsClientAsync(client, cancellation);
            return new TlsByteStream(inner, tls);
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
        var none = await tls.ReadAsync(Memory<byte>.Empty);
        Debug.Assert(none == 0);
    }

    public override ValueTask<int> ReceiveAsync(Memory<byte> destination) => tls.ReadAsync(destination);

    public override ValueTask SendAsync(ReadOnlyMemory<byte> bytes) => tls.WriteAsync(bytes);

    public override async ValueTask ShutdownSendAsync()
    {
        await tls.ShutdownAsync();
        Socket.Shutdown(SocketShutdown.Send);
    }

    public override void Close()
    {
        base.Close();
        tls.Dispose();
    }

    /// <summary>SslStream reads 0 for a close_notify and for a bare FIN alike; this tells them apart.</summary>
    sealed class EndWatchingStream(Socket socket) : NetworkStream(socket, ownsSocket: true)
    {
        public new Socket Socket => base.Socket;

        public bool Ended { get; private set; }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var count = await base.ReadAsync(buffer, cancellationToken);
            Ended |= count == 0 && !buffer.IsEmpty;
            return count;
        }
    }
}

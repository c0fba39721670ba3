using System.Buffers;
using System.Net.Security;
using System.Net.Sockets;
using Sluice.Net;

namespace Sluice.Pipeline.TcpUdp;

/// <summary>
/// Both directions of a TCP session. A slow receiver slows its sender: each piece is written before the next is read. The end of one
/// direction is passed on and the other goes on (half-close); a failure of either ends both with a reset, so that nobody takes a part for
/// the whole.
/// </summary>
sealed class StreamRelay(StreamSession session, Stream client, Socket clientSocket, UpstreamPeer upstream)
{
    const int Piece = 32 * 1024;

    /// <returns>How it ended, for the log.</returns>
    public async Task<string> RunAsync(CancellationToken cancellation)
    {
        var why = "";
        using var silence = new IdleDeadline(session.Services.Time, _ => Abort("idle timeout"), null);
        await using var stop = cancellation.UnsafeRegister(_ => Abort("shutdown"), null);
        silence.Start(StreamPipeline.Idle(session));
        var up = CopyAsync(client, upstream.Stream, upstream.Socket, session.Received, silence);
        var down = CopyAsync(upstream.Stream, client, clientSocket, session.Sent, silence);
        try
        {
            await await Task.WhenAny(up, down);
            await Task.WhenAll(up, down);
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            Abort(e.Message);
            try
            {
                await Task.WhenAll(up, down);
            }
            catch (Exception other) when (other is IOException or SocketException or ObjectDisposedException)
            {
                // the same end, seen from the other side
            }
        }
        return why.Length == 0 ? "complete" : why;

        void Abort(string reason)
        {
            if (Interlocked.CompareExchange(ref why, reason, "") == "")
            {
                Reset(clientSocket);
                Reset(upstream.Socket);
            }
        }
    }

    static void Reset(Socket socket)
    {
        try
        {
            socket.LingerState = new LingerOption(true, 0);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // gone already
        }
        socket.Dispose();
    }

    static async Task CopyAsync(Stream from, Stream to, Socket toSocket, Action<int> count, IdleDeadline silence)
    {
        while (true)
        {
            // an idle session holds no buffer
            _ = await from.ReadAsync(Memory<byte>.Empty);
            var buffer = ArrayPool<byte>.Shared.Rent(Piece);
            try
            {
                var length = await from.ReadAsync(buffer);
                if (length == 0)
                {
                    break;
                }
                silence.Touch();
                await to.WriteAsync(buffer.AsMemory(0, length));
                silence.Touch();
                count(length);
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
        if (to is SslStream tls)
        {
            await tls.ShutdownAsync();
        }
        toSocket.Shutdown(SocketShutdown.Send);
    }
}

/// <summary>A stream that begins with bytes that were read from it already.</summary>
sealed class PrefixedStream(byte[] prefix, Stream inner) : Stream
{
    int _taken;

    public override bool CanRead => true;

    public override bool CanWrite => true;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (_taken == prefix.Length)
        {
            return inner.ReadAsync(buffer, cancellationToken);
        }
        var count = Math.Min(buffer.Length, prefix.Length - _taken);
        prefix.AsMemory(_taken, count).CopyTo(buffer);
        _taken += count;
        return new(count);
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        inner.WriteAsync(buffer, cancellationToken);

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        inner.WriteAsync(buffer, offset, count, cancellationToken);

    public override void Write(byte[] buffer, int offset, int count) => inner.Write(buffer, offset, count);

    public override void Flush() => inner.Flush();

    public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }
        base.Dispose(disposing);
    }
}

using System.Buffers;
using Sluice.Net;

namespace Sluice.Relay;

/// <summary>An upgraded connection (WebSocket): bytes both ways, each as it comes, each side closed as the other closes.</summary>
/// <param name="silence">Touched by bytes of either direction; its expiry aborts the upstream, which ends the tunnel.</param>
/// <param name="clientSilence">The same, touched by the client's bytes alone; null: it may be silent.</param>
sealed class Tunnel(Stream client, ITunnelUpstream upstream, IdleDeadline silence, IdleDeadline? clientSilence, TimeProvider time)
    : ILiveBody
{
    const int BufferSize = 16 * 1024;

    /// <summary>How long an upstream that was told to close may take before the client's end is passed on.</summary>
    public static readonly TimeSpan CloseGrace = TimeSpan.FromSeconds(5);

    volatile IPieceObserver? _observer;
    long _first, _last;
    bool _waitsForClient;

    long ILiveBody.BytesReceived => BytesToClient;

    long ILiveBody.BytesSent => BytesToClient;

    long ILiveBody.FirstByteTimestamp => _first;

    long ILiveBody.LastByteTimestamp => _last;

    bool ILiveBody.WaitsForClient => _waitsForClient;

    string ILiveBody.Mode => "pieces";

    /// <summary>It has no words: its client sees an abort.</summary>
    bool ILiveBody.TryEnd() => false;

    IPieceObserver? ILiveBody.Observer { set => _observer = value; }

    public long BytesToClient { get; private set; }

    public long BytesToUpstream { get; private set; }

    public async Task RunAsync()
    {
        using var upstreamEnded = new CancellationTokenSource();
        var toUpstream = ToUpstreamAsync(upstreamEnded.Token);
        try
        {
            await ToClientAsync();
        }
        finally
        {
            // the upstream has ended: whatever the client still says has nobody to hear it
            upstream.Abort(UpstreamFailureKind.Shutdown);
            await upstreamEnded.CancelAsync();
            await toUpstream;
            await client.DisposeAsync();
        }
    }

    async Task ToClientAsync()
    {
        while (true)
        {
            await upstream.Body.WaitReadableAsync();
            var buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
            try
            {
                var read = await upstream.Body.ReadAsync(buffer);
                if (read == 0)
                {
                    return;
                }
                _last = silence.Touch();
                _first = _first == 0 ? _last : _first;
                BytesToClient += read;
                _observer?.OnPiece(buffer.AsSpan(0, read), false);
                _waitsForClient = true;
                await client.WriteAsync(buffer.AsMemory(0, read));
                await client.FlushAsync();
                _waitsForClient = false;
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }

    async Task ToUpstreamAsync(CancellationToken upstreamEnded)
    {
        try
        {
            var closing = false;
            while (true)
            {
                _ = await client.ReadAsync(Memory<byte>.Empty, upstreamEnded);
                var buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
                try
                {
                    var read = await client.ReadAsync(buffer, upstreamEnded);
                    if (read == 0)
                    {
                        break;
                    }
                    silence.Touch();
                    _ = clientSilence?.Touch();
                    BytesToUpstream += read;
                    closing = EndsWithClose(buffer.AsSpan(0, read));
                    await upstream.WriteRawAsync(buffer.AsMemory(0, read));
                }
                finally
                {
                    ArrayPool<byte>.Shared.Return(buffer);
                }
            }
            if (closing)
            {
                // Chromium ends its stream with its Close; servers that see the connection's end at once never answer it, and the page is
                // told 1006
                await Task.Delay(CloseGrace, time, upstreamEnded);
            }
            await upstream.ShutdownSendAsync();
        }
        catch (Exception e) when (e is IOException or UpstreamException or OperationCanceledException or ObjectDisposedException)
        {
            upstream.Abort(UpstreamFailureKind.ClientGone);
        }
    }

    /// <summary>Whether the last that a client has sent is a WebSocket's Close: masked, with at most 125 bytes (RFC 6455, 5.5).</summary>
    static bool EndsWithClose(ReadOnlySpan<byte> bytes)
    {
        const byte FinalClose = 0x88, Masked = 0x80, HeadAndMask = 6;
        var tail = bytes[Math.Max(0, bytes.Length - HeadAndMask - 125)..];
        while (tail.IndexOf(FinalClose) is >= 0 and var at && tail.Length - at >= HeadAndMask)
        {
            tail = tail[at..];
            if (tail[1] == (Masked | (tail.Length - HeadAndMask)))
            {
                return true;
            }
            tail = tail[1..];
        }
        return false;
    }
}

using System.Buffers;
using Sluice.Net;

namespace Sluice.Relay;

/// <summary>An upgraded connection (WebSocket): bytes both ways, each as it comes, each side closed as the other closes.</summary>
/// <param name="silence">Touched by bytes of either direction; its expiry aborts the upstream, which ends the tunnel.</param>
public sealed class Tunnel(Stream client, UpstreamConnection upstream, IdleDeadline silence)
{
    const int BufferSize = 16 * 1024;

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
            await upstream.WaitReadableAsync();
            var buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
            try
            {
                var read = await upstream.ReadRawAsync(buffer);
                if (read == 0)
                {
                    return;
                }
                silence.Touch();
                BytesToClient += read;
                await client.WriteAsync(buffer.AsMemory(0, read));
                await client.FlushAsync();
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
                    BytesToUpstream += read;
                    await upstream.WriteRawAsync(buffer.AsMemory(0, read));
                }
                finally
                {
                    ArrayPool<byte>.Shared.Return(buffer);
                }
            }
            await upstream.ShutdownSendAsync();
        }
        catch (Exception e) when (e is IOException or UpstreamException or OperationCanceledException or ObjectDisposedException)
        {
            upstream.Abort(UpstreamFailureKind.ClientGone);
        }
    }
}

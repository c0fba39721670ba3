using System.Net.Sockets;

namespace Sluice.Net;

/// <summary>A connection to an upstream in its whole life, over many requests. While it is idle, the pool owns it; otherwise one
/// <see cref="UpstreamConnection"/>.</summary>
sealed class PooledStream(UpstreamEndpoint endpoint, ByteStream stream)
{
    int closed;

    public UpstreamEndpoint Endpoint => endpoint;

    public ByteStream Stream => stream;

    /// <summary>Requests that it has served completely.</summary>
    public int Requests { get; set; }

    /// <summary>Timestamp of the pool's clock.</summary>
    public long IdleSince { get; set; }

    /// <summary>In the pool's list; guarded by the pool's lock.</summary>
    public bool Idle { get; set; }

    /// <summary>A request has it, which reads what comes; set by the pool.</summary>
    public volatile bool Rented = true;

    /// <summary>The wait of an idle connection ended, so the upstream closed it or sent something that nobody asked for; guarded by the
    /// pool's lock.</summary>
    public bool WatchEnded { get; set; }

    /// <summary>
    /// Waits, while the connection is idle, for what must not come. The next request takes it over: it is its wait for the answer.
    /// Gives the failure of the wait, which the kernel tells only once.
    /// </summary>
    public Task<Exception?>? Watch { get; set; }

    /// <summary>The pool's answer to news of the idle connection, where the stream can be watched without a wait.</summary>
    public Action? News { get; set; }

    /// <summary>The limit on the upstream's silence, one for all requests of a connection of a loop; <see cref="User"/> is
    /// aborted.</summary>
    public IdleDeadline? ReadSilence { get; set; }

    public UpstreamConnection? User { get; set; }

    /// <summary>False when somebody else closed it.</summary>
    public bool TryClose(bool reset = false)
    {
        if (Interlocked.Exchange(ref closed, 1) != 0)
        {
            return false;
        }
        if (User is null)
        {
            ReadSilence?.Dispose();
        }
        stream.Close(reset);
        return true;
    }

    /// <summary>
    /// A wait may end although nothing is there: when the kernel's event of an answer that was read already comes late. A request notices
    /// when it reads; nobody reads on an idle connection, so the socket is asked.
    /// </summary>
    public async Task<Exception?> WaitAsync()
    {
        try
        {
            do
            {
                await stream.WaitReadableAsync();
            }
            while (!Rented && !stream.IsReadable);
            return null;
        }
        catch (Exception error) when (error is SocketException or IOException or ObjectDisposedException)
        {
            return error;
        }
    }
}

using System.Net.Sockets;
using Sluice.Observability;

namespace Sluice.Plugins.Logging;

/// <summary>A host and a port to which entries go as datagrams.</summary>
sealed class DatagramTarget(string host, int port)
{
    /// <summary>Sends a batch from one socket.</summary>
    /// <param name="entries">The datagrams of each entry.</param>
    /// <exception cref="IOException">There is no such host.</exception>
    /// <exception cref="PartlySentException">An entry could not be sent: those before it were.</exception>
    public async Task SendAsync(IReadOnlyList<IReadOnlyList<byte[]>> entries, CancellationToken cancellation)
    {
        using var socket = new Socket(SocketType.Dgram, ProtocolType.Udp);
        try
        {
            await socket.ConnectAsync(host, port, cancellation);
        }
        catch (SocketException e)
        {
            throw new IOException($"failed to connect to UDP server: host[{host}] port[{port}] err: {e.Message}", e);
        }
        for (var i = 0; i < entries.Count; i++)
        {
            try
            {
                foreach (var datagram in entries[i])
                {
                    await socket.SendAsync(datagram, cancellation);
                }
            }
            catch (SocketException e)
            {
                throw new PartlySentException(i, $"failed to send data to UDP server: host[{host}] port[{port}] err: {e.Message}");
            }
        }
    }
}

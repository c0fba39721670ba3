using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sluice.FunctionalTests.Streams;

/// <summary>What others allocate meanwhile would be counted too: nothing runs beside it.</summary>
[CollectionDefinition(nameof(IdleStreamMemoryTests), DisableParallelization = true)]
public sealed class IdleStreamMemoryCollection;

/// <summary>
/// What waits for the next event of a stream is a handful of objects and no frame of a method: the bytes that stay alive for each idle
/// stream are held, so that a new frame, buffer or timer on its way shows.
/// </summary>
[Collection(nameof(IdleStreamMemoryTests))]
public sealed class IdleStreamMemoryTests
{
    const int Streams = 400;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Seen: 4,710 to 5,100 bytes on epoll, 9,980 to 11,760 with the framework's sockets. The frame of a method that waits is 200
    /// and more.</summary>
    [Theory]
    [InlineData(null)]
    [InlineData(""" "plugins":{"proxy-buffering":{}} """)]
    public async Task An_idle_stream_keeps_no_more_than_its_objects(string? plugins)
    {
        using var origin = new Origin();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r", "/*", origin.EndPoint.Port, plugins);
        // what is made once is there before
        using (await OpenAsync(gateway.EndPoint, origin, 20))
        {
        }
        // what else lives and dies in this process is in single figures, not in the least of some
        var (least, most) = (long.MaxValue, TestGateway.Transport == "epoll" ? 5400 : 12_500);
        for (var round = 0; round < 5 && least > most; round++)
        {
            var direct = await BytesAsync(origin.EndPoint, origin);
            var proxied = await BytesAsync(gateway.EndPoint, origin);
            var bytes = (proxied - direct) / Streams;
            least = bytes > 1000 ? Math.Min(least, bytes) : least;
        }
        Assert.InRange(least, 1000, most);
    }

    static async Task<long> BytesAsync(IPEndPoint address, Origin origin)
    {
        var before = GC.GetTotalMemory(forceFullCollection: true);
        using var clients = await OpenAsync(address, origin, Streams);
        return GC.GetTotalMemory(forceFullCollection: true) - before;
    }

    /// <summary>So many streams whose head has come.</summary>
    static async Task<Clients> OpenAsync(IPEndPoint address, Origin origin, int count)
    {
        var clients = new Clients(origin);
        var buffer = new byte[1024];
        for (var i = 0; i < count; i++)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            clients.Add(socket);
            await socket.ConnectAsync(address, Cancel);
            await socket.SendAsync("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"u8.ToArray(), Cancel);
            await origin.AnswerAsync();
            var text = "";
            while (!text.EndsWith("data: 1\n\n\r\n", StringComparison.Ordinal))
            {
                var received = await socket.ReceiveAsync(buffer, Cancel);
                Assert.NotEqual(0, received);
                text += Encoding.ASCII.GetString(buffer, 0, received);
            }
        }
        return clients;
    }

    sealed class Clients(Origin origin) : List<Socket>, IDisposable
    {
        public void Dispose()
        {
            ForEach(static socket => socket.Dispose());
            origin.Close();
        }
    }

    /// <summary>Keeps a socket for each stream and nothing else.</summary>
    sealed class Origin : IDisposable
    {
        readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        readonly List<Socket> _streams = [];
        readonly byte[] _head = new byte[4096];

        public Origin()
        {
            _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            _listener.Listen(64);
        }

        public IPEndPoint EndPoint => (IPEndPoint)_listener.LocalEndPoint!;

        public async Task AnswerAsync()
        {
            var socket = await _listener.AcceptAsync(Cancel);
            _streams.Add(socket);
            await socket.ReceiveAsync(_head, Cancel);
            await socket.SendAsync(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"u8.ToArray(),
                Cancel);
        }

        public void Close()
        {
            _streams.ForEach(static socket => socket.Dispose());
            _streams.Clear();
        }

        public void Dispose()
        {
            Close();
            _listener.Dispose();
        }
    }
}

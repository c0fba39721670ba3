using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Sluice.Cli;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Processes;

/// <summary>A gateway process of its own, whose memory and descriptors are nobody else's, under load.</summary>
public sealed class ProcessTests : IAsyncDisposable
{
    const int Megabyte = 1024 * 1024;

    readonly CommandFixture _sluice = new();

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public ValueTask DisposeAsync() => _sluice.DisposeAsync();

    IPEndPoint Proxy => new(IPAddress.Loopback, _sluice.ProxyPort);

    async Task<GatewayProcess> StartAsync()
    {
        _sluice.WriteConfig($"sluice: {{transport: {TestGateway.Transport}}}");
        await _sluice.SucceedAsync("start");
        return new(_sluice.Instance.RunningPid()!.Value);
    }

    // -- Memory

    const int BodySize = 40 * Megabyte, SlowClients = 8, BufferSize = 64 * 1024, Buffers = 8;

    /// <summary>
    /// Per client a gateway that keeps what it is told to keep holds less than a megabyte; one that keeps what comes would hold the body,
    /// and 320 MB for all of them.
    /// </summary>
    [Fact]
    public async Task Slow_clients_of_large_answers_cost_the_configured_buffers_and_no_more()
    {
        // a block in the producer's hand, and four to read the file with
        const long Configured = SlowClients * (Buffers + 1 + 4) * BufferSize;
        const long Noise = 32 * Megabyte;
        await using var origin = new LargeOrigin();
        _sluice.WriteRoutes(("/*", origin.Port));
        await File.WriteAllTextAsync(_sluice.PathOf("conf/nginx.conf"), $$"""
            http {
                proxy_buffer_size {{BufferSize}};
                proxy_buffers {{Buffers}} {{BufferSize}};
                server {
                    location /off { proxy_buffering off; }
                    location /file { proxy_buffering on; }
                    location /memory { proxy_buffering on; proxy_max_temp_file_size 0; }
                }
            }
            """, Cancel);
        var gateway = await StartAsync();
        foreach (var path in (string[])["/off", "/off/chunked", "/file", "/file/chunked", "/memory", "/memory/chunked"])
        {
            // code and whatever else the first answer costs is not the crowd's
            await TakeAllAsync(path);
            var before = gateway.Memory;
            var peak = before;
            var sentBefore = origin.Sent;
            var clients = await Task.WhenAll(Enumerable.Range(0, SlowClients).Select(_ => AskAsync(path)));
            async Task SettleAsync()
            {
                for (long sent = -1, same = 0; same < 5;)
                {
                    await Task.Delay(20, Cancel);
                    peak = Math.Max(peak, gateway.Memory);
                    (same, sent) = (sent == origin.Sent && sent > sentBefore ? same + 1 : 0, origin.Sent);
                }
            }
            await SettleAsync();
            foreach (var client in clients)
            {
                await client.ReadAsync(2 * Megabyte);
                peak = Math.Max(peak, gateway.Memory);
            }
            await SettleAsync();
            if (path.StartsWith("/file", StringComparison.Ordinal))
            {
                Assert.InRange(origin.Sent - sentBefore, SlowClients * (long)BodySize, long.MaxValue);
            }
            else
            {
                // the rest waits at the origin
                Assert.InRange(origin.Sent - sentBefore, 1, SlowClients * (long)BodySize - SlowClients * 4 * Megabyte);
            }
            Assert.True(peak - before <= Configured + Noise,
                $"{path}: the gateway grew by {(peak - before) / Megabyte} MB with {SlowClients} slow clients, {Configured / Megabyte} MB of buffers are configured");
            foreach (var client in clients)
            {
                client.Reset();
            }
            await OpenConnections.NoneAsync(origin.Port);
        }
    }

    async Task<OriginConnection> AskAsync(string path)
    {
        var client = await RawConnection.ConnectAsync(Proxy, receiveBuffer: 64 * 1024);
        await client.SendAsync($"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        return client;
    }

    async Task TakeAllAsync(string path)
    {
        using var answer = await _sluice.Client.GetAsync(_sluice.Url(path), HttpCompletionOption.ResponseHeadersRead, Cancel);
        await using var body = await answer.Content.ReadAsStreamAsync(Cancel);
        var buffer = new byte[64 * 1024];
        var total = 0L;
        for (int count; (count = await body.ReadAsync(buffer, Cancel)) > 0;)
        {
            total += count;
        }
        Assert.Equal(BodySize, total);
    }

    /// <summary>Sends 40 MB to everybody, as fast as they are taken.</summary>
    sealed class LargeOrigin : IAsyncDisposable
    {
        readonly ScriptedOrigin _origin;
        long _sent;

        public LargeOrigin() => _origin = ScriptedOrigin.Start(async connection =>
        {
            var chunked = (await connection.ReadHeadAsync()).Contains("/chunked", StringComparison.Ordinal);
            await connection.SendAsync(
                $"HTTP/1.1 200 OK\r\nConnection: close\r\n{(chunked ? "Transfer-Encoding: chunked" : $"Content-Length: {BodySize}")}\r\n\r\n");
            var piece = new byte[64 * 1024];
            for (var at = 0; at < BodySize; at += piece.Length)
            {
                if (chunked)
                {
                    await connection.SendAsync($"{piece.Length:x}\r\n");
                }
                await connection.SendAsync(piece, patience: TimeSpan.FromSeconds(60));
                Interlocked.Add(ref _sent, piece.Length);
                if (chunked)
                {
                    await connection.SendAsync("\r\n");
                }
            }
            await connection.SendAsync(chunked ? "0\r\n\r\n" : "");
            await connection.ReadEndAsync();
        });

        public int Port => _origin.Port;

        public long Sent => Interlocked.Read(ref _sent);

        public ValueTask DisposeAsync() => _origin.DisposeAsync();
    }

    // -- Come and go

    [Fact]
    public async Task Ten_thousand_clients_that_come_and_go_leave_no_descriptor_and_no_memory_behind()
    {
        const int Cycles = 10_000;
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            await connection.ReadEndAsync();
        });
        _sluice.WriteRoutes(("/*", origin.Port));
        var gateway = await StartAsync();

        // the first ones make the heap as large as such a crowd needs it
        await ComeAndGoAsync(2 * Cycles);
        await LeftAsync(origin.Port);
        var (descriptors, memory) = (gateway.Descriptors, gateway.Memory);
        await ComeAndGoAsync(Cycles);
        await LeftAsync(origin.Port);

        // the runtime opens and closes some of its own; one left in a hundred clients would be too many
        await Eventually.TrueAsync(() => gateway.Descriptors < descriptors + Cycles / 100,
            () => $"{descriptors} descriptors before, {gateway.Descriptors} after");
        // a block of 4 KiB left by each stream would be 20 MB
        await Eventually.TrueAsync(() => gateway.Memory <= memory + 12 * Megabyte,
            () => $"{memory} bytes of memory before, {gateway.Memory} after");
    }

    async Task LeftAsync(int origin)
    {
        await OpenConnections.NoneAsync(_sluice.ProxyPort);
        await OpenConnections.NoneAsync(origin);
    }

    /// <summary>Every way to leave: at once, within the head, with the answer on its way, within the answer; with FIN and with
    /// RST.</summary>
    Task ComeAndGoAsync(int cycles) =>
        Parallel.ForAsync(0, cycles, new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = Cancel }, async (number, _) =>
    {
        using var client = await RawClient.ConnectAsync(Proxy);
        if (number % 4 > 0)
        {
            await client.SendAsync(number % 4 == 1 ? "GET / HTTP/1.1\r\nHo" : "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        if (number % 8 == 3)
        {
            await client.UntilAsync("hello");
        }
        if (number % 3 == 0)
        {
            client.Reset();
        }
    });

    // -- Reload

    [Fact]
    public async Task SIGHUP_under_load_fails_no_request_and_interrupts_no_stream()
    {
        await using var echo = EchoOrigin.Start();
        await using var events = new EventOrigin(Framing.ChunkPerEvent);
        _sluice.WriteRoutes(("/echo", echo.Port), ("/events", events.Port));
        var gateway = await StartAsync();
        using var response = await _sluice.Client.GetAsync(_sluice.Url("/events"), HttpCompletionOption.ResponseHeadersRead, Cancel);
        using var reader = new EventReader(await response.Content.ReadAsStreamAsync(Cancel));
        var answered = 0;
        using var stop = new CancellationTokenSource();
        // half of them with a connection for each request: those meet the listeners
        var asking = Enumerable.Range(0, 4).Select(number => Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                using var request = new HttpRequestMessage(HttpMethod.Get,
                    _sluice.Url("/echo")) { Headers = { ConnectionClose = number % 2 == 0 } };
                using var answer = await _sluice.Client.SendAsync(request, Cancel);
                Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
                Assert.StartsWith("GET /echo ", await answer.Content.ReadAsStringAsync(Cancel), StringComparison.Ordinal);
                Interlocked.Increment(ref answered);
            }
        })).ToArray();

        var second = CommandFixture.FreePort();
        for (var round = 1; round <= 10; round++)
        {
            var both = $"[{{ip: 127.0.0.1, port: {_sluice.ProxyPort}}}, {{ip: 127.0.0.1, port: {second}}}]";
            _sluice.WriteConfig($"sluice: {{transport: {TestGateway.Transport}}}", nodeListen: round % 2 == 1 ? both : null);
            await File.WriteAllTextAsync(_sluice.PathOf("conf/nginx.conf"),
                $"http {{ proxy_buffering {(round % 2 == 0 ? "on" : "off")}; server {{ server_name s{round}.test; }} }}", Cancel);
            Assert.True(Native.Signal(gateway.Pid, Native.Hangup));
            await Eventually.TrueAsync(() => _sluice.Instance.ReadState()?.Reloads == round, "no reload", seconds: 30);
            Assert.Empty(_sluice.Instance.ReadState()!.ReloadProblems);

            await events.SendAsync(EventOrigin.Event(round));
            Assert.Equal(EventOrigin.Event(round), (await reader.NextAsync()).Event);
            var before = Volatile.Read(ref answered);
            await Eventually.TrueAsync(
                () => Volatile.Read(ref answered) >= before + 20 || Array.Exists(asking, task => task.IsCompleted), "nobody is answered",
                seconds: 30);
        }

        await stop.CancelAsync();
        await Task.WhenAll(asking);
        Assert.Equal(gateway.Pid, _sluice.Instance.RunningPid());
        events.End();
        Assert.Equal(0, await reader.Body.ReadAsync(new byte[1], Cancel));
    }

    [Fact]
    public async Task A_thousand_streams_are_whole_and_in_order_while_the_configuration_is_reloaded()
    {
        const int Streams = 1_000, Events = 20;
        static string Chunk(int stream, int id)
        {
            var text = string.Create(CultureInfo.InvariantCulture,
                $"id: {stream}-{id}\ndata: {new string((char)('a' + (stream + id) % 26), 20 + (stream * 7 + id * 13) % 200)}\n\n");
            return string.Create(CultureInfo.InvariantCulture, $"{text.Length:x}\r\n{text}\r\n");
        }
        var all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var stream = int.Parse((await connection.ReadHeadAsync()).Split(' ')[1][1..], CultureInfo.InvariantCulture);
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            await all.Task.WaitAsync(TimeSpan.FromSeconds(60));
            for (var id = 0; id < Events; id++)
            {
                await connection.SendAsync(Chunk(stream, id));
                await Task.Delay(100);
            }
            await connection.SendAsync("0\r\n\r\n");
            await connection.ReadEndAsync();
        });
        _sluice.WriteRoutes(("/*", origin.Port));
        var gateway = await StartAsync();
        var clients = new OriginConnection[Streams];
        await Parallel.ForAsync(0, Streams, new ParallelOptions { MaxDegreeOfParallelism = 32, CancellationToken = Cancel },
            async (stream, _) =>
            clients[stream] = (await RawConnection.GetAsync(Proxy, $"/{stream}")).Connection);
        all.SetResult();
        var reading = Task.WhenAll(clients.Select(async (client, stream) =>
        {
            for (var id = 0; id < Events; id++)
            {
                await client.ExpectAsync(Chunk(stream, id));
            }
            await client.ExpectAsync("0\r\n\r\n");
        }));
        for (var round = 1; !reading.IsCompleted; round++)
        {
            await File.WriteAllTextAsync(_sluice.PathOf("conf/nginx.conf"), $"http {{ server {{ server_name s{round}.test; }} }}", Cancel);
            Assert.True(Native.Signal(gateway.Pid, Native.Hangup));
            await Eventually.TrueAsync(() => _sluice.Instance.ReadState()?.Reloads == round, "no reload", seconds: 30);
            await Task.WhenAny(reading, Task.Delay(500, Cancel));
        }
        await reading;
        Assert.True(_sluice.Instance.ReadState()!.Reloads > 0);
        foreach (var client in clients)
        {
            client.Dispose();
        }
    }
}

/// <summary>What the kernel knows of a process.</summary>
sealed class GatewayProcess(int pid)
{
    public int Pid => pid;

    public int Descriptors => Directory.GetFileSystemEntries($"/proc/{pid}/fd").Length;

    /// <summary>Bytes of memory that are in no file: the heap, blocks, stacks.</summary>
    public long Memory => long.Parse(
        File.ReadLines($"/proc/{pid}/status").Single(line => line.StartsWith("RssAnon:", StringComparison.Ordinal))
        .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1],
        CultureInfo.InvariantCulture) * 1024;

    /// <summary>Processor time used so far.</summary>
    public TimeSpan Work
    {
        get
        {
            using var process = Process.GetProcessById(pid);
            return process.TotalProcessorTime;
        }
    }
}

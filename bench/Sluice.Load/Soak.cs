using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace Sluice.Load;

/// <summary>
/// Streams that begin and end in all ways, under all policies, for as long as one likes, while an operator lists and ends some and the
/// configuration changes. Then nothing may be left in the gateway: no stream, no descriptor, no timer, no slot, no tail, no queue.
/// </summary>
sealed class Soak(int seconds, int streams, int seed, string root)
{
    /// <summary>Those that count slots let so many in.</summary>
    const int Slots = 200;

    const string Timers =
        "first_byte_timeout: 1, first_event_timeout: 2, idle_timeout: 2, event_idle_timeout: 3, max_duration: 6, jitter: 0.5";

    /// <summary>A route for each policy, by its path.</summary>
    static readonly (string Path, string Plugins)[] s_policies =
    [
        ("plain", "{}"),
        ("timed", $"{{streaming: {{{Timers}, heartbeat: {{interval: 1}}, reconnect: {{delay: 1, on: auto}}}}}}"),
        ("held", "{streaming: {hold: event, first_event_timeout: 1, heartbeat: {interval: 1}}}"),
        ("budget", "{streaming: {max_events: 20, max_bytes: 64k}}"),
        ("oldest", "{streaming: {slow_consumer: {policy: drop_oldest, queue_bytes: 16k, announce: event}, send_timeout: 3}}"),
        ("latest", "{streaming: {slow_consumer: {policy: latest_per_key, key: event, queue_bytes: 16k}, send_timeout: 3}}"),
        ("leaves", "{streaming: {slow_consumer: {policy: disconnect, queue_bytes: 16k}}}"),
        ("sse", "{sse: {strip_comments: true, transform: [{set_event: soaked}]}}"),
        ("script",
            "{serverless-post-function: {phase: event_filter, functions: [\"return function(conf, ctx, event) if event.n % 7 == 0 then "
                + "return false end return event.data end\"]}}"),
        ("kept", "{sse-resume: {detach: 2, keep: 2, tail: {events: 100}}}"),
        ("buffered", "{proxy-buffering: {disable_proxy_buffering: false}}"),
        ("conn", $"{{limit-conn: {{conn: {Slots}, burst: 0, default_conn_delay: 0.1, key: server_port, rejected_code: 429}}}}"),
        ("places", $"{{streaming: {{concurrent: [{{key: $server_port, limit: {Slots}}}]}}}}"),
        ("evicts", $"{{streaming: {{concurrent: [{{key: $server_port, limit: {Slots}, on_full: evict_oldest}}]}}}}"),
    ];

    readonly string _directory = Directory.CreateTempSubdirectory("sluice-soak-").FullName;
    static readonly HttpClient s_http = new(new SocketsHttpHandler { UseProxy = false, PooledConnectionLifetime = TimeSpan.Zero });
    readonly ConcurrentDictionary<string, long> _seen = [];
    int _port, _control, _metrics;

    /// <param name="args"><c>--seconds 600 --streams 10000 --seed N</c>; <c>--origin</c>: only the upstream.</param>
    public static async Task<int> RunAsync(string[] args, string root)
    {
        if (args is ["--origin"])
        {
            await SoakOrigin.RunAsync();
            return 0;
        }
        var (seconds, streams, seed) = (600, 10_000, Random.Shared.Next());
        for (var i = 0; i + 1 < args.Length; i += 2)
        {
            var number = int.Parse(args[i + 1], CultureInfo.InvariantCulture);
            _ = args[i] switch
            {
                "--seconds" => seconds = number,
                "--streams" => streams = number,
                "--seed" => seed = number,
                _ => throw new ArgumentException($"unknown option {args[i]}"),
            };
        }
        return await new Soak(seconds, streams, seed, root).RunAsync();
    }

    async Task<int> RunAsync()
    {
        var me = Path.Combine(AppContext.BaseDirectory, "Sluice.Load.dll");
        using var origin = Start("dotnet", me, "soak", "--origin");
        var originPort = int.Parse((await origin.StandardOutput.ReadLineAsync())!, CultureInfo.InvariantCulture);
        Configure(originPort);
        using var gateway = Start("dotnet", Path.Combine(root, "out/Sluice.dll"), "run", "-p", _directory);
        _ = gateway.StandardOutput.BaseStream.CopyToAsync(Stream.Null);
        try
        {
            return await RunAsync(gateway.Id) ? 0 : 1;
        }
        finally
        {
            gateway.Kill();
            origin.Kill();
            await gateway.WaitForExitAsync();
            Directory.Delete(_directory, recursive: true);
        }
    }

    static Process Start(params string[] command) =>
        Process.Start(new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true })!;

    void Configure(int origin)
    {
        var ports = Gateways.FreePorts(4);
        (_port, _control, _metrics) = (ports[0], ports[1], ports[2]);
        Directory.CreateDirectory(Path.Combine(_directory, "conf"));
        File.WriteAllText(Path.Combine(_directory, "conf/config.yaml"), $$"""
            apisix:
              node_listen: [{ip: 127.0.0.1, port: {{_port}} }]
              control: {ip: 127.0.0.1, port: {{_control}} }
              status: {ip: 127.0.0.1, port: {{ports[3]}} }
            deployment: {role: data_plane, role_data_plane: {config_provider: yaml} }
            plugin_attr: {prometheus: {export_addr: {ip: 127.0.0.1, port: {{_metrics}} } } }
            nginx_config: {error_log_level: crit, http: {enable_access_log: false} }
            sluice: {streams: {control_write: true, max: 1000000} }

            """);
        WriteRoutes(origin, 0);
    }

    /// <summary>The same again, with something that no stream is of.</summary>
    void WriteRoutes(int origin, int version)
    {
        _origin = origin;
        var text = new StringBuilder("routes:\n");
        foreach (var (path, plugins) in s_policies)
        {
            text.Append(CultureInfo.InvariantCulture,
                $"  - {{id: {path}, uri: /{path}, timeout: {{connect: 6, send: 60, read: 3}}, plugins: {plugins}, upstream: {{type: roundrobin, retries: 0, nodes: {{\"127.0.0.1:{origin}\": 1}}}}}}\n");
        }
        text.Append(CultureInfo.InvariantCulture,
            $"  - {{id: other, uri: /other-{version}, upstream: {{type: roundrobin, nodes: {{\"127.0.0.1:{origin}\": 1}}}}}}\n");
        text.Append("global_rules:\n  - {id: \"1\", plugins: {prometheus: {}}}\n#END\n");
        var file = Path.Combine(_directory, "conf/apisix.yaml");
        File.WriteAllText(file + ".new", text.ToString());
        File.Move(file + ".new", file, overwrite: true);
    }

    int _origin;

    async Task<bool> RunAsync(int pid)
    {
        await UntilAsync(async () => (await TotalAsync()) == 0, TimeSpan.FromSeconds(30));
        // every route once: what is made by the first request is there before it is counted
        foreach (var (path, _) in s_policies)
        {
            await AskAsync(path, "ends");
        }
        await Task.Delay(TimeSpan.FromSeconds(8));
        var before = await StateAsync(pid);
        Console.WriteLine($"seed {seed}; before: {before}");
        using var over = new CancellationTokenSource(TimeSpan.FromSeconds(seconds));
        var began = Stopwatch.StartNew();
        var clients = Enumerable.Range(0, streams).Select(index => ClientAsync(new Random(seed + index), over.Token)).ToArray();
        var operating = OperateAsync(over.Token);
        while (!over.IsCancellationRequested)
        {
            await Task.Delay(TimeSpan.FromSeconds(30), over.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            Console.WriteLine(
                $"{began.Elapsed.TotalSeconds:F0} s: {await StateAsync(pid)}; {string.Join(' ', _seen.OrderBy(static pair => pair.Key).Select(static pair => $"{pair.Key} {pair.Value}"))}");
        }
        await Task.WhenAll(clients);
        await operating;
        State after = before;
        await UntilAsync(async () => (after = await StateAsync(pid)).IsNoMoreThan(before), TimeSpan.FromSeconds(60));
        Console.WriteLine($"after:  {after}");
        var good = after.IsNoMoreThan(before);
        foreach (var path in (string[])["conn", "places"])
        {
            var admitted = await AdmittedAsync(path);
            Console.WriteLine($"{path}: {admitted} of {Slots} slots are free");
            good &= admitted == Slots;
        }
        Console.WriteLine(good ? "nothing is left" : "SOMETHING IS LEFT");
        return good;
    }

    static async Task UntilAsync(Func<Task<bool>> condition, TimeSpan most)
    {
        var patience = Stopwatch.StartNew();
        while (patience.Elapsed < most)
        {
            try
            {
                if (await condition())
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // it is not up yet
            }
            await Task.Delay(500);
        }
    }

    // -- What there is in the gateway

    sealed record State(int Streams, double Active, double Detached, double TailBytes, double QueueBytes, double Slow, double Timers,
        int Descriptors, long MemoryMiB)
    {
        public bool IsNoMoreThan(State other) =>
            Streams == 0 && Active == 0 && Detached == 0 && TailBytes == 0 && QueueBytes == 0 && Slow == 0
            && Timers <= other.Timers && Descriptors <= other.Descriptors;

        public override string ToString() => string.Create(CultureInfo.InvariantCulture,
            $"{Streams} streams ({Active} counted), {Detached} detached, tails {TailBytes} B, queues {QueueBytes} B, {Slow} slow, {Timers} timers, {Descriptors} descriptors, {MemoryMiB} MiB");
    }

    async Task<int> TotalAsync() =>
        (int)JsonNode.Parse(await s_http.GetStringAsync($"http://127.0.0.1:{_control}/v1/streams?limit=1"))!["total"]!;

    async Task<State> StateAsync(int pid)
    {
        var lines = (await s_http.GetStringAsync($"http://127.0.0.1:{_metrics}/apisix/prometheus/metrics")).Split('\n');
        double Sum(string family) =>
            lines.Where(line => line.StartsWith(family + " ", StringComparison.Ordinal)
                || line.StartsWith(family + "{", StringComparison.Ordinal))
            .Sum(static line => double.Parse(line[(line.LastIndexOf(' ') + 1)..], CultureInfo.InvariantCulture));
        return new(
            await TotalAsync(), Sum("sluice_active_streams"), Sum("sluice_detached_streams"), Sum("sluice_tail_bytes"),
            Sum("sluice_stream_queue_bytes"), Sum("sluice_slow_streams"),
            Sum("sluice_event_loop_timers"), Sockets(pid), Measured.Memory(pid) >> 20);
    }

    /// <summary>But not those that ask now.</summary>
    static int Sockets(int pid) =>
        Directory.GetFileSystemEntries($"/proc/{pid}/fd")
        .Count(static link => new FileInfo(link).LinkTarget?.StartsWith("socket:", StringComparison.Ordinal) == true);

    async Task<int> AdmittedAsync(string path)
    {
        List<Socket> open = [];
        try
        {
            for (var i = 0; i <= Slots; i++)
            {
                var (socket, head) = await OpenAsync(path, "endless", null, CancellationToken.None);
                open.Add(socket);
                if (!head.StartsWith("HTTP/1.1 200 ", StringComparison.Ordinal))
                {
                    return i;
                }
            }
            return Slots + 1;
        }
        finally
        {
            open.ForEach(static socket => socket.Dispose());
        }
    }

    // -- What happens to it

    async Task OperateAsync(CancellationToken over)
    {
        var random = new Random(seed - 1);
        for (var version = 1; !over.IsCancellationRequested; version++)
        {
            await Task.Delay(TimeSpan.FromSeconds(2), over).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            var path = s_policies[random.Next(s_policies.Length)].Path;
            switch (random.Next(4))
            {
                case 0:
                    WriteRoutes(_origin, version);
                    break;
                case 1:
                    using (await s_http.DeleteAsync(new Uri($"http://127.0.0.1:{_control}/v1/streams?route={path}&over=1"),
                        CancellationToken.None))
                    {
                    }
                    break;
                case 2:
                    using (await s_http.DeleteAsync(new Uri($"http://127.0.0.1:{_control}/v1/streams?route={path}&drain=true"),
                        CancellationToken.None))
                    {
                    }
                    break;
                default:
                    await s_http.GetStringAsync($"http://127.0.0.1:{_control}/v1/streams?sort=-idle&limit=1000", CancellationToken.None);
                    break;
            }
        }
    }

    async Task ClientAsync(Random random, CancellationToken over)
    {
        string? position = null;
        while (!over.IsCancellationRequested)
        {
            var path = s_policies[random.Next(s_policies.Length)].Path;
            path = position is null ? path : "kept";
            try
            {
                position = await StreamAsync(path, SoakOrigin.Faults[random.Next(SoakOrigin.Faults.Length)], position, random, over);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException or IOException)
            {
                Saw(e is SocketException { SocketErrorCode: SocketError.ConnectionReset } ? "reset" : "failed");
                position = null;
            }
            await Task.Delay(random.Next(50, 1500), over).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    void Saw(string what) => _seen.AddOrUpdate(what, 1, static (_, count) => count + 1);

    /// <summary>One stream, until it ends or this client has had enough. The position to come back to; null: it does not.</summary>
    async Task<string?> StreamAsync(string path, string fault, string? position, Random random, CancellationToken over)
    {
        var (socket, head) = await OpenAsync(path, fault, position, over);
        using (socket)
        {
            Saw(head.Split(' ') is [_, var status, ..] ? status : "cut");
            if (!head.StartsWith("HTTP/1.1 200 ", StringComparison.Ordinal))
            {
                return null;
            }
            using var enough = CancellationTokenSource.CreateLinkedTokenSource(over);
            enough.CancelAfter(random.Next(100, 10_000));
            var manner = random.Next(4);
            if (manner == 0)
            {
                // takes nothing
                await Task.Delay(Timeout.Infinite, enough.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            else
            {
                var buffer = new byte[4096];
                try
                {
                    while (await socket.ReceiveAsync(buffer, enough.Token) > 0)
                    {
                    }
                    Saw("ended");
                }
                catch (OperationCanceledException)
                {
                    Saw("left");
                }
            }
            if (manner == 1)
            {
                socket.LingerState = new LingerOption(true, 0);
            }
            const string Name = "X-Sluice-Stream-Id: ";
            return path == "kept" && random.Next(2) == 0 && head.IndexOf(Name, StringComparison.OrdinalIgnoreCase) is >= 0 and var at
                ? head[(at + Name.Length)..head.IndexOf('\r', at)] + ".1" : null;
        }
    }

    async Task<(Socket Socket, string Head)> OpenAsync(string path, string fault, string? position, CancellationToken over)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true,
            ReceiveBufferSize = 8192 };
        try
        {
            await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, _port), over);
            var asked =
                $"GET /{path}?do={fault} HTTP/1.1\r\nHost: soak\r\nAccept: text/event-stream\r\nConnection: close\r\n{(position is null ? "" : $"Last-Event-ID: {position}\r\n")}\r\n";
            await socket.SendAsync(Encoding.ASCII.GetBytes(asked), over);
            var (buffer, filled) = (new byte[8192], 0);
            while (buffer.AsSpan(0, filled).IndexOf("\r\n\r\n"u8) < 0 && filled < buffer.Length)
            {
                var read = await socket.ReceiveAsync(buffer.AsMemory(filled), over);
                if (read == 0)
                {
                    break;
                }
                filled += read;
            }
            return (socket, Encoding.ASCII.GetString(buffer, 0, filled));
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    async Task AskAsync(string path, string fault)
    {
        var (socket, _) = await OpenAsync(path, fault, null, CancellationToken.None);
        socket.Dispose();
    }
}

/// <summary>An upstream that does what its client asks for, in a process of its own: descriptors are few.</summary>
static class SoakOrigin
{
    public static readonly string[] Faults =
        ["endless", "endless", "endless", "ends", "ends", "burst", "comments", "stalls", "stalls-before", "half", "reset", "late", "closes",
            "refuses", "length"];

    public static async Task RunAsync()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(4096);
        Console.WriteLine(((IPEndPoint)listener.LocalEndPoint!).Port);
        while (true)
        {
            _ = ServeAsync(await listener.AcceptAsync());
        }
    }

    static async Task ServeAsync(Socket client)
    {
        using var one = client;
        client.NoDelay = true;
        try
        {
            var (buffer, filled) = (new byte[4096], 0);
            while (buffer.AsSpan(0, filled).IndexOf("\r\n\r\n"u8) < 0)
            {
                var read = await client.ReceiveAsync(buffer.AsMemory(filled));
                if (read == 0)
                {
                    return;
                }
                filled += read;
            }
            var line = Encoding.ASCII.GetString(buffer, 0, buffer.AsSpan().IndexOf("\r\n"u8));
            await DoAsync(client, line[(line.IndexOf("do=", StringComparison.Ordinal) + 3)..line.LastIndexOf(' ')].Split('&')[0]);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // the gateway has closed
        }
    }

    static async Task DoAsync(Socket client, string what)
    {
        const string Head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        var random = Random.Shared;
        switch (what)
        {
            case "closes":
                return;
            case "refuses":
                await SayAsync(client, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return;
            case "length":
                await SayAsync(client,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\nConnection: close\r\n\r\ndata: 1\n\n");
                return;
            case "late":
                await Task.Delay(random.Next(500, 3000));
                break;
        }
        await SayAsync(client, Head);
        if (what == "stalls-before")
        {
            await client.ReceiveAsync(new byte[1]);
            return;
        }
        for (var n = 1; ; n++)
        {
            await SayAsync(client,
                Chunk(what == "comments" ? ": nothing yet\n\n"
                    : string.Create(CultureInfo.InvariantCulture,
                        $"event: e{n % 3}\nid: {n}\ndata: {new string('x', random.Next(10, 300))}\n\n")));
            switch (what)
            {
                case "ends" or "late" when n == 5:
                    await SayAsync(client, "0\r\n\r\n");
                    return;
                case "stalls" when n == 2:
                    await client.ReceiveAsync(new byte[1]);
                    return;
                case "half" when n == 3:
                    await SayAsync(client, Chunk("data: half"));
                    return;
                case "reset" when n == 3:
                    client.LingerState = new LingerOption(true, 0);
                    return;
                case "burst" when n < 3000:
                    continue;
            }
            await Task.Delay(random.Next(200, 2500));
        }
    }

    static string Chunk(string text) => $"{text.Length:x}\r\n{text}\r\n";

    static async Task SayAsync(Socket client, string text) => await client.SendAsync(Encoding.ASCII.GetBytes(text));
}

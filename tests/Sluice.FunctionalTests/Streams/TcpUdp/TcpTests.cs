using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Sluice.FunctionalTests.Origins;
using Sluice.FunctionalTests.Processes;

namespace Sluice.FunctionalTests.Streams.TcpUdp;

/// <summary>TCP through stream routes, byte by byte.</summary>
public class TcpTests
{
    static Task<TestGateway> StartAsync(string tcp = "[\"127.0.0.1:0\"]", string more = "") =>
        TestGateway.StartAsync(apisix: $"proxy_mode: \"http&stream\"\nstream_proxy: {{tcp: {tcp}}}\n{more}", ssl: TestGateway.Https);

    static Task RouteAsync(TestGateway gateway, string id, int port, string more = "", string upstream = "") =>
        gateway.PutAsync($"/stream_routes/{id}",
            $$"""{{{(more.Length > 0 ? more + "," : "")}}"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:{{port}}":1}{{(upstream.Length > 0 ? "," + upstream : "")}} } }""");

    static async Task<TcpClient> ConnectAsync(TestGateway gateway, int index = 0)
    {
        var client = new TcpClient { NoDelay = true, ReceiveTimeout = 10_000 };
        await client.ConnectAsync(gateway.Gateway.StreamEndpoints[index]);
        return client;
    }

    /// <summary>Sends, ends its direction, and reads to the end.</summary>
    static async Task<string> AskAsync(Stream stream, Socket socket, byte[] bytes)
    {
        await stream.WriteAsync(bytes);
        if (stream is SslStream tls)
        {
            await tls.ShutdownAsync();
        }
        socket.Shutdown(SocketShutdown.Send);
        using var answer = new MemoryStream();
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        await stream.CopyToAsync(answer, patience.Token);
        return Encoding.Latin1.GetString(answer.ToArray());
    }

    static async Task<string> AskAsync(TestGateway gateway, string text, int index = 0)
    {
        using var client = await ConnectAsync(gateway, index);
        try
        {
            return await AskAsync(client.GetStream(), client.Client, Encoding.Latin1.GetBytes(text));
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            // refused before anything was read
            return "";
        }
    }

    /// <summary>Reads to the client's end, then answers with a name and what it read.</summary>
    static ScriptedOrigin Named(string name) => ScriptedOrigin.Start(async connection =>
    {
        var text = "";
        try
        {
            while (true)
            {
                text += await connection.ReadAsync(1);
            }
        }
        catch (EndOfStreamException)
        {
            await connection.SendAsync($"{name}:{text}");
        }
    });

    [Fact]
    public async Task Nodes_may_come_from_service_discovery()
    {
        using var dns = new DnsServer();
        dns.Addresses("tcp.test", "127.0.0.1");
        await using var origin = Named("found");
        await using var gateway = await TestGateway.StartAsync(
            $"discovery:\n  dns: {{servers: [\"{dns.EndPoint}\"]}}",
            apisix: "proxy_mode: stream\nstream_proxy: {tcp: [\"127.0.0.1:0\"]}\n");
        await gateway.PutAsync("/stream_routes/1",
            $$"""{"upstream":{"type":"roundrobin","discovery_type":"dns","service_name":"tcp.test:{{origin.Port}}"} }""");
        Assert.Equal("found:hello", await AskAsync(gateway, "hello"));
        await gateway.PutAsync("/stream_routes/1",
            """{"upstream":{"type":"roundrobin","discovery_type":"dns","service_name":"none.test:1"}}""");
        Assert.Equal("", await AskAsync(gateway, "hello"));
        await gateway.ErrorLogSaysAsync("stream route 1: ");
    }

    [Fact]
    public async Task Sessions_are_in_the_access_log_of_streams()
    {
        await using var origin = Named("a");
        await using var gateway = await TestGateway.StartAsync(
            "nginx_config:\n  stream: {enable_access_log: true, access_log_format: '$remote_addr $protocol $status $bytes_sent "
                + "$bytes_received $session_time $upstream_addr $route_id'}",
            apisix: "proxy_mode: stream\nstream_proxy: {tcp: [\"127.0.0.1:0\"]}\n");
        await AskAsync(gateway, "no route");
        await RouteAsync(gateway, "1", origin.Port);
        await AskAsync(gateway, "hello");
        await RouteAsync(gateway, "1", origin.Port, """ "plugins":{"ip-restriction":{"blacklist":["127.0.0.1"]}} """);
        await AskAsync(gateway, "");
        await RouteAsync(gateway, "1", 1);
        await AskAsync(gateway, "");
        var file = Path.Combine(gateway.Prefix, "logs", "access_stream.log");
        await Eventually.TrueAsync(() => File.ReadAllLines(file).Length == 4, () => File.ReadAllText(file));
        var lines = File.ReadAllLines(file);
        Assert.Matches(@"^127\.0\.0\.1 TCP 503 0 0 \d+\.\d{3} - -$", lines[0]);
        Assert.Matches($@"^127\.0\.0\.1 TCP 200 7 5 \d+\.\d{{3}} 127\.0\.0\.1:{origin.Port} 1$", lines[1]);
        Assert.Matches(@"^127\.0\.0\.1 TCP 403 0 0 \d+\.\d{3} - 1$", lines[2]);
        Assert.Matches(@"^127\.0\.0\.1 TCP 502 0 0 \d+\.\d{3} 127\.0\.0\.1:1 1$", lines[3]);
    }

    [Fact]
    public async Task The_end_of_one_direction_is_passed_on_and_the_other_goes_on()
    {
        await using var origin = Named("a");
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, "1", origin.Port);
        Assert.Equal("a:hello", await AskAsync(gateway, "hello"));
        await gateway.PutAsync("/stream_routes/1", """{"server_port":1,"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1} } }""");
        Assert.Equal("", await AskAsync(gateway, "hello"));
        await gateway.ErrorLogSaysAsync("stream: no route for 127.0.0.1:");
    }

    [Fact]
    public async Task Routes_are_chosen_by_port_address_and_SNI()
    {
        using var ca = new TestAuthority();
        await using var a = Named("a");
        await using var b = Named("b");
        await using var c = Named("c");
        await using var gateway = await StartAsync("[\"127.0.0.1:0\", {addr: \"127.0.0.1:0\", tls: true}]");
        var ports = gateway.Gateway.StreamEndpoints.Select(endpoint => endpoint.Port).ToArray();
        await gateway.PutAsync("/ssls/1", TestAuthority.Ssl(["*.one.test", "two.test"], [ca.Issue("*.one.test")]));
        await RouteAsync(gateway, "1", a.Port, $"\"server_port\":{ports[0]},\"remote_addr\":\"127.0.0.0/8\"");
        await RouteAsync(gateway, "2", b.Port, "\"sni\":\"*.one.test\"");
        await RouteAsync(gateway, "3", c.Port, "\"sni\":\"x.one.test\"");

        Assert.Equal("a:1", await AskAsync(gateway, "1"));
        Assert.Equal("b:2", await AskTlsAsync("y.one.test"));
        Assert.Equal("c:3", await AskTlsAsync("x.one.test", "3"));
        Assert.Equal("", await AskTlsAsync("two.test"));
        Assert.Contains("unrecognized name",
            (await Tool.RunAsync("openssl", "s_client", "-connect", $"127.0.0.1:{ports[1]}", "-servername", "none.test")).Output,
            StringComparison.Ordinal);

        async Task<string> AskTlsAsync(string name, string text = "2")
        {
            using var client = await ConnectAsync(gateway, 1);
            await using var tls = new SslStream(client.GetStream(), false, (_, certificate, _, _) => certificate is not null);
            await tls.AuthenticateAsClientAsync(name);
            try
            {
                return await AskAsync(tls, client.Client, Encoding.Latin1.GetBytes(text));
            }
            catch (IOException)
            {
                return "";
            }
        }
    }

    [Fact]
    public async Task A_slow_client_slows_the_upstream_and_gets_everything()
    {
        const int total = 64 * 1024 * 1024;
        long sent = 0;
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var piece = new byte[64 * 1024];
            while (Interlocked.Read(ref sent) < total)
            {
                for (var i = 0; i < piece.Length; i++)
                {
                    piece[i] = (byte)((sent + i) % 251);
                }
                await connection.SendAsync(piece);
                Interlocked.Add(ref sent, piece.Length);
            }
        });
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, "1", origin.Port);
        using var client = await ConnectAsync(gateway);
        long before = -1;
        while (Interlocked.Read(ref sent) is var now && (now == 0 || now != before))
        {
            before = now;
            await Task.Delay(200, TestContext.Current.CancellationToken);
        }
        Assert.True(before < total, "the upstream could send everything although nobody read it");

        long read = 0;
        var buffer = new byte[256 * 1024];
        while (await client.GetStream().ReadAsync(buffer, TestContext.Current.CancellationToken) is > 0 and var count)
        {
            Assert.Equal((byte)(read % 251), buffer[0]);
            Assert.Equal((byte)((read + count - 1) % 251), buffer[count - 1]);
            read += count;
        }
        Assert.Equal(total, read);
    }

    [Fact]
    public async Task Plugins_let_in_or_not()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.SendAsync("in");
            await connection.ReadEndAsync();
        });
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, "1", origin.Port, """ "plugins":{"ip-restriction":{"blacklist":["127.0.0.1"]}} """);
        Assert.Equal("", await AskAsync(gateway, ""));
        await gateway.ErrorLogSaysAsync("stream route 1: plugin ip-restriction refused 127.0.0.1:");

        await RouteAsync(gateway, "1", origin.Port,
            """ "plugins":{"limit-conn":{"conn":1,"burst":0,"default_conn_delay":0.01,"key":"remote_addr"}} """);
        using (var first = await ConnectAsync(gateway))
        {
            var buffer = new byte[2];
            await first.GetStream().ReadExactlyAsync(buffer, TestContext.Current.CancellationToken);
            Assert.Equal("", await AskAsync(gateway, ""));
            await gateway.ErrorLogSaysAsync("plugin limit-conn refused 127.0.0.1:");
        }
        for (var answer = ""; answer != "in";)
        {
            answer = await AskAsync(gateway, "");
        }
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/stream_routes/2",
            """{"plugins":{"cors":{}},"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1} } }""");
        Assert.Equal((HttpStatusCode.BadRequest, "unknown plugin [cors]"), (status, (string?)body!["error_msg"]));
    }

    [Fact]
    public async Task The_Admin_API_shows_the_plugins_for_streams_apart()
    {
        await using var gateway = await StartAsync();
        var (_, plugins) = await gateway.AdminAsync(HttpMethod.Get, "/plugins?all=true&subsystem=stream");
        Assert.Equal(["ip-restriction", "limit-conn", "mqtt-proxy"], plugins!.AsObject().Select(plugin => plugin.Key));
        var (_, schema) = await gateway.AdminAsync(HttpMethod.Get, "/schema/plugins/mqtt-proxy?subsystem=stream");
        Assert.NotNull(schema!["properties"]!["protocol_level"]);
        Assert.Equal(HttpStatusCode.NotFound, (await gateway.AdminAsync(HttpMethod.Get, "/schema/plugins/mqtt-proxy")).Status);
    }

    /// <summary>An MQTT 3.1.1 CONNECT.</summary>
    static byte[] Connect(string client, byte level = 4) =>
        [0x10, (byte)(12 + client.Length), 0, 4, (byte)'M', (byte)'Q', (byte)'T', (byte)'T', level, 2, 0, 60, 0, (byte)client.Length,
            .. Encoding.ASCII.GetBytes(client)];

    [Fact]
    public async Task An_MQTT_client_comes_to_the_same_broker_each_time()
    {
        await using var a = Named("a");
        await using var b = Named("b");
        await using var gateway = await StartAsync();
        await gateway.PutAsync("/stream_routes/1",
            $$"""{"plugins":{"mqtt-proxy":{"protocol_level":4} },"upstream":{"type":"chash","key":"mqtt_client_id","nodes":{"127.0.0.1:{{a.Port}}":1,"127.0.0.1:{{b.Port}}":1} } }""");
        HashSet<char> brokers = [];
        for (var client = 0; client < 16; client++)
        {
            var packet = Connect($"client-{client}");
            var answers = new HashSet<string>();
            for (var i = 0; i < 2; i++)
            {
                answers.Add(await AskAsync(gateway, Encoding.Latin1.GetString(packet)));
            }
            var answer = Assert.Single(answers);
            Assert.Equal(Encoding.Latin1.GetString(packet), answer[2..]);
            brokers.Add(answer[0]);
        }
        Assert.Equal(2, brokers.Count);
        Assert.Equal("", await AskAsync(gateway, Encoding.Latin1.GetString(Connect("x", level: 5))));
        await gateway.ErrorLogSaysAsync("expect protocol level: 4, but got 5");
        Assert.Equal("", await AskAsync(gateway, "GET / HTTP/1.1\r\n\r\n"));
    }

    [Theory]
    [InlineData("PROXY TCP4 192.0.2.7 198.51.100.9 4711 883\r\n", "PROXY TCP4 192.0.2.7 198.51.100.9 4711 883\r\n")]
    [InlineData("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x09\x12\x67\x03\x73",
        "PROXY TCP4 192.0.2.7 198.51.100.9 4711 883\r\n")]
    [InlineData("PROXY UNKNOWN\r\n", "PROXY TCP4 127.0.0.1 127.0.0.1 ")]
    [InlineData("hello", null)]
    public async Task A_PROXY_header_is_taken_and_passed_on(string header, string? expected)
    {
        await using var origin = Named("a");
        await using var gateway = await StartAsync(more: "proxy_protocol: {enable_tcp_pp: true, enable_tcp_pp_to_upstream: true}");
        await RouteAsync(gateway, "1", origin.Port);
        var answer = await AskAsync(gateway, header + "body");
        if (expected is null)
        {
            Assert.Equal("", answer);
            await gateway.ErrorLogSaysAsync("sent no PROXY header");
            return;
        }
        Assert.StartsWith("a:" + expected, answer, StringComparison.Ordinal);
        Assert.EndsWith("\r\nbody", answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_dead_node_gives_way_to_the_next_and_a_silent_session_ends()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.SendAsync("in");
            Assert.False(await connection.ReadEndAsync());
        });
        await using var gateway = await StartAsync();
        await gateway.PutAsync("/stream_routes/1",
            $$"""{"upstream":{"type":"roundrobin","timeout":{"connect":5,"send":1,"read":2},"nodes":[{"host":"127.0.0.1","port":1,"weight":1,"priority":1},{"host":"127.0.0.1","port":{{origin.Port}},"weight":1}]} }""");
        using var client = await ConnectAsync(gateway);
        var buffer = new byte[3];
        Assert.Equal(2, await client.GetStream().ReadAsync(buffer, TestContext.Current.CancellationToken));
        await Assert.ThrowsAsync<IOException>(async () => await client.GetStream()
            .ReadExactlyAsync(buffer, TestContext.Current.CancellationToken));
        await gateway.ErrorLogSaysAsync("stream route 1: upstream 127.0.0.1:1: ");
    }

    [Fact]
    public async Task A_graceful_stop_waits_for_open_sessions_and_takes_no_new_ones()
    {
        await using var origin = Named("a");
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, "1", origin.Port);
        using var open = await ConnectAsync(gateway);
        await open.GetStream().WriteAsync("he"u8.ToArray(), TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(() => origin.Accepted == 1, "not connected");
        var address = gateway.Gateway.StreamEndpoints[0];

        var stopped = gateway.Gateway.StopAsync(graceful: true);
        await Eventually.TrueAsync(() => !CanConnect(address), "still accepting");
        Assert.False(stopped.IsCompleted);
        Assert.Equal("a:hello", await AskAsync(open.GetStream(), open.Client, "llo"u8.ToArray()));
        await stopped.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
    }

    static bool CanConnect(IPEndPoint address)
    {
        try
        {
            using var client = new TcpClient();
            client.Connect(address);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    [Fact]
    public async Task A_reload_opens_and_closes_addresses_and_leaves_sessions_alone()
    {
        await using var origin = Named("a");
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, "1", origin.Port);
        using var open = await ConnectAsync(gateway);
        await open.GetStream().WriteAsync("he"u8.ToArray(), TestContext.Current.CancellationToken);
        await Eventually.TrueAsync(() => origin.Accepted == 1, "not connected");
        var port = Processes.CommandFixture.FreePort();

        gateway.Write("conf/config.yaml",
            TestGateway.Config(apisix: $"proxy_mode: \"http&stream\"\nstream_proxy: {{tcp: [\"127.0.0.1:{port}\"]}}"));
        await gateway.ReloadAsync();

        Assert.Equal(port, Assert.Single(gateway.Gateway.StreamEndpoints).Port);
        Assert.Equal("a:new", await AskAsync(gateway, "new"));
        Assert.Equal("a:hello", await AskAsync(open.GetStream(), open.Client, "llo"u8.ToArray()));
    }

    [Fact]
    public async Task HTTP_behind_the_PROXY_protocol_knows_the_client()
    {
        await using var origin = EchoOrigin.Start();
        var port = Processes.CommandFixture.FreePort();
        await using var gateway = await TestGateway.StartAsync("nginx_config: {http: {real_ip_header: proxy_protocol}}",
            apisix: $"proxy_protocol: {{listen_http_port: {port}}}");
        await gateway.RouteAsync("r1", "/*", origin.Port);
        var (_, echo) = await Tool.RunAsync("curl", "-sS", "--max-time", "20", "--haproxy-clientip", "192.0.2.7", "--haproxy-protocol",
            $"http://127.0.0.1:{port}/x");
        if (echo.Contains("is unknown", StringComparison.Ordinal))
        {
            // older curls send their own address
            (_, echo) = await Tool.RunAsync("curl", "-sS", "--max-time", "20", "--haproxy-protocol", $"http://127.0.0.1:{port}/x");
            Assert.Contains("X-Real-IP: 127.0.0.1\r\n", echo, StringComparison.Ordinal);
        }
        else
        {
            Assert.Contains("X-Real-IP: 192.0.2.7\r\n", echo, StringComparison.Ordinal);
        }
        Assert.NotEqual(0, (await Tool.RunAsync("curl", "-sS", "--max-time", "20", $"http://127.0.0.1:{port}/x")).ExitCode);
        await gateway.ErrorLogSaysAsync("sent no PROXY header");
    }
}

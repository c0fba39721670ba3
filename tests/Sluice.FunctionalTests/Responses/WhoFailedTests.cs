using System.Net;
using System.Net.Sockets;
using System.Text;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Responses;

/// <summary>Who caused a failure: what is answered, logged and counted goes by it.</summary>
public sealed class WhoFailedTests(WhoFailedTests.Fixture fixture) : IClassFixture<WhoFailedTests.Fixture>
{
    public sealed class Fixture : IAsyncLifetime
    {
        public TestGateway Gateway { get; private set; } = null!;

        public async ValueTask InitializeAsync() => Gateway = await TestGateway.StartAsync(
            "nginx_config:\n  http:\n    access_log_format: '$uri|$status|$upstream_addr|$upstream_status|$sluice_failure'",
            nginx: "http { server { location /finish { proxy_ignore_client_abort on; } } }");

        public ValueTask DisposeAsync() => Gateway.DisposeAsync();
    }

    TestGateway Gateway => fixture.Gateway;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    Task LoggedAsync(string line)
    {
        var file = Path.Combine(Gateway.Prefix, "logs", "access.log");
        return Eventually.TrueAsync(
            () => File.Exists(file) && File.ReadAllLines(file).Contains(line),
            () => $"no \"{line}\" in:\n{(File.Exists(file) ? File.ReadAllText(file) : "")}");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_response_that_fails_before_its_first_byte_leaves_nothing_of_itself_in_the_error(bool http2)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(
                "HTTP/1.1 200 OK\r\nX-Own: 1\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
            await connection.ReadEndAsync();
        });
        await Gateway.RouteAsync("bad", "/bad", origin.Port,
            """ "plugins":{"limit-count":{"count":100,"time_window":60,"key":"$uri","key_type":"var"}} """);
        using var request = new HttpRequestMessage(HttpMethod.Get, Gateway.Url("/bad"))
        {
            Version = http2 ? HttpVersion.Version20 : HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        using var response = await Gateway.Client.SendAsync(request, Cancel);
        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
        Assert.Equal("""{"error_msg":"502 Bad Gateway"}""" + "\n", await response.Content.ReadAsStringAsync(Cancel));
        Assert.False(response.Headers.Contains("X-Own"));
        Assert.True(response.Headers.TransferEncodingChunked is not true);
        Assert.NotNull(response.Content.Headers.ContentLength);
        // what plugins had said stays
        Assert.Equal("100", response.Headers.GetValues("X-RateLimit-Limit").Single());
    }

    [Theory]
    [InlineData("close", "GET")]
    [InlineData("half", "GET")]
    [InlineData("reset", "POST")]
    public async Task A_client_that_leaves_before_the_head_is_499_with_the_node_it_asked(string how, string method)
    {
        var (asked, gone) = (new TaskCompletionSource(), new TaskCompletionSource());
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            asked.SetResult();
            await connection.ReadEndAsync();
            gone.SetResult();
        });
        var path = $"/gone-{how}";
        await Gateway.RouteAsync($"gone-{how}", path, origin.Port, """ "plugins":{"prometheus":{}} """);
        using (var client = await RawConnection.ConnectAsync(Gateway.EndPoint))
        {
            await client.SendAsync($"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            await asked.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
            if (how == "half")
            {
                client.ShutdownSend();
                await client.ReadEndAsync();
            }
            else if (how == "reset")
            {
                client.Reset();
            }
        }
        await gone.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        await LoggedAsync($"{path}|499|127.0.0.1:{origin.Port}|-|client_gone");
        await Gateway.MetricsSayAsync($"apisix_http_status{{code=\"499\",route=\"gone-{how}\",");
        Assert.Single((await Gateway.MetricsAsync()).Split('\n'),
            one => one.StartsWith("apisix_http_status{", StringComparison.Ordinal)
            && one.Contains($"route=\"gone-{how}\"", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_client_that_leaves_while_its_node_does_not_take_the_connection_is_499_at_once()
    {
        // a full backlog: the kernel drops further SYNs
        using var full = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        full.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        full.Listen(0);
        using var fills = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await fills.ConnectAsync(full.LocalEndPoint!, Cancel);
        var port = ((IPEndPoint)full.LocalEndPoint!).Port;
        await Gateway.RouteAsync("silent", "/silent", port, """ "timeout":{"connect":3600,"send":60,"read":60} """);
        using (var client = await RawConnection.ConnectAsync(Gateway.EndPoint))
        {
            await client.SendAsync("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
            await Eventually.TrueAsync(() => IsConnecting(port), "it does not connect");
        }
        await LoggedAsync($"/silent|499|127.0.0.1:{port}|-|client_gone");
    }

    /// <summary>A SYN to the port has no answer yet.</summary>
    static bool IsConnecting(int port) =>
        File.ReadAllLines("/proc/net/tcp").Any(line => line.Contains($" 0100007F:{port:X4} 02 ", StringComparison.Ordinal));

    [Fact]
    public async Task With_proxy_ignore_client_abort_the_upstream_comes_to_its_end()
    {
        var (asked, left) = (new TaskCompletionSource(), new TaskCompletionSource());
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            asked.SetResult();
            await left.Task;
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        await Gateway.RouteAsync("finish", "/finish", origin.Port);
        using (var client = await RawConnection.ConnectAsync(Gateway.EndPoint))
        {
            await client.SendAsync("POST /finish HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            await asked.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
            client.Reset();
        }
        // whoever serves these has heard of the reset before
        for (var i = 0; i < 20; i++)
        {
            var (other, _) = await RawConnection.GetAsync(Gateway.EndPoint, "/nowhere");
            other.Dispose();
        }
        left.SetResult();
        await LoggedAsync($"/finish|200|127.0.0.1:{origin.Port}|200|-");
    }

    [Fact]
    public async Task Cancelled_gRPC_calls_take_no_node_out()
    {
        var echo = new GrpcEcho();
        await using var origin = await WebOrigin.StartAppAsync(
            app => app.MapGrpcService<GrpcEcho>(), protocols: HttpProtocols.Http2,
            services: services => services.AddSingleton(echo).AddGrpc());
        await Gateway.PutAsync("/routes/grpc", $$"""
            {"uri":"/test.Echo/*","upstream":{"scheme":"grpc","nodes":{"127.0.0.1:{{origin.Port}}":1},"checks":{"active":{"http_path":"/"},
             "passive":{"unhealthy":{"tcp_failures":1,"http_failures":1,"timeouts":1} } } } }
            """);
        using var channel = GrpcChannel.ForAddress($"http://{Gateway.EndPoint}");
        await Parallel.ForEachAsync(Enumerable.Range(0, 100),
            new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = Cancel }, async (number, cancel) =>
        {
            using var stop = new CancellationTokenSource();
            using var call = channel.CreateCallInvoker()
                .AsyncDuplexStreamingCall(GrpcEcho.ChatMethod, null, new CallOptions(cancellationToken: stop.Token));
            try
            {
                await call.RequestStream.WriteAsync("x", cancel);
                if (number % 2 == 0)
                {
                    await call.ResponseStream.MoveNext(cancel);
                }
                await stop.CancelAsync();
                await call.ResponseStream.MoveNext(cancel);
            }
            catch (RpcException)
            {
            }
        });
        var health = await Gateway.ControlAsync("/v1/healthcheck");
        Assert.DoesNotContain("unhealthy", health.ToJsonString(), StringComparison.Ordinal);
        using var last = channel.CreateCallInvoker().AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, "still");
        Assert.Equal("echo still", await last);
        Assert.True(!Gateway.ErrorLog.Contains("route grpc: upstream", StringComparison.Ordinal), Gateway.ErrorLog);
    }

    [Fact]
    public async Task An_upload_that_is_reset_is_the_clients_doing_and_no_fault_of_ours()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.ReadEndAsync();
        });
        await Gateway.RouteAsync("upload", "/upload", origin.Port, """ "plugins":{"proxy-buffering":{}} """);
        for (var i = 0; i < 30; i++)
        {
            using var stop = new CancellationTokenSource();
            using var request = new HttpRequestMessage(HttpMethod.Post, Gateway.Url("/upload"))
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = new Endless(stop),
            };
            await Assert.ThrowsAnyAsync<Exception>(() => Gateway.Client.SendAsync(request, stop.Token));
        }
        var log = Path.Combine(Gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(log)
            && File.ReadAllLines(log).Count(line => line.StartsWith("/upload|499|", StringComparison.Ordinal)) == 30,
            () => "not 30 times 499:\n" + Gateway.ErrorLog);
        Assert.True(!Gateway.ErrorLog.Contains("unexpected failure", StringComparison.Ordinal), Gateway.ErrorLog);
    }

    /// <summary>A body that is cancelled in its middle.</summary>
    sealed class Endless(CancellationTokenSource stop) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.WriteAsync(new byte[20_000]);
            await stream.FlushAsync();
            await stop.CancelAsync();
            throw new IOException("that is all");
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    [Fact]
    public async Task A_gRPC_call_that_a_leaving_node_has_not_looked_at_is_sent_again()
    {
        var requests = 0;
        async Task SpeakAsync(OriginConnection connection, bool leaves)
        {
            await connection.ReadAsync(24);
            await connection.SendAsync(Frame(4, 0, 0, ""));
            while (true)
            {
                var head = Encoding.Latin1.GetBytes(await connection.ReadAsync(9));
                await connection.ReadAsync((head[0] << 16) | (head[1] << 8) | head[2]);
                var stream = (head[5] << 24) | (head[6] << 16) | (head[7] << 8) | head[8];
                if (head[3] == 4 && (head[4] & 1) == 0)
                {
                    await connection.SendAsync(Frame(4, 1, 0, ""));
                }
                if (head[3] != 0 || (head[4] & 1) == 0)
                {
                    continue;
                }
                // the request is whole
                requests++;
                if (leaves)
                {
                    await connection.SendAsync(Frame(7, 0, 0, "\0\0\0\0\0\0\0\0"));
                    return;
                }
                await connection.SendAsync(Frame(1, 4, stream, "\x88" + Header("content-type", "application/grpc"))
                    + Frame(0, 0, stream, "\0\0\0\0\x02ok")
                    + Frame(1, 5, stream, Header("grpc-status", "0")));
            }
        }
        await using var origin = ScriptedOrigin.Start(connection => SpeakAsync(connection, leaves: true),
            connection => SpeakAsync(connection, leaves: false));
        await Gateway.PutAsync("/routes/leaving",
            $$"""{"uri":"/test.Leaving/*","upstream":{"scheme":"grpc","nodes":{"127.0.0.1:{{origin.Port}}":1},"retries":0} }""");
        using var channel = GrpcChannel.ForAddress($"http://{Gateway.EndPoint}");
        var text = Marshallers.Create(static value => Encoding.UTF8.GetBytes(value), static bytes => Encoding.UTF8.GetString(bytes));
        var method = new Method<string, string>(MethodType.Unary, "test.Leaving", "Call", text, text);
        using var call = channel.CreateCallInvoker().AsyncUnaryCall(method, null, new CallOptions(cancellationToken: Cancel), "hello");
        Assert.Equal("ok", await call);
        Assert.Equal(2, requests);
    }

    static string Frame(byte type, byte flags, int stream, string payload) =>
        $"{(char)(payload.Length >> 16)}{(char)((payload.Length >> 8) & 255)}{(char)(payload.Length & 255)}{(char)type}{(char)flags}"
        + $"{(char)((stream >> 24) & 255)}{(char)((stream >> 16) & 255)}{(char)((stream >> 8) & 255)}{(char)(stream & 255)}{payload}";

    /// <summary>HPACK: a literal with a new name, not indexed.</summary>
    static string Header(string name, string value) => $"\0{(char)name.Length}{name}{(char)value.Length}{value}";

    [Fact]
    public async Task Streams_that_shutdown_timeout_cuts_leave_a_warning()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
            await connection.ReadEndAsync();
        });
        await using var gateway = await TestGateway.StartAsync("sluice: {shutdown_timeout: 1}");
        await gateway.RouteAsync("open", "/open", origin.Port);
        var (client, _) = await RawConnection.GetAsync(gateway.EndPoint, "/open");
        using (client)
        {
            await client.ReadUntilAsync("data: 1\n\n");
            await gateway.Gateway.StopAsync(graceful: true);
        }
        Assert.Contains("shutdown_timeout (1 s) is over: 1 responses that are under way are cut", gateway.ErrorLog,
            StringComparison.Ordinal);
    }
}

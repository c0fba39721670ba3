using System.Net;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Sluice.FunctionalTests.Origins;
using Sluice.Pipeline;

namespace Sluice.FunctionalTests.Streams.WebSocket;

/// <summary>WebSocket through the gateway: only where the route allows it, each message at once, ends passed on.</summary>
public sealed class UpgradeTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>
{
    const string Ask =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const string Switching =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    /// <summary>A server that sends back what it gets, over HTTP/1.1 and HTTP/2.</summary>
    internal static async Task EchoAsync(HttpContext context)
    {
        using var server = await context.WebSockets.AcceptWebSocketAsync("chat");
        var buffer = new byte[1024];
        while (await server.ReceiveAsync(buffer, default) is { MessageType: not WebSocketMessageType.Close } message)
        {
            await server.SendAsync(buffer.AsMemory(0, message.Count), message.MessageType, message.EndOfMessage, default);
        }
        await server.CloseAsync(WebSocketCloseStatus.NormalClosure, "bye", default);
    }

    /// <summary>The head that opens a WebSocket for the request with this head.</summary>
    static string Accepting(string head)
    {
        const string KeyHeader = "Sec-WebSocket-Key: ";
        var key = head[(head.IndexOf(KeyHeader, StringComparison.OrdinalIgnoreCase) + KeyHeader.Length)..];
        var accept = WebSocketHandshake.Accept(key[..key.IndexOf('\r', StringComparison.Ordinal)]);
        return $"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n";
    }

    static byte[] Connect(string path) => RawHttp2.Head(
        1, (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path), (":authority", "a"),
        ("sec-websocket-version", "13"));

    static Task<WebOrigin> StartEchoAsync(HttpProtocols protocols) =>
        WebOrigin.StartAppAsync(app => app.UseWebSockets().Run(EchoAsync), protocols: protocols);

    static ClientWebSocket Client(Protocol protocol)
    {
        var client = new ClientWebSocket();
        client.Options.AddSubProtocol("chat");
        client.Options.CollectHttpResponseDetails = true;
        client.Options.HttpVersion = protocol is Protocol.H2c or Protocol.TlsHttp2 ? HttpVersion.Version20 : HttpVersion.Version11;
        client.Options.HttpVersionPolicy = HttpVersionPolicy.RequestVersionExact;
        return client;
    }

    static async Task ConnectAsync(ClientWebSocket client, Uri url, CancellationToken cancel)
    {
        using var handler = new SocketsHttpHandler { UseProxy = false };
        handler.SslOptions.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
        await client.ConnectAsync(new UriBuilder(url) { Scheme = url.Scheme == "http" ? "ws" : "wss" }.Uri,
            new HttpMessageInvoker(handler, disposeHandler: false), cancel);
    }

    Uri Url(Protocol protocol, string path) => fixture.Url(protocol, path);

    [Fact]
    public async Task Over_Http2_the_servers_last_words_and_the_streams_end_come_before_anything_resets_it()
    {
        await using var origin = ScriptedOrigin.Start(
            async connection => await connection.SendAsync(Accepting(await connection.ReadHeadAsync()) + "last words"));
        var path = await fixture.RouteAsync(origin.Port, """ "enable_websocket":true """);
        using var socket = await RawHttp2.ConnectAsync(fixture.Gateway.EndPoint);
        await using var connection = new NetworkStream(socket);
        await socket.SendAsync(Connect(path));
        // what comes for the stream until the answer to a question that is asked when it has ended
        List<string> frames = [];
        while (await RawHttp2.ReadAsync(connection) is var (type, flags, stream, payload) && stream != 3)
        {
            var ended = type is 0 or 1 && (flags & RawHttp2.EndStream) != 0;
            if (stream == 1)
            {
                frames.Add(type switch
                {
                    0 => $"data {Encoding.ASCII.GetString(payload)}",
                    1 => "head",
                    3 => $"reset {payload[3]}",
                    _ => $"type {type}",
                } + (ended ? " end" : ""));
                if (ended)
                {
                    await socket.SendAsync(RawHttp2.Head(3, (":method", "GET"), (":scheme", "http"), (":path", "/nowhere"),
                        (":authority", "a")));
                }
            }
        }
        // the end may come with the last words, or by itself
        var ends = frames.FindIndex(static frame => frame.EndsWith(" end", StringComparison.Ordinal));
        Assert.Equal("head|data last words end", string.Join('|', frames.Take(ends + 1)).Replace("|data  end", " end", StringComparison.Ordinal));
        // NO_ERROR says that what the client might still send is not wanted (RFC 9113, 8.1)
        Assert.All(frames.Skip(ends + 1), static frame => Assert.Equal("reset 0", frame));
    }

    [Theory]
    [InlineData(new byte[] { 0x88, 0x82, 1, 2, 3, 4, 5, 6 }, true)]
    [InlineData(new byte[] { 0x82, 0x82, 1, 2, 3, 4, 5, 6 }, false)]
    public async Task The_end_of_a_stream_behind_its_Close_waits_for_the_servers_answer(byte[] last, bool waits)
    {
        var clock = new ManualClock();
        await using var gateway = await TestGateway.StartAsync(time: clock);
        var (sent, ended) = (new TaskCompletionSource(), new TaskCompletionSource<bool>());
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.SendAsync(Accepting(await connection.ReadHeadAsync()));
            await connection.ReadAsync(last.Length);
            sent.SetResult();
            ended.SetResult(await connection.ReadEndAsync());
        });
        await gateway.RouteAsync("r1", "/ws", origin.Port, """ "enable_websocket":true """);
        using var socket = await RawHttp2.ConnectAsync(gateway.EndPoint);
        await socket.SendAsync(Connect("/ws"));
        await socket.SendAsync(RawHttp2.Frame(0, RawHttp2.EndStream, 1, last));
        await sent.Task.WaitAsync(TimeSpan.FromSeconds(30));
        if (waits)
        {
            using var other = await gateway.Client.GetAsync(gateway.Url("/nowhere"));
            Assert.False(ended.Task.IsCompleted);
            await Eventually.HoldsAsync(() =>
            {
                clock.Advance(TimeSpan.FromSeconds(1));
                return Task.FromResult(ended.Task.IsCompleted);
            }, "the end never came");
            Assert.True(clock.GetUtcNow() - DateTimeOffset.UnixEpoch >= Relay.Tunnel.CloseGrace);
        }
        Assert.True(await ended.Task.WaitAsync(TimeSpan.FromSeconds(30)));
    }

    [Theory]
    [InlineData(Protocol.Http1, "http")]
    [InlineData(Protocol.TlsHttp1, "http")]
    [InlineData(Protocol.H2c, "http")]
    [InlineData(Protocol.TlsHttp2, "http")]
    [InlineData(Protocol.Http1, "grpc")]
    [InlineData(Protocol.TlsHttp1, "grpc")]
    [InlineData(Protocol.H2c, "grpc")]
    [InlineData(Protocol.TlsHttp2, "grpc")]
    public async Task Messages_go_both_ways_each_at_once(Protocol protocol, string scheme)
    {
        await using var origin = await StartEchoAsync(scheme == "grpc" ? HttpProtocols.Http2 : HttpProtocols.Http1);
        var path = await fixture.RouteAsync(origin.Port, """ "enable_websocket":true """, scheme);
        using var client = Client(protocol);
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        await ConnectAsync(client, Url(protocol, path), patience.Token);
        Assert.Equal("chat", client.SubProtocol);
        var buffer = new byte[1024];
        foreach (var text in (string[])["one", "two", "three"])
        {
            await client.SendAsync(Encoding.UTF8.GetBytes(text), WebSocketMessageType.Text, true, patience.Token);
            var message = await client.ReceiveAsync(buffer, patience.Token);
            Assert.Equal(text, Encoding.UTF8.GetString(buffer, 0, message.Count));
        }
        await client.CloseAsync(WebSocketCloseStatus.NormalClosure, "", patience.Token);
        Assert.Equal("bye", client.CloseStatusDescription);
    }

    /// <summary>The status of a handshake over HTTP/2 that fails.</summary>
    async Task<int> RefusedAsync(int port, string? more)
    {
        using var client = Client(Protocol.TlsHttp2);
        var path = await fixture.RouteAsync(port, more);
        await Assert.ThrowsAsync<WebSocketException>(
            () => ConnectAsync(client, Url(Protocol.TlsHttp2, path), TestContext.Current.CancellationToken));
        return (int)client.HttpStatusCode;
    }

    [Fact]
    public async Task Over_HTTP2_it_is_refused_where_the_route_does_not_allow_it()
    {
        await using var origin = await StartEchoAsync(HttpProtocols.Http1);
        Assert.Equal(403, await RefusedAsync(origin.Port, null));
    }

    [Fact]
    public async Task Over_HTTP2_a_plain_answer_of_success_does_not_open_a_tunnel()
    {
        await using var origin = await WebOrigin.StartAsync("no WebSocket here");
        Assert.Equal(400, await RefusedAsync(origin.Port, """ "enable_websocket":true """));
    }

    [Fact]
    public async Task Over_HTTP2_a_node_that_did_not_read_the_key_is_not_believed()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Switching);
            await connection.ReadEndAsync();
        });
        Assert.Equal(502, await RefusedAsync(origin.Port, """ "enable_websocket":true """));
    }

    [Fact]
    public async Task Over_HTTP2_another_protocol_than_websocket_is_not_implemented()
    {
        await using var origin = await StartEchoAsync(HttpProtocols.Http1);
        var path = await fixture.RouteAsync(origin.Port, """ "enable_websocket":true """);
        using var request = new HttpRequestMessage(HttpMethod.Connect, Url(Protocol.TlsHttp2, path))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Headers = { Protocol = "connect-udp" },
        };
        using var response = await fixture.Client(Protocol.TlsHttp2)
            .SendAsync(request, HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.NotImplemented, response.StatusCode);
    }

    [Fact]
    public async Task Over_HTTP2_the_limit_of_bodies_is_none_of_messages()
    {
        await using var origin = await StartEchoAsync(HttpProtocols.Http1);
        await using var gateway = await TestGateway.StartAsync(nginx: "http { client_max_body_size 1k; }");
        await gateway.RouteAsync("1", "/", origin.Port, """ "enable_websocket":true """);
        using var client = Client(Protocol.H2c);
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        await ConnectAsync(client, gateway.Url("/"), patience.Token);
        var buffer = new byte[1024];
        for (var i = 0; i < 10; i++)
        {
            await client.SendAsync(buffer, WebSocketMessageType.Binary, true, patience.Token);
            Assert.Equal(buffer.Length, (await client.ReceiveAsync(buffer, patience.Token)).Count);
        }
    }

    [Theory]
    [InlineData("http")]
    [InlineData("grpc")]
    public async Task Over_HTTP2_a_client_that_leaves_takes_its_upstream_along(string scheme)
    {
        var gone = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var origin = await WebOrigin.StartAppAsync(
            app => app.UseWebSockets().Run(async context =>
            {
                using var server = await context.WebSockets.AcceptWebSocketAsync("chat");
                try
                {
                    await server.ReceiveAsync(new byte[1], default);
                }
                catch (Exception e) when (e is WebSocketException or IOException or OperationCanceledException)
                {
                    gone.SetResult();
                }
            }),
            protocols: scheme == "grpc" ? HttpProtocols.Http2 : HttpProtocols.Http1);
        var path = await fixture.RouteAsync(origin.Port, """ "enable_websocket":true """, scheme);
        using var client = Client(Protocol.TlsHttp2);
        await ConnectAsync(client, Url(Protocol.TlsHttp2, path), TestContext.Current.CancellationToken);

        client.Abort();

        await gone.Task.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task Bytes_that_come_with_the_101_and_before_the_client_has_read_it_are_not_lost()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            Assert.Contains("\r\nUpgrade: websocket\r\n", await connection.ReadHeadAsync(), StringComparison.OrdinalIgnoreCase);
            await connection.SendAsync(Switching + "early");
            await connection.ExpectAsync("eager");
            await connection.SendAsync("late");
            connection.ShutdownSend();
            await connection.ReadEndAsync();
        });
        var (client, head) = await OpenAsync(origin, """ "enable_websocket":true """, "eager");
        using (client)
        {
            Assert.StartsWith("HTTP/1.1 101 ", head, StringComparison.Ordinal);
            Assert.Contains("\r\nUpgrade: websocket\r\n", head, StringComparison.OrdinalIgnoreCase);
            Assert.Equal(("earlylate", false), await client.ReadRestAsync());
        }
    }

    [Theory]
    [InlineData(null)]
    [InlineData(""" "enable_websocket":false """)]
    public async Task Where_the_route_does_not_allow_it_the_upstream_is_not_asked_to_upgrade(string? more)
    {
        await using var origin = EchoOrigin.Start();
        var (client, head) = await OpenAsync(origin, more);
        using (client)
        {
            Assert.StartsWith("HTTP/1.1 200 ", head, StringComparison.Ordinal);
            var echo = await client.ReadHeadAsync();
            Assert.DoesNotContain("\r\nUpgrade:", echo, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain("\r\nConnection: Upgrade", echo, StringComparison.OrdinalIgnoreCase);
        }
    }

    [Fact]
    public async Task A_101_that_nobody_asked_for_is_a_502()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Switching);
            await connection.ReadEndAsync();
        });
        var (client, head) = await OpenAsync(origin, null);
        client.Dispose();
        Assert.StartsWith("HTTP/1.1 502 ", head, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_refusal_of_the_upstream_is_passed_on()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
            await connection.ReadEndAsync();
        });
        var (client, head) = await OpenAsync(origin, """ "enable_websocket":true """);
        using (client)
        {
            Assert.StartsWith("HTTP/1.1 403 ", head, StringComparison.Ordinal);
            await client.ExpectAsync("no");
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Either_side_that_leaves_takes_the_other_along(bool clientLeaves)
    {
        var gone = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Switching + "hello");
            if (clientLeaves)
            {
                await connection.ReadEndAsync();
                gone.SetResult();
            }
            else
            {
                connection.Reset();
            }
        });
        var (client, _) = await OpenAsync(origin, """ "enable_websocket":true """);
        using (client)
        {
            if (clientLeaves)
            {
                await client.ExpectAsync("hello");
                client.Close();
                await gone.Task.WaitAsync(TimeSpan.FromSeconds(30));
            }
            else
            {
                await client.ReadEndAsync();
            }
        }
    }

    async Task<(OriginConnection Connection, string Head)> OpenAsync(ScriptedOrigin origin, string? more, string eager = "")
    {
        var path = await fixture.RouteAsync(origin.Port, more);
        return await RawConnection.AskAsync(fixture.Gateway.EndPoint, $"GET {path} HTTP/1.1\r\nHost: x.test\r\n{Ask}\r\n{eager}");
    }
}

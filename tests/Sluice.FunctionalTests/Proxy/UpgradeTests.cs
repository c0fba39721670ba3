using Microsoft.AspNetCore.Builder;
using System.Net.WebSockets;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Proxy;

/// <summary>WebSocket through the gateway: only where the route allows it, each message at once, ends passed on.</summary>
public sealed class UpgradeTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>
{
    const string Ask = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const string Switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    [Theory]
    [InlineData(Protocol.Http1)]
    [InlineData(Protocol.TlsHttp1)]
    public async Task Messages_go_both_ways_each_at_once(Protocol protocol)
    {
        await using var origin = await WebOrigin.StartAppAsync(app =>
        {
            app.UseWebSockets();
            app.Run(async context =>
            {
                using var server = await context.WebSockets.AcceptWebSocketAsync("chat");
                var buffer = new byte[1024];
                while (await server.ReceiveAsync(buffer, default) is { MessageType: not WebSocketMessageType.Close } message)
                {
                    await server.SendAsync(buffer.AsMemory(0, message.Count), message.MessageType, message.EndOfMessage, default);
                }
                await server.CloseAsync(WebSocketCloseStatus.NormalClosure, "bye", default);
            });
        });
        var path = await fixture.RouteAsync(origin.Port, """ "enable_websocket":true """);
        using var client = new ClientWebSocket();
        client.Options.AddSubProtocol("chat");
        client.Options.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        await client.ConnectAsync(new UriBuilder(fixture.Url(protocol, path)) { Scheme = protocol == Protocol.Http1 ? "ws" : "wss" }.Uri, patience.Token);
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
                await gone.Task.WaitAsync(TimeSpan.FromSeconds(10));
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

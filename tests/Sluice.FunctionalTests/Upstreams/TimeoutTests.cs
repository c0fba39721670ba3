using System.Net;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Upstreams;

/// <summary>
/// A time-out limits silence, never the whole: every exchange here takes several times as long as its time-out, by a clock that the test
/// moves, and is whole. After each of them the same exchange falls silent for longer than the time-out and is ended.
/// </summary>
public sealed class TimeoutTests(TimeoutTests.Fixture fixture) : IClassFixture<TimeoutTests.Fixture>
{
    public sealed class Fixture : ProtocolsGateway
    {
        public ManualClock Clock { get; } = new();

        protected override TimeProvider Time => Clock;

        protected override string Nginx =>
            "http { client_body_timeout 10s; send_timeout 10s; keepalive_timeout 1d; client_header_timeout 1d; }";
    }

    /// <summary>Of connect, send and read: 10 s each.</summary>
    const string Ten = """ "timeout":{"connect":10,"send":10,"read":10} """;

    const int Pieces = 5;

    /// <summary>Less than a time-out, and five of them more.</summary>
    void Pause() => fixture.Clock.Advance(TimeSpan.FromSeconds(7));

    /// <summary>Longer than a time-out, until it ends what it has to end: the gateway may begin to wait only after the test has begun
    /// to.</summary>
    async Task SilenceEndsAsync(Task exchange)
    {
        for (var i = 0; i < 1000 && !exchange.IsCompleted; i++)
        {
            fixture.Clock.Advance(TimeSpan.FromSeconds(11));
            await Task.WhenAny(exchange, Task.Delay(10, Cancel));
        }
        await exchange.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
    }

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static TheoryData<Protocol, Framing, bool, bool> Ways()
    {
        var ways = new TheoryData<Protocol, Framing, bool, bool>();
        foreach (var protocol in Enum.GetValues<Protocol>())
        {
            foreach (var framing in (Framing[])[Framing.ChunkPerEvent, Framing.CloseDelimited])
            {
                ways.Add(protocol, framing, false, false);
                ways.Add(protocol, framing, true, false);
                ways.Add(protocol, framing, false, true);
            }
        }
        return ways;
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task The_read_timeout_begins_anew_with_each_piece_of_a_response(Protocol protocol, Framing framing, bool buffering,
        bool filtered)
    {
        await using var origin = new EventOrigin(framing);
        var plugins =
            $$""" "plugins":{"proxy-buffering":{"disable_proxy_buffering":{{(buffering ? "false" : "true")}}}{{(filtered ? "," + Bodies.RelayedBytesTests.Untouched : "")}} } """;
        using var response = await fixture.SendAsync(protocol, await fixture.RouteAsync(origin.Port, $"{Ten},{plugins}"));
        using var events = new EventReader(await response.Content.ReadAsStreamAsync(Cancel));
        for (var i = 0; i < Pieces; i++)
        {
            await origin.SendAsync(EventOrigin.Event(i));
            Assert.Equal(EventOrigin.Event(i), (await events.NextAsync()).Event);
            Pause();
        }
        await SilenceEndsAsync(Assert.ThrowsAnyAsync<Exception>(events.NextAsync));
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
    }

    [Fact]
    public async Task The_read_timeout_begins_anew_with_each_interim_response()
    {
        var next = new SemaphoreSlim(0);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            for (var i = 0; i < Pieces; i++)
            {
                await connection.SendAsync($"HTTP/1.1 103 Early Hints\r\nLink: </{i}>\r\n\r\n");
                await next.WaitAsync(TimeSpan.FromSeconds(30));
            }
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        var path = await fixture.RouteAsync(origin.Port, Ten);
        using var client = await RawClient.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync($"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        for (var i = 0; i < Pieces; i++)
        {
            Assert.Contains($"</{i}>", (await client.AnswerAsync()).Head, StringComparison.Ordinal);
            Pause();
            next.Release();
        }
        Assert.Equal((200, "ok"), (await client.AnswerAsync()) is var answer ? (answer.Status, answer.Body) : default);
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task No_timeout_ends_a_request_whose_body_comes_slowly_but_comes(bool buffering, bool withLength)
    {
        // of a body that is buffered nobody sees when the gateway reads a piece, only when it left the kernel's queue: it may be four
        // pieces behind
        var (pieces, step) = buffering ? (9, 2) : (Pieces, 7);
        var seen = new SemaphoreSlim(0);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            for (var i = 0; i < pieces; i++)
            {
                await connection.ReadUntilAsync($"piece {i}");
                seen.Release();
            }
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        var path = await fixture.RouteAsync(origin.Port,
            $$"""{{Ten}},"plugins":{"proxy-control":{"request_buffering":{{(buffering ? "true" : "false")}}} } """);
        using var client = await RawClient.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync(
            $"POST {path} HTTP/1.1\r\nHost: a\r\n{(withLength ? $"Content-Length: {pieces * 7}" : "Transfer-Encoding: chunked")}\r\n\r\n");
        for (var i = 0; i < pieces; i++)
        {
            await client.SendAsync(withLength ? $"piece {i}" : $"7\r\npiece {i}\r\n");
            if (!buffering)
            {
                Assert.True(await seen.WaitAsync(TimeSpan.FromSeconds(30), Cancel));
            }
            else
            {
                await ReadAsync();
            }
            fixture.Clock.Advance(TimeSpan.FromSeconds(step));
        }
        await client.SendAsync(withLength ? "" : "0\r\n\r\n");
        Assert.Equal((200, "ok"), (await client.AnswerAsync()) is var answer ? (answer.Status, answer.Body) : default);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_request_whose_body_falls_silent_is_408(bool buffering)
    {
        var seen = new SemaphoreSlim(0);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadUntilAsync("begin");
            seen.Release();
            await connection.ReadEndAsync();
        });
        var path = await fixture.RouteAsync(origin.Port,
            $$""" "timeout":{"connect":100,"send":100,"read":100},"plugins":{"proxy-control":{"request_buffering":{{(buffering ? "true" : "false")}}} } """);
        using var client = await RawClient.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync($"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nbegin");
        if (buffering)
        {
            await ReadAsync();
        }
        else
        {
            Assert.True(await seen.WaitAsync(TimeSpan.FromSeconds(30), Cancel));
        }
        var answer = client.AnswerAsync();
        await SilenceEndsAsync(answer);
        Assert.Equal(408, (await answer).Status);
    }

    [Fact]
    public async Task A_websocket_is_ended_by_silence_of_both_sides_only()
    {
        await using var origin = await WebOrigin.StartAppAsync(app =>
        {
            app.UseWebSockets();
            app.Run(async http =>
            {
                using var socket = await http.WebSockets.AcceptWebSocketAsync();
                var buffer = new byte[100];
                while (await socket.ReceiveAsync(buffer, Cancel) is { MessageType: WebSocketMessageType.Text } message)
                {
                    await socket.SendAsync(buffer.AsMemory(0, message.Count), WebSocketMessageType.Text, true, Cancel);
                }
            });
        });
        await fixture.Gateway.PutAsync("/routes/ws",
            $$"""{"uri":"/ws","enable_websocket":true,{{Ten}},"upstream":{"nodes":{"127.0.0.1:{{origin.Port}}":1} } }""");
        using var client = new ClientWebSocket();
        await client.ConnectAsync(new Uri($"ws://{fixture.Gateway.EndPoint}/ws"), Cancel);
        var buffer = new byte[100];
        for (var i = 0; i < Pieces; i++)
        {
            await client.SendAsync(Encoding.ASCII.GetBytes($"message {i}"), WebSocketMessageType.Text, true, Cancel);
            var message = await client.ReceiveAsync(buffer, Cancel);
            Assert.Equal($"message {i}", Encoding.ASCII.GetString(buffer, 0, message.Count));
            Pause();
        }
        await SilenceEndsAsync(Assert.ThrowsAnyAsync<Exception>(() => client.ReceiveAsync(buffer, Cancel)));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_read_timeout_does_not_run_while_the_client_takes_nothing(bool buffering)
    {
        const int Size = 64 * 1024 * 1024;
        long sent = 0;
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {Size}\r\n\r\n");
            var piece = new byte[64 * 1024];
            while (Volatile.Read(ref sent) < Size)
            {
                await connection.SendAsync(piece, TimeSpan.FromMinutes(1));
                Interlocked.Add(ref sent, piece.Length);
            }
            await connection.ReadEndAsync();
        });
        await using var gateway = await TestGateway.StartAsync(time: fixture.Clock,
            nginx: $"http {{ send_timeout 1d; proxy_max_temp_file_size 0; proxy_buffering {(buffering ? "on" : "off")}; }}");
        await gateway.RouteAsync("r1", "/big", origin.Port, Ten);
        using var client = await RawConnection.ConnectAsync(gateway.EndPoint, receiveBuffer: 16 * 1024);
        await client.SendAsync("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
        var head = await client.ReadHeadAsync();
        Assert.StartsWith("HTTP/1.1 200 ", head, StringComparison.Ordinal);
        await StuckAsync(() => Volatile.Read(ref sent));
        Assert.True(Volatile.Read(ref sent) < Size, "nobody is held back");

        for (var i = 0; i < Pieces; i++)
        {
            fixture.Clock.Advance(TimeSpan.FromSeconds(11));
        }
        for (var left = Size; left > 0;)
        {
            left -= (await client.ReadAsync(1)).Length + client.TakeAll(left - 1).Length;
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_connection_of_a_stream_route_is_ended_by_silence_only(bool fromTheUpstream)
    {
        var next = new SemaphoreSlim(0);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            for (var i = 0; i < Pieces; i++)
            {
                if (fromTheUpstream)
                {
                    await next.WaitAsync(TimeSpan.FromSeconds(30));
                    await connection.SendAsync($"piece {i}");
                    continue;
                }
                await connection.ReadUntilAsync($"piece {i}");
                next.Release();
            }
            await connection.ReadEndAsync();
        });
        await using var gateway = await TestGateway.StartAsync(time: fixture.Clock,
            apisix: "proxy_mode: \"http&stream\"\nstream_proxy: {tcp: [\"127.0.0.1:0\"]}");
        await gateway.PutAsync("/stream_routes/1", $$"""{"upstream":{{{Ten}},"nodes":{"127.0.0.1:{{origin.Port}}":1} } }""");
        using var client = await RawConnection.ConnectAsync(gateway.Gateway.StreamEndpoints[0]);
        for (var i = 0; i < Pieces; i++)
        {
            if (fromTheUpstream)
            {
                next.Release();
                await client.ExpectAsync($"piece {i}");
            }
            else
            {
                await client.SendAsync($"piece {i}");
                Assert.True(await next.WaitAsync(TimeSpan.FromSeconds(30), Cancel));
            }
            Pause();
        }
        await SilenceEndsAsync(client.ReadEndAsync());
    }

    [Fact]
    public async Task A_session_of_UDP_lives_as_long_as_it_is_used()
    {
        using var origin = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        await using var gateway = await TestGateway.StartAsync(time: fixture.Clock,
            apisix: "proxy_mode: \"http&stream\"\nstream_proxy: {udp: [\"127.0.0.1:0\"]}");
        await gateway.PutAsync("/stream_routes/1",
            $$"""{"upstream":{{{Ten}},"nodes":{"127.0.0.1:{{((IPEndPoint)origin.Client.LocalEndPoint!).Port}}":1} } }""");
        using var client = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        var ports = new List<int>();
        for (var i = 0; i < Pieces; i++)
        {
            await client.SendAsync("x"u8.ToArray(), gateway.Gateway.StreamEndpoints[0], Cancel);
            ports.Add((await origin.ReceiveAsync(Cancel).AsTask().WaitAsync(TimeSpan.FromSeconds(30), Cancel)).RemoteEndPoint.Port);
            Pause();
        }
        Assert.Single(ports.Distinct());
    }

    /// <summary>Waits until the count stays as it is: every buffer on the way is full.</summary>
    static async Task StuckAsync(Func<long> count)
    {
        var (last, same) = (-1L, 0);
        await Eventually.HoldsAsync(async () =>
        {
            await Task.Delay(50);
            var now = count();
            (same, last) = (now == last && now > 0 ? same + 1 : 0, now);
            return same >= 20;
        }, "the upstream is never held back", seconds: 60);
    }

    /// <summary>Waits until the gateway has read all that was sent to it. A buffered body shows nowhere else than in the kernel's
    /// queues.</summary>
    Task ReadAsync() =>
        Eventually.TrueAsync(() => OpenConnections.UnreadOn(fixture.Gateway.EndPoint.Port) == 0, "the gateway does not read the body");
}

using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading.Channels;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Connections;

/// <summary>Peers that misbehave at the socket, in front of the gateway and behind it.</summary>
public class ChaosTests
{
    const string Get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const string ChunkedHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

    static async Task<TestGateway> BeforeAsync(ScriptedOrigin origin, string config = "", string? nginx = null)
    {
        var gateway = await TestGateway.StartAsync(config, nginx);
        await gateway.RouteAsync("r1", "/*", origin.Port);
        return gateway;
    }

    [Theory]
    [InlineData("")]
    [InlineData("HTTP/1.1 20")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Le")]
    public async Task An_upstream_that_dies_before_its_head_is_complete_is_a_502(string sent)
    {
        var reset = false;
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(sent);
            if (reset)
            {
                connection.Reset();
            }
        });
        await using var gateway = await BeforeAsync(origin);
        using var client = await RawClient.ConnectAsync(gateway.EndPoint);
        foreach (var how in new[] { false, true })
        {
            reset = how;
            await client.SendAsync(Get);
            Assert.Equal(502, (await client.AnswerAsync()).Status);
        }
        await OpenConnections.NoneAsync(origin.Port);
    }

    [Theory]
    [InlineData("5\r\nhello\r\n", "")]
    [InlineData("5\r\nhello\r\n", "9\r\nin a")]
    [InlineData("5\r\nhello\r\n", "9")]
    [InlineData("5\r\nhello\r\n", "0\r\nX-Sum: 1\r")]
    public async Task An_upstream_that_dies_in_its_body_never_looks_like_the_end(string arrives, string last)
    {
        foreach (var reset in new[] { false, true })
        {
            var go = new TaskCompletionSource();
            await using var origin = ScriptedOrigin.Start(async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(ChunkedHead + arrives);
                await go.Task;
                await connection.SendAsync(last);
                if (reset)
                {
                    connection.Reset();
                }
            });
            await using var gateway = await BeforeAsync(origin);
            using var client = await RawClient.ConnectAsync(gateway.EndPoint);
            await client.SendAsync(Get);
            await client.UntilAsync(arrives);
            go.SetResult();
            Assert.DoesNotContain("0\r\n\r\n", await client.RestAsync(), StringComparison.Ordinal);
            await OpenConnections.NoneAsync(origin.Port);
            await OpenConnections.NoneAsync(gateway.EndPoint.Port);
        }
    }

    [Theory]
    [InlineData("reset")]
    [InlineData("closed")]
    [InlineData("half closed")]
    public async Task A_client_that_leaves_a_stream_ends_it_at_the_upstream_within_100_ms(string how)
    {
        var ended = Channel.CreateUnbounded<long>();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(ChunkedHead + "5\r\nhello\r\n");
            await connection.ReadEndAsync();
            ended.Writer.TryWrite(Stopwatch.GetTimestamp());
        });
        await using var gateway = await BeforeAsync(origin);
        // the machine may be late with one, a gateway that waits is late with each
        var best = TimeSpan.MaxValue;
        for (var tries = 0; tries < 10 && best.TotalMilliseconds >= 100; tries++)
        {
            using var client = await RawClient.ConnectAsync(gateway.EndPoint);
            await client.SendAsync(Get);
            await client.UntilAsync("hello\r\n");
            var left = Stopwatch.GetTimestamp();
            switch (how)
            {
                case "reset":
                    client.Reset();
                    break;
                case "closed":
                    client.Dispose();
                    break;
                default:
                    client.ShutdownSend();
                    break;
            }
            using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(30));
            best = new[] { best, Stopwatch.GetElapsedTime(left, await ended.Reader.ReadAsync(patience.Token)) }.Min();
            await OpenConnections.NoneAsync(origin.Port);
        }
        Assert.InRange(best.TotalMilliseconds, 0, 100);
        await OpenConnections.NoneAsync(gateway.EndPoint.Port);
    }

    [Fact]
    public async Task One_byte_at_a_time_in_both_directions_is_the_same_message()
    {
        const string answer = "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n";
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            for (var turn = 0; turn < 2; turn++)
            {
                Assert.StartsWith("POST /drip HTTP/1.1\r\n", await connection.ReadHeadAsync(), StringComparison.Ordinal);
                await connection.ExpectAsync("ab");
                await connection.DripAsync("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ChunkedHead + answer);
            }
        });
        await using var gateway = await BeforeAsync(origin);
        using var client = await RawClient.ConnectAsync(gateway.EndPoint);
        for (var turn = 0; turn < 2; turn++)
        {
            foreach (var letter in "POST /drip HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
            {
                await client.SendAsync(letter.ToString());
            }
            Assert.Equal("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", await client.UntilAsync("\r\n\r\n"));
            Assert.StartsWith("HTTP/1.1 200 OK\r\n", await client.UntilAsync("\r\n\r\n"), StringComparison.Ordinal);
            Assert.Equal(answer, await client.UntilAsync("X-Sum: 1\r\n\r\n"));
        }
        Assert.Equal(1, origin.Accepted);
    }

    [Fact]
    public async Task A_client_that_never_reads_stops_the_upstream_and_is_cut_after_send_timeout()
    {
        var sent = 0L;
        var cut = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nContent-Length: 1000000000\r\n\r\n");
            var piece = new byte[64 * 1024];
            try
            {
                while (sent < 200_000_000)
                {
                    await connection.SendAsync(piece);
                    sent += piece.Length;
                }
            }
            finally
            {
                cut.TrySetResult();
            }
        });
        await using var gateway = await BeforeAsync(origin, "nginx_config: {http: {send_timeout: 1s}}");
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveBufferSize = 64 * 1024 };
        await socket.ConnectAsync(gateway.EndPoint);
        await socket.SendAsync(Encoding.Latin1.GetBytes(Get));
        await cut.Task.WaitAsync(TimeSpan.FromSeconds(30));
        // what the kernel holds for four sides of sockets, and no more
        Assert.InRange(sent, 1, 64 * 1024 * 1024);
        await OpenConnections.NoneAsync(origin.Port);
    }

    [Fact]
    public async Task An_answer_that_comes_before_the_request_has_ended_reaches_the_client()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
            await connection.ReadEndAsync();
        });
        await using var gateway = await BeforeAsync(origin, nginx: "http { proxy_request_buffering off; }");
        using var client = await RawClient.ConnectAsync(gateway.EndPoint);
        await client.SendAsync("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegin");
        var answer = await client.AnswerAsync();
        Assert.Equal((413, "big"), (answer.Status, answer.Body));
        client.Dispose();
        await OpenConnections.NoneAsync(origin.Port);
    }

    [Fact]
    public async Task Pipelined_requests_are_answered_in_order()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);
        using var client = await RawClient.ConnectAsync(gateway.EndPoint);
        await client.SendAsync(string.Concat(Enumerable.Range(0, 50).Select(number => $"GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")));
        for (var number = 0; number < 50; number++)
        {
            Assert.StartsWith($"GET /{number} ", (await client.AnswerAsync()).Body, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Both_connections_live_on_after_each_kind_of_body()
    {
        (string Method, string Answer, string Ends)[] turns =
        [
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "\r\n\r\n"),
            ("GET", ChunkedHead + "5\r\nhello\r\n0\r\n\r\n", "hello\r\n0\r\n\r\n"),
            ("GET", ChunkedHead + "5\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n", "hello\r\n0\r\nX-Sum: 1\r\n\r\n"),
            ("GET", ChunkedHead + "0\r\n\r\n", "\r\n\r\n0\r\n\r\n"),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "\r\n\r\n"),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "\r\n\r\n"),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "\r\n\r\n"),
            ("HEAD", ChunkedHead, "\r\n\r\n"),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend", "end"),
        ];
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            foreach (var (method, answer, _) in turns)
            {
                Assert.StartsWith(method, await connection.ReadHeadAsync(), StringComparison.Ordinal);
                await connection.SendAsync(answer);
            }
        });
        await using var gateway = await BeforeAsync(origin, "nginx_config: {worker_processes: 1}");
        using var client = await RawClient.ConnectAsync(gateway.EndPoint);
        foreach (var (method, answer, ends) in turns)
        {
            await client.SendAsync($"{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            Assert.StartsWith(answer[..13], await client.UntilAsync(ends), StringComparison.Ordinal);
        }
        Assert.Equal(1, origin.Accepted);
    }

    [Fact]
    public async Task A_busy_connection_does_not_starve_the_others_of_its_loop()
    {
        await using var firehose = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\n\r\n");
            var piece = new byte[256 * 1024];
            while (true)
            {
                await connection.SendAsync(piece);
            }
        });
        await using var echo = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync("nginx_config: {worker_processes: 1}");
        await gateway.RouteAsync("r1", "/busy", firehose.Port);
        await gateway.RouteAsync("r2", "/calm", echo.Port);
        using var busy = await gateway.Client.GetAsync(gateway.Url("/busy"), HttpCompletionOption.ResponseHeadersRead);
        await using var flood = await busy.Content.ReadAsStreamAsync();
        using var enough = new CancellationTokenSource();
        var drinking = DrinkAsync(flood, enough.Token);
        using var calm = await RawClient.ConnectAsync(gateway.EndPoint);
        for (var turn = 0; turn < 10; turn++)
        {
            await calm.SendAsync("GET /calm HTTP/1.1\r\nHost: a\r\n\r\n");
            Assert.Equal(200, (await calm.AnswerAsync()).Status);
        }
        Assert.False(drinking.IsCompleted);
        await enough.CancelAsync();
        Assert.True(await drinking > 0);
    }

    static async Task<long> DrinkAsync(Stream stream, CancellationToken enough)
    {
        var total = 0L;
        var buffer = new byte[64 * 1024];
        try
        {
            while (await stream.ReadAsync(buffer, enough) is var count and > 0)
            {
                total += count;
            }
        }
        catch (OperationCanceledException)
        {
            // enough
        }
        return total;
    }
}

using System.Net.Sockets;

namespace Sluice.FunctionalTests.Origins;

public class ScriptedOriginTests
{
    [Fact]
    public async Task A_script_reads_the_request_and_answers_byte_by_byte()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            Assert.StartsWith("GET /a HTTP/1.1\r\n", await connection.ReadHeadAsync());
            await connection.DripAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        using var client = new HttpClient();
        Assert.Equal("ok",
            await client.GetStringAsync(new Uri($"http://127.0.0.1:{origin.Port}/a"), TestContext.Current.CancellationToken));
        Assert.Equal(1, origin.Accepted);
    }

    [Fact]
    public async Task A_reset_reaches_the_client()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadAsync(1);
            connection.Reset();
        });
        using var client = new TcpClient();
        await client.ConnectAsync(origin.EndPoint, TestContext.Current.CancellationToken);
        await client.GetStream().WriteAsync("x"u8.ToArray(), TestContext.Current.CancellationToken);
        var failure = await Assert.ThrowsAsync<IOException>(async () =>
            await client.GetStream().ReadExactlyAsync(new byte[1], TestContext.Current.CancellationToken));
        Assert.Equal(SocketError.ConnectionReset, ((SocketException)failure.InnerException!).SocketErrorCode);
    }

    [Fact]
    public async Task A_broken_expectation_fails_the_test()
    {
        var origin = ScriptedOrigin.Start(connection => connection.ExpectAsync("PRI"));
        using (var client = new TcpClient())
        {
            await client.ConnectAsync(origin.EndPoint, TestContext.Current.CancellationToken);
            await client.GetStream().WriteAsync("GET"u8.ToArray(), TestContext.Current.CancellationToken);
            await client.GetStream().ReadAtLeastAsync(new byte[1], 1, false, TestContext.Current.CancellationToken);
        }
        await Assert.ThrowsAsync<AggregateException>(async () => await origin.DisposeAsync());
    }
}

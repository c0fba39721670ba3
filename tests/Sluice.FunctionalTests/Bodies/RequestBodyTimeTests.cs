using System.Net.Sockets;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Bodies;

public class RequestBodyTimeTests
{
    [Theory]
    [InlineData("on")]
    [InlineData("off")]
    public async Task A_client_that_pauses_in_its_body_is_answered_408(string requestBuffering)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.StallAsync();
        });
        await using var gateway = await TestGateway.StartAsync(
            nginx: $$"""http { client_body_timeout 300ms; proxy_request_buffering {{requestBuffering}}; }""");
        await gateway.RouteAsync("r1", "/*", origin.Port);

        Assert.StartsWith("HTTP/1.1 408 ", await AnswerToAsync(gateway, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhel"),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_upstream_may_answer_before_the_client_has_sent_its_body()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
            await connection.StallAsync();
        });
        await using var gateway = await TestGateway.StartAsync(nginx: "http { proxy_request_buffering off; }");
        await gateway.RouteAsync("r1", "/*", origin.Port);

        // the client waits for the answer before it goes on
        Assert.StartsWith("HTTP/1.1 401 ", await AnswerToAsync(gateway, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhel"),
            StringComparison.Ordinal);
    }

    static async Task<string> AnswerToAsync(TestGateway gateway, string request)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(gateway.EndPoint);
        var stream = client.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes(request));
        using var reader = new StreamReader(stream);
        return await reader.ReadLineAsync() ?? "";
    }
}

using Microsoft.Playwright;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>A real Chromium's EventSource takes any answer but 200 for the end of everything, and an end of the stream for none at
/// all.</summary>
public sealed class EventSourceComesBackTests(Chromium chromium) : IClassFixture<Chromium>
{
    const string Page = """
        <!doctype html><script>
        const received = [];
        const source = new EventSource('/live');
        source.onmessage = event => received.push(event.data);
        </script>
        """;

    static async Task<IPage> ShowAsync(Chromium chromium, TestGateway gateway)
    {
        await using var site = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(
                $"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {Page.Length}\r\nConnection: close\r\n\r\n{Page}");
        });
        await gateway.RouteAsync("page", "/page", site.Port);
        var page = await chromium.Browser.NewPageAsync();
        await page.GotoAsync(gateway.Url("/page").ToString());
        return page;
    }

    [Theory]
    [InlineData("{}", false)]
    [InlineData("""{"reconnect":{"delay":"50ms","jitter":0,"on":"auto"}}""", true)]
    public async Task After_an_outage_it_is_back_only_where_it_was_told_to_come_back(string streaming, bool isBack)
    {
        // an event, three times 503, and an event again
        Func<OriginConnection, Task> says(string response) => async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(response);
        };
        const string Refusal = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        static string Event(string data) =>
            $"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 50\ndata: {data}\n\n";
        await using var origin = ScriptedOrigin.Start(says(Event("before")), says(Refusal), says(Refusal), says(Refusal),
            async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Event("after"));
            await connection.ReadEndAsync();
        });
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("live", "/live", origin.Port, $"\"plugins\":{{\"streaming\":{streaming}}}");
        var page = await ShowAsync(chromium, gateway);
        if (isBack)
        {
            await page.WaitForFunctionAsync("received.at(-1) === 'after'");
            Assert.Equal(["before", "after"], await page.EvaluateAsync<string[]>("received"));
            Assert.Equal(5, origin.Accepted);
        }
        else
        {
            await page.WaitForFunctionAsync("source.readyState === EventSource.CLOSED");
            Assert.Equal(2, origin.Accepted);
        }
        await page.CloseAsync();
    }

    [Fact]
    public async Task A_finite_stream_is_asked_for_once_more_and_never_again()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: "
                    + "chunked\r\n\r\n18\r\nretry: 50\ndata: result\n\n\r\n0\r\n\r\n");
        });
        await using var gateway = await TestGateway.StartAsync("nginx_config:\n  http:\n    access_log_format: '$uri|$status'");
        await gateway.RouteAsync("live", "/live", origin.Port, "\"plugins\":{\"sse\":{\"finite\":true}}");
        var page = await ShowAsync(chromium, gateway);
        await page.WaitForFunctionAsync("source.readyState === EventSource.CLOSED");
        Assert.Equal(["result"], await page.EvaluateAsync<string[]>("received"));
        Assert.Equal(1, origin.Accepted);
        var log = Path.Combine(gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.ReadAllLines(log).Where(static line => line.StartsWith("/live", StringComparison.Ordinal))
            .SequenceEqual(["/live|200", "/live|204"]), () => File.ReadAllText(log));
        await page.CloseAsync();
    }
}

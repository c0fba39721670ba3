using System.Diagnostics;
using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams;

/// <summary><c>streaming.rate</c>: never faster than it may be. How much slower it is, is the machine's affair.</summary>
public sealed class PacingTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() =>
        _gateway = await TestGateway.StartAsync("nginx_config:\n  http:\n    access_log_format: '$uri|$sluice_stream_end|$sluice_events|'");

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    static string Events(int count) => string.Concat(Enumerable.Range(1, count).Select(static n => $"data: {n}\n\n"));

    /// <summary>All at once, and then the end.</summary>
    static ScriptedOrigin Burst(string body, string type = "text/event-stream", bool ends = true, TaskCompletionSource? gone = null) =>
        ScriptedOrigin.Start(async connection =>
    {
        await connection.ReadHeadAsync();
        await connection.SendAsync(
            $"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nTransfer-Encoding: chunked\r\n\r\n{body.Length:x}\r\n{body}\r\n{(ends ? "0\r\n\r\n" : "")}");
        await connection.ReadEndAsync();
        gone?.TrySetResult();
    });

    Task RouteAsync(ScriptedOrigin origin, string streaming) =>
        _gateway.RouteAsync("live", "/live", origin.Port, $$""" "plugins":{"streaming":{{streaming}} } """);

    [Theory]
    [InlineData("""{"rate": {"events_per_second": 20, "burst_events": 1}}""", 11, 499)]
    [InlineData("""{"rate": {"events_per_second": "${http_x_speed ?? 20}", "burst_events": 1}}""", 11, 499)]
    [InlineData("""{"rate": {"events_per_second": 1, "burst_events": 1}, "idle_timeout": "900ms", "event_idle_timeout": "900ms"}""", 3,
        1999)]
    [InlineData("""{"rate": {"events_per_second": 20, "burst_events": 1}, "slow_consumer": {"policy": "drop_oldest"}}""", 11, 499)]
    public async Task Events_pass_no_faster_than_they_may_and_silence_meanwhile_is_nobodys_fault(string streaming, int events, int least)
    {
        await using var origin = Burst(": c\n\n" + Events(events));
        await RouteAsync(origin, streaming);
        using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/live"))
        {
            Version = events < 11 ? HttpVersion.Version20 : HttpVersion.Version11, VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        var began = Stopwatch.GetTimestamp();
        using var response = await _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        Assert.Equal(": c\n\n" + Events(events), await response.Content.ReadAsStringAsync(Cancel));
        Assert.True(Stopwatch.GetElapsedTime(began) >= TimeSpan.FromMilliseconds(least), $"{Stopwatch.GetElapsedTime(began)}");
        var log = Path.Combine(_gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(log) && File.ReadAllText(log) == $"/live|complete|{events}|\n",
            () => File.ReadAllText(log));
    }

    [Theory]
    [InlineData("text/plain")]
    [InlineData("text/event-stream")]
    public async Task Bytes_pass_no_faster_than_they_may(string type)
    {
        var body = "data: " + new string('x', 99_992) + "\n\n";
        await using var origin = Burst(body, type);
        await RouteAsync(origin, """{"rate": {"bytes_per_second": 200000, "burst_bytes": "10k"}}""");
        var began = Stopwatch.GetTimestamp();
        Assert.Equal(body, await _gateway.Client.GetStringAsync(_gateway.Url("/live"), Cancel));
        Assert.True(Stopwatch.GetElapsedTime(began) >= TimeSpan.FromMilliseconds(440), $"{Stopwatch.GetElapsedTime(began)}");
    }

    [Fact]
    public async Task A_stream_that_may_not_be_faster_ends_behind_what_it_may_have()
    {
        await using var origin = Burst(Events(10), ends: false);
        await RouteAsync(origin, """{"rate": {"events_per_second": 0.001, "burst_events": 3, "action": "end"}}""");
        Assert.Equal(Events(3) + "event: end\ndata: {\"reason\":\"rate\",\"message\":\"the stream was faster than it may be\"}\n\n",
            await _gateway.Client.GetStringAsync(_gateway.Url("/live"), Cancel));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task One_that_waits_ends_when_its_client_leaves_or_somebody_ends_it(bool leaves)
    {
        var gone = new TaskCompletionSource();
        await using var origin = Burst(Events(2), gone: gone);
        await RouteAsync(origin, """{"rate": {"events_per_second": 0.001, "burst_events": 1}}""");
        using var client = await RawConnection.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync("GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
        await client.ReadUntilAsync("data: 1\n\n");
        if (leaves)
        {
            client.Close();
        }
        else
        {
            Assert.True(Assert.Single(_gateway.Gateway.Live.List()).Kill("enough"));
            await client.ReadUntilAsync("\"reason\":\"killed\"");
        }
        await Eventually.TrueAsync(() => _gateway.Gateway.Live.Count == 0, "it waits on");
    }
}

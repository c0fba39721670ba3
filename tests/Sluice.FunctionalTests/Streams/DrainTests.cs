using System.Net;
using System.Text.RegularExpressions;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams;

/// <summary>A gateway that stops in good order tells its streams when to come back, one after the other, and cuts no event.</summary>
public sealed partial class DrainTests : IAsyncLifetime
{
    const string Head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";

    readonly ManualClock _clock = new();
    readonly TaskCompletionSource _more = new(TaskCreationOptions.RunContinuationsAsynchronously);
    ScriptedOrigin _origin = null!;
    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public ValueTask InitializeAsync()
    {
        _origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            await connection.SendAsync(Head + (head.Contains("/half", StringComparison.Ordinal) ? "5\r\ndata:\r\n" : ""));
            var gone = connection.ReadEndAsync();
            await Task.WhenAny(_more.Task, gone);
            if (!gone.IsCompleted)
            {
                await connection.SendAsync("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
                await gone;
            }
        });
        return ValueTask.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    async Task StartAsync(string drain)
    {
        _gateway = await TestGateway.StartAsync($"sluice: {{shutdown_timeout: 100, streams: {{drain: {drain}}}}}",
            "http { send_timeout 9999; }", time: _clock);
        await _gateway.RouteAsync("told", "/told/*", _origin.Port,
            """ "plugins":{"streaming":{"idle_timeout":"1h","send_timeout":"1h"}},"timeout":{"connect":9999,"send":9999,"read":9999} """);
        await _gateway.RouteAsync("plain", "/plain", _origin.Port, """ "timeout":{"connect":9999,"send":9999,"read":9999} """);
    }

    async Task<Task<string>> OpenAsync(string path, string method = "GET")
    {
        using var request = new HttpRequestMessage(new(method), _gateway.Url(path));
        var response = await _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Cancel));
        Assert.Equal("data: 1", await reader.ReadLineAsync(Cancel));
        return reader.ReadToEndAsync(Cancel);
    }

    [GeneratedRegex(
        "^\nevent: end\nretry: (\\d+)\ndata: \\{\"reason\":\"drain\",\"message\":\"the gateway restarts\",\"retry_ms\":\\1\\}\n\n$")]
    private static partial Regex Told();

    static async Task IsToldAsync(Task<string> stream, int least, int most)
    {
        var told = Told().Match(await stream);
        Assert.True(told.Success, await stream);
        Assert.InRange(int.Parse(told.Groups[1].Value, null), least, most);
    }

    /// <summary>Time passes until something has happened.</summary>
    Task PassAsync(Func<bool> until, double seconds = 0.5) => Eventually.TrueAsync(
        () =>
        {
            var has = until();
            if (!has)
            {
                _clock.Advance(TimeSpan.FromSeconds(seconds));
            }
            return has;
        },
        "it does not happen");

    [Fact]
    public async Task Streams_end_one_after_the_other_and_are_told_when_to_come_back()
    {
        await StartAsync("{over: 30, retry_min: 3, retry_max: 4}");
        Task<string>[] told = [await OpenAsync("/told/1"), await OpenAsync("/told/2"), await OpenAsync("/told/3")];
        var plain = await OpenAsync("/plain");
        var posted = await OpenAsync("/told/posted", "POST");
        var stopping = _gateway.Gateway.StopAsync(graceful: true);
        await Task.WhenAny(told);
        _clock.Advance(TimeSpan.FromSeconds(9.9));
        Assert.Equal(1, told.Count(static stream => stream.IsCompleted));
        var rest = told.Where(static stream => !stream.IsCompleted).ToArray();
        _clock.Advance(TimeSpan.FromSeconds(0.2));
        await Task.WhenAny(rest);
        Assert.Equal(2, told.Count(static stream => stream.IsCompleted));
        _clock.Advance(TimeSpan.FromSeconds(10));
        foreach (var stream in told)
        {
            await IsToldAsync(stream, 3000, 4000);
        }
        // nobody knows what this one's client would understand, and what was posted for has an end
        Assert.False(plain.IsCompleted || posted.IsCompleted || stopping.IsCompleted);
        _more.SetResult();
        Assert.Equal("\ndata: 2\n\n", await plain);
        Assert.Equal("\ndata: 2\n\n", await posted);
        await PassAsync(() => stopping.IsCompleted);
        await stopping;
    }

    [Fact]
    public async Task What_has_an_end_is_told_shortly_before_everything_is_cut()
    {
        await StartAsync("{retry_min: 1, retry_max: 1}");
        var posted = await OpenAsync("/told/posted", "POST");
        var plain = await OpenAsync("/plain");
        var stopping = _gateway.Gateway.StopAsync(graceful: true);
        _clock.Advance(TimeSpan.FromSeconds(94.9));
        Assert.False(posted.IsCompleted);
        _clock.Advance(TimeSpan.FromSeconds(0.2));
        await IsToldAsync(posted, 1000, 1000);
        Assert.False(plain.IsCompleted);
        await PassAsync(() => stopping.IsCompleted);
        await stopping;
        await Assert.ThrowsAnyAsync<Exception>(() => plain);
    }

    [Fact]
    public async Task An_event_that_has_begun_is_waited_for_and_not_taken_for_whole()
    {
        await StartAsync("{over: 1}");
        var whole = await OpenAsync("/told/half");
        var stopping = _gateway.Gateway.StopAsync(graceful: true);
        await PassAsync(() => whole.IsCompleted, 0.1);
        await Assert.ThrowsAnyAsync<Exception>(() => whole);
        await PassAsync(() => stopping.IsCompleted);
        await stopping;
    }

    [Fact]
    public async Task While_a_load_balancer_is_waited_for_requests_are_served()
    {
        await StartAsync("{wait: 20, over: 0}");
        var told = await OpenAsync("/told/1");
        var stopping = _gateway.Gateway.StopAsync(graceful: true);
        using var ready = await _gateway.Client.GetAsync($"http://{_gateway.Gateway.StatusEndpoint}/status/ready", Cancel);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, ready.StatusCode);
        var late = await OpenAsync("/told/2");
        _clock.Advance(TimeSpan.FromSeconds(20));
        Assert.False(told.IsCompleted || late.IsCompleted || stopping.IsCompleted);
        _more.SetResult();
        Assert.Equal("\ndata: 2\n\n", await told);
        Assert.Equal("\ndata: 2\n\n", await late);
        await PassAsync(() => stopping.IsCompleted);
        await stopping;
    }
}

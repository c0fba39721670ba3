using System.Diagnostics;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Processes;

/// <summary>Somebody sets the machine's clock: what is counted in seconds goes on counting as if nothing had happened.</summary>
public class ClockTests
{
    /// <summary>The system's, but for the time of day.</summary>
    sealed class JumpingClock : TimeProvider
    {
        public TimeSpan Wrong { get; set; }

        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + Wrong;
    }

    [Fact]
    public async Task A_clock_that_jumps_fires_no_timer()
    {
        var clock = new JumpingClock();
        await using var events = new EventOrigin(Framing.ChunkPerEvent);
        await using var echo = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync("nginx_config: {worker_processes: 1}", time: clock);
        await gateway.RouteAsync("r1", "/events", events.Port);
        await gateway.RouteAsync("r2", "/echo", echo.Port);

        // one of everything that a timer waits for: a stream's silence, an idle client, an idle upstream, half a head, half a body
        using var response = await gateway.Client.GetAsync(gateway.Url("/events"), HttpCompletionOption.ResponseHeadersRead);
        using var reader = new EventReader(await response.Content.ReadAsStreamAsync());
        using var idle = await RawClient.ConnectAsync(gateway.EndPoint);
        using var head = await RawClient.ConnectAsync(gateway.EndPoint);
        using var body = await RawClient.ConnectAsync(gateway.EndPoint);
        await idle.SendAsync("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal(200, (await idle.AnswerAsync()).Status);
        await head.SendAsync("GET /echo HTTP/1.1\r\nHo");
        await body.SendAsync("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");

        var id = 0;
        foreach (var jump in (TimeSpan[])[TimeSpan.FromDays(1), TimeSpan.FromDays(-2)])
        {
            clock.Wrong += jump;
            // the coarsest timer looks once a second
            for (var watch = Stopwatch.StartNew(); watch.Elapsed.TotalSeconds < 1.3; id++)
            {
                await events.SendAsync(EventOrigin.Event(id));
                Assert.Equal(EventOrigin.Event(id), (await reader.NextAsync()).Event);
                await Task.Delay(50);
            }
        }

        await idle.SendAsync("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal(200, (await idle.AnswerAsync()).Status);
        await head.SendAsync("st: a\r\n\r\n");
        Assert.Equal(200, (await head.AnswerAsync()).Status);
        await body.SendAsync("cd");
        Assert.EndsWith("abcd", (await body.AnswerAsync()).Body, StringComparison.Ordinal);
        Assert.Equal(1, echo.Accepted);
        events.End();
        Assert.Equal(0, await reader.Body.ReadAsync(new byte[1]));
    }
}

namespace Sluice.Tests.Plugins.Traffic;

public class ApiBreakerTests
{
    [Theory]
    [InlineData("{}", """property "break_response_code" is required""")]
    [InlineData("""{"break_response_code":502,"max_breaker_sec":2}""",
        """property "max_breaker_sec" validation failed: expected 2 to be at least 3""")]
    [InlineData("""{"break_response_code":502,"unhealthy":{"http_statuses":[400]}}""",
        """property "unhealthy" validation failed: property "http_statuses" validation failed: failed to validate item 1: expected 400 to be at least 500""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("api-breaker", config));

    [Fact]
    public async Task After_enough_failures_the_upstream_is_left_alone_for_a_while_that_grows()
    {
        var test = Test(""" "unhealthy":{"http_statuses":[500],"failures":2},"max_breaker_sec":5 """);
        foreach (var seconds in (int[])[2, 4, 5])
        {
            Assert.Equal(500, await AskAsync(test, 500));
            Assert.Equal(500, await AskAsync(test, 500));
            Assert.Equal(599, await AskAsync(test, 200));
            test.Time.Advance(TimeSpan.FromSeconds(seconds));
            Assert.Equal(599, await AskAsync(test, 200));
            test.Time.Advance(TimeSpan.FromSeconds(1));
        }
    }

    [Fact]
    public async Task Enough_successes_forget_the_failures()
    {
        var test = Test(""" "unhealthy":{"failures":2},"healthy":{"successes":2} """);
        await AskAsync(test, 500);
        await AskAsync(test, 200);
        await AskAsync(test, 200);
        await AskAsync(test, 500);
        Assert.Equal(200, await AskAsync(test, 200));
    }

    [Fact]
    public async Task Each_host_and_path_counts_for_itself_and_other_statuses_do_not_count()
    {
        var test = Test(""" "unhealthy":{"failures":1} """);
        await AskAsync(test, 503);
        Assert.Equal(200, await AskAsync(test, 200));
        await AskAsync(test, 500);
        Assert.Equal(599, await AskAsync(test, 200));
        Assert.Equal(200, await AskAsync(test, 200, "/other"));
    }

    [Fact]
    public async Task Headers_are_sent_together_with_a_body_only()
    {
        const string more =
            """ "unhealthy":{"failures":1},"break_response_headers":[{"key":"X-A","value":"$request_method"},{"key":"Content-Type","value":"application/json"}] """;
        foreach (var withBody in (bool[])[true, false])
        {
            var test = Test(withBody ? more + ""","break_response_body":"{}" """ : more);
            await AskAsync(test, 500);
            var result = await test.GetAsync("/");
            Assert.Equal(withBody ? ("GET", "application/json", "{}") : (null, "text/html; charset=utf-8", result.Body),
                (result.Answered("X-A"), result.Answered("Content-Type"), result.Body));
        }
    }

    [Fact]
    public async Task A_stream_that_its_upstream_breaks_off_is_a_failure()
    {
        var test = Test(""" "unhealthy":{"failures":1} """);
        await test.SendAsync("GET", "/", PluginTest.Upstream.Events("data: 1\n\n") with { BreaksOff = true });
        Assert.Equal(599, await AskAsync(test, 200));
    }

    static async Task<int> AskAsync(PluginTest test, int upstream, string target = "/") =>
        (await test.SendAsync("GET", target, new(upstream))).Status;

    static PluginTest Test(string config) => new($$$"""{"api-breaker":{"break_response_code":599,{{{config}}}}}""");
}

namespace Sluice.Tests.Plugins.Traffic;

public class FaultInjectionTests
{
    [Theory]
    [InlineData("{}", "expect object to have at least 1 properties")]
    [InlineData("""{"abort":{"http_status":100}}""",
        """property "abort" validation failed: property "http_status" validation failed: expected 100 to be at least 200""")]
    [InlineData("""{"delay":{"duration":1,"vars":[[["a","123","b"]]]}}""", "invalid operator '123'")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("fault-injection", config));

    [Fact]
    public async Task Abort_answers_with_status_headers_and_body()
    {
        var result =
            await Test(
                """{"abort":{"http_status":418,"body":"{\"count\": $arg_count}","headers":{"X-Name":"$arg_name","X-Number":3,"Content-Type":"application/json"}}}""")
            .GetAsync("/?count=2&name=jack");
        Assert.Equal((false, 418, """{"count": 2}""", "jack", "3", "application/json"),
            (result.Proxied, result.Status, result.Body, result.Answered("X-Name"), result.Answered("X-Number"),
                result.Answered("Content-Type")));
    }

    [Fact]
    public async Task Abort_without_a_body_is_the_page_of_its_status() =>
        Assert.Contains("<title>503 Service Temporarily Unavailable</title>",
            (await Test("""{"abort":{"http_status":503}}""").GetAsync("/")).Body, StringComparison.Ordinal);

    [Theory]
    [InlineData("/?a=1", true)]
    [InlineData("/?b=1&c=1", true)]
    [InlineData("/?b=1", false)]
    public async Task One_of_the_expressions_is_enough(string target, bool aborted)
    {
        var result =
            await Test("""{"abort":{"http_status":500,"body":"x","vars":[[["arg_a","==","1"]],[["arg_b","==","1"],["arg_c","==","1"]]]}}""")
            .GetAsync(target);
        Assert.Equal(!aborted, result.Proxied);
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(100, 50)]
    public async Task The_percentage_says_how_many(int percentage, int expected)
    {
        var test = Test($$$"""{"abort":{"http_status":500,"body":"x","percentage":{{{percentage}}}}}""");
        var aborted = 0;
        for (var i = 0; i < 50; i++)
        {
            aborted += (await test.GetAsync("/")).Proxied ? 0 : 1;
        }
        Assert.Equal(expected, aborted);
    }

    [Fact]
    public async Task Delay_holds_the_request_up_and_lets_it_go_on()
    {
        var test = Test("""{"delay":{"duration":0.5}}""");
        var asked = test.GetAsync("/");
        Assert.False(asked.IsCompleted);
        test.Time.Advance(TimeSpan.FromSeconds(0.4));
        Assert.False(asked.IsCompleted);
        test.Time.Advance(TimeSpan.FromSeconds(0.2));
        Assert.True((await asked).Proxied);
    }

    static PluginTest Test(string config) => new($$$"""{"fault-injection":{{{config}}}}""");
}

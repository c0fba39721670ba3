namespace Sluice.Tests.Plugins.Traffic;

public class TrafficLabelTests
{
    [Theory]
    [InlineData("""{"rules":[{}]}""", """property "rules" validation failed: failed to validate item 1: property "actions" is required""")]
    [InlineData("""{"rules":[{"actions":[{"add_headers":{"a":"b"}}]}]}""", "not supported action: add_headers")]
    [InlineData("""{"rules":[{"match":[["a","?","b"]],"actions":[{"weight":1}]}]}""",
        """failed to validate the 'match' expression: [["a","?","b"]] err: invalid operator '?'""")]
    [InlineData("""{"rules":[{"actions":[{"set_headers":{"a\nb":"c"}}]}]}""",
        "failed to validate the 'set_headers' action: invalid field character in header")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("traffic-label", config));

    [Fact]
    public async Task The_first_rule_that_matches_sets_its_headers()
    {
        var test =
            Test(
                """{"rules":[{"match":["OR",["arg_a","==","1"],["arg_b","==","1"]],"actions":[{"set_headers":{"X-A":"$arg_a-$arg_b"}}]},{"actions":[{"set_headers":{"X-B":"1"}}]}]}""");
        var first = await test.GetAsync("/?a=2&b=1");
        var second = await test.GetAsync("/");
        Assert.Equal(("2-1", null, null, "1"), (first.Sent("X-A"), first.Sent("X-B"), second.Sent("X-A"), second.Sent("X-B")));
    }

    [Fact]
    public async Task Turns_are_taken_exactly_by_weight_and_an_empty_one_is_left_to_the_next_rule()
    {
        var test =
            Test(
                """{"rules":[{"actions":[{"set_headers":{"X-A":"1"},"weight":2},{"weight":3}]},{"actions":[{"set_headers":{"X-A":"2"}}]}]}""");
        List<string?> seen = [];
        for (var i = 0; i < 10; i++)
        {
            seen.Add((await test.GetAsync("/")).Sent("X-A"));
        }
        Assert.Equal((4, 6), (seen.Count(value => value == "1"), seen.Count(value => value == "2")));
    }

    static PluginTest Test(string config) => new($$$"""{"traffic-label":{{{config}}}}""");
}

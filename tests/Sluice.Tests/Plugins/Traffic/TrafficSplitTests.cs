using Sluice.Model;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Plugins.Traffic;

public class TrafficSplitTests
{
    [Theory]
    [InlineData("""{"rules":[{"match":[{"vars":[["a","123","b"]]}]}]}""",
        "failed to validate the 'vars' expression: invalid operator '123'")]
    [InlineData("""{"rules":[{"weighted_upstreams":[{"weight":-1}]}]}""",
        """property "rules" validation failed: failed to validate item 1: property "weighted_upstreams" validation failed: failed to validate item 1: property "weight" validation failed: expected -1 to be at least 0""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("traffic-split", config));

    [Fact]
    public void An_upstream_written_here_is_checked_like_any_other() => Assert.Equal(
        "missing key",
        PluginTest.Check("traffic-split",
            """{"rules":[{"weighted_upstreams":[{"upstream":{"type":"chash","nodes":{"127.0.0.1:1":1}}}]}]}"""));

    [Fact]
    public async Task Turns_are_taken_exactly_by_weight()
    {
        var test = Test("""{"rules":[{"weighted_upstreams":[{"upstream":{"nodes":{"127.0.0.1:2":1}},"weight":2},{"weight":1}]}]}""");
        List<int> seen = [];
        for (var i = 0; i < 6; i++)
        {
            seen.Add(await test.PortAsync("/"));
        }
        Assert.Equal((4, 2), (seen.Count(port => port == 2), seen.Count(port => port == 1)));
    }

    [Fact]
    public async Task The_first_rule_that_matches_decides()
    {
        var test = Test("""
            {"rules":[{"match":[{"vars":[["arg_a","==","1"],["http_x-y","==","1"]]},{"vars":[["arg_b","!","~~","^[0-9]+$"]]}],"weighted_upstreams":[{"upstream_id":"u2"}]},
              {"match":[{"vars":[["arg_c","==","1"]]}],"weighted_upstreams":[{"upstream":{"nodes":[{"host":"127.0.0.1","port":3,"weight":1}]}}]}]}
            """, Upstream("u2", 2));
        Assert.Equal(2, await test.PortAsync("/?b=x"));
        Assert.Equal(2, await test.PortAsync("/?a=1&b=1", ("X-Y", "1")));
        Assert.Equal(3, await test.PortAsync("/?a=1&b=1&c=1"));
        Assert.Equal(1, await test.PortAsync("/?b=1"));
    }

    [Fact]
    public async Task An_upstream_that_is_not_there_is_a_500()
    {
        var result = await Test("""{"rules":[{"match":[{"vars":[["arg_a","==","1"]]}],"weighted_upstreams":[{"upstream_id":9}]}]}""")
            .GetAsync("/");
        Assert.Equal((500, "failed to fetch upstream info by upstream id: 9"), (result.Status, result.Body));
    }

    [Fact]
    public async Task A_changed_upstream_is_the_one_that_is_asked()
    {
        const string plugins = """{"traffic-split":{"rules":[{"weighted_upstreams":[{"upstream_id":"u2"}]}]},"stops-before-proxy":{}}""";
        var test = new PluginTest(plugins, Upstream("u2", 2));
        test.Change(Upstream("u2", 7));
        Assert.Equal(7, await test.PortAsync("/"));
    }

    [Fact]
    public async Task An_upstream_goes_on_when_another_route_that_used_it_is_gone()
    {
        const string plugins =
            """{"traffic-split":{"rules":[{"weighted_upstreams":[{"upstream_id":"u2"},{"upstream":{"nodes":{"127.0.0.1:3":1}}}]}]},"stops-before-proxy":{}}""";
        var other = TestExchange.Document(ResourceKind.Routes, "r2", $$"""{"uri":"/two","upstream_id":"u2","plugins":{{plugins}}}""");
        var test = new PluginTest(plugins, Upstream("u2", 2), other);
        test.Remove(other);
        Assert.Equal([2, 3], new[] { await test.PortAsync("/"), await test.PortAsync("/") }.Order());
    }

    [Fact]
    public async Task Global_rules_and_consumers_can_split_too()
    {
        var rule = TestExchange.Document(ResourceKind.GlobalRules, "1",
            """{"plugins":{"traffic-split":{"rules":[{"match":[{"vars":[["arg_a","==","1"]]}],"weighted_upstreams":[{"upstream_id":"u2"}]}]}}}""");
        var jack = PluginTest.Consumer("jack",
            """{"key-auth":{"key":"k"},"traffic-split":{"rules":[{"weighted_upstreams":[{"upstream_id":"u3"}]}]}}""");
        var test = new PluginTest("""{"key-auth":{"_meta":{"filter":[["arg_k","==","1"]]}},"stops-before-proxy":{}}""", Upstream("u2", 2),
            Upstream("u3", 3), rule, jack);
        Assert.Equal(2, await test.PortAsync("/?a=1"));
        Assert.Equal(3, await test.PortAsync("/?k=1", ("apikey", "k")));
        test.Change(Upstream("u3", 8));
        Assert.Equal(8, await test.PortAsync("/?k=1", ("apikey", "k")));
    }

    static Document Upstream(string id, int port) =>
        TestExchange.Document(ResourceKind.Upstreams, id, $$$"""{"nodes":{"127.0.0.1:{{{port}}}":1}}""");

    static PluginTest Test(string config, params Document[] others) =>
        new($$$"""{"traffic-split":{{{config}}},"stops-before-proxy":{}}""", others);
}

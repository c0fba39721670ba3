using Sluice.Model;
using Sluice.Upstreams;

namespace Sluice.Tests.Upstreams;

public class UpstreamTests
{
    static Upstream Of(params NodeConfig[] nodes) => new(new UpstreamConfig("u", null, nodes));

    static Node? First(Upstream upstream, string hashKey = "")
    {
        using var picks = upstream.Begin(hashKey);
        return picks.Next();
    }

    [Fact]
    public void Weights_are_spread_smoothly()
    {
        var upstream = Of(new("a", 80, 5), new("b", 80, 1), new("c", 80, 1));
        Assert.Equal("aabacaa", string.Concat(Enumerable.Range(0, 7).Select(_ => First(upstream)!.Config.Host)));
    }

    [Fact]
    public void A_node_of_weight_zero_is_never_picked()
    {
        var upstream = Of(new("a", 80, 0), new("b", 80));
        Assert.All(Enumerable.Range(0, 5), _ => Assert.Equal("b", First(upstream)!.Config.Host));
        Assert.Null(First(Of(new NodeConfig("a", 80, 0))));
    }

    [Fact]
    public void Lower_priorities_are_tried_only_when_the_higher_ones_are_used_up()
    {
        var upstream = Of(new("backup", 80, 1, -1), new("a", 80), new("b", 80));
        using var picks = upstream.Begin();
        var order = "";
        while (picks.Next() is { } node)
        {
            order += node.Config.Host + " ";
        }
        Assert.Equal("a b backup ", order);
    }

    [Fact]
    public void Retries_are_one_for_each_further_node_unless_set()
    {
        Assert.Equal(2, Of(new("a", 80), new("b", 80), new("c", 80)).Begin().Retries);
        Assert.Equal(0, new Upstream(new UpstreamConfig("u", null, [new("a", 80), new("b", 80)]) { Retries = 0 }).Begin().Retries);
    }

    [Fact]
    public void A_port_that_is_not_configured_is_the_schemes()
    {
        Assert.Equal("a:80", Of(new NodeConfig("a", null)).Nodes[0].Name);
        Assert.Equal("a:443", new Upstream(new UpstreamConfig("u", null, [new("a", null)]) { Scheme = "https" }).Nodes[0].Name);
    }

    [Theory]
    [InlineData("httpbin.org", 443, "https", "httpbin.org")]
    [InlineData("httpbin.org", 443, "grpcs", "httpbin.org")]
    [InlineData("httpbin.org", 80, "http", "httpbin.org")]
    [InlineData("httpbin.org", 443, "http", "httpbin.org:443")]
    [InlineData("httpbin.org", 80, "https", "httpbin.org:80")]
    [InlineData("httpbin.org", null, "https", "httpbin.org")]
    [InlineData("::1", 8080, "http", "[::1]:8080")]
    [InlineData("::1", 80, "http", "[::1]")]
    public void The_host_of_a_node_has_no_port_that_is_the_schemes_own(string host, int? port, string scheme, string expected) =>
        Assert.Equal(expected,
            new Upstream(new UpstreamConfig("u", null, [new(host, port)]) { Scheme = scheme }).Nodes[0].HostHeader(scheme));
}

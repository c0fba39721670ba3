namespace Sluice.Tests.Plugins.Auth;

public class AttachConsumerLabelTests
{
    [Theory]
    [InlineData("{}", "property \"headers\" is required")]
    [InlineData("""{"headers":{}}""", "property \"headers\" validation failed: expect object to have at least 1 properties")]
    [InlineData("""{"headers":{"X-A":"label"}}""", "property \"headers\" validation failed: ")]
    [InlineData("""{"headers":{"X A":"$label"}}""", "property \"headers\" validation failed: \"X A\" is no header's name")]
    public void Headers_name_labels(string config, string error) =>
        Assert.StartsWith(error, PluginTest.Check("attach-consumer-label", config) ?? "", StringComparison.Ordinal);

    [Fact]
    public async Task Labels_reach_the_upstream()
    {
        var result = await Test().GetAsync("/", ("apikey", "k1"), ("X-Department", "evil"), ("X-Company", "evil"));
        Assert.True(result.Proxied);
        Assert.Equal("devops", result.Sent("X-Department"));
        Assert.Null(result.Sent("X-Company"));
    }

    [Fact]
    public async Task What_the_client_sent_goes_also_without_a_consumer_or_labels()
    {
        var nobody = await new PluginTest("""{"attach-consumer-label":{"headers":{"X-Department":"$department"}}}""").GetAsync("/",
            ("X-Department", "evil"));
        Assert.True(nobody.Proxied);
        Assert.Null(nobody.Sent("X-Department"));
        var bare = await Test().GetAsync("/", ("apikey", "k2"), ("X-Department", "evil"));
        Assert.True(bare.Proxied);
        Assert.Null(bare.Sent("X-Department"));
    }

    static PluginTest Test() => new(
        """{"key-auth":{},"attach-consumer-label":{"headers":{"X-Department":"$department","X-Company":"$company"}}}""",
        PluginTest.Consumer("jack", """{"key-auth":{"key":"k1"}}""", """, "labels":{"department":"devops"}"""),
        PluginTest.Consumer("jill", """{"key-auth":{"key":"k2"}}"""));
}

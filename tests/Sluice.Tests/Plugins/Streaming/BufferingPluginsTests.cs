using Sluice.Pipeline;

namespace Sluice.Tests.Plugins.Streaming;

public class BufferingPluginsTests
{
    [Fact]
    public void Wrong_types_are_refused_in_the_words_of_APISIX()
    {
        Assert.Equal(
            """property "disable_proxy_buffering" validation failed: wrong type: expected boolean, got string""",
            PluginTest.Check("proxy-buffering", """{"disable_proxy_buffering":"x"}"""));
        Assert.Equal(
            """property "request_buffering" validation failed: wrong type: expected boolean, got number""",
            PluginTest.Check("proxy-control", """{"request_buffering":1}"""));
    }

    [Theory]
    [InlineData("""{"disable_proxy_buffering":true}""", false)]
    [InlineData("""{"disable_proxy_buffering":false}""", true)]
    [InlineData("{}", true)]
    public async Task Proxy_buffering_decides_about_answers(string config, bool on)
    {
        var result = await new PluginTest($$$"""{"proxy-buffering":{{{config}}}}""").GetAsync("/");
        Assert.Equal(on, BufferingRules.Response(result.Exchange, null, isStream: on).On);
        Assert.Equal("default", BufferingRules.Request(result.Exchange, isStream: false).Level);
    }

    [Theory]
    [InlineData("""{"request_buffering":false}""", false)]
    [InlineData("{}", true)]
    public async Task Proxy_control_decides_about_requests(string config, bool on)
    {
        var result = await new PluginTest($$$"""{"proxy-control":{{{config}}}}""").GetAsync("/");
        Assert.Equal(("plugin", on),
            (BufferingRules.Request(result.Exchange, isStream: on).Level, BufferingRules.Request(result.Exchange, isStream: on).On));
    }
}

namespace Sluice.Tests.Plugins.Streaming;

public class StreamBudgetTests
{
    const string EndOfEvents =
        "event: end\ndata: {\"reason\":\"max_events\",\"message\":\"the stream has had as many events as it may\"}\n\n";
    const string EndOfBytes = "event: end\ndata: {\"reason\":\"max_bytes\",\"message\":\"the stream has had as many bytes as it may\"}\n\n";
    const string Events = "data: 1\n\n: note\n\ndata: 2\n\ndata: 3\n\n";

    [Theory]
    [InlineData("""{"max_events":2}""", "data: 1\n\n: note\n\ndata: 2\n\n" + EndOfEvents, "max_events")]
    [InlineData("""{"max_events":2,"ending":{"mode":"abort"}}""", "data: 1\n\n: note\n\ndata: 2\n\n", "max_events")]
    [InlineData("""{"max_events":3}""", Events + EndOfEvents, "max_events")]
    [InlineData("""{"max_events":4}""", Events, "complete")]
    [InlineData("""{"max_bytes":9}""", "data: 1\n\n" + EndOfBytes, "max_bytes")]
    [InlineData("""{"max_bytes":10}""", "data: 1\n\n: note\n\ndata: 2\n\n" + EndOfBytes, "max_bytes")]
    [InlineData("""{"max_bytes":"1k"}""", Events, "complete")]
    public async Task A_stream_ends_properly_after_the_unit_that_reaches_its_budget(string config, string sent, string reason)
    {
        foreach (var pieces in (string[][])[[Events], [.. Events.Select(c => c.ToString())]])
        {
            var result = await new PluginTest($$"""{"streaming":{{config}}}""").SendAsync("GET", "/", PluginTest.Upstream.Events(pieces));
            Assert.Equal((sent, reason), (result.Body, result.Exchange.StreamEnd));
            Assert.Null(result.Exchange.Failure);
        }
    }

    [Theory]
    [InlineData(10, "complete")]
    [InlineData(9, "max_bytes")]
    public async Task A_body_without_units_is_cut_and_no_whole_one(int most, string reason)
    {
        var result = await new PluginTest($$"""{"streaming":{"max_bytes":{{most}},"max_events":1} }""").SendAsync("GET", "/",
            PluginTest.Upstream.Text("01234", "56789"));
        Assert.Equal(reason, result.Exchange.StreamEnd);
    }

    [Theory]
    [InlineData("""{"max_bytes":0}""", "max_bytes must be at least 1")]
    [InlineData("""{"concurrent":[{"key":"all","limit":1}]}""",
        "concurrent.key \"all\" has no variable: write \"$consumer_name\", \"$remote_addr\" or another")]
    [InlineData("""{"concurrent":[{"key":"$remote_addr","limit":1,"policy":"redis"}]}""",
        "concurrent.redis_host is required when policy is redis")]
    [InlineData("""{"concurrent":[{"key":"$remote_addr","limit":"many"}]}""",
        "property \"concurrent.limit\" validation failed: expected a positive integer or a text with a variable such as \"${http_x_quota "
            + "?? 10}\", got \"many\"")]
    public void What_cannot_be_is_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("streaming", config));
}

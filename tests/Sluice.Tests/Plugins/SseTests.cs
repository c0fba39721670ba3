using System.Text;

namespace Sluice.Tests.Plugins;

public class SseTests
{
    [Theory]
    [InlineData("""{"heartbeat":{}}""", "additional properties forbidden, found heartbeat")]
    [InlineData("""{"filter":{"json":1}}""", """property "filter" validation failed: additional properties forbidden, found json""")]
    [InlineData("""{"max_events":0}""", """property "max_events" validation failed: expected 0 to be at least 1""")]
    public void Properties_that_do_not_exist_yet_are_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("sse", config));

    [Fact]
    public async Task Events_that_pass_leave_byte_for_byte()
    {
        const string stream = ": hello\r\n\r\nevent: a\r\ndata:1\r\n\r\nid: 7\n\ndata: two\ndata: lines\n\n:x\n\ndata: cut";
        Assert.Equal(stream, await RunAsync("{}", stream));
    }

    [Theory]
    [InlineData("""{"filter":{"include_events":["a"]}}""", "event: a\ndata: 1\n\n")]
    [InlineData("""{"filter":{"exclude_events":["a"]}}""", "event: b\ndata: 2\n\ndata: 3\n\n")]
    [InlineData("""{"filter":{"include_events":["message"]}}""", "data: 3\n\n")]
    [InlineData("""{"filter":{"include_events":["a","b"],"exclude_events":["b"]}}""", "event: a\ndata: 1\n\n")]
    [InlineData("""{"max_events":2}""", "event: a\ndata: 1\n\nevent: b\ndata: 2\n\n")]
    [InlineData("""{"max_events":1,"filter":{"exclude_events":["a"]}}""", "event: b\ndata: 2\n\n")]
    public async Task The_filter_goes_by_name(string config, string expected)
    {
        const string stream = "event: a\ndata: 1\n\nevent: b\ndata: 2\n\ndata: 3\n\n";
        Assert.Equal(expected, await RunAsync(config, stream));
        Assert.Equal(expected, await RunAsync(config, [.. stream.Select(c => c.ToString())]));
    }

    [Fact]
    public async Task Comments_go_between_events_and_within()
    {
        const string stream = "\uFEFF: hello\n\ndata: 1\n: inside\r\ndata: 2\r\n\r\n:beat\n\ndata: 3\n\n";
        const string expected = "\uFEFFdata: 1\ndata: 2\r\n\r\ndata: 3\n\n";
        Assert.Equal(expected, await RunAsync("""{"strip_comments":true}""", stream));
        // byte by byte a blank line behind a comment is a passage of its own, and stays
        var dripped = await RunAsync("""{"strip_comments":true}""", [.. stream.Select(c => c.ToString())]);
        Assert.Equal("\uFEFF\n" + expected[1..^9] + "\ndata: 3\n\n", dripped);
    }

    [Fact]
    public async Task An_event_over_the_limit_ends_the_stream_with_an_error()
    {
        await Assert.ThrowsAsync<Sluice.Pipeline.BodyFilterException>(() =>
            RunAsync("""{"max_event_bytes":64}""", "data: " + new string('x', 100) + "\n\n"));
    }

    [Fact]
    public async Task Other_answers_and_compressed_ones_are_not_looked_at()
    {
        var test = new PluginTest("""{"sse":{"filter":{"include_events":["none"]}}}""");
        Assert.Equal("data: 1\n\n", (await test.SendAsync("GET", "/", PluginTest.Upstream.Text("data: 1\n\n"))).Body);
        var compressed = PluginTest.Upstream.Events("data: 1\n\n") with { Headers = [("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")] };
        Assert.Equal("data: 1\n\n", (await test.SendAsync("GET", "/", compressed)).Body);
    }

    [Fact]
    public async Task The_upstream_is_not_offered_compression()
    {
        var result = await new PluginTest("""{"sse":{}}""").GetAsync("/", ("Accept-Encoding", "gzip"));
        Assert.Null(result.Sent("Accept-Encoding"));
    }

    static async Task<string> RunAsync(string config, params string[] pieces)
    {
        var test = new PluginTest($$$"""{"sse":{{{config}}}}""");
        return (await test.SendAsync("GET", "/", PluginTest.Upstream.Events(pieces))).Body;
    }
}

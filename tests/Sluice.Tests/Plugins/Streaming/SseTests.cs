using System.Text;

namespace Sluice.Tests.Plugins.Streaming;

public class SseTests
{
    [Theory]
    [InlineData("""{"heartbeat":{}}""", "additional properties forbidden, found heartbeat")]
    [InlineData("""{"filter":{"json":1}}""", """property "filter" validation failed: additional properties forbidden, found json""")]
    [InlineData("""{"max_events":0}""", """property "max_events" validation failed: expected 0 to be at least 1""")]
    public void Properties_that_do_not_exist_yet_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("sse", config));

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
    public async Task Events_are_filtered_by_their_name(string config, string expected)
    {
        const string stream = "event: a\ndata: 1\n\nevent: b\ndata: 2\n\ndata: 3\n\n";
        Assert.Equal(expected, await RunAsync(config, stream));
        Assert.Equal(expected, await RunAsync(config, [.. stream.Select(c => c.ToString())]));
    }

    const string Json = "event: price\nid: 4\ndata: {\"symbol\":\"A\",\"user\":{\"name\":\"ann\",\"key\":\"k\"},\"p\":7}\n\n";

    [Theory]
    [InlineData("""{"filter":{"vars":[["data.symbol","==","A"]]}}""", Json)]
    [InlineData("""{"filter":{"vars":[["data.p",">",7]]}}""", "")]
    [InlineData("""{"filter":{"vars":[["n","==","1"],["event","==","price"],["id","==","4"],["arg_x","==","1"]]}}""", Json)]
    [InlineData("""{"filter":{"vars":[["data.none.deep","==","A"]]}}""", "")]
    [InlineData("""{"rename_events":{"price":"quote"}}""",
        "id: 4\nevent: quote\ndata: {\"symbol\":\"A\",\"user\":{\"name\":\"ann\",\"key\":\"k\"},\"p\":7}\n\n")]
    [InlineData("""{"rename_events":{"other":"quote"}}""", Json)]
    [InlineData("""{"transform":[{"set_data":"${data.symbol} $arg_x\n${data.user.name}","set_id":"${id}-$n","set_event":"x"}]}""",
        "id: 4-1\nevent: x\ndata: A 1\ndata: ann\n\n")]
    [InlineData(
        """{"transform":[{"replace":[{"path":"p","value":[1]},{"path":"user.new","value":null},{"path":"none.x","value":1}],"remove":["symbol","x"],"mask":["user.key","user.no"]}]}""",
        "id: 4\nevent: price\ndata: {\"user\":{\"name\":\"ann\",\"key\":\"***\",\"new\":null},\"p\":[1]}\n\n")]
    [InlineData("""{"transform":[{"vars":[["event","==","other"]],"set_data":"x"}]}""", Json)]
    public async Task Events_pass_and_change_by_what_is_in_them(string config, string expected)
    {
        foreach (var pieces in (string[][])[[Json], [.. Json.Select(c => c.ToString())]])
        {
            Assert.Equal(expected,
                (await new PluginTest($$"""{"sse":{{config}} }""").SendAsync("GET", "/?x=1", PluginTest.Upstream.Events(pieces))).Body);
        }
        // data that is no JSON, or means two things, has no paths, and stays
        var twice = (await new PluginTest("""{"sse":{"transform":[{"mask":["a"]}]}}""").SendAsync("GET", "/",
            PluginTest.Upstream.Events("data: {\"a\":1,\"a\":2}\n\n"))).Body;
        Assert.Equal("data: {\"a\":1,\"a\":2}\n\n", twice);
        var text = (await new PluginTest("""{"sse":{"transform":[{"mask":["a"]}]}}""").SendAsync("GET", "/",
            PluginTest.Upstream.Events("data: {a\n\n"))).Body;
        Assert.Equal("data: {a\n\n", text);
    }

    [Theory]
    [InlineData("data: 1\n\n", "data: 1\n\nid: sluice.end\n\n")]
    [InlineData("data: 1\n\ndata: cut", "data: 1\n\ndata: cut")]
    public async Task A_finite_stream_ends_for_good(string stream, string sent)
    {
        var test = new PluginTest("""{"sse":{"finite":true}}""");
        Assert.Equal(sent, (await test.SendAsync("GET", "/", PluginTest.Upstream.Events(stream))).Body);
        var again = await test.SendAsync("GET", "/", PluginTest.Upstream.Events(stream), ("Last-Event-ID", "sluice.end"));
        Assert.Equal((204, "", false), (again.Status, again.Body, again.Proxied));
        Assert.Equal(200, (await test.SendAsync("POST", "/", PluginTest.Upstream.Events(stream), ("Last-Event-ID", "sluice.end"))).Status);
    }

    [Fact]
    public async Task Another_type_can_be_an_event_stream()
    {
        var result = await new PluginTest("""{"sse":{"content_type":["text/plain"],"max_events":1}}""").SendAsync("GET", "/",
            PluginTest.Upstream.Text("data: 1\n\ndata: 2\n\n"));
        Assert.Equal(("text/event-stream", "data: 1\n\n", "max_events"),
            (result.Exchange.Response.ContentType, result.Body, result.Exchange.StreamEnd));
    }

    [Fact]
    public void An_expression_that_is_none_is_refused() =>
        Assert.StartsWith("failed to validate the 'vars' expression: ",
            PluginTest.Check("sse", """{"transform":[{"vars":[["a","=?","b"]]}]}"""), StringComparison.Ordinal);

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
        var result = await new PluginTest("""{"sse":{"max_event_bytes":64}}""")
            .SendAsync("GET", "/", PluginTest.Upstream.Events("data: " + new string('x', 100) + "\n\n"));
        Assert.Equal("body_filter_failed", result.Exchange.Failure?.Kind);
        Assert.DoesNotContain("xxx", result.Body);
    }

    [Fact]
    public async Task Other_answers_and_compressed_ones_are_not_looked_at()
    {
        var test = new PluginTest("""{"sse":{"filter":{"include_events":["none"]}}}""");
        Assert.Equal("data: 1\n\n", (await test.SendAsync("GET", "/", PluginTest.Upstream.Text("data: 1\n\n"))).Body);
        var compressed = PluginTest.Upstream.Events(
            "data: 1\n\n") with { Headers = [("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")] };
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

namespace Sluice.Tests.Plugins.Transform;

public class EchoTests
{
    [Theory]
    [InlineData("""{"headers":{"a":"b"}}""", "object matches none of the required")]
    [InlineData("""{"body":"a","after_body":10}""", """property "after_body" validation failed: wrong type: expected string, got number""")]
    [InlineData("""{"body":"a","headers":{"a":{}}}""", "invalid type as header value")]
    [InlineData("""{"body":"a","headers":{"a b":"c"}}""", "invalid field character in header")]
    [InlineData("""{"body":"a","headers":{"Content-Length":"5"}}""",
        "header Content-Length can not be set: the gateway frames answers itself")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.StartsWith(error, PluginTest.Check("echo", config) ?? "", StringComparison.Ordinal);

    [Theory]
    [InlineData("""{"body":"new"}""", "new")]
    [InlineData("""{"before_body":"<","body":"new","after_body":">"}""", "<new>")]
    [InlineData("""{"before_body":"<"}""", "<one two")]
    [InlineData("""{"after_body":">"}""", "one two>")]
    [InlineData("""{"before_body":"<","after_body":">"}""", "<one two>")]
    public async Task Texts_stand_before_and_behind_a_body_or_in_its_place(string config, string expected)
    {
        var result = await new PluginTest($$"""{"echo":{{config}}}""").SendAsync("GET", "/", PluginTest.Upstream.Text("one ", "two") with
        {
            Headers = [("Content-Length", "7"), ("Content-Encoding", "x"), ("ETag", "y"), ("Last-Modified", "z"), ("X-Kept", "1")],
        });
        Assert.Equal(expected, result.Body);
        Assert.Null(result.Answered("Content-Encoding") ?? result.Answered("ETag") ?? result.Answered("Last-Modified"));
        Assert.Equal("1", result.Answered("X-Kept"));
    }

    [Fact]
    public async Task Headers_are_set_as_they_are_written()
    {
        var result = await new PluginTest("""{"echo":{"before_body":"","headers":{"Location":"https://a.test/$uri","X-N":3,"set":"1"}}}""")
            .SendAsync("GET", "/", new PluginTest.Upstream(200, ("Location", "/old")));
        Assert.Equal(("https://a.test/$uri", "3", "1"), (result.Answered("Location"), result.Answered("X-N"), result.Answered("set")));
    }

    [Fact]
    public async Task An_empty_body_gets_both_texts() =>
        Assert.Equal("<>",
            (await new PluginTest("""{"echo":{"before_body":"<","after_body":">"}}""").SendAsync("GET", "/",
                PluginTest.Upstream.Text())).Body);

    [Fact]
    public async Task Pieces_are_not_held_back()
    {
        var result = await new PluginTest("""{"echo":{"before_body":"<","after_body":">"}}""").GetAsync("/");
        var filters = Sluice.Pipeline.BodyFilters.Open(result.Exchange, out _)!;
        var output = new System.Buffers.ArrayBufferWriter<byte>();
        filters.Filter("a"u8.ToArray(), last: false, output);
        Assert.Equal("<a"u8, output.WrittenSpan);
    }
}

using System.Text;
using Sluice.Tests.Plugins;

namespace Sluice.Tests.Pipeline.Responses;

/// <summary>Filters that may take their time over an event.</summary>
public sealed class WaitingFiltersTests
{
    const string Events = "data: 1\n\n";

    [Fact]
    public async Task What_is_refused_does_not_pass_and_the_rest_leaves_byte_for_byte()
    {
        var result = await new PluginTest("""{"moderates":{}}""").SendAsync("GET", "/",
            PluginTest.Upstream.Events("data: 1\n", "\ndata: bad\n\n", "id: 3\ndata:  x\n\n"));
        Assert.Equal("data: 1\n\nid: 3\ndata:  x\n\n: moderated\n\n", result.Body);
    }

    [Fact]
    public async Task Filters_before_it_in_the_chain_are_asked_before_it_and_those_behind_it_after()
    {
        // sse, of priority 996, comes after it, or with another priority before it
        const string Drop =
            """{"moderates":{"bad":"good"},"sse":{"transform":[{"vars":[["data","==","1"]],"set_data":"good"}],"rename_events":{"a":"b"}META}}""";
        var upstream = PluginTest.Upstream.Events(Events, "event: a\ndata: 2\n\n");
        var after = await new PluginTest(Drop.Replace("META", "", StringComparison.Ordinal)).SendAsync("GET", "/", upstream);
        var before = await new PluginTest(Drop.Replace("META", ",\"_meta\":{\"priority\":1001}", StringComparison.Ordinal)).SendAsync("GET",
            "/", upstream);
        Assert.Equal(("data: good\n\nevent: b\ndata: 2\n\n: moderated\n\n", "event: b\ndata: 2\n\n: moderated\n\n"),
            (after.Body, before.Body));
    }

    [Fact]
    public async Task While_it_waits_nothing_more_passes_and_the_client_has_what_came_before()
    {
        var desk = Guid.NewGuid().ToString();
        Moderates.Asked[desk] = new(TaskCreationOptions.RunContinuationsAsynchronously);
        var sending = new PluginTest($$$"""{"moderates":{"desk":"{{{desk}}}"}}""").SendAsync("GET", "/",
            PluginTest.Upstream.Events(": hello\n\n", Events, "data: 2\n\n"));
        var first = await Moderates.Asked[desk].Task.WaitAsync(TestContext.Current.CancellationToken);
        Assert.False(sending.IsCompleted);
        Moderates.Asked[desk] = new(TaskCreationOptions.RunContinuationsAsynchronously);
        first.SetResult(true);
        var second = await Moderates.Asked[desk].Task.WaitAsync(TestContext.Current.CancellationToken);
        Assert.False(sending.IsCompleted);
        second.SetResult(false);
        Assert.Equal(": hello\n\ndata: 1\n\n: moderated\n\n", (await sending).Body);
    }

    [Fact]
    public async Task It_can_end_the_stream_properly()
    {
        var result = await new PluginTest("""{"moderates":{"last":"2"}}""").SendAsync("GET", "/",
            PluginTest.Upstream.Events(Events, "data: 2\n\n", "data: 3\n\n"));
        Assert.Equal("data: 1\n\ndata: 2\n\n: moderated\n\n", result.Body);
    }

    [Fact]
    public async Task An_answer_of_the_gateway_passes_it_too()
    {
        var result = await new PluginTest(
            """{"moderates":{},"mocking":{"response_example":"data: 1\n\ndata: bad\n\n","content_type":"text/plain"}}""").GetAsync("/");
        Assert.Equal(Events + ": moderated\n\n", result.Body);
    }

    [Fact]
    public async Task A_requests_body_passes_filters_on_its_way_without_the_length_that_the_client_told()
    {
        string? got = null;
        long? length = 0;
        var upstream = new PluginTest.Upstream
        {
            Read = async exchange =>
            {
                length = exchange.Request.ContentLength;
                using var reader = new StreamReader(exchange.Request.BodyReader.AsStream(), Encoding.UTF8);
                got = await reader.ReadToEndAsync();
            },
        };
        var test = new PluginTest("""{"doubles":{}}""");
        await test.SendAsync("POST", "/", upstream, ("Content-Type", "text/plain"), (":body", "abc"));
        Assert.Equal(("aabbcc.", null), (got, length));
        await test.SendAsync("POST", "/", upstream, ("Content-Type", "application/json"), (":body", "abc"));
        Assert.Equal(("abc", 3L), (got, length));
    }
}

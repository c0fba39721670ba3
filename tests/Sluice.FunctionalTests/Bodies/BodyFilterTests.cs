using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Bodies;

/// <summary>A8: plugins that look into the body see each piece as it comes, and each piece leaves at once.</summary>
public sealed class BodyFilterTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>
{
    const int Events = 4;
    static readonly int Bytes = Enumerable.Range(0, Events).Sum(id => EventOrigin.Event(id).Length);

    public static TheoryData<Framing, Protocol, bool> Cases()
    {
        TheoryData<Framing, Protocol, bool> cases = [];
        foreach (var framing in Enum.GetValues<Framing>())
        {
            cases.Add(framing, Protocol.Http1, true);
            cases.Add(framing, Protocol.Http1, false);
            cases.Add(framing, Protocol.H2c, false);
        }
        return cases;
    }

    static string Plugins(bool buffering, string more) =>
        $$""" "plugins":{"proxy-buffering":{"disable_proxy_buffering":{{(buffering ? "false" : "true")}} },{{more}} } """;

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task An_event_filter_lets_each_event_go_at_once(Framing framing, Protocol protocol, bool buffering)
    {
        const string Ping = "event: ping\ndata: 1\n\n", Comment = ": heartbeat\n\n";
        await using var origin = new EventOrigin(framing, Bytes + (Ping.Length + Comment.Length) * Events);
        var path = await fixture.RouteAsync(origin.Port,
            Plugins(buffering, """ "sse":{"filter":{"exclude_events":["ping"]},"strip_comments":true} """));
        using var response = await fixture.SendAsync(protocol, path);
        Assert.Null(response.Content.Headers.ContentLength);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        for (var id = 0; id < Events; id++)
        {
            await origin.SendAsync(Ping + Comment);
            var whole = EventOrigin.Event(id);
            // an event that comes in two halves leaves when it is whole
            await origin.SendAsync(whole[..7]);
            await origin.SendAsync(whole[7..]);
            Assert.Equal(whole, (await events.NextAsync()).Event.TrimStart('\n'));
        }
        origin.End();
        Assert.Equal(0, await events.Body.ReadAsync(new byte[1]));
    }

    [Theory]
    [InlineData(Protocol.Http1, true)]
    [InlineData(Protocol.Http1, false)]
    [InlineData(Protocol.TlsHttp2, false)]
    public async Task A_filter_that_has_enough_ends_the_stream_properly_and_lets_the_upstream_go(Protocol protocol, bool buffering)
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var path = await fixture.RouteAsync(origin.Port, Plugins(buffering, """ "sse":{"max_events":2} """));
        using var response = await fixture.SendAsync(protocol, path);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        for (var id = 0; id < 2; id++)
        {
            await origin.SendAsync(EventOrigin.Event(id));
            Assert.Equal(EventOrigin.Event(id), (await events.NextAsync()).Event);
        }
        Assert.Equal(0, await events.Body.ReadAsync(new byte[1]));
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_event_that_is_too_large_for_a_filter_aborts_the_stream(bool buffering)
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var path = await fixture.RouteAsync(origin.Port,
            Plugins(buffering, """ "sse":{"filter":{"exclude_events":["ping"]},"max_event_bytes":64} """));
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        await origin.SendAsync(EventOrigin.Event(0));
        await events.NextAsync();
        await origin.SendAsync($"data: {new string('x', 100)}\n\n");
        await Assert.ThrowsAnyAsync<IOException>(async () => await events.Body.ReadAsync(new byte[1]));
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Theory]
    [InlineData(Protocol.Http1, true)]
    [InlineData(Protocol.Http1, false)]
    [InlineData(Protocol.TlsHttp2, false)]
    public async Task A_client_that_leaves_a_filtered_stream_lets_the_upstream_go(Protocol protocol, bool buffering)
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var path = await fixture.RouteAsync(origin.Port, Plugins(buffering, """ "sse":{"strip_comments":true} """));
        using (var response = await fixture.SendAsync(protocol, path))
        {
            using var events = new EventReader(await response.Content.ReadAsStreamAsync());
            for (var id = 0; id < 2; id++)
            {
                await origin.SendAsync(EventOrigin.Event(id));
                await events.NextAsync();
            }
        }
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task A_stream_that_breaks_off_below_a_filter_never_ends_cleanly()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var path = await fixture.RouteAsync(origin.Port, Plugins(false, """ "sse":{"strip_comments":true} """));
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        await origin.SendAsync(EventOrigin.Event(0));
        await events.NextAsync();
        await origin.BreakOffAsync();
        await Assert.ThrowsAnyAsync<IOException>(async () => await events.Body.ReadAsync(new byte[1]));
    }

    [Fact]
    public async Task Filters_of_global_rules_and_routes_run_one_after_the_other()
    {
        await using var gateway = await TestGateway.StartAsync();
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await gateway.PutAsync("/global_rules/g", """{"plugins":{"sse":{"strip_comments":true}}}""");
        await gateway.RouteAsync("r1", "/events", origin.Port, """ "plugins":{"sse":{"filter":{"include_events":["message"]}}} """);
        using var response = await gateway.Client.GetAsync(gateway.Url("/events"), HttpCompletionOption.ResponseHeadersRead);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        await origin.SendAsync(": comment\nid: 1\ndata: a\n\n");
        Assert.Equal("id: 1\ndata: a\n\n", (await events.NextAsync()).Event);
        await origin.SendAsync("event: other\ndata: b\n\n");
        await origin.SendAsync("data: c\n\n");
        Assert.Equal("data: c\n\n", (await events.NextAsync()).Event);
    }

    [Fact]
    public async Task Response_rewrite_replaces_a_stream_and_lets_the_upstream_go()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var path = await fixture.RouteAsync(origin.Port,
            """ "plugins":{"response-rewrite":{"body":"instead","status_code":201,"headers":{"set":{"X-A":"b"}}}} """);
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        Assert.Equal((HttpStatusCode.Created, "instead"), (response.StatusCode, await response.Content.ReadAsStringAsync()));
        Assert.Equal(["b"], response.Headers.GetValues("X-A"));
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task Response_rewrite_without_a_body_leaves_the_stream_a_stream()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var path = await fixture.RouteAsync(origin.Port, """ "plugins":{"response-rewrite":{"headers":{"set":{"X-A":"b"}}}} """);
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        Assert.Equal(["b"], response.Headers.GetValues("X-A"));
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        for (var id = 0; id < 3; id++)
        {
            await origin.SendAsync(EventOrigin.Event(id));
            Assert.Equal(EventOrigin.Event(id), (await events.NextAsync()).Event);
        }
    }

    [Fact]
    public async Task Filters_that_need_the_whole_body_get_it_and_the_Control_API_warns_of_them()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n");
            await connection.SendAsync("2\r\nlo\r\n0\r\n\r\n");
            await connection.ReadEndAsync();
        });
        var path = await fixture.RouteAsync(origin.Port,
            """ "plugins":{"response-rewrite":{"filters":[{"regex":"hello","replace":"goodbye"}]}} """);
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        Assert.Equal("goodbye", await response.Content.ReadAsStringAsync());
        var told = await fixture.Gateway.ControlAsync($"/v1/buffering?uri={path}");
        Assert.Equal("response-rewrite", (string?)told["needs_whole_body"]![0]!["plugin"]);
    }
}

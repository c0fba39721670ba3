using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>A1–A5 of the article in every framing: an event is at the client before the next one is sent.</summary>
public class EventByEventTests
{
    const int Events = 10;
    static readonly int Bytes = Enumerable.Range(0, Events).Sum(id => EventOrigin.Event(id).Length);

    public static TheoryData<Framing, string> Cases()
    {
        TheoryData<Framing, string> cases = [];
        foreach (var framing in Enum.GetValues<Framing>())
        {
            foreach (var rule in Rules.Keys)
            {
                cases.Add(framing, rule);
            }
        }
        return cases;
    }

    static readonly Dictionary<string, (string? Nginx, string Config, string? Plugins)> Rules = new()
    {
        ["as it comes"] = (null, "", null),
        ["A1 nginx.conf http"] = ("http { proxy_buffering off; proxy_buffer_size 1k; proxy_buffers 4 1k; }", "", null),
        ["A1 http_configuration_snippet"] = (null,
            "nginx_config:\n  http_configuration_snippet: |\n    proxy_buffering off;\n    proxy_buffer_size 1k;\n    proxy_buffers 4 1k;\n", null),
        ["A2 server block"] = ("http { proxy_buffering on; server { server_name app1.example.com; proxy_buffering off; } }", "", null),
        ["A3 proxy-rewrite off"] = (null, "", """ "plugins":{"proxy-rewrite":{"disable_buffering":true}} """),
        ["A3 proxy-rewrite on"] = (null, "", """ "plugins":{"proxy-rewrite":{"disable_buffering":false}} """),
        ["A4 proxy-buffering off"] = (null, "", """ "plugins":{"proxy-buffering":{"disable_proxy_buffering":true}} """),
        ["A4 proxy-buffering on"] = (null, "", """ "plugins":{"proxy-buffering":{"disable_proxy_buffering":false}} """),
        ["buffering on in nginx.conf"] = ("http { proxy_buffering on; }", "", null),
        ["A5 chunked off"] = ("http { chunked_transfer_encoding off; }", "", null),
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Each_event_arrives_before_the_next_is_sent(Framing framing, string rule)
    {
        var (nginx, config, plugins) = Rules[rule];
        await using var gateway = await TestGateway.StartAsync(config, nginx);
        await Promptness.OfEachAsync(Events, async () =>
        {
            await using var origin = new EventOrigin(framing, Bytes);
            await gateway.RouteAsync("r1", "/events", origin.Port, plugins);
            using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url("/events")) { Headers = { Host = "app1.example.com" } };
            using var response = await gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
            Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
            using var events = new EventReader(await response.Content.ReadAsStreamAsync());
            List<TimeSpan> waits = [];
            for (var id = 0; id < Events; id++)
            {
                await origin.SendAsync(EventOrigin.Event(id));
                // that it comes at all before the next is sent proves that nobody held it until then
                var (text, waited) = await events.NextAsync();
                Assert.Equal(EventOrigin.Event(id), text);
                waits.Add(waited);
            }
            origin.End();
            Assert.Equal(0, await events.Body.ReadAsync(new byte[1]));
            return waits;
        });
    }
}

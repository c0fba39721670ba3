using System.Text.Json;
using Microsoft.Playwright;
using Sluice.Cli.Demo;

namespace Sluice.FunctionalTests.Demo;

/// <summary>The demo page against the sample upstream alone: what it measures is what was sent.</summary>
public class DemoPageTests(Chromium chromium) : IClassFixture<Chromium>
{
    // Loaded machines are slow, but of a bunched stream every event comes with the last one.
    const int Interval = 250;

    [Theory]
    [InlineData("chunked", "eventsource")]
    [InlineData("chunked", "fetch")]
    [InlineData("close", "eventsource")]
    [InlineData("close", "fetch")]
    [InlineData("length", "eventsource")]
    [InlineData("length", "fetch")]
    [InlineData("dripped", "eventsource")]
    [InlineData("dripped", "fetch")]
    public async Task Events_are_drawn_when_they_arrive(string framing, string transport)
    {
        await using var upstream = SampleUpstream.Start(TimeProvider.System);
        var page = await OpenAsync(upstream);

        await page.EvaluateAsync(
            $"sluiceDemo.runEvents({{framing: '{framing}', transport: '{transport}', count: 5, interval: {Interval}}})");

        foreach (var side in (string[])["on", "off"])
        {
            var events = await EventsAsync(page, side);
            Assert.Equal([1, 2, 3, 4, 5], events.Select(one => one.Id));
            Assert.All(events, one => Assert.True(one.Arrived - one.Sent > -20, $"{one} came before it was sent"));
            Assert.True(events.Count(one => one.Arrived < events[^1].Sent) >= 2, string.Join('\n', events.AsEnumerable()));
            Assert.Equal(5, await page.Locator($".stream[data-side={side}] circle.arrived").CountAsync());
        }
    }

    [Fact]
    public async Task The_plain_relay_bunches_and_says_that_it_is_simulated()
    {
        await using var upstream = SampleUpstream.Start(TimeProvider.System);
        var page = await OpenAsync(upstream);

        await page.EvaluateAsync($"sluiceDemo.runEvents({{framing: 'chunked', transport: 'fetch', count: 5, interval: {Interval}}})");

        var events = await EventsAsync(page, "plain");
        Assert.Equal([1, 2, 3, 4, 5], events.Select(one => one.Id));
        Assert.All(events, one => Assert.True(one.Arrived >= events[^1].Sent, $"{one} was not held back"));
        Assert.Contains("simulated", await page.TextContentAsync(".stream[data-side=plain] h3"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Tokens_are_painted_one_by_one()
    {
        await using var upstream = SampleUpstream.Start(TimeProvider.System);
        var page = await OpenAsync(upstream);

        await page.FillAsync("#prompt", "why?");
        await page.ClickAsync("#llm-start");
        await page.WaitForSelectorAsync("#llm[data-state=done]");

        var tokens = await EventsAsync(page, "llm");
        Assert.True(tokens.Length > 40);
        Assert.True(tokens[^1].Arrived - tokens[0].Arrived > 1000);
        Assert.StartsWith("You asked: why?", await page.TextContentAsync("#llm-text"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Lines_echo_and_download_work()
    {
        await using var upstream = SampleUpstream.Start(TimeProvider.System);
        var page = await OpenAsync(upstream);

        await page.ClickAsync("#ndjson-start");
        await page.ClickAsync("#ws-send");
        await page.EvaluateAsync("sluiceDemo.runDownload({megabytes: 4, rate: 8})");
        await page.WaitForSelectorAsync("#ndjson[data-state=done]");
        await page.WaitForFunctionAsync("sluiceDemo.ws.messages.length === 1");

        Assert.Equal(12, (await EventsAsync(page, "ndjson")).Length);
        foreach (var side in (string[])["on", "off"])
        {
            var download = await page.EvaluateAsync<JsonElement>($"sluiceDemo.download.{side}");
            Assert.Equal(4 * 1024 * 1024, download.GetProperty("received").GetInt64());
            Assert.Equal(4 * 1024 * 1024, download.GetProperty("upstreamSent").GetInt64());
            Assert.InRange(download.GetProperty("clientSeconds").GetDouble(), 0.4, 10);
        }
    }

    [Fact]
    public async Task Page_needs_nothing_from_elsewhere_and_breaks_no_rule_of_its_own_policy()
    {
        await using var upstream = SampleUpstream.Start(TimeProvider.System);
        var page = await chromium.Browser.NewPageAsync();
        List<string> foreign = [];
        List<string> complaints = [];
        page.Request += (_, request) =>
        {
            if (!request.Url.StartsWith($"http://{upstream.Endpoint}/", StringComparison.Ordinal)
                && !request.Url.StartsWith("data:", StringComparison.Ordinal))
            {
                foreign.Add(request.Url);
            }
        };
        page.Console += (_, message) => complaints.Add(message.Text);
        page.PageError += (_, error) => complaints.Add(error);

        await page.GotoAsync($"http://{upstream.Endpoint}/demo/?direct&auto=all");
        await page.WaitForSelectorAsync(".download[data-side=on][data-state=done]");
        await page.WaitForSelectorAsync(".download[data-side=off][data-state=done]");
        await page.WaitForSelectorAsync("#llm[data-state=done]");
        if (Environment.GetEnvironmentVariable("SLUICE_SCREENSHOTS") is { Length: > 0 } directory)
        {
            foreach (var scheme in (ColorScheme[])[ColorScheme.Light, ColorScheme.Dark])
            {
                await page.EmulateMediaAsync(new PageEmulateMediaOptions { ColorScheme = scheme });
                await page.ScreenshotAsync(new PageScreenshotOptions { Path = Path.Combine(directory, $"demo-{scheme}.png"),
                    FullPage = true });
            }
        }

        Assert.Empty(foreign);
        Assert.Empty(complaints);
    }

    async Task<IPage> OpenAsync(SampleUpstream upstream)
    {
        var page = await chromium.Browser.NewPageAsync();
        await page.GotoAsync($"http://{upstream.Endpoint}/demo/?direct&auto=0");
        await page.WaitForSelectorAsync("html[data-ready=true]");
        return page;
    }

    static async Task<Arrival[]> EventsAsync(IPage page, string record) =>
        [.. (await page.EvaluateAsync<JsonElement>($"sluiceDemo.{record}.events")).EnumerateArray().Select(one => new Arrival(
            one.GetProperty("id").GetInt32(), one.GetProperty("sent").GetInt64(), one.GetProperty("arrived").GetInt64()))];

    sealed record Arrival(int Id, long Sent, long Arrived);
}

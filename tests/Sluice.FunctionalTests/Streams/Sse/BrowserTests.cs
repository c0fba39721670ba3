using System.Globalization;
using Microsoft.Playwright;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>A10: what a browser's developer tools show, in a real Chromium: each event is there before the next is sent.</summary>
public sealed class BrowserTests(Chromium chromium, ProtocolsGateway fixture) : IClassFixture<Chromium>, IClassFixture<ProtocolsGateway>
{
    const int Events = 5;
    static readonly int Bytes = Enumerable.Range(0, Events).Sum(id => EventOrigin.Event(id).Length);

    const string Page = """
        <!doctype html><title>stream</title><script>
        const received = [];
        let failed = false, ended = false;
        function watch(url) {
          const source = new EventSource(url);
          source.onmessage = event => received.push(event.data);
          source.onerror = () => { failed = true; source.close(); };
        }
        async function fetchLines(url, method) {
          try {
            const reader = (await fetch(url, {method})).body.pipeThrough(new TextDecoderStream()).getReader();
            for (let text = '';;) {
              const {done, value} = await reader.read();
              if (done) break;
              const lines = (text + value).split('\n');
              text = lines.pop();
              received.push(...lines.filter(line => line.startsWith('data: ')).map(line => line.slice(6)));
            }
            ended = true;
          } catch { failed = true; }
        }
        </script>
        """;

    public static TheoryData<string, Framing, bool> Cases()
    {
        TheoryData<string, Framing, bool> cases = [];
        foreach (var framing in Enum.GetValues<Framing>())
        {
            cases.Add("EventSource", framing, true);
            cases.Add("EventSource", framing, false);
            cases.Add("fetch", framing, framing is Framing.ContentLength or Framing.DrippedChunk);
        }
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Each_event_is_there_before_the_next_is_sent(string transport, Framing framing, bool buffering)
    {
        await using var origin = new EventOrigin(framing, Bytes);
        var page = await OpenAsync(origin, transport == "fetch" ? "fetchLines('URL', 'POST')" : "watch('URL')",
            $$""" "plugins":{"proxy-buffering":{"disable_proxy_buffering":{{(buffering ? "false" : "true")}}} } """);
        for (var id = 0; id < Events; id++)
        {
            await origin.SendAsync(EventOrigin.Event(id));
            await page.WaitForFunctionAsync($"received.length === {id + 1}");
        }
        var received = await page.EvaluateAsync<string[]>("received");
        Assert.Equal(Enumerable.Range(0, Events).Select(id => $"event number {id.ToString("D4", CultureInfo.InvariantCulture)}"), received);
        origin.End();
        if (transport == "fetch")
        {
            await page.WaitForFunctionAsync("ended");
        }
        await page.CloseAsync();
    }

    [Fact]
    public async Task A_stream_that_breaks_off_is_an_error_in_the_browser()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var page = await OpenAsync(origin, "fetchLines('URL', 'GET')");
        await origin.SendAsync(EventOrigin.Event(0));
        await page.WaitForFunctionAsync("received.length === 1");
        await origin.BreakOffAsync();
        await page.WaitForFunctionAsync("failed");
        Assert.False(await page.EvaluateAsync<bool>("ended"));
        await page.CloseAsync();
    }

    [Fact]
    public async Task A_tab_that_is_closed_takes_its_upstream_along()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var page = await OpenAsync(origin, "watch('URL')");
        await origin.SendAsync(EventOrigin.Event(0));
        await page.WaitForFunctionAsync("received.length === 1");
        await page.CloseAsync();
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
    }

    async Task<IPage> OpenAsync(EventOrigin origin, string script, string? more = null)
    {
        var url = await fixture.RouteAsync(origin.Port, more);
        await using var site = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {Page.Length}\r\n\r\n{Page}");
            await connection.ReadEndAsync();
        });
        var page = await chromium.Browser.NewPageAsync();
        await page.GotoAsync(fixture.Gateway.Url(await fixture.RouteAsync(site.Port)).ToString());
        await page.EvaluateAsync($"void {script.Replace("URL", url, StringComparison.Ordinal)}");
        return page;
    }
}

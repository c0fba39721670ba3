using System.Diagnostics;
using System.Globalization;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>A10: what the article tells its reader to try, <c>curl -N</c> as a process, and a stamp on every line that it prints.</summary>
public sealed class CurlTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>
{
    const int Events = 5;
    static readonly int Bytes = Enumerable.Range(0, Events).Sum(id => EventOrigin.Event(id).Length);

    public static TheoryData<Framing, Protocol> Cases()
    {
        TheoryData<Framing, Protocol> cases = [];
        foreach (var framing in Enum.GetValues<Framing>())
        {
            cases.Add(framing, framing is Framing.ContentLength or Framing.DrippedChunk ? Protocol.TlsHttp2 : Protocol.Http1);
        }
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public Task Every_line_is_printed_when_it_was_sent(Framing framing, Protocol protocol) => Promptness.OfEachAsync(Events, async () =>
    {
        await using var origin = new EventOrigin(framing, Bytes);
        var path = await fixture.RouteAsync(origin.Port);
        using var curl = Start("-N", "-k", "-s", "--no-progress-meter", fixture.Url(protocol, path).ToString());
        // curl's own start is nobody's delay
        await origin.Request.WaitAsync(TimeSpan.FromSeconds(30));
        List<TimeSpan> waits = [];

        for (var id = 0; id < Events; id++)
        {
            await origin.SendAsync(EventOrigin.Event(id));
            var sent = Stopwatch.GetTimestamp();
            Assert.Equal($"id: {id.ToString("D4", CultureInfo.InvariantCulture)}", await LineAsync(curl));
            Assert.StartsWith("data: ", await LineAsync(curl), StringComparison.Ordinal);
            Assert.Equal("", await LineAsync(curl));
            waits.Add(Stopwatch.GetElapsedTime(sent));
        }

        origin.End();
        Assert.Null(await LineAsync(curl));
        await curl.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, curl.ExitCode);
        return waits;
    });

    [Theory]
    [InlineData(Protocol.Http1, 18)]
    [InlineData(Protocol.H2c, 92)]
    public async Task Curl_reports_a_stream_that_broke_off(Protocol protocol, int exitCode)
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var path = await fixture.RouteAsync(origin.Port);
        using var curl = Start("-N", "-s", protocol == Protocol.H2c ? "--http2-prior-knowledge" : "--http1.1",
            fixture.Url(protocol, path).ToString());
        await origin.SendAsync(EventOrigin.Event(0));
        await LineAsync(curl);
        await origin.BreakOffAsync();
        await curl.WaitForExitAsync(TestContext.Current.CancellationToken);
        // 18: transferred a partial file; 56: failure in receiving; 92: stream error in HTTP/2
        Assert.Contains(curl.ExitCode, (int[])[exitCode, 56]);
    }

    [Fact]
    public async Task Curl_that_is_killed_takes_its_upstream_along()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var path = await fixture.RouteAsync(origin.Port);
        using var curl = Start("-N", "-s", fixture.Url(Protocol.Http1, path).ToString());
        await origin.SendAsync(EventOrigin.Event(0));
        await LineAsync(curl);
        curl.Kill();
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
    }

    static Process Start(params string[] arguments) =>
        Process.Start(new ProcessStartInfo("curl", ["--noproxy", "*", .. arguments]) { RedirectStandardOutput = true })!;

    static Task<string?> LineAsync(Process curl) => curl.StandardOutput.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(30));
}

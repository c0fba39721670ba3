using Sluice.Cli.Doctor;

namespace Sluice.Tests.Cli.Doctor;

/// <summary>What <c>sluice doctor</c> makes of legs whose times are known.</summary>
public class VerdictTests
{
    static Leg Of(string name, int head, params int[] units)
    {
        var leg = new Leg(name, new("http://127.0.0.1:1/x")) { Protocol = "HTTP/1.1", Status = 200, Head = Ms(head),
            ContentType = "text/event-stream", IsChunked = true };
        leg.Units.AddRange(units.Select(static at => new LegUnit(Ms(at), 10)));
        leg.Elapsed = Ms(units is [.., var last] ? last : head);
        return leg;
    }

    static TimeSpan Ms(int milliseconds) => TimeSpan.FromMilliseconds(milliseconds);

    static string[] Codes(Leg leg, Leg? before) => [.. Verdict.Of(leg, before, null).Select(static one => $"{one.Severity} {one.Code}")];

    readonly Leg _direct = Of("direct", 2, 300, 600, 900, 1200);

    [Fact]
    public void Events_that_come_as_they_were_sent_are_no_finding()
    {
        Assert.Empty(Codes(_direct, null));
        Assert.Empty(Codes(Of("gateway", 3, 302, 601, 905, 1210), _direct));
    }

    [Fact]
    public void Events_sent_apart_that_come_together_are_held()
    {
        var finding = Assert.Single(Verdict.Of(Of("gateway", 900, 1201, 1201, 1202, 1203), _direct,
            "proxy_buffering on (conf/nginx.conf:3)"));
        Assert.Equal("error D01 buffered: the gateway holds 4 events for 0.9 s", finding.ToString());
        Assert.Contains("proxy_buffering on (conf/nginx.conf:3)", finding.Evidence, StringComparison.Ordinal);
    }

    [Fact]
    public void Events_sent_together_may_come_together() =>
        Assert.Empty(Codes(Of("gateway", 3, 301, 301, 301), Of("direct", 2, 300, 310, 320)));

    [Fact]
    public void A_burst_of_the_upstream_after_a_silence_is_its_own_hop()
    {
        var leg = Of("direct", 3000, 3000, 3001, 3002);
        leg.Server = "cloudfront";
        Assert.Equal("error D01 buffered: the node 127.0.0.1:1 (Server: cloudfront) holds 3 events for 3.0 s",
            Assert.Single(Verdict.Of(leg, null, null)).ToString());
    }

    [Fact]
    public void Nothing_where_there_were_events_is_held_for_as_long_as_anybody_waited()
    {
        var leg = Of("public", 0);
        (leg.Status, leg.Elapsed) = (0, Ms(6800));
        Assert.Contains("error D01", Codes(leg, _direct));
    }

    [Fact]
    public void Compression_is_an_error_only_where_it_holds_events()
    {
        var passing = Of("public", 3, 302, 601, 905, 1210);
        passing.Encoding = "gzip";
        Assert.Contains("info D02", Codes(passing, _direct));
        var holding = Of("public", 3, 1201, 1201, 1201, 1202);
        holding.Encoding = "gzip";
        var codes = Codes(holding, _direct);
        Assert.Contains("error D01", codes);
        Assert.Contains("error D02", codes);
    }

    [Fact]
    public void A_head_that_waits_for_the_first_event_is_late() =>
        Assert.Equal(["warn D03"], Codes(Of("gateway", 300, 301, 600, 900, 1200), _direct));

    [Fact]
    public void A_head_that_takes_a_second_longer_is_slow() =>
        Assert.Equal(["warn D14"], Codes(Of("gateway", 1500, 1800, 2100, 2400, 2700), _direct));

    [Theory]
    [InlineData("RST", false)]
    [InlineData(null, true)]
    public void An_end_in_silence_that_the_leg_before_did_not_have_is_a_cut(string? how, bool complete)
    {
        var leg = Of("gateway", 2, 300);
        (leg.Cut, leg.IsComplete, leg.LastSilence) = (how, complete, Ms(5000));
        Assert.Equal($"error D04 cut_when_silent: the gateway closes the stream after 5.0 s of silence ({how ?? "FIN"})",
            Assert.Single(Verdict.Of(leg, _direct, null)).ToString());
    }

    [Fact]
    public void A_504_after_silence_is_a_cut()
    {
        var leg = Of("gateway", 5000);
        leg.Status = 504;
        Assert.Equal(["error D04"], Codes(leg, _direct));
    }

    [Fact]
    public void Framing_versions_and_caches_are_told()
    {
        var gateway = Of("gateway", 2, 300, 600, 900, 1200);
        var leg = Of("public", 2, 300, 600, 900, 1200);
        leg.IsChunked = false;
        Assert.Equal(["warn D06", "warn D08"], Codes(leg, gateway));
        leg.Protocol = "HTTP/2";
        Assert.Equal(["info D07"], Codes(leg, gateway));
        leg.IsCached = true;
        Assert.Equal(["info D07", "error D10"], Codes(leg, gateway));
    }
}

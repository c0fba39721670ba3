using System.Globalization;
using Sluice.Admin.Doctor;

namespace Sluice.Cli.Doctor;

/// <summary>What legs say when they are laid beside each other: the first leg that shows something names the hop.</summary>
static class Verdict
{
    static readonly TimeSpan s_apart = TimeSpan.FromMilliseconds(200), s_together = TimeSpan.FromMilliseconds(20),
        s_silence = TimeSpan.FromSeconds(1);

    /// <param name="before">The leg before, which is nearer to the upstream; null: this is the first.</param>
    /// <param name="rule">The rule of /v1/buffering, when the hop is the gateway.</param>
    public static IEnumerable<Finding> Of(Leg leg, Leg? before, string? rule)
    {
        var hop = HopOf(leg, before);
        var findings = new List<Finding>();
        var clump = Clump(leg, before);
        if (clump is { } held)
        {
            findings.Add(Finding.Error(
                "D01", leg.Name, $"{hop} holds {held.Events} events for {Seconds(held.For)}",
                $"{held.Evidence}{(rule is null ? "" : $"; {rule}")}", leg.Name switch
                {
                    "gateway" => "the configuration findings name what holds streams; GET /v1/buffering says by which rule",
                    "public" =>
                        "let it pass streams as they come (nginx: proxy_buffering off, or the response header X-Accel-Buffering: no)",
                    _ => "the upstream, or what stands before it, has to send each event at once (nginx: proxy_buffering off)",
                }));
        }
        if (leg.Encoding is { } coding && before is not { Encoding: not null } && (before is not null || clump is not null))
        {
            var text = $"{hop} compresses the stream ({coding})";
            findings.Add(clump is null
                ? Finding.Info("D02", leg.Name, text, $"Content-Encoding: {coding}",
                    "no compression for text/event-stream, if events come late")
                : Finding.Error("D02", leg.Name, text + " and holds events for it", $"Content-Encoding: {coding}",
                    "no compression for text/event-stream there"));
        }
        if (before is { Units.Count: > 0 } && leg.Units.Count > 0 && before.FirstUnit - before.Head >= s_apart
            && leg.FirstUnit - leg.Head <= s_together)
        {
            findings.Add(Finding.Warn(
                "D03", leg.Name, $"{hop} keeps the head until the first event",
                $"head after {Seconds(leg.Head)}, {Seconds(before.Head)} on the leg before", "let it send the head at once"));
        }
        if (Cut(leg, before) is { } cut)
        {
            findings.Add(Finding.Error(
                "D04", leg.Name, $"{hop} closes the stream after {Seconds(cut.After)} of silence ({cut.How})",
                $"{leg.Units.Count} events, then {cut.How}",
                string.Create(CultureInfo.InvariantCulture,
                    $"streaming.heartbeat.interval below {Math.Max(1, Math.Floor(cut.After.TotalSeconds / 2)):0} s, or a longer time-out there")));
        }
        if (before is { Comments: > 0 } && leg is { Comments: 0, IsEventStream: true } && leg.Units.Count >= before.Units.Count)
        {
            findings.Add(Finding.Error("D05", leg.Name, $"{hop} drops comments, and heartbeats with them",
                $"{before.Comments} comments on the leg before, none here",
                "streaming.heartbeat.event instead of a comment, or no filter of comments there"));
        }
        if (before is not null && before.Status == 200 && leg.Status == 200 && (before.IsChunked || !before.IsHttp1)
            && leg is { IsHttp1: true, IsChunked: false })
        {
            findings.Add(Finding.Warn("D06", leg.Name,
                $"{hop} changes the framing: no chunks, the end of the stream cannot be told from a cut",
                $"{leg.Protocol}, no Transfer-Encoding", "HTTP/1.1 there (nginx: proxy_http_version 1.1)"));
        }
        if (leg.Name == "public" && before is { IsHttp1: true } && !leg.IsHttp1 && leg.Status == 200)
        {
            findings.Add(Finding.Info("D07", leg.Name, $"{leg.Protocol} in front of the gateway, {before.Protocol} towards it",
                $"{leg.Protocol}, {before.Protocol}", "nothing, as long as that hop keeps a connection for each stream"));
        }
        if (leg.Name == "public" && leg is { IsHttp1: true, IsEventStream: true })
        {
            findings.Add(Finding.Warn("D08", leg.Name,
                "event streams over HTTP/1.1 only: a browser opens six connections to a host, all its tabs together", leg.Protocol,
                "offer HTTP/2 there"));
        }
        if (leg.IsCached && before is not { IsCached: true })
        {
            findings.Add(Finding.Error("D10", leg.Name, $"{hop} answers from a cache", "Age",
                "Cache-Control: no-store from the upstream, or no cache for this path there"));
        }
        if (before is not null && clump is null && findings.TrueForAll(static one => one.Code is not ("D03" or "D04")) && leg.Status == 200
            && leg.Head - before.Head > s_silence)
        {
            findings.Add(Finding.Warn("D14", leg.Name, $"{hop} adds {Seconds(leg.Head - before.Head)} before the head",
                $"head after {Seconds(leg.Head)}, {Seconds(before.Head)} on the leg before", "look at what it waits for"));
        }
        return findings;
    }

    /// <summary>A handshake that the leg before took.</summary>
    public static Finding Upgrade(Leg leg, Leg? before) => Finding.Error(
        "D11", leg.Name, $"{HopOf(leg, before)} refuses the WebSocket handshake with {leg.Status}", $"{leg.Protocol} {leg.Status}",
        leg.Name == "gateway" ? "enable_websocket: true on the route"
        : "let it pass Upgrade and Connection (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header "
            + "Connection upgrade)");

    /// <summary>A POSTed stream that the leg before gave.</summary>
    public static Finding Posted(Leg leg, Leg before) => Finding.Error(
        "D12", leg.Name, $"{HopOf(leg, before)} breaks the POSTed stream: {leg.Status} {leg.ContentType}",
        $"{before.Status} {before.ContentType} on the leg before", "let it pass POST and its body");

    static string HopOf(Leg leg, Leg? before)
    {
        var server = leg.Server is { } name ? $" (Server: {name})" : "";
        return leg.Name switch
        {
            "direct" => $"the node {leg.Url.Authority}{server}",
            "gateway" => before is null ? "the gateway, or the node behind it," : "the gateway",
            _ => $"the hop in front of the gateway{server}",
        };
    }

    static (int Events, TimeSpan For, string Evidence)? Clump(Leg leg, Leg? before)
    {
        if (before is null)
        {
            // nobody knows when they were sent: many at one moment after a long silence, and never one alone
            return leg.Units.Count >= 3 && leg.Units[^1].Arrived - leg.Units[0].Arrived <= s_together && leg.FirstUnit >= s_silence
                ? (leg.Units.Count, leg.FirstUnit,
                    $"{leg.Units.Count} events within {Milliseconds(leg.Units[^1].Arrived - leg.Units[0].Arrived)}, nothing for {Seconds(leg.FirstUnit)} before")
                : null;
        }
        if (leg.Units.Count == 0 && before.Units.Count >= 2 && leg is { Status: 200 or 0, Cut: null, IsComplete: false }
            && leg.Elapsed > before.Elapsed)
        {
            return (before.Units.Count, leg.Elapsed,
                $"no event within {Seconds(leg.Elapsed)}, {before.Units.Count} within {Seconds(before.Elapsed)} on the leg before");
        }
        var (most, longest, begin) = (0, TimeSpan.Zero, 0);
        var count = Math.Min(leg.Units.Count, before.Units.Count);
        for (var i = 1; i <= count; i++)
        {
            if (i < count && leg.Units[i].Arrived - leg.Units[i - 1].Arrived <= s_together)
            {
                continue;
            }
            var apart = before.Units[i - 1].Arrived - before.Units[begin].Arrived;
            if (i - begin > most && apart >= s_apart)
            {
                (most, longest) = (i - begin, apart);
            }
            begin = i;
        }
        return most < 2 ? null : (most, longest, $"{most} events at one moment, sent over {Seconds(longest)}");
    }

    /// <summary>Ended while it was silent, where the leg before went on.</summary>
    static (TimeSpan After, string How)? Cut(Leg leg, Leg? before)
    {
        if (leg.Status is 504 or 502 && before is { Status: 200 } && leg.Head >= s_silence)
        {
            return (leg.Head, $"{leg.Status}");
        }
        var how = leg.Cut ?? (before is not null && leg.IsComplete && leg.Units.Count < before.Units.Count ? "FIN" : null);
        return how is not null && leg.LastSilence >= s_silence ? (leg.LastSilence, how) : null;
    }

    internal static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.0} s");

    static string Milliseconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalMilliseconds:0} ms");
}

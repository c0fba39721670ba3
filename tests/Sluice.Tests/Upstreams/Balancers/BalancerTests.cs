using Sluice.Model;
using Sluice.Upstreams;

namespace Sluice.Tests.Upstreams.Balancers;

public class BalancerTests
{
    readonly FakeTime _time = new();

    Upstream Of(string type, params NodeConfig[] nodes) =>
        new(new UpstreamConfig("u", null, nodes, type), UpstreamServices.Alone(_time, new Random(7)));

    static string Pick(Upstream upstream, string hashKey = "", string? roundTrip = null)
    {
        using var picks = upstream.Begin(hashKey);
        var host = picks.Next()!.Config.Host;
        if (roundTrip is not null)
        {
            picks.Took(TimeSpan.Parse(roundTrip, System.Globalization.CultureInfo.InvariantCulture));
        }
        return host;
    }

    static string[] Keys(int count) => [.. Enumerable.Range(0, count).Select(number => $"client-{number}")];

    // -- chash

    [Fact]
    public void Chash_gives_a_key_the_same_node_on_every_gateway()
    {
        NodeConfig[] nodes = [new("a", 80), new("b", 80), new("c", 80)];
        var (one, other) = (Of("chash", nodes), Of("chash", [.. nodes.Reverse()]));
        Assert.All(Keys(500), key => Assert.Equal(Pick(one, key), Pick(other, key)));
        Assert.Equal("c,a,c,a", string.Join(',', Keys(4).Select(key => Pick(one, key))));
    }

    [Fact]
    public void Chash_spreads_keys_by_weight()
    {
        var upstream = Of("chash", new("a", 80, 2), new("b", 80, 1), new("c", 80, 1), new("off", 80, 0));
        var shares = Keys(20_000).GroupBy(key => Pick(upstream, key)).ToDictionary(group => group.Key, group => group.Count() / 20_000.0);
        Assert.Equal(3, shares.Count);
        Assert.InRange(shares["a"], .42, .58);
        Assert.InRange(shares["b"], .18, .32);
        Assert.InRange(shares["c"], .18, .32);
    }

    [Fact]
    public void Chash_keeps_every_pick_whose_node_stays_when_another_leaves()
    {
        var before = Of("chash", new("a", 80), new("b", 80), new("c", 80), new("d", 80));
        var after = Of("chash", new("a", 80), new("b", 80), new("d", 80));
        var moved = 0;
        foreach (var key in Keys(2000))
        {
            var (was, now) = (Pick(before, key), Pick(after, key));
            moved += was == "c" ? 1 : 0;
            Assert.True(was == "c" || was == now, $"{key} went from {was} to {now}");
        }
        Assert.InRange(moved, 300, 700);
    }

    [Fact]
    public void Chash_hands_the_keys_of_a_failed_node_to_several_others()
    {
        var upstream = Of("chash", new("a", 80), new("b", 80), new("c", 80), new("d", 80));
        HashSet<string> heirs = [];
        foreach (var key in Keys(500).Where(key => Pick(upstream, key) == "a"))
        {
            using var picks = upstream.Begin(key);
            picks.Next();
            heirs.Add(picks.Next()!.Config.Host);
        }
        Assert.Equal(["b", "c", "d"], heirs.Order());
    }

    [Fact]
    public void Huge_weights_do_not_make_a_huge_ring()
    {
        var upstream = Of("chash", new("a", 80, 1_000_000_007), new("b", 80, 1_000_000_009));
        var share = Keys(4000).Count(key => Pick(upstream, key) == "a") / 4000.0;
        Assert.InRange(share, .4, .6);
    }

    // -- least_conn

    [Fact]
    public void Least_conn_picks_the_node_with_the_fewest_requests_for_its_weight()
    {
        var upstream = Of("least_conn", new("a", 80, 2), new("b", 80, 1));
        List<NodePicks> open = [];
        string Open()
        {
            open.Add(upstream.Begin());
            return open[^1].Next()!.Config.Host;
        }
        Assert.Equal("a", Open());
        var next = string.Concat(Enumerable.Range(0, 5).Select(_ => Open()));
        Assert.Equal((3, 2), (next.Count(host => host == 'a'), next.Count(host => host == 'b')));
        Assert.Equal((4, 2), (upstream.Nodes[0].State.Active, upstream.Nodes[1].State.Active));
        open.ForEach(picks => picks.Dispose());
        Assert.Equal((0, 0), (upstream.Nodes[0].State.Active, upstream.Nodes[1].State.Active));
    }

    [Fact]
    public void Least_conn_takes_turns_between_equals()
    {
        var upstream = Of("least_conn", new("a", 80), new("b", 80), new("c", 80));
        Assert.Equal("abcabc", string.Concat(Enumerable.Range(0, 6).Select(_ => Pick(upstream))));
    }

    [Fact]
    public void A_retry_counts_for_the_node_it_goes_to()
    {
        var upstream = Of("least_conn", new("a", 80), new("b", 80));
        using var picks = upstream.Begin();
        var first = picks.Next()!;
        var second = picks.Next()!;
        Assert.NotEqual(first.Name, second.Name);
        Assert.Equal((0, 1), (first.State.Active, second.State.Active));
        Assert.Null(picks.Next());
        Assert.Equal(0, second.State.Active);
    }

    // -- ewma

    [Fact]
    public void Ewma_prefers_the_node_whose_answers_come_faster()
    {
        var upstream = Of("ewma", new("slow", 80), new("fast", 80));
        upstream.Nodes[0].State.Observe(_time, TimeSpan.FromSeconds(1));
        upstream.Nodes[1].State.Observe(_time, TimeSpan.FromSeconds(.1));
        Assert.All(Enumerable.Range(0, 50), _ => Assert.Equal("fast", Pick(upstream)));

        // what was seen long ago fades: the slow one gets another chance
        _time.Advance(TimeSpan.FromMinutes(10));
        upstream.Nodes[1].State.Observe(_time, TimeSpan.FromSeconds(.1));
        Assert.All(Enumerable.Range(0, 50), _ => Assert.Equal("slow", Pick(upstream)));
    }

    [Fact]
    public void Ewma_compares_two_nodes_drawn_by_lot()
    {
        var upstream = Of("ewma", new("a", 80), new("b", 80), new("c", 80), new("d", 80));
        for (var i = 0; i < 4; i++)
        {
            upstream.Nodes[i].State.Observe(_time, TimeSpan.FromSeconds(i + 1));
        }
        var picks = Enumerable.Range(0, 6000).GroupBy(_ => Pick(upstream)).ToDictionary(group => group.Key, group => group.Count());
        // of the six pairs a wins three, b two, c one and d none
        Assert.InRange(picks["a"], 2800, 3200);
        Assert.InRange(picks["b"], 1800, 2200);
        Assert.InRange(picks["c"], 850, 1150);
        Assert.False(picks.ContainsKey("d"));
    }

    [Fact]
    public void A_round_trip_weighs_more_the_longer_the_last_one_is_ago()
    {
        var state = new NodeState();
        state.Observe(_time, TimeSpan.FromSeconds(1));
        Assert.Equal(1, state.Score(_time), 6);
        _time.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal(Math.Exp(-1), state.Score(_time), 6);
        state.Observe(_time, TimeSpan.FromSeconds(2));
        Assert.Equal(Math.Exp(-1) + (2 * (1 - Math.Exp(-1))), state.Score(_time), 6);
    }

    [Fact]
    public void Ewma_tries_every_node_once_and_no_more()
    {
        var upstream = Of("ewma", new("a", 80), new("b", 80), new("c", 80));
        using var picks = upstream.Begin();
        Assert.Equal("abc", string.Concat(new[] { picks.Next(), picks.Next(), picks.Next() }.Select(node => node!.Config.Host).Order()));
        Assert.Null(picks.Next());
    }

    // -- all of them

    [Theory]
    [InlineData("roundrobin")]
    [InlineData("chash")]
    [InlineData("least_conn")]
    [InlineData("ewma")]
    public void Lower_priorities_are_used_when_the_higher_are_tried(string type)
    {
        var upstream = Of(type, new("backup", 80, 1, -1), new("a", 80), new("b", 80));
        using var picks = upstream.Begin("key");
        Assert.Equal("ab", string.Concat(new[] { picks.Next(), picks.Next() }.Select(node => node!.Config.Host).Order()));
        Assert.Equal("backup", picks.Next()!.Config.Host);
        Assert.Null(picks.Next());
    }

    [Theory]
    [InlineData("roundrobin")]
    [InlineData("chash")]
    [InlineData("least_conn")]
    [InlineData("ewma")]
    public void Unhealthy_nodes_are_left_out_until_all_are(string type)
    {
        var checks = new ChecksConfig(null, new PassiveCheckConfig("http", new(1, [200], 1), new(1, [500], 1, 1, 1)));
        var upstream = new Upstream(
            new UpstreamConfig("u", null, [new("a", 80), new("b", 80), new("c", 80)], type, Checks: checks),
            UpstreamServices.Alone(_time, new Random(7)));
        upstream.Nodes[0].Health!.Report(HealthReport.TcpFailure, 1);
        upstream.Nodes[1].Health!.Report(HealthReport.TcpFailure, 1);
        Assert.All(Keys(30), key => Assert.Equal("c", Pick(upstream, key)));

        using (var picks = upstream.Begin("key"))
        {
            picks.Next();
            Assert.Null(picks.Next());
        }
        upstream.Nodes[2].Health!.Report(HealthReport.TcpFailure, 1);
        Assert.Equal(["a", "b", "c"], Keys(100).Select(key => Pick(upstream, key)).Distinct().Order());
    }

    [Fact]
    public void What_is_known_of_a_node_outlives_a_change_of_its_upstream()
    {
        var before = Of("ewma", new("a", 80), new("b", 80));
        before.Nodes[0].State.Observe(_time, TimeSpan.FromSeconds(1));
        var after = new Upstream(new UpstreamConfig("u", null, [new("c", 80), new("a", 80)], "ewma"), before.Services, predecessor: before);
        Assert.Equal(1, after.Nodes[1].State.Score(_time), 6);
        Assert.Equal(0, after.Nodes[0].State.Score(_time));
    }
}

using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline;

/// <summary>What of an upstream goes on when the configuration changes around it.</summary>
public class SnapshotUpstreamsTests
{
    const string Nodes = """ "nodes":{"a:80":2,"b:80":1} """;

    static Document Route(string more) => TestExchange.Document(ResourceKind.Routes, "r", $$"""{"uri":"/x",{{more}}}""");

    static Document Upstream(string more) => TestExchange.Document(ResourceKind.Upstreams, "u", $$"""{{{more}}}""");

    [Fact]
    public void A_routes_own_upstream_goes_on_while_the_rest_of_the_route_changes()
    {
        var first = TestExchange.Compile([Route($$"""  "upstream":{ {{Nodes}} }  """)]);
        var second = TestExchange.Compile([Route($$"""  "priority":5,"upstream":{ {{Nodes}} }  """)], previous: first);
        Assert.NotSame(first.Routes["r"], second.Routes["r"]);
        Assert.Same(first.Routes["r"].Upstream, second.Routes["r"].Upstream);
        Assert.Equal("routes/r", second.Upstreams.Select(pair => pair.Key).Single());
    }

    [Fact]
    public void An_upstream_that_is_written_again_as_it_was_goes_on()
    {
        var route = Route("""  "upstream_id":"u"  """);
        var first = TestExchange.Compile([route, Upstream(Nodes + ""","update_time":1""")]);
        var second = TestExchange.Compile([route, Upstream(Nodes + ""","update_time":2""")], previous: first);
        Assert.Same(first.Upstreams["upstreams/u"], second.Routes["r"].Upstream);
    }

    [Fact]
    public void New_settings_leave_upstreams_as_they_are()
    {
        var route = Route($$"""  "upstream":{ {{Nodes}} }  """);
        var first = TestExchange.Compile([route]);
        var second = TestExchange.Compile([route], previous: first, settings: first.Settings with { DebugHeaders = true });
        Assert.Same(first.Routes["r"].Upstream, second.Routes["r"].Upstream);
    }

    [Fact]
    public void A_changed_upstream_keeps_what_is_known_of_its_nodes()
    {
        var route = Route("""  "upstream_id":"u"  """);
        const string Checks = ""","checks":{"active":{}}""";
        var first = TestExchange.Compile([route, Upstream(Nodes + Checks)]);
        var second = TestExchange.Compile([route, Upstream(""" "nodes":{"b:80":7,"c:80":1} """ + Checks)], previous: first);
        var (before, after) = (first.Upstreams["upstreams/u"], second.Upstreams["upstreams/u"]);
        Assert.NotSame(before, after);
        Assert.Same(before.Nodes[1].State, after.Nodes[0].State);
        Assert.Same(before.Nodes[1].Health, after.Nodes[0].Health);

        // other checks: what the old ones found does not count
        var third = TestExchange.Compile([route, Upstream(""" "nodes":{"b:80":7},"checks":{"active":{"http_path":"/other"}} """)],
            previous: second);
        Assert.Same(before.Nodes[1].State, third.Upstreams["upstreams/u"].Nodes[0].State);
        Assert.NotSame(before.Nodes[1].Health, third.Upstreams["upstreams/u"].Nodes[0].Health);
    }
}

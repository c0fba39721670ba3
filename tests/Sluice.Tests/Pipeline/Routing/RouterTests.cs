using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline;

public class RouterTests
{
    const string Upstream = """ "upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}} """;

    static string? Match(string url, params string[] routes) => Match(TestExchange.Of(Snapshot(routes), url));

    static string? Match(Exchange exchange) => exchange.Snapshot.Router.Match(exchange, exchange.Host)?.Id;

    static Snapshot Snapshot(params string[] routes) => TestExchange.Compile(routes.Select((route, index) =>
        TestExchange.Document(ResourceKind.Routes, $"r{index}", $"{{{route},{Upstream}}}")));

    [Theory]
    [InlineData("/exact", "r0")]
    [InlineData("/exact/", null)]
    [InlineData("/prefix/a", "r1")]
    [InlineData("/prefix/", "r1")]
    [InlineData("/prefix", null)]
    [InlineData("/prefix/long/x", "r2")]
    [InlineData("/prefix/lon", "r1")]
    [InlineData("/user/jack/files/a/b", "r3")]
    [InlineData("/user//files/a", null)]
    [InlineData("/user/jack", null)]
    public void The_longest_uri_wins(string path, string? expected) => Assert.Equal(expected, Match($"http://x{path}",
        """ "uri":"/exact" """, """ "uri":"/prefix/*" """, """ "uri":"/prefix/long/*" """, """ "uri":"/user/:name/files/*path" """));

    [Fact]
    public void Exact_uris_win_over_prefixes_whatever_the_priority() =>
        Assert.Equal("r1", Match("http://x/a/b", """ "uri":"/a/*","priority":10 """, """ "uri":"/a/b" """));

    [Fact]
    public void Among_equal_uris_priority_decides_and_then_the_conditions()
    {
        string[] routes = [""" "uri":"/a","priority":1 """, """ "uri":"/a","priority":5,"methods":["POST"] """];
        Assert.Equal("r0", Match("http://x/a", routes));
        Assert.Equal("r1", Match(TestExchange.Of(Snapshot(routes), "http://x/a", "POST")));
    }

    [Fact]
    public void A_prefix_whose_conditions_fail_gives_way_to_a_shorter_one() =>
        Assert.Equal("r1", Match("http://x/a/b/c", """ "uri":"/a/b/*","methods":["PUT"] """, """ "uri":"/a/*" """));

    [Theory]
    [InlineData("app.example.com", "r0")]
    [InlineData("APP.Example.com:8080", "r0")]
    [InlineData("other.example.com", "r1")]
    [InlineData("a.b.example.com", "r2")]
    [InlineData("x.b.c.example.com", "r1")]
    [InlineData("example.com", "r3")]
    public void Exact_hosts_come_before_wildcards_before_any(string host, string expected) =>
        Assert.Equal(expected, Match($"http://{host}/a",
        """ "uri":"/a","host":"app.example.com" """, """ "uri":"/a","hosts":["*.example.com"] """,
        """ "uri":"/a","host":"*.b.example.com" """, """ "uri":"/*" """));

    [Fact]
    public void A_host_route_without_the_uri_falls_back_to_routes_without_host() =>
        Assert.Equal("r1", Match("http://a.com/b", """ "uri":"/a","host":"a.com" """, """ "uri":"/b" """));

    [Fact]
    public void Addresses_and_variables_are_conditions()
    {
        var snapshot = Snapshot(""" "uri":"/*","remote_addrs":["10.0.0.0/8"] """, """ "uri":"/*","vars":[["arg_v","==","2"]] """);
        Assert.Equal("r0", Match(TestExchange.Of(snapshot, "http://x/", address: "10.1.2.3")));
        Assert.Equal("r1", Match(TestExchange.Of(snapshot, "http://x/?v=2")));
        Assert.Null(Match(TestExchange.Of(snapshot, "http://x/?v=1")));
        // decoded, as APISIX's: an argument written otherwise is no way around a condition
        Assert.Equal("r1", Match(TestExchange.Of(snapshot, "http://x/?%76=%32")));
        Assert.Null(Match(TestExchange.Of(snapshot, "http://x/?V=2")));
    }

    [Theory]
    [InlineData("a=%e4%20b+c", "\u00e4 b c", "%e4%20b+c")]
    [InlineData("A=1&a=2&a=3", "2", "1")]
    [InlineData("a&a=x", "x", "x")]
    [InlineData("a", null, null)]
    public void Arguments_are_decoded_for_conditions_and_plugins_and_as_sent_for_nginx(string query, string? decoded, string? sent)
    {
        var exchange = TestExchange.Of(Snapshot(""" "uri":"/" """), $"http://x/?{query}");
        Assert.Equal((decoded, sent, sent), (exchange.Get("arg_a"), exchange.InNginx.Get("arg_a"), Exchange.Reader("arg_a")!(exchange)));
    }

    [Fact]
    public void Disabled_routes_do_not_match() => Assert.Null(Match("http://x/a", """ "uri":"/a","status":0 """));

    [Fact]
    public void Parameters_are_variables()
    {
        var exchange = TestExchange.Of(Snapshot(""" "uri":"/user/:name/files/*path" """), "http://x/user/jack/files/a/b.txt");
        Match(exchange);
        Assert.Equal(("jack", "a/b.txt"), (exchange.Get("uri_param_name"), exchange.Get("uri_param_path")));
    }

    [Fact]
    public void A_route_without_hosts_takes_its_services()
    {
        var snapshot = TestExchange.Compile([
            TestExchange.Document(ResourceKind.Services, "s", $$"""{"hosts":["svc.com"],{{Upstream}}}"""),
            TestExchange.Document(ResourceKind.Routes, "r", """{"uri":"/a","service_id":"s"}""")]);
        Assert.Equal("r", Match(TestExchange.Of(snapshot, "http://svc.com/a")));
        Assert.Null(Match(TestExchange.Of(snapshot, "http://other.com/a")));
    }

    static string? MatchIn(string mode, string url, params string[] routes)
    {
        var settings = SettingsReader.Parse("/", $"apisix: {{router: {{http: {mode}}}}}", null, _ => null).Settings!;
        return Match(TestExchange.Of(TestExchange.Compile(routes.Select((route, index) =>
            TestExchange.Document(ResourceKind.Routes, $"r{index}", $"{{{route},{Upstream}}}")), settings: settings), url));
    }

    [Theory]
    [InlineData("radixtree_host_uri", "r0")]
    [InlineData("radixtree_uri", "r1")]
    [InlineData("radixtree_uri_with_parameter", "r1")]
    public void Host_or_uri_comes_first_as_the_router_says(string mode, string expected) =>
        Assert.Equal(expected,
            MatchIn(mode, "http://app.example.com/a/b", """ "uri":"/*","host":"app.example.com" """, """ "uri":"/a/b" """));

    [Theory]
    [InlineData("app.example.com", "r1")]
    [InlineData("APP.example.com", "r1")]
    [InlineData("x.example.com", "r0")]
    [InlineData("example.org", "r2")]
    public void Where_the_uri_comes_first_hosts_are_conditions(string host, string expected) =>
        Assert.Equal(expected, MatchIn("radixtree_uri", $"http://{host}/a",
        """ "uri":"/a","host":"*.example.com" """, """ "uri":"/a","hosts":["app.example.com"] """, """ "uri":"/a" """));

    [Theory]
    [InlineData("/v1/a%2Fb/list", "r0", "a%2Fb")]
    [InlineData("/v1/a%2fb/list", "r0", "a%2fb")]
    [InlineData("/v1/caf%C3%A9%2F1/list", "r0", "café%2F1")]
    [InlineData("/v1/a/b/list", null, null)]
    [InlineData("/v1/..%2Fx/list", null, null)]
    [InlineData("/v1//a%2Fb/list", null, null)]
    public void An_encoded_slash_can_be_part_of_a_parameter(string target, string? expected, string? parameter)
    {
        var settings = SettingsReader.Parse("/", "apisix: {match_uri_encoded_slash: true}", null, _ => null).Settings!;
        var exchange = TestExchange.Of(
            TestExchange.Compile([TestExchange.Document(ResourceKind.Routes, "r0", $$"""{"uri":"/v1/:id/list",{{Upstream}}}""")],
                settings: settings), "http://x/");
        exchange.Http.Features.Get<Microsoft.AspNetCore.Http.Features.IHttpRequestFeature>()!.RawTarget = target;
        Assert.Null(RequestCheck.Refuse(exchange));
        Assert.Equal((expected, parameter), (Match(exchange), exchange.Get("uri_param_id")));
    }

    [Fact]
    public void Ten_thousand_routes_find_theirs()
    {
        var snapshot = Snapshot([.. Enumerable.Range(0, 10_000).Select(i => $""" "uri":"/svc{i % 100}/item{i}/*" """)]);
        Assert.Equal("r4711", Match(TestExchange.Of(snapshot, "http://x/svc11/item4711/x")));
        Assert.Null(Match(TestExchange.Of(snapshot, "http://x/svc11/item4712/x")));
    }
}

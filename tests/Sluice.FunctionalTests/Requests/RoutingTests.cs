using System.Globalization;
using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Requests;

/// <summary>Which route a request gets, over real HTTP. Each route answers with a redirect that names it.</summary>
public sealed class RoutingTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync();

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    Task RouteAsync(string id, string conditions) =>
        _gateway.PutAsync($"/routes/{id}", $$"""{"plugins":{"redirect":{"uri":"/{{id}}"} },{{conditions}}}""");

    /// <summary>The route's name, or the status when none matched.</summary>
    async Task<string> AskAsync(string path, string host = "a.test", string method = "GET", Version? version = null,
        params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), _gateway.Url(path))
        {
            Version = version ?? HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        request.Headers.TryAddWithoutValidation("Host", host);
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        using var answer = await _gateway.Client.SendAsync(request);
        return answer.Headers.Location?.ToString()[1..] ?? ((int)answer.StatusCode).ToString(CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task Uris_match_exactly_by_prefix_and_with_parameters()
    {
        await RouteAsync("exact", "\"uri\":\"/a/exact\"");
        await RouteAsync("prefix", "\"uri\":\"/a/*\"");
        await RouteAsync("longer", "\"uri\":\"/a/b/*\"");
        await RouteAsync("several", "\"uris\":[\"/one\",\"/two/*\"]");
        await RouteAsync("name", "\"uri\":\"/user/:id/orders\"");
        await RouteAsync("rest", "\"uri\":\"/files/:id/*path\"");

        Assert.Equal("exact", await AskAsync("/a/exact"));
        Assert.Equal("exact", await AskAsync("/a/exact?q=1"));
        Assert.Equal("prefix", await AskAsync("/a/exact/"));
        Assert.Equal("prefix", await AskAsync("/a/"));
        Assert.Equal("404", await AskAsync("/a"));
        Assert.Equal("longer", await AskAsync("/a/b/c"));
        Assert.Equal("several", await AskAsync("/one"));
        Assert.Equal("several", await AskAsync("/two/x"));
        Assert.Equal("name", await AskAsync("/user/42/orders"));
        Assert.Equal("404", await AskAsync("/user/42/43/orders"));
        Assert.Equal("404", await AskAsync("/user//orders"));
        Assert.Equal("rest", await AskAsync("/files/1/a/b/c"));
    }

    [Fact]
    public async Task Hosts_match_exactly_before_wildcards_before_none()
    {
        await RouteAsync("any", "\"uri\":\"/*\"");
        await RouteAsync("wild", "\"uri\":\"/*\",\"host\":\"*.example.test\"");
        await RouteAsync("wilder", "\"uri\":\"/*\",\"hosts\":[\"*.deep.example.test\",\"other.test\"]");
        await RouteAsync("exact", "\"uri\":\"/*\",\"host\":\"www.example.test\"");

        Assert.Equal("exact", await AskAsync("/", "www.example.test"));
        Assert.Equal("exact", await AskAsync("/", "WWW.Example.test:9080"));
        Assert.Equal("wild", await AskAsync("/", "api.example.test"));
        Assert.Equal("wilder", await AskAsync("/", "x.deep.example.test"));
        Assert.Equal("wilder", await AskAsync("/", "other.test"));
        Assert.Equal("any", await AskAsync("/", "example.test"));
    }

    /// <summary>What guards a host guards it under every way to write its name.</summary>
    [Theory]
    [InlineData("admin.test.", "closed")]
    [InlineData("ADMIN.test.:80", "closed")]
    [InlineData("x.corp.test.", "closed")]
    [InlineData("vars.test.", "closed")]
    [InlineData("written.test", "closed")]
    [InlineData("written.test.", "closed")]
    [InlineData("other.test.", "open")]
    public async Task A_dot_behind_the_host_does_not_lead_past_a_route(string host, string expected)
    {
        await RouteAsync("open", "\"uri\":\"/*\"");
        await RouteAsync("closed", "\"uri\":\"/*\",\"hosts\":[\"admin.test\",\"*.corp.test\",\"written.test.\"]");
        await _gateway.PutAsync("/routes/vars",
            """{"plugins":{"redirect":{"uri":"/closed"}},"uri":"/*","priority":1,"vars":[["host","==","vars.test"]]}""");

        Assert.Equal(expected, await AskAsync("/", host));
        Assert.Equal(expected, await AskAsync("/", host, version: HttpVersion.Version20));
    }

    [Theory]
    [InlineData("admin.test..")]
    [InlineData("x..corp.test")]
    public async Task Two_dots_in_a_row_are_no_host(string host)
    {
        await RouteAsync("open", "\"uri\":\"/*\"");
        foreach (var version in (string[])["--http1.1", "--http2-prior-knowledge"])
        {
            var (_, output) = await Tool.RunAsync(
                "curl",
                ["-s", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", version, "-H", $"Host: {host}", $"{_gateway.Url("/")}"]);
            Assert.Equal(version == "--http1.1" ? "400 1.1" : "400 2", output);
        }
    }

    [Fact]
    public async Task A_host_longer_than_any_name_is_still_one_of_its_wildcard()
    {
        await RouteAsync("open", "\"uri\":\"/*\"");
        await RouteAsync("closed", "\"uri\":\"/*\",\"host\":\"*.corp.test\"");

        Assert.Equal("closed", await AskAsync("/", string.Concat(Enumerable.Repeat("abcdefghi.", 30)) + "corp.test"));
    }

    [Fact]
    public async Task Methods_addresses_priority_and_status_choose_among_equal_uris()
    {
        await RouteAsync("get", "\"uri\":\"/m\",\"methods\":[\"GET\"]");
        await RouteAsync("post", "\"uri\":\"/m\",\"methods\":[\"POST\",\"PUT\"]");
        await RouteAsync("elsewhere", "\"uri\":\"/ip\",\"remote_addr\":\"192.0.2.0/24\",\"priority\":10");
        await RouteAsync("here", "\"uri\":\"/ip\",\"remote_addrs\":[\"10.0.0.1\",\"127.0.0.0/8\"]");
        await RouteAsync("low", "\"uri\":\"/p\"");
        await RouteAsync("high", "\"uri\":\"/p\",\"priority\":5,\"vars\":[[\"arg_vip\",\"==\",\"1\"]]");
        await RouteAsync("off", "\"uri\":\"/off\",\"status\":0");

        Assert.Equal("get", await AskAsync("/m"));
        Assert.Equal("post", await AskAsync("/m", method: "PUT"));
        Assert.Equal("404", await AskAsync("/m", method: "DELETE"));
        Assert.Equal("here", await AskAsync("/ip"));
        Assert.Equal("low", await AskAsync("/p"));
        Assert.Equal("high", await AskAsync("/p?vip=1"));
        Assert.Equal("404", await AskAsync("/off"));
        await _gateway.AdminAsync(HttpMethod.Patch, "/routes/off", """{"status":1}""");
        Assert.Equal("off", await AskAsync("/off"));
    }

    [Theory]
    [InlineData("""["arg_n","==","1"]""", "n=1", "n=2")]
    [InlineData("""["arg_n","~=","1"]""", "n=2", "n=1")]
    [InlineData("""["arg_n",">",5]""", "n=6", "n=5")]
    [InlineData("""["arg_n",">=",5]""", "n=5", "n=4")]
    [InlineData("""["arg_n","<",5]""", "n=4", "n=5")]
    [InlineData("""["arg_n","<=",5]""", "n=5", "n=6")]
    [InlineData("""["arg_n","~~","^[a-z]+$"]""", "n=abc", "n=ABC")]
    [InlineData("""["arg_n","~*","^[a-z]+$"]""", "n=ABC", "n=1")]
    [InlineData("""["arg_n","in",["a","b"]]""", "n=b", "n=c")]
    [InlineData("""["arg_n","!","in",["a","b"]]""", "n=c", "n=b")]
    [InlineData("""["arg_n","!","~~","^[a-z]+$"]""", "n=1", "n=a")]
    [InlineData("""["http_x_ip","ipmatch",["10.0.0.0/8","::1"]]""", "10.1.2.3", "11.1.2.3")]
    [InlineData("""["cookie_session","==","s1"]""", "cookie", "n=1")]
    [InlineData(""" "OR",["arg_n","==","1"],["arg_n","==","2"] """, "n=2", "n=3")]
    [InlineData(""" "AND",["arg_n",">","1"],["arg_n","<","5"] """, "n=3", "n=5")]
    [InlineData(""" "!OR",["arg_n","==","1"],["arg_n","==","2"] """, "n=3", "n=1")]
    [InlineData("""["request_method","==","GET"],["OR",["arg_n","==","1"],["uri","~~","never"]]""", "n=1", "n=2")]
    public async Task Every_operator_of_vars_decides(string vars, string yes, string no)
    {
        await RouteAsync("v", $"\"uri\":\"/v\",\"vars\":[{vars}]");
        Assert.Equal("v", await WithAsync(yes));
        Assert.Equal("404", await WithAsync(no));

        Task<string> WithAsync(string value) => value.StartsWith("n=", StringComparison.Ordinal)
            ? AskAsync($"/v?{value}")
            : AskAsync("/v", headers: value == "cookie" ? ("Cookie", "a=b; session=s1") : ("X-IP", value));
    }

    [Fact]
    public async Task Plugins_merge_in_APISIXs_order()
    {
        static string Header(string value) => $$"""{"response-rewrite":{"headers":{"set":{"X-From":"{{value}}"} } } }""";
        await using var origin = EchoOrigin.Start();
        var node = $$"""{"type":"roundrobin","nodes":{"127.0.0.1:{{origin.Port}}":1} }""";
        await _gateway.PutAsync("/upstreams/u1", node);
        await _gateway.PutAsync("/services/s1", $$"""{"upstream_id":"u1","plugins":{{Header("service")}}}""");
        await _gateway.PutAsync("/plugin_configs/p1", $$"""{"plugins":{{Header("plugin_config")}}}""");
        await _gateway.PutAsync("/consumer_groups/g1", $$"""{"plugins":{{Header("group")}}}""");
        await _gateway.PutAsync("/consumers", """{"username":"in_group","group_id":"g1","plugins":{"key-auth":{"key":"g"}}}""");
        await _gateway.PutAsync("/consumers",
            $$"""{"username":"own","group_id":"g1","plugins":{"key-auth":{"key":"o"},"response-rewrite":{"headers":{"set":{"X-From":"consumer"} } } } }""");
        await _gateway.PutAsync("/routes/1", """{"uri":"/service","service_id":"s1"}""");
        await _gateway.PutAsync("/routes/2", """{"uri":"/config","service_id":"s1","plugin_config_id":"p1"}""");
        await _gateway.PutAsync("/routes/3",
            """{"uri":"/route","service_id":"s1","plugin_config_id":"p1","plugins":{"key-auth":{},"response-rewrite":{"headers":{"set":{"X-From":"route"}}}}}""");
        await _gateway.PutAsync("/routes/4", """{"uri":"/global","upstream_id":"u1"}""");
        await _gateway.PutAsync("/global_rules/1", """{"plugins":{"response-rewrite":{"headers":{"set":{"X-Global":"yes"}}}}}""");

        async Task<string> FromAsync(string path, string? key = null)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url(path));
            if (key is not null)
            {
                request.Headers.Add("apikey", key);
            }
            using var answer = await _gateway.Client.SendAsync(request);
            Assert.Equal(["yes"], answer.Headers.GetValues("X-Global"));
            return answer.Headers.TryGetValues("X-From", out var from) ? string.Join(',', from) : $"{(int)answer.StatusCode}";
        }
        Assert.Equal("service", await FromAsync("/service"));
        Assert.Equal("plugin_config", await FromAsync("/config"));
        Assert.Equal("group", await FromAsync("/route", "g"));
        Assert.Equal("consumer", await FromAsync("/route", "o"));
        Assert.Equal("route", await FromAsync("/route", "wrong"));
        Assert.Equal("200", await FromAsync("/global"));
        Assert.Equal("404", await FromAsync("/none"));
    }

    [Fact]
    public async Task Meta_disables_orders_filters_and_dresses_answers()
    {
        await _gateway.PutAsync("/routes/1",
            """{"uri":"/disabled","plugins":{"key-auth":{"_meta":{"disable":true}},"redirect":{"uri":"/through"}}}""");
        await _gateway.PutAsync("/routes/2",
            """{"uri":"/filtered","plugins":{"key-auth":{"_meta":{"filter":[["arg_check","==","1"]]}},"redirect":{"uri":"/through"}}}""");
        await _gateway.PutAsync("/routes/3",
            """{"uri":"/dressed","plugins":{"ip-restriction":{"blacklist":["127.0.0.1"],"_meta":{"error_response":{"message":"keep out"}}}}}""");
        await _gateway.PutAsync("/routes/4", """{"uri":"/text","plugins":{"key-auth":{"_meta":{"error_response":"no key"}}}}""");
        await _gateway.PutAsync("/routes/5",
            """{"uri":"/order","plugins":{"key-auth":{},"redirect":{"uri":"/first","_meta":{"priority":9000}}}}""");
        await _gateway.PutAsync("/routes/6", """{"uri":"/natural","plugins":{"key-auth":{},"redirect":{"uri":"/first"}}}""");

        Assert.Equal("through", await AskAsync("/disabled"));
        Assert.Equal("401", await AskAsync("/filtered?check=1"));
        Assert.Equal("through", await AskAsync("/filtered"));
        Assert.Equal("first", await AskAsync("/order"));
        Assert.Equal("401", await AskAsync("/natural"));
        using var dressed = await _gateway.Client.GetAsync(_gateway.Url("/dressed"), TestContext.Current.CancellationToken);
        Assert.Equal((HttpStatusCode.Forbidden, """{"message":"keep out"}"""),
            (dressed.StatusCode, (await dressed.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).TrimEnd()));
        using var text = await _gateway.Client.GetAsync(_gateway.Url("/text"), TestContext.Current.CancellationToken);
        Assert.Equal((HttpStatusCode.Unauthorized, "no key"),
            (text.StatusCode, (await text.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).TrimEnd()));
    }
}

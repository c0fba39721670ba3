using System.Net;
using System.Text;
using System.Text.Json.Nodes;

namespace Sluice.FunctionalTests.Admin;

public sealed class AdminFixture : IAsyncLifetime
{
    public TestGateway Gateway { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Gateway = await TestGateway.StartAsync();

    public ValueTask DisposeAsync() => Gateway.DisposeAsync();
}

/// <summary>The answers of the Admin API, word by word as APISIX 3 gives them.</summary>
public sealed class AdminResponsesTests(AdminFixture fixture) : IClassFixture<AdminFixture>
{
    const string Nodes = "\"upstream\":{\"type\":\"roundrobin\",\"nodes\":{\"127.0.0.1:1980\":1}}";

    readonly TestGateway _gateway = fixture.Gateway;

    async Task<(int Status, JsonNode? Body)> AskAsync(string method, string path, string? json = null)
    {
        var (status, body) = await _gateway.AdminAsync(new HttpMethod(method), path, json);
        return ((int)status, body);
    }

    [Theory]
    [InlineData("PUT", "/routes/r1/uri", "{}", "wrong")]
    [InlineData("PATCH", "/routes/unknown", "{\"uri\":\"/x\"}", "404 {\"message\":\"Key not found\"}")]
    [InlineData("GET", "/routes/unknown", null, "404 {\"message\":\"Key not found\"}")]
    [InlineData("DELETE", "/routes/unknown", null, "404 {\"message\":\"Key not found\"}")]
    [InlineData("DELETE", "/routes", null, "400 {\"error_msg\":\"missing route id\"}")]
    [InlineData("PUT", "/routes", "{\"uri\":\"/x\"," + Nodes + "}", "400 {\"error_msg\":\"missing route id\"}")]
    [InlineData("PUT", "/routes/a", "{\"id\":\"b\",\"uri\":\"/x\"," + Nodes + "}", "400 {\"error_msg\":\"wrong route id\"}")]
    [InlineData("POST", "/routes/r9", "{\"uri\":\"/x\"," + Nodes + "}", "400 {\"error_msg\":\"wrong route id, do not need it\"}")]
    [InlineData("PUT", "/routes/bad!id", "{\"uri\":\"/x\"," + Nodes + "}",
        "400 {\"error_msg\":\"invalid configuration: property \\\"id\\\" validation failed: object matches none of the required\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\"",
        "400 {\"error_msg\":\"invalid request body: Expected comma or object end but found T_END at character "
            + "12\",\"req_body\":\"{\\\"uri\\\":\\\"/x\\\"\"}")]
    [InlineData("PUT", "/routes/a", "", "400 {\"error_msg\":\"missing configurations\"}")]
    [InlineData("PUT", "/routes/a", "{" + Nodes + "}",
        "400 {\"error_msg\":\"invalid configuration: allOf 1 failed: value should match only one schema, but matches none\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\"}",
        "400 {\"error_msg\":\"invalid configuration: object matches none of the required: [\\\"plugins\\\",\\\"uri\\\"] or "
            + "[\\\"upstream\\\",\\\"uri\\\"] or [\\\"upstream_id\\\",\\\"uri\\\"] or [\\\"service_id\\\",\\\"uri\\\"] or "
                + "[\\\"plugins\\\",\\\"uris\\\"] or [\\\"upstream\\\",\\\"uris\\\"] or [\\\"upstream_id\\\",\\\"uris\\\"] or "
                    + "[\\\"service_id\\\",\\\"uris\\\"] or [\\\"script\\\",\\\"uri\\\"] or [\\\"script\\\",\\\"uris\\\"]\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\",\"bogus\":1," + Nodes + "}",
        "400 {\"error_msg\":\"invalid configuration: additional properties forbidden, found bogus\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\",\"upstream_id\":\"nope\"}",
        "400 {\"error_msg\":\"failed to fetch upstream info by upstream id [nope], response code: 404\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\",\"service_id\":\"nope\"}",
        "400 {\"error_msg\":\"failed to fetch service info by service id [nope], response code: 404\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\",\"plugins\":{\"nonexistent\":{}}}",
        "400 {\"error_msg\":\"unknown plugin [nonexistent]\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\",\"plugins\":{\"proxy-buffering\":{\"disable_proxy_buffering\":\"x\"}}}",
        "400 {\"error_msg\":\"failed to check the configuration of plugin proxy-buffering err: property \\\"disable_proxy_buffering\\\" "
            + "validation failed: wrong type: expected boolean, got string\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\",\"plugins\":{\"limit-count\":{\"count\":1}}}",
        "400 {\"error_msg\":\"failed to check the configuration of plugin limit-count err: value should match only one schema, but "
            + "matches none\"}")]
    [InlineData("PUT", "/routes/a", "{\"uri\":\"/x\",\"plugins\":{\"proxy-rewrite\":{\"uri\":\"nosl\"}}}",
        "400 {\"error_msg\":\"failed to check the configuration of plugin proxy-rewrite err: property \\\"uri\\\" validation failed: "
            + "failed to match pattern \\\"^\\\\\\\\/.*\\\" with \\\"nosl\\\"\"}")]
    [InlineData("PUT", "/consumers", "{\"username\":\"c\",\"plugins\":{\"key-auth\":{}}}",
        "400 {\"error_msg\":\"invalid plugins configuration: failed to check the configuration of plugin key-auth err: property "
            + "\\\"key\\\" is required\"}")]
    [InlineData("GET", "/bogus", null, "404 {\"error_msg\":\"Unsupported resource type: bogus\"}")]
    [InlineData("GET", "/plugins/nonexistent", null, "404 {\"error_msg\":\"plugin not found in subsystem http\"}")]
    public async Task Wrong_requests_are_answered_word_by_word(string method, string path, string? json, string expected)
    {
        var (status, body) = await AskAsync(method, path, json);
        if (expected == "wrong")
        {
            Assert.InRange(status, 400, 499);
            return;
        }
        // a second member may say what would be right
        (body as JsonObject)?.Remove("hint");
        Assert.Equal(expected,
            $"{status} {body!.ToJsonString(new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping })}");
    }

    [Theory]
    [InlineData("{\"uri\":\"/x\",\"plugins\":{\"limit-count\":{\"count\":\"x\",\"time_window\":1}}}")]
    [InlineData("{\"uri\":\"/x\",\"upstream\":{\"type\":\"bogus\",\"nodes\":{\"127.0.0.1:1\":1}}}")]
    [InlineData("{\"uri\":\"/x\",\"vars\":[[\"arg_a\",\"=~\",\"b\"]]," + Nodes + "}")]
    [InlineData(
        "{\"uri\":\"/x\",\"plugins\":{\"proxy-rewrite\":{\"disable_buffering\":true},\"proxy-buffering\":{\"disable_proxy_buffering\":false}}," + Nodes + "}")]
    [InlineData("[1]")]
    [InlineData("\"text\"")]
    public async Task What_APISIX_accepts_and_then_fails_on_is_refused(string json)
    {
        Assert.Equal(400, (await AskAsync("PUT", "/routes/strict", json)).Status);
        Assert.Equal(404, (await AskAsync("GET", "/routes/strict")).Status);
    }

    [Fact]
    public async Task A_HEAD_of_the_whole_Admin_API_needs_no_key_as_adc_sends_none()
    {
        using var head = new HttpRequestMessage(HttpMethod.Head, $"http://{_gateway.Gateway.AdminEndpoint}/apisix/admin");
        using var answer = await _gateway.Client.SendAsync(head);
        Assert.Equal(200, (int)answer.StatusCode);
        using var other = new HttpRequestMessage(HttpMethod.Head, $"http://{_gateway.Gateway.AdminEndpoint}/apisix/admin/routes");
        using var refused = await _gateway.Client.SendAsync(other);
        Assert.Equal(401, (int)refused.StatusCode);
    }

    [Theory]
    [InlineData("GET", "/stream_routes")]
    [InlineData("GET", "/stream_routes/1")]
    [InlineData("POST", "/stream_routes")]
    [InlineData("PUT", "/stream_routes/1")]
    [InlineData("PATCH", "/stream_routes/1")]
    [InlineData("DELETE", "/stream_routes/1")]
    public async Task Stream_routes_are_refused_while_only_HTTP_is_proxied(string method, string path)
    {
        var (status, body) = await AskAsync(method, path, method is "GET" or "DELETE" ? null : "{" + Nodes + "}");
        Assert.Equal((400, "stream mode is disabled, can not add stream routes"), (status, (string?)body!["error_msg"]));
    }

    [Fact]
    public async Task A_bogus_balancer_is_answered_with_the_list_of_those_there_are()
    {
        var (_, body) = await AskAsync("PUT", "/upstreams/u", """{"type":"bogus","nodes":{"127.0.0.1:1":1}}""");
        var message = (string)body!["error_msg"]!;
        Assert.Contains("roundrobin", message, StringComparison.Ordinal);
        Assert.Contains("chash", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_route_lives_from_PUT_to_DELETE()
    {
        var (created, first) = await AskAsync("PUT", "/routes/life", "{\"uri\":\"/r1/*\"," + Nodes + "}");
        Assert.Equal((201, "/apisix/routes/life"), (created, (string?)first!["key"]));
        var value = first["value"]!;
        Assert.Equal(("life", "/r1/*", null), ((string?)value["id"], (string?)value["uri"], value["priority"]));
        Assert.True((long)value["create_time"]! > 1_700_000_000);

        var (updated, _) = await AskAsync("PUT", "/routes/life", "{\"uri\":\"/r1b/*\"," + Nodes + "}");
        Assert.Equal(200, updated);
        var (_, read) = await AskAsync("GET", "/routes/life");
        Assert.True((long)read!["modifiedIndex"]! > (long)read["createdIndex"]!);

        var (merged, afterMerge) = await AskAsync("PATCH", "/routes/life", """{"labels":{"a":"1","b":"2"},"desc":"d"}""");
        Assert.Equal((200, "1"), (merged, (string?)afterMerge!["value"]!["labels"]!["a"]));
        (_, afterMerge) = await AskAsync("PATCH", "/routes/life", """{"labels":{"a":null},"desc":null}""");
        Assert.Equal("""{"b":"2"}""", afterMerge!["value"]!["labels"]!.ToJsonString());
        Assert.Null(afterMerge["value"]!["desc"]);
        var (replaced, afterPath) = await AskAsync("PATCH", "/routes/life/uri", "\"/r1c/*\"");
        Assert.Equal((200, "/r1c/*"), (replaced, (string?)afterPath!["value"]!["uri"]));
        (_, afterPath) = await AskAsync("PATCH", "/routes/life/upstream/nodes", """{"127.0.0.1:1981":2}""");
        Assert.Equal("""{"127.0.0.1:1981":2}""", afterPath!["value"]!["upstream"]!["nodes"]!.ToJsonString());
        var (bad, error) = await AskAsync("PATCH", "/routes/life", """{"uri":5}""");
        Assert.Equal((400, "invalid configuration: property \"uri\" validation failed: wrong type: expected string, got number"),
            (bad, (string?)error!["error_msg"]));
        Assert.Equal("/r1c/*", (string?)(await AskAsync("GET", "/routes/life")).Body!["value"]!["uri"]);

        Assert.Equal("""200 {"key":"/apisix/routes/life","deleted":"1"}""", Text(await AskAsync("DELETE", "/routes/life")));
        Assert.Equal(404, (await AskAsync("DELETE", "/routes/life")).Status);
    }

    [Fact]
    public async Task POST_counts_ids_of_20_digits()
    {
        var (status, body) = await AskAsync("POST", "/routes", "{\"uri\":\"/posted\"," + Nodes + "}");
        var id = (string)body!["value"]!["id"]!;
        Assert.Equal(201, status);
        Assert.Matches("^[0-9]{20}$", id);
        Assert.Equal($"/apisix/routes/{id}", (string?)body["key"]);
        await AskAsync("DELETE", $"/routes/{id}");
    }

    [Theory]
    [InlineData("services", "{" + Nodes + "}", "{\"name\":\"n\"}")]
    [InlineData("upstreams", "{\"type\":\"roundrobin\",\"nodes\":{\"127.0.0.1:1\":1}}", "{\"name\":\"n\"}")]
    [InlineData("global_rules", "{\"plugins\":{\"request-id\":{}}}", "{\"plugins\":{\"request-id\":{\"header_name\":\"X-N\"}}}")]
    [InlineData("plugin_configs", "{\"plugins\":{\"request-id\":{}}}", "{\"desc\":\"n\"}")]
    public async Task Every_kind_is_put_read_listed_patched_and_deleted(string kind, string json, string patch)
    {
        Assert.Equal(201, (await AskAsync("PUT", $"/{kind}/k1", json)).Status);
        Assert.Equal(200, (await AskAsync("PUT", $"/{kind}/k1", json)).Status);
        Assert.Equal($"/apisix/{kind}/k1", (string?)(await AskAsync("GET", $"/{kind}/k1")).Body!["key"]);
        Assert.Equal(200, (await AskAsync("PATCH", $"/{kind}/k1", patch)).Status);
        Assert.Equal(1, (int)(await AskAsync("GET", $"/{kind}")).Body!["total"]!);
        Assert.Equal($$"""200 {"key":"/apisix/{{kind}}/k1","deleted":"1"}""", Text(await AskAsync("DELETE", $"/{kind}/k1")));
        Assert.Equal("""200 {"total":0,"list":[]}""", Text(await AskAsync("GET", $"/{kind}")));
    }

    [Fact]
    public async Task Consumers_and_metadata_are_named_not_numbered()
    {
        Assert.Equal("/apisix/consumers/jack",
            (string?)(await AskAsync("PUT", "/consumers", """{"username":"jack","plugins":{"key-auth":{"key":"k"}}}""")).Body!["key"]);
        Assert.Equal(200, (await AskAsync("PUT", "/consumers/jack", """{"username":"jack"}""")).Status);
        Assert.Equal(400, (await AskAsync("PUT", "/consumers/jill", """{"username":"jack"}""")).Status);
        Assert.Equal(200, (await AskAsync("DELETE", "/consumers/jack")).Status);
        Assert.Equal(201, (await AskAsync("PUT", "/plugin_metadata/batch-requests", """{"max_body_size":50}""")).Status);
        Assert.Equal(50, (int)(await AskAsync("GET", "/plugin_metadata/batch-requests")).Body!["value"]!["max_body_size"]!);
        Assert.Equal(400, (await AskAsync("PUT", "/plugin_metadata/nonexistent", "{}")).Status);
        Assert.Equal(200, (await AskAsync("DELETE", "/plugin_metadata/batch-requests")).Status);
    }

    [Fact]
    public async Task What_is_in_use_is_deleted_with_force_only()
    {
        await AskAsync("PUT", "/upstreams/u1", """{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}""");
        await AskAsync("PUT", "/services/s1", """{"upstream_id":"u1"}""");
        await AskAsync("PUT", "/plugin_configs/p1", """{"plugins":{}}""");
        await AskAsync("PUT", "/routes/rsvc", """{"uri":"/in-use","service_id":"s1","plugin_config_id":"p1"}""");
        Assert.Equal("""400 {"error_msg":"can not delete this upstream, service [s1] is still using it now"}""",
            Text(await AskAsync("DELETE", "/upstreams/u1")));
        Assert.Equal("""400 {"error_msg":"can not delete this service directly, route [rsvc] is still using it now"}""",
            Text(await AskAsync("DELETE", "/services/s1")));
        Assert.Equal(400, (await AskAsync("DELETE", "/plugin_configs/p1")).Status);
        Assert.Equal("""200 {"key":"/apisix/upstreams/u1","deleted":"1"}""", Text(await AskAsync("DELETE", "/upstreams/u1?force=true")));
        Assert.Equal(404, (await AskAsync("DELETE", "/upstreams/u1")).Status);
        using var answer = await _gateway.Client.GetAsync(_gateway.Url("/in-use"), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.StatusCode);
        Assert.Equal(200, (await AskAsync("DELETE", "/routes/rsvc")).Status);
        Assert.Equal(200, (await AskAsync("DELETE", "/services/s1")).Status);
        Assert.Equal(200, (await AskAsync("DELETE", "/plugin_configs/p1")).Status);
    }

    [Fact]
    public async Task Lists_have_pages_and_filters()
    {
        for (var i = 0; i < 25; i++)
        {
            await AskAsync("PUT", $"/services/p{i}", $$"""{"name":"svc{{i}}","labels":{"n":"{{i % 5}}","odd":"{{i % 2}}"},{{Nodes}}}""");
        }
        async Task<string> ListAsync(string query)
        {
            var (status, body) = await AskAsync("GET", $"/services?{query}");
            return status == 200
                ? $"{body!["total"]} {string.Join(' ', body["list"]!.AsArray().Select(one => (string?)one!["value"]!["id"]))}"
                : $"{status}";
        }
        Assert.Equal("25 p0 p1 p2 p3 p4 p5 p6 p7 p8 p9", await ListAsync("page=1&page_size=10"));
        Assert.Equal("25 p20 p21 p22 p23 p24", await ListAsync("page=3&page_size=10"));
        Assert.Equal("25 ", await ListAsync("page=4&page_size=10"));
        Assert.Equal("1 p7", await ListAsync("name=svc7"));
        Assert.Equal("5 p3 p8 p13 p18 p23",
            string.Join(' ', (await ListAsync("label=n:3")).Split(' ')
                .OrderBy(id => id[0] == 'p' ? int.Parse(id[1..], System.Globalization.CultureInfo.InvariantCulture) : -1)));
        Assert.StartsWith("0", await ListAsync("label=none"), StringComparison.Ordinal);
        await AskAsync("PUT", "/routes/l1", "{\"uri\":\"/listed/one\",\"service_id\":\"p1\"}");
        await AskAsync("PUT", "/routes/l2", "{\"uris\":[\"/listed/two\",\"/b\"],\"service_id\":\"p2\"}");
        Assert.Equal(2, (int)(await AskAsync("GET", "/routes?uri=listed")).Body!["total"]!);
        Assert.Equal(1, (int)(await AskAsync("GET", "/routes?filter=service_id%3Dp2")).Body!["total"]!);
        var (tooLarge, _) = await PlainAsync("/services?page=1&page_size=501");
        Assert.Equal(HttpStatusCode.BadRequest, tooLarge);
        await AskAsync("DELETE", "/routes/l1");
        await AskAsync("DELETE", "/routes/l2");
        for (var i = 0; i < 25; i++)
        {
            await AskAsync("DELETE", $"/services/p{i}");
        }
    }

    async Task<(HttpStatusCode Status, string Body)> PlainAsync(string path)
    {
        using var request = Request(HttpMethod.Get, path, TestGateway.AdminKey);
        using var answer = await _gateway.Client.SendAsync(request);
        return (answer.StatusCode, await answer.Content.ReadAsStringAsync());
    }

    HttpRequestMessage Request(HttpMethod method, string path, string? key)
    {
        var request = new HttpRequestMessage(method, $"http://{_gateway.Gateway.AdminEndpoint}/apisix/admin{path}");
        if (key is not null)
        {
            request.Headers.Add("X-API-KEY", key);
        }
        return request;
    }

    [Theory]
    [InlineData(null, "missing apikey")]
    [InlineData("wrong", "wrong apikey")]
    [InlineData("", "wrong apikey")]
    public async Task Without_the_key_nobody_gets_in(string? key, string description)
    {
        using var request = Request(HttpMethod.Get, "/routes", key);
        using var answer = await _gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.Unauthorized, answer.StatusCode);
        Assert.Equal($$"""{"error_msg":"failed to check token","description":"{{description}}"}""",
            (await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).TrimEnd());
        Assert.False(answer.Headers.Contains("X-API-VERSION"));
        await _gateway.ErrorLogSaysAsync(description);
    }

    [Fact]
    public async Task Answers_have_APISIXs_headers()
    {
        using var request = Request(HttpMethod.Get, "/routes", TestGateway.AdminKey);
        using var answer = await _gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal("application/json", answer.Content.Headers.ContentType?.ToString());
        foreach (var (name, value) in new[]
        {
            ("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Credentials", "true"), ("Access-Control-Expose-Headers", "*"),
            ("Access-Control-Max-Age", "3600"), ("X-API-VERSION", "v3"),
        })
        {
            Assert.Equal([value], answer.Headers.GetValues(name));
        }
        Assert.StartsWith("Sluice", answer.Headers.Server.ToString(), StringComparison.Ordinal);

        using var preflight = Request(HttpMethod.Options, "/routes", null);
        using var allowed = await _gateway.Client.SendAsync(preflight, TestContext.Current.CancellationToken);
        Assert.Equal((HttpStatusCode.OK, "text/plain", ""),
            (allowed.StatusCode, allowed.Content.Headers.ContentType?.MediaType,
                await allowed.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)));
        Assert.Equal(["*"], allowed.Headers.GetValues("Access-Control-Allow-Origin"));
    }

    [Fact]
    public async Task A_property_that_a_plugin_does_not_know_is_kept_and_warned_of()
    {
        using var request = Request(HttpMethod.Put, "/routes/typo", TestGateway.AdminKey);
        request.Content = new StringContent("""{"uri":"/typo","plugins":{"proxy-rewrite":{"disable_bufering":true,"uri":"/a"}}}""",
            Encoding.UTF8, "application/json");
        using var answer = await _gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
        Assert.Contains("plugins.proxy-rewrite.disable_bufering", Assert.Single(answer.Headers.GetValues("Warning")),
            StringComparison.Ordinal);
        Assert.Contains("disable_bufering", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
            StringComparison.Ordinal);
        await _gateway.ErrorLogSaysAsync("plugins.proxy-rewrite.disable_bufering");
        await AskAsync("DELETE", "/routes/typo");
    }

    [Theory]
    [InlineData("/routes/a%00b")]
    [InlineData("/routes/a%2fb")]
    [InlineData("/routes/..%2f..")]
    [InlineData("/routes/%ff")]
    [InlineData("/routes//a")]
    public async Task Malformed_ids_are_refused(string path)
    {
        using var request = new HttpRequestMessage(HttpMethod.Put,
            new Uri($"http://{_gateway.Gateway.AdminEndpoint}/apisix/admin{path}",
                new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }));
        request.Headers.Add("X-API-KEY", TestGateway.AdminKey);
        request.Content = new StringContent("{\"uri\":\"/x\"," + Nodes + "}");
        using var answer = await _gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.InRange((int)answer.StatusCode, 400, 404);
    }

    public static TheoryData<string> Hostile() =>
    [
        new string('[', 1_000_000),
        string.Concat(Enumerable.Repeat("{\"a\":", 200_000)),
        "{\"uri\":\"" + new string('a', 1_400_000) + "\"}",
        "{\"uri\":\"/x\",\"id\":\"a\\u0000b\"," + Nodes + "}",
        "{\"uri\":\"/x\",\"uri\":[{}]," + Nodes + "}",
        "{\"uri\":\"/\\ud800\"," + Nodes + "}",
        "{\"priority\":1e400,\"uri\":\"/x\"," + Nodes + "}",
        "\0\0\0",
    ];

    [Theory]
    [MemberData(nameof(Hostile), DisableDiscoveryEnumeration = true)]
    public async Task Hostile_bodies_are_refused_and_change_nothing(string json)
    {
        var (status, _) = await AskAsync("PUT", "/routes/hostile", json);
        Assert.InRange(status, 400, 413);
        Assert.Equal(404, (await AskAsync("GET", "/routes/hostile")).Status);
    }

    [Fact]
    public async Task A_body_larger_than_the_limit_is_400_as_in_APISIX()
    {
        var (status, _) = await AskAsync("PUT", "/routes/large", new string(' ', 1_600_000));
        Assert.Equal(400, status);
    }

    static string Text((int Status, JsonNode? Body) answer) => $"{answer.Status} {answer.Body?.ToJsonString()}";
}

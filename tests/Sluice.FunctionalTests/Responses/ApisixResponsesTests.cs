using System.Net;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Responses;

/// <summary>What clients of the proxy see, as APISIX answers, and how upstreams are asked.</summary>
public sealed class ApisixResponsesTests : IAsyncLifetime
{
    readonly ScriptedOrigin _origin = EchoOrigin.Start();
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    async Task<(int Status, string Body, HttpResponseMessage Answer)> GetAsync(string path, string method = "GET", string? body = null,
        params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), _gateway.Url(path));
        request.Content = body is null ? null : new StringContent(body, Encoding.UTF8, "text/plain");
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        var answer = await _gateway.Client.SendAsync(request);
        return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(), answer);
    }

    [Fact]
    public async Task Beside_an_upstream_its_id_counts()
    {
        await _gateway.PutAsync("/upstreams/u", $$"""{"nodes":{"127.0.0.1:{{_origin.Port}}":1} }""");
        const string Dead = """{"nodes":{"127.0.0.1:1":1} }""";
        await _gateway.PutAsync("/routes/r1", $$"""{"uri":"/route","upstream_id":"u","upstream":{{Dead}} }""");
        await _gateway.PutAsync("/services/s", $$"""{"upstream_id":"u","upstream":{{Dead}} }""");
        await _gateway.PutAsync("/routes/r2", """{"uri":"/service","service_id":"s"}""");
        Assert.Equal(200, (await GetAsync("/route")).Status);
        Assert.Equal(200, (await GetAsync("/service")).Status);
    }

    [Fact]
    public async Task A_host_that_is_a_star_is_every_host()
    {
        await _gateway.PutAsync("/routes/any", """{"uri":"/x","hosts":["*"],"plugins":{"redirect":{"uri":"/any"}}}""");
        await _gateway.PutAsync("/routes/some", """{"uri":"/x","host":"*.some.test","plugins":{"redirect":{"uri":"/some"}}}""");
        foreach (var (host, location) in new[] { ("a", "/any"), ("a.some.test", "/some"), ("some.test", "/any"), ("127.0.0.1", "/any") })
        {
            Assert.Equal(location, (await GetAsync("/x", headers: ("Host", host))).Answer.Headers.Location?.ToString());
        }
    }

    [Fact]
    public async Task No_route_is_APISIXs_404()
    {
        await _gateway.RouteAsync("r1", "/only-get", _origin.Port, "\"methods\":[\"GET\"]");
        foreach (var (path, method) in new[] { ("/none", "GET"), ("/only-get", "POST") })
        {
            var (status, body, answer) = await GetAsync(path, method);
            Assert.Equal((404, "{\"error_msg\":\"404 Route Not Found\"}\n"), (status, body));
            Assert.Equal("text/plain; charset=utf-8", answer.Content.Headers.ContentType?.ToString());
        }
    }

    [Fact]
    public async Task Key_auth_answers_as_APISIX_and_hides_nothing_else()
    {
        await _gateway.PutAsync("/consumers", """{"username":"jack","plugins":{"key-auth":{"key":"secret-key"}}}""");
        await _gateway.RouteAsync("r1", "/auth", _origin.Port, """ "plugins":{"key-auth":{"hide_credentials":true}} """);
        var (missing, missingBody, answer) = await GetAsync("/auth");
        Assert.Equal((401, "{\"message\":\"Missing API key in request\"}"), (missing, missingBody.TrimEnd()));
        Assert.Equal("apikey realm=\"key\"", answer.Headers.WwwAuthenticate.ToString());
        var (invalid, invalidBody, _) = await GetAsync("/auth", headers: ("apikey", "wrong"));
        Assert.Equal((401, "{\"message\":\"Invalid API key in request\"}"), (invalid, invalidBody.TrimEnd()));
        var (ok, echo, _) = await GetAsync("/auth", headers: ("apikey", "secret-key"));
        Assert.Equal(200, ok);
        Assert.DoesNotContain("secret-key", echo, StringComparison.Ordinal);
        Assert.Contains("X-Consumer-Username: jack\r\n", echo, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Dead_upstream_is_502_and_none_is_503()
    {
        await _gateway.RouteAsync("dead", "/dead", 1);
        var (status, body, answer) = await GetAsync("/dead");
        Assert.Equal((502, "{\"error_msg\":\"502 Bad Gateway\"}\n"), (status, body));
        Assert.Equal(["502"], answer.Headers.GetValues("X-APISIX-Upstream-Status"));
        await _gateway.PutAsync("/routes/none", """{"uri":"/no-upstream","plugins":{}}""");
        Assert.Equal(503, (await GetAsync("/no-upstream")).Status);
    }

    [Fact]
    public async Task A_silent_upstream_is_504_after_the_routes_timeout()
    {
        await using var silent = ScriptedOrigin.Start(connection => connection.StallAsync());
        await _gateway.RouteAsync("silent", "/silent", silent.Port, "\"timeout\":{\"connect\":5,\"send\":5,\"read\":0.2}");
        Assert.Equal(504, (await GetAsync("/silent")).Status);
    }

    [Fact]
    public async Task Limit_count_counts_down_and_refuses()
    {
        await _gateway.RouteAsync("limited", "/limited", _origin.Port,
            """ "plugins":{"limit-count":{"count":2,"time_window":600,"rejected_code":429,"key":"remote_addr","key_type":"var"}} """);
        for (var left = 1; left >= 0; left--)
        {
            var (status, _, answer) = await GetAsync("/limited");
            Assert.Equal((200, "2", $"{left}"),
                (status, answer.Headers.GetValues("X-RateLimit-Limit").Single(),
                    answer.Headers.GetValues("X-RateLimit-Remaining").Single()));
            Assert.InRange(double.Parse(answer.Headers.GetValues("X-RateLimit-Reset").Single(),
                System.Globalization.CultureInfo.InvariantCulture), 0, 600);
        }
        Assert.Equal(429, (await GetAsync("/limited")).Status);
    }

    [Theory]
    [InlineData("pass", null, "client.test")]
    [InlineData("node", null, "127.0.0.1:PORT")]
    [InlineData("rewrite", "other.test", "other.test")]
    public async Task Pass_host_says_which_name_the_upstream_hears(string mode, string? name, string expected)
    {
        await _gateway.PutAsync("/routes/host",
            $$"""{"uri":"/host","upstream":{"type":"roundrobin","nodes":{"127.0.0.1:{{_origin.Port}}":1},"pass_host":"{{mode}}"{{(name is null ? "" : $",\"upstream_host\":\"{name}\"")}} } }""");
        var (_, echo, _) = await GetAsync("/host", headers: ("Host", "client.test"));
        Assert.Contains($"\r\nHost: {expected.Replace("PORT", $"{_origin.Port}", StringComparison.Ordinal)}\r\n", echo,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task Weights_share_the_requests_and_priorities_wait_for_a_failure()
    {
        await using var second = await WebOrigin.StartAsync("second");
        await using var third = await WebOrigin.StartAsync("third");
        await _gateway.PutAsync("/routes/w",
            $$"""{"uri":"/w","upstream":{"type":"roundrobin","nodes":{"127.0.0.1:{{second.Port}}":3,"127.0.0.1:{{third.Port}}":1,"127.0.0.1:1":0} } }""");
        List<string> answers = [];
        for (var i = 0; i < 8; i++)
        {
            answers.Add((await GetAsync("/w")).Body);
        }
        Assert.Equal((6, 2), (answers.Count(body => body == "second"), answers.Count(body => body == "third")));

        await _gateway.PutAsync("/routes/p", $$"""
            {"uri":"/p","upstream":{"type":"roundrobin","nodes":[
              {"host":"127.0.0.1","port":1,"weight":1,"priority":1},{"host":"127.0.0.1","port":{{third.Port}},"weight":1,"priority":0}]} }
            """);
        Assert.Equal((200, "third"), await StatusAndBodyAsync("/p"));
        await _gateway.PutAsync("/routes/r",
            $$"""{"uri":"/r","upstream":{"type":"roundrobin","retries":0,"nodes":[{"host":"127.0.0.1","port":1,"weight":1,"priority":1},{"host":"127.0.0.1","port":{{third.Port}},"weight":1,"priority":0}]} }""");
        Assert.Equal(502, (await GetAsync("/r")).Status);

        async Task<(int, string)> StatusAndBodyAsync(string path)
        {
            var (status, body, _) = await GetAsync(path);
            return (status, body);
        }
    }

    [Fact]
    public async Task A_reset_before_the_answer_is_retried_unless_the_request_must_not_be_sent_twice()
    {
        await using var resetting = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            connection.Reset();
        });
        await using var good = await WebOrigin.StartAsync("good");
        await _gateway.PutAsync("/routes/retry", $$"""
            {"uri":"/retry","upstream":{"type":"roundrobin","nodes":[
              {"host":"127.0.0.1","port":{{resetting.Port}},"weight":1,"priority":1},{"host":"127.0.0.1","port":{{good.Port}},"weight":1,"priority":0}]} }
            """);
        var (status, body, _) = await GetAsync("/retry");
        Assert.Equal((200, "good"), (status, body));
        Assert.Equal(502, (await GetAsync("/retry", "POST", "pay")).Status);
    }

    [Fact]
    public async Task Upstreams_and_services_are_found_by_id_and_change_at_once()
    {
        await using var second = await WebOrigin.StartAsync("second");
        await _gateway.PutAsync("/upstreams/u", $$"""{"type":"roundrobin","nodes":{"127.0.0.1:{{_origin.Port}}":1} }""");
        await _gateway.PutAsync("/services/s", """{"upstream_id":"u","hosts":["svc.test"]}""");
        await _gateway.PutAsync("/routes/s", """{"uri":"/s","service_id":"s"}""");
        Assert.StartsWith("GET /s ", (await GetAsync("/s", headers: ("Host", "svc.test"))).Body, StringComparison.Ordinal);
        Assert.Equal(404, (await GetAsync("/s")).Status);
        await _gateway.PutAsync("/upstreams/u", $$"""{"type":"roundrobin","nodes":{"127.0.0.1:{{second.Port}}":1} }""");
        Assert.Equal("second", (await GetAsync("/s", headers: ("Host", "svc.test"))).Body);
    }

    [Fact]
    public async Task Rewriting_plugins_change_request_and_answer()
    {
        await _gateway.RouteAsync("rewrite", "/old/*", _origin.Port,
            """ "plugins":{"proxy-rewrite":{"regex_uri":["^/old/(.*)","/new/$1"],"method":"PUT","host":"rewritten.test","headers":{"set":{"X-Set":"$remote_addr"},"remove":["X-Gone"]}},"response-rewrite":{"status_code":201,"headers":{"add":["X-Added: 1"]},"filters":[{"regex":"PUT","replace":"put","scope":"once"}]},"request-id":{}} """);
        var (status, echo, answer) = await GetAsync("/old/path?q=1", headers: ("X-Gone", "1"));
        Assert.Equal(201, status);
        Assert.StartsWith("put /new/path?q=1 HTTP/1.1\r\n", echo, StringComparison.Ordinal);
        Assert.Contains("\r\nHost: rewritten.test\r\n", echo, StringComparison.Ordinal);
        Assert.Contains("\r\nX-Set: 127.0.0.1\r\n", echo, StringComparison.Ordinal);
        Assert.DoesNotContain("X-Gone", echo, StringComparison.Ordinal);
        Assert.Equal(["1"], answer.Headers.GetValues("X-Added"));
        var id = Assert.Single(answer.Headers.GetValues("X-Request-Id"));
        Assert.Contains($"X-Request-Id: {id}\r\n", echo, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Cors_redirect_and_ip_restriction_answer_for_the_upstream()
    {
        await _gateway.RouteAsync("cors", "/cors", _origin.Port,
            """ "plugins":{"cors":{"allow_origins":"https://a.test","allow_methods":"GET,POST"}} """);
        var (preflight, _, allowed) = await GetAsync("/cors", "OPTIONS",
            headers: [("Origin", "https://a.test"), ("Access-Control-Request-Method", "POST")]);
        Assert.Equal((200, "https://a.test"), (preflight, allowed.Headers.GetValues("Access-Control-Allow-Origin").Single()));
        var (_, _, other) = await GetAsync("/cors", headers: ("Origin", "https://b.test"));
        Assert.False(other.Headers.Contains("Access-Control-Allow-Origin"));
        await _gateway.RouteAsync("https", "/https", _origin.Port, """ "plugins":{"redirect":{"http_to_https":true}} """);
        var (redirected, _, answer) = await GetAsync("/https?q=1");
        Assert.Equal(301, redirected);
        Assert.StartsWith("https://127.0.0.1", answer.Headers.Location!.ToString(), StringComparison.Ordinal);
        await _gateway.RouteAsync("ip", "/ip", _origin.Port,
            """ "plugins":{"ip-restriction":{"whitelist":["10.0.0.0/8"],"message":"not you"}} """);
        var (forbidden, body, _) = await GetAsync("/ip");
        Assert.Equal((403, "{\"message\":\"not you\"}"), (forbidden, body.TrimEnd()));
    }

    [Fact]
    public async Task Prometheus_shows_APISIXs_metrics()
    {
        await _gateway.RouteAsync("counted", "/counted", _origin.Port, """ "plugins":{"prometheus":{}} """);
        Assert.Equal(200, (await GetAsync("/counted")).Status);
        var (text, watch) = ("", System.Diagnostics.Stopwatch.StartNew());
        // counted when the answer has been sent
        while (!text.Contains("apisix_http_status{code=\"200\",route=\"counted\"", StringComparison.Ordinal))
        {
            Assert.True(watch.Elapsed.TotalSeconds < 30, text);
            text = await _gateway.Client.GetStringAsync(new Uri($"http://{_gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics"),
                TestContext.Current.CancellationToken);
        }
        foreach (var name in (string[])["apisix_http_requests_total", "apisix_http_latency_bucket", "apisix_bandwidth",
            "apisix_nginx_http_current_connections", "apisix_node_info", "apisix_upstream_status"])
        {
            Assert.True(text.Contains(name, StringComparison.Ordinal), $"no {name} in\n{text}");
        }
    }
}

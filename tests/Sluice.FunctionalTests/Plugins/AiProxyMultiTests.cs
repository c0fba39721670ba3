using System.Net;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>ai-proxy-multi between clients and several providers, and ai-rate-limiting with it.</summary>
public sealed class AiProxyMultiTests
{
    static string Instance(string name, int port, string more = "") => $$"""
        {"name":"{{name}}","provider":"openai-compatible","weight":1,"auth":{"header":{"Authorization":"Bearer {{name}}"} },"override":{"endpoint":"http://127.0.0.1:{{port}}"},"options":{"model":"mock/tokens=2"}{{more}} }
        """;

    static Task RouteAsync(TestGateway gateway, string instances, string more = "", string plugins = "") =>
        gateway.PutAsync("/routes/r1",
            $$$"""{"uri":"/*","plugins":{"ai-proxy-multi":{"instances":[{{{instances}}}]{{{more}}} }{{{plugins}}} } }""");

    static async Task<(int Status, string Body, HttpResponseMessage Response)> AskAsync(TestGateway gateway, bool stream = false,
        string body = "")
    {
        var content = new StringContent(body.Length > 0 ? body
            : $$"""{"messages":[{"role":"user","content":"hi"}],"stream":{{(stream ? "true" : "false")}}}""", Encoding.UTF8,
            "application/json");
        var response = await gateway.Client.PostAsync(gateway.Url("/v1/chat/completions"), content);
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync(), response);
    }

    /// <summary>Its model fails so.</summary>
    static string Fails(string name, int port, string script, string more = "") =>
        Instance(name, port, more).Replace("mock/tokens=2", $"mock/{script}", StringComparison.Ordinal);

    [Theory]
    [InlineData("status=429", """["http_429"]""")]
    [InlineData("status=503", "\"http_5xx\"")]
    [InlineData("status=402", "[]", ""","fallback_http_statuses":[402]""")]
    public async Task A_client_sees_nothing_of_an_instance_that_refuses(string script, string strategy, string more = "")
    {
        await using var first = await MockProvider.StartAsync();
        await using var second = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(
            gateway, $"{Fails("first", first.Port, script, ""","priority":1""")},{Instance("second", second.Port)}",
            $$""","fallback_strategy":{{strategy}}{{more}}""");
        var (status, body, _) = await AskAsync(gateway, stream: true);
        Assert.Equal((200, string.Concat(MockProvider.EventsOf("/v1/chat/completions", "mock/tokens=2"))), (status, body));
        Assert.Equal(("Bearer first", "Bearer second"),
            (Assert.Single(first.Requests).Headers["Authorization"], Assert.Single(second.Requests).Headers["Authorization"]));
        await gateway.ErrorLogSaysAsync("falling back to second. upstream error body: {\"error\":{\"message\":\"the mock refuses\"");
    }

    [Fact]
    public async Task An_instance_that_cannot_be_reached_is_passed_over()
    {
        await using var second = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, $"{Instance("first", 1, ""","priority":1""")},{Instance("second", second.Port)}",
            ""","fallback_strategy":["http_5xx"]""");
        Assert.Equal(200, (await AskAsync(gateway)).Status);
    }

    [Fact]
    public async Task What_nobody_has_said_to_try_again_is_the_clients()
    {
        await using var first = await MockProvider.StartAsync();
        await using var second = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, $"{Fails("first", first.Port, "status=503", ""","priority":1""")},{Instance("second", second.Port)}",
            ""","fallback_strategy":["http_429"]""");
        Assert.Equal(503, (await AskAsync(gateway)).Status);
        Assert.Empty(second.Requests);
    }

    [Fact]
    public async Task When_none_is_left_the_client_gets_the_last_ones_words()
    {
        await using var first = await MockProvider.StartAsync();
        await using var second = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, $"{Fails("first", first.Port, "status=500")},{Fails("second", second.Port, "status=500")}",
            ""","fallback_strategy":["http_5xx"]""");
        var (status, body, _) = await AskAsync(gateway);
        Assert.Equal((502, """{"error":{"message":"the mock refuses","type":"mock_error","param":null,"code":"mock"}}"""), (status, body));
        Assert.Equal((1, 1), (first.Requests.Count, second.Requests.Count));
    }

    [Fact]
    public async Task Only_so_many_instances_are_tried()
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        var instances = string.Join(',', Enumerable.Range(1, 4).Select(number => Fails($"i{number}", provider.Port, "status=500")));
        await RouteAsync(gateway, instances, ""","fallback_strategy":["http_5xx"],"max_retries":2""");
        Assert.Equal(500, (await AskAsync(gateway)).Status);
        Assert.Equal(3, provider.Requests.Count);
        await gateway.ErrorLogSaysAsync("reached max_retries 2, not retrying");
    }

    [Fact]
    public async Task Requests_are_spread_by_weight_and_a_key_stays_with_its_instance()
    {
        await using var first = await MockProvider.StartAsync();
        await using var second = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        var instances =
            $"{Instance("first", first.Port).Replace("\"weight\":1", "\"weight\":3", StringComparison.Ordinal)},{Instance("second", second.Port)}";
        await RouteAsync(gateway, instances);
        for (var i = 0; i < 8; i++)
        {
            Assert.Equal(200, (await AskAsync(gateway)).Status);
        }
        Assert.Equal((6, 2), (first.Requests.Count, second.Requests.Count));
        await RouteAsync(gateway, instances, ""","balancer":{"algorithm":"chash","hash_on":"vars","key":"uri"}""");
        for (var i = 0; i < 8; i++)
        {
            Assert.Equal(200, (await AskAsync(gateway)).Status);
        }
        Assert.True((first.Requests.Count, second.Requests.Count) is (14, 2) or (6, 10));
    }

    [Fact]
    public async Task An_unhealthy_instance_is_left_out_and_asked_as_requests_are()
    {
        await using var sick = await MockProvider.StartAsync("status=500");
        await using var well = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        const string Checks =
            ""","checks":{"active":{"type":"http","http_path":"/status","unhealthy":{"interval":1,"http_failures":1},"healthy":{"interval":1,"successes":1}}}""";
        await RouteAsync(gateway, $"{Instance("sick", sick.Port, $"{Checks},\"priority\":1")},{Instance("well", well.Port)}");
        _ = await AskAsync(gateway);
        await Eventually.TrueAsync(() =>
            sick.Requests.Any(seen => seen.Target == "/status" && seen.Headers["Authorization"] == "Bearer sick"),
            "its health was not asked for", seconds: 30);
        await Eventually.HoldsAsync(
            async () =>
            {
                var before = well.Requests.Count;
                _ = await AskAsync(gateway);
                return well.Requests.Count > before;
            },
            "the well one is asked",
            seconds: 30);
    }

    [Theory]
    [InlineData("""{"limit":10,"time_window":1000,"rejected_code":429,"rejected_msg":"no more"}""", "10 10 1000", 1)]
    [InlineData("""{"limit":20,"time_window":1000,"rejected_code":429,"rejected_msg":"no more"}""", "20 20 1000", 2)]
    [InlineData("""{"limit":20,"time_window":1000,"limit_strategy":"completion_tokens","rejected_code":429,"rejected_msg":"no more"}""",
        "20 20 1000", 10)]
    [InlineData(
        """{"limit":20,"time_window":1000,"limit_strategy":"expression","cost_expr":"max(prompt_tokens, 3) * 2 + missing","rejected_code":429,"rejected_msg":"no more"}""", "20 20 1000", 1)]
    [InlineData("""{"instances":[{"name":"only","limit":15,"time_window":1000}],"rejected_code":429,"rejected_msg":"no more"}""",
        "15 15 1000", 2)]
    public async Task A_window_closes_when_its_tokens_are_used(string limits, string headers, int passing)
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, Instance("only", provider.Port), plugins: $$$""","ai-rate-limiting":{{{limits}}}""");
        for (var i = 0; i < passing; i++)
        {
            var (status, _, response) = await AskAsync(gateway, stream: i % 2 == 1);
            Assert.Equal(200, status);
            if (i == 0)
            {
                Assert.Equal(headers,
                    string.Join(' ',
                        ((string[])["Limit", "Remaining", "Reset"]).Select(word => response.Headers.GetValues($"X-AI-RateLimit-{word}-only")
                            .Single())));
            }
        }
        // what a request took is counted when its answer is out
        await Eventually.HoldsAsync(async () => (await AskAsync(gateway)) is (429, "{\"error_msg\":\"no more\"}\n", _),
            "the window is closed");
    }

    [Fact]
    public async Task An_instance_without_tokens_left_is_passed_over()
    {
        await using var first = await MockProvider.StartAsync();
        await using var second = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(
            gateway, $"{Instance("first", first.Port, ""","priority":1""")},{Instance("second", second.Port)}",
            ""","fallback_strategy":["rate_limiting"]""",
            ""","ai-rate-limiting":{"instances":[{"name":"first","limit":1,"time_window":1000},{"name":"second","limit":1,"time_window":1000}]}""");
        Assert.Equal(200, (await AskAsync(gateway)).Status);
        await Eventually.HoldsAsync(async () => (await AskAsync(gateway)) is (503, "all servers tried", _), "both have nothing left");
        Assert.All((MockProvider[])[first, second], provider => Assert.NotEmpty(provider.Requests));
    }
}

using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>public-api, batch-requests, node-status, error-page.</summary>
public class PluginApiTests
{
    static Task PublishAsync(TestGateway gateway, string uri, string plugin = "{}", string more = "") =>
        gateway.PutAsync($"/routes/api{uri.GetHashCode(StringComparison.Ordinal):x}",
            $$"""{"uri":"{{uri}}","plugins":{"public-api":{{plugin}}{{more}} } }""");

    static async Task<(HttpStatusCode Status, JsonNode? Body)> BatchAsync(TestGateway gateway, string json,
        string path = "/apisix/batch-requests")
    {
        using var request = new HttpRequestMessage(HttpMethod.Post,
            gateway.Url(path)) { Content = new StringContent(json, Encoding.UTF8, "application/json") };
        request.Headers.Add("x-outer", "o");
        using var response = await gateway.Client.SendAsync(request);
        return (response.StatusCode, JsonNode.Parse(await response.Content.ReadAsStringAsync()));
    }

    [Fact]
    public async Task A_plugins_api_is_reachable_only_through_a_route_with_public_api()
    {
        await using var gateway = await TestGateway.StartAsync();
        Assert.Equal(HttpStatusCode.NotFound, (await gateway.Client.GetAsync(gateway.Url("/apisix/status"))).StatusCode);
        await PublishAsync(gateway, "/mine", """{"uri":"/apisix/status"}""");
        await PublishAsync(gateway, "/nothing");
        await PublishAsync(gateway, "/apisix/prometheus/metrics");

        var status = JsonNode.Parse(await gateway.Client.GetStringAsync(gateway.Url("/mine")))!;
        Assert.Equal(Environment.MachineName, (string?)status["id"]);
        Assert.Equal("1", (string?)status["status"]!["active"]);
        Assert.Equal("1", (string?)status["status"]!["writing"]);
        Assert.Equal("2", (string?)status["status"]!["total"]);
        Assert.Equal(HttpStatusCode.NotFound, (await gateway.Client.GetAsync(gateway.Url("/nothing"))).StatusCode);
        Assert.Contains("apisix_http_requests_total", await gateway.Client.GetStringAsync(gateway.Url("/apisix/prometheus/metrics")),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_batch_runs_each_request_through_its_route_and_gathers_the_answers()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await PublishAsync(gateway, "/apisix/batch-requests");
        await gateway.RouteAsync("r1", "/one", origin.Port);
        await gateway.RouteAsync("r2", "/two", origin.Port, """ "plugins":{"ip-restriction":{"blacklist":["127.0.0.1"]}} """);

        var (status, answers) = await BatchAsync(gateway,
            """
            {"headers":{"x-common":"c"},"query":{"q":"1"},"pipeline":[
              {"path":"/one","query":{"own":"a b"},"headers":{"x-own":"own"}},
              {"method":"POST","path":"/one","body":"hello"},
              {"path":"/two"},
              {"path":"/none"},
              {"method":"POST","path":"/apisix/batch-requests","body":"{\"pipeline\":[{\"path\":\"/one\"}]}"}
            ]}
            """);

        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Equal([200, 200, 403, 404, 400], answers!.AsArray().Select(answer => (int)answer!["status"]!));
        var first = (string)answers[0]!["body"]!;
        Assert.StartsWith("GET /one?own=a+b&q=1 HTTP/1.1\r\n", first, StringComparison.Ordinal);
        Assert.Contains("x-own: own\r\n", first, StringComparison.Ordinal);
        Assert.Contains("x-common: c\r\n", first, StringComparison.Ordinal);
        Assert.Contains("x-outer: o\r\n", first, StringComparison.Ordinal);
        Assert.DoesNotContain("content-type: application/json", first, StringComparison.OrdinalIgnoreCase);
        Assert.EndsWith("\r\n\r\nhello", (string?)answers[1]!["body"], StringComparison.Ordinal);
        Assert.Equal("text/plain", (string?)answers[0]!["headers"]!["Content-Type"]);
        Assert.Equal("OK", (string?)answers[0]!["reason"]);
    }

    [Fact]
    public async Task A_slow_request_of_a_batch_is_a_504_and_the_others_are_answered()
    {
        await using var slow = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
            await connection.StallAsync();
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await PublishAsync(gateway, "/apisix/batch-requests");
        await gateway.RouteAsync("r1", "/one", origin.Port);
        await gateway.RouteAsync("r2", "/slow", slow.Port);

        var (_, answers) = await BatchAsync(gateway, """{"timeout":1000,"pipeline":[{"path":"/slow"},{"path":"/one"}]}""");
        Assert.Equal([504, 200], answers!.AsArray().Select(answer => (int)answer!["status"]!));
        Assert.Equal("upstream timeout", (string?)answers[0]!["reason"]);
    }

    [Theory]
    [InlineData("{\"pipeline\":[]}", 400,
        "bad request body: property \"pipeline\" validation failed: expect array to have at least 1 items")]
    [InlineData("{", 400, "invalid request body: {, err: Expected object key string but found T_END at character 2")]
    [InlineData("", 400, "no request body, you should give at least one pipeline setting")]
    [InlineData("{\"pipeline\":[{\"path\":\"/0123456789012345678901234567890123456789\"}]}", 413,
        "request size 67 is greater than the maximum size 50 allowed")]
    public async Task Bad_batches_are_told_what_is_wrong(string json, int status, string error)
    {
        await using var gateway = await TestGateway.StartAsync();
        await PublishAsync(gateway, "/apisix/batch-requests");
        await gateway.PutAsync("/plugin_metadata/batch-requests", """{"max_body_size":50}""");
        var (answered, body) = await BatchAsync(gateway, json);
        Assert.Equal((status, error), ((int)answered, (string?)body!["error_msg"]));
    }

    [Fact]
    public async Task Error_pages_replace_the_gateways_errors_and_leave_the_upstreams_alone()
    {
        await using var failing = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nown");
        });
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/plugin_metadata/error-page",
            """{"enable":true,"error_404":{"body":"<h1>nothing</h1>"},"error_403":{"body":"no","content_type":"text/plain"},"error_502":{}}""");
        await gateway.PutAsync("/global_rules/1", """{"plugins":{"error-page":{}}}""");
        await gateway.RouteAsync("r1", "/own", failing.Port);
        await gateway.RouteAsync("r2", "/no", failing.Port, """ "plugins":{"ip-restriction":{"blacklist":["127.0.0.1"]}} """);
        await gateway.RouteAsync("r3", "/dead", 1);

        async Task<(int Status, string? Type, string Body)> GetAsync(string path)
        {
            using var response = await gateway.Client.GetAsync(gateway.Url(path));
            return ((int)response.StatusCode, response.Content.Headers.ContentType?.ToString(), await response.Content.ReadAsStringAsync());
        }
        Assert.Equal((404, "text/html", "<h1>nothing</h1>"), await GetAsync("/none"));
        Assert.Equal((404, null, "own"), await GetAsync("/own"));
        Assert.Equal((403, "text/plain", "no"), await GetAsync("/no"));
        Assert.Contains("502 Bad Gateway", (await GetAsync("/dead")).Body, StringComparison.Ordinal);
    }
}

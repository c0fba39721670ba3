using System.Net;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>An Open Policy Agent, as far as its data API goes, decides about requests.</summary>
public sealed class OpaTests
{
    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("""{"host":"http://a"}""", "property \"policy\" is required")]
    [InlineData("""{"host":3233,"policy":"p"}""", "property \"host\" validation failed: wrong type: expected string, got number")]
    [InlineData("""{"host":"a:8181","policy":"p"}""", "property \"host\" must be a URL that begins with http:// or https://")]
    public async Task What_cannot_be_is_refused(string config, string error)
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:1":1} },"plugins":{"opa":{{config}} } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.EndsWith(error, (string)body!["error_msg"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_policy_sees_the_request_and_what_it_is_told_of_the_configuration()
    {
        var asked = new TaskCompletionSource<(string Target, string? Type, JsonNode Input)>();
        await using var agent = await WebOrigin.StartAsync(async context =>
        {
            var input = await JsonNode.ParseAsync(context.Request.Body, cancellationToken: Cancel);
            asked.TrySetResult(($"{context.Request.Method} {context.Request.Path}", context.Request.ContentType, input!["input"]!));
            await context.Response.WriteAsync("""{"result":{"allow":true}}""", Cancel);
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/consumers/jack", """{"username":"jack","plugins":{"key-auth":{"key":"jack-key"} } }""");
        await gateway.PutAsync("/services/s1", """{"name":"shop","plugins":{"key-auth":{} },"upstream":{"nodes":{"127.0.0.1:1":1} } }""");
        await gateway.RouteAsync("r1", "/*", origin.Port,
            $$""" "service_id":"s1","plugins":{"opa":{"host":"http://127.0.0.1:{{agent.Port}}","policy":"a/b","with_route":true,"with_service":true,"with_consumer":true} } """);
        using var response = await AskAsync(gateway, "/x%20y?a=1&a=2&b&c=%C3%A4", ("apikey", "jack-key"), ("X-Two", "1"), ("X-Two", "2"));
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var (target, type, input) = await asked.Task;
        Assert.Equal(("POST /v1/data/a/b", "application/json"), (target, type));
        var request = input["request"]!;
        Assert.Equal("""{"a":["1","2"],"b":true,"c":"ä"}""",
            request["query"]!.ToJsonString(new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }));
        Assert.Equal(("http", "GET", "127.0.0.1", gateway.EndPoint.Port, "/x y", "jack-key"),
            ((string?)request["scheme"], (string?)request["method"], (string?)request["host"], (int?)request["port"],
                (string?)request["path"], (string?)request["headers"]!["apikey"]));
        Assert.Equal(("http", "127.0.0.1", "127.0.0.1", $"{gateway.EndPoint.Port}"),
            ((string?)input["type"], (string?)input["var"]!["remote_addr"], (string?)input["var"]!["server_addr"],
                (string?)input["var"]!["server_port"]));
        Assert.True((long?)input["var"]!["timestamp"] > 1_600_000_000);
        Assert.Equal(("r1", "s1", "shop", "jack", "jack-key"),
            ((string?)input["route"]!["id"], (string?)input["service"]!["id"], (string?)input["service"]!["name"],
                (string?)input["consumer"]!["username"],
                (string?)input["consumer"]!["plugins"]!["key-auth"]!["key"]));
        Assert.Null(input["route"]!["upstream"]);
        Assert.Null(input["service"]!["upstream"]);
    }

    [Theory]
    [InlineData("""{"result":{"allow":false}}""", 403, null)]
    [InlineData("""{"result":{}}""", 403, null)]
    [InlineData("""{"result":{"allow":null}}""", 403, null)]
    [InlineData("""{"result":{"allow":"true"}}""", 403, null)]
    [InlineData("""{"result":{"allow":false,"status_code":401,"reason":"Give you a string reason"}}""", 401, "Give you a string reason")]
    [InlineData("""{"result":{"allow":false,"reason":{"code":40001,"list":[]}}}""", 403, """{"code":40001,"list":[]}""")]
    [InlineData("""{"result":{"allow":false,"status_code":302,"headers":{"Location":"http://login.test/","Content-Length":"9"}}}""", 302,
        null)]
    [InlineData("""{"result":true}""", 503, null)]
    [InlineData("{}", 503, null)]
    [InlineData("not JSON", 503, null)]
    public async Task What_is_not_allowed_is_answered_as_the_policy_says(string decision, int status, string? body)
    {
        await using var agent = await WebOrigin.StartAsync(decision);
        var reached = false;
        await using var origin = EchoOrigin.Start(() => reached = true);
        await using var gateway = await StartAsync(agent.Port, origin);
        using var response = await AskAsync(gateway, "/");
        Assert.Equal(status, (int)response.StatusCode);
        var text = await response.Content.ReadAsStringAsync(Cancel);
        Assert.True(body is null ? text.StartsWith("<html>", StringComparison.Ordinal) : body == text, text);
        Assert.Equal(status == 302 ? "http://login.test/" : null, response.Headers.Location?.ToString());
        Assert.False(reached);
    }

    [Fact]
    public async Task An_agent_that_is_away_lets_nobody_in()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(1, origin);
        using var response = await AskAsync(gateway, "/");
        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        await gateway.ErrorLogSaysAsync("failed to process OPA decision, err: connection refused");
    }

    [Fact]
    public async Task Headers_of_the_decision_go_to_the_upstream_and_a_clients_own_never_do()
    {
        await using var agent = await WebOrigin.StartAsync(
            """{"result":{"allow":true,"headers":{"user":"jack\r\nx-evil: 1","level":7,"other":"x"}}}""");
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(agent.Port, origin, ""","send_headers_upstream":["user","level","role"]""");
        using var response = await AskAsync(gateway, "/", ("User", "root"), ("Role", "admin"));
        var sent = await response.Content.ReadAsStringAsync(Cancel);
        Assert.Contains("\r\nuser: jack%0D%0Ax-evil: 1\r\n", sent, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("\r\nlevel: 7\r\n", sent, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("role:", sent, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("other:", sent, StringComparison.OrdinalIgnoreCase);
    }

    static async Task<TestGateway> StartAsync(int port, ScriptedOrigin origin, string more = "")
    {
        var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port,
            $$""" "plugins":{"opa":{"host":"http://127.0.0.1:{{port}}","policy":"example"{{more}}} } """);
        return gateway;
    }

    static async Task<HttpResponseMessage> AskAsync(TestGateway gateway, string path, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url(path));
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        return await gateway.Client.SendAsync(request, Cancel);
    }
}

using System.Net;

namespace Sluice.FunctionalTests.Admin;

public sealed class ControlApiTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync();

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    [Fact]
    public async Task Resources_are_shown_one_by_one_and_all()
    {
        await _gateway.PutAsync("/upstreams/u1", """{"nodes":{"127.0.0.1:1":1}}""");
        await _gateway.PutAsync("/services/s1", """{"upstream_id":"u1"}""");
        await _gateway.PutAsync("/routes/r1", """{"uri":"/r1","service_id":"s1"}""");
        foreach (var (one, all) in new[] { ("route/r1", "routes"), ("service/s1", "services"), ("upstream/u1", "upstreams") })
        {
            Assert.Equal($"/apisix/{all}/{one.Split('/')[1]}", (string?)(await _gateway.ControlAsync($"/v1/{one}"))["key"]);
            Assert.Single((await _gateway.ControlAsync($"/v1/{all}")).AsArray());
        }
        using var missing = await SendAsync(HttpMethod.Get, "/v1/route/nope");
        Assert.Equal(HttpStatusCode.NotFound, missing.StatusCode);
    }

    [Fact]
    public async Task The_effective_configuration_tells_where_everything_came_from_and_no_secret()
    {
        await _gateway.PutAsync("/consumers", """{"username":"jack","plugins":{"key-auth":{"key":"hush"}}}""");
        await _gateway.PutAsync("/upstreams/u1", """{"nodes":{"127.0.0.1:1":1}}""");
        await _gateway.PutAsync("/services/s1", """{"hosts":["a.test"],"upstream_id":"u1","plugins":{"request-id":{},"key-auth":{}}}""");
        await _gateway.PutAsync("/plugin_configs/p1", """{"plugins":{"cors":{}}}""");
        await _gateway.PutAsync("/routes/r1", """{"uri":"/r1","service_id":"s1","plugin_config_id":"p1","plugins":{"key-auth":{"header":"x"}}}""");
        await _gateway.PutAsync("/global_rules/1", """{"plugins":{"ip-restriction":{"whitelist":["127.0.0.1"]}}}""");
        var config = await _gateway.ControlAsync("/v1/config");
        Assert.DoesNotContain("hush", config.ToJsonString());
        Assert.Equal("***", (string?)config["resources"]!["consumers"]![0]!["value"]!["plugins"]!["key-auth"]!["key"]);
        var route = config["effective_routes"]!["r1"]!;
        Assert.Equal("upstreams/u1", (string?)route["upstream"]);
        Assert.Equal("a.test", (string?)route["hosts"]![0]);
        Assert.Equal(["request-id: service s1", "cors: plugin_config p1", "key-auth: route r1"],
            route["plugins"]!.AsArray().Select(plugin => $"{plugin!["name"]}: {plugin["from"]}"));
        Assert.Equal("ip-restriction", (string?)config["global_plugins"]![0]!["name"]);
        Assert.Equal("embedded", (string?)config["config_provider"]);
    }

    [Theory]
    [InlineData("POST", "/v1/gc", 200)]
    [InlineData("GET", "/v1/gc", 404)]
    [InlineData("PUT", "/v1/plugins/reload", 200)]
    [InlineData("POST", "/v1/config", 404)]
    public async Task Commands_have_their_methods(string method, string path, int status)
    {
        using var answer = await SendAsync(new HttpMethod(method), path);
        Assert.Equal(status, (int)answer.StatusCode);
    }

    async Task<HttpResponseMessage> SendAsync(HttpMethod method, string path)
    {
        using var request = new HttpRequestMessage(method, $"http://{_gateway.Gateway.ControlEndpoint}{path}");
        return await _gateway.Client.SendAsync(request);
    }
}

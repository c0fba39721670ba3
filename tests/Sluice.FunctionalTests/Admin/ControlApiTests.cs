using System.Net;
using System.Text.Json.Nodes;

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
        Assert.Equal("""[{"host":"127.0.0.1","weight":1,"port":1}]""",
            (await _gateway.ControlAsync("/v1/upstream/u1"))["value"]!["nodes"]!.ToJsonString());
        await _gateway.PutAsync("/plugin_configs/p1", """{"plugins":{"cors":{}}}""");
        await _gateway.PutAsync("/routes/r2", """{"uri":"/r2","plugins":{"cors":{}},"upstream":{"nodes":{"127.0.0.1:1":1}}}""");
        Assert.Equal("{}", (await _gateway.ControlAsync("/v1/route/r2"))["value"]!["plugins"]!["cors"]!["_meta"]!.ToJsonString());
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
        await _gateway.PutAsync("/routes/r1",
            """{"uri":"/r1","service_id":"s1","plugin_config_id":"p1","plugins":{"key-auth":{"header":"x"}}}""");
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

    [Fact]
    public async Task Nothing_secret_leaves_it()
    {
        using var ca = new TestAuthority();
        var (certificate, key) = ca.Issue("gateway", client: true);
        var upstream = new JsonObject { ["scheme"] = "https", ["nodes"] = new JsonObject { ["127.0.0.1:1"] = 1 },
            ["tls"] = new JsonObject { ["client_cert"] = certificate, ["client_key"] = key } };
        await _gateway.PutAsync("/upstreams/u1", upstream.ToJsonString());
        await _gateway.PutAsync("/services/s1", new JsonObject { ["upstream"] = upstream.DeepClone() }.ToJsonString());
        await _gateway.PutAsync("/routes/r1", new JsonObject { ["uri"] = "/r1", ["upstream"] = upstream.DeepClone() }.ToJsonString());
        await _gateway.PutAsync("/secrets/vault/1", """{"uri":"http://127.0.0.1:1","prefix":"kv/apisix","token":"hvs.hush"}""");
        await _gateway.PutAsync("/consumers", """{"username":"jack","plugins":{"key-auth":{"key":"hush-key"}}}""");
        foreach (var page in (string[])["routes", "route/r1", "services", "service/s1", "upstreams", "upstream/u1", "config"])
        {
            var text = (await _gateway.ControlAsync("/v1/" + page)).ToJsonString();
            Assert.Contains("***", text);
            Assert.DoesNotContain("PRIVATE KEY", text);
            Assert.DoesNotContain("hush", text);
        }
    }

    [Theory]
    [InlineData("rebound.test", 421)]
    [InlineData("rebound.test.:80", 421)]
    [InlineData("localhost", 200)]
    [InlineData("LOCALHOST.:9090", 200)]
    [InlineData("127.0.0.1", 200)]
    [InlineData("[::1]:9090", 200)]
    public async Task A_name_that_a_stranger_pointed_here_is_refused(string host, int status)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"http://{_gateway.Gateway.ControlEndpoint}/v1/config");
        request.Headers.TryAddWithoutValidation("Host", host);
        using var answer = await _gateway.Client.SendAsync(request);
        Assert.Equal(status, (int)answer.StatusCode);
    }

    [Fact]
    public async Task Names_of_ones_own_are_let_in_and_an_Admin_API_without_key_has_the_same_check()
    {
        var config = TestGateway.Config("sluice:\n  ui: {hosts: [gateway.corp.test]}")
            .Replace("  admin:\n", "  admin:\n    admin_key_required: false\n", StringComparison.Ordinal);
        await using var gateway = await TestGateway.RunAsync(Directory.CreateTempSubdirectory("sluice-test-").FullName, config);
        foreach (var address in (string[])[$"{gateway.Gateway.ControlEndpoint}/v1/config",
            $"{gateway.Gateway.AdminEndpoint}/apisix/admin/routes"])
        {
            foreach (var (host, status) in (ReadOnlySpan<(string, int)>)[("Gateway.corp.test", 200), ("rebound.test", 421)])
            {
                using var request = new HttpRequestMessage(HttpMethod.Get, $"http://{address}");
                request.Headers.Host = host;
                using var answer = gateway.Client.Send(request);
                Assert.Equal(status, (int)answer.StatusCode);
            }
        }
    }

    [Theory]
    [InlineData("POST", "/v1/gc", 200)]
    [InlineData("GET", "/v1/gc", 404)]
    [InlineData("PUT", "/v1/plugins/reload", 200)]
    [InlineData("POST", "/v1/config", 404)]
    public async Task Control_API_paths_answer_to_their_methods_only(string method, string path, int status)
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

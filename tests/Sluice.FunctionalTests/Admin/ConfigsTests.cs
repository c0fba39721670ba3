using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Configuration;

namespace Sluice.FunctionalTests.Admin;

/// <summary>API-driven standalone mode: role traditional, provider yaml, no conf/apisix.yaml.</summary>
public sealed class ConfigsTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.RunAsync(
        Directory.CreateTempSubdirectory("sluice-test-").FullName, TestGateway.Config(standalone: true));

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    static string Routes(string to, string more = "") =>
        $$"""{"routes":[{"id":"r1","uri":"/r1","plugins":{"redirect":{"uri":"{{to}}","ret_code":302} } }]{{more}} }""";

    [Fact]
    public async Task A_configuration_is_put_as_a_whole_and_shown_as_it_was_put()
    {
        using var notReady = await _gateway.Client.GetAsync(new Uri($"http://{_gateway.Gateway.StatusEndpoint}/status/ready"));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, notReady.StatusCode);
        Assert.Equal(0, (int)(await BodyAsync(await SendAsync(HttpMethod.Get)))["routes_conf_version"]!);

        Assert.Equal(HttpStatusCode.Accepted, (await PutAsync(Routes("/1",
            """ ,"consumers":[{"username":"jack"},{"id":"jack/credentials/c1","plugins":{"key-auth":{"key":"k"}}}],"secrets":[{"id":"vault/1","uri":"http://v","prefix":"p","token":"t"}] """), "d1")).StatusCode);
        Assert.Equal("/1", await EtcdGateway.WhereAsync(_gateway, "/r1"));
        Assert.Equal("{\"status\":\"ok\"}\n", await EtcdGateway.ReadyAsync(_gateway));
        using var shown = await SendAsync(HttpMethod.Get);
        Assert.Equal("d1", shown.Headers.GetValues("X-Digest").Single());
        var body = await BodyAsync(shown);
        Assert.Equal(1, (int)body["routes_conf_version"]!);
        Assert.Equal("/r1", (string?)body["routes"]![0]!["uri"]);
        Assert.Equal("jack/credentials/c1", (string?)body["consumers"]![1]!["id"]);
        using var head = await SendAsync(HttpMethod.Head);
        Assert.Equal("d1", head.Headers.GetValues("X-Digest").Single());
        Assert.Equal(2, (int)(await _gateway.AdminAsync(HttpMethod.Get, "/consumers")).Body!["total"]!
            + (int)(await _gateway.AdminAsync(HttpMethod.Get, "/consumers/jack/credentials")).Body!["total"]!);

        // the same digest is the same configuration
        Assert.Equal(HttpStatusCode.NoContent, (await PutAsync(Routes("/ignored"), "d1")).StatusCode);
        Assert.Equal("/1", await EtcdGateway.WhereAsync(_gateway, "/r1"));
    }

    [Fact]
    public async Task A_kind_changes_only_with_a_higher_conf_version()
    {
        Assert.Equal(HttpStatusCode.Accepted, (await PutAsync(Routes("/1", ",\"routes_conf_version\":5"), "d1")).StatusCode);
        Assert.Equal(HttpStatusCode.Accepted, (await PutAsync(Routes("/same-version", ",\"routes_conf_version\":5"), "d2")).StatusCode);
        Assert.Equal("/1", await EtcdGateway.WhereAsync(_gateway, "/r1"));
        await RefusedAsync(Routes("/old", ",\"routes_conf_version\":4"), "routes_conf_version must be greater than or equal to (5)");
        await RefusedAsync(Routes("/old", ",\"routes_conf_version\":\"6\""), "routes_conf_version must be a number");
        Assert.Equal(HttpStatusCode.Accepted, (await PutAsync(Routes("/2", ",\"routes_conf_version\":6"), "d3")).StatusCode);
        Assert.Equal("/2", await EtcdGateway.WhereAsync(_gateway, "/r1"));
        // without a version: the next one; what is not there is gone
        Assert.Equal(HttpStatusCode.Accepted, (await PutAsync("{}", "d4")).StatusCode);
        Assert.Equal("404", await EtcdGateway.WhereAsync(_gateway, "/r1"));
        Assert.Equal(7, (int)(await BodyAsync(await SendAsync(HttpMethod.Get)))["routes_conf_version"]!);
    }

    [Fact]
    public async Task A_refused_configuration_changes_nothing()
    {
        await PutAsync(Routes("/1"), "d1");
        await RefusedAsync("""{"routes":[{"id":"r1","uri":5}]}""",
            "invalid configuration: property \"uri\" validation failed: wrong type: expected string, got number");
        await RefusedAsync("""{"routes":[{"id":"a","uri":"/a","plugins":{}},{"id":"a","uri":"/a","plugins":{}}]}""",
            "found duplicate id a in routes");
        await RefusedAsync("""{"consumers":[{"username":"a"},{"username":"a"}]}""", "found duplicate username a in consumers");
        await RefusedAsync("""{"routes":{"a":1}}""", "routes must be a list");
        await RefusedAsync("""{"routes":[5]}""", "invalid configuration: wrong type: expected object, got number");
        await RefusedAsync("", "invalid request body: empty request body");
        await RefusedAsync("[1]", "invalid request body: expected an object");
        using var without = await SendAsync(HttpMethod.Put, "{}");
        Assert.Equal("missing digest header", (string?)(await BodyAsync(without))["error_msg"]);
        Assert.Equal("/1", await EtcdGateway.WhereAsync(_gateway, "/r1"));
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/routes/r2", """{"uri":"/","plugins":{}}""");
        Assert.Equal((HttpStatusCode.MethodNotAllowed, "the configuration is written as a whole: PUT /apisix/admin/configs"),
            (status, (string?)body!["error_msg"]));
    }

    [Fact]
    public async Task YAML_is_taken_and_given()
    {
        using var put = await SendAsync(HttpMethod.Put,
            "routes:\n  - id: r1\n    uri: /r1\n    plugins: {redirect: {uri: /yaml, ret_code: 302}}\n", "d1", "application/yaml");
        Assert.Equal(HttpStatusCode.Accepted, put.StatusCode);
        Assert.Equal("/yaml", await EtcdGateway.WhereAsync(_gateway, "/r1"));
        using var broken = await SendAsync(HttpMethod.Put, "routes: [", "d2", "application/yaml");
        Assert.StartsWith("invalid request body: ", (string?)(await BodyAsync(broken))["error_msg"]);
    }

    [Fact]
    public async Task A_configuration_can_be_checked_only()
    {
        using var good = await SendAsync(HttpMethod.Post, Routes("/1"), path: "/validate");
        Assert.Equal(HttpStatusCode.OK, good.StatusCode);
        Assert.Equal("404", await EtcdGateway.WhereAsync(_gateway, "/r1"));
        using var bad = await SendAsync(HttpMethod.Post,
            """{"routes":[{"id":"r1","uri":5},{"id":"r2","uri":"/","plugins":{"nope":{}}}],"ssls_conf_version":"x"}""", path: "/validate");
        var body = await BodyAsync(bad);
        Assert.Equal("Configuration validation failed", (string?)body["error_msg"]);
        Assert.Equal(["ssls: ssls_conf_version must be a number, got string", "routes: unknown plugin [nope]"],
            body["errors"]!.AsArray().Where(error => (int?)error!["index"] != 0)
            .Select(error => $"{error!["resource_type"]}: {error["error"]}"));
        Assert.Equal(3, body["errors"]!.AsArray().Count);
        Assert.Equal(["", "r1", "r2"], body["errors"]!.AsArray().Select(error => (string?)error!["resource_id"] ?? "").Order());
    }

    [Fact]
    public async Task Entries_may_be_without_an_id_and_duplicates_are_named_beside_what_else_is_wrong()
    {
        using var good = await SendAsync(HttpMethod.Post, """{"routes":[{"uri":"/a","plugins":{}},{"uri":"/b","plugins":{}}]}""",
            path: "/validate");
        Assert.Equal(HttpStatusCode.OK, good.StatusCode);
        using var bad = await SendAsync(HttpMethod.Post,
            """{"routes":[{"id":"r","uri":"/a","plugins":{}},{"id":"r","uri":5}],"consumers":[{"username":"a"},{"username":"a"}]}""",
            path: "/validate");
        Assert.Equal(["consumers a 1 found duplicate username a in consumers", "routes r 1 found duplicate id r in routes",
            "routes r 1 invalid configuration: property \"uri\" validation failed: wrong type: expected string, got number"],
            (await BodyAsync(bad))["errors"]!.AsArray()
            .Select(error => $"{error!["resource_type"]} {error["resource_id"]} {error["index"]} {error["error"]}")
            .Order(StringComparer.Ordinal));
    }

    async Task RefusedAsync(string json, string error)
    {
        using var answer = await PutAsync(json, Guid.NewGuid().ToString());
        Assert.Equal((HttpStatusCode.BadRequest, error), (answer.StatusCode, (string?)(await BodyAsync(answer))["error_msg"]));
    }

    Task<HttpResponseMessage> PutAsync(string json, string digest) => SendAsync(HttpMethod.Put, json, digest);

    static async Task<JsonNode> BodyAsync(HttpResponseMessage response) => JsonNode.Parse(await response.Content.ReadAsStringAsync())!;

    async Task<HttpResponseMessage> SendAsync(HttpMethod method, string? body = null, string? digest = null,
        string type = "application/json", string path = "")
    {
        using var request = new HttpRequestMessage(method, $"http://{_gateway.Gateway.AdminEndpoint}/apisix/admin/configs{path}");
        request.Headers.Add("X-API-KEY", TestGateway.AdminKey);
        if (digest is not null)
        {
            request.Headers.Add("X-Digest", digest);
        }
        if (body is not null)
        {
            request.Content = new StringContent(body, Encoding.UTF8, new MediaTypeHeaderValue(type));
        }
        return await _gateway.Client.SendAsync(request);
    }
}

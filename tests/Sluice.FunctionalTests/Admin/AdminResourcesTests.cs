using System.Net;
using System.Text.Json.Nodes;

namespace Sluice.FunctionalTests.Admin;

/// <summary>Credentials, consumer groups, protos, secrets, ssls and stream routes through the Admin API.</summary>
public sealed class AdminResourcesTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync(ssl: TestGateway.Https);

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    [Fact]
    public async Task A_credential_belongs_to_its_consumer_and_authenticates_it()
    {
        await _gateway.PutAsync("/routes/r1", """{"uri":"/*","plugins":{"key-auth":{},"redirect":{"uri":"/in","ret_code":302} } }""");
        var early = await _gateway.AdminAsync(HttpMethod.Put, "/consumers/jack/credentials/c1", """{"plugins":{"key-auth":{"key":"one"}}}""");
        Assert.Equal((HttpStatusCode.NotFound, """{"error_msg":"consumer not found"}"""), (early.Status, early.Body?.ToJsonString()));
        await _gateway.PutAsync("/consumers", """{"username":"jack"}""");
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/consumers/jack/credentials/c1", """{"plugins":{"key-auth":{"key":"one"}},"desc":"first"}""");
        Assert.Equal(HttpStatusCode.Created, status);
        Assert.Equal("/apisix/consumers/jack/credentials/c1", (string?)body!["key"]);
        Assert.Equal("c1", (string?)body["value"]!["id"]);
        await _gateway.PutAsync("/consumers/jack/credentials/c2", """{"plugins":{"key-auth":{"key":"two"}}}""");
        await _gateway.PutAsync("/consumers/jackson", """{"username":"jackson"}""");

        Assert.Equal(HttpStatusCode.Found, await StatusAsync("one"));
        Assert.Equal(HttpStatusCode.Found, await StatusAsync("two"));
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync("three"));

        Assert.Equal(2, (int)(await GetAsync("/consumers"))["total"]!);
        Assert.Equal(["c1", "c2"], (await GetAsync("/consumers/jack/credentials"))["list"]!.AsArray().Select(one => (string?)one!["value"]!["id"]));
        Assert.Equal("{\"total\":0,\"list\":[]}", (await GetAsync("/consumers/jackson/credentials")).ToJsonString());
        Assert.Equal("one", (string?)(await GetAsync("/consumers/jack/credentials/c1"))["value"]!["plugins"]!["key-auth"]!["key"]);

        Assert.Equal(HttpStatusCode.OK, (await _gateway.AdminAsync(HttpMethod.Delete, "/consumers/jack/credentials/c1")).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync("one"));
        Assert.Equal(HttpStatusCode.OK, (await _gateway.AdminAsync(HttpMethod.Delete, "/consumers/jack")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await _gateway.AdminAsync(HttpMethod.Get, "/consumers/jack/credentials/c2")).Status);
        await _gateway.PutAsync("/consumers", """{"username":"jack"}""");
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync("two"));
    }

    [Theory]
    [InlineData("PUT", "/consumers/jack/credentials", "{}", 400, "missing credential id")]
    [InlineData("PUT", "/consumers/jack/credentials/c1", """{"id":"c2"}""", 400, "wrong credential id")]
    [InlineData("PUT", "/consumers/jack/credentials/c1", """{"plugins":{"limit-count":{"count":1,"time_window":1}}}""", 400, "only supports auth type plugins in consumer credential")]
    [InlineData("PUT", "/consumers/jack/credentials/c1", """{"plugins":{"key-auth":{}}}""", 400, "invalid plugins configuration: failed to check the configuration of plugin key-auth err: property \"key\" is required")]
    [InlineData("PUT", "/consumers/jack/credentials/c1", """{"plugins":{"key-auth":{"key":"taken"}}}""", 400, "duplicate key found with consumer: jill")]
    [InlineData("POST", "/consumers/jack/credentials", "{}", 405, "not supported `POST` method for credential")]
    [InlineData("PATCH", "/consumers/jack/credentials/c1", "{}", 405, "not supported `PATCH` method for credential")]
    [InlineData("DELETE", "/consumers/jack/credentials", null, 400, "missing credential id")]
    [InlineData("GET", "/credentials", null, 404, "Unsupported resource type: credentials")]
    [InlineData("PUT", "/secrets/vault", "{}", 400, "missing secret id")]
    [InlineData("PUT", "/secrets/azure/1", "{}", 400, "invalid configuration: invalid secret manager: \"azure\", there are vault, aws, gcp")]
    [InlineData("PUT", "/secrets/vault/1", """{"uri":"http://v","token":"t"}""", 400, "invalid configuration: property \"prefix\" is required")]
    [InlineData("POST", "/secrets/vault", "{}", 405, "not supported `POST` method for secret")]
    [InlineData("PUT", "/protos/1", "{}", 400, "invalid configuration: property \"content\" is required")]
    [InlineData("PUT", "/ssls/1", """{"sni":"a.test"}""", 400, "invalid configuration: then clause did not match")]
    [InlineData("PUT", "/stream_routes/1", """{"upstream_id":"nope"}""", 400, "failed to fetch upstream info by upstream id [nope], response code: 404")]
    public async Task What_is_wrong_is_refused_in_APISIXs_words(string method, string path, string? body, int status, string message)
    {
        await _gateway.PutAsync("/consumers", """{"username":"jack"}""");
        await _gateway.PutAsync("/consumers", """{"username":"jill","plugins":{"key-auth":{"key":"taken"}}}""");
        var answer = await _gateway.AdminAsync(new HttpMethod(method), path, body);
        Assert.Equal((status, message), ((int)answer.Status, (string?)answer.Body?["error_msg"]));
    }

    [Fact]
    public async Task Every_kind_can_be_put_read_listed_patched_and_deleted()
    {
        using var ca = new Tls.TestAuthority();
        foreach (var (path, id, value) in new[]
        {
            ("/protos", "p1", """{"content":"syntax = \"proto3\";"}"""),
            ("/secrets/vault", "1", """{"uri":"http://127.0.0.1:8200","prefix":"kv/apisix","token":"t"}"""),
            ("/ssls", "s1", Tls.TestAuthority.Ssl(["a.test"], [ca.Issue("a.test")])),
            ("/stream_routes", "t1", """{"server_port":9100,"upstream":{"nodes":{"127.0.0.1:1995":1},"type":"roundrobin"} }"""),
            ("/consumer_groups", "g1", """{"plugins":{"limit-count":{"count":1,"time_window":60} } }"""),
        })
        {
            var (created, _) = await _gateway.AdminAsync(HttpMethod.Put, $"{path}/{id}", value);
            Assert.Equal(HttpStatusCode.Created, created);
            var (patched, changed) = await _gateway.AdminAsync(HttpMethod.Patch, $"{path}/{id}", """{"labels":{"team":"a"},"desc":"d"}""");
            Assert.Equal((HttpStatusCode.OK, "a"), (patched, (string?)changed!["value"]!["labels"]!["team"]));
            var (nulled, without) = await _gateway.AdminAsync(HttpMethod.Patch, $"{path}/{id}", """{"desc":null}""");
            Assert.Equal((HttpStatusCode.OK, false), (nulled, without!["value"]!.AsObject().ContainsKey("desc")));
            var (subPath, replaced) = await _gateway.AdminAsync(HttpMethod.Patch, $"{path}/{id}/labels", """{"team":"b"}""");
            Assert.Equal((HttpStatusCode.OK, "b"), (subPath, (string?)replaced!["value"]!["labels"]!["team"]));
            Assert.Equal(1, (int)(await GetAsync(path == "/secrets/vault" ? "/secrets" : path))["total"]!);
            var (deleted, _) = await _gateway.AdminAsync(HttpMethod.Delete, $"{path}/{id}");
            Assert.Equal(HttpStatusCode.OK, deleted);
            Assert.Equal(HttpStatusCode.NotFound, (await _gateway.AdminAsync(HttpMethod.Get, $"{path}/{id}")).Status);
        }
    }

    [Fact]
    public async Task A_private_key_is_never_read_back()
    {
        using var ca = new Tls.TestAuthority();
        const string text = "PRIVATE KEY";
        await _gateway.PutAsync("/ssls/1", Tls.TestAuthority.Ssl(["a.test"], [ca.Issue("a.test"), ca.Issue("a.test", rsa: true)]));
        Assert.DoesNotContain(text, (await GetAsync("/ssls/1")).ToJsonString());
        Assert.DoesNotContain(text, (await GetAsync("/ssls")).ToJsonString());
    }

    [Fact]
    public async Task A_proto_or_group_in_use_is_not_deleted()
    {
        await _gateway.PutAsync("/consumer_groups/g1", """{"plugins":{}}""");
        await _gateway.PutAsync("/consumers", """{"username":"jack","group_id":"g1"}""");
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Delete, "/consumer_groups/g1");
        Assert.Equal((HttpStatusCode.BadRequest, "can not delete this consumer group, consumer [jack] is still using it now"), (status, (string?)body!["error_msg"]));
    }

    [Fact]
    public async Task Schemas_of_all_kinds_are_shown_and_validated()
    {
        foreach (var name in new[] { "ssl", "proto", "credential", "secret", "stream_route", "consumer_group", "route" })
        {
            Assert.Equal("object", (string?)(await GetAsync($"/schema/{name}"))["type"]);
        }
        Assert.Equal(HttpStatusCode.OK, (await _gateway.AdminAsync(HttpMethod.Post, "/schema/validate/protos", """{"content":"x"}""")).Status);
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Post, "/schema/validate/protos", "{}");
        Assert.Equal((HttpStatusCode.BadRequest, "property \"content\" is required"), (status, (string?)body!["error_msg"]));
        Assert.NotEmpty((await GetAsync("/plugins?all=true")).AsObject());
        Assert.Contains("key-auth", (await GetAsync("/plugins/list")).AsArray().Select(name => (string?)name));
    }

    async Task<JsonNode> GetAsync(string path)
    {
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Get, path);
        Assert.Equal(HttpStatusCode.OK, status);
        return body!;
    }

    async Task<HttpStatusCode> StatusAsync(string key)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/"));
        request.Headers.Add("apikey", key);
        using var response = await _gateway.Client.SendAsync(request);
        return response.StatusCode;
    }
}

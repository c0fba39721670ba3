using System.Net;
using System.Text.Json.Nodes;

namespace Sluice.FunctionalTests.Admin;

/// <summary>Credentials, consumer groups, protos, secrets, ssls and stream routes through the Admin API.</summary>
public sealed class AdminResourcesTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() =>
        _gateway = await TestGateway.StartAsync(ssl: TestGateway.Https, apisix: "proxy_mode: \"http&stream\"\n");

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    [Fact]
    public async Task A_credential_belongs_to_its_consumer_and_authenticates_it()
    {
        await _gateway.PutAsync("/routes/r1", """{"uri":"/*","plugins":{"key-auth":{},"redirect":{"uri":"/in","ret_code":302} } }""");
        var early = await _gateway.AdminAsync(HttpMethod.Put, "/consumers/jack/credentials/c1",
            """{"plugins":{"key-auth":{"key":"one"}}}""");
        Assert.Equal((HttpStatusCode.NotFound, """{"error_msg":"consumer not found"}"""), (early.Status, early.Body?.ToJsonString()));
        await _gateway.PutAsync("/consumers", """{"username":"jack"}""");
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/consumers/jack/credentials/c1",
            """{"plugins":{"key-auth":{"key":"one"}},"desc":"first"}""");
        Assert.Equal(HttpStatusCode.Created, status);
        Assert.Equal("/apisix/consumers/jack/credentials/c1", (string?)body!["key"]);
        Assert.Equal("c1", (string?)body["value"]!["id"]);
        await _gateway.PutAsync("/consumers/jack/credentials/c2", """{"plugins":{"key-auth":{"key":"two"}}}""");
        await _gateway.PutAsync("/consumers/jackson", """{"username":"jackson"}""");

        Assert.Equal(HttpStatusCode.Found, await StatusAsync("one"));
        Assert.Equal(HttpStatusCode.Found, await StatusAsync("two"));
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync("three"));

        Assert.Equal(2, (int)(await GetAsync("/consumers"))["total"]!);
        Assert.Equal(["c1", "c2"], (await GetAsync("/consumers/jack/credentials"))["list"]!.AsArray()
            .Select(one => (string?)one!["value"]!["id"]));
        Assert.Equal("{\"total\":0,\"list\":[]}", (await GetAsync("/consumers/jackson/credentials")).ToJsonString());
        Assert.Equal("one", (string?)(await GetAsync("/consumers/jack/credentials/c1"))["value"]!["plugins"]!["key-auth"]!["key"]);

        Assert.Equal(HttpStatusCode.OK, (await _gateway.AdminAsync(HttpMethod.Delete, "/consumers/jack/credentials/c1")).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync("one"));
        Assert.Equal(HttpStatusCode.OK, (await _gateway.AdminAsync(HttpMethod.Delete, "/consumers/jack")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await _gateway.AdminAsync(HttpMethod.Get, "/consumers/jack/credentials/c2")).Status);
        await _gateway.PutAsync("/consumers", """{"username":"jack"}""");
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync("two"));
    }

    [Fact]
    public async Task A_decoration_belongs_to_its_service_and_goes_with_it()
    {
        const string Of = "/services/shop/graphql_cost_decorations";
        Assert.Equal((HttpStatusCode.NotFound, """{"error_msg":"service not found"}"""),
            Told(await _gateway.AdminAsync(HttpMethod.Put, Of + "/d1", """{"field_path":"Query.products"}""")));
        await _gateway.PutAsync("/services/shop", """{"name":"shop"}""");
        await _gateway.PutAsync("/services/blog", """{"name":"blog"}""");
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, Of + "/d1",
            """{"field_path":"Query.products","mul_arguments":["first"]}""");
        Assert.Equal((HttpStatusCode.Created, "/apisix" + Of + "/d1"), (status, (string?)body!["key"]));
        Assert.Equal(("d1", "shop", null),
            ((string?)body["value"]!["id"], (string?)body["value"]!["service_id"], body["value"]!["add_value"]));
        Assert.Equal((HttpStatusCode.BadRequest,
            """{"error_msg":"field_path Query.products is already decorated on this service by [d1]"}"""),
            Told(await _gateway.AdminAsync(HttpMethod.Put, Of + "/d2", """{"field_path":"Query.products"}""")));
        await _gateway.PutAsync("/services/blog/graphql_cost_decorations/d9", """{"field_path":"Query.products"}""");
        (_, body) = await _gateway.AdminAsync(HttpMethod.Post, Of, """{"field_path":"Product"}""");
        Assert.StartsWith("/apisix" + Of + "/0000", (string?)body!["key"], StringComparison.Ordinal);
        (_, body) = await _gateway.AdminAsync(HttpMethod.Patch, Of + "/d1", """{"add_value":7}""");
        Assert.Equal(("Query.products", 7, "shop"),
            ((string?)body!["value"]!["field_path"], (int)body["value"]!["add_value"]!, (string?)body["value"]!["service_id"]));
        Assert.Equal(2, (int)(await GetAsync(Of))["total"]!);
        Assert.Equal(["blog", "shop"], (await GetAsync("/services"))["list"]!.AsArray().Select(one => (string?)one!["value"]!["id"]));

        await _gateway.RestartAsync();
        Assert.Equal(2, (int)(await GetAsync(Of))["total"]!);
        Assert.Equal(HttpStatusCode.OK, (await _gateway.AdminAsync(HttpMethod.Delete, "/services/shop")).Status);
        Assert.Equal((HttpStatusCode.NotFound, """{"message":"Key not found"}"""), Told(await _gateway.AdminAsync(HttpMethod.Get, Of)));
        Assert.Equal(1, (int)(await GetAsync("/services/blog/graphql_cost_decorations"))["total"]!);
        await _gateway.PutAsync("/services/shop", """{"name":"shop"}""");
        Assert.Equal(HttpStatusCode.NotFound, (await _gateway.AdminAsync(HttpMethod.Get, Of)).Status);

        static (HttpStatusCode, string?) Told((HttpStatusCode Status, JsonNode? Body) answer) =>
            (answer.Status, answer.Body?.ToJsonString());
    }

    [Fact]
    public async Task All_unknown_plugins_of_a_resource_are_explained_at_once()
    {
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/routes/u",
            """{"uri":"/u","plugins":{"key_auth":{},"cors":{},"wolf-rbac":{},"nope":{} } }""");
        Assert.Equal((HttpStatusCode.BadRequest, "unknown plugin [key_auth]"), (status, (string?)body!["error_msg"]));
        Assert.Equal(
            "plugins that are not here: key_auth: did you mean \"key-auth\"?; wolf-rbac: APISIX has it, Sluice not yet: "
                + "docs/plugins/README.md; nope", (string?)body["hint"]);
        (_, body) = await _gateway.AdminAsync(HttpMethod.Put, "/stream_routes/u", """{"plugins":{"cors":{} } }""");
        Assert.Equal("plugins that are not here: cors: it is not for streams", (string?)body!["hint"]);
    }

    [Fact]
    public async Task A_condition_without_its_brackets_is_explained()
    {
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/routes/v",
            """{"uri":"/v","vars":["arg_name","==","json"],"upstream":{"nodes":{"127.0.0.1:1":1}}}""");
        Assert.Equal((HttpStatusCode.BadRequest, "failed to validate the 'vars' expression: rule should be wrapped inside brackets"),
            (status, (string?)body!["error_msg"]));
        Assert.Equal("\"vars\" is a list of conditions, each a list of its own: [[\"arg_name\", \"==\", \"json\"]]", (string?)body["hint"]);
    }

    [Theory]
    [InlineData("PUT", "/services/shop/graphql_cost_decorations/d1", """{"field_path":"Query.","service_id":"blog"}""", 400,
        "wrong service_id, it is taken from the path")]
    [InlineData("PUT", "/services/shop/graphql_cost_decorations", """{"field_path":"Query"}""", 400, "missing graphql cost decoration id")]
    [InlineData("GET", "/graphql_cost_decorations", null, 404, "Unsupported resource type: graphql_cost_decorations")]
    [InlineData("PUT", "/stream_routes/s", """{"remote_addr":":/8","upstream":{"nodes":{"127.0.0.1:1":1},"type":"roundrobin"}}""", 400,
        "invalid remote_addr: :/8")]
    [InlineData("PUT", "/routes/r",
        """{"uri":"/x","plugins":{"limit-count":{"count":1,"time_window":1,"_meta":{"pre_function":"not a function"}}}}""", 400,
        "failed to load _meta.pre_function in plugin limit-count: [string \"meta pre_function\"]:1: unexpected symbol near 'not'")]
    [InlineData("PUT", "/consumers/jack/credentials", "{}", 400, "missing credential id")]
    [InlineData("PUT", "/consumers/jack/credentials/c1", """{"id":"c2"}""", 400, "wrong credential id")]
    [InlineData("PUT", "/consumers/jack/credentials/c1", """{"plugins":{"limit-count":{"count":1,"time_window":1}}}""", 400,
        "only supports auth type plugins in consumer credential")]
    [InlineData("PUT", "/consumers/jack/credentials/c1", """{"plugins":{"key-auth":{}}}""", 400,
        "invalid plugins configuration: failed to check the configuration of plugin key-auth err: property \"key\" is required")]
    [InlineData("PUT", "/consumers/jack/credentials/c1", """{"plugins":{"key-auth":{"key":"taken"}}}""", 400,
        "duplicate key of plugin key-auth found with consumer: jill")]
    [InlineData("POST", "/consumers/jack/credentials", "{}", 405, "not supported `POST` method for credential")]
    [InlineData("PATCH", "/consumers/jack/credentials/c1", "{}", 405, "not supported `PATCH` method for credential")]
    [InlineData("DELETE", "/consumers/jack/credentials", null, 400, "missing credential id")]
    [InlineData("GET", "/credentials", null, 404, "Unsupported resource type: credentials")]
    [InlineData("PUT", "/secrets/vault", "{}", 400, "missing secret id")]
    [InlineData("PUT", "/secrets/azure/1", "{}", 400,
        "invalid configuration: invalid secret manager: \"azure\", there are vault, aws, gcp")]
    [InlineData("PUT", "/secrets/vault/1", """{"uri":"http://v","token":"t"}""", 400,
        "invalid configuration: property \"prefix\" is required")]
    [InlineData("POST", "/secrets/vault", "{}", 405, "not supported `POST` method for secret")]
    [InlineData("PUT", "/protos/1", "{}", 400, "invalid configuration: property \"content\" is required")]
    [InlineData("PUT", "/ssls/1", """{"sni":"a.test"}""", 400, "invalid configuration: then clause did not match")]
    [InlineData("PUT", "/stream_routes/1", """{"upstream_id":"nope"}""", 400,
        "failed to fetch upstream info by upstream id [nope], response code: 404")]
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
        using var ca = new TestAuthority();
        foreach (var (path, id, value) in new[]
        {
            ("/protos", "p1", """{"content":"syntax = \"proto3\";"}"""),
            ("/secrets/vault", "1", """{"uri":"http://127.0.0.1:8200","prefix":"kv/apisix","token":"t"}"""),
            ("/ssls", "s1", TestAuthority.Ssl(["a.test"], [ca.Issue("a.test")])),
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
    public async Task What_was_sent_is_stored_and_shown_and_the_defaults_hold_all_the_same()
    {
        using var ca = new TestAuthority();
        foreach (var (path, id, sent) in new[]
        {
            ("/upstreams", "u1", """{"nodes":{"127.0.0.1:1":1},"type":"roundrobin"}"""),
            ("/services", "s1", """{"upstream":{"nodes":{"127.0.0.1:1":1}}}"""),
            ("/routes", "r1",
                """{"uri":"/r1","upstream":{"nodes":[{"host":"127.0.0.1","port":1,"weight":1}],"checks":{"active":{"healthy":{}}}},"plugins":{"limit-count":{"count":1,"time_window":60},"cors":{},"proxy-rewrite":{"uri":"/"}}}"""),
            ("/consumers", "jack", """{"username":"jack","plugins":{"limit-count":{"count":1,"time_window":60}}}"""),
            ("/consumers/jack/credentials", "c1", """{"plugins":{"key-auth":{"key":"one"}}}"""),
            ("/consumer_groups", "g1", """{"plugins":{"limit-count":{"count":1,"time_window":60}}}"""),
            ("/plugin_configs", "p1", """{"plugins":{"cors":{}}}"""),
            ("/global_rules", "1", """{"plugins":{"request-id":{}}}"""),
            ("/stream_routes", "t1", """{"server_port":9100,"upstream":{"nodes":{"127.0.0.1:1995":1},"type":"roundrobin"}}"""),
            ("/secrets/aws", "1", """{"access_key_id":"a","secret_access_key":"b"}"""),
            ("/plugin_metadata", "limit-count", """{"limit_header":"X-Quota"}"""),
        })
        {
            var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, $"{path}/{id}", sent);
            Assert.Equal(HttpStatusCode.Created, status);
            AssertIs(body!["value"]!);
            AssertIs((await GetAsync($"{path}/{id}"))["value"]!);
            if (path != "/plugin_metadata" && !path.StartsWith("/consumers", StringComparison.Ordinal))
            {
                AssertIs((await _gateway.AdminAsync(HttpMethod.Patch, $"{path}/{id}", "{}")).Body!["value"]!);
            }

            void AssertIs(JsonNode shown)
            {
                var expected = JsonNode.Parse(sent)!.AsObject();
                var rest = shown.DeepClone().AsObject();
                foreach (var name in (string[])["id", "create_time", "update_time"])
                {
                    rest.Remove(name);
                }
                // GET answers a secret in clear, PUT as it is stored
                if (rest["plugins"]?["key-auth"] is { } key)
                {
                    key["key"] = "one";
                }
                Assert.True(JsonNode.DeepEquals(expected, rest) , $"{path}: {rest.ToJsonString()}");
                Assert.Equal(expected.Count, rest.Count);
            }
        }
        await _gateway.RestartAsync();
        Assert.Equal("""{"cors":{},"limit-count":{"count":1,"time_window":60},"proxy-rewrite":{"uri":"/"}}""",
            new JsonObject((await GetAsync("/routes/r1"))["value"]!["plugins"]!.AsObject().OrderBy(plugin => plugin.Key)
                .Select(plugin => KeyValuePair.Create(plugin.Key, plugin.Value?.DeepClone()))).ToJsonString());
        var running = await _gateway.ControlAsync("/v1/route/r1");
        Assert.Equal("remote_addr", (string?)running["value"]!["plugins"]!["limit-count"]!["key"]);
        Assert.Equal("GET", (string?)running["value"]!["upstream"]!["checks"]!["active"]!["http_method"]);
        Assert.Equal("vars", (string?)(await _gateway.ControlAsync("/v1/upstream/u1"))["value"]!["hash_on"]);
        Assert.Equal("remote_addr", (string?)(await GetAsync("/schema/plugins/limit-count"))["properties"]!["key"]!["default"]);
    }

    [Theory]
    [InlineData("PUT", "/routes/r1", """{"uri":"/","host":"a","hosts":["b"],"plugins":{}}""", 400, "only one of host or hosts is allowed")]
    [InlineData("PUT", "/routes/r1", """{"uri":"/","remote_addr":"127.0.0.1","remote_addrs":["127.0.0.2"],"plugins":{}}""", 400,
        "only one of remote_addr or remote_addrs is allowed")]
    [InlineData("PUT", "/routes/r1", """{"uri":"/","plugins":{},"vars":[["remote_addr","=","127.0.0.1"]]}""", 400,
        "failed to validate the 'vars' expression: invalid operator '='")]
    [InlineData("PUT", "/routes/r1", """{"uri":"/","plugins":{},"filter_func":"function(vars) "}""", 400,
        "failed to load 'filter_func' string: [string \"return function(vars) \"]:1: 'end' expected near '<eof>'")]
    [InlineData("PUT", "/routes/r1", """{"uri":"/","upstream":{"nodes":{"a":1},"type":"chash"}}""", 400, "missing key")]
    [InlineData("PUT", "/services/s1", """{"upstream":{"nodes":{"a":1},"type":"chash","hash_on":"header"}}""", 400, "missing key")]
    [InlineData("PUT", "/upstreams/u1", """{"nodes":{"a":1},"pass_host":"rewrite"}""", 400,
        "`upstream_host` can't be empty when `pass_host` is `rewrite`")]
    [InlineData("PUT", "/routes/r1", """{"uri":"/","plugins":{"create_time":1}}""", 400, "the property is forbidden:  plugins.create_time")]
    [InlineData("PATCH", "/secrets/vault", "{}", 400, "no secret id")]
    [InlineData("GET", "/schema/noexist", null, 400, "not found schema: noexist")]
    public async Task The_literal_texts_are_APISIXs(string method, string path, string? body, int status, string message)
    {
        var answer = await _gateway.AdminAsync(new HttpMethod(method), path, body);
        Assert.Equal((status, message), ((int)answer.Status, (string?)answer.Body?["error_msg"]));
    }

    [Theory]
    [InlineData("/routes/h", """{"plugins":{}}""", "a route needs \"uri\"")]
    [InlineData("/routes/h", """{"uri":"/x"}""", "a route needs somewhere to send its requests")]
    [InlineData("/routes/h", """{"uri":"/x","methods":["get"],"plugins":{}}""", "methods are written in capitals: \"GET\"")]
    [InlineData("/routes/h", """{"uri":"/x","upstream":{"nodes":"127.0.0.1:80"}}""", "\"nodes\" is {\"host:port\": weight}")]
    [InlineData("/upstreams/h", """{"nodes":[{"host":"127.0.0.1"}]}""",
        "a node needs \"host\" and \"weight\": {\"host\": \"127.0.0.1\", \"port\": 8080")]
    [InlineData("/upstreams/h", """{"type":"roundrobin"}""", "an upstream needs \"nodes\"")]
    [InlineData("/ssls/h", """{"snis":["a.test"],"cert":"x","key":"x"}""", "\"cert\" is the text of a PEM file")]
    [InlineData("/routes/h", """{"uri":"/x","plugins":{"proxy-rewrite":{"uri":"nosl"}}}""", "a uri begins with a slash")]
    public async Task What_APISIXs_error_does_not_say_a_hint_does(string path, string json, string hint)
    {
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, path, json);
        Assert.Equal(400, (int)status);
        Assert.StartsWith(hint, (string?)body!["hint"], StringComparison.Ordinal);
        Assert.Equal(["error_msg", "hint"], body.AsObject().Select(member => member.Key));
    }

    [Theory]
    [InlineData("/routes/w",
        """{"uri":"/x","plugins":{},"vars":[["arg_a","==","1"],["OR",["remote_adr","==","x"],["graphql_name","==","y"]]]}""",
        "vars: unknown ?remote_adr? variable")]
    [InlineData("/routes/w", """{"uri":"/x","plugins":{"cors":{"_meta":{"filter":[["nobody","==","x"]]}}}}""",
        "plugins.cors._meta.filter: unknown ?nobody? variable")]
    [InlineData("/routes/w", """{"uri":"x","plugins":{}}""", "uri ?x? begins with no slash: no request matches it")]
    [InlineData("/upstreams/w", """{"nodes":{"a":1},"timeout":{"connect":5000,"send":86400,"read":3600}}""",
        "timeout.connect: 5000 seconds; were milliseconds meant?")]
    [InlineData("/plugin_metadata/prometheus", """{"metrics":{"http_status":{"extra_labels":[{"a":"$b"}]}}}""",
        "metrics: unknown property, it has no effect")]
    public async Task What_can_not_be_meant_is_accepted_with_a_warning(string path, string json, string warning)
    {
        using var request = new HttpRequestMessage(HttpMethod.Put,
            $"http://{_gateway.Gateway.AdminEndpoint}/apisix/admin{path}") { Headers = { { "X-API-KEY", TestGateway.AdminKey } },
            Content = new StringContent(json) };
        using var response = await _gateway.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.Created, response.StatusCode);
        Assert.StartsWith($"299 sluice \"{warning}", Assert.Single(response.Headers.GetValues("Warning")), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Unknown_keys_of_meta_are_refused() => Assert.Equal(
        "failed to check the configuration of plugin cors err: property \"_meta\" validation failed: additional properties forbidden, "
            + "found prio",
        (string?)(await _gateway.AdminAsync(HttpMethod.Put, "/routes/w",
            """{"uri":"/x","plugins":{"cors":{"_meta":{"prio":1}}}}""")).Body!["error_msg"]);

    [Fact]
    public async Task Settings_of_plugins_without_an_effect_are_named_at_the_start()
    {
        _gateway.Write("conf/config.yaml",
            TestGateway.Config().Replace("    export_addr: {ip: 127.0.0.1, port: 0}",
                "    export_addr: {ip: 127.0.0.1, port: 0}\n    export_uri: /m\n    metrics: {http_status: {expire: 5}}",
                StringComparison.Ordinal));
        await _gateway.ReloadAsync();
        await _gateway.ErrorLogSaysAsync("plugin_attr.prometheus.metrics.http_status.expire has no effect here");
        Assert.DoesNotContain("export_uri has no effect", _gateway.ErrorLog, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_error_that_says_enough_has_no_hint() =>
        Assert.Equal("""{"error_msg":"unknown plugin [nope]"}""",
            (await _gateway.AdminAsync(HttpMethod.Put, "/routes/h", """{"uri":"/x","plugins":{"nope":{}}}""")).Body!.ToJsonString());

    [Fact]
    public async Task The_id_in_the_path_is_the_resources_id_as_a_text()
    {
        var (_, body) = await _gateway.AdminAsync(HttpMethod.Put, "/routes/1", """{"id":1,"uri":"/","plugins":{}}""");
        Assert.Equal("\"1\"", body!["value"]!["id"]!.ToJsonString());
    }

    [Fact]
    public async Task Plugins_that_are_for_the_whole_gateway_say_so()
    {
        var all = (await GetAsync("/plugins?all=true")).AsObject();
        Assert.Equal("batch-requests,node-status",
            string.Join(',', all.Where(plugin => (string?)plugin.Value!["scope"] == "global").Select(plugin => plugin.Key).Order()));
    }

    [Fact]
    public async Task A_private_key_is_never_read_back()
    {
        using var ca = new TestAuthority();
        const string text = "PRIVATE KEY";
        await _gateway.PutAsync("/ssls/1", TestAuthority.Ssl(["a.test"], [ca.Issue("a.test"), ca.Issue("a.test", rsa: true)]));
        Assert.DoesNotContain(text, (await GetAsync("/ssls/1")).ToJsonString());
        Assert.DoesNotContain(text, (await GetAsync("/ssls")).ToJsonString());
    }

    [Fact]
    public async Task A_proto_or_group_in_use_is_not_deleted()
    {
        await _gateway.PutAsync("/consumer_groups/g1", """{"plugins":{}}""");
        await _gateway.PutAsync("/consumers", """{"username":"jack","group_id":"g1"}""");
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Delete, "/consumer_groups/g1");
        Assert.Equal((HttpStatusCode.BadRequest, "can not delete this consumer group, consumer [jack] is still using it now"),
            (status, (string?)body!["error_msg"]));
    }

    [Fact]
    public async Task Schemas_of_all_kinds_are_shown_and_validated()
    {
        foreach (var name in new[] { "ssl", "proto", "credential", "secret", "stream_route", "consumer_group", "route" })
        {
            Assert.Equal("object", (string?)(await GetAsync($"/schema/{name}"))["type"]);
        }
        Assert.Equal(HttpStatusCode.OK,
            (await _gateway.AdminAsync(HttpMethod.Post, "/schema/validate/protos", """{"content":"x"}""")).Status);
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

using System.Net;

namespace Sluice.FunctionalTests.Lua;

/// <summary>Auth plugins in Lua: consumers found, merged in and told to the upstream as with the built-in ones.</summary>
public sealed class LuaAuthTests()
    : LuaGatewayTests("plugins: [token-auth, old-auth, response-rewrite, key-auth]", ("token-auth", Token), ("old-auth", Old))
{
    /// <summary>key-auth as APISIX writes it.</summary>
    const string Token =
        """
        local core = require("apisix.core")
        local consumer_mod = require("apisix.consumer")
        local schema = { type = "object", properties = { header = { type = "string", default = "token" }, anonymous_consumer = { type = "string" } } }
        local consumer_schema = { type = "object", properties = { token = { type = "string" } }, encrypt_fields = { "token" }, required = { "token" } }
        local _M = { version = 0.1, priority = 2500, type = "auth", name = "token-auth", schema = schema, consumer_schema = consumer_schema }

        function _M.check_schema(conf, schema_type)
          if schema_type == core.schema.TYPE_CONSUMER then
            if conf.token == "weak" then
              return false, "the token is too weak"
            end
            return core.schema.check(consumer_schema, conf)
          elseif schema_type == core.schema.TYPE_METADATA then
            return core.schema.check({ type = "object", required = { "issuer" } }, conf)
          end
          return core.schema.check(schema, conf)
        end

        function _M.rewrite(conf, ctx)
          local token = core.request.header(ctx, conf.header)
          local consumer, consumer_conf, err
          if not token then
            err = "Missing token"
          else
            consumer, consumer_conf, err = consumer_mod.find_consumer(_M.name, "token", token)
            err = err or "Invalid token"
          end
          if not consumer then
            if not conf.anonymous_consumer then
              return 401, { message = err }
            end
            consumer, consumer_conf, err = consumer_mod.get_anonymous_consumer(conf.anonymous_consumer)
            if not consumer then
              return 401, { message = err }
            end
          end
          consumer_mod.attach_consumer(ctx, consumer, consumer_conf)
        end

        return _M
        """;

    /// <summary>The older way: a table of all consumers, and <c>ctx.consumer</c> set by hand.</summary>
    const string Old =
        """
        local core = require("apisix.core")
        local consumer_mod = require("apisix.consumer")
        local _M = { version = 0.1, priority = 2400, type = "auth", name = "old-auth", schema = { type = "object" } }
        function _M.check_schema(conf, schema_type)
          return true
        end
        function _M.rewrite(conf, ctx)
          local all = consumer_mod.plugin("old-auth")
          if not all then
            return 401, { message = "Missing related consumer" }
          end
          local consumer = consumer_mod.consumers_kv("old-auth", all, "word")[ctx.var.arg_word]
          if not consumer then
            return 401, { message = "no such word among " .. all.len }
          end
          ctx.consumer = consumer
          ctx.consumer_name = consumer.consumer_name
          ctx.consumer_ver = all.conf_version
        end
        function _M.access(conf, ctx)
          ngx.header["X-Who"] = ctx.consumer.username .. " " .. ctx.var.consumer_name .. " " .. (ctx.consumer.desc or "-")
        end
        return _M
        """;

    async Task<(int Status, string Body, HttpResponseMessage Answer)> GetAsync(string path, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, Gateway.Url(path));
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }
        var answer = await Gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), answer);
    }

    [Fact]
    public async Task A_consumer_is_found_by_its_credential_and_told_to_the_upstream()
    {
        await Gateway.RouteAsync("r", "/r", Origin, "\"plugins\":{\"token-auth\":{}}");
        Assert.Equal("{\"message\":\"Missing token\"}\n", (await GetAsync("/r")).Body);
        Assert.Equal("{\"message\":\"Missing related consumer\"}\n", (await GetAsync("/r", ("token", "one"))).Body);
        await Gateway.PutAsync("/consumer_groups/g",
            """{"plugins":{"response-rewrite":{"headers":{"set":{"X-Group":"$consumer_group_id"}}}}}""");
        await Gateway.PutAsync("/consumers/jack",
            """{"username":"jack","group_id":"g","labels":{"custom_id":"7"},"plugins":{"token-auth":{"token":"one"}}}""");
        await Gateway.PutAsync("/consumers/jack/credentials/c1", """{"plugins":{"token-auth":{"token":"two"}}}""");
        Assert.Equal("{\"message\":\"Invalid token\"}\n", (await GetAsync("/r", ("token", "three"))).Body);

        var (status, seen, answer) = await GetAsync("/r", ("token", "one"), ("X-Credential-Identifier", "forged"));
        Assert.True(status == 200, Gateway.ErrorLog);
        Assert.Contains("X-Consumer-Username: jack", seen, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("X-Consumer-Custom-ID: 7", seen, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("X-Consumer-Group-Id: g", seen, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("forged", seen, StringComparison.Ordinal);
        Assert.Equal("g", answer.Headers.GetValues("X-Group").Single());
        (_, seen, _) = await GetAsync("/r", ("token", "two"));
        Assert.Contains("X-Credential-Identifier: c1", seen, StringComparison.OrdinalIgnoreCase);

        // what was found is not kept beyond the configuration
        await Gateway.PutAsync("/consumers/jack/credentials/c1", """{"plugins":{"token-auth":{"token":"three"}}}""");
        Assert.Equal(401, (await GetAsync("/r", ("token", "two"))).Status);
        Assert.Equal(200, (await GetAsync("/r", ("token", "three"))).Status);
        await Gateway.AdminAsync(HttpMethod.Delete, "/consumers/jack/credentials/c1");
        await Gateway.AdminAsync(HttpMethod.Delete, "/consumers/jack");
        Assert.Equal(401, (await GetAsync("/r", ("token", "one"))).Status);
    }

    [Fact]
    public async Task The_plugins_own_check_decides_about_credentials_and_metadata()
    {
        foreach (var (path, json, error) in new[]
        {
            ("/consumers/jack", """{"username":"jack","plugins":{"token-auth":{}}}""",
                "invalid plugins configuration: failed to check the configuration of plugin token-auth err: property \"token\" is required"),
            ("/consumers/jack", """{"username":"jack","plugins":{"token-auth":{"token":"weak"}}}""",
                "invalid plugins configuration: failed to check the configuration of plugin token-auth err: the token is too weak"),
            ("/plugin_metadata/token-auth", "{\"a\":1}", "invalid configuration: property \"issuer\" is required"),
        })
        {
            var (status, body) = await Gateway.AdminAsync(HttpMethod.Put, path, json);
            Assert.Equal((HttpStatusCode.BadRequest, error), (status, (string?)body!["error_msg"]));
        }
        await Gateway.PutAsync("/plugin_metadata/token-auth", "{\"issuer\":\"x\"}");
    }

    [Fact]
    public async Task Requests_without_a_credential_may_count_as_the_anonymous_consumer()
    {
        await Gateway.PutAsync("/consumers/nobody", """{"username":"nobody"}""");
        await Gateway.RouteAsync("a", "/a", Origin, "\"plugins\":{\"token-auth\":{\"anonymous_consumer\":\"nobody\"}}");
        await Gateway.RouteAsync("b", "/b", Origin, "\"plugins\":{\"token-auth\":{\"anonymous_consumer\":\"somebody\"}}");
        Assert.Contains("X-Consumer-Username: nobody", (await GetAsync("/a")).Body, StringComparison.OrdinalIgnoreCase);
        Assert.Equal("{\"message\":\"failed to get anonymous consumer somebody\"}\n", (await GetAsync("/b")).Body);
    }

    [Fact]
    public async Task A_plugin_that_sets_the_consumer_itself_is_understood_too()
    {
        await Gateway.RouteAsync("o", "/o", Origin, "\"plugins\":{\"old-auth\":{}}");
        await Gateway.PutAsync("/consumers/jill",
            """{"username":"jill","desc":"the second","plugins":{"old-auth":{"word":"hush"},"response-rewrite":{"headers":{"set":{"X-Merged":"yes"}}}}}""");
        Assert.Equal("{\"message\":\"no such word among 1\"}\n", (await GetAsync("/o?word=x")).Body);
        var (_, seen, answer) = await GetAsync("/o?word=hush");
        Assert.Contains("X-Consumer-Username: jill", seen, StringComparison.OrdinalIgnoreCase);
        Assert.Equal("jill jill the second", answer.Headers.GetValues("X-Who").Single());
        Assert.Equal("yes", answer.Headers.GetValues("X-Merged").Single());
    }
}

using System.Net;
using Sluice.Hosting;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>Files as APISIX's users have them.</summary>
public sealed class ApisixFileTests
{
    [Fact]
    public async Task Every_unknown_plugin_of_a_resource_is_named_at_its_own_line_and_what_else_is_wrong_too()
    {
        var prefix = Directory.CreateTempSubdirectory("sluice-test-").FullName;
        TestGateway.Write(prefix, "conf/config.yaml", "deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}");
        TestGateway.Write(prefix, "conf/apisix.yaml", """
            global_rules:
              - id: edge
                plugins:
                  no-such-plugin: {}
                  key_auth:
                    header: x
                  cors: {max_age: x}
            routes:
              - {id: a, uri: /a, plugins: {limit-cuont: {}}, upstream: {nodes: {"127.0.0.1:1": 1}}}
            #END
            """);
        var problems = await StartCheck.ConfigurationAsync(new GatewayOptions(prefix) { Environment = static _ => null });
        Assert.Equal(
            [
                "conf/apisix.yaml:4 (global_rules[0].plugins.no-such-plugin): unknown plugin [no-such-plugin]",
                "conf/apisix.yaml:5 (global_rules[0].plugins.key_auth): unknown plugin [key_auth]; did you mean \"key-auth\"?",
                "conf/apisix.yaml:9 (routes[0].plugins.limit-cuont): unknown plugin [limit-cuont]; did you mean \"limit-count\"?",
            ],
            problems.Select(problem => problem.ToString()).Where(line => line.Contains("unknown plugin", StringComparison.Ordinal)));
        Assert.Contains(problems, problem =>
            problem.Message.Contains("failed to check the configuration of plugin cors", StringComparison.Ordinal));
        Directory.Delete(prefix, recursive: true);
    }

    [Fact]
    public async Task A_server_in_the_end_snippet_answers()
    {
        await using var gateway = await TestGateway.StartAsync("""
            nginx_config:
              http_end_configuration_snippet: |
                server {
                    server_name health.test;
                    location = /healthz { return 200 'ok'; }
                }
            """);
        var answer = await RawClient.AskAsync(gateway.EndPoint, "GET /healthz HTTP/1.1\r\nHost: health.test\r\n\r\n");
        Assert.Equal((200, "ok"), (answer.Status, answer.Body));
        // the gateway's own server has no such location
        Assert.Equal(404, (await RawClient.AskAsync(gateway.EndPoint, "GET /healthz HTTP/1.1\r\nHost: a.test\r\n\r\n")).Status);
    }

    [Theory]
    [InlineData("99999999999999999999999", "expected 1e+23 to be between -2147483648 and 2147483647")]
    [InlineData("1.5", "wrong type: expected integer, got number")]
    public async Task A_priority_that_nobody_can_count_to_is_refused(string priority, string why)
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(
            HttpMethod.Put, "/routes/1", """{"uri":"/x","priority":""" + priority + """ ,"upstream":{"nodes":{"127.0.0.1:1":1}}}""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.EndsWith($"property \"priority\" validation failed: {why}", (string?)body!["error_msg"], StringComparison.Ordinal);
    }

    /// <summary>The loop of docs/migration/apisix.md, as it stands there.</summary>
    [Fact]
    public async Task The_export_loop_of_the_documentation_copies_everything()
    {
        await using var old = await TestGateway.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await old.PutAsync("/upstreams/u1", """{"nodes":{"127.0.0.1:1":1}}""");
        await old.PutAsync("/services/s1", """{"upstream_id":"u1"}""");
        await old.PutAsync("/consumer_groups/g1", """{"plugins":{"limit-count":{"count":2,"time_window":60}}}""");
        await old.PutAsync("/plugin_configs/p1", """{"plugins":{"cors":{}}}""");
        await old.PutAsync("/plugin_metadata/limit-count", """{"limit_header":"X-L"}""");
        await old.PutAsync("/global_rules/1", """{"plugins":{"request-id":{}}}""");
        await old.PutAsync("/consumers/jack", """{"username":"jack","group_id":"g1"}""");
        await old.PutAsync("/consumers/jack/credentials/one", """{"plugins":{"key-auth":{"key":"jacks key"}}}""");
        await old.PutAsync("/secrets/vault/1", """{"uri":"http://127.0.0.1:1","prefix":"kv/a","token":"t"}""");
        await old.PutAsync("/routes/r1", """{"uri":"/x y's","service_id":"s1","plugin_config_id":"p1","desc":"ä \"quoted\" \\n"}""");
        var page = await File.ReadAllTextAsync(Path.Combine(Root(), "docs", "migration", "apisix.md"),
            TestContext.Current.CancellationToken);
        var start = page.IndexOf("```bash\n", StringComparison.Ordinal) + 8;
        var loop = page[start..page.IndexOf("```", start, StringComparison.Ordinal)];
        var (exitCode, output) = await Tool.RunAsync("bash", "-c",
            $"OLD=http://{old.Gateway.AdminEndpoint} NEW=http://{gateway.Gateway.AdminEndpoint} OLD_KEY={TestGateway.AdminKey} KEY={TestGateway.AdminKey}\n{loop}");
        Assert.True(exitCode == 0, output);
        foreach (var path in (string[])["upstreams/u1", "services/s1", "consumer_groups/g1", "plugin_configs/p1",
            "plugin_metadata/limit-count", "global_rules/1",
            "consumers/jack", "consumers/jack/credentials/one", "secrets/vault/1", "routes/r1"])
        {
            var (_, before) = await old.AdminAsync(HttpMethod.Get, "/" + path);
            var (status, after) = await gateway.AdminAsync(HttpMethod.Get, "/" + path);
            Assert.True(status == HttpStatusCode.OK, $"{path}: {output}");
            foreach (var body in (System.Text.Json.Nodes.JsonNode[])[before!, after!])
            {
                body["value"]!.AsObject().Remove("create_time");
                body["value"]!.AsObject().Remove("update_time");
            }
            Assert.Equal(before!["value"]!.ToJsonString(), after!["value"]!.ToJsonString());
        }
    }

    static string Root()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory.FullName, "Sluice.slnx")))
        {
            directory = directory.Parent!;
        }
        return directory.FullName;
    }
}

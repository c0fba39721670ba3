using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Sluice.FunctionalTests.Admin;

/// <summary>The requests that the declarative tool <c>adc</c> makes of an APISIX, in its order and with its bodies: version, dump,
/// validate, sync, dump, delete.</summary>
public sealed class DeclarativeToolTests
{
    const string Service = "31c5bd6e20c93d8e66d2a0f0ee2cbf0ad2ba27ac", Route = "a2f2a1d3b5c2ab2d9db5e9d6b1e9a3f6c0b8d7e4",
        Upstream = "9f1b7e0c6a5d4c3b2a190817f6e5d4c3b2a1908f", StreamRoute = "0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f";

    static readonly (string Path, string Body)[] Puts =
    [
        ($"upstreams/{Service}",
            """{"name":"shop","type":"roundrobin","scheme":"http","nodes":[{"host":"127.0.0.1","port":1,"weight":100,"priority":0}],"pass_host":"pass","timeout":{"connect":60,"send":60,"read":60}}"""),
        ($"services/{Service}",
            $$"""{"name":"shop","desc":"a shop","labels":{"team":"blue","list":"[\"a\"]"},"plugins":{"request-id":{} },"upstream_id":"{{Service}}"}"""),
        ($"upstreams/{Upstream}",
            $$"""{"name":"second","type":"roundrobin","nodes":[{"host":"127.0.0.1","port":2,"weight":1}],"labels":{"__ADC_UPSTREAM_SERVICE_ID":"{{Service}}"} }"""),
        ($"routes/{Route}",
            $$"""{"name":"items","uris":["/items/*"],"methods":["GET"],"status":1,"priority":1,"vars":[["arg_a","==","1"]],"enable_websocket":true,"plugins":{"key-auth":{} },"service_id":"{{Service}}"}"""),
        ($"stream_routes/{StreamRoute}",
            $$"""{"name":"mqtt","server_port":9100,"labels":{"__ADC_NAME":"mqtt"},"service_id":"{{Service}}"}"""),
        ("consumers/jack", """{"username":"jack","desc":"Jack","plugins":{"request-id":{}}}"""),
        ("consumers/jack/credentials/5f6e7d8c9b0a1f2e3d4c5b6a79880716253443f1",
            """{"name":"main","plugins":{"key-auth":{"key":"jacks"}}}"""),
        ("global_rules/cors", """{"plugins":{"cors":{"allow_origins":"*"}}}"""),
        ("plugin_metadata/limit-count", """{"limit_header":"X-Quota"}"""),
    ];

    static async Task<JsonNode> DumpAsync(TestGateway gateway)
    {
        var dump = new JsonObject();
        foreach (var kind in (string[])["services", "routes", "upstreams", "ssls", "consumers", "plugin_configs", "global_rules",
            "plugin_metadata", "stream_routes"])
        {
            var (status, body) = await gateway.AdminAsync(HttpMethod.Get, $"/{kind}");
            Assert.Equal(200, (int)status);
            dump[kind] = new JsonArray([.. body!["list"]!.AsArray().Select(item => item!["value"]!.DeepClone())]);
            if (kind == "plugin_metadata")
            {
                Assert.All(body["list"]!.AsArray(), item => Assert.Equal("limit-count", ((string)item!["key"]!).Split('/')[^1]));
            }
        }
        return dump;
    }

    [Fact]
    public async Task A_configuration_is_synchronised_dumped_and_taken_away()
    {
        await using var gateway = await TestGateway.StartAsync(apisix: "proxy_mode: \"http&stream\"\n");
        using var ping = new HttpRequestMessage(HttpMethod.Get,
            $"http://{gateway.Gateway.AdminEndpoint}/apisix/admin/routes") { Headers = { { "X-API-KEY", TestGateway.AdminKey } } };
        using var pong = await gateway.Client.SendAsync(ping, TestContext.Current.CancellationToken);
        // what it takes the server for: credentials need 3.11 or later
        var version = Version.Parse(Regex.Match(pong.Headers.Server.ToString(), @"APISIX/(\d+\.\d+\.\d+)").Groups[1].Value);
        Assert.True(version >= new Version(3, 11), $"{version}");
        Assert.Empty((await DumpAsync(gateway))["services"]!.AsArray());

        var all = new JsonObject();
        foreach (var group in Puts.Where(put => !put.Path.Contains("credentials", StringComparison.Ordinal))
            .GroupBy(put => put.Path.Split('/')[0]))
        {
            all[group.Key] = new JsonArray([.. group.Select(put =>
            {
                var value = JsonNode.Parse(put.Body)!;
                value["id"] = group.Key == "consumers" ? null : put.Path.Split('/')[1];
                return group.Key == "consumers" ? JsonNode.Parse(put.Body) : value;
            })]);
        }
        Assert.Equal(200, (int)(await gateway.AdminAsync(HttpMethod.Post, "/configs/validate", all.ToJsonString())).Status);
        all["routes"]![0]!["plugins"]!["key-auth"] = 5;
        var (refused, why) = await gateway.AdminAsync(HttpMethod.Post, "/configs/validate", all.ToJsonString());
        Assert.Equal((400, "routes", 0), ((int)refused, (string)why!["errors"]![0]!["resource_type"]!, (int)why["errors"]![0]!["index"]!));

        for (var round = 0; round < 2; round++)
        {
            foreach (var (path, body) in Puts)
            {
                await gateway.PutAsync($"/{path}", body);
            }
        }
        var dump = await DumpAsync(gateway);
        Assert.Equal(Service, (string)dump["routes"]![0]!["service_id"]!);
        Assert.Equal("127.0.0.1", (string)dump["upstreams"]!.AsArray()
            .Single(one => (string)one!["id"]! == Service)!["nodes"]![0]!["host"]!);
        Assert.Equal("blue", (string)dump["services"]![0]!["labels"]!["team"]!);
        var (found, credentials) = await gateway.AdminAsync(HttpMethod.Get, "/consumers/jack/credentials");
        Assert.Equal((200, "jacks"), ((int)found, (string)credentials!["list"]![0]!["value"]!["plugins"]!["key-auth"]!["key"]!));

        // an update of only the service's upstream, then deletions: what refers to something first
        await gateway.PutAsync($"/{Puts[0].Path}", Puts[0].Body.Replace("\"port\":1", "\"port\":3", StringComparison.Ordinal));
        foreach (var path in (string[])[$"routes/{Route}", $"stream_routes/{StreamRoute}", $"services/{Service}", $"upstreams/{Service}",
            $"upstreams/{Upstream}",
            "consumers/jack/credentials/5f6e7d8c9b0a1f2e3d4c5b6a79880716253443f1", "consumers/jack", "global_rules/cors",
            "plugin_metadata/limit-count"])
        {
            Assert.Equal(200, (int)(await gateway.AdminAsync(HttpMethod.Delete, $"/{path}")).Status);
        }
        Assert.All(await DumpAsync(gateway) as JsonObject ?? [], kind => Assert.Empty(kind.Value!.AsArray()));
    }
}

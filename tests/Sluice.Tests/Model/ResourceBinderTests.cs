using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using Sluice.Observability;

namespace Sluice.Tests.Model;

public class ResourceBinderTests
{
    [Fact]
    public void A_route_binds_every_property()
    {
        var route = ResourceBinder.Route(Document(ResourceKind.Routes, """
            {
              "id": "r1", "name": "n", "uris": ["/a", "/b/*"], "hosts": ["a.com", "*.b.com"], "methods": ["GET", "PUT"],
              "remote_addrs": ["10.0.0.0/8"], "vars": [["arg_a", "==", "1"]], "filter_func": "function(vars) return true end",
              "plugins": {"p": {}}, "upstream_id": 1, "service_id": "s", "plugin_config_id": 12345678901, "enable_websocket": true,
              "timeout": {"connect": 1, "send": 2.5, "read": 3}, "labels": {"a": "b"}, "priority": 7, "status": 0
            }
            """));
        Assert.Equal(("r1", "n", "1", "s", "12345678901", true, 7, 0),
            (route.Id, route.Name, route.UpstreamId, route.ServiceId, route.PluginConfigId, route.EnableWebsocket, route.Priority,
                route.Status));
        Assert.Equal(["/a", "/b/*"], route.Uris!);
        Assert.Equal(["a.com", "*.b.com"], route.Hosts!);
        Assert.Equal(["GET", "PUT"], route.Methods!);
        Assert.True(route.RemoteAddrs!.Contains(IPAddress.Parse("10.1.2.3")) && !route.RemoteAddrs.Contains(IPAddress.Parse("11.1.2.3")));
        Assert.Equal(new TimeoutConfig(1, 2.5, 3), route.Timeout);
        Assert.Equal((true, false), (route.Vars!.Matches(new Arg("1")), route.Vars.Matches(new Arg("2"))));
        Assert.Equal((null, null, "function(vars) return true end"), (route.Uri, route.Upstream, route.FilterFunc));
        Assert.Equal("""{"p":{}}""", route.Plugins!.ToJsonString());
    }

    [Fact]
    public void An_upstream_inside_a_route_has_the_defaults_of_APISIX()
    {
        var upstream = ResourceBinder.Route(Document(ResourceKind.Routes, """{"uri":"/","upstream":{"nodes":{"a":1}}}""")).Upstream!;
        Assert.Equal((null, "roundrobin", "http", "pass", null, 0.0),
            (upstream.Id, upstream.Type, upstream.Scheme, upstream.PassHost, upstream.Retries, upstream.RetryTimeout));
        Assert.Equal([new NodeConfig("a", null, 1)], upstream.Nodes);
    }

    [Fact]
    public void Nodes_bind_from_maps_and_lists()
    {
        Assert.Equal([new("127.0.0.1", 80, 1), new("::1", 8080, 2), new("host", null, 3)],
            Upstream("""{"nodes":{"127.0.0.1:80":1,"[::1]:8080":2,"host":3}}""").Nodes);
        Assert.Equal([new("h", 80, 0, -1), new("::1", null, 5)],
            Upstream("""{"nodes":[{"host":"h","port":80,"weight":0,"priority":-1},{"host":"[::1]","weight":5}]}""").Nodes);
        Assert.Empty(Upstream("""{"nodes":[]}""").Nodes);
        Assert.Empty(Upstream("""{"service_name":"s","discovery_type":"dns"}""").Nodes);
    }

    [Fact]
    public void An_upstream_binds_every_property()
    {
        var upstream = Upstream("""
            {
              "id": "u", "nodes": {}, "type": "chash", "hash_on": "header", "key": "X-Id", "scheme": "https", "pass_host": "rewrite",
              "upstream_host": "up.example", "retries": 2, "retry_timeout": 1.5, "keepalive_pool": {"size": 5}, "tls": {"verify": true},
              "timeout": {"connect": 1, "send": 1, "read": 1}, "checks": {"active": {}}
            }
            """);
        Assert.Equal(("u", "chash", "header", "X-Id", "https", "rewrite", "up.example", 2, 1.5),
            (upstream.Id, upstream.Type, upstream.HashOn, upstream.Key, upstream.Scheme, upstream.PassHost, upstream.UpstreamHost,
                upstream.Retries, upstream.RetryTimeout));
        Assert.Equal(new KeepalivePoolConfig(5, 60, 1000), upstream.KeepalivePool);
        Assert.Equal(new TlsConfig(Verify: true), upstream.Tls);
        Assert.Equal(("http", 1, 10, "GET", "/"),
            (upstream.Checks!.Type, upstream.Checks.Active!.Timeout, upstream.Checks.Active.Concurrency,
            upstream.Checks.Active.HttpMethod, upstream.Checks.Active.HttpPath));
    }

    [Fact]
    public void An_empty_array_is_an_empty_object()
    {
        Assert.Empty(ResourceBinder.Route(Document(ResourceKind.Routes, """{"uri":"/","plugins":[]}""")).Plugins!);
        Assert.Empty(ResourceBinder.Service(Document(ResourceKind.Services, """{"labels":[]}""")).Labels!);
    }

    [Fact]
    public void Consumers_and_the_other_kinds_bind_every_property()
    {
        const string Plugins = """{"id":"x","plugins":{"p":{}}}""";
        var consumer = ResourceBinder.Consumer(
            Document(ResourceKind.Consumers, """{"username":"jack","group_id":3,"plugins":{"key-auth":{"key":"k"}}}"""));
        Assert.Equal(("jack", "3", 1), (consumer.Username, consumer.GroupId, consumer.Plugins!.Count));
        var service = ResourceBinder.Service(
            Document(ResourceKind.Services, """{"id":"s","hosts":["a"],"upstream":{"nodes":{"a":1}},"enable_websocket":true}"""));
        Assert.Equal(("s", true, "a"), (service.Id, service.EnableWebsocket, service.Upstream!.Nodes[0].Host));
        Assert.Single(ResourceBinder.ConsumerGroup(Document(ResourceKind.ConsumerGroups, Plugins)).Plugins);
        Assert.Single(ResourceBinder.PluginConfig(Document(ResourceKind.PluginConfigs, Plugins)).Plugins);
        Assert.Single(ResourceBinder.GlobalRule(Document(ResourceKind.GlobalRules, Plugins)).Plugins);
    }

    [Fact]
    public void Numbers_beyond_an_int_do_not_overflow()
    {
        var route = ResourceBinder.Route(
            Document(ResourceKind.Routes, """{"uri":"/","upstream_id":1e300,"priority":1e300,"plugins":{}}"""));
        Assert.Equal(("1e+300", int.MaxValue), (route.UpstreamId, route.Priority));
        Assert.Equal(int.MaxValue, Upstream("""{"nodes":{"a":99999999999999999999}}""").Nodes[0].Weight);
    }

    static UpstreamConfig Upstream(string json) => ResourceBinder.Upstream(Document(ResourceKind.Upstreams, json));

    static Document Document(ResourceKind kind, string json)
    {
        var value = CjsonReader.Parse(Encoding.UTF8.GetBytes(json))!.AsObject();
        Assert.Null(ResourceSchemas.Check(kind, value));
        return new Document(kind, ResourceBinder.Id(value, "id") ?? "x", value, 1, 1, "test");
    }

    sealed class Arg(string value) : IVariables
    {
        public string? Get(string name) => name == "arg_a" ? value : null;
    }
}

using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Schema;

namespace Sluice.Tests.Model.Schema;

public class ResourceSchemasTests
{
    const string Nodes = "\"nodes\":{\"127.0.0.1:80\":1}";

    const string RequiredOfRoutes =
        """object matches none of the required: ["plugins","uri"] or ["upstream","uri"] or ["upstream_id","uri"] or ["service_id","uri"] """
        + """or ["plugins","uris"] or ["upstream","uris"] or ["upstream_id","uris"] or ["service_id","uris"] or ["script","uri"] or ["script","uris"]""";

    [Theory]
    [InlineData("""{"uri":"/x"}""", RequiredOfRoutes)]
    [InlineData("""{"upstream_id":"1"}""", "allOf 1 failed: value should match only one schema, but matches none")]
    [InlineData("""{}""", "allOf 1 failed: value should match only one schema, but matches none")]
    [InlineData("""{"uri":"/x","uris":["/y"],"upstream_id":1}""",
        "allOf 1 failed: value should match only one schema, but matches both schemas 1 and 2")]
    [InlineData("""{"uri":"/x","host":"a","hosts":["b"],"upstream_id":1}""",
        "allOf 2 failed: value should match only one schema, but matches both schemas 2 and 3")]
    [InlineData("""{"uri":"/x","upstream_id":1,"bogus":1}""", "additional properties forbidden, found bogus")]
    [InlineData("""{"uri":"/x","upstream_id":1,"id":"bad!id"}""", "property \"id\" validation failed: object matches none of the required")]
    [InlineData("""{"uri":"/x","upstream_id":1,"id":0}""", "property \"id\" validation failed: object matches none of the required")]
    [InlineData("""{"uri":"/x","upstream_id":1,"id":"a\u0000b"}""",
        "property \"id\" validation failed: object matches none of the required")]
    [InlineData("""{"uri":"/x","upstream_id":1,"id":"a\n"}""", "property \"id\" validation failed: object matches none of the required")]
    [InlineData("""{"uri":5,"upstream_id":1}""", "property \"uri\" validation failed: wrong type: expected string, got number")]
    [InlineData("""{"uri":null,"upstream_id":1}""", "property \"uri\" validation failed: wrong type: expected string, got userdata")]
    [InlineData("""{"uri":"","upstream_id":1}""", "property \"uri\" validation failed: string too short, expected at least 1, got 0")]
    [InlineData("""{"uris":[],"upstream_id":1}""", "property \"uris\" validation failed: expect array to have at least 1 items")]
    [InlineData("""{"uris":{},"upstream_id":1}""", "property \"uris\" validation failed: expect array to have at least 1 items")]
    [InlineData("""{"uris":["/a","/b","/a"],"upstream_id":1}""",
        "property \"uris\" validation failed: expected unique items but items 1 and 3 are equal")]
    [InlineData("""{"uri":"/x","methods":["GET","get"],"upstream_id":1}""",
        "property \"methods\" validation failed: failed to validate item 2: matches none of the enum values")]
    [InlineData("""{"uri":"/x","host":"a b","upstream_id":1}""",
        """property "host" validation failed: failed to match pattern "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$" with "a b" """)]
    [InlineData("""{"uri":"/x","remote_addr":"1.2.3","upstream_id":1}""",
        "property \"remote_addr\" validation failed: object matches none of the required")]
    [InlineData("""{"uri":"/x","timeout":{"connect":1,"send":1},"upstream_id":1}""",
        "property \"timeout\" validation failed: property \"read\" is required")]
    [InlineData("""{"uri":"/x","timeout":{"connect":0,"send":1,"read":1},"upstream_id":1}""",
        "property \"timeout\" validation failed: property \"connect\" validation failed: expected 0 to be greater than 0")]
    [InlineData("""{"uri":"/x","priority":1.5,"upstream_id":1}""",
        "property \"priority\" validation failed: wrong type: expected integer, got number")]
    [InlineData("""{"uri":"/x","status":2,"upstream_id":1}""", "property \"status\" validation failed: matches none of the enum values")]
    [InlineData("""{"uri":"/x","vars":"x","upstream_id":1}""",
        "property \"vars\" validation failed: wrong type: expected array, got string")]
    [InlineData("""{"uri":"/x","labels":{"a":"b c"},"upstream_id":1}""",
        """property "labels" validation failed: failed to validate a (matching ".*"): failed to match pattern "^\\S+$" with "b c" """)]
    [InlineData("""{"uri":"/x","plugins":{"a":5}}""", "invalid plugin conf 5 for plugin [a]")]
    [InlineData("""{"uri":"/x","plugins":5}""", "property \"plugins\" validation failed: wrong type: expected object, got number")]
    [InlineData("""{"uri":"/x","script":"function() end","plugins":{}}""", "value wasn't supposed to match schema")]
    [InlineData("""{"uri":"/x","upstream":{}}""",
        "property \"upstream\" validation failed: value should match only one schema, but matches none")]
    [InlineData("""{"uri":"/x","upstream":{"nodes":{},"type":"bogus"}}""",
        "property \"upstream\" validation failed: property \"type\" validation failed: matches none of the enum values: roundrobin, "
            + "chash, ewma, least_conn, got \"bogus\"")]
    [InlineData("""{"uri":"/x","upstream":{"nodes":{"a:b":1}}}""",
        "property \"upstream\" validation failed: property \"nodes\" validation failed: expected host or host:port, got \"a:b\"")]
    public void Wrong_routes_are_refused_in_the_words_of_APISIX(string route, string error) =>
        Assert.Equal(error.TrimEnd(), Check(ResourceKind.Routes, route));

    [Theory]
    [InlineData(ResourceKind.Upstreams, "{" + Nodes + ""","type":"bogus"}""",
        "property \"type\" validation failed: matches none of the enum values: roundrobin, chash, ewma, least_conn, got \"bogus\"")]
    [InlineData(ResourceKind.Upstreams, """{"type":"roundrobin"}""", "value should match only one schema, but matches none")]
    [InlineData(ResourceKind.Upstreams, """{"nodes":{"a":-1}}""",
        "property \"nodes\" validation failed: object matches none of the required")]
    [InlineData(ResourceKind.Upstreams, """{"nodes":[{"host":"a","port":65536,"weight":1}]}""",
        "property \"nodes\" validation failed: object matches none of the required")]
    [InlineData(ResourceKind.Upstreams, "{" + Nodes + ""","checks":{}}""",
        "property \"checks\" validation failed: object matches none of the required: [\"active\"] or [\"active\",\"passive\"]")]
    [InlineData(ResourceKind.Upstreams, "{" + Nodes + ""","retries":-1}""",
        "property \"retries\" validation failed: expected -1 to be at least 0")]
    [InlineData(ResourceKind.Upstreams, "{" + Nodes + ""","keepalive_pool":{"size":0}}""",
        "property \"keepalive_pool\" validation failed: property \"size\" validation failed: expected 0 to be at least 1")]
    [InlineData(ResourceKind.Credentials, """{"plugins":{"a":{},"b":{}}}""",
        "property \"plugins\" validation failed: expect object to have at most 1 properties")]
    [InlineData(ResourceKind.Protos, "{}", "property \"content\" is required")]
    [InlineData(ResourceKind.Secrets, """{"id":"vault/1","uri":"nowhere","prefix":"kv","token":"t"}""",
        "property \"uri\" validation failed: failed to match pattern "
            + "\"^[^\\\\/]+:\\\\/\\\\/([\\\\da-zA-Z.-]+|\\\\[[\\\\da-fA-F:]+\\\\])(:\\\\d+)?\" with \"nowhere\"")]
    [InlineData(ResourceKind.Secrets, """{"id":"vault/1","uri":"http://v"}""", "property \"prefix\" is required")]
    [InlineData(ResourceKind.Secrets, """{"id":"gcp/1"}""", "value should match only one schema, but matches none")]
    [InlineData(ResourceKind.Secrets, """{"id":"azure/1"}""", "invalid secret manager: \"azure\", there are vault, aws, gcp")]
    [InlineData(ResourceKind.Ssls, """{"cert":"x"}""",
        "property \"cert\" validation failed: value should match only one schema, but matches none")]
    [InlineData(ResourceKind.Ssls, """{"cert":"$secret://vault/1/a/cert","key":"$env://KEY"}""", "then clause did not match")]
    [InlineData(ResourceKind.Ssls, """{"type":"client","cert":"$secret://vault/1/a/cert"}""", "else clause did not match")]
    [InlineData(ResourceKind.Ssls, """{"snis":["a b"],"cert":"$env://C","key":"$env://K"}""",
        """property "snis" validation failed: failed to validate item 1: failed to match pattern "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$" with "a b" """)]
    [InlineData(ResourceKind.StreamRoutes, """{"server_addr":"example.com"}""",
        "property \"server_addr\" validation failed: object matches none of the required")]
    [InlineData(ResourceKind.StreamRoutes, """{"bogus":1}""", "additional properties forbidden, found bogus")]
    [InlineData(ResourceKind.Consumers, """{}""", "property \"username\" is required")]
    [InlineData(ResourceKind.Consumers, """{"username":"a b"}""",
        """property "username" validation failed: failed to match pattern "^[a-zA-Z0-9_\\-]+$" with "a b" """)]
    [InlineData(ResourceKind.ConsumerGroups, """{"id":"a"}""", "property \"plugins\" is required")]
    [InlineData(ResourceKind.PluginConfigs, """{"id":"a"}""", "property \"plugins\" is required")]
    [InlineData(ResourceKind.GlobalRules, """{"id":"a"}""", "property \"plugins\" is required")]
    [InlineData(ResourceKind.Services, """{"uri":"/x"}""", "additional properties forbidden, found uri")]
    public void Wrong_resources_are_refused_with_the_place(object kind, string value, string error) =>
        Assert.Equal(error.TrimEnd(), Check((ResourceKind)kind, value));

    [Theory]
    [InlineData(ResourceKind.Routes, """{"uri":"/x","upstream":{"nodes":[]}}""")]
    [InlineData(ResourceKind.Routes, """{"uri":"/x","plugins":[]}""")]
    [InlineData(ResourceKind.Routes,
        """{"id":"a-b_c.d","uri":"/x","service_id":1,"remote_addrs":["10.0.0.0/8","::1","2001:db8::/32","127.0.0.1"],"hosts":["*.a.com","b"]}""")]
    [InlineData(ResourceKind.Upstreams,
        """{"nodes":[{"host":"[::1]","port":80,"weight":0}],"type":"least_conn","scheme":"https","tls":{"verify":true}}""")]
    [InlineData(ResourceKind.Upstreams, """{"service_name":"s","discovery_type":"dns"}""")]
    [InlineData(ResourceKind.Upstreams, """{"nodes":{"a":1},"type":"chash","key":"arg_x"}""")]
    [InlineData(ResourceKind.Consumers, """{"username":"a-b","plugins":{"key-auth":{"key":"x"}},"group_id":"g"}""")]
    [InlineData(ResourceKind.PluginMetadata, """{"anything":1}""")]
    public void Right_resources_pass(object kind, string value) => Assert.Null(Check((ResourceKind)kind, value));

    [Fact]
    public void Defaults_are_filled_in()
    {
        var route =
            JsonNode.Parse(
                """{"uri":"/x","upstream":{"nodes":[{"host":"a","weight":1}],"checks":{"active":{}},"keepalive_pool":[]}}""")!.AsObject();
        Assert.Null(ResourceSchemas.Check(ResourceKind.Routes, route));
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse("""
            {
              "uri": "/x", "priority": 0, "status": 1,
              "upstream": {
                "type": "roundrobin", "hash_on": "vars", "scheme": "http", "pass_host": "pass",
                "nodes": [{"host": "a", "weight": 1, "priority": 0}],
                "keepalive_pool": {"size": 320, "idle_timeout": 60, "requests": 1000},
                "checks": {"active": {
                  "type": "http", "timeout": 1, "concurrency": 10, "http_method": "GET", "http_path": "/", "https_verify_certificate": true
                }}
              }
            }
            """), route), route.ToJsonString());
    }

    [Fact]
    public void Every_kind_has_a_schema_to_show() =>
        Assert.All(ResourceKinds.All, kind => Assert.Equal("object", (string?)ResourceSchemas.Source(kind)["type"]));

    static string? Check(ResourceKind kind, string value) => ResourceSchemas.Check(kind, JsonNode.Parse(value)!.AsObject());
}

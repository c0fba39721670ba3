using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Plugins.Auth;

public class MultiAuthTests
{
    const string Two = """{"multi-auth":{"auth_plugins":[{"basic-auth":{}},{"key-auth":{"hide_credentials":true}}]}}""";

    [Theory]
    [InlineData("""{"auth_plugins":[{"basic-auth":{}}]}""",
        "property \"auth_plugins\" validation failed: expect array to have at least 2 items")]
    [InlineData("{}", "property \"auth_plugins\" is required")]
    public void Two_plugins_are_the_least(string config, string error) => Assert.Equal(error, PluginTest.Check("multi-auth", config));

    [Theory]
    [InlineData("""[{"no-auth":{}},{"key-auth":{}}]""", "no-auth plugin did not found")]
    [InlineData("""[{"key-auth":{}},{"cors":{}}]""", "cors plugin is not supported")]
    [InlineData("""[{"key-auth":{}},{"basic-auth":{"hide_credentials":"no"}}]""",
        "plugin basic-auth check schema failed: property \"hide_credentials\" validation failed: wrong type: expected boolean, got string")]
    public void What_cannot_be_is_refused_by_name(string plugins, string error)
    {
        var route = JsonNode.Parse($$$"""{"uri":"/","plugins":{"multi-auth":{"auth_plugins":{{{plugins}}} } } }""")!.AsObject();
        Assert.Equal(
            $"failed to check the configuration of plugin multi-auth err: {error}",
            ResourceChecker.Check(ResourceKind.Routes, "r1", route, DocumentSet.Of([]), TestExchange.Maker(Builtin.All)));
    }

    [Fact]
    public async Task The_first_that_finds_a_consumer_wins()
    {
        var test = Test(Two);
        Assert.Equal("jill",
            (await test.GetAsync("/", ("Authorization", "Basic amlsbDpwMg=="), ("apikey", "k1"))).Sent("X-Consumer-Username"));
        var second = await test.GetAsync("/", ("Authorization", "Basic wrong"), ("apikey", "k1"));
        Assert.Equal(("jack", null), (second.Sent("X-Consumer-Username"), second.Sent("apikey")));
        Assert.True(second.Proxied);
        Assert.Null(second.Answered("WWW-Authenticate"));
    }

    [Fact]
    public async Task When_none_does_the_answer_is_one_for_all()
    {
        var result = await Test(Two).GetAsync("/", ("apikey", "wrong"));
        Assert.Equal((401, "{\"message\":\"Authorization Failed\"}\n"), (result.Status, result.Body));
        Assert.Equal("apikey realm=\"key\"", result.Answered("WWW-Authenticate"));
    }

    static PluginTest Test(string plugins) => new(
        plugins,
        PluginTest.Consumer("jack", """{"key-auth":{"key":"k1"}}"""),
        PluginTest.Consumer("jill", """{"basic-auth":{"username":"jill","password":"p2"}}"""));
}

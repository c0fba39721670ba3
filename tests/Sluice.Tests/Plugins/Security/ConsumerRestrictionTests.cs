namespace Sluice.Tests.Plugins.Security;

public class ConsumerRestrictionTests
{
    [Theory]
    [InlineData("{}", "object matches none of the required")]
    [InlineData("""{"whitelist":[]}""", "property \"whitelist\" validation failed: expect array to have at least 1 items")]
    [InlineData("""{"whitelist":["a"],"rejected_code":199}""",
        "property \"rejected_code\" validation failed: expected 199 to be at least 200")]
    public void A_list_is_needed(string config, string error) =>
        Assert.StartsWith(error, PluginTest.Check("consumer-restriction", config), StringComparison.Ordinal);

    [Theory]
    [InlineData("""{"whitelist":["jack"]}""", "GET", "k1", 200)]
    [InlineData("""{"whitelist":["jack"]}""", "GET", "k2", 403)]
    [InlineData("""{"blacklist":["jack"]}""", "GET", "k1", 403)]
    [InlineData("""{"blacklist":["jack"]}""", "GET", "k2", 200)]
    [InlineData("""{"blacklist":["jack"],"whitelist":["jack"]}""", "GET", "k1", 403)]
    [InlineData("""{"allowed_by_methods":[{"user":"jack","methods":["GET"]}]}""", "GET", "k1", 200)]
    [InlineData("""{"allowed_by_methods":[{"user":"jack","methods":["GET"]}]}""", "POST", "k1", 403)]
    [InlineData("""{"allowed_by_methods":[{"user":"jack","methods":["GET"]}]}""", "POST", "k2", 200)]
    [InlineData("""{"whitelist":["jack"],"allowed_by_methods":[{"user":"jack","methods":["GET"]}]}""", "POST", "k1", 200)]
    [InlineData("""{"whitelist":["jack"],"allowed_by_methods":[{"user":"jill","methods":["GET"]}]}""", "GET", "k2", 403)]
    [InlineData("""{"whitelist":["jack"],"allowed_by_methods":{}}""", "GET", "k1", 200)]
    [InlineData("""{"type":"route_id","whitelist":["r1"]}""", "GET", "k1", 200)]
    [InlineData("""{"type":"route_id","blacklist":["r1"]}""", "GET", "k1", 403)]
    [InlineData("""{"type":"service_id","blacklist":["s1"]}""", "GET", "k1", 401)]
    [InlineData("""{"type":"consumer_group_id","whitelist":["g1"]}""", "GET", "k1", 200)]
    [InlineData("""{"type":"consumer_group_id","whitelist":["g1"]}""", "GET", "k2", 401)]
    public async Task Lists_decide(string config, string method, string key, int status)
    {
        var result = await Test($$$"""{"key-auth":{},"consumer-restriction":{{{config}}}}""").SendAsync(method, "/", null, ("apikey", key));
        Assert.Equal(status, result.Status);
        if (status != 200)
        {
            var type = config.Contains("_id", StringComparison.Ordinal) ? config.Split('"')[3] : "consumer_name";
            Assert.Equal(
                status == 403 ? $"{{\"message\":\"The {type} is forbidden.\"}}\n"
                : $"{{\"message\":\"The request is rejected, please check the {type} for this request\"}}\n",
                result.Body);
        }
    }

    [Fact]
    public async Task Code_and_message_are_the_configured_ones()
    {
        var result = await Test("""{"key-auth":{},"consumer-restriction":{"blacklist":["jack"],"rejected_code":451,"rejected_msg":"no"}}""")
            .GetAsync("/", ("apikey", "k1"));
        Assert.Equal((451, "{\"message\":\"no\"}\n"), (result.Status, result.Body));
    }

    [Fact]
    public async Task On_a_consumer_it_says_which_routes_are_the_consumers()
    {
        var test = Test("""{"key-auth":{}}""");
        Assert.Equal(403, (await test.GetAsync("/", ("apikey", "k3"))).Status);
        Assert.Equal(200, (await test.GetAsync("/", ("apikey", "k2"))).Status);
    }

    [Fact]
    public async Task Nobody_is_refused()
    {
        var result = await new PluginTest("""{"consumer-restriction":{"whitelist":["jack"]}}""").GetAsync("/");
        Assert.Equal((401, "{\"message\":\"The request is rejected, please check the consumer_name for this request\"}\n"),
            (result.Status, result.Body));
    }

    static PluginTest Test(string plugins) => new(
        plugins,
        Sluice.Tests.Pipeline.TestExchange.Document(Sluice.Model.ResourceKind.ConsumerGroups, "g1", """{"plugins":{}}"""),
        PluginTest.Consumer("jack", """{"key-auth":{"key":"k1"}}""", """, "group_id":"g1" """),
        PluginTest.Consumer("jill", """{"key-auth":{"key":"k2"}}"""),
        PluginTest.Consumer("joe", """{"key-auth":{"key":"k3"},"consumer-restriction":{"type":"route_id","blacklist":["r1"]}}"""));
}

namespace Sluice.Tests.Plugins.Security;

public class IpRestrictionTests
{
    [Theory]
    [InlineData("{}", "value should match only one schema, but matches none")]
    [InlineData("""{"whitelist":["1.1.1.1"],"blacklist":["1.1.1.1"]}""",
        "value should match only one schema, but matches both schemas 1 and 2")]
    [InlineData("""{"whitelist":[]}""", """property "whitelist" validation failed: expect array to have at least 1 items""")]
    [InlineData("""{"whitelist":["1.1.1.1/33"]}""",
        """property "whitelist" validation failed: failed to validate item 1: object matches none of the required""")]
    [InlineData("""{"whitelist":["::1/129"]}""", "invalid ip address: ::1/129")]
    [InlineData("""{"whitelist":["1.1.1.1"],"response_code":500}""",
        """property "response_code" validation failed: expected 500 to be at most 404""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("ip-restriction", config));

    [Theory]
    [InlineData("""{"whitelist":["10.0.0.0/8","2001:db8::/32"]}""", "10.2.3.4", true)]
    [InlineData("""{"whitelist":["10.0.0.0/8","2001:db8::/32"]}""", "::ffff:10.2.3.4", true)]
    [InlineData("""{"whitelist":["10.0.0.0/8","2001:db8::/32"]}""", "2001:db8::7", true)]
    [InlineData("""{"whitelist":["10.0.0.0/8"]}""", "11.0.0.1", false)]
    [InlineData("""{"blacklist":["10.0.0.0/8"]}""", "10.2.3.4", false)]
    [InlineData("""{"blacklist":["10.0.0.0/8"]}""", "11.0.0.1", true)]
    public async Task The_clients_address_decides(string config, string address, bool passes)
    {
        var result = await Test(config).GetAsync("/", (":peer", address));
        Assert.Equal(passes, result.Proxied);
        if (!passes)
        {
            Assert.Equal((403, "{\"message\":\"Your IP address is not allowed\"}\n"), (result.Status, result.Body));
        }
    }

    [Fact]
    public async Task Message_and_status_are_the_configured_ones()
    {
        var result = await Test("""{"blacklist":["0.0.0.0/0"],"message":"no","response_code":404}""").GetAsync("/");
        Assert.Equal((404, "{\"message\":\"no\"}\n"), (result.Status, result.Body));
    }

    static PluginTest Test(string config) => new($$$"""{"ip-restriction":{{{config}}}}""");
}

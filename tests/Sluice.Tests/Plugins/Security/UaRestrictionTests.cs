namespace Sluice.Tests.Plugins.Security;

public class UaRestrictionTests
{
    [Theory]
    [InlineData("{}", "value should match only one schema, but matches none")]
    [InlineData("""{"allowlist":["a"],"denylist":["b"]}""", "value should match only one schema, but matches both schemas 1 and 2")]
    [InlineData("""{"denylist":["(abc"]}""", "pcre_compile() failed: missing ) in \"(abc\"")]
    [InlineData("""{"allowlist":["a"],"message":""}""",
        """property "message" validation failed: string too short, expected at least 1, got 0""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("ua-restriction", config));

    [Theory]
    [InlineData("""{"allowlist":["my-bot/\\d"]}""", "my-bot/1", true)]
    [InlineData("""{"allowlist":["my-bot/\\d"]}""", "My-Bot/1", false)]
    [InlineData("""{"allowlist":["(?i)my-bot"]}""", "My-Bot/1", true)]
    [InlineData("""{"allowlist":["^my-bot$"]}""", "  my-bot ", true)]
    [InlineData("""{"denylist":["curl"]}""", "curl/8", false)]
    [InlineData("""{"denylist":["curl"]}""", "firefox", true)]
    [InlineData("""{"denylist":["curl"]}""", null, false)]
    [InlineData("""{"denylist":["curl"],"bypass_missing":true}""", null, true)]
    public async Task The_user_agent_decides(string config, string? agent, bool passes)
    {
        var result = await Test(config).GetAsync("/", agent is null ? [] : [("User-Agent", agent)]);
        Assert.Equal(passes, result.Proxied);
        if (!passes)
        {
            Assert.Equal((403, "{\"message\":\"Not allowed\"}\n"), (result.Status, result.Body));
        }
    }

    [Theory]
    [InlineData("""{"denylist":["curl"]}""", false)]
    [InlineData("""{"allowlist":["curl"]}""", true)]
    public async Task Any_of_several_headers_counts(string config, bool passes) =>
        Assert.Equal(passes, (await Test(config).GetAsync("/", ("User-Agent", "firefox"), ("User-Agent", "curl"))).Proxied);

    static PluginTest Test(string config) => new($$$"""{"ua-restriction":{{{config}}}}""");
}

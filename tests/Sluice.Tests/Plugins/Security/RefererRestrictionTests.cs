namespace Sluice.Tests.Plugins.Security;

public class RefererRestrictionTests
{
    [Theory]
    [InlineData("{}", "value should match only one schema, but matches none")]
    [InlineData("""{"whitelist":["a.com"],"blacklist":["b.com"]}""",
        "value should match only one schema, but matches both schemas 1 and 2")]
    [InlineData("""{"whitelist":["a/b"]}""",
        """property "whitelist" validation failed: failed to validate item 1: failed to match pattern "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$" with "a/b" """)]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error.TrimEnd(), PluginTest.Check("referer-restriction", config));

    [Theory]
    [InlineData("""{"whitelist":["*.a.com","b.com"]}""", "http://www.a.com", true)]
    [InlineData("""{"whitelist":["*.a.com","b.com"]}""", "http://a.com/x", false)]
    [InlineData("""{"whitelist":["*.a.com","b.com"]}""", "https://b.com:8443/x?y", true)]
    [InlineData("""{"whitelist":["*.a.com","b.com"]}""", "//b.com/", true)]
    [InlineData("""{"whitelist":["*.a.com","b.com"]}""", "http://evil.com/b.com", false)]
    [InlineData("""{"whitelist":["*.a.com","b.com"]}""", "www.a.com", false)]
    [InlineData("""{"whitelist":["*.a.com","b.com"]}""", null, false)]
    [InlineData("""{"whitelist":["b.com"],"bypass_missing":true}""", "www.a.com", true)]
    [InlineData("""{"blacklist":["*.a.com"]}""", "http://www.a.com", false)]
    [InlineData("""{"blacklist":["*.a.com"]}""", "http://b.com", true)]
    public async Task The_host_of_the_referer_decides(string config, string? referer, bool passes)
    {
        var result = await new PluginTest($$$"""{"referer-restriction":{{{config}}}}""").GetAsync("/",
            referer is null ? [] : [("Referer", referer)]);
        Assert.Equal(passes, result.Proxied);
        if (!passes)
        {
            Assert.Equal((403, "{\"message\":\"Your referer host is not allowed\"}\n"), (result.Status, result.Body));
        }
    }
}

namespace Sluice.Tests.Plugins.Security;

public class UriBlockerTests
{
    [Theory]
    [InlineData("{}", """property "block_rules" is required""")]
    [InlineData("""{"block_rules":[".+("]}""", "pcre_compile() failed: missing ) in \".+(\"")]
    [InlineData("""{"block_rules":["a","a"]}""",
        """property "block_rules" validation failed: expected unique items but items 1 and 2 are equal""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("uri-blocker", config));

    [Theory]
    [InlineData("""{"block_rules":["^/internal/"]}""", "/./internal/x?a=1", false)]
    [InlineData("""{"block_rules":["^/internal/"]}""", "/%69nternal/x", false)]
    [InlineData("""{"block_rules":["root.exe","\\.\\./etc"]}""", "/hello?name=root.exe", false)]
    [InlineData("""{"block_rules":["root.exe"]}""", "/hello?name=ROOT.exe", true)]
    [InlineData("""{"block_rules":["root.exe"],"case_insensitive":true}""", "/hello?name=ROOT.exe", false)]
    [InlineData("""{"block_rules":["a b"]}""", "/hello?name=a%20b", true)]
    [InlineData("""{"block_rules":[]}""", "/hello", true)]
    public async Task Path_and_query_decide(string config, string target, bool passes)
    {
        var result = await Test(config).GetAsync(target);
        Assert.Equal((passes, passes ? 200 : 403), (result.Proxied, result.Status));
    }

    [Fact]
    public async Task Message_and_status_are_the_configured_ones()
    {
        var result = await Test("""{"block_rules":["x"],"rejected_msg":"no","rejected_code":406}""").GetAsync("/x");
        Assert.Equal((406, "{\"error_msg\":\"no\"}\n"), (result.Status, result.Body));
    }

    static PluginTest Test(string config) => new($$$"""{"uri-blocker":{{{config}}}}""");
}

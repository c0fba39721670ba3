namespace Sluice.Tests.Plugins.Transform;

public class RedirectTests
{
    [Theory]
    [InlineData("{}", "value should match only one schema, but matches none")]
    [InlineData("""{"uri":"/x","http_to_https":true}""", "value should match only one schema, but matches both schemas 1 and 3")]
    [InlineData("""{"http_to_https":true,"append_query_string":true}""",
        "only one of `http_to_https` and `append_query_string` can be configured.")]
    [InlineData("""{"regex_uri":["^/a","/$x"]}""", "invalid regex_uri (^/a, /$x), err:failed to compile the replacement template")]
    [InlineData("""{"uri":"/x","ret_code":100}""", """property "ret_code" validation failed: expected 100 to be at least 200""")]
    public void Wrong_configurations_are_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("redirect", config));

    [Theory]
    [InlineData("""{"uri":"/test/add"}""", "/old?a=1", 302, "/test/add")]
    [InlineData("""{"uri":"$uri/x/${arg_a}","ret_code":301}""", "/old?a=1", 301, "/old/x/1")]
    [InlineData("""{"uri":"/new?x=$arg_a","ret_code":302}""", "/old?a=1%26admin=%0d%0a", 302, "/new?x=1%26admin=%0d%0a")]
    [InlineData("""{"uri":"/foo\\$uri"}""", "/old", 302, "/foo\\$uri")]
    [InlineData("""{"uri":"/x?c=2","append_query_string":true}""", "/old?a=1", 302, "/x?c=2&a=1")]
    [InlineData("""{"uri":"/x","append_query_string":true}""", "/old?a=1", 302, "/x?a=1")]
    [InlineData("""{"uri":"/a b?q=c d","encode_uri":true}""", "/", 302, "/a%20b?q=c d")]
    [InlineData("""{"regex_uri":["^/test/(.*)","http://x.test/$1"]}""", "/test/1?a", 302, "http://x.test/1")]
    [InlineData("""{"http_to_https":true}""", "/p?a=1", 301, "https://gateway.test:9443/p?a=1")]
    [InlineData("""{"uri":"$uri"}""", "/a%0D%0AX-Evil:1", 302, "/a%0D%0AX-Evil:1")]
    public async Task Clients_are_sent_elsewhere(string config, string target, int status, string location)
    {
        var result = await Test(config).GetAsync(target);
        Assert.False(result.Proxied);
        Assert.Equal((status, location), (result.Status, result.Answered("Location")));
    }

    [Fact]
    public async Task A_path_that_does_not_match_is_proxied() =>
        Assert.True((await Test("""{"regex_uri":["^/test/","/x"]}""").GetAsync("/other")).Proxied);

    [Fact]
    public async Task Methods_with_a_body_keep_it_on_the_way_to_https() =>
        Assert.Equal(308, (await Test("""{"http_to_https":true}""").SendAsync("POST", "/")).Status);

    [Fact]
    public async Task What_came_by_https_is_proxied() =>
        Assert.True(
            (await Test("""{"http_to_https":true}""")
                .GetAsync("/", (":peer", PluginTest.TrustedProxy), ("X-Forwarded-Proto", "https"))).Proxied);

    static PluginTest Test(string config) => new($$$"""{"redirect":{{{config}}}}""");
}

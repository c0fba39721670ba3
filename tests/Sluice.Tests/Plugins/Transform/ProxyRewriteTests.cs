using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Plugins;
using Sluice.Tests.Pipeline;

namespace Sluice.Tests.Plugins.Transform;

public class ProxyRewriteTests
{
    [Theory]
    [InlineData("""{"uri":"nosl"}""", """property "uri" validation failed: failed to match pattern "^\\/.*" with "nosl" """)]
    [InlineData("""{"uri":5}""", """property "uri" validation failed: wrong type: expected string, got number""")]
    [InlineData("""{"method":"get"}""", """property "method" validation failed: matches none of the enum values""")]
    [InlineData("""{"regex_uri":["^/a"]}""", """property "regex_uri" validation failed: expect array to have at least 2 items""")]
    [InlineData("""{"regex_uri":["^/a","/b","^/c"]}""", "The length of regex_uri should be an even number")]
    [InlineData("""{"regex_uri":["^/a","/$x"]}""", "invalid regex_uri(^/a, /$x): failed to compile the replacement template")]
    [InlineData("""{"headers":{"a b":"c"}}""", "invalid field character in header")]
    [InlineData("""{"headers":{"set":{"a":"b\r\nc: d"}}}""", "invalid value character in header")]
    [InlineData("""{"disable_buffering":"yes"}""",
        """property "disable_buffering" validation failed: wrong type: expected boolean, got string""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error.TrimEnd(), PluginTest.Check("proxy-rewrite", config));

    [Fact]
    public void A_regular_expression_that_does_not_compile_is_refused() =>
        Assert.StartsWith("invalid regex_uri((, /b): ", PluginTest.Check("proxy-rewrite", """{"regex_uri":["(","/b"]}"""),
            StringComparison.Ordinal);

    [Theory]
    [InlineData("""{"uri":"/x"}""", "/a?b=1", "/x?b=1")]
    [InlineData("""{"uri":"/x?c=2"}""", "/a?b=1", "/x?c=2&b=1")]
    [InlineData("""{"uri":"/x?c=2"}""", "/a", "/x?c=2")]
    [InlineData("""{"uri":"/$arg_b/${arg_b}x"}""", "/a?b=1", "/1/1x?b=1")]
    [InlineData("""{"uri":"/$missing/y"}""", "/a", "//y")]
    [InlineData("""{"uri":"/p$uri"}""", "/a%3Fb%20c", "/p/a%253Fb%20c")]
    [InlineData("""{"uri":"/a b{"}""", "/", "/a%20b%7B")]
    [InlineData("""{"regex_uri":["^/v1/(.*)$","/api/$1"]}""", "/v1/chat?n=1", "/api/chat?n=1")]
    [InlineData("""{"regex_uri":["^/v1/(.*)$","/api/$1?x=${1}"]}""", "/v1/chat?n=1", "/api/chat?x=chat&n=1")]
    [InlineData("""{"regex_uri":["^/no","/1","^/v(\\d)","/two-$1","^/v","/three"]}""", "/v1/x", "/two-1/x")]
    [InlineData("""{"regex_uri":["^/none","/x"]}""", "/a/../b//c", "/b/c")]
    [InlineData("""{"uri":"/x","regex_uri":["^/a","/y"]}""", "/a", "/x")]
    [InlineData("""{"headers":{"X-A":"1"}}""", "/%C3%A4%20%3F?q=%3F", "/%C3%A4%20%3F?q=%3F")]
    [InlineData("""{"use_real_request_uri_unsafe":true}""", "/a/../%2e/b?x", "/a/../%2e/b?x")]
    public async Task The_upstream_gets_the_rewritten_target(string config, string target, string expected)
    {
        var result = await Test(config).GetAsync(target);
        Assert.Equal(expected, result.Target);
    }

    [Fact]
    public async Task A_line_end_in_a_variable_never_leaves_its_place()
    {
        var result = await Test("""{"uri":"/x?u=$uri"}""").GetAsync("/a%0D%0AX-Evil:%201");
        Assert.Equal("/x?u=/a%0D%0AX-Evil:%201", result.Target);
        result = await Test("""{"regex_uri":["(?s)^(.*)$","/x"],"headers":{"set":{"X-U":"$1"}}}""").GetAsync("/a%0D%0AX-Evil:%201");
        Assert.Equal("/a%0D%0AX-Evil: 1", result.Sent("X-U"));
    }

    [Fact]
    public async Task Headers_are_added_set_and_removed()
    {
        var result = await Test("""{"headers":{"add":{"X-A":"2"},"set":{"X-B":"$remote_addr","X-N":5},"remove":["X-C"]}}""")
            .GetAsync("/", ("X-A", "1"), ("X-B", "old"), ("X-C", "gone"));
        Assert.Equal("1 | 2", result.Sent("X-A"));
        Assert.Equal("192.0.2.1", result.Sent("X-B"));
        Assert.Equal("5", result.Sent("X-N"));
        Assert.Null(result.Sent("X-C"));
    }

    [Fact]
    public async Task The_old_form_of_headers_sets()
    {
        var result = await Test("""{"headers":{"X-A":"v-$arg_n"}}""").GetAsync("/?n=7", ("X-A", "1"));
        Assert.Equal("v-7", result.Sent("X-A"));
    }

    [Fact]
    public async Task Groups_of_regex_uri_are_known_in_headers()
    {
        var result = await Test("""{"regex_uri":["^/(\\w+)/(\\w+)","/$2/$1"],"headers":{"set":{"X-First":"$1-$9."}}}""")
            .GetAsync("/one/two");
        Assert.Equal("/two/one", result.Target);
        Assert.Equal("one-.", result.Sent("X-First"));
    }

    [Fact]
    public async Task Method_and_host_are_the_configured_ones()
    {
        var result = await Test("""{"method":"POST","host":"other.test:81"}""").GetAsync("/");
        Assert.Equal("POST", result.Exchange.UpstreamMethod);
        Assert.Equal("other.test:81", result.Exchange.UpstreamHost);
    }

    [Theory]
    [InlineData("""{"disable_buffering":true}""", false)]
    [InlineData("""{"disable_buffering":false}""", true)]
    public async Task Disable_buffering_decides_about_streams_too(string config, bool on)
    {
        var result = await Test(config).GetAsync("/");
        var reason = BufferingRules.Response(result.Exchange, null, isStream: true);
        Assert.Equal(("plugin", on, "route r1"), (reason.Level, reason.On, reason.Place));
    }

    [Fact]
    public void Contradicting_proxy_buffering_is_refused_with_both_names()
    {
        var route = TestExchange.Document(ResourceKind.Routes, "r1", """
            {"uri":"/*","upstream":{"nodes":{"127.0.0.1:1":1}},
             "plugins":{"proxy-rewrite":{"disable_buffering":true},"proxy-buffering":{"disable_proxy_buffering":false}}}
            """);
        var error = Assert.Throws<InvalidOperationException>(() => TestExchange.Compile([route], Builtin.All));
        Assert.Contains("proxy-rewrite", error.Message, StringComparison.Ordinal);
        Assert.Contains("proxy-buffering", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Lists_are_headers_of_one_name_and_empty_values_are_none()
    {
        var result =
            await Test(
                """{"headers":{"set":{"X-Set":["a","$http_x_from"],"X-Gone":"$http_nothing"},"add":{"X-Add":["1",2],"X-None":""}}}""")
            .GetAsync("/", ("X-From", "b"), ("X-Set", "old"), ("X-Gone", "old"), ("X-Add", "0"));
        Assert.Equal("a|b", string.Join('|', result.Exchange.Request.Headers["X-Set"].ToArray()));
        Assert.Equal("0|1|2", string.Join('|', result.Exchange.Request.Headers["X-Add"].ToArray()));
        Assert.Empty(result.Exchange.Request.Headers["X-Gone"].ToArray());
        Assert.False(result.Exchange.Request.Headers.ContainsKey("X-None"));
    }

    [Fact]
    public async Task With_the_real_uri_the_query_that_the_client_sent_goes_along()
    {
        Assert.Equal("/new?q=%61&x", (await Test("""{"uri":"/new","use_real_request_uri_unsafe":true}""").GetAsync("/p?q=%61&x")).Target);
        Assert.Equal("/new?x=1&q=a", (await Test("""{"uri":"/new?x=1","use_real_request_uri_unsafe":true}""").GetAsync("/p?q=a")).Target);
    }

    [Fact]
    public async Task The_uri_variable_is_the_new_path() =>
        Assert.Equal("/new", (await Test("""{"uri":"/new?x=1"}""").GetAsync("/p")).Exchange.Get("uri"));

    static PluginTest Test(string config) => new($$$"""{"proxy-rewrite":{{{config}}}}""");
}

using System.Text.RegularExpressions;

namespace Sluice.Tests.Plugins.Traffic;

public class RequestIdTests
{
    [Theory]
    [InlineData("""{"algorithm":"bogus"}""", """property "algorithm" validation failed: matches none of the enum values""")]
    [InlineData("""{"range_id":{"length":5}}""",
        """property "range_id" validation failed: property "length" validation failed: expected 5 to be at least 6""")]
    [InlineData("""{"header_name":"a b"}""", """property "header_name" validation failed: not a header name: "a b" """)]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error.TrimEnd(), PluginTest.Check("request-id", config));

    [Theory]
    [InlineData("{}", "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")]
    [InlineData("""{"algorithm":"uuidv7"}""", "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")]
    [InlineData("""{"algorithm":"nanoid"}""", "^[A-Za-z0-9_-]{21}$")]
    [InlineData("""{"algorithm":"range_id"}""", "^[A-Za-z0-9]{16}$")]
    [InlineData("""{"algorithm":"range_id","range_id":{"length":8,"char_set":"abcdef"}}""", "^[a-f]{8}$")]
    [InlineData("""{"algorithm":"ksuid"}""", "^[A-Za-z0-9]{27}$")]
    public async Task Upstream_and_client_get_the_same_fresh_id(string config, string pattern)
    {
        var test = Test(config);
        var one = await test.GetAsync("/");
        var two = await test.GetAsync("/");
        Assert.Matches(new Regex(pattern), one.Sent("X-Request-Id"));
        Assert.Equal(one.Sent("X-Request-Id"), one.Answered("X-Request-Id"));
        Assert.NotEqual(one.Sent("X-Request-Id"), two.Sent("X-Request-Id"));
    }

    [Fact]
    public async Task Ids_of_client_and_upstream_are_kept()
    {
        var result = await Test("""{"header_name":"X-My"}""")
            .SendAsync("GET", "/", new PluginTest.Upstream(200, ("X-My", "upstreams")), ("X-My", "clients"));
        Assert.Equal("clients", result.Sent("X-My"));
        Assert.Equal("upstreams", result.Answered("X-My"));
        Assert.Equal("clients", (await Test("{}").GetAsync("/", ("X-Request-Id", "clients"))).Answered("X-Request-Id"));
    }

    [Fact]
    public async Task A_variable_has_the_id_whoever_made_it()
    {
        var made = await Test("""{"include_in_response":false}""").GetAsync("/");
        Assert.Equal(made.Sent("X-Request-Id"), made.Exchange.Get("apisix_request_id"));
        Assert.NotEqual(made.Sent("X-Request-Id"), made.Exchange.Get("request_id"));
        Assert.Equal("clients", (await Test("{}").GetAsync("/", ("X-Request-Id", "clients"))).Exchange.Get("apisix_request_id"));
        var without = (await new PluginTest("{}").GetAsync("/")).Exchange;
        Assert.Equal(without.Get("request_id"), without.Get("apisix_request_id"));
    }

    [Fact]
    public async Task The_request_id_is_not_in_the_response_when_not_asked_for() =>
        Assert.Null((await Test("""{"include_in_response":false}""").GetAsync("/")).Answered("X-Request-Id"));

    static PluginTest Test(string config) => new($$$"""{"request-id":{{{config}}}}""");
}

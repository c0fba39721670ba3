namespace Sluice.Tests.Plugins.Security;

public class CorsTests
{
    const string A = "https://a.test";

    [Theory]
    [InlineData("""{"allow_credential":true}""", "you can not set '*' for other option when 'allow_credential' is true")]
    [InlineData(
        """{"allow_credential":true,"allow_origins":"https://a.test","allow_methods":"GET","allow_headers":"a","expose_headers":"*"}""",
        "you can not set '*' for other option when 'allow_credential' is true")]
    [InlineData("""{"allow_origins":"a.test"}""",
        """property "allow_origins" validation failed: failed to match pattern "^(\\*|\\*\\*|null|\\w+://[^,]+(,\\w+://[^,]+)*)$" with "a.test" """)]
    [InlineData("""{"allow_origins_by_regex":["a","a"]}""",
        """property "allow_origins_by_regex" validation failed: expected unique items but items 1 and 2 are equal""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error.TrimEnd(), PluginTest.Check("cors", config));

    [Fact]
    public void A_regular_expression_that_does_not_compile_is_refused() =>
        Assert.NotNull(PluginTest.Check("cors", """{"allow_origins_by_regex":["("]}"""));

    [Fact]
    public async Task By_default_everybody_may_read()
    {
        var result = await Test("{}").GetAsync("/", ("Origin", A));
        Assert.Equal(
            ("*", "*", "*", "5", null, null),
            (result.Answered("Access-Control-Allow-Origin"), result.Answered("Access-Control-Allow-Methods"),
                result.Answered("Access-Control-Allow-Headers"),
                result.Answered("Access-Control-Max-Age"), result.Answered("Vary"), result.Answered("Access-Control-Allow-Credentials")));
    }

    [Fact]
    public async Task The_gateway_answers_the_preflight()
    {
        var result =
            await Test(
                """{"allow_origins":"**","allow_methods":"**","allow_headers":"**","allow_credential":true,"expose_headers":"x-a"}""")
            .SendAsync("OPTIONS", "/", null, ("Origin", A), ("Access-Control-Request-Headers", "x-custom"));
        Assert.False(result.Proxied);
        Assert.Equal((200, ""), (result.Status, result.Body));
        Assert.Equal(A, result.Answered("Access-Control-Allow-Origin"));
        Assert.Equal("GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS,CONNECT,TRACE", result.Answered("Access-Control-Allow-Methods"));
        Assert.Equal("x-custom", result.Answered("Access-Control-Allow-Headers"));
        Assert.Equal("x-a", result.Answered("Access-Control-Expose-Headers"));
        Assert.Equal("true", result.Answered("Access-Control-Allow-Credentials"));
        Assert.Equal("Origin", result.Answered("Vary"));
    }

    [Theory]
    [InlineData("""{"allow_origins":"https://a.test,https://b.test"}""", "https://b.test", "https://b.test")]
    [InlineData("""{"allow_origins":"https://a.test,https://b.test"}""", "https://c.test", null)]
    [InlineData("""{"allow_origins":"https://a.test,https://b.test"}""", null, null)]
    [InlineData("""{"allow_origins":"https://a.test"}""", "https://c.test", null)]
    [InlineData("""{"allow_origins":"**"}""", null, "*")]
    [InlineData("""{"allow_origins_by_regex":[".*\\.test$"]}""", "https://a.test", "https://a.test")]
    [InlineData("""{"allow_origins_by_regex":[".*\\.test$"]}""", "https://a.test.evil", null)]
    [InlineData("""{"allow_origins_by_metadata":["known"]}""", "https://m.test", "https://m.test")]
    [InlineData("""{"allow_origins_by_metadata":["known"]}""", "https://x.test", null)]
    [InlineData("""{"allow_origins_by_metadata":["known"],"allow_origins":"https://x.test"}""", "https://x.test", "https://x.test")]
    [InlineData("""{"allow_origins_by_metadata":["unknown"],"allow_origins_by_regex":["^https://x"]}""", "https://x.test",
        "https://x.test")]
    public async Task Allowed_origins_and_only_they_get_headers(string config, string? origin, string? allowed)
    {
        var metadata = new Sluice.Model.Document(
            Sluice.Model.ResourceKind.PluginMetadata, "cors",
            new() { ["allow_origins"] = new System.Text.Json.Nodes.JsonObject { ["known"] = "https://m.test,https://n.test" } }, 1, 1, "");
        var result = await new PluginTest($$$"""{"cors":{{{config}}}}""", metadata).GetAsync("/",
            origin is null ? [] : [("Origin", origin)]);
        Assert.Equal(allowed, result.Answered("Access-Control-Allow-Origin"));
        // also when this origin is not allowed: caches keep answers
        Assert.Equal(config is "{}" or """{"allow_origins":"*"}""" ? null : "Origin", result.Answered("Vary"));
        Assert.Equal(allowed is null ? null : "*", result.Answered("Access-Control-Allow-Methods"));
    }

    [Theory]
    [InlineData("""{"timing_allow_origins":"https://a.test"}""", A)]
    [InlineData("""{"timing_allow_origins_by_regex":["a\\.test"]}""", A)]
    [InlineData("""{"timing_allow_origins":"https://b.test"}""", null)]
    [InlineData("{}", null)]
    public async Task Timing_has_origins_of_its_own(string config, string? allowed) =>
        Assert.Equal(allowed, (await Test(config).GetAsync("/", ("Origin", A))).Answered("Timing-Allow-Origin"));

    [Fact]
    public async Task A_refusal_of_another_plugin_carries_the_headers_too()
    {
        var result = await new PluginTest("""{"cors":{},"key-auth":{}}""").GetAsync("/", ("Origin", A));
        Assert.Equal((401, "*"), (result.Status, result.Answered("Access-Control-Allow-Origin")));
    }

    static PluginTest Test(string config) => new($$$"""{"cors":{{{config}}}}""");
}

using System.Text.Json.Nodes;
using Sluice.Model;

namespace Sluice.Tests.Plugins.Auth;

public class KeyAuthTests
{
    [Fact]
    public void A_consumer_needs_a_key()
    {
        Assert.Equal("property \"key\" is required", PluginTest.CheckConsumer("key-auth", "{}"));
        Assert.Null(PluginTest.CheckConsumer("key-auth", """{"key":"k"}"""));
        Assert.Null(PluginTest.Check("key-auth", "{}"));
    }

    [Theory]
    [InlineData(null, "{\"message\":\"Missing API key in request\"}\n")]
    [InlineData("wrong", "{\"message\":\"Invalid API key in request\"}\n")]
    public async Task Without_a_consumers_key_the_answer_is_401(string? key, string body)
    {
        var result = await Test("{}").GetAsync("/", key is null ? [] : [("apikey", key)]);
        Assert.Equal(401, result.Status);
        Assert.Equal(body, result.Body);
        Assert.Equal("apikey realm=\"key\"", result.Answered("WWW-Authenticate"));
        Assert.Equal("text/plain; charset=utf-8", result.Answered("Content-Type"));
    }

    [Fact]
    public async Task The_consumer_is_known_and_told_to_the_upstream()
    {
        var result = await Test("{}").GetAsync("/",
            ("apikey", "k1"), ("X-Consumer-Username", "evil"), ("X-Consumer-Custom-ID", "evil"), ("X-Credential-Identifier", "evil"),
            ("X-Consumer-Group-Id", "evil"));
        Assert.True(result.Proxied);
        Assert.Equal("jack", result.Exchange.Consumer!.Username);
        Assert.Equal("jack", result.Sent("X-Consumer-Username"));
        Assert.Equal("c-7", result.Sent("X-Consumer-Custom-ID"));
        Assert.Null(result.Sent("X-Credential-Identifier"));
        Assert.Null(result.Sent("X-Consumer-Group-Id"));
        Assert.Equal("k1", result.Sent("apikey"));
    }

    [Fact]
    public async Task A_credentials_key_identifies_its_consumer_and_is_named_to_the_upstream()
    {
        var credential = new Document(ResourceKind.Credentials, "jack/credentials/c9",
            JsonNode.Parse("""{"id":"c9","plugins":{"key-auth":{"key":"k9"}}}""")!.AsObject(), 1, 1, "c9");
        var test = new PluginTest("""{"key-auth":{}}""", PluginTest.Consumer("jack", """{"key-auth":{"key":"k1"}}"""), credential);
        var result = await test.GetAsync("/", ("apikey", "k9"));
        Assert.Equal("jack", result.Sent("X-Consumer-Username"));
        Assert.Equal("c9", result.Sent("X-Credential-Identifier"));
        Assert.Same(test.Snapshot.Consumers.All["jack"], result.Exchange.Consumer!.Owner);
        Assert.Null((await test.GetAsync("/", ("apikey", "k1"))).Sent("X-Credential-Identifier"));
    }

    [Fact]
    public async Task The_key_may_come_in_the_query_and_be_hidden()
    {
        var result = await Test("""{"query":"k e","hide_credentials":true}""").GetAsync("/p?a=1&k%20e=k%31&b=%2B");
        Assert.True(result.Proxied);
        Assert.Equal("/p?a=1&b=%2B", result.Target);
        Assert.Equal("a=1&b=%2B", result.Exchange.Args);
    }

    [Fact]
    public async Task The_header_is_hidden_when_asked_for()
    {
        var result = await Test("""{"header":"X-Key","hide_credentials":true}""").GetAsync("/", ("X-Key", "k1"));
        Assert.True(result.Proxied);
        Assert.Null(result.Sent("X-Key"));
    }

    [Fact]
    public async Task The_anonymous_consumer_takes_who_has_no_key()
    {
        var result = await Test("""{"anonymous_consumer":"jack"}""").GetAsync("/", ("apikey", "wrong"));
        Assert.True(result.Proxied);
        Assert.Equal("jack", result.Sent("X-Consumer-Username"));
        var missing = await Test("""{"anonymous_consumer":"nobody"}""").GetAsync("/");
        Assert.Equal((401, "{\"message\":\"Invalid user authorization\"}\n"), (missing.Status, missing.Body));
    }

    [Fact]
    public async Task The_realm_is_the_configured_one()
    {
        var result = await Test("""{"realm":"mine"}""").GetAsync("/");
        Assert.Equal("apikey realm=\"mine\"", result.Answered("WWW-Authenticate"));
    }

    [Fact]
    public async Task Who_asks_for_a_missing_anonymous_consumer_is_challenged_all_the_same()
    {
        var result = await Test("""{"anonymous_consumer":"nobody"}""").GetAsync("/");
        Assert.Equal((401, "apikey realm=\"key\""), (result.Status, result.Answered("WWW-Authenticate")));
    }

    [Fact]
    public async Task Wrong_credentials_are_hidden_too_when_the_request_counts_as_anonymous()
    {
        var result = await Test("""{"anonymous_consumer":"jack","hide_credentials":true}""")
            .GetAsync("/p?apikey=wrong&a=1", ("apikey", "wrong"));
        Assert.True(result.Proxied);
        Assert.Null(result.Sent("apikey"));
        Assert.Equal("/p?a=1", result.Target);
    }

    static PluginTest Test(string config) => new(
        $$$"""{"key-auth":{{{config}}}}""",
        PluginTest.Consumer("jack", """{"key-auth":{"key":"k1"}}""", """,  "labels":{"custom_id":"c-7"}"""));
}

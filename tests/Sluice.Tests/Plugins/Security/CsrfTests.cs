using System.Text;

namespace Sluice.Tests.Plugins.Security;

public class CsrfTests
{
    const string Config = """{"csrf":{"key":"userkey"}}""";

    /// <summary>What APISIX made with this key; its JSON writes the number with the digits that Lua prints.</summary>
    static string TokenAt(long issued, string random = "0.42", string? signature = null) => Convert.ToBase64String(Encoding.UTF8.GetBytes(
        $"{{\"random\":{random},\"expires\":{issued},\"sign\":\"{signature ?? Sign($"{{expires:{issued},random:0.42,key:userkey}}")}\"}}"));

    static string Sign(string text) => Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    [Fact]
    public void The_key_is_needed_and_kept_secret()
    {
        Assert.Equal("property \"key\" is required", PluginTest.Check("csrf", "{}"));
        Assert.Equal(["key"], PluginTest.Of("csrf").SecretsOfConfig);
    }

    [Theory]
    [InlineData("GET", 200)]
    [InlineData("HEAD", 200)]
    [InlineData("OPTIONS", 200)]
    [InlineData("POST", 401)]
    [InlineData("DELETE", 401)]
    public async Task Every_answer_brings_a_token_and_what_changes_things_needs_one(string method, int status)
    {
        var result = await new PluginTest(Config).SendAsync(method, "/", new(200, ("Set-Cookie", "own=1")));
        Assert.Equal(status, result.Status);
        var cookies = result.Answered("Set-Cookie")!.Split(" | ");
        Assert.Equal(status == 200 ? 2 : 1, cookies.Length);
        Assert.Matches(
            "^apisix-csrf-token=[A-Za-z0-9+/=]+;path=/;SameSite=Lax;Expires=[A-Z][a-z]{2}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9:]{8} GMT$",
            cookies[^1]);
    }

    [Fact]
    public async Task The_token_of_an_answer_lets_the_next_request_in()
    {
        var test = new PluginTest(Config);
        for (var i = 0; i < 50; i++)
        {
            var token = (await test.GetAsync("/")).Answered("Set-Cookie")!.Split('=', 2)[1].Split(';')[0];
            Assert.True((await Post(test, token, token)).Proxied, Encoding.UTF8.GetString(Convert.FromBase64String(token)));
        }
    }

    [Theory]
    [InlineData(null, "x", "no csrf token in headers")]
    [InlineData("", "x", "no csrf token in headers")]
    [InlineData("x", null, "no csrf cookie")]
    [InlineData("x", "y", "csrf token mismatch")]
    [InlineData("x", "x", "Failed to verify the csrf token signature")]
    [InlineData("eyJyYW5kb20iOjF9", "eyJyYW5kb20iOjF9", "Failed to verify the csrf token signature")]
    public async Task A_wrong_token_is_refused(string? header, string? cookie, string error)
    {
        var result = await Post(new PluginTest(Config), header, cookie);
        Assert.Equal((401, $"{{\"error_msg\":\"{error}\"}}\n"), (result.Status, result.Body));
    }

    [Fact]
    public async Task A_token_ends_with_its_time_and_holds_for_its_key_only()
    {
        var test = new PluginTest(Config);
        var now = test.Time.GetUtcNow().ToUnixTimeSeconds();
        Assert.True((await Post(test, TokenAt(now - 7200))).Proxied);
        Assert.Equal(401, (await Post(test, TokenAt(now - 7201))).Status);
        Assert.Equal(401, (await Post(test, TokenAt(now, signature: Sign("")))).Status);
        var other = new PluginTest("""{"csrf":{"key":"other","expires":0}}""");
        Assert.Equal(401, (await Post(other, TokenAt(now))).Status);
        Assert.True((await Post(new PluginTest("""{"csrf":{"key":"userkey","expires":0}}"""), TokenAt(1))).Proxied);
    }

    [Fact]
    public async Task Digits_beyond_those_that_Lua_prints_do_not_count()
    {
        var test = new PluginTest(Config);
        Assert.True((await Post(test, TokenAt(test.Time.GetUtcNow().ToUnixTimeSeconds(), "0.4200000000000000001"))).Proxied);
    }

    static Task<PluginTest.Result> Post(PluginTest test, string token) => Post(test, token, token);

    static Task<PluginTest.Result> Post(PluginTest test, string? header, string? cookie) => test.SendAsync("POST", "/", null,
        [.. header is null ? [] : new[] { ("apisix-csrf-token", header) },
            .. cookie is null ? [] : new[] { ("Cookie", $"a=b; apisix-csrf-token={cookie}") }]);
}

using System.Security.Cryptography;
using System.Text;
using Sluice.Pipeline;

namespace Sluice.Tests.Plugins.Auth;

public class HmacAuthTests
{
    [Theory]
    [InlineData("""{"key_id":"k"}""", "property \"secret_key\" is required")]
    [InlineData("""{"secret_key":"s"}""", "property \"key_id\" is required")]
    [InlineData("""{"key_id":"","secret_key":"s"}""",
        "property \"key_id\" validation failed: string too short, expected at least 1, got 0")]
    public void A_consumer_needs_id_and_secret(string consumer, string error)
    {
        Assert.Equal(error, PluginTest.CheckConsumer("hmac-auth", consumer));
        Assert.Equal(["secret_key"], PluginTest.Of("hmac-auth").SecretsOfConsumer);
    }

    [Fact]
    public void Algorithms_are_known_ones() => Assert.StartsWith(
        "property \"allowed_algorithms\" validation failed: ", PluginTest.Check("hmac-auth", """{"allowed_algorithms":["hmac-md5"]}"""),
        StringComparison.Ordinal);

    [Theory]
    [InlineData(null, "client request can't be validated: missing Authorization header")]
    [InlineData("Basic x", "client request can't be validated: Authorization header does not start with 'Signature'")]
    [InlineData("Signature", "client request can't be validated")]
    [InlineData("Signature keyId=\"nobody\",algorithm=\"hmac-sha256\",headers=\"date\",signature=\"AAAA\"",
        "client request can't be validated")]
    public async Task Without_a_signature_the_answer_is_401(string? header, string message)
    {
        var result = await Test().GetAsync("/", header is null ? [] : [("Authorization", header)]);
        Assert.Equal((401, $"{{\"message\":\"{message}\"}}\n"), (result.Status, result.Body));
        Assert.Equal("hmac realm=\"hmac\"", result.Answered("WWW-Authenticate"));
    }

    [Theory]
    [InlineData("hmac-sha1")]
    [InlineData("hmac-sha256")]
    [InlineData("hmac-sha512")]
    public async Task A_signed_request_is_its_consumers(string algorithm)
    {
        var test = Test();
        var result = await Send(test, algorithm, "date @request-target x-a absent");
        Assert.True(result.Proxied, result.Body);
        Assert.Equal("jack", result.Sent("X-Consumer-Username"));
        Assert.NotNull(result.Sent("Authorization"));
    }

    [Fact]
    public async Task What_is_signed_cannot_be_changed()
    {
        Assert.Equal(401, (await Send(Test(), change: headers => headers["x-a"] = "2")).Status);
        Assert.Equal(401, (await Send(Test(), change: headers => headers["Date"] = "Wed, 01 Jan 2020 00:00:01 GMT")).Status);
        Assert.Equal(401, (await Send(Test(), target: "/p?a=2")).Status);
        Assert.Equal(401, (await Send(Test(), secret: "other")).Status);
    }

    [Theory]
    [InlineData(300, true)]
    [InlineData(-300, true)]
    [InlineData(301, false)]
    [InlineData(-301, false)]
    public async Task Clocks_may_differ_so_much_and_no_more(int seconds, bool passes) =>
        Assert.Equal(passes, (await Send(Test(), skew: seconds)).Proxied);

    [Fact]
    public async Task The_route_says_what_must_be_signed_and_how()
    {
        Assert.Equal(401, (await Send(Test(), headers: "@request-target")).Status);
        Assert.True((await Send(Test("""{"signed_headers":[]}"""), headers: "@request-target")).Proxied);
        Assert.Equal(401, (await Send(Test("""{"allowed_algorithms":["hmac-sha512"]}"""))).Status);
        Assert.True((await Send(Test("""{"allowed_algorithms":["hmac-sha256"]}"""))).Proxied);
    }

    [Fact]
    public async Task The_body_is_the_one_that_the_digest_tells()
    {
        const string Config = """{"validate_request_body":true,"max_req_body_size":8}""";
        var empty = "SHA-256=" + Convert.ToBase64String(SHA256.HashData([]));
        Assert.True((await Send(Test(Config), change: headers => headers["Digest"] = empty)).Proxied);
        Assert.Equal(401, (await Send(Test(Config), change: headers => headers["Digest"] = "SHA-256=x")).Status);
        Assert.Equal(401, (await Send(Test(Config))).Status);
    }

    [Theory]
    [InlineData("""{"validate_request_body":true}""", true)]
    [InlineData("{}", false)]
    public void Only_a_route_that_validates_bodies_waits_for_them(string config, bool waits) =>
        Assert.Equal(waits, Test(config).Snapshot.Routes.Values.Single().Chain.Steps(Phase.BufferingRule).Length > 0);

    [Fact]
    public async Task Credentials_are_hidden_and_the_anonymous_consumer_takes_the_rest()
    {
        var test = Test("""{"hide_credentials":true,"anonymous_consumer":"guest"}""");
        var known = await Send(test);
        Assert.Equal(("jack", null), (known.Sent("X-Consumer-Username"), known.Sent("Authorization")));
        var guest = await Send(test, secret: "other");
        Assert.Equal(("guest", null), (guest.Sent("X-Consumer-Username"), guest.Sent("Authorization")));
    }

    static Task<PluginTest.Result> Send(
        PluginTest test, string algorithm = "hmac-sha256", string headers = "date @request-target x-a", string secret = "secret",
        int skew = 0, string target = "/p?a=1",
        Action<Dictionary<string, string>>? change = null)
    {
        Dictionary<string, string> sent = new()
        {
            ["Date"] = test.Time.GetUtcNow().AddSeconds(skew).ToString("R", System.Globalization.CultureInfo.InvariantCulture),
            ["x-a"] = "1",
        };
        var lines = headers.Split(' ').Select(name => name switch
        {
            "date" => $"date: {sent["Date"]}\n",
            "x-a" => "x-a: 1\n",
            "@request-target" => "GET /p?a=1\n",
            _ => "",
        });
        var text = Encoding.UTF8.GetBytes($"jack-key\n{string.Concat(lines)}");
        var key = Encoding.UTF8.GetBytes(secret);
#pragma warning disable CA5350
        var signature = algorithm switch
        {
            "hmac-sha1" => HMACSHA1.HashData(key, text),
            "hmac-sha256" => HMACSHA256.HashData(key, text),
            _ => HMACSHA512.HashData(key, text),
        };
#pragma warning restore CA5350
        change?.Invoke(sent);
        sent["Authorization"] =
            $"Signature keyId=\"jack-key\",algorithm=\"{algorithm}\",headers=\"{headers}\",signature=\"{Convert.ToBase64String(signature)}\"";
        return test.GetAsync(target, [.. sent.Select(header => (header.Key, header.Value))]);
    }

    static PluginTest Test(string config = "{}") => new(
        $$$"""{"hmac-auth":{{{config}}}}""",
        PluginTest.Consumer("jack", """{"hmac-auth":{"key_id":"jack-key","secret_key":"secret"}}"""),
        PluginTest.Consumer("guest", "{}"));
}

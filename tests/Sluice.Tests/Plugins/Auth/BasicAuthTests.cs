using System.Text;

namespace Sluice.Tests.Plugins.Auth;

public class BasicAuthTests
{
    [Fact]
    public void A_consumer_needs_name_and_password()
    {
        Assert.Equal("property \"username\" is required", PluginTest.CheckConsumer("basic-auth", """{"password":"p"}"""));
        Assert.Equal("property \"password\" is required", PluginTest.CheckConsumer("basic-auth", """{"username":"u"}"""));
        Assert.Null(PluginTest.CheckConsumer("basic-auth", """{"username":"u","password":"p"}"""));
        Assert.Equal(["password"], PluginTest.Of("basic-auth").SecretsOfConsumer);
    }

    [Theory]
    [InlineData("a b", true)]
    [InlineData("a\"b", false)]
    [InlineData("a\\b", false)]
    [InlineData("a\nb", false)]
    [InlineData("é", false)]
    [InlineData("a[b]~", true)]
    public void A_realm_is_printable_and_cannot_end_its_quotes(string realm, bool passes)
    {
        var error = PluginTest.Check("basic-auth", $$"""{"realm":{{System.Text.Json.JsonSerializer.Serialize(realm)}}}""");
        Assert.Equal(passes, error is null);
        Assert.True(passes || error!.StartsWith("property \"realm\" validation failed: failed to match pattern ", StringComparison.Ordinal),
            error);
    }

    [Theory]
    [InlineData(null, "Missing authorization in request")]
    [InlineData("Bearer x", "Invalid authorization in request")]
    [InlineData("Basic", "Invalid authorization in request")]
    [InlineData("Basic aca_a", "Invalid authorization in request")]
    [InlineData("Basic YmFy", "Invalid authorization in request")]
    [InlineData("Basic bm9ib2R5OnA=", "Invalid user authorization")]
    [InlineData("Basic amFjazp3cm9uZw==", "Invalid user authorization")]
    public async Task Without_a_consumers_credentials_the_answer_is_401(string? header, string message)
    {
        var result = await Test().GetAsync("/", header is null ? [] : [("Authorization", header)]);
        Assert.Equal((401, $"{{\"message\":\"{message}\"}}\n"), (result.Status, result.Body));
        Assert.Equal("Basic realm=\"basic\"", result.Answered("WWW-Authenticate"));
    }

    [Theory]
    [InlineData("jack:a:b", "Basic ")]
    [InlineData("jack:a:b", "x bASic\t")]
    [InlineData(" ja ck :a\n:b ", "Basic ")]
    public async Task Name_and_password_identify_a_consumer(string credentials, string scheme)
    {
        var result = await Test().GetAsync("/", ("Authorization", scheme + Encode(credentials)), ("X-Consumer-Username", "evil"));
        Assert.True(result.Proxied, result.Body);
        Assert.Equal("jack", result.Sent("X-Consumer-Username"));
        Assert.NotNull(result.Sent("Authorization"));
    }

    [Fact]
    public async Task Names_and_passwords_may_be_of_any_script()
    {
        var test = new PluginTest("""{"basic-auth":{}}""",
            PluginTest.Consumer("jack", """{"basic-auth":{"username":"ümit","password":"пароль"}}"""));
        Assert.True((await test.GetAsync("/", ("Authorization", "Basic " + Encode("ümit:пароль")))).Proxied);
        Assert.Equal(401, (await test.GetAsync("/", ("Authorization", "Basic " + Encode("ümit:парол")))).Status);
    }

    [Fact]
    public async Task Credentials_are_hidden_when_asked_for_also_from_the_anonymous_consumers_upstream()
    {
        var test = Test("""{"hide_credentials":true,"anonymous_consumer":"guest"}""");
        var known = await test.GetAsync("/", ("Authorization", "Basic " + Encode("jack:a:b")));
        Assert.Equal(("jack", null), (known.Sent("X-Consumer-Username"), known.Sent("Authorization")));
        var guest = await test.GetAsync("/", ("Authorization", "Basic " + Encode("jack:wrong")));
        Assert.Equal(("guest", null), (guest.Sent("X-Consumer-Username"), guest.Sent("Authorization")));
    }

    [Fact]
    public async Task A_missing_anonymous_consumer_lets_nobody_in()
    {
        var result = await Test("""{"anonymous_consumer":"nobody","realm":"mine"}""").GetAsync("/");
        Assert.Equal((401, "{\"message\":\"Invalid user authorization\"}\n"), (result.Status, result.Body));
        Assert.Equal("Basic realm=\"mine\"", result.Answered("WWW-Authenticate"));
    }

    static string Encode(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));

    static PluginTest Test(string config = "{}") => new(
        $$$"""{"basic-auth":{{{config}}}}""",
        PluginTest.Consumer("jack", """{"basic-auth":{"username":"jack","password":"a:b"}}"""),
        PluginTest.Consumer("guest", "{}"));
}

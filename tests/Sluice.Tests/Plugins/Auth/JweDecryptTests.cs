using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;

namespace Sluice.Tests.Plugins.Auth;

public class JweDecryptTests
{
    const string Secret = "-secret-length-must-be-32-chars-";

    [Theory]
    [InlineData("""{"key":"k"}""", "property \"secret\" is required")]
    [InlineData("""{"key":"k","secret":"short"}""", "the secret length should be 32 chars")]
    [InlineData("""{"key":"k","secret":"c2hvcnQ","is_base64_encoded":true}""", "the secret length after base64 decode should be 32 chars")]
    [InlineData("""{"key":"k","secret":"-secret-length-must-be-32-chars-"}""", null)]
    [InlineData("""{"key":"k","secret":"$env://JWE"}""", null)]
    public void A_consumer_needs_a_key_of_32_bytes(string consumer, string? error)
    {
        Assert.Equal(error, PluginTest.CheckConsumer("jwe-decrypt", consumer));
        Assert.Equal(["key", "secret"], PluginTest.Of("jwe-decrypt").SecretsOfConsumer);
    }

    [Fact]
    public void Both_headers_must_be_named()
    {
        Assert.Equal("property \"header\" is required", PluginTest.Check("jwe-decrypt", """{"forward_header":"A"}"""));
        Assert.NotNull(PluginTest.Check("jwe-decrypt", """{"header":"A","forward_header":"a b"}"""));
    }

    [Theory]
    [InlineData("a.b", "JWE token invalid")]
    [InlineData("{}.a.b.c.d", "JWE token invalid")]
    [InlineData("e30.a.b.c.d", "missing kid in JWE token")]
    [InlineData("eyJraWQiOiJub2JvZHkifQ.a.b.c.d", "invalid kid in JWE token")]
    [InlineData("eyJraWQiOiJqYWNrLWtleSJ9.a.b.c.d", "failed to decrypt JWE token")]
    [InlineData("eyJraWQiOiJqYWNrLWtleSJ9..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA", "failed to decrypt JWE token")]
    public async Task What_is_no_token_of_a_consumer_is_refused(string token, string message)
    {
        var result = await Test().GetAsync("/", ("Authorization", token));
        Assert.Equal((400, $"{{\"message\":\"{message}\"}}\n"), (result.Status, result.Body));
    }

    [Fact]
    public async Task Without_a_token_a_strict_route_lets_nobody_in()
    {
        var strict = await Test().GetAsync("/");
        Assert.Equal((403, "{\"message\":\"missing JWE token in request\"}\n"), (strict.Status, strict.Body));
        Assert.True((await Test(""","strict":false""").GetAsync("/")).Proxied);
    }

    [Theory]
    [InlineData(true, "Bearer ", "jack-key")]
    [InlineData(false, "bearer ", "jack-key")]
    [InlineData(true, "", "jill-key")]
    public async Task The_upstream_gets_what_was_encrypted(bool headerAuthenticated, string prefix, string key)
    {
        var result = await Test().GetAsync("/", ("Authorization", prefix + Token("hello", headerAuthenticated, key)), ("X-Plain", "evil"));
        Assert.True(result.Proxied, result.Body);
        Assert.Equal("hello", result.Sent("X-Plain"));
        Assert.Null(result.Exchange.Consumer);
    }

    [Fact]
    public async Task What_was_encrypted_does_not_break_out_of_its_header()
    {
        var result = await Test().GetAsync("/", ("Authorization", Token("a\r\nX-Evil: 1", true, "jack-key")));
        Assert.Equal("a%0D%0AX-Evil: 1", result.Sent("X-Plain"));
    }

    static string Token(string text, bool headerAuthenticated, string key)
    {
        var header = Base64Url.EncodeToString(Encoding.UTF8.GetBytes($"{{\"alg\":\"dir\",\"enc\":\"A256GCM\",\"kid\":\"{key}\"}}"));
        var (nonce, tag, encrypted) = (RandomNumberGenerator.GetBytes(12), new byte[16], new byte[text.Length]);
        using var cipher = new AesGcm(Encoding.UTF8.GetBytes(Secret), 16);
        cipher.Encrypt(nonce, Encoding.UTF8.GetBytes(text), encrypted, tag, headerAuthenticated ? Encoding.ASCII.GetBytes(header) : []);
        return $"{header}..{Base64Url.EncodeToString(nonce)}.{Base64Url.EncodeToString(encrypted)}.{Base64Url.EncodeToString(tag)}";
    }

    static PluginTest Test(string more = "") => new(
        $$$"""{"jwe-decrypt":{"header":"Authorization","forward_header":"X-Plain"{{{more}}}}}""",
        PluginTest.Consumer("jack", $$$"""{"jwe-decrypt":{"key":"jack-key","secret":"{{{Secret}}}"}}"""),
        PluginTest.Consumer("jill",
            $$$"""{"jwe-decrypt":{"key":"jill-key","is_base64_encoded":true,"secret":"{{{Base64Url.EncodeToString(Encoding.UTF8.GetBytes(Secret))}}}"}}"""));
}

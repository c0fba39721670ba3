using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Org.BouncyCastle.Crypto.Parameters;
using Org.BouncyCastle.Crypto.Signers;
using Org.BouncyCastle.Security;
using Org.BouncyCastle.X509;

namespace Sluice.Tests.Plugins.Auth;

public class JwtAuthTests
{
    [Theory]
    [InlineData("{}", "property \"key\" is required")]
    [InlineData("""{"key":"k"}""", "property \"secret\" is required when using HS based algorithms")]
    [InlineData("""{"key":"k","secret":"a","base64_secret":true}""", "base64_secret required but the secret is not in base64 format")]
    [InlineData("""{"key":"k","algorithm":"RS256"}""",
        "failed to validate dependent schema for \"algorithm\": value should match only one schema, but matches none")]
    [InlineData("""{"key":"k","secret":"s"}""", null)]
    [InlineData("""{"key":"k","secret":"$secret://vault/1/x","base64_secret":true}""", null)]
    [InlineData("""{"key":"k","algorithm":"EdDSA","public_key":"pem"}""", null)]
    public void A_consumer_needs_what_its_algorithm_needs(string consumer, string? error) =>
        Assert.Equal(error, PluginTest.CheckConsumer("jwt-auth", consumer));

    [Theory]
    [InlineData("""{"claims_to_verify":["iss"]}""")]
    [InlineData("""{"claims_to_verify":["exp","exp"]}""")]
    [InlineData("""{"key_claim_name":""}""")]
    public void A_route_says_what_can_be(string config) => Assert.NotNull(PluginTest.Check("jwt-auth", config));

    [Theory]
    [InlineData(null, "Missing JWT token in request")]
    [InlineData("Bearer x", "JWT token invalid")]
    [InlineData("Bearer a.b.c", "JWT token invalid")]
    public async Task Without_a_token_the_answer_is_401(string? header, string message)
    {
        var result = await Test().GetAsync("/", header is null ? [] : [("Authorization", header)]);
        Assert.Equal((401, $"{{\"message\":\"{message}\"}}\n"), (result.Status, result.Body));
        Assert.Equal("Bearer realm=\"jwt\"", result.Answered("WWW-Authenticate"));
    }

    [Theory]
    [InlineData("""{"sub":"jack-key"}""", "missing user key in JWT token")]
    [InlineData("""{"key":"nobody"}""", "Invalid user key in JWT token")]
    [InlineData("""{"key":1}""", "Invalid user key in JWT token")]
    [InlineData("""{"key":"jack-key","exp":1}""", "failed to verify jwt")]
    [InlineData("""{"key":"jack-key","exp":"soon"}""", "failed to verify jwt")]
    [InlineData("""{"key":"jack-key","nbf":99999999999}""", "failed to verify jwt")]
    public async Task A_token_that_does_not_hold_is_refused(string claims, string message)
    {
        var result = await Test().GetAsync("/", ("Authorization", "Bearer " + Token(claims)));
        Assert.Equal((401, $"{{\"message\":\"{message}\"}}\n"), (result.Status, result.Body));
    }

    [Fact]
    public async Task A_token_may_come_in_header_query_or_cookie_and_be_hidden()
    {
        var token = Token("""{"key":"jack-key"}""");
        foreach (var prefix in (string[])["Bearer ", "bearer ", ""])
        {
            var header = await Test("""{"hide_credentials":true}""").GetAsync("/", ("Authorization", prefix + token));
            Assert.Equal(("jack", null), (header.Sent("X-Consumer-Username"), header.Sent("Authorization")));
        }
        var query = await Test("""{"hide_credentials":true}""").GetAsync($"/?a=1&jwt={token}&b=2");
        Assert.Equal(("jack", "/?a=1&b=2"), (query.Sent("X-Consumer-Username"), query.Target));
        var cookie = await Test("""{"hide_credentials":true,"cookie":"c"}""").GetAsync("/", ("Cookie", $"a=1; c={token}; b==2"));
        Assert.Equal(("jack", "a=1; b==2"), (cookie.Sent("X-Consumer-Username"), cookie.Sent("Cookie")));
        Assert.NotNull((await Test().GetAsync("/", ("Authorization", token))).Sent("Authorization"));
    }

    [Fact]
    public async Task Time_is_checked_where_it_is_told_and_told_where_it_must_be()
    {
        var test = Test();
        var now = test.Time.GetUtcNow().ToUnixTimeSeconds();
        Assert.False((await Ask(test, $$"""{"key":"jack-key","exp":{{now}}}""")).Proxied);
        Assert.True((await Ask(test, $$"""{"key":"jack-key","exp":{{now + 1}},"nbf":{{now - 1}}}""")).Proxied);
        Assert.False((await Ask(test, $$"""{"key":"jack-key","nbf":{{now}}}""")).Proxied);
        Assert.True((await Ask(test, $$"""{"key":"lenient","exp":{{now - 9}}}""")).Proxied);
        Assert.False((await Ask(test, $$"""{"key":"lenient","exp":{{now - 10}}}""")).Proxied);
        var strict = Test("""{"claims_to_verify":["exp"]}""");
        Assert.False((await Ask(strict, """{"key":"jack-key"}""")).Proxied);
        Assert.True((await Ask(strict, $$"""{"key":"jack-key","exp":{{now + 1}},"nbf":{{now + 1}}}""")).Proxied);
        Assert.False((await Ask(Test("""{"claims_to_verify":[]}"""), $$"""{"key":"jack-key","exp":{{now}}}""")).Proxied);
    }

    [Fact]
    public async Task The_token_does_not_choose_its_algorithm()
    {
        using var rsa = RSA.Create(2048);
        var pem = rsa.ExportSubjectPublicKeyInfoPem();
        var test = Test("{}", $$"""{"key":"jack-key","algorithm":"RS256","public_key":{{JsonSerializer.Serialize(pem)}}}""");
        Assert.False(
            (await Ask(test, """{"key":"jack-key"}""", "HS256", text => HMACSHA256.HashData(Encoding.UTF8.GetBytes(pem), text))).Proxied);
        Assert.False((await Ask(test, """{"key":"jack-key"}""", "none", _ => [])).Proxied);
        Assert.True(
            (await Ask(test, """{"key":"jack-key"}""", "RS256",
                text => rsa.SignData(text, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1))).Proxied);
    }

    /// <summary>One signature, not parts of two: some are another each time.</summary>
    static byte[] Broken(byte[] signature) => [.. signature[..^1], (byte)(signature[^1] ^ 1)];

    public static TheoryData<string> Algorithms =>
        ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "Ed448"];

    [Theory, MemberData(nameof(Algorithms))]
    public async Task Every_algorithm_takes_its_signatures_and_no_others(string name)
    {
        var (credential, sign) = Signer(name);
        var algorithm = name.StartsWith("Ed", StringComparison.Ordinal) ? "EdDSA" : name;
        var test = Test("{}", $$"""{"key":"jack-key","algorithm":"{{algorithm}}",{{credential}}}""");
        const string Claims = """{"key":"jack-key"}""";
        var good = await Ask(test, Claims, algorithm, sign);
        Assert.True(good.Proxied, good.Body);
        Assert.Equal(401, (await Ask(test, Claims, algorithm, text => Broken(sign(text)))).Status);
        Assert.Equal(401, (await Ask(test, Claims, algorithm, _ => [1, 2, 3])).Status);
        Assert.Equal(401, (await Ask(test, Claims, algorithm, _ => [])).Status);
    }

    [Fact]
    public async Task A_consumer_whose_key_is_none_lets_nobody_in()
    {
        var test = Test("{}", """{"key":"jack-key","algorithm":"RS256","public_key":"no pem"}""");
        var result = await Ask(test, """{"key":"jack-key"}""", "RS256", _ => new byte[256]);
        Assert.Equal((401, "{\"message\":\"failed to verify jwt\"}\n"), (result.Status, result.Body));
    }

    [Fact]
    public async Task Signatures_with_the_longest_salt_hold_too()
    {
        using var rsa = RSA.Create(2048);
        var numbers = rsa.ExportParameters(true);
        var key = DotNetUtilities.GetRsaKeyPair(numbers).Private;
        var test = Test("{}",
            $$"""{"key":"jack-key","algorithm":"PS256","public_key":{{JsonSerializer.Serialize(rsa.ExportSubjectPublicKeyInfoPem())}}}""");
        var result = await Ask(test, """{"key":"jack-key"}""", "PS256", text =>
        {
            var signer = new PssSigner(new Org.BouncyCastle.Crypto.Engines.RsaEngine(), new Org.BouncyCastle.Crypto.Digests.Sha256Digest(),
                222);
            signer.Init(true, key);
            signer.BlockUpdate(text, 0, text.Length);
            return signer.GenerateSignature();
        });
        Assert.True(result.Proxied, result.Body);
    }

    static (string Credential, Func<byte[], byte[]> Sign) Signer(string name)
    {
        var hash = new HashAlgorithmName("SHA" + name[2..]);
        switch (name)
        {
            case ['H', ..]:
                var secret = RandomNumberGenerator.GetBytes(64);
                return ($"\"secret\":\"{Convert.ToBase64String(secret)}\",\"base64_secret\":true", text => name switch
                {
                    "HS256" => HMACSHA256.HashData(secret, text),
                    "HS384" => HMACSHA384.HashData(secret, text),
                    _ => HMACSHA512.HashData(secret, text),
                });
            case ['E', 'S', ..]:
                var curve = ECDsa.Create(name switch
                {
                    "ES256" => ECCurve.NamedCurves.nistP256,
                    "ES384" => ECCurve.NamedCurves.nistP384,
                    _ => ECCurve.NamedCurves.nistP521,
                });
                return (Pem(curve.ExportSubjectPublicKeyInfoPem()), text => curve.SignData(text, hash));
            case "Ed25519":
                var small = new Ed25519PrivateKeyParameters(new SecureRandom());
                return (Pem(Spki(small.GeneratePublicKey())), text => Signed(new Ed25519Signer(), small, text));
            case "Ed448":
                var large = new Ed448PrivateKeyParameters(new SecureRandom());
                return (Pem(Spki(large.GeneratePublicKey())), text => Signed(new Ed448Signer([]), large, text));
            default:
                var rsa = RSA.Create(2048);
                return (Pem(rsa.ExportSubjectPublicKeyInfoPem()),
                    text => rsa.SignData(text, hash, name[0] == 'P' ? RSASignaturePadding.Pss : RSASignaturePadding.Pkcs1));
        }

        static string Pem(string pem) => $"\"public_key\":{JsonSerializer.Serialize(pem)}";

        static string Spki(Org.BouncyCastle.Crypto.AsymmetricKeyParameter key) =>
            PemEncoding.WriteString("PUBLIC KEY", SubjectPublicKeyInfoFactory.CreateSubjectPublicKeyInfo(key).GetEncoded());

        static byte[] Signed(Org.BouncyCastle.Crypto.ISigner signer, Org.BouncyCastle.Crypto.AsymmetricKeyParameter key, byte[] text)
        {
            signer.Init(true, key);
            signer.BlockUpdate(text, 0, text.Length);
            return signer.GenerateSignature();
        }
    }

    static Task<PluginTest.Result> Ask(PluginTest test, string claims, string algorithm = "HS256", Func<byte[], byte[]>? sign = null) =>
        test.GetAsync("/", ("Authorization", "Bearer " + Token(claims, algorithm, sign)));

    static string Token(string claims, string algorithm = "HS256", Func<byte[], byte[]>? sign = null)
    {
        var text =
            $"{Encode(Encoding.UTF8.GetBytes($"{{\"typ\":\"JWT\",\"alg\":\"{algorithm}\"}}"))}.{Encode(Encoding.UTF8.GetBytes(claims))}";
        var bytes = Encoding.ASCII.GetBytes(text);
        return $"{text}.{Encode(sign?.Invoke(bytes) ?? HMACSHA256.HashData("secret"u8, bytes))}";
    }

    static string Encode(byte[] bytes) => Base64Url.EncodeToString(bytes);

    static PluginTest Test(string config = "{}", string credential = """{"key":"jack-key","secret":"secret"}""") => new(
        $$$"""{"jwt-auth":{{{config}}}}""",
        PluginTest.Consumer("jack", $$$"""{"jwt-auth":{{{credential}}}}"""),
        PluginTest.Consumer("jill", """{"jwt-auth":{"key":"lenient","secret":"secret","lifetime_grace_period":10}}"""));
}

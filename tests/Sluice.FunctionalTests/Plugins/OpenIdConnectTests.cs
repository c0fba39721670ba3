using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>Tokens of a provider that the tests start.</summary>
public sealed partial class OpenIdConnectTests : IAsyncDisposable
{
    readonly ScriptedOrigin _origin = EchoOrigin.Start();

    public ValueTask DisposeAsync() => _origin.DisposeAsync();

    const string Secret = "\"client_secret\":\"s\"", Bearer = "\"bearer_only\":true";

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("""{"discovery":"http://a","bearer_only":true,"use_jwks":true}""", "property \"client_id\" is required")]
    [InlineData("""{"client_id":1,"discovery":"http://a"}""",
        "property \"client_id\" validation failed: wrong type: expected string, got number")]
    [InlineData("""{"client_id":"a","client_secret":"b","discovery":"http://a"}""",
        "property \"session.secret\" is required when \"bearer_only\" is false")]
    [InlineData("""{"client_id":"a","discovery":"http://a","bearer_only":true}""", "property \"client_secret\" is required")]
    [InlineData("""{"client_id":"a","discovery":"http://a","bearer_only":true,"token_endpoint_auth_method":"private_key_jwt"}""",
        "property \"client_secret\" is required")]
    [InlineData("""{"client_id":"a","client_secret":"b","discovery":"http://a","session":{"secret":"0123456789abcdef"} }""",
        "logging in with a browser is not there yet")]
    [InlineData("""{"client_id":"a","discovery":"http://a","bearer_only":true,"use_jwks":true,"use_dpop":true}""",
        "property \"use_dpop\" is not allowed, use \"dpop.enabled\" instead")]
    [InlineData("""{"client_id":"a","discovery":"http://a","bearer_only":true,"use_jwks":true,"claim_schema":{"type":"strin"} }""",
        "check claim_schema failed: ")]
    [InlineData(
        """{"client_id":"a","client_secret":"b","discovery":"http://a","bearer_only":true,"introspection_endpoint_auth_method":"private_key_jwt","client_jwt_assertion_alg":"HS256"}""",
        "is symmetric and cannot be used with the private_key_jwt selected by \"introspection_endpoint_auth_method\"")]
    public async Task What_cannot_be_is_refused(string config, string error)
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:1":1} },"plugins":{"openid-connect":{{config}} } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(error, (string)body!["error_msg"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_a_token_nobody_passes()
    {
        await using var provider = await OpenIdServer.StartAsync();
        await using var gateway = await StartAsync(provider, $"{Bearer},\"use_jwks\":true,\"realm\":\"shop\"");
        await RefusedAsync(gateway, 401, "Bearer realm=\"shop\"");
        await RefusedAsync(gateway, 401, "Bearer realm=\"shop\"", ("Authorization", "Basic YTpi"));
        await RefusedAsync(gateway, 400, null, ("Authorization", "token"));
    }

    [Theory]
    [InlineData("jwks")]
    [InlineData("public key")]
    public async Task A_signed_token_passes_and_what_it_says_reaches_the_upstream(string how)
    {
        await using var provider = await OpenIdServer.StartAsync();
        await using var gateway = await StartAsync(provider,
            $"{Bearer},{(how == "jwks" ? "\"use_jwks\":true" : $"\"public_key\":{JsonValue.Create(provider.PublicKey).ToJsonString()}")}");
        foreach (var token in (string[])[provider.Token(provider.Claims()), provider.Token(provider.Claims(), "PS256")])
        {
            var sent = await PassesAsync(gateway, ("Authorization", "Bearer " + token), ("X-Userinfo", "forged"), ("X-ID-Token", "forged"),
                ("X-Access-Token", "forged"), ("X-Refresh-Token", "forged"));
            Assert.Contains($"\r\nx-access-token: {token}\r\n", sent, StringComparison.OrdinalIgnoreCase);
            Assert.Equal("jack", (string?)OpenIdServer.Decode(Userinfo().Match(sent).Groups[1].Value)["sub"]);
            Assert.DoesNotContain("forged", sent, StringComparison.Ordinal);
            // a second place for it
            Assert.Contains($"\r\nx-access-token: {token}\r\n", await PassesAsync(gateway, ("X-Access-Token", token)),
                StringComparison.OrdinalIgnoreCase);
        }
    }

    [Fact]
    public async Task A_token_that_the_provider_has_not_signed_is_refused()
    {
        await using var provider = await OpenIdServer.StartAsync();
        await using var other = await OpenIdServer.StartAsync();
        var key = JsonValue.Create(provider.PublicKey).ToJsonString();
        await using var gateway = await StartAsync(provider, $"{Bearer},\"public_key\":{key}");
        var claims = provider.Claims();
        await InvalidAsync(gateway, "x.y", "invalid jwt: invalid jwt string");
        await InvalidAsync(gateway, other.Token(claims), "jwt signature verification failed: signature mismatch");
        // the public key is no secret, and no signature is none
        await InvalidAsync(gateway, provider.Token(claims, "HS256"), "token is signed by unexpected algorithm 'HS256'");
        await InvalidAsync(gateway, provider.Token(claims, "none"), "token is signed by unexpected algorithm 'none'");
        await InvalidAsync(gateway, provider.Token("""{"iss":"http://evil\"\\","sub":"jack"}"""),
            "jwt signature verification failed: Claim 'iss' ('http://evil'/') returned failure");
        await InvalidAsync(gateway, provider.Token("""{"sub":"jack"}"""),
            "jwt signature verification failed: Claim 'iss' ('nil') returned failure");
        await InvalidAsync(gateway, provider.Token($$"""{"iss":"{{provider.Issuer}}","exp":1}"""), "JWT expired");
        await InvalidAsync(gateway, provider.Token($$"""{"iss":"{{provider.Issuer}}","nbf":99999999999}"""),
            "jwt signature verification failed: 'nbf' claim not valid yet");
        await gateway.ErrorLogSaysAsync("OIDC introspection failed: jwt signature verification failed");
    }

    [Fact]
    public async Task Clocks_may_be_apart_by_the_slack_and_one_algorithm_may_be_the_only_one()
    {
        await using var provider = await OpenIdServer.StartAsync();
        await using var gateway = await StartAsync(provider,
            $"{Bearer},\"use_jwks\":true,\"iat_slack\":86400,\"token_signing_alg_values_expected\":\"RS256\"");
        await PassesAsync(gateway,
            ("Authorization",
                "Bearer "
                + provider.Token($$"""{"iss":"{{provider.Issuer}}","exp":{{DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 3600}}}""")));
        await InvalidAsync(gateway, provider.Token(provider.Claims(), "PS256"), "token is signed by unexpected algorithm 'PS256'");
    }

    [Fact]
    public async Task A_new_key_of_the_provider_is_found_and_an_unknown_one_does_not_flood_it()
    {
        var clock = new ManualClock();
        await using var provider = await OpenIdServer.StartAsync();
        await using var gateway = await StartAsync(provider, $"{Bearer},\"use_jwks\":true", clock);
        string Token() => provider.Token($$"""{"iss":"{{provider.Issuer}}"}""");
        var old = Token();
        await PassesAsync(gateway, ("Authorization", "Bearer " + old));
        provider.Rotate();
        clock.Advance(TimeSpan.FromSeconds(11));
        await PassesAsync(gateway, ("Authorization", "Bearer " + Token()));
        Assert.Equal(2, provider.KeyFetches);
        for (var i = 0; i < 5; i++)
        {
            await InvalidAsync(gateway, old, "jwt signature verification failed: signature mismatch");
        }
        Assert.Equal(2, provider.KeyFetches);
    }

    [Fact]
    public async Task While_the_issuer_is_not_known_nobody_passes()
    {
        await using var provider = await OpenIdServer.StartAsync();
        var key = JsonValue.Create(provider.PublicKey).ToJsonString();
        await using var gateway = await StartAsync(provider, $"{Bearer},\"public_key\":{key}", discovery: "http://127.0.0.1:1/");
        await InvalidAsync(gateway, provider.Token(provider.Claims()), "issuer validation unavailable");
        await gateway.ErrorLogSaysAsync("OIDC access discovery url failed : connection refused");
        await using var named = await StartAsync(provider,
            $$"""{{Bearer}},"public_key":{{key}},"claim_validator":{"issuer":{"valid_issuers":["http://other","{{provider.Issuer}}"]} }""",
            discovery: "http://127.0.0.1:1/");
        await PassesAsync(named, ("Authorization", "Bearer " + provider.Token(provider.Claims())));
    }

    [Theory]
    [InlineData("\"required_scopes\":[\"a\",\"b\"]", ",\"scope\":\"b  a c\"", null)]
    [InlineData("\"required_scopes\":[\"a\",\"b\"]", ",\"scope\":\"a\"", """{"error":"required scopes a, b not present"}""")]
    [InlineData("\"required_scopes\":[\"a\",\"b\"]", "", """{"error":"required scopes a, b not present"}""")]
    [InlineData("\"claim_validator\":{\"audience\":{\"required\":true} }", "", """{"error":"required audience claim not present"}""")]
    [InlineData("\"claim_validator\":{\"audience\":{\"required\":true} }", ",\"aud\":\"other\"", null)]
    [InlineData("\"claim_validator\":{\"audience\":{\"match_with_client_id\":true} }", "",
        """{"error":"required audience claim not present"}""")]
    [InlineData("\"claim_validator\":{\"audience\":{\"match_with_client_id\":true} }", ",\"aud\":\"other\"",
        """{"error":"mismatched audience"}""")]
    [InlineData("\"claim_validator\":{\"audience\":{\"match_with_client_id\":true} }", ",\"aud\":[\"other\"]",
        """{"error":"mismatched audience"}""")]
    [InlineData("\"claim_validator\":{\"audience\":{\"match_with_client_id\":true} }", ",\"aud\":[\"other\",\"shop\"]", null)]
    [InlineData("\"claim_validator\":{\"audience\":{\"match_with_client_id\":true,\"claim\":\"for\"} }", ",\"for\":\"shop\"", null)]
    public async Task A_good_token_may_still_not_be_enough(string config, string claims, string? refusal)
    {
        await using var provider = await OpenIdServer.StartAsync();
        await using var gateway = await StartAsync(provider, $"{Bearer},\"use_jwks\":true,{config}");
        var token = provider.Token(provider.Claims(claims));
        using var response = await AskAsync(gateway, ("Authorization", "Bearer " + token));
        Assert.Equal(refusal is null ? 200 : 403, (int)response.StatusCode);
        if (refusal is not null)
        {
            Assert.Equal(refusal, await response.Content.ReadAsStringAsync(Cancel));
        }
    }

    [Fact]
    public async Task Claims_follow_a_schema()
    {
        await using var provider = await OpenIdServer.StartAsync();
        await using var gateway = await StartAsync(provider,
            $$"""{{Bearer}},"use_jwks":true,"claim_schema":{"type":"object","required":["email"]}""");
        await InvalidAsync(gateway, provider.Token(provider.Claims()), "property 'email' is required");
        await PassesAsync(gateway, ("Authorization", "Bearer " + provider.Token(provider.Claims(",\"email\":\"a@b\""))));
    }

    [Theory]
    [InlineData("client_secret_basic")]
    [InlineData("client_secret_post")]
    [InlineData("client_secret_jwt")]
    [InlineData("private_key_jwt")]
    public async Task The_provider_is_asked_about_a_token_once(string method)
    {
        using var rsa = RSA.Create(2048);
        await using var provider = await OpenIdServer.StartAsync();
        provider.Tokens["t1"] = $$"""{"active":true,"sub":"jack","scope":"a","exp":{{DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 3600}}}""";
        var pem = JsonValue.Create(rsa.ExportPkcs8PrivateKeyPem()).ToJsonString();
        await using var gateway = await StartAsync(provider, $$"""
            {{Bearer}},{{Secret}},"introspection_endpoint_auth_method":"{{method}}","client_rsa_private_key":{{pem}},"client_rsa_private_key_id":"mine",
            "introspection_addon_headers":["X-Tenant"],"access_token_in_authorization_header":true
            """);
        var sent = await PassesAsync(gateway, ("Authorization", "bearer t1"), ("X-Tenant", "7"));
        Assert.Contains("\r\nauthorization: Bearer t1\r\n", sent, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("x-access-token", sent, StringComparison.OrdinalIgnoreCase);
        Assert.Equal("jack", (string?)OpenIdServer.Decode(Userinfo().Match(sent).Groups[1].Value)["sub"]);
        await PassesAsync(gateway, ("Authorization", "Bearer t1"));
        var (headers, form) = Assert.Single(provider.Introspections);
        Assert.Equal("7", headers["X-Tenant"].ToString());
        Assert.Equal(method == "client_secret_basic" ? "Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes("shop:s")) : "",
            headers.Authorization.ToString());
        Assert.Equal(method == "client_secret_post" ? "s" : "", form["client_secret"].ToString());
        Assert.Equal(method == "client_secret_basic" ? "" : "shop", form["client_id"].ToString());
        if (method.EndsWith("jwt", StringComparison.Ordinal))
        {
            Assert.Equal("urn:ietf:params:oauth:client-assertion-type:jwt-bearer", form["client_assertion_type"]);
            var parts = form["client_assertion"].ToString().Split('.');
            var (text, signature) = (Encoding.ASCII.GetBytes($"{parts[0]}.{parts[1]}"),
                System.Buffers.Text.Base64Url.DecodeFromChars(parts[2]));
            Assert.True(method == "private_key_jwt" ? rsa.VerifyData(text, signature, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
                : HMACSHA256.HashData("s"u8, text).AsSpan().SequenceEqual(signature));
            var payload = JsonNode.Parse(System.Buffers.Text.Base64Url.DecodeFromChars(parts[1]))!;
            Assert.Equal(("shop", "shop", $"{provider.Issuer}/introspect"),
                ((string?)payload["iss"], (string?)payload["sub"], (string?)payload["aud"]));
        }
    }

    [Fact]
    public async Task What_the_provider_does_not_know_is_refused_and_so_is_everybody_when_it_is_away()
    {
        await using var provider = await OpenIdServer.StartAsync();
        provider.Tokens["broken"] = "<html>";
        await using var gateway = await StartAsync(provider, $"{Bearer},{Secret}");
        await InvalidAsync(gateway, "t2", "invalid token");
        await InvalidAsync(gateway, "broken", "JSON decoding failed");
        await using var away = await StartAsync(provider, $"{Bearer},{Secret},\"introspection_endpoint\":\"http://127.0.0.1:1/i\"");
        await InvalidAsync(away, "t1", "accessing introspection endpoint (http://127.0.0.1:1/i) failed: connection refused");
    }

    [Fact]
    public async Task What_introspection_says_holds_until_the_token_expires_or_for_the_interval()
    {
        var clock = new ManualClock();
        await using var provider = await OpenIdServer.StartAsync();
        provider.Tokens["t1"] = $$"""{"active":true,"exp":{{clock.GetUtcNow().ToUnixTimeSeconds() + 3600}}}""";
        await using var gateway = await StartAsync(provider, $"{Bearer},{Secret},\"introspection_interval\":60", clock);
        await PassesAsync(gateway, ("Authorization", "Bearer t1"));
        clock.Advance(TimeSpan.FromSeconds(59));
        await PassesAsync(gateway, ("Authorization", "Bearer t1"));
        Assert.Single(provider.Introspections);
        provider.Tokens.Clear();
        clock.Advance(TimeSpan.FromSeconds(2));
        await InvalidAsync(gateway, "t1", "invalid token");
    }

    async Task<TestGateway> StartAsync(OpenIdServer provider, string more, TimeProvider? time = null, string? discovery = null)
    {
        var gateway = await TestGateway.StartAsync(time: time);
        await gateway.RouteAsync("r1", "/*", _origin.Port,
            $$""" "plugins":{"openid-connect":{"client_id":"shop","discovery":"{{discovery ?? provider.Discovery}}",{{more}} } } """);
        return gateway;
    }

    static async Task<HttpResponseMessage> AskAsync(TestGateway gateway, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url("/"));
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        return await gateway.Client.SendAsync(request, Cancel);
    }

    static async Task<string> PassesAsync(TestGateway gateway, params (string Name, string Value)[] headers)
    {
        using var response = await AskAsync(gateway, headers);
        Assert.True(response.StatusCode == HttpStatusCode.OK, $"{(int)response.StatusCode} {response.Headers.WwwAuthenticate}");
        return await response.Content.ReadAsStringAsync(Cancel);
    }

    static Task InvalidAsync(TestGateway gateway, string token, string description) => RefusedAsync(
        gateway, 401, $"Bearer realm=\"apisix\", error=\"invalid_token\", error_description=\"{description}\"",
        ("Authorization", "Bearer " + token));

    static async Task RefusedAsync(TestGateway gateway, int status, string? challenge, params (string Name, string Value)[] headers)
    {
        using var response = await AskAsync(gateway, headers);
        Assert.Equal(
            (status, challenge),
            ((int)response.StatusCode, response.Headers.NonValidated.TryGetValues("WWW-Authenticate", out var values) ? values.ToString()
                : null));
    }

    [GeneratedRegex("\r\nx-userinfo: ([^\r]+)\r\n", RegexOptions.IgnoreCase)]
    private static partial Regex Userinfo();
}

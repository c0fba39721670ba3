using System.Buffers.Text;
using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Sluice.FunctionalTests.Origins;

/// <summary>A small OpenID provider: discovery, keys that change, signed tokens, introspection.</summary>
sealed class OpenIdServer : IAsyncDisposable
{
    WebOrigin _origin = null!;
    RSA _key = RSA.Create(2048);
    string _keyId = "k1";

    public string Issuer => $"http://127.0.0.1:{_origin.Port}";

    public string Discovery => $"{Issuer}/.well-known/openid-configuration";

    public int KeyFetches { get; private set; }

    /// <summary>What introspection says of a token; others are not active.</summary>
    public ConcurrentDictionary<string, string> Tokens { get; } = new();

    /// <summary>The questions about tokens: headers and form.</summary>
    public ConcurrentQueue<(IHeaderDictionary Headers, IFormCollection Form)> Introspections { get; } = new();

    public static async Task<OpenIdServer> StartAsync()
    {
        var server = new OpenIdServer();
        server._origin = await WebOrigin.StartAppAsync(app =>
        {
            app.MapGet("/.well-known/openid-configuration",
                () =>
                Json(
                    $$"""{"issuer":"{{server.Issuer}}","jwks_uri":"{{server.Issuer}}/keys","introspection_endpoint":"{{server.Issuer}}/introspect"}"""));
            app.MapGet("/keys", () => Json(server.Keys()));
            app.MapPost("/introspect", async (HttpRequest request) =>
            {
                var form = await request.ReadFormAsync();
                server.Introspections.Enqueue((new HeaderDictionary(request.Headers.ToDictionary()), form));
                return Json(server.Tokens.GetValueOrDefault(form["token"].ToString(), """{"active":false}"""));
            });
        });
        return server;
    }

    static IResult Json(string text) => Results.Text(text, "application/json");

    string Keys()
    {
        KeyFetches++;
        var numbers = _key.ExportParameters(false);
        return $$"""{"keys":[{"kty":"oct","kid":"other"},{"kty":"RSA","use":"sig","kid":"{{_keyId}}","n":"{{Base64Url.EncodeToString(numbers.Modulus)}}","e":"{{Base64Url.EncodeToString(numbers.Exponent)}}"}]}""";
    }

    public string PublicKey => _key.ExportSubjectPublicKeyInfoPem();

    /// <summary>Another key from now on.</summary>
    public void Rotate() => (_key, _keyId) = (RSA.Create(2048), _keyId + "'");

    public string Token(string claims, string algorithm = "RS256", string? keyId = null)
    {
        var text = $"{Encode($$"""{"typ":"JWT","alg":"{{algorithm}}","kid":"{{keyId ?? _keyId}}"}""")}.{Encode(claims)}";
        var bytes = Encoding.ASCII.GetBytes(text);
        return $"{text}.{Base64Url.EncodeToString(algorithm switch
        {
            "HS256" => HMACSHA256.HashData(Encoding.UTF8.GetBytes(PublicKey), bytes),
            "none" => [],
            "PS256" => _key.SignData(bytes, HashAlgorithmName.SHA256, RSASignaturePadding.Pss),
            _ => _key.SignData(bytes, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1),
        })}";
    }

    /// <summary>Claims that hold, and more.</summary>
    public string Claims(string more = "") =>
        $$"""{"iss":"{{Issuer}}","sub":"jack","exp":{{DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 3600}}{{more}}}""";

    static string Encode(string text) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(text));

    public static JsonNode Decode(string base64) => JsonNode.Parse(Convert.FromBase64String(base64))!;

    public ValueTask DisposeAsync() => _origin.DisposeAsync();
}

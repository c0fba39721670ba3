using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model.Json;
using Sluice.Net;

namespace Sluice.Plugins.Auth;

/// <summary>The gateway as a client of an OpenID provider: how it says who it is when it asks (RFC 6749, section 2.3.1; RFC
/// 7523).</summary>
/// <param name="PrivateKey">PEM, for <c>private_key_jwt</c>.</param>
/// <param name="Algorithm">Of assertions; null: the method's own.</param>
/// <param name="Audience">Of assertions; null: the address that is asked.</param>
sealed record OpenIdClient(
    string Id, string? Secret, string? PrivateKey = null, string? KeyId = null, string? Algorithm = null, string? Audience = null,
    long AssertionExpiresIn = 60)
{
    /// <summary>A form for the provider with the client's credentials.</summary>
    /// <param name="method"><c>client_secret_basic</c>, <c>client_secret_post</c>, <c>client_secret_jwt</c> or
    /// <c>private_key_jwt</c>.</param>
    public HttpRequestMessage Post(
        string uri, string method, IEnumerable<KeyValuePair<string, string>> fields, IEnumerable<KeyValuePair<string, string>> headers,
        DateTimeOffset now)
    {
        var form = new List<KeyValuePair<string, string>>(fields);
        var all = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        switch (method)
        {
            case "client_secret_basic" when Secret is not null:
                all["Authorization"] =
                    $"Basic {Convert.ToBase64String(Encoding.UTF8.GetBytes($"{Uri.EscapeDataString(Id)}:{Uri.EscapeDataString(Secret)}"))}";
                break;
            case "private_key_jwt" when PrivateKey is not null:
            case "client_secret_jwt" when Secret is not null:
                form.Add(new("client_id", Id));
                form.Add(new("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
                form.Add(new("client_assertion", Assertion(method == "private_key_jwt", Audience ?? uri, now)));
                break;
            default:
                form.Add(new("client_id", Id));
                if (Secret is not null)
                {
                    form.Add(new("client_secret", Secret));
                }
                break;
        }
        foreach (var (name, value) in headers)
        {
            all[name] = value;
        }
        var body = string.Join('&', form.Select(static field => $"{Uri.EscapeDataString(field.Key)}={Uri.EscapeDataString(field.Value)}"));
        return OutgoingHttp.Request("POST", uri, Encoding.ASCII.GetBytes(body), "application/x-www-form-urlencoded", all);
    }

    string Assertion(bool byKey, string audience, DateTimeOffset now)
    {
        var algorithm = Algorithm ?? (byKey ? "RS256" : "HS256");
        var header = new JsonObject { ["typ"] = "JWT", ["alg"] = algorithm };
        if (byKey && KeyId is not null)
        {
            header["kid"] = KeyId;
        }
        var seconds = now.ToUnixTimeSeconds();
        var payload = new JsonObject
        {
            ["iss"] = Id,
            ["sub"] = Id,
            ["aud"] = audience,
            ["jti"] = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16)),
            ["iat"] = seconds,
            ["exp"] = seconds + AssertionExpiresIn,
        };
        var text = $"{Encode(header)}.{Encode(payload)}";
        return $"{text}.{Base64Url.EncodeToString(Sign(algorithm, Encoding.ASCII.GetBytes(text)))}";
    }

    static string Encode(JsonObject part) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(JsonBytes.Text(part)));

    byte[] Sign(string algorithm, byte[] text)
    {
        var hash = new HashAlgorithmName($"SHA{algorithm[2..]}");
        switch (algorithm[0])
        {
            case 'H':
                var secret = Encoding.UTF8.GetBytes(Secret ?? "");
                return algorithm == "HS256" ? HMACSHA256.HashData(secret, text) : HMACSHA512.HashData(secret, text);
            case 'R':
                using (var rsa = RSA.Create())
                {
                    rsa.ImportFromPem(PrivateKey);
                    return rsa.SignData(text, hash, RSASignaturePadding.Pkcs1);
                }
            default:
                using (var curve = ECDsa.Create())
                {
                    curve.ImportFromPem(PrivateKey);
                    return curve.SignData(text, hash, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
                }
        }
    }
}

using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Net;

namespace Sluice.Pipeline.References;

/// <summary>Asks HashiCorp Vault, AWS Secrets Manager and Google Secret Manager over their HTTP APIs.</summary>
internal sealed class SecretManagers(TimeProvider time, OutgoingHttp http)
{
    static readonly OutgoingOptions Checked = new() { Timeout = TimeSpan.FromSeconds(5), ConnectTimeout = TimeSpan.FromSeconds(5) };
    static readonly OutgoingOptions Unchecked = Checked with { Tls = OutgoingTls.Unverified };

    readonly ConcurrentDictionary<string, (string Token, long Since, TimeSpan Keep)> _googleTokens = new();

    /// <param name="key">The secret's name and, behind the last slash, the property of it.</param>
    /// <param name="own">Turns what the manager's configuration says into its value.</param>
    /// <exception cref="SecretException">It is not there, or the manager cannot be asked.</exception>
    public async Task<string> AskAsync(string manager, JsonObject config, string key, string reference, Func<string, string> own)
    {
        var slash = key.LastIndexOf('/');
        if (slash <= 0 || slash == key.Length - 1)
        {
            throw new SecretException(
                $"{reference}: error key format: after the manager's id come the secret's name and, behind a slash, its property");
        }
        var (name, property) = (key[..slash], key[(slash + 1)..]);
        string Own(JsonObject from, string key) => own((string?)from[key] ?? "");
        try
        {
            return manager switch
            {
                "vault" => SecretReference.Property(reference, await VaultAsync(config, name, Own), property),
                "aws" => SecretReference.Property(reference, await AwsAsync(config, name, Own), property),
                "gcp" => SecretReference.Property(reference, await GoogleAsync(config, name, Own), property),
                _ => throw new SecretException($"{reference}: no secret manager: {manager}"),
            };
        }
        catch (Exception e)
            when (e is UriFormatException or JsonException or CryptographicException or InvalidOperationException or FormatException
                or ArgumentException or IOException)
        {
            var reason = e is OutgoingException { Kind: OutgoingFailure.Timeout } ? $"no answer within {Checked.Timeout.TotalSeconds} s"
                : e.Message;
            throw new SecretException($"{reference}: {manager} cannot be asked: {reason}", e);
        }
    }

    // -- Vault: KV version 1 and 2

    async Task<JsonObject?> VaultAsync(JsonObject config, string name, Func<JsonObject, string, string> own)
    {
        var path = string.Join('/', $"v1/{config["prefix"]}/{name}".Split('/', StringSplitOptions.RemoveEmptyEntries));
        using var request = new HttpRequestMessage(HttpMethod.Get, $"{own(config, "uri").TrimEnd('/')}/{path}");
        request.Headers.TryAddWithoutValidation("X-Vault-Token", own(config, "token"));
        if (config["namespace"] is { } space)
        {
            request.Headers.TryAddWithoutValidation("X-Vault-Namespace", (string?)space);
        }
        var data = (await SendAsync(Checked, request))["data"] as JsonObject;
        // version 2 wraps the secret once more, beside its metadata
        return data is { Count: 2 } && data["data"] is JsonObject wrapped && data["metadata"] is JsonObject ? wrapped : data;
    }

    // -- AWS

    async Task<string> AwsAsync(JsonObject config, string name, Func<JsonObject, string, string> own)
    {
        var region = (string?)config["region"] ?? "us-east-1";
        var endpoint = new Uri(config["endpoint_url"] is { } given ? own(config, "endpoint_url")
            : $"https://secretsmanager.{region}.amazonaws.com");
        var body = new JsonObject { ["SecretId"] = name, ["VersionStage"] = "AWSCURRENT" }.ToJsonString();
        using var request = new HttpRequestMessage(HttpMethod.Post,
            new Uri(endpoint, "/")) { Content = new ByteArrayContent(Encoding.UTF8.GetBytes(body)) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/x-amz-json-1.1");
        request.Headers.TryAddWithoutValidation("X-Amz-Target", "secretsmanager.GetSecretValue");
        var session = config["session_token"] is null ? null : own(config, "session_token");
        AwsSignature.Sign(request, body, new(own(config, "access_key_id"), own(config, "secret_access_key"), session), region,
            "secretsmanager", time.GetUtcNow());
        return (string?)(await SendAsync(Checked, request))["SecretString"] ?? throw new InvalidOperationException("invalid secret string");
    }

    // -- Google

    async Task<string> GoogleAsync(JsonObject config, string name, Func<JsonObject, string, string> own)
    {
        var account = config["auth_config"] as JsonObject
            ?? JsonNode.Parse(await File.ReadAllTextAsync((string)config["auth_file"]!)) as JsonObject
            ?? throw new InvalidOperationException("auth_file is not a JSON object");
        var options = config["ssl_verify"]?.GetValue<bool>() == false ? Unchecked : Checked;
        var token = await GoogleTokenAsync(options, account, own);
        var entries = (string?)account["entries_uri"] ?? "https://secretmanager.googleapis.com/v1";
        using var request = new HttpRequestMessage(HttpMethod.Get,
            $"{entries.TrimEnd('/')}/projects/{account["project_id"]}/secrets/{Uri.EscapeDataString(name)}/versions/latest:access");
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        var data = (string?)(await SendAsync(options, request))["payload"]?["data"]
            ?? throw new InvalidOperationException("invalid payload");
        return Encoding.UTF8.GetString(Convert.FromBase64String(data));
    }

    async Task<string> GoogleTokenAsync(OutgoingOptions options, JsonObject account, Func<JsonObject, string, string> own)
    {
        var (email, key, uri) = (own(account, "client_email"), own(account, "private_key"),
            (string?)account["token_uri"] ?? "https://oauth2.googleapis.com/token");
        var scope = account["scope"] switch
        {
            JsonArray several => string.Join(' ', several.Select(one => (string?)one)),
            JsonValue one => (string?)one ?? "",
            _ => "https://www.googleapis.com/auth/cloud-platform",
        };
        var known = $"{email}\n{uri}\n{scope}\n{key.GetHashCode(StringComparison.Ordinal)}";
        if (_googleTokens.TryGetValue(known, out var kept) && time.GetElapsedTime(kept.Since) < kept.Keep)
        {
            return kept.Token;
        }
        using var request = new HttpRequestMessage(HttpMethod.Post, uri)
        {
            Content = new FormUrlEncodedContent(
                [new("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), new("assertion", Assertion(email, key, uri, scope))]),
        };
        var answer = await SendAsync(options, request);
        var token = (string?)answer["access_token"] ?? throw new InvalidOperationException("failed to get google oauth token");
        var seconds = answer["expires_in"] is JsonValue number && number.TryGetValue(out double given) ? given : 3600;
        _googleTokens[known] = (token, time.GetTimestamp(), TimeSpan.FromSeconds(Math.Max(0, seconds - 60)));
        return token;
    }

    /// <summary>A JWT of the service account (RFC 7523), RS256.</summary>
    string Assertion(string email, string key, string audience, string scope)
    {
        var now = time.GetUtcNow().ToUnixTimeSeconds();
        var claims = new JsonObject { ["iss"] = email, ["scope"] = scope, ["aud"] = audience, ["iat"] = now, ["exp"] = now + 3600 };
        var text = $"{Base64Url("{\"alg\":\"RS256\",\"typ\":\"JWT\"}"u8)}.{Base64Url(Encoding.UTF8.GetBytes(claims.ToJsonString()))}";
        using var rsa = RSA.Create();
        rsa.ImportFromPem(key);
        return $"{text}.{Base64Url(rsa.SignData(Encoding.ASCII.GetBytes(text), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1))}";
    }

    static string Base64Url(ReadOnlySpan<byte> bytes) => System.Buffers.Text.Base64Url.EncodeToString(bytes);

    /// <summary>A JSON object with status 200; the answer's text stays out of messages, it may hold secrets.</summary>
    async Task<JsonObject> SendAsync(OutgoingOptions options, HttpRequestMessage request)
    {
        var response = await http.SendAsync(request, options, CancellationToken.None);
        if (response.Status != 200)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"invalid status code {response.Status}"));
        }
        return JsonNode.Parse(response.Body.Span) as JsonObject ?? throw new InvalidOperationException("the answer is not a JSON object");
    }
}

/// <summary>AWS Signature Version 4.</summary>
static class AwsSignature
{
    public sealed record Credentials(string Key, string Secret, string? Session);

    /// <summary>Adds X-Amz-Date, X-Amz-Security-Token and Authorization. The request has an empty query.</summary>
    public static void Sign(HttpRequestMessage request, string body, Credentials credentials, string region, string service,
        DateTimeOffset now)
    {
        var stamp = now.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture);
        var day = stamp[..8];
        request.Headers.TryAddWithoutValidation("X-Amz-Date", stamp);
        if (credentials.Session is not null)
        {
            request.Headers.TryAddWithoutValidation("X-Amz-Security-Token", credentials.Session);
        }
        var uri = request.RequestUri!;
        var headers = request.Headers.Concat(request.Content!.Headers)
            .Where(header => header.Key is "Content-Type" || header.Key.StartsWith("X-Amz-", StringComparison.OrdinalIgnoreCase))
            .Select(header => (Name: header.Key.ToLowerInvariant(), Value: string.Join(',', header.Value).Trim()))
            .Append((Name: "host", Value: uri.IsDefaultPort ? uri.Host : $"{uri.Host}:{uri.Port}"))
            .OrderBy(header => header.Name, StringComparer.Ordinal).ToArray();
        var signed = string.Join(';', headers.Select(header => header.Name));
        var canonical =
            $"{request.Method}\n{uri.AbsolutePath}\n\n{string.Concat(headers.Select(header => $"{header.Name}:{header.Value}\n"))}\n{signed}\n{Hash(body)}";
        var scope = $"{day}/{region}/{service}/aws4_request";
        var key = new[] { day, region, service, "aws4_request" }.Aggregate(Encoding.UTF8.GetBytes("AWS4" + credentials.Secret), Mac);
        var signature = Convert.ToHexStringLower(Mac(key, $"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{Hash(canonical)}"));
        request.Headers.TryAddWithoutValidation("Authorization",
            $"AWS4-HMAC-SHA256 Credential={credentials.Key}/{scope}, SignedHeaders={signed}, Signature={signature}");
    }

    static byte[] Mac(byte[] key, string text) => HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(text));

    static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
}

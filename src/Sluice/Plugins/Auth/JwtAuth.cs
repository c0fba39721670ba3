using System.Globalization;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model.Json;
using Sluice.Pipeline;
using Sluice.Pipeline.References;

namespace Sluice.Plugins.Auth;

/// <summary>Lets only requests with a consumer's JSON Web Token pass.</summary>
sealed class JwtAuth(JwtAuth.Config config) : ConsumerAuth("Bearer", config.Realm, config.AnonymousConsumer),
    IPlugin<JwtAuth, JwtAuth.Config>, IReadmit
{
    const string Symmetric = "\"HS256\", \"HS384\", \"HS512\"";
    const string Asymmetric =
        "\"RS256\", \"RS384\", \"RS512\", \"ES256\", \"ES384\", \"ES512\", \"PS256\", \"PS384\", \"PS512\", \"EdDSA\"";

    public static PluginInfo Info { get; } = new(
        Name: "jwt-auth",
        Priority: 2510,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "header": { "type": "string", "default": "authorization", "description": "header that carries the token; `Bearer ` may stand before it" },
                "query": { "type": "string", "default": "jwt", "description": "argument of the query string that carries it, when the header is not there" },
                "cookie": { "type": "string", "default": "jwt", "description": "cookie that carries it, when the argument is not there either" },
                "hide_credentials": { "type": "boolean", "default": false, "description": "the upstream does not get the token" },
                "key_claim_name": { "type": "string", "default": "key", "minLength": 1, "description": "claim that names the consumer's key" },
                "store_in_ctx": { "type": "boolean", "default": false, "description": "scripts find the token's claims in `ctx.jwt_auth_payload`" },
                {{RealmSchema("jwt")}},
                {{AnonymousSchema}},
                "claims_to_verify": {
                  "type": "array", "items": { "type": "string", "enum": ["exp", "nbf"] }, "uniqueItems": true,
                  "description": "must be there and hold; without it both are checked where they are there"
                }
              }
            }
            """,
        Summary: """
            Lets only requests pass that carry a JSON Web Token (RFC 7519) of a consumer: a claim names the consumer's key, the signature is checked with its secret
            or public key and nothing but its algorithm, and the token must be valid now. Tokens are made elsewhere.
            """)
    {
        IsAuth = true,
        ConsumerKey = "key",
        ConsumerSchema = $$"""
            {
              "type": "object",
              "properties": {
                "key": { "type": "string", "minLength": 1, "description": "different from all others" },
                "secret": { "type": "string", "minLength": 1, "description": "of the HS algorithms" },
                "public_key": { "type": "string", "minLength": 1, "description": "PEM, of all other algorithms" },
                "algorithm": { "type": "string", "enum": [{{Symmetric}}, {{Asymmetric}}], "default": "HS256" },
                "exp": { "type": "integer", "minimum": 1, "default": 86400, "description": "without effect: it was for tokens that APISIX made" },
                "base64_secret": { "type": "boolean", "default": false, "description": "`secret` is Base64 of the key's bytes" },
                "lifetime_grace_period": { "type": "integer", "minimum": 0, "default": 0, "description": "seconds that clocks may differ" }
              },
              "dependencies": {
                "algorithm": {
                  "oneOf": [
                    { "properties": { "algorithm": { "enum": [{{Symmetric}}], "default": "HS256" } } },
                    {
                      "properties": {
                        "public_key": { "type": "string", "minLength": 1 },
                        "algorithm": { "enum": [{{Asymmetric}}] }
                      },
                      "required": ["public_key"]
                    }
                  ]
                }
              },
              "encrypt_fields": ["secret"],
              "required": ["key"]
            }
            """,
        CheckConsumer = CheckConsumer,
        Example = """
            A consumer:

            ```json
            {"username": "jack", "plugins": {"jwt-auth": {"key": "jack-key", "secret": "a secret that nobody guesses"}}}
            ```

            The route:

            ```json
            {"jwt-auth": {"claims_to_verify": ["exp"]}}
            ```

            `curl -H 'Authorization: Bearer TOKEN' …` passes with a token whose claims hold `"key": "jack-key"` and a time of expiry to come; without one the
            answer is `401 {"message":"Missing JWT token in request"}`.
            """,
    };

    public sealed record Config(
        string Header = "authorization", string Query = "jwt", string Cookie = "jwt", bool HideCredentials = false,
        string KeyClaimName = "key",
        bool StoreInCtx = false, string Realm = "jwt", string? AnonymousConsumer = null, string[]? ClaimsToVerify = null);

    /// <summary>Keys are read once for each consumer's part; null: it is no key.</summary>
    static readonly ConditionalWeakTable<JsonObject, StrongBox<JwtKey?>> s_keys = [];

    public static JsonTypeInfo<Config> ConfigType => JwtAuthJson.Default.Config;

    public static JwtAuth Create(Config config, PluginContext context) => new(config);

    static string? CheckConsumer(JsonObject consumer)
    {
        var (secret, isSymmetric) = ((string?)consumer["secret"], AlgorithmOf(consumer).StartsWith("HS", StringComparison.Ordinal));
        return isSymmetric && secret is null ? "property \"secret\" is required when using HS based algorithms"
            : (bool?)consumer["base64_secret"] == true && secret is not null && !SecretReference.Is(secret)
            && NginxBase64.Decode(secret) is null
                ? "base64_secret required but the secret is not in base64 format"
            : !isSymmetric && consumer["public_key"] is null ? "missing valid public key"
            : null;
    }

    static string AlgorithmOf(JsonObject consumer) => (string?)consumer["algorithm"] ?? "HS256";

    protected override ValueTask<Found> FindAsync(Exchange exchange) => FindTokenAsync(exchange);

    async ValueTask<Found> FindTokenAsync(Exchange exchange)
    {
        if (Token(exchange) is not { } token)
        {
            return Refused("Missing JWT token in request");
        }
        var parts = token.Split('.');
        if (parts.Length != 3)
        {
            return Refused("JWT token invalid", "JWT token invalid: invalid jwt string");
        }
        if (Decode(parts[0]) is not { } header)
        {
            return Refused("JWT token invalid", "JWT token invalid: invalid header");
        }
        if (Decode(parts[1]) is not { } payload)
        {
            return Refused("JWT token invalid", "JWT token invalid: invalid payload");
        }
        if (payload[config.KeyClaimName] is not { } key || LuaText.Kind(key) == JsonValueKind.False)
        {
            return Refused("missing user key in JWT token");
        }
        if (LuaText.Kind(key) != JsonValueKind.String
            || exchange.Snapshot.Consumers.Find("jwt-auth", key.GetValue<string>()) is not { } consumer)
        {
            return Refused("Invalid user key in JWT token", "failed to find consumer: invalid user key");
        }
        if (Fault(exchange, consumer.Credential("jwt-auth")!, header, parts, payload) is { } fault)
        {
            return Refused("failed to verify jwt", $"failed to verify jwt: {fault}");
        }
        if (config.StoreInCtx)
        {
            await ScriptFields.SetAsync(exchange, "jwt_auth_payload", payload);
        }
        return consumer;
    }

    string? Token(Exchange exchange)
    {
        if (Header(exchange, config.Header) is { } header)
        {
            return header.StartsWith("Bearer ", StringComparison.Ordinal) || header.StartsWith("bearer ", StringComparison.Ordinal)
                ? header["Bearer ".Length..] : header;
        }
        return QueryArguments.Find(exchange.Args, config.Query) ?? exchange.Get("cookie_" + config.Cookie);
    }

    static JsonObject? Decode(string part)
    {
        try
        {
            return NginxBase64.DecodeUrl(part) is { } text ? CjsonReader.Parse(text) as JsonObject : null;
        }
        catch (JsonTextException)
        {
            return null;
        }
    }

    string? Fault(Exchange exchange, JsonObject credential, JsonObject header, string[] parts, JsonObject payload)
    {
        // the token does not choose: a public key is never taken for a secret
        var algorithm = AlgorithmOf(credential);
        if (header["alg"] is not JsonValue given || LuaText.Kind(given) != JsonValueKind.String || given.GetValue<string>() != algorithm)
        {
            return $"algorithm mismatch, expected {algorithm}";
        }
        if (s_keys.GetValue(credential, static one => new(KeyOf(one))).Value is not { } key)
        {
            return "the consumer has no valid key";
        }
        return NginxBase64.DecodeUrl(parts[2]) is { } signature && key.Verify($"{parts[0]}.{parts[1]}", signature)
            ? ClaimFault(payload, exchange.Services.Time.GetUtcNow().ToUnixTimeSeconds(),
                credential["lifetime_grace_period"] is { } grace ? LuaText.ToDouble(grace) : 0)
            : "signature mismatch";
    }

    static JwtKey? KeyOf(JsonObject credential)
    {
        var algorithm = AlgorithmOf(credential);
        if (!algorithm.StartsWith("HS", StringComparison.Ordinal))
        {
            try
            {
                return (string?)credential["public_key"] is { } pem ? JwtKey.OfPem(algorithm, pem) : null;
            }
            catch (CryptographicException)
            {
                return null;
            }
        }
        return (string?)credential["secret"] is not { } secret ? null
            : ((bool?)credential["base64_secret"] == true ? NginxBase64.Decode(secret) : Encoding.UTF8.GetBytes(secret)) is { } bytes
            ? JwtKey.OfSecret(algorithm, bytes)
            : null;
    }

    string? ClaimFault(JsonObject payload, double now, double grace)
    {
        var required = config.ClaimsToVerify is { Length: > 0 };
        foreach (var name in required ? config.ClaimsToVerify! : ["nbf", "exp"])
        {
            if (!payload.TryGetPropertyValue(name, out var claim))
            {
                if (required)
                {
                    return $"claim {name} is missing";
                }
                continue;
            }
            if (LuaText.Kind(claim) != JsonValueKind.Number)
            {
                return $"claim {name} is not a number";
            }
            var time = LuaText.ToDouble(claim!);
            if (name == "nbf" && !(time < now + grace))
            {
                return $"'nbf' claim not valid until {HttpTime(time)}";
            }
            if (name == "exp" && !(time > now - grace))
            {
                return $"'exp' claim expired at {HttpTime(time)}";
            }
        }
        return null;
    }

    static string HttpTime(double seconds) => Math.Abs(seconds) < 253402300800
        ? DateTimeOffset.UnixEpoch.AddSeconds(Math.Max(seconds, -62135596800)).ToString("R", CultureInfo.InvariantCulture)
        : LuaText.Number(seconds);

    protected override void Hide(Exchange exchange, bool isAnonymous)
    {
        if (!config.HideCredentials || exchange.Request.Headers.Remove(config.Header))
        {
            return;
        }
        if (QueryArguments.Find(exchange.Args, config.Query) is not null)
        {
            exchange.SetArgs(QueryArguments.Without(exchange.Args, config.Query));
        }
        else if (exchange.Request.Headers.Cookie is { Count: > 0 } cookies)
        {
            var kept = cookies.SelectMany(
                line => (line ?? "").Split(';', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
                .Where(pair => pair.Split('=', 2)[0].TrimEnd() != config.Cookie);
            exchange.Request.Headers.Cookie = string.Join("; ", kept) is { Length: > 0 } rest ? rest
                : default(Microsoft.Extensions.Primitives.StringValues);
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(JwtAuth.Config))]
sealed partial class JwtAuthJson : JsonSerializerContext;

using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Net.Http.Headers;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Lets only requests pass that a consumer has signed.</summary>
sealed class HmacAuth(HmacAuth.Config config)
    : ConsumerAuth("hmac", config.Realm, config.AnonymousConsumer), IPlugin<HmacAuth, HmacAuth.Config>, INeedsRequestBody
{
    const string Names = "[\"hmac-sha1\", \"hmac-sha256\", \"hmac-sha512\"]";

    public static PluginInfo Info { get; } = new(
        Name: "hmac-auth",
        Priority: 2530,
        Schema: $$"""
            {
              "type": "object",
              "title": "work with route or service object",
              "properties": {
                "allowed_algorithms": {
                  "type": "array", "minItems": 1, "items": { "type": "string", "enum": {{Names}} }, "default": {{Names}},
                  "description": "others are refused"
                },
                "clock_skew": { "type": "integer", "default": 300, "minimum": 1, "description": "seconds that the Date header may be off" },
                "signed_headers": {
                  "type": "array", "default": ["date"], "items": { "type": "string", "minLength": 1, "maxLength": 50 },
                  "description": "headers that every signature must cover"
                },
                "validate_request_body": { "type": "boolean", "default": false, "description": "A boolean value telling the plugin to enable body validation" },
                "max_req_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "larger bodies are answered 413 when they are validated" },
                "hide_credentials": { "type": "boolean", "default": false, "description": "the upstream does not get the Authorization header" },
                {{RealmSchema("hmac")}},
                {{AnonymousSchema}}
              }
            }
            """,
        Summary: """
            Lets only requests pass that a consumer has signed with its secret key:
            `Authorization: Signature keyId="KEY_ID",algorithm="hmac-sha256",headers="@request-target date",signature="BASE64"`. Signed is a text of lines, each with a
            line feed at its end: the key id, then for each of `headers` in their order `name: value`, or for `@request-target` the method, a blank and `$request_uri`
            (the normalised path with the query).

            With `validate_request_body` the header `Digest: SHA-256=BASE64` must be that of the body: such a route waits for the whole request body.
            """)
    {
        IsAuth = true,
        ConsumerKey = "key_id",
        ConsumerSchema = """
            {
              "type": "object",
              "title": "work with consumer object",
              "properties": {
                "key_id": { "type": "string", "minLength": 1, "maxLength": 256, "description": "different from all others" },
                "secret_key": { "type": "string", "minLength": 1, "maxLength": 256, "description": "signs, and is never sent" }
              },
              "encrypt_fields": ["secret_key"],
              "required": ["key_id", "secret_key"]
            }
            """,
        TakesPart = static (config, phase) => phase != Phase.BufferingRule || config["validate_request_body"]?.GetValue<bool>() == true,
        Example = """
            A consumer:

            ```json
            {"username": "jack", "plugins": {"hmac-auth": {"key_id": "jack-key", "secret_key": "jack-secret"}}}
            ```

            The route:

            ```json
            {"hmac-auth": {"signed_headers": ["date", "@request-target"]}}
            ```

            A request without a signature is answered `401 {"message":"client request can't be validated: missing Authorization header"}`.
            """,
    };

    public sealed record Config(
        string[]? AllowedAlgorithms = null, long ClockSkew = 300, string[]? SignedHeaders = null, bool ValidateRequestBody = false,
        long MaxReqBodySize = 67108864, bool HideCredentials = false, string Realm = "hmac", string? AnonymousConsumer = null);

    /// <param name="Headers">As the client spells them, in its order.</param>
    sealed record Signature(string KeyId, string Algorithm, string[] Headers, string Value);

    public static JsonTypeInfo<Config> ConfigType => HmacAuthJson.Default.Config;

    public static HmacAuth Create(Config config, PluginContext context) => new(config);

    public int MaxRequestBodyBytes => (int)Math.Min(config.MaxReqBodySize, int.MaxValue);

    protected override async ValueTask<Found> FindAsync(Exchange exchange)
    {
        const string Refusal = "client request can't be validated";
        if (Header(exchange, "Authorization") is not { } header)
        {
            return Refused($"{Refusal}: missing Authorization header", $"{Refusal}: missing Authorization header");
        }
        if (!header.StartsWith("Signature", StringComparison.Ordinal))
        {
            return Refused($"{Refusal}: Authorization header does not start with 'Signature'",
                $"{Refusal}: Authorization header does not start with 'Signature'");
        }
        var (consumer, error) = Check(exchange, header);
        if (error is null && config.ValidateRequestBody)
        {
            if (Header(exchange, "Digest") is not { } digest)
            {
                error = "Invalid digest";
            }
            else
            {
                var (body, tooLarge) = await ReadBodyAsync(exchange);
                if (tooLarge is not null)
                {
                    return new(null, tooLarge);
                }
                error = IsSame($"SHA-256={Convert.ToBase64String(SHA256.HashData(body.Span))}", digest) ? null : "Invalid digest";
            }
        }
        return error is null ? consumer! : Refused(Refusal, $"{Refusal}: {error}");
    }

    async ValueTask<(ReadOnlyMemory<byte> Body, Answer? TooLarge)> ReadBodyAsync(Exchange exchange)
    {
        try
        {
            return (await exchange.Body.ReadAsync(MaxRequestBodyBytes), null);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            var size = exchange.Request.ContentLength ?? Math.Max(exchange.BodyBytesReceived, config.MaxReqBodySize + 1);
            return (default,
                Answer.Message(e.StatusCode, $"request size {size} is greater than the maximum size {config.MaxReqBodySize} allowed"));
        }
    }

    (Consumer? Consumer, string? Error) Check(Exchange exchange, string header)
    {
        var fields = Fields(header);
        if (fields.GetValueOrDefault("keyId") is not { } keyId || fields.GetValueOrDefault("signature") is not { } signature)
        {
            return (null, "keyId or signature missing");
        }
        if (fields.GetValueOrDefault("algorithm") is not { } algorithm)
        {
            return (null, "algorithm missing");
        }
        if (exchange.Snapshot.Consumers.Find("hmac-auth", Text(keyId)) is not { } consumer
            || (string?)consumer.Credential("hmac-auth")!["secret_key"] is not { } secret)
        {
            return (null, "Invalid key_id");
        }
        if (config.AllowedAlgorithms?.Contains(algorithm) == false)
        {
            return (null, "Invalid algorithm");
        }
        if (ClockError(exchange) is { } error)
        {
            return (null, error);
        }
        var headers = fields.GetValueOrDefault("headers")?.Split(' ') ?? [];
        if (Array.Find(config.SignedHeaders ?? ["date"], name => !headers.Contains(name)) is { } missing)
        {
            return (null, $"expected header \"{missing}\" missing in signing");
        }
        var expected = Sign(algorithm, Encoding.UTF8.GetBytes(secret), SigningString(exchange, keyId, headers));
        return expected is not null && NginxBase64.Decode(signature) is { } given
            && CryptographicOperations.FixedTimeEquals(expected, given)
            ? (consumer, null) : (null, "Invalid signature");
    }

    /// <summary><c>name="value"</c>, with commas between them; of equal names the last counts.</summary>
    static Dictionary<string, string> Fields(string header)
    {
        Dictionary<string, string> fields = [];
        foreach (var field in header["Signature".Length..].Split(','))
        {
            var begin = field.IndexOf("=\"", StringComparison.Ordinal);
            var end = begin < 0 ? -1 : field.IndexOf('"', begin + 2);
            if (end >= 0)
            {
                fields[field[..begin].Trim()] = field[(begin + 2)..end];
            }
        }
        return fields;
    }

    string? ClockError(Exchange exchange)
    {
        if (Header(exchange, "Date") is not { } date)
        {
            return "Date header missing. failed to validate clock skew";
        }
        if (!HeaderUtilities.TryParseDate(date, out var time))
        {
            return "Invalid GMT format time";
        }
        return Math.Abs(exchange.Services.Time.GetUtcNow().ToUnixTimeSeconds() - time.ToUnixTimeSeconds()) > config.ClockSkew
            ? "Clock skew exceeded" : null;
    }

    static byte[] SigningString(Exchange exchange, string keyId, string[] headers)
    {
        var text = new StringBuilder(keyId).Append('\n');
        foreach (var name in headers)
        {
            if (HeaderName.IsToken(name) && Header(exchange, name) is { } value)
            {
                text.Append(name).Append(": ").Append(value).Append('\n');
            }
            else if (name == "@request-target")
            {
                text.Append(exchange.Request.Method).Append(' ').Append(ByteText.ToWire(exchange.Uri));
                if (exchange.Args.Length > 0)
                {
                    text.Append('?').Append(exchange.Args);
                }
                text.Append('\n');
            }
        }
        return Encoding.Latin1.GetBytes(text.ToString());
    }

    /// <summary>Null: there is no such algorithm.</summary>
    static byte[]? Sign(string algorithm, byte[] key, byte[] text) => algorithm switch
    {
        // APISIX's clients may choose it, unless the route says otherwise; as a MAC it is not broken
#pragma warning disable CA5350
        "hmac-sha1" => HMACSHA1.HashData(key, text),
#pragma warning restore CA5350
        "hmac-sha256" => HMACSHA256.HashData(key, text),
        "hmac-sha512" => HMACSHA512.HashData(key, text),
        _ => null,
    };

    protected override void Hide(Exchange exchange, bool isAnonymous)
    {
        if (config.HideCredentials)
        {
            exchange.Request.Headers.Remove("Authorization");
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(HmacAuth.Config))]
sealed partial class HmacAuthJson : JsonSerializerContext;

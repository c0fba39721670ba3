using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model.Json;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Pipeline.References;

namespace Sluice.Plugins.Auth;

/// <summary>Decrypts a token of the request for the upstream.</summary>
sealed class JweDecrypt(JweDecrypt.Config config) : IPlugin<JweDecrypt, JweDecrypt.Config>, IRewrite
{
    const int KeyBytes = 32;

    public static PluginInfo Info { get; } = new(
        Name: "jwe-decrypt",
        Priority: 2509,
        Schema: """
            {
              "type": "object",
              "properties": {
                "header": { "type": "string", "default": "Authorization", "description": "header that carries the token; `Bearer ` may stand before it" },
                "forward_header": { "type": "string", "default": "Authorization", "description": "header in which the upstream gets what was in it" },
                "strict": { "type": "boolean", "default": true, "description": "requests without a token are refused" }
              },
              "required": ["header", "forward_header"]
            }
            """,
        Summary: """
            Decrypts a JSON Web Encryption (RFC 7516, compact, `dir` and `A256GCM`) of the request and gives the upstream what was in it. The key is that of the
            consumer whose `key` the token's `kid` names; the consumer is not attached to the request, so an auth plugin may stand beside it. Taken are tokens
            as the RFC makes them, and those whose header was left out of the authentication, as APISIX makes and wants them.
            """)
    {
        IsAuth = true,
        ConsumerKey = "key",
        ConsumerSchema = """
            {
              "type": "object",
              "properties": {
                "key": { "type": "string", "description": "different from all others; a token's `kid`" },
                "secret": { "type": "string", "description": "32 bytes" },
                "is_base64_encoded": { "type": "boolean", "description": "`secret` is Base64 (of URLs) of the 32 bytes" }
              },
              "required": ["key", "secret"],
              "encrypt_fields": ["key", "secret"]
            }
            """,
        CheckConsumer = CheckConsumer,
        Example = """
            A consumer:

            ```json
            {"username": "jack", "plugins": {"jwe-decrypt": {"key": "jack-key", "secret": "-secret-length-must-be-32-chars-"}}}
            ```

            The route:

            ```json
            {"jwe-decrypt": {"header": "Authorization", "forward_header": "X-Claims"}}
            ```

            A request without a token is answered `403 {"message":"missing JWE token in request"}`.
            """,
    };

    public sealed record Config(string Header = "Authorization", string ForwardHeader = "Authorization", bool Strict = true);

    public static JsonTypeInfo<Config> ConfigType => JweDecryptJson.Default.Config;

    public static JweDecrypt Create(Config config, PluginContext context) => HeaderName.IsToken(config.ForwardHeader)
        ? new(config)
        : throw new ConfigException($"property \"forward_header\" validation failed: \"{config.ForwardHeader}\" is no header's name");

    static string? CheckConsumer(JsonObject consumer) =>
        SecretReference.Is((string)consumer["secret"]!) || KeyOf(consumer)?.Length == KeyBytes ? null
        : (bool?)consumer["is_base64_encoded"] == true ? "the secret length after base64 decode should be 32 chars"
        : "the secret length should be 32 chars";

    static byte[]? KeyOf(JsonObject consumer) => (string?)consumer["secret"] is not { } secret ? null
        : (bool?)consumer["is_base64_encoded"] == true ? NginxBase64.DecodeUrl(secret) : Encoding.UTF8.GetBytes(secret);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange) => new(Rewrite(exchange));

    Answer? Rewrite(Exchange exchange)
    {
        if (exchange.Request.Headers[config.Header] is not [{ } token, ..])
        {
            return config.Strict ? Answer.Message(403, "missing JWE token in request") : null;
        }
        if (token.StartsWith("Bearer ", StringComparison.Ordinal) || token.StartsWith("bearer ", StringComparison.Ordinal))
        {
            token = token["Bearer ".Length..];
        }
        var parts = token.Split('.', 5);
        if (parts.Length != 5 || HeaderOf(parts[0]) is not { } header)
        {
            return Answer.Message(400, "JWE token invalid");
        }
        if (header["kid"] is not { } kid)
        {
            return Answer.Message(400, "missing kid in JWE token");
        }
        if (LuaText.Kind(kid) != JsonValueKind.String
            || exchange.Snapshot.Consumers.Find("jwe-decrypt", kid.GetValue<string>()) is not { } consumer)
        {
            return Answer.Message(400, "invalid kid in JWE token");
        }
        if (KeyOf(consumer.Credential("jwe-decrypt")!) is not { Length: KeyBytes } key || Decrypt(key, parts) is not { } text)
        {
            return Answer.Message(400, "failed to decrypt JWE token");
        }
        exchange.Request.Headers[config.ForwardHeader] = HeaderText.Escape(Encoding.Latin1.GetString(text));
        return null;
    }

    static JsonObject? HeaderOf(string part)
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

    static byte[]? Decrypt(byte[] key, string[] parts)
    {
        if (NginxBase64.DecodeUrl(parts[2]) is not { Length: 12 } nonce || NginxBase64.DecodeUrl(parts[3]) is not { } encrypted
            || NginxBase64.DecodeUrl(parts[4]) is not { Length: 16 } tag)
        {
            return null;
        }
        using var cipher = new AesGcm(key, tag.Length);
        var text = new byte[encrypted.Length];
        // APISIX leaves the header out of what is authenticated
        foreach (var header in (byte[][])[[], Encoding.ASCII.GetBytes(parts[0])])
        {
            try
            {
                cipher.Decrypt(nonce, encrypted, tag, text, header);
                return text;
            }
            catch (AuthenticationTagMismatchException)
            {
                // the other way, or none
            }
        }
        return null;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(JweDecrypt.Config))]
sealed partial class JweDecryptJson : JsonSerializerContext;

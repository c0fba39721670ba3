using System.Buffers.Binary;
using System.Numerics;
using System.Security.Cryptography;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Gives each request an id that upstream and client get to see.</summary>
internal sealed class RequestId(RequestId.Config config, TimeProvider time) : IPlugin<RequestId, RequestId.Config>, IRewrite, IHeaderFilter
{
    const string NanoAlphabet = "_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const string Base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const string RangeCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIGKLMNOPQRSTUVWXYZ0123456789";
    const int MaxLength = 1024;

    public static PluginInfo Info { get; } = new(
        Name: "request-id",
        Priority: 12015,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "header_name": { "type": "string", "default": "X-Request-Id", "description": "header that carries the id" },
                "include_in_response": { "type": "boolean", "default": true, "description": "the client gets the header too" },
                "algorithm": {
                  "type": "string",
                  "enum": ["uuid", "uuidv7", "nanoid", "range_id", "ksuid"],
                  "default": "uuid",
                  "description": "how ids are made"
                },
                "range_id": {
                  "type": "object",
                  "properties": {
                    "length": { "type": "integer", "minimum": 6, "default": 16 },
                    "char_set": { "type": "string", "minLength": 6, "default": "{{RangeCharacters}}" }
                  },
                  "default": { "length": 16, "char_set": "{{RangeCharacters}}" },
                  "description": "for range_id: how long ids are, and of which characters"
                }
              }
            }
            """,
        Summary: """
            Gives each request an id in a header for the upstream and, unless told otherwise, for the client. An id that the
            client sends is kept, and so is one that the upstream answers. `$apisix_request_id` is the id; `$request_id` is nginx's own.
            """)
    {
        Example = """
            ```json
            {"request-id": {"algorithm": "nanoid"}}
            ```

            Answers carry a header such as `X-Request-Id: LMR-xSVJKtC0ObDLcmm0q`.
            """,
    };

    public sealed record Config(string HeaderName = "X-Request-Id", bool IncludeInResponse = true, string Algorithm = "uuid",
        RangeConfig? RangeId = null);

    public sealed record RangeConfig(int Length = 16, string CharSet = RangeCharacters);

    readonly RangeConfig _range = config.RangeId ?? new RangeConfig();

    public static JsonTypeInfo<Config> ConfigType => RequestIdJson.Default.Config;

    static string? Refusal(Config config) =>
        !HeaderName.IsToken(config.HeaderName) ? $"property \"header_name\" validation failed: not a header name: \"{config.HeaderName}\""
        : config.RangeId?.Length > MaxLength
        ? $"property \"range_id\" validation failed: property \"length\" validation failed: expected {config.RangeId.Length} to be at most {MaxLength}"
        : config.RangeId?.CharSet.Any(c => c is <= ' ' or > '~') == true
        ? "property \"range_id\" validation failed: property \"char_set\" validation failed: only visible ASCII characters fit a header"
        : null;

    public static RequestId Create(Config config, PluginContext context) =>
        Refusal(config) is { } error ? throw new ConfigException(error) : new(config, context.Services.Time);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var given = exchange.Request.Headers[config.HeaderName];
        var id = given.Count > 0 ? given[0] : null;
        if (string.IsNullOrEmpty(id))
        {
            id = Make();
            exchange.Request.Headers[config.HeaderName] = id;
        }
        exchange.NamedId = id;
        if (config.IncludeInResponse)
        {
            exchange.Items[this] = id;
        }
        return default;
    }

    public void FilterHeaders(Exchange exchange)
    {
        var headers = exchange.Response.Headers;
        if (exchange.Items.TryGetValue(this, out var id) && string.IsNullOrEmpty(headers[config.HeaderName]))
        {
            headers[config.HeaderName] = (string)id;
        }
    }

    string Make() => config.Algorithm switch
    {
        "uuidv7" => Guid.CreateVersion7(time.GetUtcNow()).ToString(),
        "nanoid" => RandomNumberGenerator.GetString(NanoAlphabet, 21),
        "range_id" => RandomNumberGenerator.GetString(_range.CharSet, _range.Length),
        "ksuid" => Ksuid(),
        _ => Guid.NewGuid().ToString(),
    };

    /// <summary>Sortable by time: 32 bits of seconds since 2014-05-13 and 128 random bits, in 27 digits of base 62.</summary>
    string Ksuid()
    {
        const long epoch = 1_400_000_000;
        Span<byte> bytes = stackalloc byte[20];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, (uint)(time.GetUtcNow().ToUnixTimeSeconds() - epoch));
        RandomNumberGenerator.Fill(bytes[4..]);
        var number = new BigInteger(bytes, isUnsigned: true, isBigEndian: true);
        return string.Create(27, number, static (text, rest) =>
        {
            for (var i = text.Length - 1; i >= 0; i--)
            {
                rest = BigInteger.DivRem(rest, 62, out var digit);
                text[i] = Base62[(int)digit];
            }
        });
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(RequestId.Config))]
sealed partial class RequestIdJson : JsonSerializerContext;

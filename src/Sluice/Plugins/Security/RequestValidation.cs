using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using Sluice.Pipeline;

namespace Sluice.Plugins.Security;

/// <summary>Lets only requests pass whose headers and body are as a JSON schema says.</summary>
internal sealed partial class RequestValidation : IPlugin<RequestValidation, RequestValidation.Config>, IRewrite, INeedsRequestBody
{
    public static PluginInfo Info { get; } = new(
        Name: "request-validation",
        Priority: 2800,
        Schema: """
            {
              "type": "object",
              "properties": {
                "header_schema": { "type": "object", "description": "JSON schema of an object with the headers by their names in lower case; values are texts, or lists of them" },
                "body_schema": { "type": "object", "description": "JSON schema of the body" },
                "max_req_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "bytes; larger bodies are refused" },
                "rejected_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 400 },
                "rejected_msg": { "type": "string", "minLength": 1, "maxLength": 256, "description": "instead of what is wrong" }
              },
              "anyOf": [ { "required": ["header_schema"] }, { "required": ["body_schema"] } ]
            }
            """,
        Summary: """
            Lets only requests pass whose headers and body are as JSON schemas (drafts 4 to 7) say. Bodies are JSON, or forms (`application/x-www-form-urlencoded`). The upstream gets a JSON body as it was
            understood: written anew, with the schema's defaults. **`body_schema` needs the whole request body**: the upstream waits until it is complete.
            """)
    {
        TakesPart = static (config, phase) => phase != Phase.BufferingRule || config.ContainsKey("body_schema"),
        Example = """
            ```json
            {"request-validation": {"body_schema": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "size": {"type": "integer", "default": 1}}}}}
            ```

            `{}` is answered `400 property "name" is required`.
            """,
    };

    public sealed record Config(
        [property: JsonConverter(typeof(SchemaConverter))]
        JsonSchema? HeaderSchema = null, [property: JsonConverter(typeof(SchemaConverter))] JsonSchema? BodySchema = null,
        int MaxReqBodySize = 64 * 1024 * 1024, int RejectedCode = 400, string? RejectedMsg = null);

    internal sealed class SchemaConverter : JsonSchemaConverter
    {
        protected override JsonSchema Parse(JsonNode value)
        {
            var schema = base.Parse(value);
            return NoList(value) is { } kind ? throw new FormatException($"table expected, got {kind}") : schema;
        }
    }

    readonly Config _config;
    readonly JsonSchema? _headers;
    readonly JsonSchema? _body;
    readonly ILogger _logger;

    RequestValidation(Config config, PluginContext context)
    {
        _config = config;
        (_headers, _body) = (config.HeaderSchema, config.BodySchema);
        _logger = context.Services.Loggers.CreateLogger<RequestValidation>();
    }

    public static JsonTypeInfo<Config> ConfigType => RequestValidationJson.Default.Config;

    /// <summary>The type of an <c>enum</c> or <c>required</c> that is no list, at any depth; null: there is none.</summary>
    static string? NoList(JsonNode? node) => node switch
    {
        JsonObject map => ((string[])["enum", "required"]).Select(word => map[word]).FirstOrDefault(list => list is JsonValue) is { } wrong
            ? LuaText.Type(wrong) : map.Select(member => NoList(member.Value)).FirstOrDefault(kind => kind is not null),
        JsonArray list => list.Select(NoList).FirstOrDefault(kind => kind is not null),
        _ => null,
    };

    public static RequestValidation Create(Config config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes => _config.MaxReqBodySize;

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        if (_headers?.Validate(HeadersOf(exchange)) is { } wrongHeader)
        {
            return Refuse(wrongHeader);
        }
        return _body is null ? null : await CheckBodyAsync(exchange, _body);
    }

    async ValueTask<Answer?> CheckBodyAsync(Exchange exchange, JsonSchema schema)
    {
        ReadOnlyMemory<byte> body;
        try
        {
            body = await exchange.Body.ReadAsync(_config.MaxReqBodySize);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            LogNoBody(e.Message);
            exchange.Response.Headers.Connection = "close";
            return Refuse(null);
        }
        if (body.IsEmpty)
        {
            return Refuse(null);
        }
        if (exchange.Request.Headers.ContentType is { Count: > 1 })
        {
            LogTwoTypes();
            return Refuse(null);
        }
        if (exchange.Request.ContentType?.StartsWith("application/x-www-form-urlencoded", StringComparison.OrdinalIgnoreCase) == true)
        {
            return schema.Validate(FormOf(Encoding.UTF8.GetString(body.Span))) is { } wrong ? Refuse(wrong) : null;
        }
        JsonNode? value;
        try
        {
            value = CjsonReader.Parse(body.Span);
        }
        catch (JsonTextException e)
        {
            return Refuse(e.Message);
        }
        if (schema.Validate(value) is { } error)
        {
            return Refuse(error);
        }
        // what was checked is what goes on: of two members with one name the upstream might take the other
        exchange.Body.Replace(value is null ? "null"u8.ToArray() : Encoding.UTF8.GetBytes(JsonBytes.Text(value)));
        return null;
    }

    Answer Refuse(string? why)
    {
        LogRefused(why);
        return (_config.RejectedMsg ?? why) is { } text ? Answer.Text(_config.RejectedCode, text) : Answer.Bare(_config.RejectedCode);
    }

    static JsonObject HeadersOf(Exchange exchange)
    {
        var headers = new JsonObject();
        foreach (var (name, values) in exchange.Request.Headers)
        {
            headers[name.ToLowerInvariant()] = values.Count == 1 ? values[0] : new JsonArray([.. values.Select(value => (JsonNode?)value)]);
        }
        return headers;
    }

    /// <summary>As OpenResty decodes arguments: one without an equals sign is true, several of one name are a list.</summary>
    static JsonObject FormOf(string form)
    {
        var values = new JsonObject();
        foreach (var pair in form.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            var name = WebUtility.UrlDecode(equals < 0 ? pair : pair[..equals]);
            JsonNode value = equals < 0 ? true : WebUtility.UrlDecode(pair[(equals + 1)..]);
            if (values[name] is JsonArray several)
            {
                several.Add(value);
            }
            else
            {
                values[name] = values[name] is { } first ? new JsonArray(first.DeepClone(), value) : value;
            }
        }
        return values;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to get body: {Error}")]
    partial void LogNoBody(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "duplicated Content-Type header")]
    partial void LogTwoTypes();

    [LoggerMessage(Level = LogLevel.Error, Message = "req schema validation failed: {Error}")]
    partial void LogRefused(string? error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(RequestValidation.Config))]
sealed partial class RequestValidationJson : JsonSerializerContext;

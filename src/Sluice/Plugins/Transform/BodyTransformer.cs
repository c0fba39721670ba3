using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Xml;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;
using Sluice.Scripting;

namespace Sluice.Plugins.Transform;

/// <summary>Makes another body of a request's or a response's, by a template.</summary>
internal sealed partial class BodyTransformer
    : IPlugin<BodyTransformer, BodyTransformer.Config>, IRewrite, IHeaderFilter, IWholeBodyFilter, INeedsRequestBody, IBufferingRule
{
    const string Side = """
        {
          "type": "object",
          "properties": {
            "input_format": {
              "description": "what the body is; by its Content-Type when it is not said, and the query's arguments with a GET",
              "type": "string",
              "enum": ["xml", "json", "encoded", "args", "plain", "multipart"]
            },
            "template": { "description": "the new body, with places that the old one fills", "type": "string" },
            "template_is_base64": { "description": "the template is written in Base64", "type": "boolean" }
          },
          "required": ["template"]
        }
        """;

    public static PluginInfo Info { get; } = new(
        Name: "body-transformer",
        Priority: 1080,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "request": {{Side}},
                "response": {{Side}},
                "max_req_body_size": {
                  "description": "larger bodies of requests are answered 413",
                  "type": "integer", "minimum": 1, "default": 67108864
                },
                "max_resp_body_size": {
                  "description": "larger bodies of responses end the answer with an error",
                  "type": "integer", "minimum": 1, "default": 67108864
                }
              },
              "anyOf": [
                { "required": ["request"] },
                { "required": ["response"] },
                { "required": ["request", "response"] }
              ]
            }
            """,
        Summary: """
            Makes another body of a request's or a response's, by a template in the language of lua-resty-template: `{{ expression }}` (escaped for HTML), `{* expression *}` (as it is),
            `{% Lua %}`, `{# comment #}`, `{-raw-}…{-raw-}`. What the body holds has the names that it has there: members of JSON, elements of XML
            (without their prefixes; several of one name are a list, attributes are in `_attr`), fields of a form, of `multipart/form-data`, or of the query (`args`, always with a GET).
            Besides there are `_body` (the text), `_ctx` (`_ctx.var.uri`), `_escape_json(x)`, `_escape_xml(x)`, `_multipart`, and what scripts find ([lua.md](../lua.md)). A template includes no
            others, and cannot wait.

            A request that cannot be read is answered 400, one whose template fails 503; a response's body then stays as it was, and the log says why.

            **It needs whole bodies, so it breaks streaming**: a request's is read before the upstream gets it, a response's before the client does. Compressed responses stay as they are.
            """)
    {
        Example = """
            ```json
            {"body-transformer": {"request": {"template": "{\"name\": {*_escape_json(user.name)*}, \"from\": \"{{_ctx.var.remote_addr}}\"}"}}}
            ```

            The upstream gets `{"name": "Jo", "from": "127.0.0.1"}` for `{"user": {"name": "Jo", "age": 4}}`.
            """,
    };

    public sealed record Transform(string Template, string? InputFormat = null, bool TemplateIsBase64 = false);

    public sealed record Config(Transform? Request = null, Transform? Response = null, int MaxReqBodySize = 64 << 20,
        int MaxRespBodySize = 64 << 20);

    /// <summary>Elements inside elements.</summary>
    const int MaxDepth = 200;

    static readonly string Glue = Encoding.UTF8.GetString(LuaLane.Shipped("body-transformer.lua")!);

    readonly Config _config;
    readonly LuaUnit _unit;
    readonly ILogger _logger;

    BodyTransformer(Config config, PluginContext context)
    {
        _config = config;
        _unit = LuaUnit.OfFunctions(context.Services.Lua, "body-transformer", $"{context.Scope}, plugin body-transformer",
            context.Config.DeepClone(), [Glue]);
        _logger = context.Services.Loggers.CreateLogger<BodyTransformer>();
    }

    public static JsonTypeInfo<Config> ConfigType => BodyTransformerJson.Default.Config;

    public static BodyTransformer Create(Config config, PluginContext context) =>
        LuaEngine.Missing is { } missing ? throw new ConfigException(missing) : new(config, context);

    public int MaxRequestBodyBytes => _config.MaxReqBodySize;

    public int MaxBodyBytes => _config.MaxRespBodySize;

    bool? IBufferingRule.ResponseBuffering => null;

    bool? IBufferingRule.RequestBuffering => _config.Request is null ? null : true;

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        if (_config.Request is not { } request)
        {
            return null;
        }
        var body = await exchange.Body.ReadAsync(_config.MaxReqBodySize);
        var isGet = HttpMethods.IsGet(exchange.Request.Method);
        var (made, status, error) = Make(exchange, "request", LuaPhase.Rewrite, isGet ? "args" : request.InputFormat, body,
            exchange.Request.ContentType);
        if (made is null)
        {
            LogFailure(error, body.Length);
            return Answer.Message(status, error);
        }
        exchange.Body.Replace(made);
        return null;
    }

    public void FilterHeaders(Exchange exchange)
    {
        if (_config.Response is null)
        {
            return;
        }
        var headers = exchange.Response.Headers;
        if (headers.ContentEncoding.ToString() is { Length: > 0 } encoding
            && !encoding.Equals("identity", StringComparison.OrdinalIgnoreCase))
        {
            LogCompressed(encoding);
            return;
        }
        headers.Remove("Content-Encoding");
        headers.Remove("ETag");
        headers.Remove("Last-Modified");
        exchange.Items[this] = this;
    }

    public bool WantsWholeBody(Exchange exchange) => exchange.Items.ContainsKey(this);

    public ReadOnlyMemory<byte> FilterBody(Exchange exchange, ReadOnlyMemory<byte> body)
    {
        var (made, _, error) = Make(exchange, "response", LuaPhase.BodyFilter, _config.Response!.InputFormat, body,
            exchange.Response.ContentType);
        if (made is null)
        {
            LogFailure(error, body.Length);
            return body;
        }
        return made;
    }

    (byte[]? Made, int Status, string Error) Make(Exchange exchange, string side, LuaPhase phase, string? format, ReadOnlyMemory<byte> body,
        string? contentType)
    {
        format ??= FormatOf(contentType);
        if (format is null && !body.IsEmpty)
        {
            LogNoFormat(side);
        }
        if (body.IsEmpty && format != "args")
        {
            format = format == "plain" ? format : null;
        }
        string? xml = null;
        if (format == "xml")
        {
            try
            {
                xml = ReadXml(body).ToJsonString();
            }
            catch (XmlException e)
            {
                return (null, 400, $"{side} body decode: Error Parsing XML: {e.Message}");
            }
        }
        var results = exchange.OpenScript().Apply(_unit, phase, "body-transformer",
            [Bytes(side), Bytes(format), body.IsEmpty ? null : body.ToArray(), Bytes(contentType), Bytes(xml)]);
        return results is null ? (null, 503, $"{side} template rendering: it has failed")
            : results[0] is { } made ? (made, 200, "")
            : (null, results[1] is [(byte)'4', ..] ? 400 : 503, Encoding.UTF8.GetString(results[2] ?? []));
    }

    static byte[]? Bytes(string? text) => text is null ? null : Encoding.UTF8.GetBytes(text);

    static string? FormatOf(string? contentType)
    {
        return Has("text/xml") ? "xml" : Has("application/json") ? "json" : Has("application/x-www-form-urlencoded") ? "encoded"
            : Has("multipart/") ? "multipart" : null;

        bool Has(string type) => contentType?.Contains(type, StringComparison.OrdinalIgnoreCase) == true;
    }

    /// <summary>
    /// A document as templates see it: prefixes dropped, text for elements that have nothing else, lists for repeated ones, <c>_attr</c>
    /// for attributes; the text of an element that has more is <c>#text</c> here and at 1 there.
    /// </summary>
    static JsonObject ReadXml(ReadOnlyMemory<byte> body)
    {
        using var reader = XmlReader.Create(
            new MemoryStream(body.TrimStart(" \t\r\n"u8).ToArray()),
            new XmlReaderSettings { DtdProcessing = DtdProcessing.Prohibit, XmlResolver = null, IgnoreComments = true,
                IgnoreProcessingInstructions = true });
        var root = new JsonObject();
        var open = new Stack<(string Name, JsonObject Members, StringBuilder Text)>();
        while (reader.Read())
        {
            switch (reader.NodeType)
            {
                case XmlNodeType.Element:
                    if (open.Count == MaxDepth)
                    {
                        throw new XmlException($"elements are nested more than {MaxDepth} deep");
                    }
                    var isEmpty = reader.IsEmptyElement;
                    open.Push((reader.LocalName, Attributes(reader), new StringBuilder()));
                    if (isEmpty)
                    {
                        Close();
                    }
                    break;
                case XmlNodeType.Text or XmlNodeType.CDATA or XmlNodeType.SignificantWhitespace:
                    open.Peek().Text.Append(reader.Value);
                    break;
                case XmlNodeType.EndElement:
                    Close();
                    break;
            }
        }
        return root;

        void Close()
        {
            var (name, members, builder) = open.Pop();
            var text = builder.ToString().Trim();
            if (members.Count > 0 && text.Length > 0)
            {
                members["#text"] = text;
            }
            Add(open.TryPeek(out var parent) ? parent.Members : root, name, members.Count > 0 ? members : JsonValue.Create(text));
        }
    }

    static JsonObject Attributes(XmlReader reader)
    {
        if (!reader.HasAttributes)
        {
            return [];
        }
        var attributes = new JsonObject();
        while (reader.MoveToNextAttribute())
        {
            attributes[reader.LocalName] = reader.Value;
        }
        reader.MoveToElement();
        return new() { ["_attr"] = attributes };
    }

    static void Add(JsonObject members, string name, JsonNode value)
    {
        if (members[name] is JsonArray several)
        {
            several.Add(value);
        }
        else if (members[name] is { } first)
        {
            members.Remove(name);
            members[name] = new JsonArray(first, value);
        }
        else
        {
            members[name] = value;
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Error}, body size: {Size}")]
    partial void LogFailure(string error, int size);

    [LoggerMessage(Level = LogLevel.Warning, Message = "no input format to parse {Side} body")]
    partial void LogNoFormat(string side);

    [LoggerMessage(Level = LogLevel.Warning, Message = "a response with Content-Encoding {Encoding} is not transformed")]
    partial void LogCompressed(string encoding);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(BodyTransformer.Config))]
sealed partial class BodyTransformerJson : JsonSerializerContext;

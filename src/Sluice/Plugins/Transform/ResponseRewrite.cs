using System.IO.Compression;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Transform;

/// <summary>Changes answers: status, headers, a new body, or replacements within the body.</summary>
internal sealed partial class ResponseRewrite : IPlugin<ResponseRewrite, ResponseRewrite.Config>, IHeaderFilter, IWholeBodyFilter
{
    public static PluginInfo Info { get; } = new(
        Name: "response-rewrite",
        Priority: 899,
        Schema: """
            {
              "type": "object",
              "properties": {
                "max_resp_body_size": {
                  "description": "bytes; a larger body, compressed or not, ends an answer that filters work on with an error",
                  "type": "integer", "minimum": 1, "default": 67108864
                },
                "headers": {
                  "description": "new headers for response",
                  "anyOf": [
                    {
                      "type": "object",
                      "minProperties": 1,
                      "patternProperties": { "^[^:]+$": { "oneOf": [ { "type": "string" }, { "type": "number" } ] } }
                    },
                    {
                      "properties": {
                        "add": {
                          "type": "array",
                          "minItems": 1,
                          "items": { "type": "string", "pattern": "^[^:]+:[^:]*[^/]$" }
                        },
                        "set": {
                          "type": "object",
                          "minProperties": 1,
                          "patternProperties": { "^[^:]+$": { "oneOf": [ { "type": "string" }, { "type": "number" } ] } }
                        },
                        "remove": {
                          "type": "array",
                          "minItems": 1,
                          "items": { "type": "string", "pattern": "^[^:]+$" }
                        }
                      }
                    }
                  ]
                },
                "body": { "description": "new body for response", "type": "string" },
                "body_base64": {
                  "description": "whether new body for response need base64 decode before return",
                  "type": "boolean",
                  "default": false
                },
                "status_code": {
                  "description": "new status code for response",
                  "type": "integer",
                  "minimum": 200,
                  "maximum": 598
                },
                "vars": { "type": "array", "description": "conditions; the answer is changed when they hold" },
                "filters": {
                  "description": "a group of filters that modify response body by replacing one specified string by another",
                  "type": "array",
                  "minItems": 1,
                  "items": {
                    "description": "filter that modifies response body",
                    "type": "object",
                    "required": ["regex", "replace"],
                    "properties": {
                      "regex": { "description": "match pattern on response body", "type": "string", "minLength": 1 },
                      "scope": {
                        "description": "regex substitution range",
                        "type": "string",
                        "enum": ["once", "global"],
                        "default": "once"
                      },
                      "replace": { "description": "regex substitution content", "type": "string" },
                      "options": { "description": "regex options", "type": "string", "default": "jo" }
                    }
                  }
                }
              },
              "dependencies": {
                "body": { "not": { "required": ["filters"] } },
                "filters": { "not": { "required": ["body"] } }
              }
            }
            """,
        Summary: """
            Changes answers, the upstream's and the gateway's own: status, headers, a new body, or replacements within the body. Header values
            may hold variables; `vars` says for which answers, with the operators of a route's `vars`.

            **`filters` break streaming**: a replacement may span any two pieces of a body, so the whole body is gathered first, up to
            `max_resp_body_size`; a larger one ends the answer with an error. Everything else in this plugin leaves a stream a stream. Bodies compressed
            with gzip, deflate or br are decompressed for the filters and sent plain; what is compressed otherwise goes on as it is, and the log says so.
            """)
    {
        Example = """
            ```json
            {
              "response-rewrite": {
                "headers": {"set": {"X-Served-By": "$balancer_ip:$balancer_port"}, "remove": ["X-Powered-By"]},
                "vars": [["status", "==", 200]]
              }
            }
            ```
            """,
    };

    public sealed record Config(
        HeaderChanges? Headers = null, string? Body = null, bool BodyBase64 = false, int? StatusCode = null, Expression? Vars = null,
        Filter[]? Filters = null,
        int MaxRespBodySize = 64 << 20);

    /// <summary>An expression that changes a body, and how.</summary>
    [JsonConverter(typeof(FilterConverter))]
    public sealed record Filter(Regex Regex, Substitution Replacement, bool All, Encoding Encoding);

    internal sealed class FilterConverter : ParsedConverter<Filter>
    {
        protected override Filter Parse(JsonNode value)
        {
            var regex = value["regex"]!.GetValue<string>();
            try
            {
                return Compile(regex, value["replace"]!.GetValue<string>(), (string?)value["scope"] ?? "once",
                    (string?)value["options"] ?? "jo");
            }
            catch (FormatException e)
            {
                throw new FormatException($"regex \"{regex}\" validation failed: {e.Message}", e);
            }
        }
    }

    readonly Config _config;
    readonly HeaderChanges _headers;
    readonly Expression? _vars;
    readonly Filter[] _filters;
    readonly byte[]? _body;
    readonly ILogger _logger;

    ResponseRewrite(Config config, PluginContext context)
    {
        _config = config;
        (_headers, _vars, _filters) = (config.Headers ?? HeaderChanges.None, config.Vars, config.Filters ?? []);
        _body = config.Body is not { } body ? null : config.BodyBase64 ? Convert.FromBase64String(body) : Encoding.UTF8.GetBytes(body);
        _logger = context.Services.Loggers.CreateLogger<ResponseRewrite>();
    }

    public static JsonTypeInfo<Config> ConfigType => ResponseRewriteJson.Default.Config;

    public static ResponseRewrite Create(Config config, PluginContext context) =>
        config.Headers?.Written.FirstOrDefault(HopByHop.IsFraming) is { } framing
            ? throw new ConfigException($"header {framing} can not be set: the gateway frames answers itself")
        : config.BodyBase64 && (config.Body is not { Length: > 0 } body || !Convert.TryFromBase64String(body, new byte[body.Length], out _))
            ? throw new ConfigException("invalid base64 content")
        : new(config, context);

    public void FilterHeaders(Exchange exchange)
    {
        if (_vars?.Matches(exchange) == false)
        {
            return;
        }
        var response = exchange.Response;
        if (_config.StatusCode is { } status)
        {
            response.StatusCode = status;
        }
        var filters = _filters.Length > 0 && CanRead(response.Headers.ContentEncoding.ToString());
        if (filters)
        {
            exchange.Items[this] = response.Headers.ContentEncoding.ToString();
        }
        if (_body is not null || filters)
        {
            // they describe a body that the client does not get
            response.Headers.Remove("Content-Encoding");
            response.Headers.Remove("ETag");
            response.Headers.Remove("Last-Modified");
        }
        if (_body is not null)
        {
            exchange.ReplacedBody = _body;
        }
        _headers.Apply(response.Headers, template => Template.ExpandHeader(template, exchange));
    }

    bool CanRead(string encoding)
    {
        var can = encoding.ToLowerInvariant() is "" or "identity" or "gzip" or "x-gzip" or "deflate" or "br";
        if (!can)
        {
            LogEncoding(encoding);
        }
        return can;
    }

    public int MaxBodyBytes => _config.MaxRespBodySize;

    public bool WantsWholeBody(Exchange exchange) => exchange.Items.ContainsKey(this);

    public ReadOnlyMemory<byte> FilterBody(Exchange exchange, ReadOnlyMemory<byte> body)
    {
        if (exchange.Items[this] is string { Length: > 0 } encoding)
        {
            body = Decompress(body, encoding);
        }
        foreach (var filter in _filters)
        {
            try
            {
                var text = filter.Encoding.GetString(body.Span);
                var replaced = filter.Replacement.Replace(filter.Regex, text, filter.All, out var count);
                body = count == 0 ? body : filter.Encoding.GetBytes(replaced);
            }
            catch (RegexMatchTimeoutException)
            {
                LogTimeout(filter.Regex.ToString());
            }
        }
        return body;
    }

    ReadOnlyMemory<byte> Decompress(ReadOnlyMemory<byte> body, string encoding)
    {
        using var input = new MemoryStream(body.ToArray());
        using Stream decoder = encoding.ToLowerInvariant() switch
        {
            "gzip" or "x-gzip" => new GZipStream(input, CompressionMode.Decompress),
            "deflate" => new ZLibStream(input, CompressionMode.Decompress),
            "br" => new BrotliStream(input, CompressionMode.Decompress),
            _ => input,
        };
        var limit = MaxBodyBytes;
        using var output = new MemoryStream();
        var buffer = new byte[16 * 1024];
        try
        {
            while (decoder.Read(buffer) is > 0 and var read)
            {
                if (output.Length + read > limit)
                {
                    throw new BodyFilterException(
                        $"plugin response-rewrite needs the whole body, which is over its limit of {limit} bytes once decompressed");
                }
                output.Write(buffer, 0, read);
            }
        }
        catch (InvalidDataException e)
        {
            throw new BodyFilterException($"plugin response-rewrite cannot decompress the body: {e.Message}");
        }
        return output.ToArray();
    }

    /// <summary>Works on bytes, as PCRE does, unless the option <c>u</c> asks for characters.</summary>
    static Filter Compile(string regex, string replacement, string scope, string flags)
    {
        var options = RegexOptions.None;
        foreach (var option in flags)
        {
            options |= option switch
            {
                'i' => RegexOptions.IgnoreCase,
                'm' => RegexOptions.Multiline,
                's' => RegexOptions.Singleline,
                'x' => RegexOptions.IgnorePatternWhitespace,
                'j' or 'o' or 'u' or 'U' => RegexOptions.None,
                _ => throw new FormatException($"unknown flag \"{option}\" (flags \"{flags}\")"),
            };
        }
        var isUtf8 = flags.Contains('u', StringComparison.OrdinalIgnoreCase);
        var inline = string.Concat(new[] { (RegexOptions.Multiline, "m"), (RegexOptions.Singleline, "s"),
            (RegexOptions.IgnorePatternWhitespace, "x") }
            .Where(pair => options.HasFlag(pair.Item1)).Select(pair => pair.Item2));
        var pattern = (inline.Length > 0 ? $"(?{inline})" : "") + regex;
        return new Filter(
            Pcre.Compile(isUtf8 ? pattern : Bytes(pattern), options.HasFlag(RegexOptions.IgnoreCase)),
            new Substitution(isUtf8 ? replacement : Bytes(replacement)),
            scope == "global",
            isUtf8 ? Encoding.UTF8 : Encoding.Latin1);
    }

    static string Bytes(string text) => Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(text));

    [LoggerMessage(Level = LogLevel.Error,
        Message = "filters may not work as expected due to unsupported compression encoding type: {Encoding}")]
    partial void LogEncoding(string encoding);

    [LoggerMessage(Level = LogLevel.Error, Message = "regex \"{Regex}\" substitutes failed: it ran out of time, the body is left as it is")]
    partial void LogTimeout(string regex);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ResponseRewrite.Config))]
sealed partial class ResponseRewriteJson : JsonSerializerContext;

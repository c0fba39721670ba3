using System.Collections.Frozen;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Plugins.Security;

/// <summary>Says which pages of other origins a browser may let read the answers (CORS).</summary>
internal sealed class Cors : IPlugin<Cors, Cors.Config>, IRewrite, IHeaderFilter
{
    const string OriginsPattern = """^(\\*|\\*\\*|null|\\w+://[^,]+(,\\w+://[^,]+)*)$""";
    const string AllMethods = "GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS,CONNECT,TRACE";

    public static PluginInfo Info { get; } = new(
        Name: "cors",
        Priority: 4000,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "allow_origins": {
                  "description": "you can use '*' to allow all origins when no credentials,'**' to allow forcefully(it will bring some security risks, be carefully),multiple origin use ',' to split. default: *.",
                  "type": "string",
                  "pattern": "{{OriginsPattern}}",
                  "default": "*"
                },
                "allow_methods": {
                  "description": "you can use '*' to allow all methods when no credentials,'**' to allow forcefully(it will bring some security risks, be carefully),multiple method use ',' to split. default: *.",
                  "type": "string",
                  "default": "*"
                },
                "allow_headers": {
                  "description": "you can use '*' to allow all header when no credentials,'**' to allow forcefully(it will bring some security risks, be carefully),multiple header use ',' to split. default: *.",
                  "type": "string",
                  "default": "*"
                },
                "expose_headers": {
                  "description": "multiple header use ',' to split. If not specified, no custom headers are exposed.",
                  "type": "string"
                },
                "max_age": {
                  "description": "maximum number of seconds the results can be cached.-1 means no cached, the max value is depend on browser,more details plz check MDN. default: 5.",
                  "type": "integer",
                  "default": 5
                },
                "allow_credential": {
                  "description": "allow client append credential. according to CORS specification,if you set this option to 'true', you can not use '*' for other options.",
                  "type": "boolean",
                  "default": false
                },
                "allow_origins_by_regex": {
                  "type": "array",
                  "description": "you can use regex to allow specific origins when no credentials,for example use [.*\\.test.com$] to allow a.test.com and b.test.com",
                  "items": { "type": "string", "minLength": 1, "maxLength": 4096 },
                  "minItems": 1,
                  "uniqueItems": true
                },
                "allow_origins_by_metadata": {
                  "type": "array",
                  "description": "set allowed origins by referencing origins in plugin metadata",
                  "items": { "type": "string", "minLength": 1, "maxLength": 4096 },
                  "minItems": 1,
                  "uniqueItems": true
                },
                "timing_allow_origins": {
                  "description": "set allowed origins for Timing-Allow-Origin header, as allow_origins",
                  "type": "string",
                  "pattern": "{{OriginsPattern}}"
                },
                "timing_allow_origins_by_regex": {
                  "type": "array",
                  "description": "you can use regex to allow specific origins for Timing-Allow-Origin header",
                  "items": { "type": "string", "minLength": 1, "maxLength": 4096 },
                  "minItems": 1,
                  "uniqueItems": true
                }
              }
            }
            """,
        Summary: """
            Lets browsers give pages of other origins the answers (CORS). Answers the preflight: every `OPTIONS` request on the route is answered
            `200` by the gateway. The headers are set when the request's `Origin` is allowed by `allow_origins`, or by
            `allow_origins_by_regex` when that is given, or by a name in `allow_origins_by_metadata`.
            """)
    {
        MetadataSchema = $$"""
            {
              "type": "object",
              "properties": {
                "allow_origins": {
                  "type": "object",
                  "description": "lists of origins by a name of one's choice, for allow_origins_by_metadata",
                  "additionalProperties": { "type": "string", "pattern": "{{OriginsPattern}}" }
                }
              }
            }
            """,
        Example = """
            ```json
            {"cors": {"allow_origins": "https://a.example,https://b.example", "allow_methods": "GET,POST", "allow_headers": "authorization", "allow_credential": true}}
            ```
            """,
    };

    public sealed record Config(
        string AllowOrigins = "*", string AllowMethods = "*", string AllowHeaders = "*", string? ExposeHeaders = null, int MaxAge = 5,
        bool AllowCredential = false, OriginPatterns? AllowOriginsByRegex = null, string[]? AllowOriginsByMetadata = null,
        string? TimingAllowOrigins = null, OriginPatterns? TimingAllowOriginsByRegex = null);

    [JsonConverter(typeof(PatternsConverter))]
    public sealed record OriginPatterns(Regex[] All);

    internal sealed class PatternsConverter : ParsedConverter<OriginPatterns>
    {
        protected override OriginPatterns Parse(JsonNode value) =>
            new([.. value.AsArray().Select(item => Pcre.Compile(item!.GetValue<string>()))]);
    }

    readonly Config _config;
    readonly bool _dependsOnOrigin;
    readonly Origins _allowed;
    readonly Regex[]? _allowedByRegex;
    readonly Origins[]? _allowedByMetadata;
    readonly Origins? _timing;
    readonly Regex[]? _timingByRegex;

    Cors(Config config, JsonObject? metadata)
    {
        _config = config;
        _dependsOnOrigin = config.AllowOrigins != "*" || config.AllowOriginsByRegex is not null
            || config.AllowOriginsByMetadata is not null;
        _allowed = new Origins(config.AllowOrigins);
        _allowedByRegex = config.AllowOriginsByRegex?.All;
        _allowedByMetadata = config.AllowOriginsByMetadata is null
            ? null
            : [.. config.AllowOriginsByMetadata.Select(name => metadata?["allow_origins"]?[name]?.ToString()).OfType<string>()
                .Select(list => new Origins(list))];
        _timing = config.TimingAllowOrigins is { } timing ? new Origins(timing) : null;
        _timingByRegex = config.TimingAllowOriginsByRegex?.All;
    }

    public static JsonTypeInfo<Config> ConfigType => CorsJson.Default.Config;

    public static Cors Create(Config config, PluginContext context) => config.AllowCredential
        && (config.AllowOrigins == "*" || config.AllowMethods == "*" || config.AllowHeaders == "*" || config.ExposeHeaders == "*"
            || config.TimingAllowOrigins == "*")
            ? throw new ConfigException("you can not set '*' for other option when 'allow_credential' is true")
            : new(config, context.Metadata);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        // kept: another plugin may change the header for the upstream
        exchange.Items[this] = exchange.Request.Headers.Origin.ToString();
        exchange.HasOriginRule = true;
        return new(HttpMethods.IsOptions(exchange.Request.Method) ? new Answer(200) : null);
    }

    public void FilterHeaders(Exchange exchange)
    {
        var origin = exchange.Items.TryGetValue(this, out var kept) && kept is string { Length: > 0 } text ? text : null;
        if (_dependsOnOrigin)
        {
            // also when this origin is not allowed: a cache must not give that answer to those that are
            VaryByOrigin(exchange.Response.Headers);
        }
        if (Allow(origin) is { } allowed)
        {
            SetHeaders(exchange, allowed);
        }
        if ((_timingByRegex is not null ? ByRegex(_timingByRegex, origin) : _timing?.Answer(origin)) is { } timing)
        {
            exchange.Response.Headers["Timing-Allow-Origin"] = timing;
        }
    }

    string? Allow(string? origin)
    {
        if (_allowedByMetadata is not null)
        {
            if (origin is not null && Array.Exists(_allowedByMetadata, origins => origins.Answer(origin) is not null))
            {
                return origin;
            }
            if (_config.AllowOrigins == "*" && _allowedByRegex is null)
            {
                return null; // the default must not open what the metadata restricts
            }
        }
        return _allowedByRegex is not null ? ByRegex(_allowedByRegex, origin) : _allowed.Answer(origin);
    }

    static void VaryByOrigin(IHeaderDictionary headers)
    {
        if (!headers.Vary.ToString().Split(',').Any(name => name.Trim() is "*" or "Origin" or "origin"))
        {
            headers.Append("Vary", "Origin");
        }
    }

    void SetHeaders(Exchange exchange, string origin)
    {
        var headers = exchange.Response.Headers;
        headers.AccessControlAllowOrigin = origin;
        headers.AccessControlAllowMethods = _config.AllowMethods == "**" ? AllMethods : _config.AllowMethods;
        headers.AccessControlMaxAge = _config.MaxAge.ToString(System.Globalization.CultureInfo.InvariantCulture);
        if (_config.ExposeHeaders is { } exposed)
        {
            headers.AccessControlExposeHeaders = exposed;
        }
        headers.AccessControlAllowHeaders = _config.AllowHeaders == "**" ? exchange.Request.Headers.AccessControlRequestHeaders
            : _config.AllowHeaders;
        if (_config.AllowCredential)
        {
            headers.AccessControlAllowCredentials = "true";
        }
    }

    static string? ByRegex(Regex[] allowed, string? origin) =>
        origin is not null && Array.Exists(allowed, regex => regex.Finds(origin)) ? origin : null;

    /// <summary><c>*</c>, <c>**</c> (whatever asks), or a list.</summary>
    sealed class Origins(string list)
    {
        readonly FrozenSet<string> _listed = list.Split(',').ToFrozenSet(StringComparer.Ordinal);

        /// <summary>What <c>Access-Control-Allow-Origin</c> says to this origin; null = nothing.</summary>
        public string? Answer(string? origin) => list switch
        {
            "*" => "*",
            "**" => origin ?? "*",
            _ => origin is not null && _listed.Contains(origin) ? origin : null,
        };
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Cors.Config))]
sealed partial class CorsJson : JsonSerializerContext;

using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Transform;

/// <summary>Sends clients elsewhere.</summary>
internal sealed class Redirect : IPlugin<Redirect, Redirect.Config>, IRewrite
{
    public static PluginInfo Info { get; } = new(
        Name: "redirect",
        Priority: 900,
        Schema: """
            {
              "type": "object",
              "properties": {
                "ret_code": { "type": "integer", "minimum": 200, "default": 302, "description": "status of the answer" },
                "uri": {
                  "type": "string",
                  "minLength": 2,
                  "pattern": "(\\\\\\$[0-9a-zA-Z_]+)|\\$\\{([0-9a-zA-Z_]+)\\}|\\$([0-9a-zA-Z_]+)|(\\$|[^$\\\\]+)",
                  "description": "where to, with variables"
                },
                "regex_uri": {
                  "description": "params for generating new uri that substitute from client uri, first param is regular expression, the second one is uri template",
                  "type": "array",
                  "maxItems": 2,
                  "minItems": 2,
                  "items": { "description": "regex uri", "type": "string" }
                },
                "http_to_https": { "type": "boolean", "description": "http requests go to the same address with https: 301 for GET and HEAD, else 308" },
                "encode_uri": { "type": "boolean", "default": false, "description": "the path in Location is percent-encoded" },
                "append_query_string": { "type": "boolean", "default": false, "description": "Location gets the request's query string" }
              },
              "oneOf": [ { "required": ["uri"] }, { "required": ["regex_uri"] }, { "required": ["http_to_https"] } ]
            }
            """,
        Summary: """
            Sends clients elsewhere: to `uri`, to what `regex_uri` makes of the path (a path that does not match is proxied), or from http to
            https. The port of https addresses is `https_port` in `plugin_attr.redirect`, otherwise the one that `apisix.ssl.listen` opens.
            """)
    {
        Attributes = ["https_port"],
        Example = """
            ```json
            {"redirect": {"uri": "$uri/default.html", "ret_code": 301}}
            ```

            `GET /test` is answered `301` with `Location: /test/default.html`.
            """,
    };

    public sealed record Config(
        int RetCode = 302, string? Uri = null, RegexPair? RegexUri = null, bool HttpToHttps = false, bool EncodeUri = false,
        bool AppendQueryString = false);

    /// <summary>An expression and what stands in the place of its match.</summary>
    [JsonConverter(typeof(PairConverter))]
    public sealed record RegexPair(Regex Regex, Substitution Replacement);

    internal sealed class PairConverter : ParsedConverter<RegexPair>
    {
        protected override RegexPair? Parse(JsonNode value)
        {
            if (value is not JsonArray { Count: 2 } pair)
            {
                return null;
            }
            var (regex, replacement) = (pair[0]!.GetValue<string>(), pair[1]!.GetValue<string>());
            try
            {
                return new(Pcre.Compile(regex), new Substitution(replacement));
            }
            catch (FormatException e)
            {
                throw new FormatException($"invalid regex_uri ({regex}, {replacement}), err:{e.Message}", e);
            }
        }
    }

    readonly Config _config;
    readonly int? _httpsPort;
    readonly Regex? _regex;
    readonly Substitution? _replacement;

    Redirect(Config config, int? httpsPort)
    {
        _config = config;
        _httpsPort = httpsPort;
        (_regex, _replacement) = (config.RegexUri?.Regex, config.RegexUri?.Replacement);
    }

    public static JsonTypeInfo<Config> ConfigType => RedirectJson.Default.Config;

    public static Redirect Create(Config config, PluginContext context) => config.HttpToHttps && config.AppendQueryString
        ? throw new ConfigException("only one of `http_to_https` and `append_query_string` can be configured.")
        : new(config, context.Attr?["https_port"] is { } port && LuaText.Type(port) == "number" ? (int)LuaText.ToDouble(port) : null);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var template = _config.Uri;
        var status = _config.RetCode;
        if (_config.HttpToHttps && SchemeOf(exchange) != "https")
        {
            template = HttpsPort(exchange) is { } port ? $"https://$host:{port}$request_uri" : "https://$host$request_uri";
            status = HttpMethods.IsGet(exchange.Request.Method) || HttpMethods.IsHead(exchange.Request.Method) ? 301 : 308;
        }
        string location;
        try
        {
            if (template is not null)
            {
                location = Template.Expand(template, exchange.InUrl);
            }
            else if (_regex is null)
            {
                return default;
            }
            else
            {
                location = _replacement!.Replace(_regex, exchange.Uri, all: false, out var count);
                if (count == 0)
                {
                    return default;
                }
            }
        }
        catch (RegexMatchTimeoutException)
        {
            return new(Answer.Bare(500));
        }
        var query = location.IndexOf('?', StringComparison.Ordinal);
        if (_config.EncodeUri)
        {
            location = query < 0 ? RequestTarget.Escape(location) : RequestTarget.Escape(location[..query]) + location[query..];
        }
        if (_config.AppendQueryString && exchange.Args.Length > 0)
        {
            location = $"{location}{(query < 0 ? '?' : '&')}{exchange.Args}";
        }
        return new(Answer.Bare(status).With("Location", HeaderText.Escape(location)));
    }

    static string SchemeOf(Exchange exchange) =>
        exchange.Request.Headers["X-Forwarded-Proto"] is { Count: > 0 } given ? given[0]! : exchange.Request.Scheme;

    /// <summary>The port to name; null: the usual one, or none is known.</summary>
    int? HttpsPort(Exchange exchange)
    {
        var port = _httpsPort ?? exchange.Snapshot.Settings.Listens.FirstOrDefault(listen => listen.Tls)?.Port;
        return port is > 0 and not 443 and <= 65535 ? port : null;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Redirect.Config))]
sealed partial class RedirectJson : JsonSerializerContext;

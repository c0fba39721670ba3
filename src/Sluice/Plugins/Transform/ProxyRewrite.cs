using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Plugins.Transform;

/// <summary>Changes what the upstream is asked: path, method, host, headers; and decides about response buffering.</summary>
internal sealed class ProxyRewrite : IPlugin<ProxyRewrite, ProxyRewrite.Config>, IRewrite, IBufferingRule
{
    public static PluginInfo Info { get; } = new(
        Name: "proxy-rewrite",
        Priority: 1008,
        Schema: """
            {
              "type": "object",
              "properties": {
                "uri": {
                  "description": "new uri for upstream",
                  "type": "string",
                  "minLength": 1,
                  "maxLength": 4096,
                  "pattern": "^\\/.*"
                },
                "method": {
                  "description": "proxy route method",
                  "type": "string",
                  "enum": ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND", "LOCK", "UNLOCK", "PATCH", "TRACE"]
                },
                "regex_uri": {
                  "description": "new uri that substitute from client uri for upstream, lower priority than uri property",
                  "type": "array",
                  "minItems": 2,
                  "items": { "description": "regex uri", "type": "string" }
                },
                "host": {
                  "description": "new host for upstream",
                  "type": "string",
                  "pattern": "^[0-9a-zA-Z-.]+(:\\d{1,5})?$"
                },
                "headers": {
                  "description": "new headers for request",
                  "oneOf": [
                    {
                      "type": "object",
                      "minProperties": 1,
                      "additionalProperties": false,
                      "properties": {
                        "add": {
                          "type": "object",
                          "minProperties": 1,
                          "patternProperties": { "^[^:]+$": { "oneOf": [ { "type": "string" }, { "type": "number" }, { "type": "array", "minItems": 1, "items": { "oneOf": [ { "type": "string" }, { "type": "number" } ] } } ] } }
                        },
                        "set": {
                          "type": "object",
                          "minProperties": 1,
                          "patternProperties": { "^[^:]+$": { "oneOf": [ { "type": "string" }, { "type": "number" }, { "type": "array", "minItems": 1, "items": { "oneOf": [ { "type": "string" }, { "type": "number" } ] } } ] } }
                        },
                        "remove": {
                          "type": "array",
                          "minItems": 1,
                          "items": { "type": "string", "pattern": "^[^:]+$" }
                        }
                      }
                    },
                    {
                      "type": "object",
                      "minProperties": 1,
                      "patternProperties": { "^[^:]+$": { "oneOf": [ { "type": "string" }, { "type": "number" } ] } }
                    }
                  ]
                },
                "use_real_request_uri_unsafe": {
                  "description": "use real_request_uri instead, THIS IS VERY UNSAFE.",
                  "type": "boolean",
                  "default": false
                },
                "disable_buffering": {
                  "description": "true: response buffering is off on this route; false: it is on, for event streams too",
                  "type": "boolean"
                }
              },
              "minProperties": 1
            }
            """,
        Summary: """
            Changes what the upstream is asked: path, method, host and headers. `uri`, and the values of `headers`, may hold
            variables (`$arg_id`, `${http_x}`); `regex_uri` is a list of pairs of a regular expression and its replacement, of which the first
            that matches counts, and its groups are `$1`, `$2`, … in `headers` too. The query string is kept. A list in `set` or `add` is as many headers of
            one name; a header whose value is empty is not sent. The
            path is sent normalised and escaped anew, unless `use_real_request_uri_unsafe` is set.

            `disable_buffering` turns response buffering off (`true`) or on (`false`) for the route. Apache APISIX stores that property
            and ignores it.
            """)
    {
        Example = """
            ```json
            {
              "proxy-rewrite": {
                "regex_uri": ["^/v1/(.*)$", "/api/$1"],
                "headers": {"set": {"X-Client": "$remote_addr"}, "remove": ["Cookie"]},
                "disable_buffering": true
              }
            }
            ```

            `GET /v1/chat?n=1` arrives at the upstream as `GET /api/chat?n=1`, and its answer streams.
            """,
    };

    public sealed record Config(
        string? Uri = null, string? Method = null, RegexPairs? RegexUri = null, string? Host = null, HeaderChanges? Headers = null,
        bool UseRealRequestUriUnsafe = false, bool? DisableBuffering = null);

    /// <summary>Expressions, each with what stands in the place of its match.</summary>
    [JsonConverter(typeof(PairsConverter))]
    public sealed class RegexPairs
    {
        readonly string[] _texts;

        internal RegexPairs(string[] texts)
        {
            _texts = texts.Length % 2 == 0 ? texts : throw new FormatException("The length of regex_uri should be an even number");
            All = [.. texts.Chunk(2).Select(pair => Compile(pair[0], pair[1]))];
        }

        internal (Regex Regex, Substitution Replacement)[] All { get; }

        static (Regex, Substitution) Compile(string regex, string template)
        {
            try
            {
                return (Pcre.Compile(regex), new Substitution(template));
            }
            catch (FormatException e)
            {
                throw new FormatException($"invalid regex_uri({regex}, {template}): {e.Message}", e);
            }
        }

        public override string ToString() => string.Join(", ", _texts);
    }

    internal sealed class PairsConverter : ParsedConverter<RegexPairs>
    {
        protected override RegexPairs Parse(JsonNode value) => new([.. value.AsArray().Select(item => item!.GetValue<string>())]);
    }

    readonly Config _config;
    readonly HeaderChanges _headers;
    readonly (Regex Regex, Substitution Replacement)[] _regexUri;

    ProxyRewrite(Config config)
    {
        _config = config;
        _headers = config.Headers ?? HeaderChanges.None;
        _regexUri = config.RegexUri?.All ?? [];
    }

    public static JsonTypeInfo<Config> ConfigType => ProxyRewriteJson.Default.Config;

    public static ProxyRewrite Create(Config config, PluginContext context) => new(config);

    public bool? ResponseBuffering => !_config.DisableBuffering;

    public bool? RequestBuffering => null;

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        if (_config.Host is { } host)
        {
            exchange.UpstreamHost = host;
        }
        Match? match = null;
        try
        {
            exchange.UpstreamUri = Uri(exchange, out match);
        }
        catch (RegexMatchTimeoutException)
        {
            return new(Answer.ErrorMessage(500, $"failed to match the uri {exchange.Uri} ({_config.RegexUri})"));
        }
        _headers.Apply(exchange.Request.Headers, template => Template.ExpandHeader(WithGroups(template, match), exchange));
        if (_config.Method is { } method)
        {
            exchange.UpstreamMethod = method;
        }
        return default;
    }

    /// <summary>The request target for the upstream.</summary>
    string Uri(Exchange exchange, out Match? match)
    {
        var uri = _config.UseRealRequestUriUnsafe ? exchange.RawTarget : exchange.Uri;
        // A question mark that came as %3F is part of the path, one that the configuration wrote begins the query.
        var mayHaveQuery = false;
        match = null;
        if (_config.Uri is { } template)
        {
            uri = Template.Expand(template, exchange.InUrl, static value => value.Replace("?", "%3F", StringComparison.Ordinal), out _);
            mayHaveQuery = true;
            // what the client sent goes along here, too
            var sent = _config.UseRealRequestUriUnsafe ? exchange.RawTarget.IndexOf('?', StringComparison.Ordinal) : -1;
            if (sent >= 0)
            {
                uri = $"{uri}{(uri.Contains('?', StringComparison.Ordinal) ? '&' : '?')}{exchange.RawTarget[(sent + 1)..]}";
            }
        }
        else if (_regexUri.Length > 0)
        {
            mayHaveQuery = !uri.Contains('?', StringComparison.Ordinal);
            foreach (var (regex, replacement) in _regexUri)
            {
                match = regex.Match(uri);
                if (match.Success)
                {
                    uri = string.Concat(uri.AsSpan(0, match.Index), replacement.Of(match), uri.AsSpan(match.Index + match.Length));
                    break;
                }
                match = null;
            }
        }
        if (_config.UseRealRequestUriUnsafe)
        {
            return WithoutControls(uri);
        }
        var query = mayHaveQuery ? uri.IndexOf('?', StringComparison.Ordinal) : -1;
        if (_config.Uri is not null || match is not null)
        {
            // from here on $uri is the new one, as in nginx
            exchange.Uri = query < 0 ? uri : uri[..query];
        }
        uri = query < 0 ? RequestTarget.Escape(uri) : RequestTarget.Escape(uri[..query]) + WithoutControls(uri[query..]);
        return exchange.Args.Length == 0 ? uri : $"{uri}{(query < 0 ? '?' : '&')}{exchange.Args}";
    }

    /// <summary>A variable must not end the request line.</summary>
    static string WithoutControls(string text) =>
        HeaderText.Escape(text).Replace(" ", "%20", StringComparison.Ordinal).Replace("\t", "%09", StringComparison.Ordinal);

    /// <summary><c>$1</c> in a header's value: a group of the expression in regex_uri that matched.</summary>
    static string WithGroups(string template, Match? match) => match is null || !template.Contains('$', StringComparison.Ordinal)
        ? template
        : GroupPattern.Replace(template, reference =>
            int.TryParse(reference.ValueSpan[1..], NumberStyles.None, CultureInfo.InvariantCulture, out var group)
            ? match.Groups[group].Value : "");

    static readonly Regex GroupPattern = new(@"\$[0-9]+", RegexOptions.NonBacktracking);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ProxyRewrite.Config))]
sealed partial class ProxyRewriteJson : JsonSerializerContext;

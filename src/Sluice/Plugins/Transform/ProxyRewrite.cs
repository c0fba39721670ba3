using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Plugins.Transform;

/// <summary>Changes what the upstream is asked: path, method, host, headers; and decides about response buffering.</summary>
public sealed class ProxyRewrite : IPlugin<ProxyRewrite, ProxyRewrite.Config>, IRewrite, IBufferingRule
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
                          "patternProperties": { "^[^:]+$": { "oneOf": [ { "type": "string" }, { "type": "number" } ] } }
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
            that matches counts, and its groups are `$1`, `$2`, … in `headers` too. The query string is kept. The
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
        string? Uri = null, string? Method = null, string[]? RegexUri = null, string? Host = null, JsonObject? Headers = null,
        bool UseRealRequestUriUnsafe = false, bool? DisableBuffering = null);

    readonly Config _config;
    readonly HeaderChanges _headers;
    readonly (Regex Regex, Substitution Replacement)[] _regexUri;

    ProxyRewrite(Config config)
    {
        _config = config;
        _headers = HeaderChanges.Of(config.Headers);
        _regexUri = [.. Pairs(config)];
    }

    public static JsonTypeInfo<Config> ConfigType => ProxyRewriteJson.Default.Config;

    public static string? Check(Config config)
    {
        if (config.RegexUri is { } pairs)
        {
            if (pairs.Length % 2 != 0)
            {
                return "The length of regex_uri should be an even number";
            }
            try
            {
                foreach (var _ in Pairs(config))
                {
                }
            }
            catch (BadPairException e)
            {
                return $"invalid regex_uri({e.Regex}, {e.Template}): {e.Message}";
            }
        }
        return HeaderChanges.Check(config.Headers);
    }

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
            return new(Answer.ErrorMessage(500, $"failed to match the uri {exchange.Uri} ({string.Join(", ", _config.RegexUri!)})"));
        }
        _headers.Apply(exchange.Request.Headers, template => Template.Expand(WithGroups(template, match), exchange));
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
            uri = Template.Expand(template, exchange, static value => value.Replace("?", "%3F", StringComparison.Ordinal), out _);
            mayHaveQuery = true;
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
        uri = query < 0 ? RequestTarget.Escape(uri) : RequestTarget.Escape(uri[..query]) + WithoutControls(uri[query..]);
        return exchange.Args.Length == 0 ? uri : $"{uri}{(query < 0 ? '?' : '&')}{exchange.Args}";
    }

    /// <summary>A variable must not end the request line.</summary>
    static string WithoutControls(string text) => HeaderText.Escape(text).Replace(" ", "%20", StringComparison.Ordinal).Replace("\t", "%09", StringComparison.Ordinal);

    /// <summary><c>$1</c> in a header's value: a group of the expression in regex_uri that matched.</summary>
    static string WithGroups(string template, Match? match) => match is null || !template.Contains('$', StringComparison.Ordinal)
        ? template
        : GroupPattern.Replace(template, reference =>
            int.TryParse(reference.ValueSpan[1..], NumberStyles.None, CultureInfo.InvariantCulture, out var group) ? match.Groups[group].Value : "");

    static readonly Regex GroupPattern = new(@"\$[0-9]+", RegexOptions.NonBacktracking);

    static IEnumerable<(Regex, Substitution)> Pairs(Config config)
    {
        foreach (var pair in config.RegexUri?.Chunk(2) ?? [])
        {
            (Regex, Substitution) compiled;
            try
            {
                compiled = (Pcre.Compile(pair[0]), new Substitution(pair[1]));
            }
            catch (FormatException e)
            {
                throw new BadPairException(pair[0], pair[1], e);
            }
            yield return compiled;
        }
    }

    sealed class BadPairException(string regex, string template, FormatException inner) : Exception(inner.Message, inner)
    {
        public string Regex => regex;

        public string Template => template;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ProxyRewrite.Config))]
sealed partial class ProxyRewriteJson : JsonSerializerContext;

using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Plugins.Security;

/// <summary>Refuses requests by what their path and query look like.</summary>
internal sealed class UriBlocker : IPlugin<UriBlocker, UriBlocker.Config>, IRewrite, IReadmit
{
    public static PluginInfo Info { get; } = new(
        Name: "uri-blocker",
        Priority: 2900,
        Schema: """
            {
              "type": "object",
              "properties": {
                "block_rules": {
                  "type": "array",
                  "description": "regular expressions (PCRE)",
                  "items": { "type": "string", "minLength": 1, "maxLength": 4096 },
                  "uniqueItems": true
                },
                "rejected_code": { "type": "integer", "minimum": 200, "default": 403, "description": "status for refused requests" },
                "rejected_msg": { "type": "string", "minLength": 1, "description": "error_msg for refused requests" },
                "case_insensitive": { "type": "boolean", "default": false }
              },
              "required": ["block_rules"]
            }
            """,
        Summary: """
            Refuses requests whose path and query one of `block_rules` matches. The path is the one that routes match: decoded, without dots and double slashes,
            so that `/./admin` and `/%61dmin` are found by `^/admin`; the query is as sent.
            """)
    {
        Example = """
            ```json
            {"uri-blocker": {"block_rules": ["root.exe", "root.m+"], "rejected_msg": "access is not allowed"}}
            ```

            `GET /hello?name=root.exe` is answered `403 {"error_msg":"access is not allowed"}`.
            """,
    };

    public sealed record Config(string[] BlockRules, int RejectedCode = 403, string? RejectedMsg = null, bool CaseInsensitive = false)
    {
        internal Pattern[] Patterns => field ??= [.. BlockRules.Select(rule => Pattern.Parse(rule, ignoreCase: CaseInsensitive))];
    }

    readonly Config _config;
    readonly Pattern[] _rules;

    UriBlocker(Config config)
    {
        _config = config;
        _rules = config.Patterns;
    }

    public static JsonTypeInfo<Config> ConfigType => UriBlockerJson.Default.Config;

    public static UriBlocker Create(Config config, PluginContext context) => new(config);

    public ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        if (_rules.Length == 0)
        {
            return default;
        }
        var uri = exchange.Get("request_uri");
        foreach (var rule in _rules)
        {
            if (rule.Finds(uri))
            {
                return new(_config.RejectedMsg is { } message ? Answer.ErrorMessage(_config.RejectedCode, message)
                    : Answer.Bare(_config.RejectedCode));
            }
        }
        return default;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(UriBlocker.Config))]
sealed partial class UriBlockerJson : JsonSerializerContext;

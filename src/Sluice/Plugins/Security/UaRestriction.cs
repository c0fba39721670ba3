using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Sluice.Model;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Security;

/// <summary>Lets requests pass or not by their <c>User-Agent</c>.</summary>
internal sealed class UaRestriction : IPlugin<UaRestriction, UaRestriction.Config>, IAccess, IReadmit
{
    const string Patterns =
        """{ "type": "array", "minItems": 1, "items": { "type": "string", "minLength": 1 }, "description": "regular expressions (PCRE)" }""";

    public static PluginInfo Info { get; } = new(
        Name: "ua-restriction",
        Priority: 2999,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "bypass_missing": { "type": "boolean", "default": false, "description": "requests without a User-Agent pass" },
                "allowlist": {{Patterns}},
                "denylist": {{Patterns}},
                "message": { "type": "string", "minLength": 1, "maxLength": 1024, "default": "Not allowed" }
              },
              "oneOf": [ { "required": ["allowlist"] }, { "required": ["denylist"] } ]
            }
            """,
        Summary: """
            Lets only requests pass whose `User-Agent` one of the expressions in `allowlist` matches, or all but those that one in `denylist` matches. A request
            with several `User-Agent` headers passes an `allowlist` by any of them, and is stopped by a `denylist` for any of them.
            """)
    {
        Example = """
            ```json
            {"ua-restriction": {"denylist": ["(?i)curl", "my-bot/\\d+"]}}
            ```

            `curl` is answered `403 {"message":"Not allowed"}`.
            """,
    };

    public sealed record Config(
        bool BypassMissing = false, [property: JsonConverter(typeof(WirePatterns))] Pattern[]? Allowlist = null,
        [property: JsonConverter(typeof(WirePatterns))] Pattern[]? Denylist = null, string Message = "Not allowed");

    /// <summary>Patterns for what came from the wire: its bytes are characters.</summary>
    internal sealed class WirePatterns : ParsedConverter<Pattern[]>
    {
        protected override Pattern[] Parse(JsonNode value) =>
            [.. value.AsArray().Select(item => item!.GetValue<string>()).Select(text => Pattern.Parse(text, ByteText.ToWire(text)))];
    }

    readonly Config _config;
    readonly bool _areAllowed;
    readonly Pattern[] _patterns;

    UaRestriction(Config config)
    {
        _config = config;
        _areAllowed = config.Allowlist is not null;
        _patterns = config.Allowlist ?? config.Denylist ?? [];
    }

    public static JsonTypeInfo<Config> ConfigType => UaRestrictionJson.Default.Config;

    public static UaRestriction Create(Config config, PluginContext context) => new(config);

    public ValueTask<Answer?> AccessAsync(Exchange exchange) => new(Passes(exchange) ? null : Answer.Message(403, _config.Message));

    bool Passes(Exchange exchange)
    {
        var agents = exchange.Request.Headers.UserAgent;
        if (agents.Count == 0)
        {
            return _config.BypassMissing;
        }
        foreach (var agent in agents)
        {
            var text = agent.AsSpan().Trim();
            foreach (var pattern in _patterns)
            {
                if (pattern.Finds(text))
                {
                    return _areAllowed;
                }
            }
        }
        return !_areAllowed;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(UaRestriction.Config))]
sealed partial class UaRestrictionJson : JsonSerializerContext;

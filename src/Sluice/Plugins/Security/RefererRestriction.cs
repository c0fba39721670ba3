using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Pipeline;

namespace Sluice.Plugins.Security;

/// <summary>Lets requests pass or not by the host in their <c>Referer</c>.</summary>
internal sealed class RefererRestriction : IPlugin<RefererRestriction, RefererRestriction.Config>, IAccess, IReadmit
{
    const string Hosts = """
        { "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$" }, "description": "host names; one that begins with * stands for all that end so" }
        """;

    public static PluginInfo Info { get; } = new(
        Name: "referer-restriction",
        Priority: 2990,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "bypass_missing": { "type": "boolean", "default": false, "description": "requests without a Referer, or with one that is no URL, pass" },
                "whitelist": {{Hosts}},
                "blacklist": {{Hosts}},
                "message": { "type": "string", "minLength": 1, "maxLength": 1024, "default": "Your referer host is not allowed" }
              },
              "oneOf": [ { "required": ["whitelist"] }, { "required": ["blacklist"] } ]
            }
            """,
        Summary: "Lets only requests pass whose `Referer` names a host of `whitelist`, or all but those with one of `blacklist`. "
            + "`*.example.com` is every host below example.com, not that one itself.")
    {
        Example = """
            ```json
            {"referer-restriction": {"whitelist": ["example.com", "*.example.com"], "bypass_missing": true}}
            ```

            A page of another site that shows an image of this route is answered `403 {"message":"Your referer host is not allowed"}`.
            """,
    };

    public sealed record Config(
        bool BypassMissing = false, string[]? Whitelist = null, string[]? Blacklist = null,
        string Message = "Your referer host is not allowed");

    readonly Config _config;
    readonly bool _areAllowed;
    readonly HashSet<string> _hosts;
    readonly string[] _suffixes;

    RefererRestriction(Config config)
    {
        _config = config;
        _areAllowed = config.Whitelist is not null;
        var all = config.Whitelist ?? config.Blacklist ?? [];
        _hosts = all.Where(host => host[0] != '*').ToHashSet(StringComparer.OrdinalIgnoreCase);
        _suffixes = [.. all.Where(host => host[0] == '*').Select(host => host[1..])];
    }

    public static JsonTypeInfo<Config> ConfigType => RefererRestrictionJson.Default.Config;

    public static RefererRestriction Create(Config config, PluginContext context) => new(config);

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var host = HostOf(exchange.Request.Headers.Referer.ToString());
        var passes = host.IsEmpty ? _config.BypassMissing : Knows(host) == _areAllowed;
        return new(passes ? null : Answer.Message(403, _config.Message));
    }

    bool Knows(ReadOnlySpan<char> host)
    {
        if (_hosts.GetAlternateLookup<ReadOnlySpan<char>>().Contains(host))
        {
            return true;
        }
        foreach (var suffix in _suffixes)
        {
            if (host.EndsWith(suffix, StringComparison.OrdinalIgnoreCase))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Of <c>https://HOST:PORT/…</c>, with or without scheme; empty when it is none.</summary>
    static ReadOnlySpan<char> HostOf(ReadOnlySpan<char> url)
    {
        var start = url.StartsWith("//") ? 2 : url.StartsWith("http://") ? 7 : url.StartsWith("https://") ? 8 : -1;
        if (start < 0)
        {
            return default;
        }
        var rest = url[start..];
        var end = rest is ['[', ..] ? rest.IndexOf(']') + 1 : rest.IndexOfAny("[]:/?");
        return end < 0 ? rest : rest[..end];
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(RefererRestriction.Config))]
sealed partial class RefererRestrictionJson : JsonSerializerContext;

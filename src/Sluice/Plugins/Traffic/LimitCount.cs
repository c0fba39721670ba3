using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Lets so many requests pass in a window of time.</summary>
public sealed partial class LimitCount : IPlugin<LimitCount, LimitCount.Config>, IAccess
{
    const string Amount = """ "oneOf": [ { "type": "integer", "exclusiveMinimum": 0 }, { "type": "string" } ] """;

    public static PluginInfo Info { get; } = new(
        Name: "limit-count",
        Priority: 1002,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "count": { "description": "requests that pass in a window", {{Amount}} },
                "time_window": { "description": "length of a window in seconds", {{Amount}} },
                "rules": {
                  "type": "array",
                  "description": "several quotas side by side instead of one; each with headers of its own",
                  "items": {
                    "type": "object",
                    "properties": {
                      "count": { {{Amount}} },
                      "time_window": { {{Amount}} },
                      "key": { "type": "string", "description": "a text with variables; the rule does not run when none of them has a value" },
                      "header_prefix": { "type": "string", "description": "prefix for rate limit headers" }
                    },
                    "required": ["count", "time_window", "key"]
                  }
                },
                "group": { "type": "string", "description": "routes with the same group and the same configuration share their counters" },
                "key": { "type": "string", "default": "remote_addr", "description": "what requests are counted by" },
                "key_type": {
                  "type": "string",
                  "enum": ["var", "var_combination", "constant"],
                  "default": "var",
                  "description": "key is a variable's name, a text with variables, or a plain text"
                },
                "rejected_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 503, "description": "status for requests over the quota" },
                "rejected_msg": { "type": "string", "minLength": 1, "description": "error_msg for requests over the quota" },
                "policy": {
                  "type": "string",
                  "enum": ["local", "redis", "redis-cluster"],
                  "default": "local",
                  "description": "where counters are kept; this version of Sluice knows local: in memory"
                },
                "allow_degradation": { "type": "boolean", "default": false, "description": "requests pass when the quota cannot be told" },
                "show_limit_quota_header": { "type": "boolean", "default": true, "description": "answers tell the quota in headers" }
              },
              "oneOf": [ { "required": ["count", "time_window"] }, { "required": ["rules"] } ],
              "if": { "properties": { "policy": { "enum": ["redis"] } } },
              "then": {
                "properties": {
                  "redis_host": { "type": "string", "minLength": 2 },
                  "redis_port": { "type": "integer", "minimum": 1, "default": 6379 },
                  "redis_username": { "type": "string", "minLength": 1 },
                  "redis_password": { "type": "string", "minLength": 0 },
                  "redis_database": { "type": "integer", "minimum": 0, "default": 0 },
                  "redis_timeout": { "type": "integer", "minimum": 1, "default": 1000 },
                  "redis_ssl": { "type": "boolean", "default": false },
                  "redis_ssl_verify": { "type": "boolean", "default": false }
                },
                "required": ["redis_host"]
              }
            }
            """,
        Summary: """
            Lets `count` requests pass in `time_window` seconds and refuses the others until the window is over. A window begins with
            its first request (fixed window). Requests are counted by the client's address unless `key` says otherwise; when the key
            has no value, by the client's address again. `count` and `time_window` may be texts with a variable, such as
            `"${http_x_quota ?? 10}"`.

            Answers carry `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds); rules carry
            `X-<prefix>-RateLimit-…`, where the prefix is `header_prefix` or the rule's number. Counters are kept in this
            gateway's memory, a million at most. They survive a change of the configuration as long as the plugin's own part stays the same.
            """)
    {
        Version = "0.4",
        MetadataSchema = """
            {
              "type": "object",
              "properties": {
                "limit_header": { "type": "string", "default": "X-RateLimit-Limit" },
                "remaining_header": { "type": "string", "default": "X-RateLimit-Remaining" },
                "reset_header": { "type": "string", "default": "X-RateLimit-Reset" }
              }
            }
            """,
        Example = """
            ```json
            {"limit-count": {"count": 2, "time_window": 60, "rejected_code": 429, "rejected_msg": "slow down"}}
            ```

            The third request within a minute is answered `429 {"error_msg":"slow down"}`.
            """,
    };

    public sealed record Config(
        JsonNode? Count = null, JsonNode? TimeWindow = null, RuleConfig[]? Rules = null, string? Group = null,
        string Key = "remote_addr", string KeyType = "var", int RejectedCode = 503, string? RejectedMsg = null,
        string Policy = "local", bool AllowDegradation = false, bool ShowLimitQuotaHeader = true);

    public sealed record RuleConfig(JsonNode Count, JsonNode TimeWindow, string Key, string? HeaderPrefix = null);

    readonly record struct HeaderNames(string Limit, string Remaining, string Reset);

    sealed record Rule(Quantity Count, Quantity Window, string Key, string KeyType, HeaderNames Headers, string Number);

    readonly Config _config;
    readonly Rule[] _rules;
    readonly string _identity;
    readonly FixedWindows _windows;
    readonly ILogger _logger;

    LimitCount(Config config, PluginContext context)
    {
        _config = config;
        _logger = context.Services.Loggers.CreateLogger<LimitCount>();
        _windows = context.Services.Shared("limit-count/local", () => new FixedWindows(context.Services.Time));
        var hash = Convert.ToHexStringLower(SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(config, LimitCountJson.Default.Config)).AsSpan(0, 8));
        _identity = $"{(config.Group is { } group ? $"group {group}" : context.Scope)}:{hash}:";
        _rules = config.Rules is { } rules
            ? [.. rules.Select((rule, index) => RuleOf(rule, index + 1))]
            : [new Rule(new(config.Count!), new(config.TimeWindow!), config.Key, config.KeyType, Names(context.Metadata), "")];
    }

    static Rule RuleOf(RuleConfig rule, int number)
    {
        var prefix = rule.HeaderPrefix ?? number.ToString(CultureInfo.InvariantCulture);
        var headers = new HeaderNames($"X-{prefix}-RateLimit-Limit", $"X-{prefix}-RateLimit-Remaining", $"X-{prefix}-RateLimit-Reset");
        return new Rule(new(rule.Count), new(rule.TimeWindow), rule.Key, "rule", headers, $"{prefix}:");
    }

    static HeaderNames Names(JsonObject? metadata)
    {
        return new(Name("limit_header") ?? "X-RateLimit-Limit", Name("remaining_header") ?? "X-RateLimit-Remaining", Name("reset_header") ?? "X-RateLimit-Reset");

        string? Name(string property) => metadata?[property]?.ToString() is { } name && HeaderText.IsName(name) ? name : null;
    }

    public static JsonTypeInfo<Config> ConfigType => LimitCountJson.Default.Config;

    public static string? Check(Config config)
    {
        if (config.Policy != "local")
        {
            return $"policy \"{config.Policy}\" is not supported by this version of Sluice: use \"local\"";
        }
        if ((Quantity.Check("count", config.Count) ?? Quantity.Check("time_window", config.TimeWindow)) is { } error)
        {
            return error;
        }
        HashSet<string> keys = [];
        foreach (var rule in config.Rules ?? [])
        {
            if ((Quantity.Check("count", rule.Count) ?? Quantity.Check("time_window", rule.TimeWindow)) is { } wrong)
            {
                return $"property \"rules\" validation failed: failed to validate item {Array.IndexOf(config.Rules!, rule) + 1}: {wrong}";
            }
            if (!keys.Add(rule.Key))
            {
                return $"duplicate key '{rule.Key}' in rules";
            }
            if (rule.HeaderPrefix is { } prefix && !HeaderText.IsName(prefix))
            {
                return $"header_prefix \"{prefix}\" is not part of a header name";
            }
        }
        return null;
    }

    public static LimitCount Create(Config config, PluginContext context) => new(config, context);

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var known = 0;
        foreach (var rule in _rules)
        {
            if (!TryQuota(exchange, rule, out var limit, out var window) || KeyOf(exchange, rule) is not { } key)
            {
                continue;
            }
            known++;
            var (remaining, reset) = _windows.Take($"{_identity}{rule.Number}{key}", limit, window);
            if (_config.ShowLimitQuotaHeader)
            {
                var headers = exchange.Response.Headers;
                headers[rule.Headers.Limit] = limit.ToString(CultureInfo.InvariantCulture);
                headers[rule.Headers.Remaining] = Math.Max(0, remaining).ToString(CultureInfo.InvariantCulture);
                headers[rule.Headers.Reset] = Math.Ceiling(reset.TotalSeconds).ToString(CultureInfo.InvariantCulture);
            }
            if (remaining < 0)
            {
                return new(_config.RejectedMsg is { } message ? Answer.ErrorMessage(_config.RejectedCode, message) : Answer.Bare(_config.RejectedCode));
            }
        }
        return new(known > 0 || _config.AllowDegradation ? null : Answer.ErrorMessage(500, "failed to limit count"));
    }

    bool TryQuota(Exchange exchange, Rule rule, out long limit, out TimeSpan window)
    {
        limit = 0;
        window = default;
        if (rule.Count.Get(exchange) is not { } count || rule.Window.Get(exchange) is not { } seconds)
        {
            LogNoNumber(rule.Count.Text, rule.Window.Text, exchange.Route?.Id);
            return false;
        }
        limit = (long)Math.Min(count, long.MaxValue / 2);
        window = TimeSpan.FromSeconds(Math.Min(seconds, 1e9));
        return true;
    }

    /// <summary>Null: the rule is not for this request.</summary>
    static string? KeyOf(Exchange exchange, Rule rule)
    {
        var resolved = 1;
        var key = rule.KeyType switch
        {
            "constant" => rule.Key,
            "var" => exchange.Get(rule.Key),
            _ => Template.Expand(rule.Key, exchange, null, out resolved),
        };
        return rule.KeyType == "rule"
            ? resolved > 0 ? key : null
            : resolved > 0 && key is not null ? key : exchange.Get("remote_addr");
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "limit-count: no positive number for count ({Count}) or time_window ({Window}), route: {Route}")]
    partial void LogNoNumber(string count, string window, string? route);

    /// <summary>A number, or a text whose variables give one.</summary>
    sealed class Quantity(JsonNode value)
    {
        readonly double? _fixed = Number(value);

        public string Text { get; } = value.ToString();

        /// <summary>Null: not a positive number for this request.</summary>
        public double? Get(Exchange exchange) => _fixed ?? Positive(Template.Expand(Text, exchange));

        public static string? Check(string property, JsonNode? value) => value is null || Number(value) is not null || Template.HasVariables(value.ToString())
            ? null
            : $"property \"{property}\" validation failed: expected a positive integer or a text with a variable such as \"${{http_x_quota ?? 10}}\", got \"{value}\"";

        static double? Number(JsonNode value) => LuaText.Type(value) == "number" ? LuaText.ToDouble(value) : Positive(value.ToString());

        static double? Positive(string text) => LuaText.TryToNumber(text, out var number) && number >= 1 && double.IsFinite(number) ? number : null;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(LimitCount.Config))]
sealed partial class LimitCountJson : JsonSerializerContext;

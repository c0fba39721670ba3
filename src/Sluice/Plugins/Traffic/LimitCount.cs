using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Lets so many requests pass in a window of time.</summary>
internal sealed partial class LimitCount : IPlugin<LimitCount, LimitCount.Config>, IAccess
{
    const double DirectSync = -1;

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
                "group": { "type": "string", "description": "routes with the same group share their counters; their configurations must be the same" },
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
                  "enum": ["local", "redis", "redis-cluster", "redis-sentinel"],
                  "default": "local",
                  "description": "where counters are kept: in memory, or in a [Redis that gateways share](../concepts/shared-limits.md)"
                },
                "window_type": { "type": "string", "enum": ["fixed", "sliding"], "default": "fixed", "description": "sliding: the last window counts for as much as the present one has not run yet" },
                "sync_interval": { "type": "number", "default": -1, "description": "seconds between tellings of Redis, at least 0.1; -1: every request asks it" },
                "allow_degradation": { "type": "boolean", "default": false, "description": "requests pass when the quota cannot be told" },
                "show_limit_quota_header": { "type": "boolean", "default": true, "description": "answers tell the quota in headers" }
              },
              "oneOf": [ { "required": ["count", "time_window"] }, { "required": ["rules"], "not": { "required": ["count", "time_window"] } } ],
              {{RedisSettings.Schema(sentinel: true)}}
            }
            """,
        Summary: """
            Lets `count` requests pass in `time_window` seconds and refuses the others until the window is over. A fixed window begins with
            its first request; a sliding one never lets more than `count` pass in any stretch of `time_window` seconds, as far as the last window's requests
            came evenly. Requests are counted by the client's address unless `key` says otherwise; when the key
            has no value, by the client's address again. `count` and `time_window` may be texts with a variable, such as
            `"${http_x_quota ?? 10}"`; one that gives no positive whole number is answered 500. What was used of a window counts against the `count` of
            the request that asks.

            Answers carry `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds); rules carry
            `X-<prefix>-RateLimit-…`, where the prefix is `header_prefix` or the rule's number. The variable `$rate_limiting_info` has the same for logs.
            Counters are kept in this gateway's memory, a million at most, or in Redis. They survive a change of the configuration as long as the plugin's own part stays the same.
            """)
    {
        Version = "0.5",
        SharedBy = "group",
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
        string Policy = "local", string WindowType = "fixed", double SyncInterval = DirectSync, bool AllowDegradation = false,
        bool ShowLimitQuotaHeader = true);

    public sealed record RuleConfig(JsonNode Count, JsonNode TimeWindow, string Key, string? HeaderPrefix = null);

    readonly record struct HeaderNames(string Limit, string Remaining, string Reset);

    sealed record Rule(Quantity Count, Quantity Window, string Key, string KeyType, HeaderNames Headers, string Number);

    readonly Config _config;
    readonly Rule[] _rules;
    readonly string _identity;
    readonly ICounters _counters;

    /// <summary>Asked without delay, for windows that are not longer than the delay; null: there is no delay.</summary>
    readonly ICounters? _undelayed;
    readonly ILogger _logger;

    LimitCount(Config config, PluginContext context)
    {
        _config = config;
        _logger = context.Services.Loggers.CreateLogger<LimitCount>();
        (_counters, _undelayed) = Counters(config, context);
        _identity = $"{(config.Group is { } group ? $"group {group}" : context.Scope)}:{context.ConfigHash}:";
        var names = Names(context.Metadata);
        _rules = config.Rules is { } rules
            ? [.. rules.Select((rule, index) => RuleOf(rule, index + 1, names))]
            : [new Rule(new(config.Count!), new(config.TimeWindow!), config.Key, config.KeyType, names, "")];
    }

    static (ICounters, ICounters?) Counters(Config config, PluginContext context)
    {
        var sliding = config.WindowType == "sliding";
        if (RedisSettings.Connect(context) is not { } redis)
        {
            return (sliding ? context.Services.Counters.Sliding : context.Services.Counters.Fixed, null);
        }
        var counters = new RedisCounters(redis, "plugin-limit-count", sliding);
        if (config.SyncInterval == DirectSync)
        {
            return (counters, null);
        }
        var interval = TimeSpan.FromSeconds(Math.Min(config.SyncInterval, 1e6));
        var name = string.Create(CultureInfo.InvariantCulture, $"limit-count/delayed/{redis.Name}/{sliding}/{config.SyncInterval}");
        return (context.Share(name, () => new DelayedCounters(counters, interval, context.Services)), counters);
    }

    static Rule RuleOf(RuleConfig rule, int number, HeaderNames names)
    {
        var prefix = rule.HeaderPrefix ?? number.ToString(CultureInfo.InvariantCulture);
        return new Rule(new(rule.Count), new(rule.TimeWindow), rule.Key, LimitKey.Rule,
            new(Own(names.Limit), Own(names.Remaining), Own(names.Reset)), $"{prefix}:");

        string Own(string name)
        {
            var at = name.IndexOf("RateLimit-", StringComparison.Ordinal);
            return at < 0 ? name : name.Insert(at, prefix + "-");
        }
    }

    static HeaderNames Names(JsonObject? metadata)
    {
        return new(Name("limit_header") ?? "X-RateLimit-Limit", Name("remaining_header") ?? "X-RateLimit-Remaining",
            Name("reset_header") ?? "X-RateLimit-Reset");

        string? Name(string property) => metadata?[property]?.ToString() is { } name && HeaderName.IsToken(name) ? name : null;
    }

    public static JsonTypeInfo<Config> ConfigType => LimitCountJson.Default.Config;

    static string? Refusal(Config config)
    {
        if (config.Rules is not null && (config.Count ?? config.TimeWindow) is not null)
        {
            return "count/time_window and rules cannot be specified at the same time";
        }
        if (config.Rules is not null && config.Group is not null)
        {
            return "group and rules cannot be specified at the same time";
        }
        if ((Quantity.Check("count", config.Count) ?? Quantity.Check("time_window", config.TimeWindow)) is { } error)
        {
            return error;
        }
        if (config.Policy != "local" && config.SyncInterval != DirectSync)
        {
            if (config.SyncInterval < 0.1)
            {
                return "sync_interval should not be smaller than 0.1";
            }
            if (config.TimeWindow is { } window && LuaText.Type(window) == "number" && config.SyncInterval >= LuaText.ToDouble(window))
            {
                return "sync_interval should be smaller than time_window";
            }
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
            if (rule.HeaderPrefix is { } prefix && !HeaderName.IsToken(prefix))
            {
                return $"header_prefix \"{prefix}\" is not part of a header name";
            }
        }
        return null;
    }

    public static LimitCount Create(Config config, PluginContext context) =>
        Refusal(config) is { } error ? throw new ConfigException(error) : new(config, context);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var known = 0;
        foreach (var rule in _rules)
        {
            if (LimitKey.Of(rule.Key, rule.KeyType, exchange) is not { } key)
            {
                continue;
            }
            // the rule is for this request: a quota that a client makes no number must not switch it off
            if (!rule.Count.TryGet(exchange, out var limit, out var error) || !rule.Window.TryGet(exchange, out var seconds, out error))
            {
                LogNoRules(error);
                return _config.AllowDegradation ? null : Answer.Bare(500);
            }
            known++;
            var name = $"{_identity}{rule.Number}{key}";
            var window = TimeSpan.FromSeconds(Math.Min(seconds, 1e9));
            Quota quota;
            try
            {
                var counters = _undelayed is null || seconds > _config.SyncInterval ? _counters : _undelayed;
                // sliding windows of another length are others
                quota = await counters.TakeAsync(_config.WindowType == "sliding" ? $"{name}.{seconds}" : name, limit, window, 1, default);
            }
            catch (IOException e)
            {
                LogFailed(e.Message);
                return _config.AllowDegradation ? null : Answer.ErrorMessage(500, "failed to limit count");
            }
            if (Tell(exchange, rule, name, limit, quota) is { } refusal)
            {
                return refusal;
            }
        }
        if (known == 0)
        {
            LogNoRules("no rule is for this request");
        }
        return known > 0 || _config.AllowDegradation ? null : Answer.Bare(500);
    }

    Answer? Tell(Exchange exchange, Rule rule, string key, long limit, Quota quota)
    {
        var remaining = quota.Granted ? Math.Max(0, quota.Remaining) : 0;
        var reset = Math.Floor(quota.Reset.TotalSeconds * 100) / 100;
        var (limitText, remainingText, resetText) = (Text(limit), Text(remaining), reset.ToString("0.##", CultureInfo.InvariantCulture));
        exchange.RateLimit = new(key, limit, remaining, reset);
        if (_config.ShowLimitQuotaHeader)
        {
            var headers = exchange.Response.Headers;
            headers[rule.Headers.Limit] = limitText;
            headers[rule.Headers.Remaining] = remainingText;
            headers[rule.Headers.Reset] = resetText;
        }
        return quota.Granted ? null
            : _config.RejectedMsg is { } message ? Answer.ErrorMessage(_config.RejectedCode, message) : Answer.Bare(_config.RejectedCode);

        static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to get rate limit rules: {Error}")]
    partial void LogNoRules(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to limit count: {Error}")]
    partial void LogFailed(string error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(LimitCount.Config))]
sealed partial class LimitCountJson : JsonSerializerContext;

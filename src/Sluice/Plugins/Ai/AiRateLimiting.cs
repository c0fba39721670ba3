using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Ai;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Plugins.Traffic;

namespace Sluice.Plugins.Ai;

/// <summary>Lets requests to language models pass as long as there are tokens left.</summary>
internal sealed partial class AiRateLimiting : IPlugin<AiRateLimiting, AiRateLimiting.Config>, IAccess, ILog, IAiQuota
{
    const string Amount = """ "oneOf": [ { "type": "integer", "minimum": 1 }, { "type": "string" } ] """;

    public static PluginInfo Info { get; } = new(
        Name: "ai-rate-limiting",
        Priority: 1030,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "limit": { "description": "tokens in a window", {{Amount}} },
                "time_window": { "description": "length of a window in seconds", {{Amount}} },
                "show_limit_quota_header": { "type": "boolean", "default": true },
                "limit_strategy": {
                  "type": "string", "enum": ["total_tokens", "prompt_tokens", "completion_tokens", "expression"], "default": "total_tokens", "description": "what is counted"
                },
                "cost_expr": { "type": "string", "minLength": 1, "description": "with expression: arithmetic over the numbers of the provider's usage, by its names; what is missing is 0. Also max, min, abs, ceil, floor" },
                "instances": {
                  "type": "array",
                  "minItems": 1,
                  "description": "limits of single instances of ai-proxy-multi",
                  "items": {
                    "type": "object",
                    "required": ["name", "limit", "time_window"],
                    "properties": { "name": { "type": "string" }, "limit": { {{Amount}} }, "time_window": { {{Amount}} } }
                  }
                },
                "rejected_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 503 },
                "rejected_msg": { "type": "string", "minLength": 1 },
                "policy": {
                  "type": "string", "enum": ["local", "redis", "redis-cluster", "redis-sentinel"], "default": "local",
                  "description": "where counters are kept: in memory, or in a [Redis that gateways share](../concepts/shared-limits.md)"
                },
                "allow_degradation": { "type": "boolean", "default": false, "description": "requests pass when the quota cannot be told" },
                "rules": {
                  "type": "array",
                  "description": "quotas side by side",
                  "items": {
                    "type": "object",
                    "required": ["count", "time_window", "key"],
                    "properties": {
                      "count": { {{Amount}} },
                      "time_window": { {{Amount}} },
                      "key": { "type": "string", "description": "a text with variables; the rule does not run when none of them has a value" },
                      "header_prefix": { "type": "string" }
                    }
                  }
                }
              },
              "dependencies": { "limit": ["time_window"], "time_window": ["limit"] },
              "oneOf": [ { "anyOf": [ { "required": ["limit", "time_window"] }, { "required": ["instances"] } ] }, { "required": ["rules"] } ],
              {{RedisSettings.Schema(sentinel: true)}}
            }
            """,
        Summary: """
            Lets requests to language models pass as long as there are tokens left in a fixed window. What a request takes is known at its end, so a window may be overrun by what is under way; then it is closed until its end.
            It works with `ai-proxy` and `ai-proxy-multi`, whose tokens it counts, and does nothing without them. Answers carry `X-AI-RateLimit-Limit-<instance>`, `-Remaining-` and `-Reset-`; rules carry `X-AI-<prefix>-RateLimit-…`.
            An `ai-proxy-multi` with `rate_limiting` in its `fallback_strategy` passes instances over that have nothing left.
            """)
    {
        Example = """
            ```json
            {"ai-rate-limiting": {"limit": 10000, "time_window": 3600, "rejected_code": 429, "rejected_msg": "no tokens left"}}
            ```

            Once 10000 tokens were used, requests are answered `429 {"error_msg":"no tokens left"}` until the hour is over.
            """,
    };

    public sealed record Config(
        JsonNode? Limit = null, JsonNode? TimeWindow = null, InstanceConfig[]? Instances = null, RuleConfig[]? Rules = null,
        string LimitStrategy = "total_tokens", string? CostExpr = null,
        bool ShowLimitQuotaHeader = true, int RejectedCode = 503, string? RejectedMsg = null, bool AllowDegradation = false);

    public sealed record InstanceConfig(string Name, JsonNode Limit, JsonNode TimeWindow);

    public sealed record RuleConfig(JsonNode Count, JsonNode TimeWindow, string Key, string? HeaderPrefix = null);

    /// <param name="Key">A rule's text with variables; null: <paramref name="Name"/> is the key.</param>
    /// <param name="Of">What its headers are called.</param>
    sealed record Limited(string Name, Quantity Limit, Quantity Window, string? Key, Func<string, string> Of);

    readonly Config _config;
    readonly CostExpression? _cost;
    readonly Limited[] _rules;
    readonly Dictionary<string, Limited> _instances;
    readonly ICounters _counters;
    readonly string _identity;
    readonly ILogger _logger;

    AiRateLimiting(Config config, PluginContext context)
    {
        _config = config;
        _logger = context.Services.Loggers.CreateLogger<AiRateLimiting>();
        _cost = config.LimitStrategy == "expression" ? Cost(config.CostExpr) : null;
        _identity = $"ai-rate-limiting {context.Scope}:{context.ConfigHash}:";
        _counters = RedisSettings.Connect(context) is { } redis ? new RedisCounters(redis, "plugin-ai-rate-limiting", sliding: false)
            : context.Services.Counters.Fixed;
        Check("limit", config.Limit);
        Check("time_window", config.TimeWindow);
        foreach (var one in config.Instances ?? [])
        {
            Check("limit", one.Limit);
            Check("time_window", one.TimeWindow);
        }
        foreach (var rule in config.Rules ?? [])
        {
            Check("count", rule.Count);
            Check("time_window", rule.TimeWindow);
        }
        _instances = (config.Instances ?? []).DistinctBy(one => one.Name)
            .ToDictionary(one => one.Name, one => new Limited(one.Name, new(one.Limit), new(one.TimeWindow), null, Behind(one.Name)));
        _rules = [.. (config.Rules ?? []).Select(static (rule, index) => RuleOf(rule, index + 1))];
    }

    static Limited RuleOf(RuleConfig rule, int number)
    {
        var prefix = rule.HeaderPrefix ?? number.ToString(CultureInfo.InvariantCulture);
        return new($"{prefix}:", new(rule.Count), new(rule.TimeWindow), rule.Key, word => $"X-AI-{prefix}-RateLimit-{word}");
    }

    static Func<string, string> Behind(string instance) => word => $"X-AI-RateLimit-{word}-{instance}";

    static CostExpression Cost(string? text)
    {
        try
        {
            return CostExpression.Parse(text ?? throw new ConfigException("cost_expr is required when limit_strategy is 'expression'"));
        }
        catch (FormatException e) when (e is not ConfigException)
        {
            throw new ConfigException($"invalid cost_expr: {e.Message}");
        }
    }

    static void Check(string name, JsonNode? value)
    {
        if (Quantity.Check(name, value) is { } error)
        {
            throw new ConfigException(error);
        }
    }

    public static JsonTypeInfo<Config> ConfigType => AiRateLimitingJson.Default.Config;

    public static AiRateLimiting Create(Config config, PluginContext context) => new(config, context);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        if (exchange.Ai?.Instance is not { } instance)
        {
            return null;
        }
        var refusal = await AskAsync(exchange, instance, tells: true);
        exchange.Items[this] = refusal is null;
        return refusal;
    }

    public async ValueTask<bool> HasLeftAsync(Exchange exchange, string instance) =>
        _rules.Length > 0 || await AskAsync(exchange, instance, tells: false) is null;

    /// <summary>The quotas of a request: those of its rules, or of its instance.</summary>
    Limited[] QuotasOf(string instance)
    {
        if (_rules.Length > 0)
        {
            return _rules;
        }
        return _instances.TryGetValue(instance, out var own) ? [own]
            : _config.Limit is { } limit ? [new("ai-rate-limiting#global", new(limit), new(_config.TimeWindow!), null, Behind(instance))]
            : [];
    }

    async ValueTask<Answer?> AskAsync(Exchange exchange, string instance, bool tells)
    {
        var known = 0;
        foreach (var limited in QuotasOf(instance))
        {
            if (KeyOf(limited, exchange) is not { } key)
            {
                continue;
            }
            if (!limited.Limit.TryGet(exchange, out var limit, out var error)
                || !limited.Window.TryGet(exchange, out var seconds, out error))
            {
                LogNoRules(error);
                return _config.AllowDegradation ? null : Answer.Bare(500);
            }
            known++;
            Quota quota;
            try
            {
                // it only looks: what is taken is known at the end
                quota = await _counters.TakeAsync(key, limit, Seconds(seconds), 0, exchange.ClientGone);
            }
            catch (IOException e)
            {
                LogFailed(e.Message);
                return _config.AllowDegradation ? null : Answer.ErrorMessage(500, "failed to limit count");
            }
            if (tells)
            {
                Tell(exchange, limited, limit, quota.Granted ? Math.Max(0, quota.Remaining) : 0,
                    quota.Reset == TimeSpan.Zero ? Seconds(seconds) : quota.Reset);
            }
            if (!quota.Granted || quota.Remaining < 1)
            {
                return _config.RejectedMsg is { } message ? Answer.ErrorMessage(_config.RejectedCode, message)
                    : Answer.Bare(_config.RejectedCode);
            }
        }
        if (known == 0 && _rules.Length > 0)
        {
            LogNoRules("no rule is for this request");
            return _config.AllowDegradation ? null : Answer.Bare(500);
        }
        return null;
    }

    string? KeyOf(Limited limited, Exchange exchange) => limited.Key is not { } text ? $"{_identity}{limited.Name}"
        : LimitKey.Of(text, LimitKey.Rule, exchange) is { } key ? $"{_identity}{limited.Name}{key}" : null;

    static TimeSpan Seconds(long seconds) => TimeSpan.FromSeconds(Math.Min(seconds, 1e9));

    void Tell(Exchange exchange, Limited limited, long limit, long remaining, TimeSpan reset)
    {
        if (!_config.ShowLimitQuotaHeader || !HeaderName.IsToken(limited.Of("Limit")))
        {
            return;
        }
        var headers = exchange.Response.Headers;
        headers[limited.Of("Limit")] = limit.ToString(CultureInfo.InvariantCulture);
        headers[limited.Of("Remaining")] = remaining.ToString(CultureInfo.InvariantCulture);
        headers[limited.Of("Reset")] = (Math.Floor(reset.TotalSeconds * 100) / 100).ToString("0.##", CultureInfo.InvariantCulture);
    }

    // -- What was used

    public void Log(Exchange exchange)
    {
        if (exchange.Ai is not { Instance: { } instance, AskedTimestamp: not 0 } facts || exchange.Find(this) is not true)
        {
            return;
        }
        if (UsedOf(facts.Usage) is not { } used)
        {
            LogNoUsage();
            return;
        }
        List<(string Key, long Limit, TimeSpan Window)> takes = [];
        foreach (var limited in used == 0 ? [] : QuotasOf(instance))
        {
            if (KeyOf(limited, exchange) is { } key && limited.Limit.TryGet(exchange, out var limit, out _)
                && limited.Window.TryGet(exchange, out var seconds, out _))
            {
                takes.Add((key, limit, Seconds(seconds)));
            }
        }
        if (takes.Count > 0)
        {
            // the log phase waits for nobody
            _ = TakeAsync(takes, used);
        }
    }

    long? UsedOf(AiUsage? usage) => usage is null ? null : _config.LimitStrategy switch
    {
        "prompt_tokens" => usage.Prompt,
        "completion_tokens" => usage.Completion,
        "expression" => _cost!.Of(usage.Raw),
        _ => usage.Total,
    };

    async Task TakeAsync(List<(string Key, long Limit, TimeSpan Window)> takes, long used)
    {
        foreach (var (key, limit, window) in takes)
        {
            try
            {
                var quota = await _counters.TakeAsync(key, limit, window, used, default);
                if (!quota.Granted && quota.Remaining + used is > 0 and var left)
                {
                    // more than there was: the window is closed
                    await _counters.TakeAsync(key, limit, window, left, default);
                }
            }
            catch (IOException e)
            {
                LogFailed(e.Message);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to get rate limit rules: {Error}")]
    partial void LogNoRules(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to limit count: {Error}")]
    partial void LogFailed(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to get token usage for llm service")]
    partial void LogNoUsage();
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(AiRateLimiting.Config))]
sealed partial class AiRateLimitingJson : JsonSerializerContext;

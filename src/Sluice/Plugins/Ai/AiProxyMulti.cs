using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Ai;
using Sluice.Ai.Protocols;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Upstreams;
using Sluice.Upstreams.Balancers;

namespace Sluice.Plugins.Ai;

/// <summary>Spreads requests to language models over several instances, and goes on to the next when one fails.</summary>
internal sealed partial class AiProxyMulti : ModelPlugin, IPlugin<AiProxyMulti, JsonObject>
{
    public static PluginInfo Info { get; } = new(
        Name: "ai-proxy-multi",
        Priority: 1041,
        Schema: $$"""
            {
              "type": "object",
              "required": ["instances"],
              "properties": {
                "balancer": {
                  "type": "object",
                  "default": { "algorithm": "roundrobin" },
                  "properties": {
                    "algorithm": { "type": "string", "enum": ["chash", "roundrobin", "semantic"], "description": "semantic is not there yet" },
                    "hash_on": { "type": "string", "default": "vars", "enum": ["vars", "header", "cookie", "consumer", "vars_combinations"] },
                    "key": { "type": "string", "description": "what is hashed" }
                  }
                },
                "instances": {
                  "type": "array",
                  "minItems": 1,
                  "items": {
                    "type": "object",
                    "required": ["name", "provider", "auth", "weight"],
                    "properties": {
                      "name": { "type": "string", "minLength": 1, "maxLength": 100 },
                      "weight": { "type": "integer", "minimum": 0, "description": "share of requests; 0: none" },
                      "priority": { "type": "integer", "default": 0, "description": "higher first; lower ones when none of the higher is left to try" },
                      "checks": { "type": "object", "required": ["active"], "properties": { "active": { "type": "object", "description": "as an upstream's" } } },
                      "examples": { "type": "array", "minItems": 1, "maxItems": 64, "items": { "type": "string", "minLength": 1 } },
                      "threshold": { "type": "number", "minimum": -1, "maximum": 1 },
                      {{AiInstance.Schema}}
                    }
                  }
                },
                "semantic_opts": { "type": "object" },
                "fallback_strategy": {
                  "description": "when the next instance is asked: the one before has nothing left of `ai-rate-limiting`, answers 429, or 5xx (or not at all)",
                  "anyOf": [
                    { "type": "string", "enum": ["instance_health_and_rate_limiting", "http_429", "http_5xx"] },
                    { "type": "array", "items": { "type": "string", "enum": ["rate_limiting", "http_429", "http_5xx"] } }
                  ]
                },
                "fallback_http_statuses": {
                  "type": "array", "minItems": 1, "uniqueItems": true, "items": { "type": "integer", "minimum": 400, "maximum": 599 }, "description": "other statuses with which the next instance is asked"
                },
                "max_retries": { "type": "integer", "minimum": 0, "description": "instances that are asked after the first" },
                "retry_on_failure_within_ms": { "type": "integer", "minimum": 1, "description": "the next instance is asked only if the one before failed within so many milliseconds" },
                {{AiSettings.Schema}}
              }
            }
            """,
        Summary: """
            Spreads requests to language models over several instances, and goes on to the next when one fails: the client sees nothing of it. Each instance is one of [ai-proxy](ai-proxy.md)'s, with a weight and a priority;
            unhealthy ones (`checks`) are left out, unless all are. A request is sent again only while nothing of an answer was sent to the client.
            **It needs the whole request body**: an instance is asked when it is complete.
            """)
    {
        Version = "0.1",
        Attributes = ["profile", "http_client"],
        Example = """
            ```json
            {"ai-proxy-multi": {"fallback_strategy": ["http_429", "http_5xx"], "instances": [
              {"name": "first", "provider": "openai", "weight": 1, "priority": 1, "auth": {"header": {"Authorization": "$env://OPENAI_AUTHORIZATION"}}},
              {"name": "second", "provider": "deepseek", "weight": 1, "auth": {"header": {"Authorization": "$env://DEEPSEEK_AUTHORIZATION"}}, "options": {"model": "deepseek-chat"}}
            ]}}
            ```

            deepseek answers what openai refuses, or fails to.
            """,
    };

    readonly ILogger _logger;
    readonly AiInstance[] _instances;
    readonly IBalancer[] _tiers;
    readonly UpstreamConfig _hash;
    readonly bool _asksQuotas, _on429, _on5xx;
    readonly HashSet<int> _statuses;
    readonly int? _maxRetries, _withinMs;

    AiProxyMulti(JsonObject config, AiSettings settings, PluginContext context)
        : base(settings, context.Services.Loggers.CreateLogger<AiProxyMulti>())
    {
        _logger = Logger;
        JsonObject[] instances = [.. config["instances"]!.AsArray().Select(instance => instance!.AsObject())];
        CheckNames(instances);
        _instances = [.. instances.Select(instance => Make(instance, settings, context))];
        var balancer = config["balancer"] as JsonObject;
        var algorithm = (string?)balancer?["algorithm"] ?? "roundrobin";
        var (hashOn, key) = ((string?)balancer?["hash_on"], (string?)balancer?["key"]);
        if (algorithm == "semantic")
        {
            throw new ConfigException("balancer algorithm semantic is not supported yet: use roundrobin or chash");
        }
        if (algorithm == "chash" && hashOn is null)
        {
            throw new ConfigException("must configure `hash_on` when balancer algorithm is chash");
        }
        if (algorithm == "chash" && hashOn != "consumer" && key is null)
        {
            throw new ConfigException("must configure `hash_key` when balancer `hash_on` is not set to cookie");
        }
        _hash = new(null, null, [], algorithm, hashOn, key);
        var nodes = instances.Select((instance, index) =>
            new Node(index, new((string)instance["name"]!, 0, Whole(instance, "weight") ?? 0, Whole(instance, "priority") ?? 0), 0));
        _tiers = [.. nodes.GroupBy(node => node.Config.Priority).OrderByDescending(tier => tier.Key)
            .Select(tier => IBalancer.Create(algorithm, [.. tier], context.Services.Time, Random.Shared))];
        string[] strategies = config["fallback_strategy"] switch
        {
            JsonArray list => [.. list.Select(one => (string)one!)],
            { } one => [(string)one!],
            null => [],
        };
        _asksQuotas = strategies.Contains("rate_limiting") || strategies.Contains("instance_health_and_rate_limiting");
        (_on429, _on5xx) = (strategies.Contains("http_429"), strategies.Contains("http_5xx"));
        _statuses = [.. (config["fallback_http_statuses"] as JsonArray ?? []).Select(status => (int)status!.GetValue<double>())];
        (_maxRetries, _withinMs) = (Whole(config, "max_retries"), Whole(config, "retry_on_failure_within_ms"));
    }

    static int? Whole(JsonObject config, string name) => config[name] is JsonValue value ? (int)value.GetValue<double>() : null;

    static void CheckNames(JsonObject[] instances)
    {
        Dictionary<string, int> names = [];
        for (var i = 1; i <= instances.Length; i++)
        {
            var name = (string)instances[i - 1]["name"]!;
            if (!names.TryAdd(name, i))
            {
                throw new ConfigException($"duplicate instance name '{name}' at instances[{names[name]}] and instances[{i}]");
            }
        }
    }

    static AiInstance Make(JsonObject instance, AiSettings settings, PluginContext context)
    {
        var name = (string)instance["name"]!;
        try
        {
            return new(name, instance, settings, context);
        }
        catch (ConfigException e) when (e.Message != "invalid endpoint" && !e.Message.StartsWith("ai provider: ", StringComparison.Ordinal))
        {
            throw new ConfigException($"instance '{name}': {e.Message}");
        }
    }

    public static JsonTypeInfo<JsonObject> ConfigType => AiProxyMultiJson.Default.JsonObject;

    public static AiProxyMulti Create(JsonObject config, PluginContext context) => new(config, AiSettings.Of(context), context);

    public override async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var (call, refusal) = await AiCall.ReadAsync(exchange, Settings, Logger,
            (protocol, body, bytes) => new Call(this, protocol, body, bytes));
        if (call is not Call own)
        {
            return refusal;
        }
        if (await PickAsync(exchange, own.Tried) is not { } index)
        {
            return Answer.Text(503, "all servers tried");
        }
        own.Take(index);
        Forward(exchange, own);
        return null;
    }

    /// <summary>An instance that was not tried yet, by its number; null when none is left.</summary>
    async ValueTask<int?> PickAsync(Exchange exchange, HashSet<int> tried)
    {
        if (_instances.Length == 1)
        {
            return tried.Count == 0 ? 0 : null;
        }
        var key = _hash.Type == "chash" ? HashKey.Of(exchange, _hash) : "";
        HashSet<int> left = [.. tried];
        if (Array.Exists(_instances, static instance => instance.IsHealthy))
        {
            left.UnionWith(Enumerable.Range(0, _instances.Length).Where(index => !_instances[index].IsHealthy));
        }
        else
        {
            LogAllUnhealthy();
        }
        Array.ForEach(_instances, static instance => instance.BeginChecks());
        var quota = _asksQuotas ? QuotaOf(exchange) : null;
        while (Next(left, key) is { } index)
        {
            if (quota is null || await quota.HasLeftAsync(exchange, _instances[index].Name))
            {
                return index;
            }
            LogNotAvailable(_instances[index].Name);
            left.Add(index);
        }
        return null;
    }

    int? Next(HashSet<int> tried, string key)
    {
        foreach (var tier in _tiers)
        {
            if (tier.Pick(new(tried, HealthyOnly: false, key)) is { } node)
            {
                return node.Index;
            }
        }
        return null;
    }

    static IAiQuota? QuotaOf(Exchange exchange)
    {
        foreach (var (plugin, use) in exchange.Chain.Steps(Phase.Access))
        {
            if (plugin is IAiQuota quota && use.Applies(exchange))
            {
                return quota;
            }
        }
        return null;
    }

    /// <summary>Whether a failure is one with which the next instance is asked.</summary>
    bool IsReason(int status) => (status == 429 && _on429) || (status is >= 500 and < 600 && _on5xx) || _statuses.Contains(status);

    sealed class Call(AiProxyMulti plugin, AiProtocol protocol, JsonObject body, ReadOnlyMemory<byte> bytes)
        : AiCall(protocol, body, bytes, plugin.Settings, plugin.Logger)
    {
        /// <summary>The start of a refused answer that the log shows.</summary>
        const int MostOfBody = 4096;

        ReadOnlyMemory<byte> _refused;
        int _status, _retries;

        public HashSet<int> Tried { get; } = [];

        public void Take(int index)
        {
            Tried.Add(index);
            Target = plugin._instances[index];
        }

        protected override bool TryAgain(Exchange exchange, int status)
        {
            if (plugin._instances.Length == 1 || !plugin.IsReason(status))
            {
                return false;
            }
            if (plugin._withinMs is { } within && Elapsed(exchange) > within)
            {
                plugin.LogTooLate(Elapsed(exchange), within);
                return false;
            }
            if (plugin._maxRetries is { } most && ++_retries > most)
            {
                plugin.LogTooMany(most);
                return false;
            }
            _status = status;
            return true;
        }

        public override void Refused(Exchange exchange, ReadOnlyMemory<byte> body) => _refused = body;

        protected override async ValueTask<Answer?> PickAgainAsync(Exchange exchange)
        {
            var failed = Instance;
            if (await plugin.PickAsync(exchange, Tried) is not { } index)
            {
                plugin.LogNoneLeft();
                return _refused.IsEmpty ? Answer.Bare(502)
                    : new(502, _refused, _refused.Span[0] == '{' ? "application/json" : Answer.PlainText);
            }
            Take(index);
            var text = System.Text.Encoding.UTF8.GetString(_refused.Span[..Math.Min(_refused.Length, MostOfBody)]);
            plugin.LogFallingBack(failed, _status, Instance,
                string.Concat(text.Select(static letter => char.IsControl(letter) ? ' ' : letter)));
            return null;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "all upstream nodes is unhealthy, use default")]
    partial void LogAllUnhealthy();

    [LoggerMessage(Level = LogLevel.Warning, Message = "ai instance: {Instance} is not available, try to pick another one")]
    partial void LogNotAvailable(string instance);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "ai instance failed after {Elapsed}ms, exceeding retry_on_failure_within_ms {Within}, not retrying")]
    partial void LogTooLate(long elapsed, int within);

    [LoggerMessage(Level = LogLevel.Warning, Message = "reached max_retries {Most}, not retrying")]
    partial void LogTooMany(int most);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to pick new AI instance: all servers tried")]
    partial void LogNoneLeft();

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "ai instance {Failed} returned status {Status}, falling back to {Next}. upstream error body: {Body}")]
    partial void LogFallingBack(string? failed, int status, string? next, string body);
}

[JsonSerializable(typeof(JsonObject))]
sealed partial class AiProxyMultiJson : JsonSerializerContext;

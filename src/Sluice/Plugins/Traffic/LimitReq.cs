using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Pipeline;
using StackExchange.Redis;

namespace Sluice.Plugins.Traffic;

/// <summary>Lets requests of a key through at a rate.</summary>
internal sealed partial class LimitReq : IPlugin<LimitReq, LimitReq.Config>, IAccess
{
    public static PluginInfo Info { get; } = new(
        Name: "limit-req",
        Priority: 1001,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "rate": { "type": "number", "exclusiveMinimum": 0, "description": "requests a second" },
                "burst": { "type": "number", "minimum": 0, "description": "so many requests more are held up until they fit the rate; beyond that they are refused" },
                "key": { "type": "string", "description": "what requests are counted by" },
                "key_type": { "type": "string", "enum": ["var", "var_combination"], "default": "var", "description": "key is a variable's name, or a text with variables" },
                "policy": {
                  "type": "string",
                  "enum": ["redis", "redis-cluster", "local"],
                  "default": "local",
                  "description": "where it is remembered: in memory, or in a [Redis that gateways share](../concepts/shared-limits.md)"
                },
                "rejected_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 503, "description": "status for refused requests" },
                "rejected_msg": { "type": "string", "minLength": 1, "description": "error_msg for refused requests" },
                "nodelay": { "type": "boolean", "default": false, "description": "requests within the burst are not held up" },
                "allow_degradation": { "type": "boolean", "default": false, "description": "requests pass when Redis cannot be asked" }
              },
              "required": ["rate", "burst", "key"],
              {{RedisSettings.Schema()}}
            }
            """,
        Summary: """
            Lets requests of a key through at `rate` a second, as a leaky bucket. Those that come faster wait, `burst` of them at most (with `nodelay` they pass at once); any more are
            refused. When the key has no value the client's address is counted. What is remembered survives changes of the configuration as long as the plugin's own part
            stays the same, in memory a million keys at most.
            """)
    {
        Example = """
            ```json
            {"limit-req": {"rate": 10, "burst": 20, "key": "remote_addr", "rejected_code": 429}}
            ```

            Of thirty requests at once one passes at once, twenty in the next two seconds, one each tenth of a second, and nine are answered 429.
            """,
    };

    public sealed record Config(
        double Rate, double Burst, string Key, string KeyType = "var", string Policy = "local", int RejectedCode = 503,
        string? RejectedMsg = null, bool Nodelay = false,
        bool AllowDegradation = false);

    readonly Config _config;
    readonly string _identity;
    readonly LeakyBuckets _local;
    readonly RedisLink? _redis;
    readonly TimeProvider _time;
    readonly ILogger _logger;

    LimitReq(Config config, PluginContext context)
    {
        _config = config;
        _time = context.Services.Time;
        _logger = context.Services.Loggers.CreateLogger<LimitReq>();
        _identity = $"{context.Scope}:{context.ConfigHash}:";
        _local = context.Share("limit-req/local", () => new LeakyBuckets(context.Services.Time));
        _redis = RedisSettings.Connect(context);
    }

    public static JsonTypeInfo<Config> ConfigType => LimitReqJson.Default.Config;

    public static LimitReq Create(Config config, PluginContext context) => new(config, context);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var key = _identity + LimitKey.Of(_config.Key, _config.KeyType, exchange);
        double? excess;
        try
        {
            excess = _redis is null ? _local.Add(key, _config.Rate, _config.Burst) : await AddAsync(_redis, key);
        }
        catch (IOException e)
        {
            LogFailed(e.Message);
            return _config.AllowDegradation ? null : Answer.Bare(500);
        }
        if (excess is not { } before)
        {
            return _config.RejectedMsg is { } message ? Answer.ErrorMessage(_config.RejectedCode, message)
                : Answer.Bare(_config.RejectedCode);
        }
        var delay = before / _config.Rate;
        if (delay >= 0.001 && !_config.Nodelay)
        {
            // nobody waits for longer than timers can
            await Task.Delay(TimeSpan.FromSeconds(Math.Min(delay, int.MaxValue / 1000)), _time, exchange.Http.RequestAborted);
        }
        return null;
    }

    /// <summary>All in thousandths of requests, as numbers from Redis are whole.</summary>
    static readonly RedisScript Bucket = new("""
        local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
        local time = redis.call('time')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local state = redis.call('hmget', KEYS[1], 'excess', 'last')
        local excess = 0
        if state[1] and state[2] then
          excess = math.max(tonumber(state[1]) - rate * math.abs(now - tonumber(state[2])) / 1000 + 1000, 0)
          if excess > burst then
            return -1
          end
        end
        redis.call('hset', KEYS[1], 'excess', string.format('%.17g', excess), 'last', string.format('%.0f', now))
        redis.call('expire', KEYS[1], ARGV[3])
        return math.ceil(excess)
        """);

    async ValueTask<double?> AddAsync(RedisLink redis, string key)
    {
        var seconds = (long)Math.Min(Math.Ceiling(_config.Burst / _config.Rate) + 1, int.MaxValue);
        var excess = (long)await redis.RunAsync(Bucket, "limit_req:" + RedisCounters.Bounded(key),
            [_config.Rate * 1000, _config.Burst * 1000, seconds]);
        return excess < 0 ? null : excess / 1000.0;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to limit req: {Error}")]
    partial void LogFailed(string error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(LimitReq.Config))]
sealed partial class LimitReqJson : JsonSerializerContext;

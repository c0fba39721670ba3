using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Pipeline.Streams;

namespace Sluice.Plugins.Traffic;

/// <summary>Bounds how many requests, or connections of a stream route, are under way at a time.</summary>
public sealed class LimitConn : IPlugin<LimitConn, LimitConn.Config>, IAccess, ILog, IStreamAccess, IStreamEnd
{
    public static PluginInfo Info { get; } = new(
        Name: "limit-conn",
        Priority: 1003,
        Schema: """
            {
              "type": "object",
              "properties": {
                "conn": { "type": "integer", "exclusiveMinimum": 0, "description": "requests (stream routes: connections) at a time that are not held up" },
                "burst": { "type": "integer", "minimum": 0, "description": "so many more are held up first; beyond that they are refused" },
                "default_conn_delay": { "type": "number", "exclusiveMinimum": 0, "description": "for how many seconds one is held up, for each conn that are there already" },
                "only_use_default_delay": { "type": "boolean", "default": false, "description": "false: the delay follows what requests really take" },
                "key": { "type": "string", "description": "what is counted by" },
                "key_type": { "type": "string", "enum": ["var", "var_combination"], "default": "var", "description": "key is a variable's name, or a text with variables" },
                "policy": { "type": "string", "enum": ["redis", "redis-cluster", "local"], "default": "local", "description": "where counts are kept; this version of Sluice knows local: in memory" },
                "rejected_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 503, "description": "status for refused requests" },
                "rejected_msg": { "type": "string", "minLength": 1, "description": "error_msg for refused requests" },
                "allow_degradation": { "type": "boolean", "default": false, "description": "accepted; counting in memory does not fail" }
              },
              "required": ["conn", "burst", "default_conn_delay", "key"]
            }
            """,
        Summary: """
            Bounds how many requests of a key are under way at a time, a stream counting from its first to its last byte. The first `conn` pass, the next `burst` wait
            first, any more are refused. In a stream route connections are counted, and those beyond are closed. When the key has no value the client's address is
            counted. Counts are kept in this gateway's memory and survive changes of the configuration as long as the plugin's own part stays the same.
            """)
    {
        Example = """
            ```json
            {"limit-conn": {"conn": 10, "burst": 5, "default_conn_delay": 0.1, "key": "remote_addr", "rejected_code": 429}}
            ```

            The sixteenth stream that one address holds open at a time is answered 429.
            """,
    };

    public sealed record Config(
        int Conn, int Burst, double DefaultConnDelay, string Key, bool OnlyUseDefaultDelay = false, string KeyType = "var", string Policy = "local",
        int RejectedCode = 503, string? RejectedMsg = null, bool AllowDegradation = false);

    readonly Config _config;
    readonly Counts _counts;
    readonly TimeProvider _time;

    LimitConn(Config config, PluginContext context)
    {
        _config = config;
        _time = context.Services.Time;
        var hash = Convert.ToHexStringLower(SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(config, LimitConnJson.Default.Config)).AsSpan(0, 8));
        _counts = context.Services.Shared($"limit-conn/{context.Scope}/{hash}", () => new Counts(config.DefaultConnDelay));
    }

    public static JsonTypeInfo<Config> ConfigType => LimitConnJson.Default.Config;

    public static string? Check(Config config) =>
        config.Policy == "local" ? null : $"policy \"{config.Policy}\" is not supported by this version of Sluice: use \"local\"";

    public static LimitConn Create(Config config, PluginContext context) => new(config, context);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        if (!TryEnter(exchange, exchange.Items, out var delay))
        {
            return _config.RejectedMsg is { } message ? Answer.ErrorMessage(_config.RejectedCode, message) : Answer.Bare(_config.RejectedCode);
        }
        if (delay >= TimeSpan.FromMilliseconds(1))
        {
            await Task.Delay(delay, _time, exchange.Http.RequestAborted);
        }
        return null;
    }

    public void Log(Exchange exchange)
    {
        if (exchange.Items.Remove(this, out var entered))
        {
            var (key, delay) = ((string, TimeSpan))entered;
            var seconds = exchange.Upstream.ResponseSeconds ?? ((exchange.ElapsedMs / 1000) - delay.TotalSeconds);
            _counts.Leave(key, _config.OnlyUseDefaultDelay ? null : Math.Max(0, seconds));
        }
    }

    public async ValueTask<string?> AdmitAsync(StreamSession session)
    {
        if (!TryEnter(session, session.Items, out var delay))
        {
            return $"more than {_config.Conn + _config.Burst} connections at a time";
        }
        if (delay >= TimeSpan.FromMilliseconds(1))
        {
            await Task.Delay(delay, _time);
        }
        return null;
    }

    public void Ended(StreamSession session)
    {
        if (session.Items.Remove(this, out var entered))
        {
            _counts.Leave((((string, TimeSpan))entered).Item1, null);
        }
    }

    bool TryEnter(IVariables variables, Dictionary<object, object> items, out TimeSpan delay)
    {
        var resolved = 1;
        var key = _config.KeyType == "var_combination" ? Template.Expand(_config.Key, variables, null, out resolved) : variables.Get(_config.Key);
        key = resolved > 0 && key is not null ? key : variables.Get("remote_addr")!;
        if (!_counts.TryEnter(key, _config.Conn, _config.Burst, out delay))
        {
            return false;
        }
        items[this] = (key, delay);
        return true;
    }

    /// <summary>As lua-resty-limit-traffic's resty.limit.conn counts; what nobody is in is forgotten.</summary>
    sealed class Counts(double defaultDelay)
    {
        readonly ConcurrentDictionary<string, int> _inside = new();
        double _unit = defaultDelay;

        public bool TryEnter(string key, int max, int burst, out TimeSpan delay)
        {
            delay = default;
            while (true)
            {
                var inside = _inside.GetOrAdd(key, 0);
                if (inside >= max + burst)
                {
                    return false;
                }
                if (_inside.TryUpdate(key, inside + 1, inside))
                {
                    delay = inside >= max ? TimeSpan.FromSeconds(Volatile.Read(ref _unit) * (inside / max)) : default;
                    return true;
                }
            }
        }

        /// <param name="seconds">What it took; null: not known, or of no interest.</param>
        public void Leave(string key, double? seconds)
        {
            while (_inside.TryGetValue(key, out var inside))
            {
                if (inside > 1 ? _inside.TryUpdate(key, inside - 1, inside) : _inside.TryRemove(new(key, inside)))
                {
                    break;
                }
            }
            if (seconds is { } took)
            {
                Volatile.Write(ref _unit, (Volatile.Read(ref _unit) + took) / 2);
            }
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(LimitConn.Config))]
sealed partial class LimitConnJson : JsonSerializerContext;

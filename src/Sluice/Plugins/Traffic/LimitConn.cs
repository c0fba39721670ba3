using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Observability;
using Sluice.Pipeline;
using Sluice.Pipeline.TcpUdp;

namespace Sluice.Plugins.Traffic;

/// <summary>Bounds how many requests, or connections of a stream route, are under way at a time.</summary>
internal sealed partial class LimitConn : IPlugin<LimitConn, LimitConn.Config>, IAccess, ILog, IHolds, IStreamAccess, IStreamEnd
{
    const string KeyTtl =
        """ "key_ttl": { "type": "integer", "default": 3600, "description": "seconds after which a request that Redis hears nothing of is no longer counted: 90 at most, and every third of it those that go on are told again" } """;

    public static PluginInfo Info { get; } = new(
        Name: "limit-conn",
        Priority: 1003,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "conn": { "description": "requests (stream routes: connections) at a time that are not held up; or a text with variables, such as ${http_conn ?? 10}", "oneOf": [ { "type": "integer", "exclusiveMinimum": 0 }, { "type": "string" } ] },
                "burst": { "description": "so many more are held up first; beyond that they are refused; or a text with variables", "oneOf": [ { "type": "integer", "minimum": 0 }, { "type": "string" } ] },
                "default_conn_delay": { "type": "number", "exclusiveMinimum": 0, "description": "for how many seconds one is held up, for each conn that are there already" },
                "only_use_default_delay": { "type": "boolean", "default": false, "description": "false: the delay follows what requests really take" },
                "key": { "type": "string", "description": "what is counted by" },
                "key_type": { "type": "string", "enum": ["var", "var_combination"], "default": "var", "description": "key is a variable's name, or a text with variables" },
                "policy": { "type": "string", "enum": ["redis", "redis-cluster", "local"], "default": "local", "description": "where counts are kept: in memory, or in a [Redis that gateways share](../concepts/shared-limits.md)" },
                "rejected_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 503, "description": "status for refused requests" },
                "rejected_msg": { "type": "string", "minLength": 1, "description": "error_msg for refused requests" },
                "allow_degradation": { "type": "boolean", "default": false, "description": "requests pass when conn or burst is no number, or Redis cannot be asked" },
                "rules": {
                  "type": "array",
                  "description": "several limits side by side instead of one",
                  "items": {
                    "type": "object",
                    "properties": {
                      "conn": { "oneOf": [ { "type": "integer", "exclusiveMinimum": 0 }, { "type": "string" } ] },
                      "burst": { "oneOf": [ { "type": "integer", "minimum": 0 }, { "type": "string" } ] },
                      "key": { "type": "string", "description": "a text with variables; the rule does not run when none of them has a value" }
                    },
                    "required": ["conn", "burst", "key"]
                  }
                }
              },
              "oneOf": [ { "required": ["conn", "burst", "default_conn_delay", "key"] }, { "required": ["default_conn_delay", "rules"] } ],
              {{RedisSettings.Schema(more: KeyTtl)}}
            }
            """,
        Summary: """
            Bounds how many requests of a key are under way at a time, a stream counting from its first to its last byte. The first `conn` pass, the next `burst` wait
            first, any more are refused. In a stream route connections are counted, and those beyond are closed. When the key has no value the client's address is
            counted. `rules` are several such limits at once, each with a key of its own. A `conn` or `burst` whose variables give no whole number is answered 500, and a rule with one does not run. Counts are kept in this gateway's memory, or in Redis, and survive changes of the configuration as long as the plugin's own part stays the same.
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
        double DefaultConnDelay, JsonNode? Conn = null, JsonNode? Burst = null, string Key = "", bool OnlyUseDefaultDelay = false,
        string KeyType = "var", string Policy = "local",
        int RejectedCode = 503, string? RejectedMsg = null, bool AllowDegradation = false, RuleConfig[]? Rules = null, int KeyTtl = 3600);

    public sealed record RuleConfig(JsonNode Conn, JsonNode Burst, string Key);

    sealed record Rule(Quantity Conn, Quantity Burst, string Key, string KeyType, string Number);

    enum Admission
    {
        Admitted,
        Refused,

        /// <summary>There is no number to count to, or Redis cannot be asked.</summary>
        Unknown,
    }

    /// <summary>A place that an exchange has taken under a key.</summary>
    /// <param name="Member">Its name in Redis; null: it is in this process.</param>
    readonly record struct Place(string Key, TimeSpan Delay, string? Member);

    readonly Config _config;
    readonly Rule[] _rules;
    readonly Counts _counts;
    readonly RedisSlots? _shared;
    readonly string _name;
    readonly TimeProvider _time;
    readonly ILogger _logger;

    LimitConn(Config config, PluginContext context)
    {
        _config = config;
        _time = context.Services.Time;
        _logger = context.Services.Loggers.CreateLogger<LimitConn>();
        _name = $"{context.Scope}:{context.ConfigHash}:";
        _counts = context.Share($"limit-conn/{context.Scope}/{context.ConfigHash}", () => new Counts(config.DefaultConnDelay));
        if (RedisSettings.Connect(context) is { } redis)
        {
            _shared = context.Share($"limit-conn/{redis.Name}/{config.KeyTtl}",
                () => new RedisSlots(redis, "limit_conn:", TimeSpan.FromSeconds(config.KeyTtl), context.Services));
        }
        _rules = config.Rules is { } rules
            ? [.. rules.Select((rule, index) => new Rule(new(rule.Conn), new(rule.Burst, least: 0), rule.Key, LimitKey.Rule, $"{index}:"))]
            : [new Rule(new(config.Conn!), new(config.Burst!, least: 0), config.Key, config.KeyType, "")];
    }

    public static JsonTypeInfo<Config> ConfigType => LimitConnJson.Default.Config;

    static string? Refusal(Config config) =>
        Quantity.Check("conn", config.Conn) ?? Quantity.Check("burst", config.Burst, least: 0)
            ?? (config.Rules ?? []).Select((rule, index) => Quantity.Check("conn", rule.Conn)
                ?? Quantity.Check("burst", rule.Burst, least: 0)).FirstOrDefault(error => error is not null);

    public static LimitConn Create(Config config, PluginContext context) =>
        Refusal(config) is { } error ? throw new ConfigException(error) : new(config, context);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var (admission, delay) = await EnterAsync(exchange, exchange.Items);
        switch (admission)
        {
            case Admission.Unknown:
                return _config.AllowDegradation ? null : Answer.Bare(500);
            case Admission.Refused:
                return _config.RejectedMsg is { } message ? Answer.ErrorMessage(_config.RejectedCode, message)
                    : Answer.Bare(_config.RejectedCode);
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
            foreach (var place in (List<Place>)entered)
            {
                var seconds = exchange.Upstream.ResponseSeconds ?? ((exchange.ElapsedMs / 1000) - place.Delay.TotalSeconds);
                Leave(place, _config.OnlyUseDefaultDelay ? null : Math.Max(0, seconds));
            }
        }
    }

    public void Release(Exchange exchange) => Log(exchange);

    public async ValueTask<string?> AdmitAsync(StreamSession session)
    {
        var (admission, delay) = await EnterAsync(session, session.Items);
        switch (admission)
        {
            case Admission.Unknown when !_config.AllowDegradation:
                return "limit-conn: nobody knows how many connections there may be";
            case Admission.Refused:
                return "more connections at a time than limit-conn lets in";
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
            foreach (var place in (List<Place>)entered)
            {
                Leave(place, null);
            }
        }
    }

    void Leave(Place place, double? seconds)
    {
        if (place.Member is { } member)
        {
            _shared!.LeaveLater(member);
            _counts.Took(seconds);
        }
        else
        {
            _counts.Leave(place.Key, seconds);
        }
    }

    /// <summary>Takes a place of every rule; those that were taken before one refused are given back at the end.</summary>
    async ValueTask<(Admission, TimeSpan Delay)> EnterAsync(IVariables variables, Dictionary<object, object> items)
    {
        var delay = TimeSpan.Zero;
        var known = 0;
        string? error = null;
        foreach (var rule in _rules)
        {
            if (LimitKey.Of(rule.Key, rule.KeyType, variables) is not { } key
                || !rule.Conn.TryGet(variables, out var conn, out error) || !rule.Burst.TryGet(variables, out var burst, out error))
            {
                continue;
            }
            known++;
            key = rule.Number + key;
            var (max, more) = ((int)Math.Min(conn, int.MaxValue / 2), (int)Math.Min(burst, int.MaxValue / 2));
            string? member = null;
            TimeSpan own;
            if (_shared is null)
            {
                if (!_counts.TryEnter(key, max, more, out own))
                {
                    return (Admission.Refused, default);
                }
            }
            else
            {
                try
                {
                    if (await _shared.EnterAsync(_name + key, (long)max + more) is not { } entered)
                    {
                        return (Admission.Refused, default);
                    }
                    (member, own) = (entered.Member, _counts.Delay(entered.Inside, max));
                }
                catch (IOException e)
                {
                    LogFailed(e.Message);
                    return (Admission.Unknown, default);
                }
            }
            if (!items.TryGetValue(this, out var places))
            {
                items[this] = places = new List<Place>(_rules.Length);
            }
            ((List<Place>)places).Add(new(key, own, member));
            delay += own;
        }
        if (known == 0)
        {
            LogNoRules(error ?? "no rule is for this request");
        }
        return known > 0 ? (Admission.Admitted, delay) : (Admission.Unknown, default);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to get limit conn rules: {Error}")]
    partial void LogNoRules(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to limit conn: {Error}")]
    partial void LogFailed(string error);

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
                    delay = Delay(inside, max);
                    return true;
                }
            }
        }

        /// <summary>For how long one waits who finds so many inside.</summary>
        public TimeSpan Delay(long inside, int max) =>
            inside >= max ? TimeSpan.FromSeconds(Volatile.Read(ref _unit) * (inside / max)) : default;

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
            Took(seconds);
        }

        public void Took(double? seconds)
        {
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

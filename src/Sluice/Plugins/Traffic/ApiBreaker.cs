using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Stops asking an upstream that keeps failing, for a while that grows.</summary>
internal sealed class ApiBreaker : IPlugin<ApiBreaker, ApiBreaker.Config>, IAccess, ILog
{
    public static PluginInfo Info { get; } = new(
        Name: "api-breaker",
        Priority: 1005,
        Schema: """
            {
              "type": "object",
              "properties": {
                "break_response_code": { "type": "integer", "minimum": 200, "maximum": 599, "description": "status while nothing is asked" },
                "break_response_body": { "type": "string" },
                "break_response_headers": {
                  "type": "array",
                  "description": "sent together with a body only; values may hold variables",
                  "items": { "type": "object", "properties": { "key": { "type": "string", "minLength": 1 }, "value": { "type": "string", "minLength": 1 } }, "required": ["key", "value"] }
                },
                "max_breaker_sec": { "type": "integer", "minimum": 3, "default": 300, "description": "the longest while" },
                "unhealthy": {
                  "type": "object",
                  "properties": {
                    "http_statuses": { "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 500, "maximum": 599 }, "uniqueItems": true, "default": [500] },
                    "failures": { "type": "integer", "minimum": 1, "default": 3 }
                  },
                  "default": { "http_statuses": [500], "failures": 3 }
                },
                "healthy": {
                  "type": "object",
                  "properties": {
                    "http_statuses": { "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 200, "maximum": 499 }, "uniqueItems": true, "default": [200] },
                    "successes": { "type": "integer", "minimum": 1, "default": 3 }
                  },
                  "default": { "http_statuses": [200], "successes": 3 }
                }
              },
              "required": ["break_response_code"]
            }
            """,
        Summary: """
            Answers in the place of an upstream that keeps failing. After `unhealthy.failures` bad answers for a host and path nothing is asked for 2 seconds, after as many more for 4, then 8, up to
            `max_breaker_sec`; `healthy.successes` good answers forget all of that. What counts is the upstream's last status, and how a stream ended: one that the upstream broke off is bad whatever its
            status was. The counts are the gateway's, for at most 20,000 hosts and paths, and not a route's.
            """)
    {
        Example = """
            ```json
            {"api-breaker": {"break_response_code": 502, "unhealthy": {"http_statuses": [500, 503], "failures": 3}, "healthy": {"http_statuses": [200], "successes": 1}}}
            ```
            """,
    };

    public sealed record Config(
        int BreakResponseCode, string? BreakResponseBody = null, HeaderConfig[]? BreakResponseHeaders = null, int MaxBreakerSec = 300,
        UnhealthyConfig? Unhealthy = null, HealthyConfig? Healthy = null);

    public sealed record HeaderConfig(string Key, string Value);

    public sealed record UnhealthyConfig(int[]? HttpStatuses = null, int Failures = 3);

    public sealed record HealthyConfig(int[]? HttpStatuses = null, int Successes = 3);

    readonly Config _config;
    readonly UnhealthyConfig _unhealthy;
    readonly HealthyConfig _healthy;
    readonly Counts _counts;
    readonly TimeProvider _time;

    ApiBreaker(Config config, PluginContext context)
    {
        _config = config;
        _unhealthy = config.Unhealthy ?? new();
        _healthy = config.Healthy ?? new();
        _time = context.Services.Time;
        _counts = context.Share("api-breaker/counts", static () => new Counts());
    }

    public static JsonTypeInfo<Config> ConfigType => ApiBreakerJson.Default.Config;

    public static ApiBreaker Create(Config config, PluginContext context) => new(config, context);

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        if (_counts.IsEmpty || _counts.Find(KeyOf(exchange)) is not { } known)
        {
            return default;
        }
        var (failures, since) = known;
        var times = Math.Clamp(failures / _unhealthy.Failures, 1, 30);
        var seconds = Math.Min(1L << times, _config.MaxBreakerSec);
        return since is { } broken && broken + seconds >= Now ? new(Broken(exchange)) : default;
    }

    long Now => _time.GetUtcNow().ToUnixTimeSeconds();

    static string KeyOf(Exchange exchange) => exchange.Host + exchange.Uri;

    Answer Broken(Exchange exchange)
    {
        if (_config.BreakResponseBody is not { } body)
        {
            return Answer.Bare(_config.BreakResponseCode);
        }
        var answer = Answer.Text(_config.BreakResponseCode, body);
        foreach (var (name, template) in _config.BreakResponseHeaders ?? [])
        {
            var value = Template.ExpandHeader(template, exchange);
            answer = HeaderName.Is(name, "Content-Type") ? answer with { ContentType = value } : answer.With(name, value);
        }
        return answer;
    }

    public void Log(Exchange exchange)
    {
        var status = exchange.Upstream.Status;
        if (status == 0)
        {
            return;
        }
        var brokeOff = status < 500 && exchange.Failure is { Source: FailureSource.Upstream };
        if (brokeOff || (_unhealthy.HttpStatuses ?? [500]).Contains(status))
        {
            _counts.Bad(KeyOf(exchange), _unhealthy.Failures, Now);
        }
        else if (!_counts.IsEmpty && exchange.Failure is null && (_healthy.HttpStatuses ?? [200]).Contains(status))
        {
            _counts.Good(KeyOf(exchange), _healthy.Successes);
        }
    }

    /// <summary>Of hosts and paths that have failed. Clients choose the paths, so there is a limit to them: the one that failed longest ago
    /// goes.</summary>
    sealed class Counts
    {
        const int Most = 20_000;

        readonly Lock _lock = new();
        readonly Dictionary<string, LinkedListNode<Entry>> _byKey = [];
        readonly LinkedList<Entry> _latestFirst = new();

        sealed class Entry(string key)
        {
            public string Key => key;

            public int Failures;
            public int Successes;
            public long? BrokenSince;
        }

        public bool IsEmpty => _byKey.Count == 0;

        public (int Failures, long? BrokenSince)? Find(string key)
        {
            lock (_lock)
            {
                return _byKey.TryGetValue(key, out var node) ? (node.Value.Failures, node.Value.BrokenSince) : null;
            }
        }

        public void Bad(string key, int failures, long now)
        {
            lock (_lock)
            {
                if (_byKey.TryGetValue(key, out var node))
                {
                    _latestFirst.Remove(node);
                }
                else
                {
                    if (_byKey.Count >= Most)
                    {
                        _byKey.Remove(_latestFirst.Last!.Value.Key);
                        _latestFirst.RemoveLast();
                    }
                    _byKey[key] = node = new(new(key));
                }
                _latestFirst.AddFirst(node);
                var entry = node.Value;
                entry.Failures++;
                entry.Successes = 0;
                if (entry.Failures % failures == 0)
                {
                    entry.BrokenSince = now;
                }
            }
        }

        public void Good(string key, int successes)
        {
            lock (_lock)
            {
                if (_byKey.TryGetValue(key, out var node) && ++node.Value.Successes >= successes)
                {
                    _byKey.Remove(key);
                    _latestFirst.Remove(node);
                }
            }
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ApiBreaker.Config))]
sealed partial class ApiBreakerJson : JsonSerializerContext;

using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model;
using Sluice.Pipeline;
using Sluice.Plugins.Traffic;
using Sluice.Relay;

namespace Sluice.Plugins.Streaming;

/// <summary>How a route's streams are timed, kept alive, bounded and ended. What it says is done where streams are carried; no phase runs
/// for it.</summary>
internal sealed class Streaming : IPlugin<Streaming, StreamPolicy>, IStreamRule, IAccess, IBeforeProxy, IHeaderFilter, IBodyFilter,
    IEventFilter, IHolds
{
    public static PluginInfo Info { get; } = new(
        Name: "streaming",
        Priority: 999,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "first_byte_timeout": {
                  "type": ["number", "string"],
                  "description": "from the request sent to the response's head, for each node tried; interim responses do not reset it. Default: the `timeout.read` in force"
                },
                "first_event_timeout": {
                  "type": ["number", "string"],
                  "description": "from the response's head to the first unit; where there are no units, to the first byte. Default: off"
                },
                "idle_timeout": {
                  "type": ["number", "string"],
                  "description": "silence of the upstream; any byte counts, its comments and pings too. Default: the `timeout.read` in force"
                },
                "event_idle_timeout": {
                  "type": ["number", "string"],
                  "description": "between two units: ends what is dead behind pings. Default: off"
                },
                "max_duration": {
                  "type": ["number", "string"],
                  "description": "from the request received to the end of its response. Default: off"
                },
                "jitter": {
                  "type": "number",
                  "minimum": 0,
                  "maximum": 0.5,
                  "description": "`max_duration` is drawn from [d·(1−jitter), d], so that many streams do not end at once. Default: 0.1"
                },
                "client_idle_timeout": {
                  "type": ["number", "string"],
                  "description": "silence of the client of a WebSocket or another tunnel (its pongs count), and of a gRPC client that has not ended its request. Default: off"
                },
                "send_timeout": {
                  "type": ["number", "string"],
                  "description": "the client takes nothing of what waits for it. Default: nginx's `send_timeout`"
                },
                "hold": {
                  "type": "string",
                  "enum": ["head", "event"],
                  "description": "`event`: the head is kept until the first unit, so that another node can be tried, or a status say what is wrong. Default: `head`"
                },
                "hold_bytes": {
                  "type": ["integer", "string"],
                  "description": "so much is kept at most. Default: 64k"
                },
                "timeout_status": {
                  "type": "integer",
                  "minimum": 200,
                  "maximum": 599,
                  "description": "status when a limit is reached before the head was sent. Default: 504"
                },
                "heartbeat": {
                  "type": "object",
                  "description": "keeps clients, and what stands between, from giving up on a silent stream; only ever between two events",
                  "properties": {
                    "interval": {
                      "type": ["number", "string"],
                      "description": "silence towards the client after which one is sent, 1 s to 1 h; 0 = off"
                    },
                    "comment": { "type": "string", "default": "ping", "description": "its text, one line, 64 bytes at most" },
                    "event": {
                      "type": "object",
                      "description": "an event instead of the comment, for clients that watch for events",
                      "properties": {
                        "name": { "type": "string", "minLength": 1 },
                        "data": { "type": "string", "default": "" }
                      },
                      "required": ["name"],
                      "additionalProperties": false
                    },
                    "ndjson": { "description": "for streams of lines: `off`, `newline`, or a JSON value that is sent as a line. Default: off" }
                  },
                  "additionalProperties": false
                },
                "early_head": {
                  "type": "object",
                  "description": "answers a client of event streams before the upstream does",
                  "properties": {
                    "after": { "type": ["number", "string"], "description": "so long after the request; 0 = off" }
                  },
                  "additionalProperties": false
                },
                "reconnect": {
                  "type": "object",
                  "description": "when clients of event streams come back",
                  "properties": {
                    "delay": { "type": ["number", "string"], "description": "the least `retry` that they are told. Default: 3" },
                    "jitter": { "type": "number", "minimum": 0, "default": 0.5, "description": "`retry` is drawn from [delay, delay·(1+jitter)]" },
                    "start": { "type": "boolean", "default": true, "description": "each stream begins with a block `retry: N`" },
                    "on": {
                      "description": "statuses, of the gateway or the upstream, in whose place an EventSource is told to come back; `auto`: 429, 500, 502, 503, 504. 401, 403, 404 and 410 stay what they are",
                      "anyOf": [
                        { "type": "string", "enum": ["auto"] },
                        { "type": "array", "items": { "type": "integer", "minimum": 400, "maximum": 599 } }
                      ]
                    }
                  },
                  "additionalProperties": false
                },
                "ending": {
                  "type": "object",
                  "description": "how a stream ends that the gateway ends, or that broke off",
                  "properties": {
                    "mode": {
                      "type": "string",
                      "enum": ["dialect", "abort", "clean"],
                      "default": "dialect",
                      "description": "`dialect`: last words, then a proper end, where both can be said, else an abort; `abort`: as nginx; `clean`: a proper end without words"
                    },
                    "dialect": { "type": "string", "enum": ["plain"], "default": "plain" },
                    "error_event": { "type": "string", "minLength": 1, "default": "error", "description": "the event's name when something went wrong" },
                    "end_event": { "type": "string", "minLength": 1, "default": "end", "description": "the event's name otherwise" },
                    "ndjson": { "type": "string", "enum": ["abort", "line"], "default": "abort", "description": "`line`: streams of lines get `{\"error\":…}` as their last" }
                  },
                  "additionalProperties": false
                },
                "max_events": { "type": "integer", "minimum": 1, "description": "an event stream, NDJSON or a stream of gRPC is ended properly after so many units" },
                "max_bytes": { "type": ["integer", "string"], "description": "streams that have units are ended properly after the unit with which they reach so many bytes of payload; other bodies are cut there, and the connection with them" },
                "rate": {
                  "type": "object",
                  "description": "how fast units and bytes may pass",
                  "properties": {
                    "events_per_second": { "type": ["number", "string"], "description": "more than 0; a number, or a text with variables" },
                    "bytes_per_second": { "type": ["number", "string"], "description": "more than 0; a number, or a text with variables" },
                    "burst_events": { "type": "integer", "minimum": 1, "description": "how many at once. Default: those of one second, at least 1" },
                    "burst_bytes": { "type": ["integer", "string"], "description": "how many at once. Default: 16k" },
                    "action": { "type": "string", "enum": ["throttle", "end"], "default": "throttle", "description": "`throttle`: the upstream is read no faster, and its silence meanwhile is not held against it; `end`: the stream ends, `rate`" }
                  },
                  "additionalProperties": false
                },
                "slow_consumer": {
                  "type": "object",
                  "description": "what happens to a client that is slower than its stream",
                  "properties": {
                    "policy": {
                      "type": "string",
                      "enum": ["block", "drop_oldest", "latest_per_key", "disconnect"],
                      "default": "block",
                      "description": "for event streams and NDJSON. `block`: the upstream waits; with the others it is read at its own pace, and whole units wait in a queue: `drop_oldest` drops the oldest when it is full, with `latest_per_key` a newer unit takes the place of a waiting one with the same `key`, `disconnect` ends the stream"
                    },
                    "key": { "type": "string", "description": "`event`, `id`, or `data.` and a JSON path: a newer unit takes the place of a waiting one with the same" },
                    "queue_bytes": { "type": ["integer", "string"], "description": "16k to 64m; of all streams together `sluice.streams.queue_memory`. Default: 256k" },
                    "queue_events": { "type": "integer", "minimum": 1, "maximum": 65536 },
                    "max_lag": { "type": ["number", "string"], "description": "how old the oldest waiting unit may be" },
                    "announce": {
                      "type": "string",
                      "enum": ["comment", "event", "none"],
                      "description": "how a client is told what it missed, before the next unit: `: dropped 17`, or `event: gap` with `{\"reason\":\"slow_consumer\",\"dropped\":17,\"from\":\"41\",\"to\":\"57\"}` (ids as far as units had some; for NDJSON a line `{\"gap\":…}`). Default: `comment`; `event` with `sse-resume`"
                    }
                  },
                  "additionalProperties": false
                },
                "concurrent": {
                  "type": "array",
                  "minItems": 1,
                  "description": "how many streams at a time; a request takes a place of each entry or of none, and gives them back when its response is no stream",
                  "items": {
                    "type": "object",
                    "properties": {
                      "key": { "type": "string", "minLength": 1, "description": "a text with variables, `$consumer_name`: those with the same are counted together; without a value for its variables a request is not counted" },
                      "limit": { "type": ["integer", "string"], "description": "a number from 1, or a text with variables" },
                      "on_full": {
                        "type": "string",
                        "enum": ["reject", "evict_oldest", "evict_idle"],
                        "default": "reject",
                        "description": "who makes room: the new one is refused, or the oldest or the longest silent one is ended"
                      },
                      "rejected_code": { "type": "integer", "minimum": 200, "maximum": 599, "default": 429 },
                      "rejected_msg": { "type": "string", "minLength": 1 },
                      "policy": { "type": "string", "enum": ["local", "redis"], "default": "local", "description": "where it is counted: in memory, or in a [Redis that gateways share](../concepts/shared-limits.md)" },
                      "allow_degradation": { "type": "boolean", "default": false, "description": "when `limit` is no number, or Redis cannot be asked, the request goes on; otherwise it is answered 500" },
                      {{RedisSettings.Properties}}
                    },
                    "required": ["key", "limit"],
                    "additionalProperties": false
                  }
                },
                "lease": {
                  "type": "object",
                  "description": "what becomes of streams whose right to be there is gone",
                  "properties": {
                    "on_revoke": { "type": "string", "enum": ["end", "ignore"], "default": "end", "description": "the consumer, its credential or group is gone, or the key another" },
                    "on_change": { "type": "string", "enum": ["readmit", "keep", "end"], "default": "readmit", "description": "the route is another" },
                    "spread": { "type": ["number", "string"], "description": "ends of many streams by one change are spread over so long. Default: 5" }
                  },
                  "additionalProperties": false
                }
              },
              "additionalProperties": false,
              "encrypt_fields": ["concurrent.redis_password"]
            }
            """,
        Summary: """
            How the streams of a route are timed, kept alive and ended. Sluice's own plugin. A property that it leaves out comes whole from `sluice.streams.defaults` in
            `conf/config.yaml`, where the same properties can stand. Times are seconds as a number, or texts like `"500ms"`, `"15s"`, `"5m"`, `"2h"`, `"1d"`; 0 is off. Sizes
            are bytes, or `"64k"`, `"8m"`, `"1g"`. What a *unit* is, and what clients see of an ending, is in [streams](../concepts/streams.md).
            """)
    {
        Example = """
            ```json
            {"streaming": {"first_byte_timeout": "5s", "idle_timeout": "2m", "max_duration": "1h", "heartbeat": {"interval": 15}}}
            ```

            A node that has not begun to answer within 5 seconds is given up, a stream that was silent for 2 minutes is ended, and each after an hour at the latest.
            """,
        TakesPart = TakesPart,
        Warnings = Warnings,
    };

    public static JsonTypeInfo<StreamPolicy> ConfigType => StreamPolicyJson.Policy;

    readonly ConcurrentStreams? _concurrent;
    readonly StreamBudget? _budget;

    Streaming(StreamPolicy config, PluginContext context)
    {
        Streams = config.Over(context.StreamDefaults) with { IsOfPlugin = true };
        _concurrent = config.Concurrent is { } entries ? new(entries, context) : null;
        _budget = config.MaxEvents is null && config.MaxBytes is null ? null
            : new(config.MaxEvents ?? long.MaxValue, config.MaxBytes?.Bytes ?? long.MaxValue);
    }

    public static Streaming Create(StreamPolicy config, PluginContext context) =>
        Refusal(config) is { } error ? throw new ConfigException(error) : new(config, context);

    public StreamPolicy Streams { get; }

    static bool TakesPart(JsonObject config, Phase phase)
    {
        if (phase == Phase.StreamRule)
        {
            return true;
        }
        if (phase == Phase.Access || phase == Phase.HeaderFilter)
        {
            return config.ContainsKey("concurrent");
        }
        var hasBudget = config.ContainsKey("max_events") || config.ContainsKey("max_bytes");
        return hasBudget || (phase == Phase.BeforeProxy && (config.ContainsKey("slow_consumer") || config.ContainsKey("rate")));
    }

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        // a script may have sent the request here a second time
        Release(exchange);
        return _concurrent!.EnterAsync(exchange, this);
    }

    /// <summary>Units can be counted in what is not compressed.</summary>
    public ValueTask<Answer?> BeforeProxyAsync(Exchange exchange)
    {
        exchange.Request.Headers.Remove("Accept-Encoding");
        return default;
    }

    public IEventStep? OpenEvents(Exchange exchange) => _budget?.OpenEvents(exchange);

    public IPieceFilter? OpenBody(Exchange exchange) => _budget?.OpenBody(exchange);

    /// <summary>Who is no stream needs no place.</summary>
    public void FilterHeaders(Exchange exchange)
    {
        if (exchange.StreamKind is null)
        {
            Release(exchange);
        }
    }

    public void Release(Exchange exchange)
    {
        if (exchange.Items.Remove(this, out var places))
        {
            ConcurrentStreams.Leave((IReadOnlyList<ConcurrentStreams.Place>)places);
        }
    }

    static string? Refusal(StreamPolicy config) => NotThereYet(config)
        ?? (config is { HoldBytes: not null, Hold: not "event" } ? "hold_bytes has no meaning without hold \"event\"" : null)
        ?? (config.Concurrent ?? []).Select(ConcurrentStreams.Mistake).FirstOrDefault(static error => error is not null)
        ?? (config.MaxBytes is { Bytes: < 1 } ? "max_bytes must be at least 1" : null)
        ?? Refusal(config.Heartbeat)
        ?? Refusal(config.SlowConsumer)
        ?? Pacing.Mistake("events_per_second", config.Rate?.EventsPerSecond)
        ?? Pacing.Mistake("bytes_per_second", config.Rate?.BytesPerSecond)
        ?? (config.Rate is { EventsPerSecond: null, BytesPerSecond: null } ? "rate needs events_per_second or bytes_per_second" : null)
        ?? (config.Rate is { EventsPerSecond: null, BurstEvents: not null }
            ? "rate.burst_events has no meaning without rate.events_per_second" : null)
        ?? (config.Rate is { BytesPerSecond: null, BurstBytes: not null } ? "rate.burst_bytes has no meaning without rate.bytes_per_second"
            : null)
        ?? (config.Rate is { BurstBytes.Bytes: < 1 } ? "rate.burst_bytes must be at least 1" : null)
        ?? (config.EarlyHead?.After is { Time.TotalSeconds: > 600 } ? "early_head.after must be 0 to 600 s" : null)
        ?? (config.Ending is { } ending && (IsManyLines(ending.ErrorEvent) || IsManyLines(ending.EndEvent))
            ? "ending: names of events must be one line" : null);

    static string? Refusal(StreamPolicy.HeartbeatPolicy? heartbeat) => heartbeat switch
    {
        null => null,
        { Interval: { IsOff: false, Time.TotalSeconds: < 1 or > 3600 } } => "heartbeat.interval must be 1 s to 1 h, or 0",
        _ when IsManyLines(heartbeat.Comment) => "heartbeat.comment must be one line",
        _ when Encoding.UTF8.GetByteCount(heartbeat.Comment) > 64 => "heartbeat.comment must be 64 bytes at most",
        { Event: { } beat } when IsManyLines(beat.Name) || IsManyLines(beat.Data) => "heartbeat.event must be one line each",
        _ => null,
    };

    static string? Refusal(StreamPolicy.SlowConsumerPolicy? slow) => slow switch
    {
        null => null,
        { Policy: "latest_per_key", Key: null } => "slow_consumer.key is required when policy is latest_per_key",
        { Policy: not "latest_per_key", Key: not null } => $"slow_consumer.key has no meaning for policy \"{slow.Policy}\"",
        { Key: not null, ParsedKey: null } => $"slow_consumer.key \"{slow.Key}\" is none of \"event\", \"id\", or \"data.\" and a path",
        { QueueBytes: { Bytes: < 16 << 10 or > 64 << 20 } } => "slow_consumer.queue_bytes must be 16k to 64m",
        _ => null,
    };

    static bool IsManyLines(string text) => text.AsSpan().ContainsAny('\r', '\n', '\0');

    /// <summary>What is in the schema, and not done by this version, is refused: nobody shall rely on it.</summary>
    static string? NotThereYet(StreamPolicy config)
    {
        (string Name, bool IsSet)[] missing =
        [
            ("early_head", config.EarlyHead is not null),
        ];
        return Array.Find(missing, static one => one.IsSet) is { Name: { } name } ? $"{name} is not there yet in this version" : null;
    }

    static readonly string[] s_timeouts =
        ["first_byte_timeout", "first_event_timeout", "idle_timeout", "event_idle_timeout", "max_duration", "client_idle_timeout",
            "send_timeout"];

    /// <summary>What is accepted, and cannot be meant.</summary>
    static IEnumerable<string> Warnings(JsonObject config, JsonObject resource)
    {
        foreach (var name in s_timeouts)
        {
            if (config[name] is JsonValue value && value.GetValueKind() == JsonValueKind.Number && Number(value) is >= 3600 and var seconds
                && seconds % 1000 == 0)
            {
                yield return string.Create(CultureInfo.InvariantCulture,
                    $"plugins.streaming.{name}: {seconds} seconds are {Spelled(seconds)}; for milliseconds write \"{seconds}ms\"");
            }
        }
        var policy = StreamPolicy.Parse(config);
        if (policy.Hold == "event" && resource["enable_websocket"]?.ToString() == "true")
        {
            yield return "hold \"event\" has no unit to wait for on a route with enable_websocket";
        }
        if (policy is { FirstEventTimeout: { IsOff: false, Time.TotalSeconds: < 60 } } && resource["plugins"] is JsonObject plugins
            && plugins.ContainsKey("ai-proxy"))
        {
            yield return "first_event_timeout below 60 s cuts models that think";
        }
        if (policy is { MaxDuration: { IsOff: false } longest, FirstByteTimeout: { IsOff: false } first } && longest.Time < first.Time)
        {
            yield return string.Create(CultureInfo.InvariantCulture,
                $"max_duration ({longest.Time.TotalSeconds}s) ends before first_byte_timeout ({first.Time.TotalSeconds}s) can");
        }
        if (policy.TimeoutStatus == 204)
        {
            yield return "timeout_status 204 tells an EventSource never to come back: clients that accept text/event-stream get 504 instead";
        }
    }

    static double Number(JsonValue value) =>
        value.TryGetValue(out double number) ? number : double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture);

    /// <summary><c>16 h 40 min</c>.</summary>
    static string Spelled(double seconds)
    {
        var time = TimeSpan.FromSeconds(seconds);
        (int Count, string Unit)[] parts = [(time.Days, "d"), (time.Hours, "h"), (time.Minutes, "min"), (time.Seconds, "s")];
        return string.Join(' ', parts
            .Where(static part => part.Count > 0).Select(static part => $"{part.Count} {part.Unit}"));
    }
}

using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Sluice.Model;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Relay.Topics;

namespace Sluice.Plugins.Streaming;

/// <summary>Keeps a tail of each event stream, so that a client whose connection broke goes on where it was.</summary>
internal sealed class SseResume : IPlugin<SseResume, SseResume.Config>, IAccess, IHeaderFilter, INeedsRequestBody
{
    public static PluginInfo Info { get; } = new(
        Name: "sse-resume",
        Priority: 1075,
        Schema: """
            {
              "type": "object",
              "properties": {
                "ids": {
                  "type": "string",
                  "enum": ["gateway", "upstream"],
                  "default": "gateway",
                  "description": "`gateway`: every event gets an id of the gateway's, the upstream's is replaced; `upstream`: ids stay as they are, and events without one are no points to come back to"
                },
                "store": {
                  "type": "string",
                  "enum": ["memory", "redis", "sqlite"],
                  "default": "memory",
                  "description": "where tails are kept; this version knows `memory`"
                },
                "tail": {
                  "type": "object",
                  "description": "what is kept of a stream, whichever is reached first",
                  "properties": {
                    "events": { "type": "integer", "minimum": 1, "maximum": 100000, "default": 10000 },
                    "bytes": { "type": ["integer", "string"], "default": "8m", "description": "4k to 256m" },
                    "age": { "type": ["number", "string"], "default": 300 }
                  },
                  "additionalProperties": false
                },
                "detach": { "type": ["number", "string"], "default": 30, "description": "the upstream runs on so long without a client, 1 hour at most; 0: it ends with the last client" },
                "keep": { "type": ["number", "string"], "default": 300, "description": "a finished stream can be fetched so long" },
                "bind": {
                  "type": "string",
                  "enum": ["consumer", "ip"],
                  "default": "consumer",
                  "description": "whose stream it is: the consumer's, else whose credential it was asked for with, else that of whoever knows its id; `ip`: and only from the same address"
                },
                "max_subscribers": { "type": "integer", "minimum": 1, "maximum": 100000, "default": 16, "description": "clients of one stream at a time; a further one takes the place of the oldest" },
                "prime": {
                  "type": "string",
                  "enum": ["none", "id", "event"],
                  "default": "none",
                  "description": "first block of a new stream, so that it can be come back to before its first event: an `id` alone, or an `event` with empty data"
                },
                "last_event_id": {
                  "type": "array",
                  "items": { "type": "string", "minLength": 1 },
                  "default": ["last_event_id", "lastEventId"],
                  "description": "arguments of the query in which the position may stand, besides the header `Last-Event-ID`"
                },
                "on_gap": {
                  "type": "string",
                  "enum": ["event", "end", "status"],
                  "default": "event",
                  "description": "what a client gets of whose events some are no longer kept: `event: gap` and what there is, `event: gap` and the end, or 410"
                },
                "join": { "type": "boolean", "default": true, "description": "a request with the `Idempotency-Key` of a running or kept stream gets that stream from its first event" }
              },
              "additionalProperties": false
            }
            """,
        Summary: """
            Lets event streams survive their connections. The gateway numbers the events, keeps the newest, lets the upstream run on for a while when the client has gone, and
            goes on behind `Last-Event-ID` when it comes back: for `EventSource`, which does so by itself, and for streams that were asked for with POST. A stream's id is told
            in `X-Sluice-Stream-Id`; it is a secret like a session cookie. `DELETE` on the stream's path with this header (or `?stream_id=`) stops the upstream, which a closed
            connection does not do before `detach` has passed. Body filters (`sse`, scripts) see a stream once, whoever reads it. Requests whose body is over 16 MiB are refused,
            and no node is offered compression. See [streams](../concepts/streams-resume.md).
            """)
    {
        Example = """
            ```json
            {"sse-resume": {"detach": 60, "tail": {"events": 5000, "age": "10m"}}}
            ```

            `curl -N -H 'Last-Event-ID: s_g….41'` gets event 42 and all that follow, as long as they are kept.
            """,
    };

    public sealed record Config(
        string Ids = "gateway", string Store = "memory", TailConfig? Tail = null, Duration? Detach = null, Duration? Keep = null,
        string Bind = "consumer",
        int MaxSubscribers = 16, string Prime = "none", string[]? LastEventId = null, string OnGap = "event", bool Join = true);

    public sealed record TailConfig(int Events = 10000, ByteSize? Bytes = null, Duration? Age = null);

    readonly Config _config;
    readonly TopicOptions _options;
    readonly TopicStore _topics;
    readonly string[] _names;

    SseResume(Config config, PluginContext context)
    {
        _config = config;
        _topics = context.Services.Topics;
        _topics.IsUsed = true;
        _names = config.LastEventId ?? ["last_event_id", "lastEventId"];
        var tail = config.Tail ?? new();
        _options = new(
            config.Ids == "gateway", new(tail.Events, tail.Bytes?.Bytes ?? 8 << 20, tail.Age?.Time ?? TimeSpan.FromSeconds(300)),
            config.Detach?.Time ?? TimeSpan.FromSeconds(30), config.Keep?.Time ?? TimeSpan.FromSeconds(300), config.MaxSubscribers);
    }

    public static JsonTypeInfo<Config> ConfigType => SseResumeJson.Default.Config;

    public static SseResume Create(Config config, PluginContext context) =>
        Refusal(config) is { } error ? throw new ConfigException(error) : new(config, context);

    static string? Refusal(Config config) =>
        config.Store != "memory" ? $"store \"{config.Store}\" is not there yet: use \"memory\""
        : config.Tail?.Bytes is { Bytes: < 4096 or > 256 << 20 } ? "tail.bytes must be 4k to 256m"
        : config.Tail?.Age is { IsOff: true } ? "tail.age must be above 0"
        : config.Detach is { Time.TotalSeconds: > 3600 } ? "detach must be 0 to 1h"
        : config.Keep is { Time.TotalDays: > 1 } ? "keep must be 0 to 1d" : null;

    /// <summary>Of a request's body, which is kept to be sent without the client.</summary>
    public int MaxRequestBodyBytes => 16 * 1024 * 1024;

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        if (!HttpMethods.IsHead(exchange.Request.Method) && !HttpMethods.IsOptions(exchange.Request.Method)
            && !GrpcStatus.IsAsked(exchange.Request)
            && exchange.ExtendedConnect is null && exchange.Request.Headers.Upgrade.Count == 0 && exchange.Seat is not null)
        {
            exchange.Through = OpenAsync;
        }
        return default;
    }

    /// <summary>Where <c>cors</c> says what scripts may read, the stream's id is among it.</summary>
    public void FilterHeaders(Exchange exchange)
    {
        var headers = exchange.Response.Headers;
        if (headers.ContainsKey(IdHeader) && headers.AccessControlExposeHeaders is { Count: > 0 } exposed && exposed != "*")
        {
            headers.AccessControlExposeHeaders = $"{exposed}, {IdHeader}";
        }
    }

    const string IdHeader = "X-Sluice-Stream-Id";

    /// <summary>What a request is in the eyes of streams.</summary>
    readonly record struct Asked(string Route, string? Owner, string Peer, string Path, string Args);

    async ValueTask<Opened> OpenAsync(Exchange exchange)
    {
        var position = PositionOf(exchange);
        var asked = AskedBy(exchange);
        if (HttpMethods.IsDelete(exchange.Request.Method) && StopId(exchange) is { } stop)
        {
            return new(null, Stop(asked, stop));
        }
        if (position is null)
        {
            return await NewAsync(exchange, asked, default);
        }
        if (TryParse(position, out var id, out var number))
        {
            // it is ours, and a secret: the upstream is not told
            exchange.Request.Headers.Remove("Last-Event-ID");
            return await ResumeAsync(exchange, asked, id, number);
        }
        if (!_options.GivesIds)
        {
            if (_topics.FindBySourceId(asked.Route, asked.Peer, asked.Path, asked.Args, position) is var (topic, after)
                && Attach(exchange, topic, after) is { } opened)
            {
                return opened;
            }
            exchange.Request.Headers["Last-Event-ID"] = position;
            Count(exchange, "upstream");
        }
        return await NewAsync(exchange, asked, default);
    }

    // -- 1. Who asks for what

    Asked AskedBy(Exchange exchange)
    {
        var address = exchange.RemoteAddress.ToString();
        var owner = exchange.Consumer is { } consumer ? $"consumer {consumer.Username}" : Credential(exchange.Request.Headers);
        if (_config.Bind == "ip")
        {
            owner = $"{owner}@{address}";
        }
        // where a name can be guessed (the upstream's ids, Idempotency-Key) nobody without an owner is let in from elsewhere
        var peer = owner ?? $"{address} {Hash(Encoding.UTF8.GetBytes(exchange.Request.Headers.Cookie.ToString()))}";
        var target = RequestTarget.OriginForm(exchange.RawTarget);
        var question = target.IndexOf('?', StringComparison.Ordinal);
        return new(exchange.Route!.Id, owner, peer, question < 0 ? target : target[..question], exchange.Args);
    }

    static string? Credential(IHeaderDictionary headers)
    {
        string[] said = [headers.Authorization.ToString(), headers["X-API-KEY"].ToString(), headers["apikey"].ToString()];
        return said.All(static text => text.Length == 0) ? null : "credential " + Hash(Encoding.UTF8.GetBytes(string.Join('\n', said)));
    }

    static string Hash(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));

    /// <summary>The position in the header, else in the query; there it is taken out of what the upstream is sent.</summary>
    string? PositionOf(Exchange exchange)
    {
        string? position = exchange.Request.Headers["Last-Event-ID"] is { Count: 1 } said ? said.ToString() : null;
        foreach (var name in _names)
        {
            if (QueryArguments.Find(exchange.Args, name) is not { } value)
            {
                continue;
            }
            TakeOut(exchange, name);
            position = string.IsNullOrEmpty(position) ? value : position;
        }
        return position is { Length: > 0 and <= 1024 } && Encoding.UTF8.GetByteCount(position) <= 1024 ? position : null;
    }

    static void TakeOut(Exchange exchange, string name)
    {
        exchange.SetArgs(QueryArguments.Without(exchange.Args, name));
        if (exchange.UpstreamUri is { } uri && uri.IndexOf('?', StringComparison.Ordinal) is >= 0 and var question)
        {
            var args = QueryArguments.Without(uri[(question + 1)..], name);
            exchange.UpstreamUri = args.Length == 0 ? uri[..question] : $"{uri[..question]}?{args}";
        }
    }

    static bool TryParse(string position, out string id, out long number)
    {
        (id, number) = ("", 0);
        return position.Length is > 26 and < 26 + 19 && position[25] == '.' && TopicStore.IsId(id = position[..25])
            && long.TryParse(position.AsSpan(26), NumberStyles.None, CultureInfo.InvariantCulture, out number);
    }

    static string? StopId(Exchange exchange)
    {
        if (exchange.Request.Headers[IdHeader] is { Count: 1 } said)
        {
            return said.ToString();
        }
        var id = QueryArguments.Find(exchange.Args, "stream_id");
        return string.IsNullOrEmpty(id) ? null : id;
    }

    Topic? Mine(Asked asked, string id) =>
        _topics.Find(id) is { } topic && topic.Key.Route == asked.Route && topic.Key.Path == asked.Path
        && (topic.Key.Owner is null || topic.Key.Owner == asked.Owner)
            ? topic : null;

    static bool IsOfGet(string id) => id.StartsWith("s_g", StringComparison.Ordinal);

    // -- 2. What it gets

    Answer Stop(Asked asked, string id)
    {
        if (Mine(asked, id) is not { } topic)
        {
            return NoSuchStream;
        }
        topic.Stop(TopicEnd.Cancelled);
        return new(204);
    }

    static Answer NoSuchStream { get; } = Answer.ErrorMessage(404, "no such stream");

    async ValueTask<Opened> ResumeAsync(Exchange exchange, Asked asked, string id, long number)
    {
        if (Mine(asked, id) is { } topic)
        {
            if (Attach(exchange, topic, number) is { } opened)
            {
                return opened;
            }
            if (topic.Look(number) is { IsAhead: false, Last: var last, SourceId: { } source } && last == number)
            {
                // it broke off after the last event that was seen: the upstream may know where that was
                exchange.Request.Headers["Last-Event-ID"] = source;
            }
            Count(exchange, "unknown");
        }
        else
        {
            Count(exchange, _topics.Find(id) is null ? "unknown" : "foreign");
        }
        return IsOfGet(id) ? await NewAsync(exchange, asked, EventBytes.Gap("unknown")) : new(null, NoSuchStream);
    }

    /// <summary>What a stream has behind a position; null: it was never given to anybody, or there is no going on in this stream.</summary>
    Opened? Attach(Exchange exchange, Topic topic, long after)
    {
        var at = topic.Look(after);
        if (at.IsAhead)
        {
            return null;
        }
        if (after == at.Last && at.End is { } end)
        {
            if (end.IsFinal)
            {
                Count(exchange, "tail");
                var isEventSource = HttpMethods.IsGet(exchange.Request.Method)
                    && exchange.Request.Headers.Accept.ToString().Contains("text/event-stream", StringComparison.OrdinalIgnoreCase);
                return new(null,
                    (isEventSource ? new Answer(204) : new Answer(200, default, "text/event-stream")).With(IdHeader, topic.Id));
            }
            if (IsOfGet(topic.Id))
            {
                return null;
            }
            exchange.Failure ??= new(FailureSource.Gateway, end.Reason, end.Detail, end.Status);
            return new(null, Answer.OwnError(end.Status, StatusText.WithCode(end.Status)));
        }
        ReadOnlyMemory<byte> lead = default;
        if (after + 1 < at.First)
        {
            lead = EventBytes.Gap("expired", after + 1, at.First - 1);
            if (_config.OnGap == "status" || !IsOfGet(topic.Id))
            {
                Count(exchange, "expired");
                return new(null, Answer.ErrorMessage(410, "event is no longer kept"));
            }
            if (_config.OnGap == "end")
            {
                Count(exchange, "gap");
                return new(null, new Answer(200, lead, "text/event-stream").With(IdHeader, topic.Id));
            }
        }
        if (topic.Subscribe(after, lead, exchange.Loop) is not { } subscriber)
        {
            return null;
        }
        var tail = at.Last - Math.Max(after, at.First - 1);
        Count(exchange, !lead.IsEmpty ? "gap" : tail > 0 ? "tail" : "live");
        exchange.ResumedFrom = after.ToString(CultureInfo.InvariantCulture);
        return new(new TopicSource(exchange, topic, subscriber, string.Create(CultureInfo.InvariantCulture, $"from={after}; tail={tail}")),
            null);
    }

    static void Count(Exchange exchange, string result) => exchange.Services.Metrics.StreamResumed(exchange.Route!.Id, result);

    // -- 3. A stream begins

    /// <param name="lead">What its client is told first.</param>
    async ValueTask<Opened> NewAsync(Exchange exchange, Asked asked, ReadOnlyMemory<byte> lead)
    {
        var body = await exchange.Body.ReadAsync(MaxRequestBodyBytes);
        var name = _config.Join && exchange.Request.Headers["Idempotency-Key"] is { Count: 1 } said
            && said.ToString() is { Length: > 0 and <= 255 } text ? text : null;
        var hash = name is null ? null : Hash(body.Span);
        var begins = false;
        if (name is not null && lead.IsEmpty)
        {
            // who comes while the first of them waits for its upstream waits too
            Topic? running;
            while ((running = _topics.FindByKey(asked.Route, asked.Peer, Named(asked, name))) is null && !begins)
            {
                if (!(begins = _topics.TryBegin(KeyOf(asked, name), out var begun)))
                {
                    await begun.WaitAsync(exchange.ClientGone);
                    if (exchange.Loop is { IsCurrent: false } loop)
                    {
                        await loop.SwitchTo();
                    }
                }
            }
            if (running is not null)
            {
                if (begins)
                {
                    _topics.Begun(KeyOf(asked, name));
                }
                return running.Key.BodyHash != hash ? new(null, Answer.ErrorMessage(422, "Idempotency-Key was used with another body"))
                    : Attach(exchange, running, 0) ?? new(null, NoSuchStream);
            }
        }
        try
        {
            var key = new TopicKey(asked.Route, asked.Owner, asked.Peer, asked.Path, asked.Args, name is null ? null : Named(asked, name),
                hash);
            var isGet = HttpMethods.IsGet(exchange.Request.Method);
            var (topic, subscriber, source, answer) = await DetachedRequest.AskAsync(
                exchange, body, _ => _topics.Open(TopicStore.NewId(isGet), key, _options),
                topic => topic.Subscribe(0, Lead(topic, lead), exchange.Loop)!,
                outlives: name is not null && _options.Detach > TimeSpan.Zero);
            return topic is null ? new(source, answer) : new(new TopicSource(exchange, topic, subscriber!, null), null);
        }
        finally
        {
            if (begins)
            {
                _topics.Begun(KeyOf(asked, name!));
            }
        }
    }

    /// <summary>The same key on another path is another one.</summary>
    static string Named(Asked asked, string key) => $"{asked.Path}?{asked.Args} {key}";

    static string KeyOf(Asked asked, string key) => $"{asked.Route}\n{asked.Peer}\n{Named(asked, key)}";

    ReadOnlyMemory<byte> Lead(Topic topic, ReadOnlyMemory<byte> lead)
    {
        if (_config.Prime == "none")
        {
            return lead;
        }
        var prime = EventBytes.Prime(topic.Id, withMessage: _config.Prime == "event");
        return lead.IsEmpty ? prime : (byte[])[.. lead.Span, .. prime];
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(SseResume.Config))]
sealed partial class SseResumeJson : JsonSerializerContext;

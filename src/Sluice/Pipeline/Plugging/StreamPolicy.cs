using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Sluice.Model;
using Sluice.Relay.Queues;

namespace Sluice.Pipeline;

/// <summary>
/// How streams are timed, kept alive, bounded and ended: the configuration of the plugin <c>streaming</c> and of
/// <c>sluice.streams.defaults</c>. A property that is
/// null was not said.
/// </summary>
internal sealed record StreamPolicy(
    Duration? FirstByteTimeout = null,
    Duration? FirstEventTimeout = null,
    Duration? IdleTimeout = null,
    Duration? EventIdleTimeout = null,
    Duration? MaxDuration = null,
    double? Jitter = null,
    Duration? ClientIdleTimeout = null,
    Duration? SendTimeout = null,
    string? Hold = null,
    ByteSize? HoldBytes = null,
    int? TimeoutStatus = null,
    StreamPolicy.HeartbeatPolicy? Heartbeat = null,
    StreamPolicy.EarlyHeadPolicy? EarlyHead = null,
    StreamPolicy.ReconnectPolicy? Reconnect = null,
    StreamPolicy.EndingPolicy? Ending = null,
    long? MaxEvents = null,
    ByteSize? MaxBytes = null,
    StreamPolicy.RatePolicy? Rate = null,
    StreamPolicy.SlowConsumerPolicy? SlowConsumer = null,
    StreamPolicy.LeasePolicy? Lease = null,
    StreamPolicy.ConcurrentPolicy[]? Concurrent = null)
{
    /// <param name="Limit">A number, or a text with variables.</param>
    public sealed record ConcurrentPolicy(
        string Key, JsonNode Limit, string OnFull = "reject", int RejectedCode = 429, string? RejectedMsg = null, string Policy = "local",
        bool AllowDegradation = false,
        string? RedisHost = null);

    public sealed record HeartbeatPolicy(Duration? Interval = null, string Comment = "ping", HeartbeatEvent? Event = null,
        JsonElement? Ndjson = null)
    {
        byte[]? _sse, _line;

        /// <summary>What is sent to streams of a kind; null: nothing.</summary>
        internal byte[]? Bytes(StreamKind kind) => kind switch
        {
            StreamKind.Sse =>
                _sse ??= Encoding.UTF8.GetBytes(Event is { } beat ? $"event: {beat.Name}\ndata: {beat.Data}\n\n" : $": {Comment}\n\n"),
            StreamKind.Ndjson when Ndjson is { } line && (line.ValueKind != JsonValueKind.String || line.GetString() != "off") =>
                _line ??= Encoding.UTF8.GetBytes(
                    (line.ValueKind == JsonValueKind.String && line.GetString() == "newline" ? "" : line.GetRawText()) + "\n"),
            _ => null,
        };
    }

    public sealed record HeartbeatEvent(string Name, string Data = "");

    public sealed record EarlyHeadPolicy(Duration? After = null);

    /// <param name="On">Statuses, or <c>auto</c>.</param>
    public sealed record ReconnectPolicy(Duration? Delay = null, double Jitter = 0.5, bool Start = true, JsonElement? On = null)
    {
        const double DefaultSeconds = 3;

        /// <summary>Milliseconds after which a client is to come back.</summary>
        internal long Draw(TimeSpan least = default)
        {
            var seconds = Math.Max(Delay?.Time.TotalSeconds ?? DefaultSeconds, least.TotalSeconds);
            return (long)(seconds * 1000 * (1 + (Jitter * Random.Shared.NextDouble())));
        }
    }

    public sealed record EndingPolicy(string Mode = "dialect", string Dialect = "plain", string ErrorEvent = "error",
        string EndEvent = "end", string Ndjson = "abort");

    public sealed record RatePolicy(
        JsonElement? EventsPerSecond = null, JsonElement? BytesPerSecond = null, int? BurstEvents = null, ByteSize? BurstBytes = null,
        string Action = "throttle");

    public sealed record SlowConsumerPolicy(
        string Policy = "block", string? Key = null, ByteSize? QueueBytes = null, int? QueueEvents = null, Duration? MaxLag = null,
        string? Announce = null)
    {
        internal UnitKey? ParsedKey => Key is null ? null : field ??= UnitKey.Parse(Key);
    }

    public sealed record LeasePolicy(string OnRevoke = "end", string OnChange = "readmit", Duration? Spread = null);

    /// <summary>This, with every property that it leaves out taken whole from the defaults.</summary>
    public StreamPolicy Over(StreamPolicy? defaults) => defaults is null ? this : new(
        FirstByteTimeout ?? defaults.FirstByteTimeout,
        FirstEventTimeout ?? defaults.FirstEventTimeout,
        IdleTimeout ?? defaults.IdleTimeout,
        EventIdleTimeout ?? defaults.EventIdleTimeout,
        MaxDuration ?? defaults.MaxDuration,
        Jitter ?? defaults.Jitter,
        ClientIdleTimeout ?? defaults.ClientIdleTimeout,
        SendTimeout ?? defaults.SendTimeout,
        Hold ?? defaults.Hold,
        HoldBytes ?? defaults.HoldBytes,
        TimeoutStatus ?? defaults.TimeoutStatus,
        Heartbeat ?? defaults.Heartbeat,
        EarlyHead ?? defaults.EarlyHead,
        Reconnect ?? defaults.Reconnect,
        Ending ?? defaults.Ending,
        MaxEvents ?? defaults.MaxEvents,
        MaxBytes ?? defaults.MaxBytes,
        Rate ?? defaults.Rate,
        SlowConsumer ?? defaults.SlowConsumer,
        Lease ?? defaults.Lease,
        Concurrent);

    public const double DefaultJitter = 0.1;

    /// <summary>An EventSource asks, or who says that it is one.</summary>
    internal static bool WantsEvents(Microsoft.AspNetCore.Http.HttpRequest request) =>
        request.Headers.Accept.ToString().Contains("text/event-stream", StringComparison.OrdinalIgnoreCase);

    /// <summary>What of it the upstream's side of a stream with a history heeds: what only its clients see is theirs.</summary>
    internal StreamPolicy OfUpstream() => this with
    {
        MaxDuration = null, Heartbeat = null, EarlyHead = null, Reconnect = null, MaxEvents = null, MaxBytes = null, Rate = null,
            SlowConsumer = null, Ending = new("abort"),
    };

    /// <summary>What of it a client's side heeds: the upstream's silence has been judged already.</summary>
    internal StreamPolicy OfClient() =>
        this with { FirstByteTimeout = null, FirstEventTimeout = null, IdleTimeout = null, EventIdleTimeout = null, Hold = null };

    /// <summary>A plugin says it, not only the defaults: the upstream is not offered compression, so that bytes of ours can stand in the
    /// body.</summary>
    public bool IsOfPlugin { get; init; }

    /// <exception cref="JsonException">A value that is none.</exception>
    public static StreamPolicy Parse(System.Text.Json.Nodes.JsonObject config) =>
        config.Deserialize(StreamPolicyJson.Default.StreamPolicy)!;

    /// <summary>Whose policy holds for a request: its chain's (a consumer's, the route's, …), else the global rules', else the defaults;
    /// null: nobody has said anything.</summary>
    internal static StreamPolicy? Of(Exchange exchange) =>
        First(exchange, exchange.Chain.Steps(Phase.StreamRule)) ?? First(exchange, exchange.Snapshot.GlobalRules.Steps(Phase.StreamRule))
        ?? exchange.Snapshot.StreamDefaults;

    static StreamPolicy? First(Exchange exchange, Step<IStreamRule>[] rules)
    {
        foreach (var (rule, use) in rules)
        {
            if (use.Applies(exchange))
            {
                return rule.Streams;
            }
        }
        return null;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(StreamPolicy))]
sealed partial class StreamPolicyJson : JsonSerializerContext
{
    /// <summary>For a plugin whose configuration this is.</summary>
    public static System.Text.Json.Serialization.Metadata.JsonTypeInfo<StreamPolicy> Policy => Default.StreamPolicy;
}

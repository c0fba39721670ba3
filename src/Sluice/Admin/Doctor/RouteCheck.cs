using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Admin.Doctor;

/// <summary>What of a route's configuration hurts streams, by reading it; nothing is sent anywhere.</summary>
/// <param name="exchange">A pretend request of the route, as its clients send it, with an event stream as its response.</param>
/// <param name="contentType">What the route answers, where that was measured; null: its plugins and the streams under way tell.</param>
/// <param name="upstreamSilence">The longest silence of the upstream that was measured; null: nobody measured.</param>
sealed class RouteCheck(Snapshot snapshot, Route route, Exchange exchange, LiveStreams live, string? contentType, TimeSpan? upstreamSilence)
{
    static readonly string[] s_streaming = ["streaming", "sse", "sse-resume"];
    static readonly TimeSpan s_commonCut = TimeSpan.FromSeconds(55), s_otherwise = TimeSpan.FromSeconds(60);

    string Place { get; } = $"route {route.Id}";

    IEnumerable<PluginUse> Uses => snapshot.GlobalRules.Uses.Concat(route.Chain.Uses);

    /// <summary>What holds for the route's streams; null: nobody has said anything.</summary>
    StreamPolicy? Policy => Rule(route.Chain) ?? Rule(snapshot.GlobalRules) ?? snapshot.StreamDefaults;

    static StreamPolicy? Rule(PluginChain chain) => chain.Steps(Phase.StreamRule) is [var first, ..] ? first.Phase.Streams : null;

    /// <summary>How long the upstream may be silent; zero: for ever.</summary>
    public TimeSpan IdleTimeout => Policy?.IdleTimeout?.Time
        ?? ((route.Config.Timeout?.Read ?? route.Upstream?.Config.Timeout?.Read) is { } seconds ? TimeSpan.FromSeconds(seconds)
            : exchange.Scope.ProxyReadTimeout ?? s_otherwise);

    bool IsStreaming => contentType is { } measured ? MeasuredStream(measured)
        : Uses.Any(static use => s_streaming.Contains(use.Descriptor.Name))
        || Live().Any(static kind => kind is StreamKind.Sse or StreamKind.Ndjson);

    bool IsEventStream => contentType is { } measured ? measured.StartsWith("text/event-stream", StringComparison.OrdinalIgnoreCase)
        : Live() is { Length: > 0 } kinds ? kinds.Contains(StreamKind.Sse) : IsStreaming && !IsGrpc;

    bool IsGrpc => route.Upstream?.Config.Scheme is "grpc" or "grpcs";

    static bool MeasuredStream(string type) =>
        type.StartsWith("text/event-stream", StringComparison.OrdinalIgnoreCase)
        || type.Contains("ndjson", StringComparison.OrdinalIgnoreCase)
        || type.StartsWith("application/jsonl", StringComparison.OrdinalIgnoreCase)
        || type.StartsWith("application/stream+json", StringComparison.OrdinalIgnoreCase);

    StreamKind[] Live() =>
        [.. live.Select(new StreamFilter(Route: route.Id)).Select(static one => one.Stream.Kind)
            .Where(static kind => kind != StreamKind.Body)];

    public IEnumerable<Finding> Findings() =>
    [
        .. Milliseconds(),
        .. IsStreaming ? WholeBody() : [],
        .. IsStreaming ? Buffering() : [],
        .. Compression(),
        .. IsStreaming && !IsGrpc ? Heartbeats() : [],
        .. NoEffect(),
        .. IsStreaming ? Rights() : [],
        .. IsEventStream ? EventSource() : [],
    ];

    // -- Each code

    /// <summary>C01.</summary>
    IEnumerable<Finding> Milliseconds()
    {
        foreach (var (name, node) in Times())
        {
            if (node is JsonValue value && value.GetValueKind() == JsonValueKind.Number && Number(value) is >= 3600 and var seconds
                && seconds % 1000 == 0)
            {
                yield return Finding.Error(
                    "C01", Place,
                    string.Create(CultureInfo.InvariantCulture,
                        $"{name}: {seconds} are seconds, {Spelled(TimeSpan.FromSeconds(seconds))}; it reads like milliseconds"),
                    string.Create(CultureInfo.InvariantCulture, $"{name}: {seconds}"),
                    name.StartsWith("plugins.streaming", StringComparison.Ordinal)
                        ? string.Create(CultureInfo.InvariantCulture,
                            $"write \"{seconds}ms\", or \"{Spelled(TimeSpan.FromSeconds(seconds))}\" when that is meant")
                        : string.Create(CultureInfo.InvariantCulture, $"write {seconds / 1000}"));
            }
        }
    }

    IEnumerable<(string Name, JsonNode? Value)> Times()
    {
        foreach (var use in Uses.Where(static use => use.Descriptor.Name == "streaming"))
        {
            foreach (var (name, value) in use.Config.Where(static pair => pair.Key.EndsWith("_timeout", StringComparison.Ordinal)
                || pair.Key == "max_duration"))
            {
                yield return ($"plugins.streaming.{name}", value);
            }
        }
        foreach (var (prefix, times) in new[] { ("timeout.", route.Config.Timeout), ("upstream.timeout.", route.Upstream?.Config.Timeout) })
        {
            foreach (var (name, value) in new[] { ("connect", times?.Connect), ("send", times?.Send), ("read", times?.Read) })
            {
                yield return (prefix + name, value is { } seconds ? JsonValue.Create(seconds) : null);
            }
        }
    }

    static double Number(JsonValue value) =>
        value.TryGetValue(out double number) ? number : double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture);

    static string Spelled(TimeSpan time)
    {
        (int Count, string Unit)[] parts = [(time.Days, "d"), (time.Hours, "h"), (time.Minutes, "min"), (time.Seconds, "s")];
        return string.Join(' ', parts.Where(static part => part.Count > 0).Select(static part => $"{part.Count} {part.Unit}"));
    }

    /// <summary>C02.</summary>
    IEnumerable<Finding> WholeBody()
    {
        foreach (var use in snapshot.GlobalRules.BodyFilters.Concat(route.Chain.BodyFilters))
        {
            if (use.In(Phase.WholeBody, exchange) is not null && use.Applies(exchange))
            {
                yield return Finding.Error(
                    "C02", Place,
                    $"plugin {use.Descriptor.Name} ({use.Scope}) needs the whole body: a stream leaves only when it has ended",
                    "/v1/buffering: needs_whole_body",
                    $"take {use.Descriptor.Name} off this route, or let _meta.filter keep it from streams");
            }
        }
    }

    /// <summary>C03.</summary>
    IEnumerable<Finding> Buffering()
    {
        if (BufferingRules.ExplainResponse(exchange, accel: null, isStream: true) is { On: true } decision)
        {
            yield return Finding.Warn(
                "C03", Place,
                $"buffering is forced on for streams by {decision.Winner.Text} ({decision.Winner.Place}): slow clients fill files",
                $"/v1/buffering: {decision.Winner}",
                "leave streams to the default, which does not buffer them");
        }
    }

    /// <summary>C04.</summary>
    IEnumerable<Finding> Compression() => Uses
        .Where(static use => use.Descriptor.Name is "gzip" or "brotli" && (use.Config["types"] is JsonValue
            || (use.Config["types"] is JsonArray types && types.Any(static type => type?.ToString() == "text/event-stream"))))
        .Select(use => Finding.Warn(
            "C04", Place,
            $"{use.Descriptor.Name} ({use.Scope}) compresses text/event-stream: no heartbeat and no last words fit into the body",
            $"{use.Descriptor.Name}.types: {use.Config["types"]!.ToJsonString()}",
            $"take text/event-stream out of {use.Descriptor.Name}.types"));

    /// <summary>C05, C06.</summary>
    IEnumerable<Finding> Heartbeats()
    {
        var (policy, idle) = (Policy, IdleTimeout);
        if (upstreamSilence is { } silence && idle > TimeSpan.Zero && silence >= idle)
        {
            yield return Finding.Error(
                "C05", Place, $"streams are ended after {Seconds(idle)} of silence, and the upstream was silent for {Seconds(silence)}",
                $"idle_timeout or timeout.read {Seconds(idle)}",
                $"streaming.idle_timeout above {Seconds(silence)}");
        }
        if (!IsEventStream)
        {
            yield break;
        }
        if (policy?.Heartbeat is not { Interval: { IsOff: false } interval })
        {
            yield return Finding.Warn(
                "C06", Place, "no heartbeat: a silent stream is cut by the first hop that loses patience, mostly after 55, 60 or 100 s",
                "streaming.heartbeat is not set",
                "streaming.heartbeat: {\"interval\": 15}");
        }
        else if (interval.Time > s_commonCut)
        {
            yield return Finding.Warn(
                "C06", Place, $"a heartbeat each {Seconds(interval.Time)} comes too late for hops that cut silent streams after 55 or 60 s",
                $"streaming.heartbeat.interval {Seconds(interval.Time)}",
                "streaming.heartbeat: {\"interval\": 15}");
        }
        else if (idle <= TimeSpan.Zero && policy.EventIdleTimeout is not { IsOff: false })
        {
            yield return Finding.Warn(
                "C06", Place, "heartbeats without idle_timeout and event_idle_timeout: a stream whose upstream is dead never ends",
                "streaming.idle_timeout 0, no event_idle_timeout",
                "streaming.idle_timeout, or streaming.event_idle_timeout");
        }
    }

    static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.#} s");

    /// <summary>C07: what plugins themselves warn of, and what does nothing for gRPC.</summary>
    IEnumerable<Finding> NoEffect()
    {
        if (snapshot.Documents.Find(ResourceKind.Routes, route.Id)?.Value is { } document)
        {
            foreach (var use in route.Chain.Uses)
            {
                // seconds that look like milliseconds are C01
                foreach (var warning in (use.Descriptor.Info.Warnings?.Invoke(use.Config, document)
                    ?? []).Where(static text => !text.Contains("for milliseconds write", StringComparison.Ordinal)))
                {
                    yield return Finding.Warn("C07", Place, $"{use.Descriptor.Name}: {warning}", $"{use.Descriptor.Name} ({use.Scope})",
                        "change it, or take it out");
                }
            }
        }
        if (!IsGrpc)
        {
            yield break;
        }
        foreach (var use in Uses)
        {
            var idle = use.Descriptor.Name switch
            {
                "sse" or "sse-resume" => [use.Descriptor.Name],
                "streaming" => use.Config.Select(static pair => pair.Key)
                    .Where(static name => name is "heartbeat" or "reconnect" or "early_head" or "hold")
                    .Select(static name => "streaming." + name),
                _ => Enumerable.Empty<string>(),
            };
            foreach (var name in idle)
            {
                yield return Finding.Warn("C07", Place, $"{name} does nothing on a route with scheme \"{route.Upstream!.Config.Scheme}\"",
                    $"{name} ({use.Scope})", "take it out");
            }
        }
    }

    /// <summary>C10, C11.</summary>
    IEnumerable<Finding> Rights()
    {
        foreach (var use in Uses)
        {
            if (use.Descriptor.Name is "jwt-auth" or "openid-connect")
            {
                yield return Finding.Info(
                    "C10", Place, $"{use.Descriptor.Name}: a stream goes on when the token that opened it has expired",
                    $"{use.Descriptor.Name} ({use.Scope})",
                    "streaming.max_duration no longer than tokens live");
            }
            if (IsEventStream && use.Descriptor.Name is "key-auth" or "jwt-auth" && use.Config["query"] is JsonValue query
                && IsWritten(use, "query"))
            {
                yield return Finding.Warn(
                    "C11", Place, $"{use.Descriptor.Name} takes the key from the argument \"{query}\": URLs land in logs and histories",
                    $"{use.Descriptor.Name}.query ({use.Scope})",
                    "a cookie (jwt-auth.cookie), or a client that can send headers");
            }
        }
    }

    /// <summary>Defaults are in a configuration as well; nobody chose those.</summary>
    static bool IsWritten(PluginUse use, string name) =>
        use.Config[name]?.ToString() != use.Descriptor.Schema["properties"]?[name]?["default"]?.ToString();

    /// <summary>C12, C15.</summary>
    IEnumerable<Finding> EventSource()
    {
        if (Policy?.Reconnect?.On is null)
        {
            yield return Finding.Warn(
                "C12", Place, "an EventSource that is answered 502 or 503 once never comes back", "streaming.reconnect.on is not set",
                "streaming.reconnect: {\"on\": \"auto\"}");
        }
        if (Policy is { MaxDuration: { IsOff: false }, Jitter: 0 })
        {
            yield return Finding.Warn(
                "C15", Place, "max_duration without jitter: all streams that began together end together, and come back together",
                "streaming.jitter 0", "leave streaming.jitter out: 0.1");
        }
    }
}

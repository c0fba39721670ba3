using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using Sluice.Api;
using Sluice.Pipeline;

namespace Sluice.Admin.Control;

/// <summary>
/// <c>/v1/streams</c>, and the same below the Admin API's prefix: the responses that are under way, and an end to one of them or to all
/// that are meant.
/// </summary>
sealed partial class StreamsApi(string prefix, LiveStreams streams, TimeProvider time, ILogger<StreamsApi> logger) : IApiRoutes
{
    /// <summary>As much as fits into a WebSocket's close frame.</summary>
    const int MaxReason = 123;

    static readonly TimeSpan s_longest = TimeSpan.FromHours(1);

    public IEnumerable<ApiRoute> Routes =>
    [
        new("GET", prefix + "/streams", ApiAccess.Read, List),
        new("GET", prefix + "/streams/{id}", ApiAccess.Read, One),
        new("DELETE", prefix + "/streams/{id}", ApiAccess.Write, Kill),
        new("DELETE", prefix + "/streams", ApiAccess.Write, KillAll),
    ];

    // -- Looking

    JsonAnswer List(ApiCall call)
    {
        var order = StreamOrder.Age;
        var descending = true;
        var limit = 0;
        string[]? groups = null;
        (long Key, long Number)? cursor = null;
        if (!StreamQuery.TryRead(call.Query, ["sort", "limit", "cursor", "by"], out var query, out var error)
            || !query.TryOrder(out order, out descending, out error) || !query.TryLimit(out limit, out error)
            || !query.TryGroups(out groups, out error) || !query.TryCursor(out cursor, out error))
        {
            return JsonAnswer.Error(400, error);
        }
        var all = streams.Select(query.Filter, order, descending);
        return groups is null ? Page(all, limit, cursor, descending) : Counts(all, groups, limit);
    }

    static JsonAnswer Page(List<(long Key, LiveStream Stream)> all, int limit, (long Key, long Number)? cursor, bool descending) =>
        JsonAnswer.Write(200, writer =>
    {
        writer.WriteStartObject();
        writer.WriteNumber("total", all.Count);
        writer.WriteStartArray("streams");
        var (written, at) = (0, cursor is { } from ? all.FindIndex(one => IsBehind(one.Key, one.Stream.Number, from, descending)) : 0);
        string? next = null;
        for (at = at < 0 ? all.Count : at; at < all.Count && written < limit; at++)
        {
            if (all[at].Stream.Look() is { } facts)
            {
                Write(writer, facts);
                written++;
            }
            next = at + 1 < all.Count ? StreamQuery.Cursor(all[at].Key, all[at].Stream.Number) : null;
        }
        writer.WriteEndArray();
        writer.WriteString("next", next);
        writer.WriteEndObject();
    });

    static bool IsBehind(long key, long number, (long Key, long Number) cursor, bool descending)
    {
        var order = key.CompareTo(cursor.Key) is var by and not 0 ? by : number.CompareTo(cursor.Number);
        return descending ? order < 0 : order > 0;
    }

    /// <summary>The largest groups first.</summary>
    static JsonAnswer Counts(List<(long Key, LiveStream Stream)> all, string[] by, int limit)
    {
        Dictionary<string, (string?[] Values, int Count)> groups = [];
        var total = 0;
        foreach (var (_, stream) in all)
        {
            if (stream.Look() is { } facts)
            {
                total++;
                var values = Array.ConvertAll(by, name => Value(facts, name));
                var key = string.Join('\n', values);
                groups[key] = groups.TryGetValue(key, out var group) ? group with { Count = group.Count + 1 } : (values, 1);
            }
        }
        return JsonAnswer.Write(200, writer =>
        {
            writer.WriteStartObject();
            writer.WriteNumber("total", total);
            writer.WriteStartArray("groups");
            foreach (var (values, count) in groups.Values.OrderByDescending(static group => group.Count).Take(limit))
            {
                writer.WriteStartObject();
                for (var i = 0; i < by.Length; i++)
                {
                    writer.WriteString(by[i], values[i]);
                }
                writer.WriteNumber("count", count);
                writer.WriteEndObject();
            }
            writer.WriteEndArray();
            writer.WriteEndObject();
        });
    }

    static string? Value(LiveStreamFacts facts, string name) => name switch
    {
        "route" => facts.Route,
        "service" => facts.Service,
        "consumer" => facts.Consumer,
        "kind" => Exchange.KindText(facts.Kind),
        "phase" => facts.Phase,
        "mode" => facts.Mode,
        "node" => facts.Node,
        _ => facts.Protocol,
    };

    JsonAnswer One(ApiCall call) =>
        (streams.Find(call["id"])?.Look() ?? streams.FindEnded(call["id"])) is { } facts
        ? JsonAnswer.Write(200, writer => Write(writer, facts)) : None(call["id"]);

    static JsonAnswer None(string id) => JsonAnswer.Error(404, $"no stream {id}");

    static void Write(Utf8JsonWriter writer, LiveStreamFacts facts)
    {
        writer.WriteStartObject();
        writer.WriteString("id", facts.Id);
        writer.WriteString("kind", Exchange.KindText(facts.Kind));
        writer.WriteString("mode", facts.Mode);
        writer.WriteString("phase", facts.Phase);
        writer.WriteString("route", facts.Route);
        writer.WriteString("service", facts.Service);
        writer.WriteString("consumer", facts.Consumer);
        writer.WriteString("client", facts.Client);
        writer.WriteString("protocol", facts.Protocol);
        writer.WriteString("method", facts.Method);
        writer.WriteString("uri", facts.Uri);
        writer.WriteString("node", facts.Node);
        writer.WriteString("started", Moment(facts.Started));
        Milliseconds(writer, "age_ms", facts.Age);
        Milliseconds(writer, "first_byte_ms", facts.FirstByte);
        Milliseconds(writer, "first_event_ms", facts.Events?.First);
        writer.WritePropertyName("events");
        if (facts.Events is { } events)
        {
            writer.WriteNumberValue(events.Count);
        }
        else
        {
            writer.WriteNullValue();
        }
        writer.WriteNumber("bytes", facts.BytesSent);
        if (facts.Events is { } counted)
        {
            writer.WriteNumber("events_per_second", Math.Round(counted.PerSecond, 1));
        }
        else
        {
            writer.WriteNull("events_per_second");
        }
        WriteLast(writer, facts.Events?.Last);
        Milliseconds(writer, "max_gap_ms", facts.Events is { Count: > 1, MaxGap: var gap } ? gap : null);
        writer.WriteStartObject("queue");
        writer.WriteNumber("bytes", facts.Queue.Bytes);
        writer.WriteNumber("events", facts.Queue.Events);
        writer.WriteNumber("dropped", facts.Queue.Dropped);
        writer.WriteEndObject();
        writer.WriteNumber("heartbeats", facts.Heartbeats);
        // tokens that expire end no stream yet
        writer.WriteStartObject("lease");
        writer.WriteNull("expires_in_ms");
        writer.WriteEndObject();
        Milliseconds(writer, "ends_at_ms", facts.EndsAt);
        writer.WriteBoolean("resumable", facts.Topic is not null);
        writer.WriteString("topic", facts.Topic);
        Milliseconds(writer, "idle_ms", facts.Idle);
        writer.WriteBoolean("slow", facts.Slow);
        writer.WriteNumber("taps", facts.Taps);
        if (facts.Ended is { } ended)
        {
            writer.WriteString("ended", Moment(ended));
            writer.WriteString("reason", facts.Reason);
        }
        writer.WriteEndObject();
    }

    static void WriteLast(Utf8JsonWriter writer, (TimeSpan Ago, string? Name, string? Id, int Bytes)? one)
    {
        if (one is not { } last)
        {
            writer.WriteNull("last_event");
            return;
        }
        writer.WriteStartObject("last_event");
        writer.WriteNumber("at_ms_ago", (long)last.Ago.TotalMilliseconds);
        writer.WriteString("name", last.Name);
        writer.WriteString("id", last.Id);
        writer.WriteNumber("bytes", last.Bytes);
        writer.WriteEndObject();
    }

    static string Moment(DateTimeOffset moment) => moment.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture);

    static void Milliseconds(Utf8JsonWriter writer, string name, TimeSpan? span)
    {
        writer.WritePropertyName(name);
        if (span is { } known)
        {
            writer.WriteNumberValue((long)known.TotalMilliseconds);
        }
        else
        {
            writer.WriteNullValue();
        }
    }

    // -- Ending

    JsonAnswer Kill(ApiCall call)
    {
        var message = "";
        if (!StreamQuery.TryReadOne(call.Query, ["reason", "mode"], out var query, out var error)
            || !TryMessage(query, out message, out error))
        {
            return JsonAnswer.Error(400, error);
        }
        var abort = query.OneOf("mode", ["end", "abort"]) == "abort";
        if (query.Error is { } wrong)
        {
            return JsonAnswer.Error(400, wrong);
        }
        return End(call.Http.Connection.RemoteIpAddress, streams.Find(call["id"]), new("killed", message, query.Text("reason"), abort))
            ? Count(200, "ended", 1) : None(call["id"]);
    }

    JsonAnswer KillAll(ApiCall call)
    {
        var message = "";
        if (!StreamQuery.TryRead(call.Query, ["reason", "over", "drain", "all"], out var query, out var error)
            || !TryMessage(query, out message, out error))
        {
            return JsonAnswer.Error(400, error);
        }
        var (over, drain, everything) = (query.Time("over") ?? TimeSpan.Zero, query.Flag("drain") == true, query.Flag("all") == true);
        var ending = new Ending(drain ? "drain" : "killed", message, query.Text("reason"), Abort: false);
        if (query.Error is { } wrong)
        {
            return JsonAnswer.Error(400, wrong);
        }
        if (over > s_longest)
        {
            return JsonAnswer.Error(400, "argument \"over\" is longer than 1h");
        }
        if (!query.HasFilter && !everything)
        {
            return JsonAnswer.Error(400, "name at least one filter, or all=true");
        }
        var all = streams.Select(query.Filter, sources: true).ConvertAll(static one => one.Stream);
        var matched = all.Count(static stream => !stream.IsOfClients);
        _ = EndOverAsync(call, all, ending, over);
        return Count(202, "matched", matched);
    }

    /// <summary>Ends them one after the other, in an order that chance gives, so that those that come back do not come together.</summary>
    async Task EndOverAsync(ApiCall call, List<LiveStream> all, Ending ending, TimeSpan over)
    {
        if (over > TimeSpan.Zero)
        {
            all = [.. all.OrderBy(static _ => RandomNumberGenerator.GetInt32(int.MaxValue))];
        }
        // clients first, so that they get their own words
        all = [.. all.OrderBy(static stream => stream.IsOfClients)];
        var from = call.Http.Connection.RemoteIpAddress;
        var began = time.GetTimestamp();
        for (var i = 0; i < all.Count; i++)
        {
            var wait = (over * ((double)i / all.Count)) - time.GetElapsedTime(began);
            if (wait > TimeSpan.FromMilliseconds(1))
            {
                await Task.Delay(wait, time).ConfigureAwait(false);
            }
            End(from, all[i], ending);
        }
    }

    /// <param name="Words">What clients are told; null or empty: the reason's own words.</param>
    sealed record Ending(string Reason, string Message, string? Words, bool Abort);

    bool End(IPAddress? from, LiveStream? stream, Ending ending)
    {
        if (stream is { IsOfClients: true })
        {
            return stream.Kill(ending.Message, ending.Reason);
        }
        if (stream?.Look() is not { } facts
            || !stream.Kill(ending.Message, ending.Reason, ending.Abort, ending.Words is { Length: > 0 } words ? words : null))
        {
            return false;
        }
        LogKilled(facts.Id, facts.Route ?? "-", facts.Consumer ?? "-", from, ending.Message.ReplaceLineEndings(" "));
        return true;
    }

    static bool TryMessage(StreamQuery query, out string message, [NotNullWhen(false)] out string? error)
    {
        message = query.Text("reason") is { Length: > 0 } given ? given : "ended by an operator";
        error = Encoding.UTF8.GetByteCount(message) > MaxReason ? $"reason is longer than {MaxReason} bytes" : null;
        return error is null;
    }

    static JsonAnswer Count(int status, string name, int count) => JsonAnswer.Write(status, writer =>
    {
        writer.WriteStartObject();
        writer.WriteNumber(name, count);
        writer.WriteEndObject();
    });

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "stream {Id} (route {Route}, consumer {Consumer}) is ended from {Address}: {Reason}")]
    partial void LogKilled(string id, string route, string consumer, IPAddress? address, string reason);
}

using Microsoft.AspNetCore.Connections.Features;
using Microsoft.Extensions.Primitives;
using Sluice.Net;
using Sluice.Relay;
using Sluice.Relay.Queues;

namespace Sluice.Pipeline;

/// <summary><c>streaming.slow_consumer</c>: a stream whose source does not wait for its client.</summary>
static class SlowConsumer
{
    const long DefaultBytes = 256 * 1024;

    /// <summary>The kernel holds no more than this of what was not sent: what is behind is to be seen here.</summary>
    const int UnsentBytes = 16 * 1024;

    /// <summary>Only where there are units, and in the clear.</summary>
    public static bool Applies(Exchange exchange, StreamPolicy? policy) =>
        policy?.SlowConsumer is { Policy: not "block" } && LiveStream.KindOf(exchange) is StreamKind.Sse or StreamKind.Ndjson
        && exchange.Response.Headers.ContentEncoding is var coding && (StringValues.IsNullOrEmpty(coding) || coding == "identity");

    /// <summary>The body with a queue behind it.</summary>
    /// <param name="filters">Those that see it before.</param>
    public static QueuedBody Open(Exchange exchange, IBodySource body, BodyFilters? filters)
    {
        var policy = exchange.Streams!.SlowConsumer!;
        var isLines = LiveStream.KindOf(exchange) == StreamKind.Ndjson;
        var limits = new QueueLimits(
            policy.Policy switch { "drop_oldest" => SlowPolicy.DropOldest, "latest_per_key" => SlowPolicy.LatestPerKey,
                _ => SlowPolicy.Disconnect },
            policy.ParsedKey, policy.QueueBytes?.Bytes ?? DefaultBytes, policy.QueueEvents ?? 0, policy.MaxLag?.Time ?? TimeSpan.Zero,
            (policy.Announce ?? (exchange.Topic is null ? "comment" : "event")) switch { "comment" => GapNotice.Comment,
                "event" => GapNotice.Event, _ => GapNotice.None },
            isLines);
        Limit(exchange, UnsentBytes);
        // what is counted is what the client gets
        return new(
            body, filters, isLines ? new LineFramer() : new SseFramer(), new(limits, exchange.Services.Queues, exchange.Services.Time),
            exchange.Events = new(exchange))
        {
            TooSlow = () => End(exchange, new(FailureSource.Client, "slow_consumer", "the client takes less than its stream gives", 500)),
            TooLarge = () => End(exchange, new(FailureSource.Upstream, "event_too_large", "an event is larger than 1 MiB", 502)),
        };
    }

    /// <summary>The stream has ended: the client's connection is as others are.</summary>
    public static void Close(Exchange exchange) => Limit(exchange, 0);

    static UpstreamException End(Exchange exchange, Failure failure)
    {
        exchange.Failure ??= failure;
        exchange.EndReason ??= failure.Kind;
        _ = exchange.Live!.CutLaterAsync(failure.Kind);
        return new(UpstreamFailureKind.Shutdown, failure.Detail);
    }

    /// <param name="bytes">0: as the system says.</param>
    static void Limit(Exchange exchange, int bytes)
    {
        if (exchange.Request.Protocol is not ("HTTP/1.1" or "HTTP/1.0"))
        {
            // its connection is other requests' too
            return;
        }
        if (exchange.Connection is { } connection)
        {
            connection.LimitUnsent(bytes);
        }
        else if (OperatingSystem.IsLinux() && exchange.Http.Features.Get<IConnectionSocketFeature>()?.Socket is { } socket)
        {
            const int Tcp = 6, NotSentLowWater = 25;
            try
            {
                socket.SetRawSocketOption(Tcp, NotSentLowWater, BitConverter.GetBytes(bytes));
            }
            catch (Exception e) when (e is System.Net.Sockets.SocketException or ObjectDisposedException)
            {
                // it has gone
            }
        }
    }
}

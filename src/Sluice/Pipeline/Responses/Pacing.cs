using System.Globalization;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Relay.Queues;
using Sluice.Scripting;

namespace Sluice.Pipeline;

/// <summary><c>streaming.rate</c>: how fast a response's units and bytes may pass.</summary>
static partial class Pacing
{
    const double DefaultBurstBytes = 16 * 1024;

    /// <summary>Units are counted out.</summary>
    public static bool CutsUnits(Exchange exchange) =>
        exchange.Streams?.Rate?.EventsPerSecond is not null && UnitFramings.Of(exchange) is not null;

    /// <summary>The body at its pace; null: it may be as fast as it is.</summary>
    /// <param name="isQueued">What goes to the client is counted already.</param>
    public static PacedBody? Open(Exchange exchange, IBodySource body, BodyFilters? filters, bool isQueued)
    {
        if (exchange.Streams?.Rate is not { } rate)
        {
            return null;
        }
        var time = exchange.Services.Time;
        var framing = rate.EventsPerSecond is null ? null : UnitFramings.Of(exchange);
        var units = framing is not null && Number(exchange, rate.EventsPerSecond) is { } perSecond
            ? new TokenBucket(perSecond, rate.BurstEvents ?? Math.Max(1, perSecond), time) : null;
        var bytes = Number(exchange, rate.BytesPerSecond) is { } speed
            ? new TokenBucket(speed, rate.BurstBytes?.Bytes ?? DefaultBurstBytes, time) : null;
        if (units is null && bytes is null)
        {
            return null;
        }
        var paced = new PacedBody(
            body, filters, framing is { } cut ? UnitFramings.Open(cut) : null, units, bytes,
            framing is null || isQueued ? null : exchange.Events = new(exchange), rate.Action == "end" ? () => End(exchange) : null, time,
            exchange.Loop);
        paced.Follow(exchange.ClientGone);
        return paced;
    }

    static UpstreamException End(Exchange exchange)
    {
        exchange.Failure ??= new(FailureSource.Upstream, "rate", "the stream is faster than streaming.rate", 500);
        exchange.EndReason ??= "rate";
        return new(UpstreamFailureKind.Shutdown, "it is faster than it may be");
    }

    /// <summary>What is no number at this request limits nothing, and the log says so.</summary>
    static double? Number(Exchange exchange, JsonElement? said)
    {
        if (said is not { } value)
        {
            return null;
        }
        if (value.ValueKind == JsonValueKind.Number)
        {
            return value.GetDouble();
        }
        var text = Template.Expand(value.GetString()!, exchange);
        if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number > 0
            && double.IsFinite(number))
        {
            return number;
        }
        LogNoNumber(exchange.Services.Loggers.CreateLogger(typeof(Pacing).FullName!), exchange.Route?.Id, text);
        return null;
    }

    /// <summary>What is wrong with a rate as it is written; null: nothing.</summary>
    public static string? Mistake(string name, JsonElement? said) => said switch
    {
        null => null,
        { ValueKind: JsonValueKind.Number } number when number.GetDouble() > 0 => null,
        { ValueKind: JsonValueKind.String } text when Template.HasVariables(text.GetString()!) => null,
        _ => $"rate.{name} must be a number above 0, or a text with variables",
    };

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "route {Route}: streaming.rate: \"{Text}\" is no number above 0, nothing is limited")]
    static partial void LogNoNumber(ILogger logger, string? route, string text);
}

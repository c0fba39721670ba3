using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Sluice.Pipeline;

/// <summary>
/// <c>reconnect.on</c>: an EventSource takes any answer but 200 for the end of everything, so in the place of one it gets an empty stream
/// that says when to come back.
/// </summary>
static class ComeBack
{
    static readonly int[] s_auto = [429, 500, 502, 503, 504];

    /// <summary>These mean what they say.</summary>
    static readonly int[] s_final = [401, 403, 404, 410];

    /// <summary>What the client gets instead; null: the answer as it is.</summary>
    public static Answer? InsteadOf(Exchange exchange, int status, string? retryAfter)
    {
        if (status < 400 || exchange.ShieldedStatus != 0 || !HttpMethods.IsGet(exchange.Request.Method)
            || !StreamPolicy.WantsEvents(exchange.Request)
            || (exchange.Streams ?? StreamPolicy.Of(exchange))?.Reconnect is not { On: { } on } reconnect || !Names(on, status))
        {
            return null;
        }
        exchange.ShieldedStatus = status;
        var body = string.Create(CultureInfo.InvariantCulture,
            $"retry: {reconnect.Draw(After(retryAfter, exchange.Services.Time))}\n: {status} {exchange.Failure?.Kind ?? "upstream_status"}\n\n");
        return new Answer(200, Encoding.UTF8.GetBytes(body), "text/event-stream").With("Cache-Control", "no-store");
    }

    static bool Names(JsonElement on, int status) => !s_final.Contains(status)
        && (on.ValueKind == JsonValueKind.Array ? on.EnumerateArray().Any(one => one.GetInt32() == status) : s_auto.Contains(status));

    /// <summary>Of a <c>Retry-After</c>: seconds or a date.</summary>
    static TimeSpan After(string? text, TimeProvider time) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) ? TimeSpan.FromSeconds(seconds)
        : DateTimeOffset.TryParseExact(text, "r", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var date)
        ? date - time.GetUtcNow()
        : default;
}

using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Sluice.Pipeline;

/// <summary>
/// How a stream ends whose head is out, and that did not end by itself; the one place that knows how a protocol says goodbye. A proper end
/// only where last words could be said: never after half a unit, never with less than a length that was promised.
/// </summary>
static class StreamEnding
{
    /// <summary>How long a client may take to get them.</summary>
    public static readonly TimeSpan LastWords = TimeSpan.FromSeconds(2);

    static readonly JsonWriterOptions s_json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The stream may end otherwise than by an abort, if the moment allows it.</summary>
    public static bool MayHaveWords(Exchange exchange) => ModeOf(exchange) switch
    {
        "abort" => false,
        null => GrpcStatus.IsAsked(exchange) && (exchange.TrailersInBody is not null || exchange.Response.SupportsTrailers()),
        _ => true,
    };

    static string? ModeOf(Exchange exchange) =>
        exchange.Streams?.Ending?.Mode ?? (exchange.Streams is { IsOfPlugin: true } ? "dialect" : null);

    /// <summary>Last words could be said now: nothing has been cut.</summary>
    public static bool IsBetween(Exchange exchange) => exchange.Edge is not { IsBetween: false };

    /// <summary>Says the last words; the response then ends properly. False: only an abort tells the client that it is not whole.</summary>
    public static async ValueTask<bool> TryAsync(Exchange exchange, string name)
    {
        var (reason, response, ending) = (StreamReason.Of(name), exchange.Response, exchange.Streams?.Ending);
        var mode = ModeOf(exchange);
        if (reason.IsSilent || mode == "abort")
        {
            return false;
        }
        if (exchange.TrailersInBody is { IsForGrpc: true } trailers)
        {
            return trailers.LastWords(reason.Grpc, GrpcMessage(name)) is { } words && (words.IsEmpty || await SayAsync(exchange, words));
        }
        if (GrpcStatus.IsAsked(exchange) && response.SupportsTrailers())
        {
            // as long as nobody has looked, a message may be whole
            if (exchange.Edge is { IsBetween: false })
            {
                return false;
            }
            response.AppendTrailer("grpc-status", reason.Grpc.ToString(CultureInfo.InvariantCulture));
            response.AppendTrailer("grpc-message", GrpcMessage(name));
            return true;
        }
        if (mode is null || response.ContentLength is not null)
        {
            return false;
        }
        if (mode == "clean")
        {
            return true;
        }
        if (exchange.Edge is not { IsBetween: true })
        {
            return false;
        }
        ending ??= new();
        return LiveStream.KindOf(exchange) switch
        {
            StreamKind.Sse => await SayAsync(exchange, Event(exchange, ending, name, reason)),
            StreamKind.Ndjson when ending.Ndjson == "line" => await SayAsync(exchange, Line(exchange, name, reason)),
            _ => false,
        };
    }

    /// <summary>What <c>grpc-message</c> says of a stream that has ended for this reason.</summary>
    public static string GrpcMessage(string name) => GrpcStatus.Encode($"sluice: {name}");

    static async ValueTask<bool> SayAsync(Exchange exchange, ReadOnlyMemory<byte> words)
    {
        try
        {
            await exchange.Response.BodyWriter.WriteAsync(words).AsTask().WaitAsync(LastWords, exchange.Services.Time);
            return !exchange.ClientGone.IsCancellationRequested;
        }
        catch (Exception e) when (e is TimeoutException or IOException or OperationCanceledException or ObjectDisposedException)
        {
            return false;
        }
    }

    static byte[] Event(Exchange exchange, StreamPolicy.EndingPolicy ending, string name, StreamReason reason)
    {
        var retry = exchange.EndRetry ?? (reason.ComesBack ? exchange.Streams?.Reconnect?.Draw() : null);
        var data = Json(writer =>
        {
            writer.WriteString("reason", name);
            writer.WriteString("message", exchange.EndMessage ?? reason.Message);
            if (retry is { } milliseconds)
            {
                writer.WriteNumber("retry_ms", milliseconds);
            }
        });
        var text = new StringBuilder().Append("event: ").Append(reason.IsError ? ending.ErrorEvent : ending.EndEvent).Append('\n');
        if (retry is { } wait)
        {
            text.Append(CultureInfo.InvariantCulture, $"retry: {wait}\n");
        }
        return Encoding.UTF8.GetBytes(text.Append("data: ").Append(data).Append("\n\n").ToString());
    }

    static byte[] Line(Exchange exchange, string name, StreamReason reason) => Encoding.UTF8.GetBytes(Json(writer =>
    {
        writer.WriteStartObject("error");
        writer.WriteString("reason", name);
        writer.WriteString("message", exchange.EndMessage ?? reason.Message);
        writer.WriteEndObject();
    }) + "\n");

    static string Json(Action<Utf8JsonWriter> write)
    {
        var bytes = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(bytes, s_json))
        {
            writer.WriteStartObject();
            write(writer);
            writer.WriteEndObject();
        }
        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }
}

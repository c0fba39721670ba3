using System.Buffers;
using System.Text;
using System.Text.Json;
using Sluice.Ai.Protocols;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Ai;

/// <summary>What plugins that ask models do with responses: nothing is held back, what passes is looked at.</summary>
internal static class AiResponse
{
    static bool IsEvents(Exchange exchange) =>
        exchange.Response.ContentType?.StartsWith("text/event-stream", StringComparison.OrdinalIgnoreCase) == true;

    /// <summary>A response that is known to be too large is refused before its first byte.</summary>
    public static void FilterHead(Exchange exchange, AiCall call)
    {
        if (call.Settings.MaxResponseBytes is { } most && exchange.ResponseLength > most && !IsEvents(exchange)
            && !exchange.AnsweredByGateway)
        {
            call.LogAborted(exchange, "max_response_bytes", 0);
            exchange.Response.StatusCode = 502;
            exchange.Response.ContentType = Answer.PlainText;
            exchange.ReplacedBody = Encoding.ASCII.GetBytes("max_response_bytes exceeded");
        }
    }

    /// <summary>Looks at the pieces as they pass; null when they say nothing.</summary>
    public static IPieceFilter? OpenBody(Exchange exchange, AiCall call) =>
        exchange.AnsweredByGateway || exchange.ReplacedBody is not null ? null : new Watch(exchange, call, IsEvents(exchange));

    /// <summary>Takes out the chunk that the client has not asked for; null when there is none.</summary>
    public static IEventStep? OpenEvents(Exchange exchange, AiCall call) =>
        call.HidesUsage && !exchange.AnsweredByGateway && IsEvents(exchange) ? new WithoutUsage() : null;

    sealed class Watch(Exchange exchange, AiCall call, bool isEvents) : IPieceFilter
    {
        /// <summary>Of a response that is larger nothing is known.</summary>
        const int MostBytes = 8 * 1024 * 1024;

        readonly SseFramer? _framer = isEvents ? new(MostBytes) : null;
        readonly ArrayBufferWriter<byte>? _whole = isEvents ? null : new();
        readonly bool _isReadable = exchange.Response.Headers.ContentEncoding.Count == 0;
        long _bytes;

        public bool Ended { get; private set; }

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (!piece.IsEmpty)
            {
                if (_bytes == 0)
                {
                    call.FirstTokenMs = call.Elapsed(exchange);
                }
                _bytes += piece.Length;
                CheckWhole();
                output.Write(piece.Span);
                Look(piece);
                CheckStream();
            }
            if (last)
            {
                call.ResponseMs = call.Elapsed(exchange);
                LookAtWhole();
                _framer?.Dispose();
            }
        }

        void Look(ReadOnlyMemory<byte> piece)
        {
            if (_framer is not null && _isReadable)
            {
                _framer.Push(piece);
                while (_framer.TryRead(out var frame))
                {
                    if (frame.Kind == FrameKind.Event)
                    {
                        call.Protocol.See(new SseEvent(frame.Raw.Span), call);
                    }
                }
            }
            else if (_whole is not null && _isReadable && _bytes <= MostBytes)
            {
                _whole.Write(piece.Span);
            }
        }

        void LookAtWhole()
        {
            if (_whole is not { WrittenCount: > 0 } || _whole.WrittenCount != _bytes)
            {
                return;
            }
            try
            {
                using var document = JsonDocument.Parse(_whole.WrittenMemory);
                call.Protocol.See(document.RootElement, call);
            }
            catch (JsonException)
            {
                // no JSON: it goes on all the same, and nothing is known of it
            }
            _whole.Clear();
        }

        /// <summary>A body that is no stream must not look whole when it is cut.</summary>
        void CheckWhole()
        {
            if (_framer is null && _bytes > call.Settings.MaxResponseBytes)
            {
                call.LogAborted(exchange, "max_response_bytes", _bytes);
                throw new BodyFilterException("the response is larger than max_response_bytes", "max_bytes");
            }
        }

        /// <summary>A stream ends without its protocol's last event, by which clients know that it is not whole.</summary>
        void CheckStream()
        {
            if (_framer is null || Ended)
            {
                return;
            }
            var limit = call.Settings.MaxStreamDurationMs <= call.Elapsed(exchange) ? "max_stream_duration_ms"
                : _bytes > call.Settings.MaxResponseBytes ? "max_response_bytes" : null;
            if (limit is not null)
            {
                call.LogAborted(exchange, limit, _bytes);
                Ended = true;
            }
        }
    }

    sealed class WithoutUsage : IEventStep
    {
        public void Filter(in Frame frame, IBufferWriter<byte> output)
        {
            if (frame.Kind != FrameKind.Event || !OpenAiChat.IsUsageChunk(new SseEvent(frame.Raw.Span)))
            {
                output.Write(frame.Raw.Span);
            }
        }
    }
}

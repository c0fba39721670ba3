using System.Buffers;
using Sluice.Pipeline;
using Sluice.Relay;
using Sluice.Scripting;

namespace Sluice.Plugins.Streaming;

/// <summary>How much of a stream may pass: units and bytes to the client.</summary>
sealed class StreamBudget(long events, long bytes)
{
    /// <summary>Where there are units the stream ends between two of them, properly.</summary>
    public IEventStep? OpenEvents(Exchange exchange) =>
        UnitsOf(exchange) is { } framing and not UnitFraming.Messages ? new Units(exchange, framing, events, bytes) : null;

    /// <summary>A body without units that is cut is no whole one, and must not look like one.</summary>
    public IPieceFilter? OpenBody(Exchange exchange) => UnitsOf(exchange) switch
    {
        // messages may be large: none is held back to be counted
        UnitFraming.Messages => new Messages(exchange, events, bytes),
        null when bytes != long.MaxValue => new Bytes(bytes),
        _ => null,
    };

    static UnitFraming? UnitsOf(Exchange exchange) => UnitFramings.Of(exchange);

    /// <summary>The gateway ends it, and says so where the protocol can.</summary>
    static void End(Exchange exchange, bool byEvents) =>
        exchange.EndReason = exchange.StreamEndReason = byEvents ? "max_events" : "max_bytes";

    sealed class Units(Exchange exchange, UnitFraming framing, long events, long bytes) : IEventStep
    {
        long _events, _bytes;

        public bool Ended { get; private set; }

        public IEventFramer CreateFramer() => UnitFramings.Open(framing);

        public void Filter(in Frame frame, IBufferWriter<byte> output)
        {
            output.Write(frame.Raw.Span);
            _bytes += frame.Raw.Length;
            if (frame.Kind != FrameKind.Event)
            {
                return;
            }
            _events++;
            if (_events >= events || _bytes >= bytes)
            {
                Ended = true;
                StreamBudget.End(exchange, _events >= events);
            }
        }
    }

    sealed class Messages(Exchange exchange, long events, long bytes) : IPieceFilter
    {
        MessageCursor _cursor;
        long _events, _bytes;

        public bool Ended { get; private set; }

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            while (!piece.IsEmpty && !Ended)
            {
                var taken = _cursor.Follow(piece.Span, out var isWhole);
                output.Write(piece.Span[..taken]);
                piece = piece[taken..];
                (_events, _bytes) = (_events + (isWhole ? 1 : 0), _bytes + taken);
                if (isWhole && (_events >= events || _bytes >= bytes))
                {
                    Ended = true;
                    End(exchange, _events >= events);
                }
            }
        }
    }

    sealed class Bytes(long most) : IPieceFilter
    {
        long _left = most;

        public bool Ended { get; private set; }

        public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
        {
            if (Ended)
            {
                throw new BodyFilterException("the body is longer than streaming.max_bytes", "max_bytes");
            }
            output.Write(piece.Span[..(int)Math.Min(piece.Length, _left)]);
            Ended = piece.Length > _left;
            _left = Math.Max(0, _left - piece.Length);
        }
    }
}

using System.Buffers;
using Sluice.Net;

namespace Sluice.Relay;

/// <summary>
/// Tells a clock of each unit, and counts it; the bytes go on as they came. While it holds, nothing goes on: the first unit lets everything
/// through, and so do more bytes than may be held.
/// </summary>
/// <param name="holds">At most so many bytes before the first unit; 0: none.</param>
sealed class UnitStage(IEventFramer framer, StreamClock? clock, IUnitCounter? counter, long holds) : IPieceFilter
{
    ArrayBufferWriter<byte>? _held = holds > 0 ? new() : null;

    public bool Holds => _held is not null;

    public bool CutsEvents => true;

    public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
    {
        var any = false;
        if (!piece.IsEmpty)
        {
            framer.Push(piece);
            any = Count();
        }
        if (last)
        {
            framer.End();
            any |= Count();
            framer.Dispose();
        }
        if (_held is not { } held)
        {
            output.Write(piece.Span);
            return;
        }
        held.Write(piece.Span);
        if (any || held.WrittenCount > holds)
        {
            _held = null;
            output.Write(held.WrittenSpan);
        }
        else if (last)
        {
            throw new UpstreamException(UpstreamFailureKind.EarlyClose, "it ended without an event");
        }
    }

    bool Count()
    {
        var (units, bytes) = (0, 0);
        while (framer.TryRead(out var frame))
        {
            if (frame.Kind == FrameKind.Event && !IsBlank(frame.Raw.Span))
            {
                (units, bytes) = (units + 1, frame.Raw.Length);
                counter?.Show(frame.Raw.Span, isFirst: true);
            }
        }
        if (units > 0)
        {
            clock?.Unit();
            counter?.Add(units, bytes);
        }
        return units > 0;
    }

    /// <summary>A blank line among lines.</summary>
    static bool IsBlank(ReadOnlySpan<byte> unit) => unit.TrimEnd("\r\n \t"u8).IsEmpty;
}

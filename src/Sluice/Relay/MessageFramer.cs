using System.Buffers.Binary;

namespace Sluice.Relay;

/// <summary>Where gRPC's messages are: a byte of flags, four of length, and so many of message.</summary>
struct MessageCursor
{
    /// <summary>Bytes in front of a message.</summary>
    public const int Prefix = 5;

    int _prefix;            // bytes of it seen
    long _missing;

    /// <summary>How long the message is that was last begun, without its prefix.</summary>
    public uint Length { get; private set; }

    public readonly bool IsBetween => _prefix == 0 && _missing == 0;

    /// <summary>All of a prefix has been seen, and not all of its message.</summary>
    public readonly bool IsInMessage => _missing > 0;

    /// <summary>Follows a piece up to the end of the message in it, or to its own end.</summary>
    /// <param name="isWhole">The message ends there.</param>
    /// <returns>How many bytes that are.</returns>
    public int Follow(ReadOnlySpan<byte> piece, out bool isWhole)
    {
        var at = 0;
        while (at < piece.Length && _missing == 0)
        {
            Length = _prefix == 0 ? 0 : (Length << 8) | piece[at];
            at++;
            if (++_prefix == Prefix)
            {
                (_prefix, _missing) = (0, Length);
                if (Length == 0)
                {
                    isWhole = true;
                    return at;
                }
            }
        }
        var taken = (int)Math.Min(_missing, piece.Length - at);
        _missing -= taken;
        isWhole = taken > 0 && _missing == 0;
        return at + taken;
    }
}

/// <summary>Messages of gRPC as events: their raw bytes have the prefix of flags and length.</summary>
public sealed class MessageFramer(int maxEventBytes = MessageFramer.DefaultMaxEventBytes) : IEventFramer
{
    /// <summary>What gRPC's own libraries take.</summary>
    public const int DefaultMaxEventBytes = 4 * 1024 * 1024;

    MessageCursor _cursor;
    ReadOnlyMemory<byte> _piece;
    Carry _carry;
    bool _carryGiven, _through, _ended;

    /// <summary>The message in a frame's raw bytes.</summary>
    public static ReadOnlySpan<byte> MessageOf(ReadOnlySpan<byte> raw) => raw[MessageCursor.Prefix..];

    /// <summary>Writes the prefix of a message.</summary>
    /// <param name="flags">1: it is compressed.</param>
    public static void WritePrefix(System.Buffers.IBufferWriter<byte> output, byte flags, int length)
    {
        var prefix = output.GetSpan(MessageCursor.Prefix);
        prefix[0] = flags;
        BinaryPrimitives.WriteInt32BigEndian(prefix[1..], length);
        output.Advance(MessageCursor.Prefix);
    }

    public void Push(ReadOnlyMemory<byte> piece)
    {
        if (!_piece.IsEmpty)
        {
            throw new InvalidOperationException("the previous piece was not read up");
        }
        _piece = piece;
    }

    public void End() => _ended = true;

    public bool TryRead(out Frame frame)
    {
        if (_carryGiven)
        {
            _carryGiven = false;
            _carry.Clear();
        }
        frame = default;
        if (_piece.IsEmpty)
        {
            if (!_ended || _carry.Length == 0)
            {
                return false;
            }
            return GiveCarry(FrameKind.Incomplete, out frame);
        }
        var length = _cursor.Follow(_piece.Span, out var isWhole);
        var part = _piece[..length];
        _piece = _piece[length..];
        if (_through || _carry.Length + length > maxEventBytes
            || (_cursor.IsInMessage && _cursor.Length > maxEventBytes - MessageCursor.Prefix))
        {
            // the parts of a message that is too large come as they are
            _through = !isWhole;
            if (_carry.Length == 0)
            {
                frame = new(FrameKind.TooLarge, part);
                return true;
            }
            _carry.Append(part.Span);
            return GiveCarry(FrameKind.TooLarge, out frame);
        }
        if (isWhole && _carry.Length == 0)
        {
            frame = new(FrameKind.Event, part);
            return true;
        }
        _carry.Append(part.Span);
        return isWhole ? GiveCarry(FrameKind.Event, out frame) : _ended && GiveCarry(FrameKind.Incomplete, out frame);
    }

    bool GiveCarry(FrameKind kind, out Frame frame)
    {
        _carryGiven = true;
        frame = new(kind, _carry.Memory);
        return true;
    }

    public void Dispose() => _carry.Clear();
}

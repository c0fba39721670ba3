namespace Sluice.Relay;

/// <summary>
/// Lines as events (NDJSON, JSON Lines): each ends in LF, its raw bytes include the ending; blank lines are passages.
/// The end of the stream ends the last line.
/// </summary>
public sealed class LineFramer(int maxEventBytes = SseFramer.DefaultMaxEventBytes) : IEventFramer
{
    ReadOnlyMemory<byte> _piece;
    Carry _carry;
    bool _carryGiven;
    bool _through;
    bool _ended;

    public bool BetweenEvents => !_through;

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
        var end = _piece.Span.IndexOf((byte)'\n') + 1;
        if (_through && !_piece.IsEmpty)
        {
            _through = end == 0;
            frame = new Frame(FrameKind.TooLarge, Take(end == 0 ? _piece.Length : end));
            return true;
        }
        if (end == 0)
        {
            return Hold(out frame);
        }
        if (_carry.Length == 0)
        {
            frame = Classify(Take(end));
            return true;
        }
        if (_carry.Length + end > maxEventBytes)
        {
            _through = true;        // the rest of the line follows with the next read
            frame = GiveCarry(FrameKind.TooLarge);
            return true;
        }
        _carry.Append(Take(end).Span);
        _carryGiven = true;
        frame = Classify(_carry.Memory);
        return true;
    }

    public void Dispose() => _carry.Clear();

    /// <summary>No line ends in this piece: keep it, unless that would be too much, or give what is left at the end of the
    /// stream.</summary>
    bool Hold(out Frame frame)
    {
        if (_carry.Length + _piece.Length > maxEventBytes)
        {
            _through = true;
            frame = _carry.Length > 0 ? GiveCarry(FrameKind.TooLarge) : new Frame(FrameKind.TooLarge, Take(_piece.Length));
            return true;
        }
        _carry.Append(Take(_piece.Length).Span);
        frame = default;
        if (!_ended || _carry.Length == 0)
        {
            return false;
        }
        _carryGiven = true;
        frame = Classify(_carry.Memory);
        return true;
    }

    Frame GiveCarry(FrameKind kind)
    {
        _carryGiven = true;
        return new Frame(kind, _carry.Memory);
    }

    Frame Classify(ReadOnlyMemory<byte> line) =>
        new(line.Length > maxEventBytes ? FrameKind.TooLarge
            : line.Span.Trim(" \t\r\n"u8).IsEmpty ? FrameKind.Passage
            : FrameKind.Event, line);

    ReadOnlyMemory<byte> Take(int count)
    {
        var taken = _piece[..count];
        _piece = _piece[count..];
        return taken;
    }
}

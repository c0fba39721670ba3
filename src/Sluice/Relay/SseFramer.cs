namespace Sluice.Relay;

/// <summary>
/// Cuts a <c>text/event-stream</c> (WHATWG HTML, 9.2.6) into its events, whatever the pieces it arrives in. An event that lies whole in a
/// piece is a slice of it; only one that is cut is gathered in a pooled buffer. Comments before an event, blank lines and a byte order mark
/// leave at once as passages.
/// </summary>
/// <remarks>
/// Lines end in CR, LF or CRLF. An event whose last byte here is a CR leaves without waiting for the LF that may belong to it: the LF comes
/// later as a passage.
/// </remarks>
public sealed class SseFramer(int maxEventBytes = SseFramer.DefaultMaxEventBytes) : IEventFramer
{
    public const int DefaultMaxEventBytes = 1024 * 1024;

    static ReadOnlySpan<byte> ByteOrderMark => [0xEF, 0xBB, 0xBF];

    enum Through
    {
        No,
        ToBlankLine,        // an event above the limit
        ToLineEnd,          // a comment above the limit
    }

    ReadOnlyMemory<byte> _piece;
    Carry _carry;
    bool _carryGiven;       // the frame given last is the carry: clear it with the next read
    int _line;              // where the current line begins in the carry
    bool _inBlock;          // the carry holds at least one whole line that is not a comment
    bool _hasData;
    bool _afterCr;          // an LF that comes next belongs to the line ending before
    bool _started;          // past the place of a byte order mark
    bool _ended;
    Through _through;
    bool _lineEmpty = true; // while passing through: nothing of the current line was seen

    public void Push(ReadOnlyMemory<byte> piece)
    {
        if (!_piece.IsEmpty)
        {
            throw new InvalidOperationException("the previous piece was not read up");
        }
        _piece = piece;
    }

    public void End() => _ended = true;

    public void Dispose() => _carry.Clear();

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
            return _ended && Rest(out frame);
        }
        if (!_started && !SkipByteOrderMark(out frame))
        {
            return frame.Raw.Length > 0 || (_ended && Rest(out frame));
        }
        return _through != Through.No ? PassThrough(out frame)
            : _carry.Length > 0 ? Gather(out frame)
            : Scan(out frame);
    }

    /// <summary>Events and passages that begin in this piece.</summary>
    bool Scan(out Frame frame)
    {
        var bytes = _piece.Span;
        var at = 0;
        if (_afterCr)
        {
            _afterCr = false;
            at = bytes[0] == '\n' ? 1 : 0;
        }
        var passage = at;           // so many bytes are a passage
        bool inBlock = false, hasData = false;
        while (at < bytes.Length && TryLine(bytes[at..], out var length, out var next))
        {
            var line = bytes.Slice(at, length);
            if (inBlock && length == 0)
            {
                frame = Block(Take(at + next), hasData);
                return true;
            }
            if (!inBlock && length > 0 && line[0] != ':')
            {
                if (passage > 0)
                {
                    break;          // the passage first; this line is looked at again
                }
                inBlock = true;
            }
            hasData |= IsData(line);
            at += next;
            if (!inBlock)
            {
                passage = at;
            }
        }
        if (passage > 0)
        {
            // the CR at the end of the piece counts only if it is the passage's
            _afterCr &= passage == bytes.Length;
            frame = new Frame(FrameKind.Passage, Take(passage));
            return true;
        }
        return Hold(at, inBlock, hasData, out frame);
    }

    /// <summary>The event is not whole: keep what there is of it.</summary>
    bool Hold(int line, bool inBlock, bool hasData, out Frame frame)
    {
        frame = default;
        if (_piece.Length > maxEventBytes)
        {
            frame = EnterThrough(line < _piece.Length && !inBlock && _piece.Span[0] == ':', line == _piece.Length, Take(_piece.Length));
            return true;
        }
        (_line, _inBlock, _hasData) = (line, inBlock, hasData);
        _carry.Append(Take(_piece.Length).Span);
        return _ended && Rest(out frame);
    }

    /// <summary>Goes on with an event whose beginning came in earlier pieces.</summary>
    bool Gather(out Frame frame)
    {
        frame = default;
        if (_afterCr)
        {
            _afterCr = false;
            if (_piece.Span[0] == '\n')
            {
                _carry.Append(Take(1).Span);
                _line = _carry.Length;
            }
        }
        while (!_piece.IsEmpty)
        {
            var whole = TryLine(_piece.Span, out _, out var next);
            if (_carry.Length + next > maxEventBytes)
            {
                _afterCr = false;   // the bytes are looked at again while they pass through
                _carryGiven = true;
                frame = EnterThrough(!_inBlock && _carry.Span[_line] == ':', _line == _carry.Length, _carry.Memory);
                return true;
            }
            var contentEnd = _carry.Length + (whole ? LineLength(_piece.Span) : next);
            _carry.Append(Take(next).Span);
            if (!whole)
            {
                break;
            }
            var line = _carry.Span[_line..contentEnd];
            var comment = line.Length > 0 && line[0] == ':';
            if (line.IsEmpty || (comment && !_inBlock))
            {
                _carryGiven = true;
                frame = line.IsEmpty && _inBlock ? Block(_carry.Memory, _hasData) : new Frame(FrameKind.Passage, _carry.Memory);
                _inBlock = _hasData = false;
                return true;
            }
            _inBlock |= !comment;
            _hasData |= IsData(line);
            _line = _carry.Length;
        }
        return _ended && Rest(out frame);
    }

    Frame EnterThrough(bool comment, bool lineEmpty, ReadOnlyMemory<byte> raw)
    {
        _through = comment ? Through.ToLineEnd : Through.ToBlankLine;
        _lineEmpty = lineEmpty;
        _inBlock = _hasData = false;
        return new Frame(comment ? FrameKind.Passage : FrameKind.TooLarge, raw);
    }

    /// <summary>The rest of an event above the limit, without holding a byte of it.</summary>
    bool PassThrough(out Frame frame)
    {
        var kind = _through == Through.ToLineEnd ? FrameKind.Passage : FrameKind.TooLarge;
        var bytes = _piece.Span;
        var at = _afterCr && bytes[0] == '\n' ? 1 : 0;
        _afterCr = false;
        while (at < bytes.Length)
        {
            if (!TryLine(bytes[at..], out var length, out var next))
            {
                at = bytes.Length;
                _lineEmpty = false;
                break;
            }
            at += next;
            var blank = length == 0 && _lineEmpty;
            _lineEmpty = true;
            if (blank || _through == Through.ToLineEnd)
            {
                _through = Through.No;
                break;
            }
        }
        frame = new Frame(kind, Take(at));
        return true;
    }

    /// <summary>True when the stream is past its first three bytes or they can't be a mark any more; else a mark to give, or nothing
    /// yet.</summary>
    bool SkipByteOrderMark(out Frame frame)
    {
        frame = default;
        var bytes = _piece.Span;
        var known = Math.Min(3 - _carry.Length, bytes.Length);
        if (!bytes[..known].SequenceEqual(ByteOrderMark.Slice(_carry.Length, known)))
        {
            _started = true;
            return true;
        }
        if (_carry.Length == 0 && known == 3)
        {
            _started = true;
            frame = new Frame(FrameKind.Passage, Take(3));
            return false;
        }
        _carry.Append(Take(known).Span);
        if (_carry.Length == 3)
        {
            _started = _carryGiven = true;
            frame = new Frame(FrameKind.Passage, _carry.Memory);
        }
        return false;
    }

    bool Rest(out Frame frame)
    {
        frame = new Frame(FrameKind.Incomplete, _carry.Memory);
        _carryGiven = _carry.Length > 0;
        return _carryGiven;
    }

    Frame Block(ReadOnlyMemory<byte> raw, bool hasData) =>
        new(raw.Length > maxEventBytes ? FrameKind.TooLarge : hasData ? FrameKind.Event : FrameKind.Fields, raw);

    /// <summary>The first line of the bytes: how long it is, and where the next one begins. Without an ending <paramref name="next"/> is
    /// all of them.</summary>
    bool TryLine(ReadOnlySpan<byte> bytes, out int length, out int next)
    {
        length = LineLength(bytes);
        if (length == bytes.Length)
        {
            next = length;
            return false;
        }
        next = length + 1;
        if (bytes[length] == '\r')
        {
            if (next == bytes.Length)
            {
                _afterCr = true;
            }
            else if (bytes[next] == '\n')
            {
                next++;
            }
        }
        return true;
    }

    static int LineLength(ReadOnlySpan<byte> bytes)
    {
        var end = bytes.IndexOfAny((byte)'\r', (byte)'\n');
        return end < 0 ? bytes.Length : end;
    }

    static bool IsData(ReadOnlySpan<byte> line) => line.StartsWith("data"u8) && (line.Length == 4 || line[4] == ':');

    ReadOnlyMemory<byte> Take(int count)
    {
        var taken = _piece[..count];
        _piece = _piece[count..];
        return taken;
    }
}

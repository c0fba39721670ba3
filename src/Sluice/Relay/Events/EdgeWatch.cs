using Sluice.Net;

namespace Sluice.Relay;

/// <summary>
/// Knows where a stream is between two of its units, so that bytes of the gateway's own (a heartbeat, last words) can stand there. It needs
/// no framer: it looks at the payload as the client gets it, and keeps next to nothing.
/// </summary>
abstract class EdgeWatch : IPieceObserver
{
    /// <summary>Bytes of one's own may come here.</summary>
    public abstract bool IsBetween { get; }

    public abstract void OnPiece(ReadOnlySpan<byte> piece, bool last);
}

/// <summary>
/// Between events there is no payload yet, or it ends in a blank line: behind one line end (CRLF before LF before CR) another. A lone CR
/// counts: an LF that comes later is one more blank line, harmless. Comments alone between events (heartbeats of many servers) leave it
/// there.
/// </summary>
sealed class SseEdge : EdgeWatch
{
    const int Kept = 4;

    uint _tail;             // the last four bytes, the very last lowest
    byte _seen;             // how many of them there are; Kept + 1: and more before
    bool _afterComments;

    public override bool IsBetween => _afterComments || IsBlankLine(_tail, _seen);

    public override void OnPiece(ReadOnlySpan<byte> piece, bool last)
    {
        if (piece.IsEmpty)
        {
            return;
        }
        _afterComments = piece[0] == (byte)':' && IsBetween && IsComments(piece);
        foreach (var next in piece.Length > Kept ? piece[^Kept..] : piece)
        {
            _tail = (_tail << 8) | next;
        }
        _seen = (byte)Math.Min(Kept + 1, _seen + Math.Min(piece.Length, Kept + 1));
    }

    static bool IsBlankLine(uint tail, int seen)
    {
        if (seen == 0)
        {
            return true;
        }
        var last = (byte)tail;
        if (last is not ((byte)'\n' or (byte)'\r'))
        {
            return false;
        }
        var end = last == '\n' && seen > 1 && (byte)(tail >> 8) == '\r' ? 2 : 1;
        return end == seen || (byte)(tail >> (8 * end)) is (byte)'\n' or (byte)'\r';
    }

    /// <summary>Whole lines, each a comment.</summary>
    static bool IsComments(ReadOnlySpan<byte> piece)
    {
        while (!piece.IsEmpty)
        {
            var end = piece.IndexOfAny((byte)'\r', (byte)'\n');
            if (end < 0 || (piece[0] != ':' && end > 0))
            {
                return false;
            }
            piece = piece[(end + 1)..];
        }
        return true;
    }
}

/// <summary>Between lines.</summary>
sealed class LineEdge : EdgeWatch
{
    bool _inLine;

    public override bool IsBetween => !_inLine;

    public override void OnPiece(ReadOnlySpan<byte> piece, bool last)
    {
        if (!piece.IsEmpty)
        {
            _inLine = piece[^1] != '\n';
        }
    }
}

/// <summary>Between messages of gRPC.</summary>
/// <param name="message">Called for each that is complete, with its length.</param>
sealed class MessageEdge(Action<uint>? message = null) : EdgeWatch
{
    MessageCursor _cursor;

    public override bool IsBetween => _cursor.IsBetween;

    public override void OnPiece(ReadOnlySpan<byte> piece, bool last)
    {
        while (!piece.IsEmpty)
        {
            piece = piece[_cursor.Follow(piece, out var isWhole)..];
            if (isWhole)
            {
                message?.Invoke(_cursor.Length);
            }
        }
    }
}

/// <summary>Two that look at the same pieces.</summary>
sealed class BothObservers(IPieceObserver one, IPieceObserver other) : IPieceObserver
{
    public void OnPiece(ReadOnlySpan<byte> piece, bool last)
    {
        one.OnPiece(piece, last);
        other.OnPiece(piece, last);
    }
}

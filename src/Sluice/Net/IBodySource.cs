using Sluice.Net.Epoll;

namespace Sluice.Net;

/// <summary>Where a response's body comes from. It has one reader at a time; <see cref="Abort"/> may come from anywhere at any
/// time.</summary>
public interface IBodySource
{
    /// <summary>How the end of the body is found where it comes from.</summary>
    BodyFraming Framing { get; }

    /// <summary>All of it has been read.</summary>
    bool Ended { get; }

    /// <summary>Completes when <see cref="ReadAsync"/> has something to say. No buffer is held meanwhile.</summary>
    ValueTask WaitReadableAsync();

    /// <summary>Gives bytes as soon as there are any: at most what fits, never waiting to fill. 0 is the clean end.</summary>
    /// <exception cref="UpstreamException">Everything that is no clean end.</exception>
    ValueTask<int> ReadAsync(Memory<byte> destination);

    /// <summary>Nobody reads on: where it comes from may stop.</summary>
    void Abort(UpstreamFailureKind reason);
}

/// <summary>A body that can be passed on with the framing in which it came.</summary>
public interface IFramedBody : IBodySource
{
    /// <summary>What is read has its framing; decided before the first read.</summary>
    bool KeepsFraming { get; set; }

    /// <summary>Bytes of payload among what was read with its framing.</summary>
    long FramedPayload { get; }

    /// <summary>Sees the payload of what is read with its framing; null when nobody looks.</summary>
    IPieceObserver? Observer { set; }
}

/// <summary>A body that can be read without waiting while its socket is one of the loop that this runs on.</summary>
interface ILoopBody : IBodySource
{
    /// <summary>Null when it cannot be read so, here.</summary>
    LoopSocket? SocketHere { get; }

    /// <summary>There is something to read whatever the socket says.</summary>
    bool HasReceived { get; }

    /// <summary>Reads what is there now, without an await, which a small event would feel; -1 when there is nothing to give now, 0 at the
    /// clean end.</summary>
    int TryRead(Span<byte> destination);
}

/// <summary>
/// Looks at a body's pieces on their way to a client. It runs on the body's own loop: it never waits, keeps no piece and is soon done. It
/// can be attached and taken off while the body runs.
/// </summary>
public interface IPieceObserver
{
    /// <param name="piece">Payload as the client gets it, without framing; empty when the body ends.</param>
    /// <param name="last">No more pieces come, whether the end was a clean one or not.</param>
    void OnPiece(ReadOnlySpan<byte> piece, bool last);
}

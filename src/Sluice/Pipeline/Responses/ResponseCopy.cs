using System.Buffers;
using Sluice.Net;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>
/// Somebody copies a source's response as it came, before any plugin has changed it, while it passes. Where no filter looks into the body
/// it only looks on (<see cref="IPieceObserver"/>), else it is the first of the filters; no piece is held for it.
/// </summary>
internal abstract class ResponseCopy : IPieceObserver, IPieceFilter
{
    IBodySource? _body;

    /// <summary>The body begins; false: this one cannot be told complete from broken off, or is no longer the source's own.</summary>
    internal bool Follows(IBodySource body)
    {
        _body = body;
        return body.Framing.Kind is BodyKind.Length or BodyKind.Chunked;
    }

    /// <summary>The response has gone out as it should: was that all of it?</summary>
    internal void Passed(Exchange exchange) =>
        End(_body is { Ended: true } && exchange is { Failure: null, EndReason: null, StreamEndReason: null });

    public abstract void OnPiece(ReadOnlySpan<byte> piece, bool last);

    /// <summary>No more pieces come.</summary>
    /// <param name="complete">The pieces were the whole body.</param>
    public abstract void End(bool complete);

    public void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output)
    {
        if (!piece.IsEmpty)
        {
            OnPiece(piece.Span, false);
            output.Write(piece.Span);
        }
    }
}

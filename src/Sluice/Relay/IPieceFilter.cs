using System.Buffers;

namespace Sluice.Relay;

/// <summary>One answer's body filter. Each piece that comes in leaves at once: what is written to the output is flushed before the next
/// read.</summary>
public interface IPieceFilter
{
    /// <param name="piece">Bytes as they came; empty only together with <paramref name="last"/>.</param>
    /// <param name="last">True exactly once, for the last call.</param>
    /// <param name="output">What goes on to the next filter or the client; nothing written = the piece is swallowed.</param>
    void Filter(ReadOnlyMemory<byte> piece, bool last, IBufferWriter<byte> output);

    /// <summary>
    /// Asked after each piece: true ends the answer here. The last call follows as at a natural end, then the client gets a proper end, and
    /// the upstream is let go.
    /// </summary>
    bool Ended => false;

    /// <summary>Somebody cuts the stream into its events.</summary>
    bool CutsEvents => false;

    /// <summary>It keeps what has come, and the head waits with it.</summary>
    bool Holds => false;
}

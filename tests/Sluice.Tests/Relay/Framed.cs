using System.Text;
using Sluice.Relay;

namespace Sluice.Tests.Relay;

/// <summary>A frame that a framer gave, with its bytes as Latin-1.</summary>
sealed record Seen(FrameKind Kind, string Raw);

static class Framed
{
    /// <summary>The frames of a stream that comes in pieces of these sizes, and then the rest.</summary>
    public static List<Seen> Cut(IEventFramer framer, byte[] stream, IEnumerable<int> sizes)
    {
        var seen = new List<Seen>();
        var at = 0;
        using (framer)
        {
            foreach (var size in sizes.Append(stream.Length))
            {
                // a buffer of its own that is wiped afterwards: a frame that outlives its piece would show
                var piece = stream[at..Math.Min(at + size, stream.Length)];
                at += piece.Length;
                framer.Push(piece);
                Drain();
                piece.AsSpan().Fill((byte)'?');
            }
            framer.End();
            Drain();
        }
        return seen;

        void Drain()
        {
            while (framer.TryRead(out var frame))
            {
                seen.Add(new Seen(frame.Kind, Encoding.Latin1.GetString(frame.Raw.Span)));
            }
        }
    }
}

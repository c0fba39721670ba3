using System.Buffers;

namespace Sluice.Relay;

public enum FrameKind
{
    /// <summary>A whole event: what a receiver would be told.</summary>
    Event,

    /// <summary>A whole block of fields that tells the receiver nothing by itself (SSE: an id or retry without data).</summary>
    Fields,

    /// <summary>Bytes between events: comments, blank lines, a byte order mark.</summary>
    Passage,

    /// <summary>A part of an event above the limit. Either it ends the stream with an error, or the parts are passed on as they
    /// come.</summary>
    TooLarge,

    /// <summary>What was left when the stream ended in the middle of an event; a receiver forgets it.</summary>
    Incomplete,
}

/// <summary>A slice of the stream, byte for byte. It is valid until the framer is next called.</summary>
public readonly record struct Frame(FrameKind Kind, ReadOnlyMemory<byte> Raw);

/// <summary>
/// Cuts a byte stream into its events, whatever the pieces it arrives in. The raw bytes of all frames, one after another, are the stream.
/// <code>
/// framer.Push(piece);                        // the piece must stay as it is until TryRead says false
/// while (framer.TryRead(out var frame)) { … }
/// </code>
/// One implementation for each framing: <see cref="SseFramer"/>, <see cref="LineFramer"/> (NDJSON), <see cref="MessageFramer"/> (gRPC).
/// </summary>
public interface IEventFramer : IDisposable
{
    /// <summary>The next piece of the stream; only when the previous one was read up.</summary>
    void Push(ReadOnlyMemory<byte> piece);

    /// <summary>The stream is over: the next reads give what is left.</summary>
    void End();

    bool TryRead(out Frame frame);
}

/// <summary>The beginning of an event whose end is still to come, in a pooled array; holds none while empty.</summary>
struct Carry
{
    byte[]? _array;

    public int Length { get; private set; }

    public readonly ReadOnlyMemory<byte> Memory => _array.AsMemory(0, Length);

    public readonly ReadOnlySpan<byte> Span => _array.AsSpan(0, Length);

    public void Append(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return;
        }
        if (_array is null || _array.Length - Length < bytes.Length)
        {
            Grow(bytes.Length);
        }
        bytes.CopyTo(_array.AsSpan(Length));
        Length += bytes.Length;
    }

    public void Clear()
    {
        Length = 0;
        if (_array is not null)
        {
            ArrayPool<byte>.Shared.Return(_array);
            _array = null;
        }
    }

    void Grow(int more)
    {
        var larger = ArrayPool<byte>.Shared.Rent(Math.Max(Length + more, Length * 2));
        if (_array is not null)
        {
            Span.CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_array);
        }
        _array = larger;
    }
}

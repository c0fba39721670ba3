using System.Runtime.InteropServices;
using System.Text;

namespace Sluice.Net;

/// <summary>
/// Takes the chunk framing off, strictly and incrementally: each byte of payload comes out as soon as it went in. Sizes are plain hexadecimal
/// digits, directly followed by CRLF or an extension; extensions are skipped up to a limit; every line ends with CRLF.
/// </summary>
sealed class ChunkedDecoder(int maxTrailerBytes = 16 * 1024)
{
    const int MaxExtensionBytes = 256;
    const int MaxSizeDigits = 16;

    enum State
    {
        Size,
        Extension,
        SizeLineFeed,
        Data,
        DataReturn,
        DataLineFeed,
        Trailer,
        Done,
    }

    State state;
    long remaining;
    int digits;
    int extensionBytes;
    List<byte>? trailer;
    List<HeaderFields.Place>? places;
    int trailerBytes;
    int lineStart;

    public bool Done => state == State.Done;

    /// <summary>Trailer fields, complete when <see cref="Done"/>. Those that say how a message is framed or routed are left out.</summary>
    public HeaderFields Trailers { get; private set; } = HeaderFields.Empty;

    /// <summary>
    /// Decodes until the source is used up, the destination is full or the body ended. The destination may be the source's own memory
    /// (both starting at the same place).
    /// </summary>
    /// <returns>How many bytes of the source were used; <paramref name="written"/>: payload bytes put into the destination.</returns>
    public int Decode(ReadOnlySpan<byte> source, Span<byte> destination, out int written)
    {
        var read = 0;
        written = 0;
        while (read < source.Length && state != State.Done)
        {
            if (state == State.Data)
            {
                var count = (int)Math.Min(Math.Min(remaining, source.Length - read), destination.Length - written);
                if (count == 0)
                {
                    break;
                }
                source.Slice(read, count).CopyTo(destination[written..]);
                read += count;
                written += count;
                remaining -= count;
                if (remaining == 0)
                {
                    state = State.DataReturn;
                }
                continue;
            }
            Step(source[read++]);
        }
        return read;
    }

    /// <summary>
    /// Follows the framing without taking it off: for bytes that are passed on as they came. The trailers are held back, they have to be looked at
    /// (<see cref="WriteTrailers"/>).
    /// </summary>
    /// <returns>How many bytes of the source belong to the body.</returns>
    /// <param name="passed">How many of them, from the start, may go on: chunks with their framing, the last one's line included.</param>
    /// <param name="payload">How many of those are payload.</param>
    public int Follow(ReadOnlySpan<byte> source, out int passed, out int payload)
    {
        var read = 0;
        passed = payload = 0;
        while (read < source.Length && state != State.Done)
        {
            if (state == State.Data)
            {
                var count = (int)Math.Min(remaining, source.Length - read);
                read += count;
                payload += count;
                remaining -= count;
                if (remaining == 0)
                {
                    state = State.DataReturn;
                }
                passed = read;
                continue;
            }
            var isTrailer = state == State.Trailer;
            Step(source[read++]);
            if (!isTrailer)
            {
                passed = read;
            }
        }
        return read;
    }

    /// <summary>What comes after the last chunk's line, once <see cref="Done"/>: the trailers and the empty line.</summary>
    public byte[] WriteTrailers()
    {
        if (Trailers.Count == 0)
        {
            return EmptyLine;
        }
        using var written = new MemoryStream();
        for (var index = 0; index < Trailers.Count; index++)
        {
            written.Write(Trailers.NameBytes(index));
            written.Write(": "u8);
            written.Write(Trailers.ValueBytes(index));
            written.Write(EmptyLine);
        }
        written.Write(EmptyLine);
        return written.ToArray();
    }

    static readonly byte[] EmptyLine = [(byte)'\r', (byte)'\n'];

    void Step(byte next)
    {
        switch (state)
        {
            case State.Size:
                StepSize(next);
                break;
            case State.Extension when next == '\r':
                state = State.SizeLineFeed;
                break;
            case State.Extension:
                if (++extensionBytes > MaxExtensionBytes)
                {
                    throw ResponseHeadParser.Bad("a chunk extension that is too long");
                }
                if (next is < (byte)' ' and not (byte)'\t' or 127)
                {
                    throw ResponseHeadParser.Bad("a control character in a chunk extension");
                }
                break;
            case State.SizeLineFeed:
                Require(next, '\n', "a chunk size that is not followed by CRLF");
                state = remaining > 0 ? State.Data : State.Trailer;
                digits = 0;
                break;
            case State.DataReturn:
                Require(next, '\r', "chunk data that is not followed by CRLF");
                state = State.DataLineFeed;
                break;
            case State.DataLineFeed:
                Require(next, '\n', "chunk data that is not followed by CRLF");
                state = State.Size;
                break;
            case State.Trailer:
                StepTrailer(next);
                break;
        }
    }

    void StepSize(byte next)
    {
        if (char.IsAsciiHexDigit((char)next))
        {
            if (++digits > MaxSizeDigits || remaining > long.MaxValue >> 4)
            {
                throw ResponseHeadParser.Bad("a chunk size that is too large");
            }
            remaining = (remaining << 4) + HexValue(next);
        }
        else if (digits == 0)
        {
            throw ResponseHeadParser.Bad("a chunk without a size");
        }
        else if (next == '\r')
        {
            state = State.SizeLineFeed;
        }
        else if (next == ';')
        {
            extensionBytes = 0;
            state = State.Extension;
        }
        else
        {
            throw ResponseHeadParser.Bad("an invalid chunk size");
        }
    }

    void StepTrailer(byte next)
    {
        if (++trailerBytes > maxTrailerBytes)
        {
            throw ResponseHeadParser.Bad($"trailers longer than {maxTrailerBytes} bytes");
        }
        trailer ??= new List<byte>(2);
        trailer.Add(next);
        if (next != '\n')
        {
            return;
        }
        var bytes = CollectionsMarshal.AsSpan(trailer);
        var line = bytes[lineStart..^1];
        if (line.IsEmpty || line[^1] != '\r')
        {
            throw ResponseHeadParser.Bad("a trailer line does not end with CRLF");
        }
        line = line[..^1];
        if (line.IsEmpty)
        {
            if (places is not null)
            {
                Trailers = new HeaderFields(bytes.ToArray(), [.. places]);
            }
            trailer = null;
            state = State.Done;
            return;
        }
        var place = ResponseHeadParser.ParseField(line, lineStart);
        if (!IsForbidden(line[..place.NameLength]))
        {
            (places ??= []).Add(place);
        }
        lineStart = trailer.Count;
    }

    static bool IsForbidden(ReadOnlySpan<byte> name) => name.Length switch
    {
        2 => Ascii.EqualsIgnoreCase(name, "TE"u8),
        4 => Ascii.EqualsIgnoreCase(name, "Host"u8),
        7 => Ascii.EqualsIgnoreCase(name, "Trailer"u8) || Ascii.EqualsIgnoreCase(name, "Upgrade"u8),
        10 => Ascii.EqualsIgnoreCase(name, "Connection"u8) || Ascii.EqualsIgnoreCase(name, "Keep-Alive"u8),
        14 => Ascii.EqualsIgnoreCase(name, "Content-Length"u8),
        17 => Ascii.EqualsIgnoreCase(name, "Transfer-Encoding"u8),
        _ => false,
    };

    static void Require(byte next, char wanted, string otherwise)
    {
        if (next != wanted)
        {
            throw ResponseHeadParser.Bad(otherwise);
        }
    }

    static int HexValue(byte digit) => digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
}

using System.Runtime.InteropServices;
using System.Text;
using Sluice.Net.Http;

namespace Sluice.Net;

/// <summary>
/// Takes the chunk framing off, strictly and incrementally: each byte of payload comes out as soon as it went in. Sizes are plain
/// hexadecimal digits, directly followed by CRLF or an extension; extensions are skipped up to a limit; every line ends with CRLF.
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

    State _state;
    long _remaining;
    int _digits;
    int _extensionBytes;
    List<byte>? _trailer;
    List<HeaderFields.Place>? _places;
    int _trailerBytes;
    int _lineStart;

    public bool Done => _state == State.Done;

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
        while (read < source.Length && _state != State.Done)
        {
            if (_state == State.Data)
            {
                var count = (int)Math.Min(Math.Min(_remaining, source.Length - read), destination.Length - written);
                if (count == 0)
                {
                    break;
                }
                source.Slice(read, count).CopyTo(destination[written..]);
                read += count;
                written += count;
                _remaining -= count;
                if (_remaining == 0)
                {
                    _state = State.DataReturn;
                }
                continue;
            }
            Step(source[read++]);
        }
        return read;
    }

    /// <summary>
    /// Follows the framing without taking it off: for bytes that are passed on as they came. The trailers are held back, they have to be
    /// looked at (<see cref="WriteTrailers"/>).
    /// </summary>
    /// <returns>How many bytes of the source belong to the body.</returns>
    /// <param name="passed">How many of them, from the start, may go on: chunks with their framing, the last one's line included.</param>
    /// <param name="payload">How many of those are payload.</param>
    /// <param name="observer">Sees the payload; null when nobody looks.</param>
    public int Follow(ReadOnlySpan<byte> source, out int passed, out int payload, IPieceObserver? observer = null)
    {
        var read = 0;
        passed = payload = 0;
        while (read < source.Length && _state != State.Done)
        {
            if (_state == State.Data)
            {
                var count = (int)Math.Min(_remaining, source.Length - read);
                observer?.OnPiece(source.Slice(read, count), false);
                read += count;
                payload += count;
                _remaining -= count;
                if (_remaining == 0)
                {
                    _state = State.DataReturn;
                }
                passed = read;
                continue;
            }
            var isTrailer = _state == State.Trailer;
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
        switch (_state)
        {
            case State.Size:
                StepSize(next);
                break;
            case State.Extension when next == '\r':
                _state = State.SizeLineFeed;
                break;
            case State.Extension:
                if (++_extensionBytes > MaxExtensionBytes)
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
                _state = _remaining > 0 ? State.Data : State.Trailer;
                _digits = 0;
                break;
            case State.DataReturn:
                Require(next, '\r', "chunk data that is not followed by CRLF");
                _state = State.DataLineFeed;
                break;
            case State.DataLineFeed:
                Require(next, '\n', "chunk data that is not followed by CRLF");
                _state = State.Size;
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
            if (++_digits > MaxSizeDigits || _remaining > long.MaxValue >> 4)
            {
                throw ResponseHeadParser.Bad("a chunk size that is too large");
            }
            _remaining = (_remaining << 4) + HexValue(next);
        }
        else if (_digits == 0)
        {
            throw ResponseHeadParser.Bad("a chunk without a size");
        }
        else if (next == '\r')
        {
            _state = State.SizeLineFeed;
        }
        else if (next == ';')
        {
            _extensionBytes = 0;
            _state = State.Extension;
        }
        else
        {
            throw ResponseHeadParser.Bad("an invalid chunk size");
        }
    }

    void StepTrailer(byte next)
    {
        if (++_trailerBytes > maxTrailerBytes)
        {
            throw ResponseHeadParser.Bad($"trailers longer than {maxTrailerBytes} bytes");
        }
        _trailer ??= new List<byte>(2);
        _trailer.Add(next);
        if (next != '\n')
        {
            return;
        }
        var bytes = CollectionsMarshal.AsSpan(_trailer);
        var line = bytes[_lineStart..^1];
        if (line.IsEmpty || line[^1] != '\r')
        {
            throw ResponseHeadParser.Bad("a trailer line does not end with CRLF");
        }
        line = line[..^1];
        if (line.IsEmpty)
        {
            if (_places is not null)
            {
                Trailers = new HeaderFields(bytes.ToArray(), [.. _places]);
            }
            _trailer = null;
            _state = State.Done;
            return;
        }
        var place = ResponseHeadParser.ParseField(line, _lineStart);
        if (!HopByHop.IsForbiddenTrailer(line[..place.NameLength]))
        {
            (_places ??= []).Add(place);
        }
        _lineStart = _trailer.Count;
    }

    static void Require(byte next, char wanted, string otherwise)
    {
        if (next != wanted)
        {
            throw ResponseHeadParser.Bad(otherwise);
        }
    }

    static int HexValue(byte digit) => digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
}

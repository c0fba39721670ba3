using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Sluice.Net.Http;

namespace Sluice.Net;

/// <summary>
/// Strict, incremental parser of response heads. Give it all bytes since the head's start each time some came; where they were cut makes no
/// difference to what it says.
/// <para>
/// Refused is everything that two parsers could understand differently: repeated Content-Length (equal ones too), Content-Length together
/// with Transfer-Encoding, any Transfer-Encoding but <c>chunked</c>, folded lines, spaces around names, control characters, and line ends
/// other than CRLF: a bare LF too, although nginx takes it from upstreams. A status line without reason may lack the space after the
/// status: common, and there is only one way to read it.
/// </para>
/// </summary>
sealed class ResponseHeadParser
{
    /// <summary>Control characters other than HTAB.</summary>
    static readonly SearchValues<byte> Controls =
        SearchValues.Create([.. Enumerable.Range(0, 32).Where(code => code != '\t').Select(code => (byte)code), 127]);

    readonly List<HeaderFields.Place> _places = [];
    int _lineStart;
    int _searched;
    int _minorVersion = -1;
    int _status;
    int _reasonStart;
    int _reasonLength;

    /// <summary>The head's length with its empty line once <see cref="Advance"/> said true.</summary>
    public int Length => _lineStart;

    [ThreadStatic]
    static ResponseHeadParser? t_spare;

    /// <summary>For one head; nearly always it comes at once, and the thread's next one needs no other.</summary>
    public static ResponseHeadParser Rent()
    {
        var spare = t_spare;
        t_spare = null;
        return spare ?? new();
    }

    /// <summary>The head has been built.</summary>
    public void Return()
    {
        Reset();
        t_spare = this;
    }

    public static bool HasControls(ReadOnlySpan<byte> value) => value.ContainsAny(Controls);

    public void Reset()
    {
        _places.Clear();
        _lineStart = _searched = _status = _reasonStart = _reasonLength = 0;
        _minorVersion = -1;
    }

    /// <summary>True when the head is complete, false when it needs more bytes.</summary>
    /// <param name="received">All bytes since the head's start, earlier ones again.</param>
    /// <param name="limit">How many bytes the head may have.</param>
    public bool Advance(ReadOnlySpan<byte> received, int limit)
    {
        var within = received[..Math.Min(received.Length, limit)];
        if (_minorVersion < 0)
        {
            CheckBeginning(within);
        }
        while (true)
        {
            var at = within[_searched..].IndexOf((byte)'\n');
            if (at < 0)
            {
                _searched = within.Length;
                return within.Length < limit ? false : throw Bad($"the head is longer than {limit} bytes");
            }
            var end = _searched + at;
            var line = within[_lineStart..end];
            if (line.IsEmpty || line[^1] != '\r')
            {
                throw Bad("a line of the head does not end with CRLF");
            }
            line = line[..^1];
            var start = _lineStart;
            _lineStart = _searched = end + 1;
            if (_minorVersion < 0)
            {
                ParseStatusLine(line);
            }
            else if (line.IsEmpty)
            {
                return true;
            }
            else
            {
                _places.Add(ParseField(line, start));
            }
        }
    }

    /// <summary>What the complete head says. <paramref name="received"/> is what <see cref="Advance"/> got.</summary>
    public ResponseHead Build(ReadOnlySpan<byte> received, in RequestFacts request)
    {
        var headers = new HeaderFields(received[..Length].ToArray(), CollectionsMarshal.AsSpan(_places).ToArray());
        var reason = ReasonText(_status, received.Slice(_reasonStart, _reasonLength));
        var length = -1L;
        var chunked = false;
        var close = _minorVersion == 0;
        for (var index = 0; index < headers.Count; index++)
        {
            switch (headers.NameBytes(index).Length)
            {
                case 14 when headers.NameIs(index, "Content-Length"u8):
                    length = length < 0 ? ParseLength(headers.ValueBytes(index)) : throw Bad("Content-Length more than once");
                    break;
                case 17 when headers.NameIs(index, "Transfer-Encoding"u8):
                    if (chunked || !Ascii.EqualsIgnoreCase(headers.ValueBytes(index), "chunked"u8))
                    {
                        throw Bad("a Transfer-Encoding other than \"chunked\"");
                    }
                    chunked = true;
                    break;
                case 10 when headers.NameIs(index, "Connection"u8):
                    if (HopByHop.HasToken(headers.ValueBytes(index), "close"u8))
                    {
                        close = true;
                    }
                    else if (_minorVersion == 0 && HopByHop.HasToken(headers.ValueBytes(index), "keep-alive"u8))
                    {
                        close = false;
                    }
                    break;
            }
        }
        if (chunked && length >= 0)
        {
            throw Bad("Transfer-Encoding together with Content-Length");
        }
        if (chunked && _minorVersion == 0)
        {
            throw Bad("Transfer-Encoding in HTTP/1.0");
        }
        var body = Framing(request, length, chunked);
        // a body announced where none may be: if it comes all the same, nobody must take it for the next answer
        var suspicious = body.Kind == BodyKind.None && _status is 204 or 304 && (chunked || (length > 0 && _status == 204));
        var tunnel = request.IsConnect && _status is >= 200 and < 300;
        var keepAlive = !close && !suspicious && !tunnel && body.Kind is not (BodyKind.CloseDelimited or BodyKind.Upgrade);
        return new ResponseHead(1, _minorVersion, _status, reason, headers, body, keepAlive);
    }

    BodyFraming Framing(in RequestFacts request, long length, bool chunked)
    {
        if (_status == 101)
        {
            return request.AsksUpgrade ? new(BodyKind.Upgrade) : throw Bad("101 although no upgrade was asked for");
        }
        if (_status < 200 && (chunked || length > 0))
        {
            throw Bad("an interim answer with a body");
        }
        if (_status is < 200 or 204 or 304 || request.IsHead || (request.IsConnect && _status < 300))
        {
            return new(BodyKind.None);
        }
        return chunked ? new(BodyKind.Chunked) : length >= 0 ? new(BodyKind.Length, length) : new(BodyKind.CloseDelimited);
    }

    /// <summary>Garbage is told at once, not after its first line end, which may never come.</summary>
    static void CheckBeginning(ReadOnlySpan<byte> received)
    {
        var expected = "HTTP/1."u8;
        var common = Math.Min(received.Length, expected.Length);
        if (!received[..common].SequenceEqual(expected[..common]))
        {
            throw Bad("not an HTTP/1 response");
        }
    }

    void ParseStatusLine(ReadOnlySpan<byte> line)
    {
        // HTTP/1.1 200 OK
        if (line.Length < 12 || !char.IsAsciiDigit((char)line[7]) || line[8] != ' ' || line[9] is < (byte)'1' or > (byte)'9'
            || !char.IsAsciiDigit((char)line[10]) || !char.IsAsciiDigit((char)line[11]) || (line.Length > 12 && line[12] != ' '))
        {
            throw Bad("malformed status line");
        }
        if (HasControls(line))
        {
            throw Bad("a control character in the status line");
        }
        _status = ((line[9] - '0') * 100) + ((line[10] - '0') * 10) + line[11] - '0';
        _reasonStart = Math.Min(13, line.Length);
        _reasonLength = line.Length - _reasonStart;
        _minorVersion = line[7] - '0';
    }

    /// <summary>One header or trailer line without its CRLF; the places count from <paramref name="offset"/>.</summary>
    public static HeaderFields.Place ParseField(ReadOnlySpan<byte> line, int offset)
    {
        if (line[0] is (byte)' ' or (byte)'\t')
        {
            throw Bad("a folded header line");
        }
        var colon = line.IndexOf((byte)':');
        if (colon < 0)
        {
            throw Bad("a header line without a colon");
        }
        if (!HeaderName.IsToken(line[..colon]))
        {
            throw Bad("an invalid header name");
        }
        var value = line[(colon + 1)..];
        if (HasControls(value))
        {
            throw Bad("a control character in a header");
        }
        var start = colon + 1 + value.Length - value.TrimStart(" \t"u8).Length;
        return new(offset, colon, offset + start, value.Trim(" \t"u8).Length);
    }

    static long ParseLength(ReadOnlySpan<byte> value) =>
        value.Length is > 0 and <= 18 && !value.ContainsAnyExceptInRange((byte)'0', (byte)'9')
            ? long.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture)
            : throw Bad("an invalid Content-Length");

    static string ReasonText(int status, ReadOnlySpan<byte> reason) => status switch
    {
        200 when reason.SequenceEqual("OK"u8) => "OK",
        _ when reason.IsEmpty => "",
        _ => Encoding.Latin1.GetString(reason),
    };

    internal static UpstreamException Bad(string what) => new(UpstreamFailureKind.BadResponse, what) { AnswerBegun = true };
}

/// <summary>What of the request decides how its answer reads.</summary>
readonly record struct RequestFacts(bool IsHead, bool IsConnect, bool AsksUpgrade);

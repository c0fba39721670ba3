using System.Buffers;
using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;
using Sluice.Net.Http;
using KestrelServerLimits = Microsoft.AspNetCore.Server.Kestrel.Core.KestrelServerLimits;

namespace Sluice.Net.Http1;

/// <summary>
/// A request's head, parsed line by line as it comes (RFC 9112). Refused is everything that two servers could understand differently:
/// repeated or malformed Content-Length, Content-Length beside Transfer-Encoding, any Transfer-Encoding but <c>chunked</c>, folded lines,
/// spaces around names, control characters, line ends other than CRLF, more or less than one Host, a target in absolute form that names
/// another host.
/// </summary>
internal sealed class RequestHead
{
    /// <summary>Empty lines before a request that are overlooked (RFC 9112, section 2.2).</summary>
    const int MaxEmptyLines = 2;

    static readonly SearchValues<byte> HostBytes =
        SearchValues.Create("-._~!$&'()*+;=%0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"u8);

    static readonly SearchValues<byte> LiteralBytes = SearchValues.Create("0123456789ABCDEFabcdef:.%"u8);

    int _bytes, _count, _emptyLines;
    long _searched;
    bool _hasRequestLine, _hasEncoding, _hasHost;

    /// <summary>Empty while no request line was understood.</summary>
    public string Method { get; private set; } = "";

    /// <summary>As sent: origin, absolute, authority or asterisk form.</summary>
    public string Target { get; private set; } = "";

    /// <summary><c>HTTP/1.1</c> or <c>HTTP/1.0</c>.</summary>
    public string Protocol { get; private set; } = "";

    public HeaderList Headers { get; } = new();

    /// <summary>The body comes in chunks.</summary>
    public bool IsChunked => _hasEncoding;

    public bool IsHttp11 => ReferenceEquals(Protocol, "HTTP/1.1");

    /// <summary>The client means to send another request on this connection.</summary>
    public bool KeepAlive { get; private set; }

    /// <summary>The client waits for 100 (Continue) before it sends the body.</summary>
    public bool ExpectsContinue { get; private set; }

    /// <summary>The client asks to go on in another protocol.</summary>
    public bool AsksUpgrade { get; private set; }

    /// <summary>Bytes of the lines that were taken, the request line and the empty one at the end included.</summary>
    public int Size { get; private set; }

    /// <summary>A header that was left out because of its name (nginx's <c>ignore_invalid_headers</c>); null when there was none.</summary>
    public string? InvalidName { get; private set; }

    /// <summary>Bytes of this head were received.</summary>
    public bool Begun { get; private set; }

    /// <summary>For the connection's next request.</summary>
    public void Next()
    {
        Headers.Next();
        _bytes = _count = _emptyLines = Size = 0;
        _searched = 0;
        InvalidName = null;
        _hasRequestLine = _hasEncoding = _hasHost = false;
        Begun = KeepAlive = ExpectsContinue = AsksUpgrade = false;
        Method = Protocol = "";
    }

    /// <summary>Takes the lines that are complete.</summary>
    /// <param name="buffer">What was received and not consumed; afterwards what is left of it.</param>
    /// <returns>True when the head is complete; false when it needs more bytes.</returns>
    /// <exception cref="BadHttpRequestException">With the status to refuse it with.</exception>
    public bool Advance(ref ReadOnlySequence<byte> buffer, KestrelServerLimits limits)
    {
        var complete = TakeLines(ref buffer, limits);
        Begun |= _hasRequestLine || !buffer.IsEmpty;
        return complete;
    }

    bool TakeLines(ref ReadOnlySequence<byte> buffer, KestrelServerLimits limits)
    {
        while (true)
        {
            var limit = _hasRequestLine ? limits.MaxRequestHeadersTotalSize - _bytes : limits.MaxRequestLineSize;
            limit = _hasRequestLine ? Math.Min(limit, limits.Http2.MaxRequestHeaderFieldSize) : limit;
            var span = buffer.FirstSpan;
            // of a line that comes in many pieces each byte is looked at once
            var known = (int)Math.Min(_searched, span.Length);
            var end = span[known..].IndexOf((byte)'\n');
            if (end >= 0)
            {
                end += known;
                _searched = 0;
                CheckSize(end + 1, limit);
                var done = Line(span[..end], limits);
                buffer = buffer.Slice(end + 1);
                if (done)
                {
                    return true;
                }
                continue;
            }
            if (buffer.IsSingleSegment || buffer.Slice(_searched).PositionOf((byte)'\n') is not { } position)
            {
                CheckSize(buffer.Length, limit);
                _searched = buffer.Length;
                return false;
            }
            _searched = 0;
            var length = buffer.Slice(0, position).Length;
            CheckSize(length + 1, limit);
            if (AcrossBlocks(buffer.Slice(0, position), (int)length, limits, ref buffer))
            {
                return true;
            }
        }
    }

    bool AcrossBlocks(in ReadOnlySequence<byte> line, int length, KestrelServerLimits limits, ref ReadOnlySequence<byte> buffer)
    {
        var copy = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            line.CopyTo(copy);
            var done = Line(copy.AsSpan(0, length), limits);
            buffer = buffer.Slice(length + 1);
            return done;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(copy);
        }
    }

    void CheckSize(long bytes, int limit)
    {
        if (bytes > limit)
        {
            throw _hasRequestLine ? TooLarge("the request's headers are too large")
                : new("the request line is too long", StatusCodes.Status414UriTooLong);
        }
    }

    /// <summary>One line without its LF. True: it was the empty one at the end.</summary>
    bool Line(ReadOnlySpan<byte> line, KestrelServerLimits limits)
    {
        if (line is not [.., (byte)'\r'])
        {
            throw Bad("a line of the head does not end with CRLF");
        }
        Size += line.Length + 1;
        line = line[..^1];
        if (!_hasRequestLine)
        {
            if (line.IsEmpty && ++_emptyLines <= MaxEmptyLines)
            {
                return false;
            }
            RequestLine(line);
            _hasRequestLine = true;
            return false;
        }
        _bytes += line.Length + 2;
        if (line.IsEmpty)
        {
            Complete();
            return true;
        }
        if (++_count > limits.MaxRequestHeaderCount)
        {
            throw TooLarge("too many headers");
        }
        HeaderLine(line);
        return false;
    }

    // -- Request line

    void RequestLine(ReadOnlySpan<byte> line)
    {
        var space = line.IndexOf((byte)' ');
        var last = line.LastIndexOf((byte)' ');
        if (space <= 0 || last == space || !HeaderName.IsToken(line[..space]))
        {
            throw Bad("malformed request line");
        }
        var target = line[(space + 1)..last];
        if (target.IsEmpty || target.ContainsAnyInRange((byte)0, (byte)' ') || target.ContainsAnyInRange((byte)0x7f, (byte)0xff))
        {
            throw Bad("a space, a control or a non-ASCII character in the request target");
        }
        var version = line[(last + 1)..];
        Protocol = version.SequenceEqual("HTTP/1.1"u8) ? "HTTP/1.1" : version.SequenceEqual("HTTP/1.0"u8) ? "HTTP/1.0"
            : throw BadVersion(version);
        KeepAlive = IsHttp11;
        Method = RequestNames.Method(line[..space]);
        if (!Ascii.Equals(target, Target))
        {
            Target = Encoding.ASCII.GetString(target);
        }
    }

    static BadHttpRequestException BadVersion(ReadOnlySpan<byte> version) =>
        version.Length == 8 && version.StartsWith("HTTP/"u8) && char.IsAsciiDigit((char)version[5]) && version[6] == '.'
        && char.IsAsciiDigit((char)version[7])
            ? new("an HTTP version that is not spoken here", StatusCodes.Status505HttpVersionNotsupported)
            : Bad("malformed request line");

    // -- Header lines

    void HeaderLine(ReadOnlySpan<byte> line)
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
        var name = line[..colon];
        var value = line[(colon + 1)..];
        if (!HeaderName.IsToken(name))
        {
            LeaveOut(name);
            return;
        }
        if (ResponseHeadParser.HasControls(value))
        {
            throw Bad("a control character in a header");
        }
        value = value.Trim(" \t"u8);
        switch (name.Length)
        {
            case 14 when Ascii.EqualsIgnoreCase(name, "Content-Length"u8):
                Headers.ContentLength = Headers.ContentLength is null ? Length(value) : throw Bad("Content-Length more than once");
                return;
            case 17 when Ascii.EqualsIgnoreCase(name, "Transfer-Encoding"u8):
                _hasEncoding = !_hasEncoding && Ascii.EqualsIgnoreCase(value, "chunked"u8) ? true
                    : throw Bad("a Transfer-Encoding other than \"chunked\"");
                break;
            case 10 when Ascii.EqualsIgnoreCase(name, "Connection"u8):
                Connection(value);
                break;
            case 4 when Ascii.EqualsIgnoreCase(name, "Host"u8):
                _hasHost = !_hasHost && IsAuthority(value) ? true : throw Bad(_hasHost ? "Host more than once" : "an invalid Host");
                break;
            case 6 when Ascii.EqualsIgnoreCase(name, "Expect"u8):
                if (!Ascii.EqualsIgnoreCase(value, "100-continue"u8))
                {
                    throw new BadHttpRequestException("an expectation that cannot be met", StatusCodes.Status417ExpectationFailed);
                }
                ExpectsContinue = IsHttp11;
                break;
        }
        Headers.Receive(name, value);
    }

    /// <summary>Left out is what nginx leaves out. Another server may read a name with a space or a control character, or one that is
    /// nearly one of framing, in its own way.</summary>
    void LeaveOut(ReadOnlySpan<byte> name)
    {
        if (name.IsEmpty || name.ContainsAnyInRange((byte)0, (byte)' ') || name.Contains((byte)0x7f))
        {
            throw Bad("an invalid header name");
        }
        var text = Encoding.Latin1.GetString(name);
        var rest = string.Concat(text.Where(HeaderName.IsTokenCharacter));
        if (HopByHop.IsFraming(rest) || HeaderName.Is(rest, "Host"))
        {
            throw Bad("an invalid header name");
        }
        InvalidName ??= text;
    }

    void Connection(ReadOnlySpan<byte> value)
    {
        if (HopByHop.HasToken(value, "close"u8))
        {
            KeepAlive = false;
        }
        else if (!IsHttp11 && HopByHop.HasToken(value, "keep-alive"u8))
        {
            KeepAlive = true;
        }
        AsksUpgrade |= HopByHop.HasToken(value, "upgrade"u8);
    }

    static long Length(ReadOnlySpan<byte> value) =>
        value.Length is > 0 and <= 18 && !value.ContainsAnyExceptInRange((byte)'0', (byte)'9')
            ? long.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture)
            : throw Bad("an invalid Content-Length");

    /// <summary><c>host</c>, <c>host:port</c>, <c>[address]:port</c> (RFC 3986, section 3.2, without user).</summary>
    static bool IsAuthority(ReadOnlySpan<byte> value)
    {
        if (value.IsEmpty)
        {
            // RFC 9112 3.2 lets a client say so that its target has none; nginx refuses it, and there is nothing to send on
            return false;
        }
        var port = ReadOnlySpan<byte>.Empty;
        if (value[0] == '[')
        {
            var end = value.IndexOf((byte)']');
            if (end < 2 || value[1..end].ContainsAnyExcept(LiteralBytes) || (end + 1 < value.Length && value[end + 1] != ':'))
            {
                return false;
            }
            port = end + 1 < value.Length ? value[(end + 2)..] : port;
        }
        else
        {
            var colon = value.IndexOf((byte)':');
            var host = colon < 0 ? value : value[..colon];
            if (host.IsEmpty || host.ContainsAnyExcept(HostBytes))
            {
                return false;
            }
            port = colon < 0 ? port : value[(colon + 1)..];
        }
        return port.Length <= 5 && !port.ContainsAnyExceptInRange((byte)'0', (byte)'9');
    }

    // -- The whole

    void Complete()
    {
        if (_hasEncoding && Headers.ContentLength is not null)
        {
            throw Bad("both Transfer-Encoding and Content-Length");
        }
        if (_hasEncoding && !IsHttp11)
        {
            throw Bad("Transfer-Encoding in an HTTP/1.0 request");
        }
        if (!_hasHost && IsHttp11)
        {
            throw Bad("no Host");
        }
        AsksUpgrade &= IsHttp11 && Headers.ContainsKey("Upgrade") && !_hasEncoding && Headers.ContentLength is null or 0;
        if (Target[0] == '/' || Method == "CONNECT" || (Target == "*" && Method == "OPTIONS"))
        {
            return;
        }
        CheckAbsolute();
    }

    /// <summary>The authority of a target in absolute form is the one that counts (RFC 9112, section 3.2.2): a Host that says something
    /// else is an attack.</summary>
    void CheckAbsolute()
    {
        var scheme = Target.IndexOf("://", StringComparison.Ordinal);
        if (scheme <= 0)
        {
            throw new BadHttpRequestException("a target of this form goes with another method", StatusCodes.Status405MethodNotAllowed);
        }
        var rest = Target.AsSpan(scheme + 3);
        var end = rest.IndexOfAny('/', '?', '#');
        var authority = (end < 0 ? rest : rest[..end]).ToString();
        if (authority.Length == 0 || !IsAuthority(Encoding.ASCII.GetBytes(authority)))
        {
            throw Bad("an invalid authority in the request target");
        }
        var port = Target.StartsWith("https:", StringComparison.OrdinalIgnoreCase) ? ":443" : ":80";
        if (!_hasHost)
        {
            Headers["Host"] = authority;
        }
        else if (!Without(port, Headers["Host"].ToString()).Equals(Without(port, authority), StringComparison.OrdinalIgnoreCase))
        {
            throw Bad("a Host that is not the target's");
        }
    }

    static ReadOnlySpan<char> Without(string port, string authority) =>
        authority.EndsWith(port, StringComparison.Ordinal) ? authority.AsSpan(0, authority.Length - port.Length) : authority;

    static BadHttpRequestException Bad(string what) => new(what, StatusCodes.Status400BadRequest);

    static BadHttpRequestException TooLarge(string what) => new(what, StatusCodes.Status431RequestHeaderFieldsTooLarge);
}

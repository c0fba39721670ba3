using System.Buffers;
using System.Buffers.Text;
using System.Text;
using Sluice.Net.Http;

namespace Sluice.Net;

/// <summary>How the end of a request's body is told to the upstream.</summary>
internal readonly record struct RequestBodyFraming
{
    /// <summary>No body, and no header about one.</summary>
    public static readonly RequestBodyFraming None;

    public static readonly RequestBodyFraming Chunked = new() { IsChunked = true };

    /// <summary>Exactly this many bytes; 0 is said too (<c>Content-Length: 0</c>).</summary>
    public static RequestBodyFraming Length(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        return new() { HasLength = true, Bytes = length };
    }

    public bool IsChunked { get; private init; }

    public bool HasLength { get; private init; }

    public long Bytes { get; private init; }
}

/// <summary>
/// Writes a request's head, or trailers, into a pooled buffer. Refuses whatever would let a value become a second line or a second framing.
/// </summary>
struct RequestHeadWriter()
{
    static readonly SearchValues<char> LineBreakers = SearchValues.Create("\r\n\0");

    byte[] _buffer = [];
    int _length;

    public bool AsksClose { get; private set; }

    public bool AsksUpgrade { get; private set; }

    public ReadOnlyMemory<byte> Written => _buffer.AsMemory(0, _length);

    public void Begin(string method, string target, RequestBodyFraming framing)
    {
        if (!HeaderName.IsToken(method))
        {
            throw new ArgumentException("not a valid request method", nameof(method));
        }
        if (target.Length == 0 || target.AsSpan().ContainsAnyInRange('\0', ' ') || target.Contains('\x7f', StringComparison.Ordinal))
        {
            throw new ArgumentException("a request target with spaces or control characters, or an empty one", nameof(target));
        }
        _length = 0;
        AsksClose = AsksUpgrade = false;
        Append(method);
        Append(" "u8);
        Append(target);
        Append(" HTTP/1.1\r\n"u8);
        if (framing.IsChunked)
        {
            Append("Transfer-Encoding: chunked\r\n"u8);
        }
        else if (framing.HasLength)
        {
            Append("Content-Length: "u8);
            Utf8Formatter.TryFormat(framing.Bytes, Free(20), out var digits);
            _length += digits;
            Append("\r\n"u8);
        }
    }

    public void Add(string name, string value)
    {
        if (!HeaderName.IsToken(name))
        {
            throw new ArgumentException("not a valid header name", nameof(name));
        }
        if (value.AsSpan().ContainsAny(LineBreakers))
        {
            throw new ArgumentException($"a value of \"{name}\" with CR, LF or NUL", nameof(value));
        }
        if (HopByHop.IsFraming(name))
        {
            throw new ArgumentException("the framing is told to BeginRequest and written from there", nameof(name));
        }
        Append(name);
        Append(": "u8);
        var start = _length;
        Append(value);
        if (name.Equals("Connection", StringComparison.OrdinalIgnoreCase))
        {
            AsksClose |= HopByHop.HasToken(_buffer.AsSpan(start, _length - start), "close"u8);
            AsksUpgrade |= HopByHop.HasToken(_buffer.AsSpan(start, _length - start), "upgrade"u8);
        }
        Append("\r\n"u8);
    }

    public void BeginTrailers() => Append("0\r\n"u8);

    public void End() => Append("\r\n"u8);

    public void Release()
    {
        if (_buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
        }
        _buffer = [];
        _length = 0;
    }

    void Append(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Free(bytes.Length));
        _length += bytes.Length;
    }

    /// <summary>Latin-1 when that can say it (so bytes that were read as Latin-1 leave as they came), UTF-8 otherwise.</summary>
    void Append(string text)
    {
        if (Ascii.FromUtf16(text, Free(text.Length), out var written) == OperationStatus.Done)
        {
            _length += written;
            return;
        }
        var encoding = text.AsSpan().ContainsAnyExceptInRange('\0', '\xff') ? Encoding.UTF8 : Encoding.Latin1;
        _length += encoding.GetBytes(text, Free(encoding.GetMaxByteCount(text.Length)));
    }

    Span<byte> Free(int atLeast)
    {
        if (_buffer.Length - _length < atLeast)
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Max(1024, Math.Max(_buffer.Length * 2, _length + atLeast)));
            _buffer.AsSpan(0, _length).CopyTo(larger);
            if (_buffer.Length > 0)
            {
                ArrayPool<byte>.Shared.Return(_buffer);
            }
            _buffer = larger;
        }
        return _buffer.AsSpan(_length);
    }
}

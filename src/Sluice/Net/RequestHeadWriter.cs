using System.Buffers;
using System.Buffers.Text;
using System.Text;

namespace Sluice.Net;

/// <summary>How the end of a request's body is told to the upstream.</summary>
public readonly record struct RequestBodyFraming
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
sealed class RequestHeadWriter
{
    static readonly SearchValues<char> NameChars =
        SearchValues.Create("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

    static readonly SearchValues<char> LineBreakers = SearchValues.Create("\r\n\0");

    byte[] buffer = [];
    int length;

    public bool AsksClose { get; private set; }

    public bool AsksUpgrade { get; private set; }

    public ReadOnlyMemory<byte> Written => buffer.AsMemory(0, length);

    public void Begin(string method, string target, RequestBodyFraming framing)
    {
        if (!IsName(method))
        {
            throw new ArgumentException("not a valid request method", nameof(method));
        }
        if (target.Length == 0 || target.AsSpan().ContainsAnyInRange('\0', ' ') || target.Contains('\x7f', StringComparison.Ordinal))
        {
            throw new ArgumentException("a request target with spaces or control characters, or an empty one", nameof(target));
        }
        length = 0;
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
            length += digits;
            Append("\r\n"u8);
        }
    }

    public void Add(string name, string value)
    {
        if (!IsName(name))
        {
            throw new ArgumentException("not a valid header name", nameof(name));
        }
        if (value.AsSpan().ContainsAny(LineBreakers))
        {
            throw new ArgumentException($"a value of \"{name}\" with CR, LF or NUL", nameof(value));
        }
        if (name.Equals("Content-Length", StringComparison.OrdinalIgnoreCase)
            || name.Equals("Transfer-Encoding", StringComparison.OrdinalIgnoreCase))
        {
            throw new ArgumentException("the framing is told to BeginRequest and written from there", nameof(name));
        }
        Append(name);
        Append(": "u8);
        var start = length;
        Append(value);
        if (name.Equals("Connection", StringComparison.OrdinalIgnoreCase))
        {
            AsksClose |= ResponseHeadParser.HasToken(buffer.AsSpan(start, length - start), "close"u8);
            AsksUpgrade |= ResponseHeadParser.HasToken(buffer.AsSpan(start, length - start), "upgrade"u8);
        }
        Append("\r\n"u8);
    }

    public void BeginTrailers() => Append("0\r\n"u8);

    public void End() => Append("\r\n"u8);

    public void Release()
    {
        if (buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
        buffer = [];
        length = 0;
    }

    public static bool IsName(string name) => name.Length > 0 && !name.AsSpan().ContainsAnyExcept(NameChars);

    void Append(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Free(bytes.Length));
        length += bytes.Length;
    }

    /// <summary>Latin-1 when that can say it (so bytes that were read as Latin-1 leave as they came), UTF-8 otherwise.</summary>
    void Append(string text)
    {
        if (Ascii.FromUtf16(text, Free(text.Length), out var written) == OperationStatus.Done)
        {
            length += written;
            return;
        }
        var encoding = text.AsSpan().ContainsAnyExceptInRange('\0', '\xff') ? Encoding.UTF8 : Encoding.Latin1;
        length += encoding.GetBytes(text, Free(encoding.GetMaxByteCount(text.Length)));
    }

    Span<byte> Free(int atLeast)
    {
        if (buffer.Length - length < atLeast)
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Max(1024, Math.Max(buffer.Length * 2, length + atLeast)));
            buffer.AsSpan(0, length).CopyTo(larger);
            if (buffer.Length > 0)
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
            buffer = larger;
        }
        return buffer.AsSpan(length);
    }
}

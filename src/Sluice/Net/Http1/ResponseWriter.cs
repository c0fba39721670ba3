using System.Buffers;
using System.Buffers.Text;
using System.IO.Pipelines;
using System.Text;
using Microsoft.AspNetCore.WebUtilities;
using Sluice.Net.Http;

namespace Sluice.Net.Http1;

/// <summary>
/// An answer on its way to the client: the head with the first flush, then the body in whatever framing the head says. What is written
/// before the first flush can still be taken back. A body without a length becomes chunks; one whose head has a Transfer-Encoding of the
/// application's brings its framing along.
/// </summary>
sealed class ResponseWriter(PipeWriter output, Http1Connection connection) : PipeWriter
{
    const int EarlyBuffer = 4096;
    const int LineEnd = 2;

    enum Framing
    {
        /// <summary>No body: an answer to HEAD, 204, 304.</summary>
        None,
        Length,
        Chunked,

        /// <summary>As the application wrote it, or until the connection ends.</summary>
        Raw,
    }

    Framing _framing;
    long _unwritten;

    // before the first flush
    byte[]? _early;
    int _earlyLength;

    // a chunk under construction: room for its size, its bytes, room for a line end
    Memory<byte> _chunk;
    int _chunkLength;

    public bool HasStarted { get; private set; }

    /// <summary>All of the body that was announced has been written.</summary>
    public bool IsComplete => _framing != Framing.Length || _unwritten == 0;

    public override bool CanGetUnflushedBytes => true;

    public override long UnflushedBytes =>
        _earlyLength + _chunkLength + (HasStarted && output.CanGetUnflushedBytes ? output.UnflushedBytes : 0);

    /// <summary>For the connection's next answer.</summary>
    public void Next()
    {
        HasStarted = false;
        Discard();
    }

    /// <summary>Nothing of what was written and not flushed is sent, as long as the head is not out.</summary>
    public void Discard()
    {
        _earlyLength = 0;
        if (_early is not null)
        {
            ArrayPool<byte>.Shared.Return(_early);
            _early = null;
        }
    }

    // -- PipeWriter

    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        if (!HasStarted || _framing == Framing.None)
        {
            return Early(sizeHint);
        }
        return _framing == Framing.Chunked ? Chunk(sizeHint) : output.GetMemory(sizeHint);
    }

    public override Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

    public override void Advance(int bytes)
    {
        if (!HasStarted)
        {
            _earlyLength += bytes;
            return;
        }
        switch (_framing)
        {
            case Framing.Chunked:
                _chunkLength += bytes;
                break;
            case Framing.Length:
                Count(bytes);
                output.Advance(bytes);
                break;
            case Framing.Raw:
                output.Advance(bytes);
                break;
        }
    }

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        Start();
        EndChunk();
        return output.FlushAsync(cancellationToken);
    }

    public override void CancelPendingFlush() => output.CancelPendingFlush();

    public override void Complete(Exception? exception = null)
    {
    }

    void Count(int bytes)
    {
        if (bytes > _unwritten)
        {
            throw new InvalidOperationException($"{bytes - _unwritten} bytes more than the Content-Length of the answer");
        }
        _unwritten -= bytes;
    }

    Memory<byte> Early(int sizeHint)
    {
        if (_early is null || _early.Length - _earlyLength < Math.Max(sizeHint, 1))
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Max(EarlyBuffer, (_earlyLength * 2) + sizeHint));
            _early.AsSpan(0, _earlyLength).CopyTo(larger);
            if (_early is not null)
            {
                ArrayPool<byte>.Shared.Return(_early);
            }
            _early = larger;
        }
        return _early.AsMemory(_earlyLength);
    }

    // -- Chunks

    Memory<byte> Chunk(int sizeHint)
    {
        var used = Prefix(_chunk.Length) + _chunkLength;
        if (_chunk.Length - used - LineEnd < Math.Max(sizeHint, 1))
        {
            EndChunk();
            _chunk = output.GetMemory(sizeHint + 8 + LineEnd + LineEnd + 1);
            used = Prefix(_chunk.Length);
        }
        return _chunk[used..^LineEnd];
    }

    /// <summary>Bytes for the size of a chunk that fills so much memory, and its line end.</summary>
    static int Prefix(int memory) => Digits(memory) + LineEnd;

    static int Digits(int size)
    {
        var digits = 1;
        while ((size >>= 4) > 0)
        {
            digits++;
        }
        return digits;
    }

    void EndChunk()
    {
        if (_chunkLength > 0)
        {
            var span = _chunk.Span;
            var prefix = Prefix(_chunkLength);
            var reserved = Prefix(_chunk.Length);
            if (prefix < reserved)
            {
                span.Slice(reserved, _chunkLength).CopyTo(span[prefix..]);
            }
            Utf8Formatter.TryFormat(_chunkLength, span, out _, new StandardFormat('x'));
            "\r\n"u8.CopyTo(span[(prefix - LineEnd)..]);
            "\r\n"u8.CopyTo(span[(prefix + _chunkLength)..]);
            output.Advance(prefix + _chunkLength + LineEnd);
            _chunkLength = 0;
        }
        _chunk = default;
    }

    // -- The head

    /// <summary>Writes the head and what was written early, once.</summary>
    void Start()
    {
        if (HasStarted)
        {
            return;
        }
        var headers = connection.Answer;
        var status = connection.StatusCode;
        _framing = Choose(headers, status);
        _unwritten = headers.ContentLength ?? 0;
        var head = new HeadWriter(output);
        head.Write(StatusLine.Of(status, connection.ReasonPhrase));
        Write(ref head, headers);
        if (headers.ContentLength is { } length && _framing is Framing.Length or Framing.None)
        {
            head.Write("Content-Length: "u8);
            head.Write(length);
            head.Write("\r\n"u8);
        }
        if (_framing == Framing.Chunked)
        {
            head.Write("Transfer-Encoding: chunked\r\n"u8);
        }
        if (!connection.KeepsAlive)
        {
            if (!headers.ContainsKey("Connection"))
            {
                head.Write("Connection: close\r\n"u8);
            }
        }
        else if (!connection.Head.IsHttp11)
        {
            head.Write("Connection: keep-alive\r\n"u8);
        }
        if (!headers.ContainsKey("Date"))
        {
            head.Write(connection.Date.Line());
        }
        head.Write("\r\n"u8);
        head.End();
        HasStarted = true;
        WriteEarly();
    }

    Framing Choose(HeaderList headers, int status)
    {
        if (status is < 200 or 204 or 304 || connection.Head.Method == "HEAD")
        {
            return status == 101 ? Framing.Raw : Framing.None;
        }
        if (headers.ContentLength is not null)
        {
            return Framing.Length;
        }
        if (headers.ContainsKey("Transfer-Encoding"))
        {
            return Framing.Raw;
        }
        if (connection.Head.IsHttp11)
        {
            return Framing.Chunked;
        }
        connection.EndAfterAnswer();
        return Framing.Raw;
    }

    void WriteEarly()
    {
        var early = _early;
        var length = _earlyLength;
        _early = null;
        _earlyLength = 0;
        if (early is null)
        {
            return;
        }
        if (_framing != Framing.None)
        {
            this.Write(early.AsSpan(0, length));
        }
        ArrayPool<byte>.Shared.Return(early);
    }

    static void Write(ref HeadWriter head, HeaderList headers)
    {
        for (var i = 0; i < headers.Places; i++)
        {
            var (name, values) = headers.At(i);
            foreach (var value in values)
            {
                if (value is not null)
                {
                    head.Write(name, value);
                }
            }
        }
    }

    /// <summary>Between the request and its answer: a head of status 1xx, at once.</summary>
    public ValueTask<FlushResult> SendInterimAsync(int status, HeaderList headers)
    {
        var head = new HeadWriter(output);
        head.Write(StatusLine.Of(status, null));
        Write(ref head, headers);
        head.Write("\r\n"u8);
        head.End();
        return output.FlushAsync();
    }

    /// <summary>The answer is complete: says so in its framing and flushes.</summary>
    public ValueTask<FlushResult> EndAsync(HeaderList? trailers)
    {
        if (!HasStarted && connection.Answer is { ContentLength: null } headers && !headers.ContainsKey("Transfer-Encoding")
            && trailers is not { Count: > 0 })
        {
            // all of it is there
            headers.ContentLength = MayHaveBody ? _earlyLength : null;
        }
        Start();
        EndChunk();
        if (_framing == Framing.Chunked)
        {
            var tail = new HeadWriter(output);
            tail.Write("0\r\n"u8);
            if (trailers is not null)
            {
                Write(ref tail, trailers);
            }
            tail.Write("\r\n"u8);
            tail.End();
        }
        if (IsComplete)
        {
            // nothing more of it, whoever still writes
            _framing = Framing.None;
        }
        return output.FlushAsync();
    }

    bool MayHaveBody => connection.StatusCode is >= 200 and not (204 or 304) && connection.Head.Method != "HEAD";

    /// <summary>Writes lines into the output's own memory, one piece after the other.</summary>
    ref struct HeadWriter(PipeWriter output)
    {
        const int Piece = 512;

        Span<byte> _span = output.GetSpan(Piece);
        int _used;

        public void Write(ReadOnlySpan<byte> bytes)
        {
            bytes.CopyTo(Room(bytes.Length));
            _used += bytes.Length;
        }

        public void Write(long number)
        {
            Utf8Formatter.TryFormat(number, Room(20), out var written);
            _used += written;
        }

        public void Write(string name, string value)
        {
            Latin1(name);
            Write(": "u8);
            Latin1(value);
            Write("\r\n"u8);
        }

        /// <summary>Latin-1 when that can say it (so bytes that were read as Latin-1 leave as they came), UTF-8 otherwise.</summary>
        void Latin1(string text)
        {
            if (Ascii.FromUtf16(text, Room(text.Length), out var written) == OperationStatus.Done)
            {
                _used += written;
                return;
            }
            if (text.AsSpan().ContainsAnyExceptInRange('\0', '\xff'))
            {
                Write(Encoding.UTF8.GetBytes(text));
                return;
            }
            _used += Encoding.Latin1.GetBytes(text, Room(text.Length));
        }

        Span<byte> Room(int bytes)
        {
            if (_span.Length - _used < bytes)
            {
                End();
                _span = output.GetSpan(Math.Max(bytes, Piece));
                _used = 0;
            }
            return _span[_used..];
        }

        public readonly void End() => output.Advance(_used);
    }
}

/// <summary>The first lines of answers, made once.</summary>
static class StatusLine
{
    static readonly byte[]?[] s_known = new byte[600][];

    public static byte[] Of(int status, string? reason) =>
        reason is null && status is >= 100 and < 600 ? s_known[status] ??= Make(status, StatusText.Of(status)) : Make(status, reason ?? "");

    static byte[] Make(int status, string reason) => Encoding.Latin1.GetBytes($"HTTP/1.1 {status:000} {reason}\r\n");
}

using System.Buffers;
using System.Buffers.Text;
using System.Runtime.CompilerServices;

namespace Sluice.Net;

/// <summary>The request's half of an <see cref="UpstreamConnection"/>: one operation at a time, whatever the response's half does
/// meanwhile.</summary>
sealed class RequestSender(UpstreamConnection connection)
{
    const int LargestPiece = 64 * 1024;
    const int ChunkOverhead = 8 + 2 + 2;

    enum State
    {
        NotBegun,
        Head,
        Body,
        Done,
        Failed,
    }

    RequestHeadWriter _writer = new();
    State _state;
    RequestBodyFraming _framing;
    long _unsent;
    volatile bool _failed;

    public long BytesSent { get; private set; }

    /// <summary>What the response's head means depends on it.</summary>
    public RequestFacts Facts { get; private set; }

    /// <summary>All of it was sent.</summary>
    public bool IsDone => _state == State.Done;

    /// <summary>The request asks for the end of the connection.</summary>
    public bool AsksClose { get; private set; }

    /// <summary>Something of it may have arrived.</summary>
    public bool Begun { get; private set; }

    public bool BodyBegun { get; private set; }

    /// <summary>A send has failed: the response's half may see no more than an end.</summary>
    public bool HasFailed => _failed;

    /// <summary>Starts the head; nothing is sent yet. The framing header is written from <paramref name="body"/>.</summary>
    /// <exception cref="ArgumentException">The method or the target is not one.</exception>
    public void Begin(string method, string target, RequestBodyFraming body)
    {
        if (_state is not (State.NotBegun or State.Head))
        {
            throw new InvalidOperationException("the request was sent already");
        }
        _writer.Begin(method, target, body);
        _framing = body;
        _unsent = body.Bytes;
        Facts = new RequestFacts(method == "HEAD", method == "CONNECT", AsksUpgrade: false);
        _state = State.Head;
    }

    /// <summary>
    /// Characters up to U+00FF are written as Latin-1, so values that were read as Latin-1 leave byte for byte as they came; a value with
    /// others is written as UTF-8.
    /// </summary>
    /// <exception cref="ArgumentException">An invalid name, CR, LF or NUL in the value, or a framing header.</exception>
    public void AddHeader(string name, string value)
    {
        Require(State.Head);
        _writer.Add(name, value);
    }

    public async ValueTask SendHeadAsync()
    {
        Require(State.Head);
        _writer.End();
        AsksClose = _writer.AsksClose;
        Facts = Facts with { AsksUpgrade = _writer.AsksUpgrade };
        await SendAsync(_writer.Written);
        _writer.Release();
        _state = _framing.IsChunked || _unsent > 0 ? State.Body : State.Done;
    }

    /// <summary>Sends a piece of the body, framed; returns when the kernel has it. One send for up to 64 KiB.</summary>
    public ValueTask WriteBodyAsync(ReadOnlyMemory<byte> piece)
    {
        if (piece.IsEmpty)
        {
            return default;
        }
        CheckBody(piece.Length);
        return _framing.IsChunked ? SendPiecesAsync(new ReadOnlySequence<byte>(piece)) : SendAsync(piece, piece.Length);
    }

    public ValueTask WriteBodyAsync(in ReadOnlySequence<byte> piece)
    {
        if (piece.IsEmpty)
        {
            return default;
        }
        if (piece.IsSingleSegment)
        {
            return WriteBodyAsync(piece.First);
        }
        CheckBody(piece.Length);
        return SendPiecesAsync(piece);
    }

    /// <summary>The body is complete. Trailers go with chunked framing only.</summary>
    /// <exception cref="InvalidOperationException">Fewer bytes were written than announced; the connection is no longer usable for
    /// state.</exception>
    public async ValueTask EndBodyAsync(IEnumerable<KeyValuePair<string, string>>? trailers = null)
    {
        if (_state == State.Done)
        {
            return;
        }
        Require(State.Body);
        if (!_framing.IsChunked)
        {
            _state = State.Failed;
            throw new InvalidOperationException($"{_unsent} bytes of the request's body are missing");
        }
        _writer.BeginTrailers();
        foreach (var (name, value) in trailers ?? [])
        {
            _writer.Add(name, value);
        }
        _writer.End();
        await SendAsync(_writer.Written);
        _writer.Release();
        _state = State.Done;
    }

    void CheckBody(long length)
    {
        if (length > _unsent && _framing.HasLength)
        {
            _state = State.Failed;
            throw new InvalidOperationException($"{length - _unsent} bytes more than the announced body");
        }
        Require(State.Body);
        BodyBegun = true;
    }

    async ValueTask SendPiecesAsync(ReadOnlySequence<byte> rest)
    {
        while (!rest.IsEmpty)
        {
            var piece = rest.Slice(0, Math.Min(rest.Length, LargestPiece));
            await SendPieceAsync(piece);
            rest = rest.Slice(piece.End);
        }
    }

    /// <summary>One send: size, bytes and line end side by side (without the framing when there is none).</summary>
    async ValueTask SendPieceAsync(ReadOnlySequence<byte> piece)
    {
        var size = (int)piece.Length;
        var block = ArrayPool<byte>.Shared.Rent(size + ChunkOverhead);
        var length = 0;
        if (_framing.IsChunked)
        {
            Utf8Formatter.TryFormat(size, block, out length, new StandardFormat('x'));
            "\r\n"u8.CopyTo(block.AsSpan(length));
            length += 2;
        }
        piece.CopyTo(block.AsSpan(length));
        length += size;
        if (_framing.IsChunked)
        {
            "\r\n"u8.CopyTo(block.AsSpan(length));
            length += 2;
        }
        await SendAsync(block.AsMemory(0, length), size);
        ArrayPool<byte>.Shared.Return(block);
    }

    // Buffers go back to the array pool only after a send that succeeded: the kernel may still look at those of one that was aborted.
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    internal async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, int ofBody = 0)
    {
        Begun = true;
        try
        {
            await connection.Stream.SendAsync(bytes);
            BytesSent += bytes.Length;
            if (ofBody > 0 && _framing.HasLength && (_unsent -= ofBody) == 0)
            {
                _state = State.Done;
            }
        }
        catch (Exception error) when (UpstreamConnection.IsStreamFailure(error))
        {
            _state = State.Failed;
            _failed = true;
            throw connection.Failure(UpstreamFailureKind.SendFailed, error.Message, error);
        }
    }

    void Require(State state)
    {
        if (_state != state)
        {
            throw new InvalidOperationException($"not possible now: the request is at {_state}, not at {state}");
        }
    }
}

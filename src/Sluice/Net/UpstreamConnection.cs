using System.Buffers;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Sluice.Net.Epoll;

namespace Sluice.Net;

/// <summary>
/// One request and its answer on a connection of the pool. Sending and receiving are independent of each other and may run at the same
/// time, each one operation at a time; <see cref="Abort"/> may be called from anywhere at any time.
/// <code>
/// Request: Begin, AddHeader…, SendHeadAsync, (WriteBodyAsync…, EndBodyAsync)
/// ReadHeadAsync (or TryReadHead, WaitHeadAsync) until it is not interim, Body: (WaitReadableAsync, ReadAsync) until 0, Trailers
/// </code>
/// Disposing gives the connection back when both sides are cleanly at their end, and closes it otherwise.
/// </summary>
internal sealed class UpstreamConnection : IAsyncDisposable, ITunnelUpstream
{
    const int MaxInterimHeads = 32;
    const int FirstReceiveBuffer = 4096;

    enum Receiving
    {
        Head,
        Body,
        Raw,
        Done,
    }

    readonly ConnectionPool _pool;
    readonly PooledStream _pooled;
    readonly ByteStream _stream;
    readonly PoolLimits _limits;

    Receiving _receiving;
    ResponseHeadParser? _parser;
    byte[]? _buffer;
    int _bufferStart;
    int _bufferEnd;
    UpstreamBody? _body;
    int _interimHeads;
    int _maxTrailerBytes;
    bool _keepAlive;
    bool _surplusBytes;
    UpstreamException? _receiveFailure;

    IdleDeadline? _ownSilence;
    UpstreamFailureKind? _aborted;
    bool _disposed;

    internal UpstreamConnection(ConnectionPool pool, PooledStream pooled, PoolLimits limits, bool reused)
    {
        (_pool, _pooled, _limits, _stream) = (pool, pooled, limits, pooled.Stream);
        (Reused, RemoteEndPoint) = (reused, pooled.Endpoint.Address as IPEndPoint);
        Request = new(this);
    }

    public UpstreamEndpoint Endpoint => _pooled.Endpoint;

    /// <summary>It served a request before.</summary>
    public bool Reused { get; }

    /// <summary>Null once it is closed.</summary>
    public IPEndPoint? LocalEndPoint => _stream.LocalEndPoint;

    public IPEndPoint? RemoteEndPoint { get; }

    /// <summary>The request, on its way.</summary>
    internal RequestSender Request { get; }

    internal ByteStream Stream => _stream;

    public long BytesSent => Request.BytesSent;

    public long BytesReceived { get; private set; }

    /// <summary>The response's body, once its head was read; it has ended at once when there is none.</summary>
    public UpstreamBody Body => _body ??= new LengthBody(this, 0);

    /// <summary>The response's body is completely read.</summary>
    public bool ResponseEnded => _receiving == Receiving.Done;

    /// <summary>Those of a chunked answer, once <see cref="ResponseEnded"/>.</summary>
    public HeaderFields Trailers => (_body as ChunkedBody)?.Trailers ?? HeaderFields.Empty;

    /// <summary>The limit on the upstream's silence (<c>proxy_read_timeout</c>); ends with this request.</summary>
    public IdleDeadline ReadSilence(TimeProvider time)
    {
        if (_ownSilence is not null)
        {
            return _ownSilence;
        }
        if (time != TimeProvider.System || !_stream.ReceivesAtOnce)
        {
            return _ownSilence = new(time, static connection => ((UpstreamConnection)connection!).Abort(UpstreamFailureKind.ReadTimeout),
                this);
        }
        // its timer and its requests have one thread: it cannot hit the next request
        _pooled.User = this;
        return _pooled.ReadSilence ??= new(time, static pooled => ((PooledStream)pooled!).User?.Abort(UpstreamFailureKind.ReadTimeout),
            _pooled);
    }

    void EndSilence(bool kept)
    {
        _ownSilence?.Dispose();
        if (_pooled.User == this)
        {
            _pooled.User = null;
            _pooled.ReadSilence!.Stop();
            if (!kept)
            {
                _pooled.ReadSilence.Dispose();
            }
        }
    }

    /// <summary>The next head: as long as it is <see cref="ResponseHead.Interim"/>, call again.</summary>
    /// <param name="maxHeadBytes">For the head, and for the trailers of a chunked body.</param>
    public async ValueTask<ResponseHead> ReadHeadAsync(int maxHeadBytes)
    {
        ResponseHead? head;
        while ((head = TryReadHead(maxHeadBytes)) is null)
        {
            await WaitHeadAsync();
        }
        return head;
    }

    /// <summary>As <see cref="ReadHeadAsync"/>, of what is there now; null: more has to come (<see cref="WaitHeadAsync"/>).</summary>
    public ResponseHead? TryReadHead(int maxHeadBytes)
    {
        RequireReceiving(Receiving.Head);
        _maxTrailerBytes = maxHeadBytes;
        try
        {
            if (_buffer is not null && Advance(maxHeadBytes) is { } received)
            {
                return received;
            }
            while (_stream.ReceivesAtOnce && _pooled.Watch is null && _stream.IsReadable)
            {
                MakeRoom();
                var count = _stream.TryReceive(_buffer.AsSpan(_bufferEnd));
                if (count < 0)
                {
                    if (_bufferStart == _bufferEnd)
                    {
                        ReleaseBuffer();
                    }
                    return null;
                }
                Received(count);
                if (Advance(maxHeadBytes) is { } head)
                {
                    return head;
                }
            }
            return null;
        }
        catch (Exception error) when (error is UpstreamException || IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    /// <summary>Completes when <see cref="TryReadHead"/> has more to say. While nothing of the head is there, no buffer is held.</summary>
    public ValueTask WaitHeadAsync() =>
        _stream.ReceivesAtOnce && _pooled.Watch is null ? _stream.WaitReadableAsync() : ReceiveMoreOfHeadAsync();

    async ValueTask ReceiveMoreOfHeadAsync()
    {
        try
        {
            if (_pooled.Watch is { } watch)
            {
                _pooled.Watch = null;
                if (await watch is { } failure)
                {
                    throw ReceiveFailure(failure);
                }
            }
            else if (_buffer is null)
            {
                await _stream.WaitReadableAsync();
            }
            MakeRoom();
            Received(await _stream.ReceiveAsync(_buffer.AsMemory(_bufferEnd)));
        }
        catch (Exception error) when (error is UpstreamException || IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    void Received(int count)
    {
        _bufferEnd += count;
        BytesReceived += count;
        if (count == 0)
        {
            throw AnswerBegun
                ? Failure(UpstreamFailureKind.EarlyClose, "in the head")
                : Failure(UpstreamFailureKind.NoAnswer, null);
        }
    }

    /// <summary>The head when all of it is in the buffer.</summary>
    ResponseHead? Advance(int maxHeadBytes)
    {
        _parser ??= ResponseHeadParser.Rent();
        var bytes = _buffer.AsSpan(_bufferStart, _bufferEnd - _bufferStart);
        if (!_parser.Advance(bytes, maxHeadBytes))
        {
            return null;
        }
        var head = _parser.Build(bytes, Request.Facts);
        Consume(_parser.Length);
        _parser.Return();
        _parser = null;
        if (head.Interim)
        {
            return ++_interimHeads <= MaxInterimHeads ? head : throw ResponseHeadParser.Bad("too many interim answers");
        }
        BeginBody(head);
        return head;
    }

    void BeginBody(ResponseHead head)
    {
        _keepAlive = head.KeepAlive;
        _body = head.Body.Kind switch
        {
            BodyKind.Chunked => new ChunkedBody(this, _maxTrailerBytes),
            BodyKind.Length => new LengthBody(this, head.Body.Length),
            BodyKind.CloseDelimited => new UntilCloseBody(this),
            BodyKind.Upgrade => new RawBody(this),
            _ => null,
        };
        _receiving = head.Body.Kind switch
        {
            BodyKind.None or BodyKind.Length when head.Body.Length == 0 => Receiving.Done,
            BodyKind.Upgrade => Receiving.Raw,
            _ => Receiving.Body,
        };
        if (_receiving == Receiving.Done)
        {
            EndResponse();
        }
    }

    /// <summary>Completes when the body has something to say. No buffer is held meanwhile.</summary>
    internal ValueTask WaitReadableAsync()
    {
        ThrowIfFailed();
        return HasReceived ? default
            : _stream.WaitNeverFails ? _stream.WaitReadableAsync()
            : WaitOrFailAsync();
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask WaitOrFailAsync()
    {
        try
        {
            await _stream.WaitReadableAsync();
        }
        catch (Exception error) when (IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    /// <summary>There is something to read whatever the socket says: what came together with the head, or the end.</summary>
    internal bool HasReceived => _buffer is not null || _receiving == Receiving.Done;

    /// <summary>
    /// Where it comes from, when that is a socket of the loop that this runs on: <see cref="UpstreamBody.TryRead"/> can be used here.
    /// </summary>
    internal LoopSocket? SocketHere => _stream.ReceivesAtOnce ? (_stream as LoopByteStream)?.Socket : null;

    IBodySource ITunnelUpstream.Body => Body;

    /// <summary>After a 101.</summary>
    public ValueTask WriteRawAsync(ReadOnlyMemory<byte> bytes)
    {
        RequireReceiving(Receiving.Raw);
        return Request.SendAsync(bytes);
    }

    /// <summary>Tells the upstream that no more bytes come; reading goes on.</summary>
    public async ValueTask ShutdownSendAsync()
    {
        RequireReceiving(Receiving.Raw);
        try
        {
            await _stream.ShutdownSendAsync();
        }
        catch (Exception error) when (IsStreamFailure(error))
        {
            throw Failure(UpstreamFailureKind.SendFailed, error.Message, error);
        }
    }

    bool AnswerBegun => BytesReceived > 0;

    /// <param name="surplus">Bytes came that belong to nothing.</param>
    internal void EndResponse(bool surplus = false)
    {
        _receiving = Receiving.Done;
        _surplusBytes |= surplus || _buffer is not null;
        ReleaseBuffer();
    }

    /// <summary>The upstream ended a body that only its connection's end delimits.</summary>
    internal void EndWithConnection()
    {
        if (Request.HasFailed)
        {
            // the send got the RST, so the receive only sees an end
            throw Failure(UpstreamFailureKind.Reset, null);
        }
        if (!_stream.EndWasAnnounced)
        {
            throw Failure(UpstreamFailureKind.EarlyClose, "TLS ended without close_notify");
        }
        EndResponse();
    }

    /// <summary>What was received together with the head first, then from the stream.</summary>
    internal ValueTask<int> TakeAsync(Memory<byte> destination)
    {
        return _buffer is null ? ReceiveAsync(destination) : new(TakeBuffered(destination.Span));
    }

    /// <summary>As <see cref="TakeAsync"/>; -1: nothing is there now.</summary>
    internal int TryTake(Span<byte> destination)
    {
        if (_buffer is not null)
        {
            return TakeBuffered(destination);
        }
        var count = _stream.TryReceive(destination);
        BytesReceived += Math.Max(count, 0);
        return count;
    }

    int TakeBuffered(Span<byte> destination)
    {
        var count = Math.Min(destination.Length, _bufferEnd - _bufferStart);
        _buffer.AsSpan(_bufferStart, count).CopyTo(destination);
        Consume(count);
        return count;
    }

    /// <summary>For more bytes of a head.</summary>
    void MakeRoom()
    {
        if (_buffer is null)
        {
            _buffer = ArrayPool<byte>.Shared.Rent(FirstReceiveBuffer);
            _bufferStart = _bufferEnd = 0;
        }
        else if (_bufferEnd == _buffer.Length)
        {
            var length = _bufferEnd - _bufferStart;
            var larger = _bufferStart > 0 ? _buffer : ArrayPool<byte>.Shared.Rent(_buffer.Length * 2);
            _buffer.AsSpan(_bufferStart, length).CopyTo(larger);
            if (larger != _buffer)
            {
                ArrayPool<byte>.Shared.Return(_buffer);
            }
            _buffer = larger;
            _bufferStart = 0;
            _bufferEnd = length;
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> ReceiveAsync(Memory<byte> destination)
    {
        var count = await _stream.ReceiveAsync(destination);
        BytesReceived += count;
        return count;
    }

    void Consume(int count)
    {
        _bufferStart += count;
        if (_bufferStart == _bufferEnd)
        {
            ReleaseBuffer();
        }
    }

    void ReleaseBuffer()
    {
        if (_buffer is not null)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = null;
        }
    }

    void RequireReceiving(Receiving state)
    {
        ThrowIfFailed();
        if (_receiving != state)
        {
            throw new InvalidOperationException($"not possible now: the answer is at {_receiving}, not at {state}");
        }
    }

    // ---- ends ----

    /// <summary>
    /// Closes the connection at once with RST; what is pending, and what comes later, throws <see cref="UpstreamException"/> with this
    /// reason. After <see cref="DisposeAsync"/> it does nothing: a late timer can't hit the connection's next request.
    /// </summary>
    public void Abort(UpstreamFailureKind reason)
    {
        lock (this)
        {
            if (_disposed || _aborted is not null)
            {
                return;
            }
            _aborted = reason;
            _pool.Close(_pooled, reset: true);
        }
    }

    public ValueTask DisposeAsync()
    {
        lock (this)
        {
            if (_disposed)
            {
                return default;
            }
            _disposed = true;
        }
        var atTheEnd = Request.IsDone && _receiving == Receiving.Done;
        var kept = atTheEnd && _keepAlive && !Request.AsksClose && !_surplusBytes && _aborted is null;
        EndSilence(kept);
        if (kept)
        {
            _pool.Return(_pooled, _limits);
        }
        else
        {
            _pool.Close(_pooled);
        }
        return default;
    }

    internal static bool IsStreamFailure(Exception error) =>
        error is SocketException or IOException or ObjectDisposedException;

    internal void ThrowIfFailed()
    {
        if (_receiveFailure is not null)
        {
            throw Failure(_receiveFailure.Kind, _receiveFailure.Detail, _receiveFailure);
        }
    }

    /// <summary>Gives a failure of the receiving side its meaning and keeps it: the kernel tells it only once.</summary>
    internal UpstreamException ReceiveFailure(Exception error)
    {
        _receiveFailure = error switch
        {
            UpstreamException { Kind: var kind, Detail: var detail } => Failure(kind, detail, error),
            SocketException or IOException { InnerException: SocketException } => Failure(UpstreamFailureKind.Reset, null, error),
            // SslStream: the end in the middle of a TLS record
            IOException => Failure(AnswerBegun ? UpstreamFailureKind.EarlyClose : UpstreamFailureKind.NoAnswer, error.Message, error),
            _ => Failure(UpstreamFailureKind.Reset, error.Message, error),
        };
        return _receiveFailure;
    }

    internal UpstreamException Failure(UpstreamFailureKind kind, string? detail, Exception? cause = null)
    {
        UpstreamFailureKind? reason;
        lock (this)
        {
            reason = _aborted;
        }
        return new(reason ?? kind, reason is null ? detail : null, cause)
        {
            ConnectionReused = Reused,
            RequestBegun = Request.Begun,
            BodyBegun = Request.BodyBegun,
            AnswerBegun = AnswerBegun,
        };
    }
}

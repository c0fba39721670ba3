using System.Buffers;
using System.Buffers.Text;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Sluice.Net.Epoll;

namespace Sluice.Net;

/// <summary>
/// One request and its answer on a connection of the pool. Sending and receiving are independent of each other and may run at the same time,
/// each one operation at a time; <see cref="Abort"/> may be called from anywhere at any time.
/// <code>
/// BeginRequest, AddHeader…, SendHeadAsync, (WriteBodyAsync…, EndBodyAsync)
/// ReadHeadAsync (or TryReadHead, WaitHeadAsync) until it is not interim, (WaitReadableAsync, ReadBodyAsync) until 0, Trailers
/// </code>
/// Disposing gives the connection back when both sides are cleanly at their end, and closes it otherwise.
/// </summary>
public sealed class UpstreamConnection : IAsyncDisposable
{
    const int MaxInterimHeads = 32;
    const int FirstReceiveBuffer = 4096;
    const int LargestPiece = 64 * 1024;
    const int ChunkOverhead = 8 + 2 + 2;

    enum Sending
    {
        NotBegun,
        Head,
        Body,
        Done,
        Failed,
    }

    enum Receiving
    {
        Head,
        Body,
        Raw,
        Done,
    }

    readonly ConnectionPool pool;
    readonly PooledStream pooled;
    readonly ByteStream stream;
    readonly PoolLimits limits;

    // sending
    readonly RequestHeadWriter writer = new();
    Sending sending;
    RequestBodyFraming framing;
    RequestFacts facts;
    long unsent;
    bool asksClose;
    bool requestBegun;
    bool bodyBegun;
    volatile bool sendFailed;

    // receiving
    Receiving receiving;
    ResponseHeadParser? parser;
    ChunkedDecoder? decoder;
    byte[]? buffer;
    int bufferStart;
    int bufferEnd;
    BodyKind bodyKind;
    long unreceived;
    int interimHeads;
    int maxTrailerBytes;
    ReadOnlyMemory<byte> heldBack;
    bool keepAlive;
    bool surplusBytes;
    UpstreamException? receiveFailure;

    // both
    IdleDeadline? ownSilence;
    UpstreamFailureKind? aborted;
    bool disposed;

    internal UpstreamConnection(ConnectionPool pool, PooledStream pooled, PoolLimits limits, bool reused)
    {
        this.pool = pool;
        this.pooled = pooled;
        this.limits = limits;
        stream = pooled.Stream;
        Reused = reused;
        RemoteEndPoint = pooled.Endpoint.Address as IPEndPoint;
    }

    public UpstreamEndpoint Endpoint => pooled.Endpoint;

    /// <summary>It served a request before.</summary>
    public bool Reused { get; }

    /// <summary>Null once it is closed.</summary>
    public IPEndPoint? LocalEndPoint => stream.LocalEndPoint;

    public IPEndPoint? RemoteEndPoint { get; }

    public long BytesSent { get; private set; }

    public long BytesReceived { get; private set; }

    /// <summary>The answer's body is completely read: the next <see cref="ReadBodyAsync"/> gives 0 at once.</summary>
    public bool ResponseEnded => receiving == Receiving.Done;

    /// <summary>Those of a chunked answer, once <see cref="ResponseEnded"/>.</summary>
    public HeaderFields Trailers => decoder?.Trailers ?? HeaderFields.Empty;

    /// <summary>The limit on the upstream's silence (<c>proxy_read_timeout</c>); ends with this request.</summary>
    public IdleDeadline ReadSilence(TimeProvider time)
    {
        if (ownSilence is not null)
        {
            return ownSilence;
        }
        if (time != TimeProvider.System || !stream.ReceivesAtOnce)
        {
            return ownSilence = new(time, static connection => ((UpstreamConnection)connection!).Abort(UpstreamFailureKind.ReadTimeout), this);
        }
        // its timer and its requests have one thread: it cannot hit the next request
        pooled.User = this;
        return pooled.ReadSilence ??= new(time, static pooled => ((PooledStream)pooled!).User?.Abort(UpstreamFailureKind.ReadTimeout), pooled);
    }

    void EndSilence(bool kept)
    {
        ownSilence?.Dispose();
        if (pooled.User == this)
        {
            pooled.User = null;
            pooled.ReadSilence!.Stop();
            if (!kept)
            {
                pooled.ReadSilence.Dispose();
            }
        }
    }

    // ---- sending ----

    /// <summary>Starts the head; nothing is sent yet. The framing header is written from <paramref name="body"/>.</summary>
    /// <exception cref="ArgumentException">The method or the target is not one.</exception>
    public void BeginRequest(string method, string target, RequestBodyFraming body)
    {
        if (sending is not (Sending.NotBegun or Sending.Head))
        {
            throw new InvalidOperationException("the request was sent already");
        }
        writer.Begin(method, target, body);
        framing = body;
        unsent = body.Bytes;
        facts = new RequestFacts(method == "HEAD", method == "CONNECT", AsksUpgrade: false);
        sending = Sending.Head;
    }

    /// <summary>
    /// Characters up to U+00FF are written as Latin-1, so values that were read as Latin-1 leave byte for byte as they came; a value with
    /// others is written as UTF-8.
    /// </summary>
    /// <exception cref="ArgumentException">An invalid name, CR, LF or NUL in the value, or a framing header.</exception>
    public void AddHeader(string name, string value)
    {
        Require(Sending.Head);
        writer.Add(name, value);
    }

    public async ValueTask SendHeadAsync()
    {
        Require(Sending.Head);
        writer.End();
        asksClose = writer.AsksClose;
        facts = facts with { AsksUpgrade = writer.AsksUpgrade };
        await SendAsync(writer.Written);
        writer.Release();
        sending = framing.IsChunked || unsent > 0 ? Sending.Body : Sending.Done;
    }

    /// <summary>Sends a piece of the body, framed; returns when the kernel has it. One send for up to 64 KiB.</summary>
    public ValueTask WriteBodyAsync(ReadOnlyMemory<byte> piece)
    {
        if (piece.IsEmpty)
        {
            return default;
        }
        CheckBody(piece.Length);
        return framing.IsChunked ? SendPiecesAsync(new ReadOnlySequence<byte>(piece)) : SendAsync(piece, piece.Length);
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
    /// <exception cref="InvalidOperationException">Fewer bytes were written than announced; the connection is no longer usable for sending.</exception>
    public async ValueTask EndBodyAsync(IEnumerable<KeyValuePair<string, string>>? trailers = null)
    {
        if (sending == Sending.Done)
        {
            return;
        }
        Require(Sending.Body);
        if (!framing.IsChunked)
        {
            sending = Sending.Failed;
            throw new InvalidOperationException($"{unsent} bytes of the request's body are missing");
        }
        writer.BeginTrailers();
        foreach (var (name, value) in trailers ?? [])
        {
            writer.Add(name, value);
        }
        writer.End();
        await SendAsync(writer.Written);
        writer.Release();
        sending = Sending.Done;
    }

    void CheckBody(long length)
    {
        if (length > unsent && framing.HasLength)
        {
            sending = Sending.Failed;
            throw new InvalidOperationException($"{length - unsent} bytes more than the announced body");
        }
        Require(Sending.Body);
        bodyBegun = true;
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
        if (framing.IsChunked)
        {
            Utf8Formatter.TryFormat(size, block, out length, new StandardFormat('x'));
            "\r\n"u8.CopyTo(block.AsSpan(length));
            length += 2;
        }
        piece.CopyTo(block.AsSpan(length));
        length += size;
        if (framing.IsChunked)
        {
            "\r\n"u8.CopyTo(block.AsSpan(length));
            length += 2;
        }
        await SendAsync(block.AsMemory(0, length), size);
        ArrayPool<byte>.Shared.Return(block);
    }

    // Buffers go back to the array pool only after a send that succeeded: the kernel may still look at those of one that was aborted.
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, int ofBody = 0)
    {
        requestBegun = true;
        try
        {
            await stream.SendAsync(bytes);
            BytesSent += bytes.Length;
            if (ofBody > 0 && framing.HasLength && (unsent -= ofBody) == 0)
            {
                sending = Sending.Done;
            }
        }
        catch (Exception error) when (IsStreamFailure(error))
        {
            sending = Sending.Failed;
            sendFailed = true;
            throw Failure(UpstreamFailureKind.SendFailed, error.Message, error);
        }
    }

    void Require(Sending state)
    {
        if (sending != state)
        {
            throw new InvalidOperationException($"not possible now: the request is at {sending}, not at {state}");
        }
    }

    // ---- receiving ----

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
        maxTrailerBytes = maxHeadBytes;
        try
        {
            if (buffer is not null && Advance(maxHeadBytes) is { } received)
            {
                return received;
            }
            while (stream.ReceivesAtOnce && pooled.Watch is null && stream.IsReadable)
            {
                MakeRoom();
                var count = stream.TryReceive(buffer.AsSpan(bufferEnd));
                if (count < 0)
                {
                    if (bufferStart == bufferEnd)
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
    public ValueTask WaitHeadAsync() => stream.ReceivesAtOnce && pooled.Watch is null ? stream.WaitReadableAsync() : ReceiveMoreOfHeadAsync();

    async ValueTask ReceiveMoreOfHeadAsync()
    {
        try
        {
            if (pooled.Watch is { } watch)
            {
                pooled.Watch = null;
                if (await watch is { } failure)
                {
                    throw ReceiveFailure(failure);
                }
            }
            else if (buffer is null)
            {
                await stream.WaitReadableAsync();
            }
            MakeRoom();
            Received(await stream.ReceiveAsync(buffer.AsMemory(bufferEnd)));
        }
        catch (Exception error) when (error is UpstreamException || IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    void Received(int count)
    {
        bufferEnd += count;
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
        parser ??= ResponseHeadParser.Rent();
        var bytes = buffer.AsSpan(bufferStart, bufferEnd - bufferStart);
        if (!parser.Advance(bytes, maxHeadBytes))
        {
            return null;
        }
        var head = parser.Build(bytes, facts);
        Consume(parser.Length);
        parser.Return();
        parser = null;
        if (head.Interim)
        {
            return ++interimHeads <= MaxInterimHeads ? head : throw ResponseHeadParser.Bad("too many interim answers");
        }
        BeginBody(head);
        return head;
    }

    void BeginBody(ResponseHead head)
    {
        bodyKind = head.Body.Kind;
        keepAlive = head.KeepAlive;
        unreceived = head.Body.Length;
        receiving = bodyKind switch
        {
            BodyKind.None => Receiving.Done,
            BodyKind.Length when unreceived == 0 => Receiving.Done,
            BodyKind.Upgrade => Receiving.Raw,
            _ => Receiving.Body,
        };
        if (bodyKind == BodyKind.Chunked)
        {
            decoder = new ChunkedDecoder(maxTrailerBytes);
        }
        if (receiving == Receiving.Done)
        {
            EndResponse();
        }
    }

    /// <summary>Completes when <see cref="ReadBodyAsync"/> or <see cref="ReadRawAsync"/> has something to say. No buffer is held meanwhile.</summary>
    public ValueTask WaitReadableAsync()
    {
        ThrowIfFailed();
        return HasReceived ? default
            : stream.WaitNeverFails ? stream.WaitReadableAsync()
            : WaitOrFailAsync();
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask WaitOrFailAsync()
    {
        try
        {
            await stream.WaitReadableAsync();
        }
        catch (Exception error) when (IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    /// <summary>Payload as soon as there is any: at most what fits, never waiting to fill. 0 is the clean end, everything else an exception.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<int> ReadBodyAsync(Memory<byte> destination)
    {
        if (receiving == Receiving.Done)
        {
            return 0;
        }
        RequireReceiving(Receiving.Body);
        try
        {
            var room = destination[..Room(destination.Length)];
            while (true)
            {
                var count = await TakeAsync(room);
                if (Payload(room.Span, count) is var payload and >= 0)
                {
                    return payload;
                }
            }
        }
        catch (Exception error) when (error is UpstreamException || IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    /// <summary>As <see cref="ReadBodyAsync"/> without an await, which a small event would feel; -1: no payload now.</summary>
    public int TryReadBody(Span<byte> destination)
    {
        if (receiving == Receiving.Done)
        {
            return 0;
        }
        RequireReceiving(Receiving.Body);
        try
        {
            var room = destination[..Room(destination.Length)];
            var count = TryTake(room);
            return count < 0 ? -1 : Payload(room, count);
        }
        catch (Exception error) when (error is UpstreamException || IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    int Room(int destination)
    {
        ArgumentOutOfRangeException.ThrowIfZero(destination);
        return bodyKind == BodyKind.Length ? (int)Math.Min(destination, unreceived) : destination;
    }

    /// <summary>Makes payload of what was received, in place; 0 at the clean end, -1 when it was nothing but framing.</summary>
    /// <param name="count">0: the upstream ended the connection.</param>
    int Payload(Span<byte> bytes, int count)
    {
        switch (bodyKind)
        {
            case BodyKind.Chunked:
                if (count == 0)
                {
                    throw LastChunkMissing();
                }
                var used = decoder!.Decode(bytes[..count], bytes, out var written);
                if (decoder.Done)
                {
                    surplusBytes |= used < count;
                    EndResponse();
                }
                return written > 0 || decoder.Done ? written : -1;
            case BodyKind.Length:
                if (count == 0)
                {
                    throw Failure(UpstreamFailureKind.EarlyClose, $"{unreceived} bytes of the body are missing");
                }
                unreceived -= count;
                if (unreceived == 0)
                {
                    EndResponse();
                }
                return count;
            default:
                if (count > 0)
                {
                    return count;
                }
                if (sendFailed)
                {
                    // the send got the RST, so the receive only sees an end
                    throw Failure(UpstreamFailureKind.Reset, null);
                }
                if (!stream.EndWasAnnounced)
                {
                    throw Failure(UpstreamFailureKind.EarlyClose, "TLS ended without close_notify");
                }
                EndResponse();
                return 0;
        }
    }

    UpstreamException LastChunkMissing() => Failure(UpstreamFailureKind.EarlyClose, "the last chunk is missing");

    /// <summary>Payload that <see cref="ReadVerbatimAsync"/> has given so far, without framing.</summary>
    public long VerbatimPayload { get; private set; }

    /// <summary>
    /// A chunked body with its framing, as it came, to be passed on as it is (trailers without the fields that may not be trailers). Never waits to
    /// fill; 0 is the clean end.
    /// </summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<int> ReadVerbatimAsync(Memory<byte> destination)
    {
        if (receiving == Receiving.Done)
        {
            return TakeHeldBack(destination.Span);
        }
        RequireReceiving(Receiving.Body);
        try
        {
            while (true)
            {
                var count = await TakeAsync(destination);
                if (Follow(destination.Span, count) is var passed and > 0)
                {
                    return passed;
                }
            }
        }
        catch (Exception error) when (error is UpstreamException || IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    /// <summary>There is something to read whatever the socket says: what came together with the head, or the end.</summary>
    internal bool HasReceived => buffer is not null || receiving == Receiving.Done;

    /// <summary>
    /// Where it comes from, when that is a socket of the loop that this runs on: <see cref="TryReadBody"/> and <see cref="TryReadVerbatim"/> can be used here.
    /// </summary>
    internal LoopSocket? SocketHere => stream.ReceivesAtOnce ? (stream as LoopByteStream)?.Socket : null;

    /// <summary>As <see cref="ReadVerbatimAsync"/> without an await, which a small event would feel; -1: nothing to pass on now.</summary>
    public int TryReadVerbatim(Span<byte> destination)
    {
        if (receiving == Receiving.Done)
        {
            return TakeHeldBack(destination);
        }
        RequireReceiving(Receiving.Body);
        try
        {
            var count = TryTake(destination);
            return count >= 0 && Follow(destination, count) is var passed and > 0 ? passed : -1;
        }
        catch (Exception error) when (error is UpstreamException || IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    /// <summary>How many of these bytes, from the start, may go on; behind the last chunk come the trailers, as far as there is room.</summary>
    /// <param name="count">0: the upstream ended the connection.</param>
    int Follow(Span<byte> destination, int count)
    {
        if (count == 0)
        {
            throw LastChunkMissing();
        }
        var used = decoder!.Follow(destination[..count], out var passed, out var payload);
        VerbatimPayload += payload;
        if (decoder.Done)
        {
            surplusBytes |= used < count;
            heldBack = decoder.WriteTrailers();
            EndResponse();
            passed += TakeHeldBack(destination[passed..]);
        }
        return passed;
    }

    int TakeHeldBack(Span<byte> destination)
    {
        var count = Math.Min(destination.Length, heldBack.Length);
        heldBack.Span[..count].CopyTo(destination);
        heldBack = heldBack[count..];
        return count;
    }

    /// <summary>After a 101: bytes as they come; 0 when the upstream will send no more.</summary>
    public async ValueTask<int> ReadRawAsync(Memory<byte> destination)
    {
        RequireReceiving(Receiving.Raw);
        try
        {
            return await TakeAsync(destination);
        }
        catch (Exception error) when (IsStreamFailure(error))
        {
            throw ReceiveFailure(error);
        }
    }

    public ValueTask WriteRawAsync(ReadOnlyMemory<byte> bytes)
    {
        RequireReceiving(Receiving.Raw);
        return SendAsync(bytes);
    }

    /// <summary>Tells the upstream that no more bytes come; reading goes on.</summary>
    public async ValueTask ShutdownSendAsync()
    {
        RequireReceiving(Receiving.Raw);
        try
        {
            await stream.ShutdownSendAsync();
        }
        catch (Exception error) when (IsStreamFailure(error))
        {
            throw Failure(UpstreamFailureKind.SendFailed, error.Message, error);
        }
    }

    bool AnswerBegun => BytesReceived > 0;

    void EndResponse()
    {
        receiving = Receiving.Done;
        surplusBytes |= buffer is not null;
        ReleaseBuffer();
    }

    /// <summary>What was received together with the head first, then from the stream.</summary>
    ValueTask<int> TakeAsync(Memory<byte> destination)
    {
        return buffer is null ? ReceiveAsync(destination) : new(TakeBuffered(destination.Span));
    }

    /// <summary>As <see cref="TakeAsync"/>; -1: nothing is there now.</summary>
    int TryTake(Span<byte> destination)
    {
        if (buffer is not null)
        {
            return TakeBuffered(destination);
        }
        var count = stream.TryReceive(destination);
        BytesReceived += Math.Max(count, 0);
        return count;
    }

    int TakeBuffered(Span<byte> destination)
    {
        var count = Math.Min(destination.Length, bufferEnd - bufferStart);
        buffer.AsSpan(bufferStart, count).CopyTo(destination);
        Consume(count);
        return count;
    }

    /// <summary>For more bytes of a head.</summary>
    void MakeRoom()
    {
        if (buffer is null)
        {
            buffer = ArrayPool<byte>.Shared.Rent(FirstReceiveBuffer);
            bufferStart = bufferEnd = 0;
        }
        else if (bufferEnd == buffer.Length)
        {
            var length = bufferEnd - bufferStart;
            var larger = bufferStart > 0 ? buffer : ArrayPool<byte>.Shared.Rent(buffer.Length * 2);
            buffer.AsSpan(bufferStart, length).CopyTo(larger);
            if (larger != buffer)
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
            buffer = larger;
            bufferStart = 0;
            bufferEnd = length;
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> ReceiveAsync(Memory<byte> destination)
    {
        var count = await stream.ReceiveAsync(destination);
        BytesReceived += count;
        return count;
    }

    void Consume(int count)
    {
        bufferStart += count;
        if (bufferStart == bufferEnd)
        {
            ReleaseBuffer();
        }
    }

    void ReleaseBuffer()
    {
        if (buffer is not null)
        {
            ArrayPool<byte>.Shared.Return(buffer);
            buffer = null;
        }
    }

    void RequireReceiving(Receiving state)
    {
        ThrowIfFailed();
        if (receiving != state)
        {
            throw new InvalidOperationException($"not possible now: the answer is at {receiving}, not at {state}");
        }
    }

    // ---- ends ----

    /// <summary>
    /// Closes the connection at once with RST; what is pending, and what comes later, throws <see cref="UpstreamException"/> with this reason.
    /// After <see cref="DisposeAsync"/> it does nothing: a late timer can't hit the connection's next request.
    /// </summary>
    public void Abort(UpstreamFailureKind reason)
    {
        lock (this)
        {
            if (disposed || aborted is not null)
            {
                return;
            }
            aborted = reason;
            pool.Close(pooled, reset: true);
        }
    }

    public ValueTask DisposeAsync()
    {
        lock (this)
        {
            if (disposed)
            {
                return default;
            }
            disposed = true;
        }
        var atTheEnd = sending == Sending.Done && receiving == Receiving.Done;
        var kept = atTheEnd && keepAlive && !asksClose && !surplusBytes && aborted is null;
        EndSilence(kept);
        if (kept)
        {
            pool.Return(pooled, limits);
        }
        else
        {
            pool.Close(pooled);
        }
        return default;
    }

    static bool IsStreamFailure(Exception error) =>
        error is SocketException or IOException or ObjectDisposedException;

    void ThrowIfFailed()
    {
        if (receiveFailure is not null)
        {
            throw Failure(receiveFailure.Kind, receiveFailure.Detail, receiveFailure);
        }
    }

    /// <summary>Gives a failure of the receiving side its meaning and keeps it: the kernel tells it only once.</summary>
    UpstreamException ReceiveFailure(Exception error)
    {
        receiveFailure = error switch
        {
            UpstreamException { Kind: var kind, Detail: var detail } => Failure(kind, detail, error),
            SocketException or IOException { InnerException: SocketException } => Failure(UpstreamFailureKind.Reset, null, error),
            // SslStream: the end in the middle of a TLS record
            IOException => Failure(AnswerBegun ? UpstreamFailureKind.EarlyClose : UpstreamFailureKind.NoAnswer, error.Message, error),
            _ => Failure(UpstreamFailureKind.Reset, error.Message, error),
        };
        return receiveFailure;
    }

    UpstreamException Failure(UpstreamFailureKind kind, string? detail, Exception? cause = null)
    {
        UpstreamFailureKind? reason;
        lock (this)
        {
            reason = aborted;
        }
        return new(reason ?? kind, reason is null ? detail : null, cause)
        {
            ConnectionReused = Reused,
            RequestBegun = requestBegun,
            BodyBegun = bodyBegun,
            AnswerBegun = AnswerBegun,
        };
    }
}

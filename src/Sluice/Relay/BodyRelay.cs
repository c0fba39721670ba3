using System.Buffers;
using System.IO.Pipelines;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Relay.Queues;

namespace Sluice.Relay;

/// <summary>How a body is carried.</summary>
/// <param name="FirstPiece">No read is larger: <c>proxy_buffer_size</c>, bytes.</param>
/// <param name="NextPiece">The same for every read after the first: the size in <c>proxy_buffers</c>, bytes.</param>
/// <param name="ReadTimeout">Silence of the upstream (<c>proxy_read_timeout</c>); time spent waiting for the client does not count.</param>
/// <param name="SendTimeout">Silence of the client (<c>send_timeout</c>).</param>
internal readonly record struct RelaySettings(int FirstPiece, int NextPiece, TimeSpan ReadTimeout, TimeSpan SendTimeout)
{
    /// <summary>
    /// Chunks go to the client with the framing that the upstream gave them: nobody looks into the body, and the answer's head says
    /// <c>Transfer-Encoding: chunked</c>.
    /// </summary>
    public bool Verbatim { get; init; }

    /// <summary>The head may be all there is and must not go out alone before that is known (gRPC's status in the head).</summary>
    public bool HeadWithBody { get; init; }

    /// <summary>The client's connection, when bytes may be sent to it past its HTTP server: verbatim, plaintext, on an event
    /// loop.</summary>
    public EpollConnection? Direct { get; init; }

    /// <summary>Bytes of the gateway's own may come between units: knows where. Chunks are then sent on in chunks of the gateway's own,
    /// whatever came in one.</summary>
    internal EdgeWatch? Edge { get; init; }

    /// <summary>Keeps all limits in the place of <see cref="ReadTimeout"/> and <see cref="SendTimeout"/>; null: those two are all there
    /// is.</summary>
    internal StreamClock? Clock { get; init; }
}

/// <summary>What a relay asks of whoever runs it.</summary>
internal interface IRelayOwner
{
    /// <summary>Where a body is kept that the client does not take at once.</summary>
    BodySpool OpenSpool();

    /// <summary>The source has given all, which may be long before the client has it: it is free.</summary>
    ValueTask SourceEndedAsync();

    /// <summary>The client took nothing for <c>send_timeout</c>; a pending flush must end.</summary>
    void ClientStalled();
}

/// <summary>
/// Carries an answer's body from the upstream to the client, in one of two ways: <see cref="StreamAsync"/> holds nothing,
/// <see cref="AbsorbAsync"/> frees the upstream as fast as it can send. In both, each piece is flushed to the client as soon as the client
/// can take it. An idle stream holds no buffer.
/// </summary>
/// <param name="client">Where the body goes; flushing it pushes the bytes onto the wire.</param>
/// <param name="filter">Null: nobody looks into the body.</param>
/// <param name="upstreamSilence">The deadline of the source: aborts it.</param>
internal sealed class BodyRelay(
    IBodySource upstream, PipeWriter client, IPieceFilter? filter, RelaySettings settings, TimeProvider time,
    IdleDeadline upstreamSilence, IRelayOwner owner)
    : IBufferWriter<byte>, ILiveBody, IDisposable
{
    readonly ILoopBody? _loopBody = upstream as ILoopBody;

    IdleDeadline? _clientSilence;

    const int SmallBlock = 4096;

    LoopPump? _pump;
    int _block = SmallBlock;
    long _received, _written;
    ValueTask<FlushResult> _behind;
    bool _isBehind;

    /// <summary>Payload bytes read from the upstream.</summary>
    public long BytesReceived => Queued is { } queue ? queue.Received : settings.Verbatim ? ((IFramedBody)upstream).FramedPayload
        : _received;

    /// <summary>Payload bytes handed to the client's connection, after filters.</summary>
    public long BytesSent => settings.Verbatim ? ((IFramedBody)upstream).FramedPayload : _written;

    /// <summary>What carries it, from the lightest to the heaviest: <c>direct</c>, <c>verbatim</c>, <c>pieces</c>, <c>events</c>,
    /// <c>queue</c>.</summary>
    public string Mode => Queued is not null ? "queue" : settings.Direct is not null ? "direct" : settings.Verbatim ? "verbatim"
        : filter?.CutsEvents == true ? "events" : "pieces";

    /// <summary>Chunks go on with the framing in which they came.</summary>
    public bool IsVerbatim => settings.Verbatim;

    /// <summary>Sees what the client gets; in every mode, without a change of mode.</summary>
    public IPieceObserver? Observer
    {
        set
        {
            if (settings.Verbatim)
            {
                ((IFramedBody)upstream).Observer = value;
            }
            else
            {
                _observer = value is null ? settings.Edge : settings.Edge is { } edge ? new BothObservers(edge, value) : value;
            }
        }
    }

    volatile IPieceObserver? _observer = settings.Edge;
    Memory<byte> _observed;

    /// <summary>Timestamp of the first body byte from the upstream; 0 while there is none.</summary>
    public long FirstByteTimestamp { get; private set; }

    public long LastByteTimestamp { get; private set; }

    public bool TryEnd()
    {
        if (upstream.Ended)
        {
            return false;
        }
        upstream.Abort(UpstreamFailureKind.Shutdown);
        return true;
    }

    public bool WaitsForClient { get; private set; }

    public bool Holds => filter?.Holds == true || upstream is PacedBody { Holds: true } || Queued is { Holds: true };

    /// <summary>The source is read at its own pace: its time is kept there.</summary>
    QueuedBody? Queued => (upstream is PacedBody paced ? paced.Source : upstream) as QueuedBody;

    public QueueFacts Queue => Queued?.Facts ?? default;

    public long TakeDropped() => Queued?.TakeDropped() ?? 0;

    public int Heartbeats => settings.Clock?.Heartbeats ?? 0;

    public int TakeHeartbeats() => settings.Clock?.TakeHeartbeats() ?? 0;

    public TimeSpan? Paused => settings.Clock?.Paused;

    public bool ClientStalled => _clientSilence?.Expired == true;

    /// <summary>
    /// Buffering on: as long as the client takes every piece at once there is nothing to hold. From the first that it does not, one side
    /// reads the upstream into a spool (memory, then a temporary file, then back-pressure) while the other gives the client what is there.
    /// </summary>
    public async ValueTask AbsorbAsync()
    {
        if (await StreamAsync(untilBehind: true))
        {
            return;
        }
        var spool = owner.OpenSpool();
        var absorbing = AbsorbIntoAsync(spool);
        try
        {
            await FlushedAsync(_behind);
            await ServeAsync(spool);
        }
        catch
        {
            upstream.Abort(UpstreamFailureKind.ClientGone);
            throw;
        }
        finally
        {
            // the client is gone or has it all: whoever still waits for room in the spool is let go
            await spool.DisposeAsync();
            await absorbing;
        }
    }

    // -- From the upstream to the client

    /// <summary>
    /// Buffering off: each read from the upstream is flushed to the client before the next read. True at the body's end; false, which only
    /// <paramref name="untilBehind"/> allows, when the client did not take a piece at once (<see cref="_behind"/>).
    /// </summary>
    public async ValueTask<bool> StreamAsync(bool untilBehind = false)
    {
        // what is readable may be framing of which no payload follows for hours (the size of a dripped chunk)
        if (upstream.Framing.Kind == BodyKind.Chunked && !settings.Verbatim && !Holds)
        {
            PassReceived();
            await FlushedAsync(client.FlushAsync());
        }
        var size = settings.FirstPiece;
        SourceRuns();
        while (!EndedByFilter())
        {
            var readable = upstream.WaitReadableAsync();
            if (!readable.IsCompleted)
            {
                if (_received == 0 && !settings.HeadWithBody && !Holds)
                {
                    // the body keeps us waiting: the client gets the head at once
                    await client.FlushAsync();
                }
                LetGo();
                await readable;
                await TakeAsync();
            }
            else
            {
                await readable;
            }
            if (_received > 0 && PumpHere() is { } pump)
            {
                LetGo();
                var ended = await pump.RunAsync();
                await TakeAsync();
                if (ended)
                {
                    break;
                }
            }
            else
            {
                var read = await PassAsync(size);
                if (read == 0)
                {
                    break;
                }
                Received(read);
                FlushNow();
            }
            size = settings.NextPiece;
            if (_isBehind)
            {
                _isBehind = false;
                SourceStops();
                if (untilBehind && !upstream.Ended)
                {
                    return false;
                }
                await FlushedAsync(_behind);
                SourceRuns();
            }
        }
        SourceStops();
        await owner.SourceEndedAsync();
        await FinishAsync();
        return true;
    }

    /// <summary>What came together with the head is looked at before that goes out: when it is no body, there is still time for an
    /// error.</summary>
    void PassReceived()
    {
        if (_loopBody is not { HasReceived: true, Ended: false })
        {
            return;
        }
        var buffer = ArrayPool<byte>.Shared.Rent(settings.FirstPiece);
        try
        {
            var read = _loopBody.TryRead(buffer.AsSpan(0, settings.FirstPiece));
            if (read > 0)
            {
                Received(read);
                if (filter is null)
                {
                    this.Write(buffer.AsSpan(0, read));
                }
                else
                {
                    filter.Filter(buffer.AsMemory(0, read), false, this);
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>When the client does not take it at once it is behind, until <see cref="_behind"/> ends.</summary>
    void FlushNow()
    {
        if (client.CanGetUnflushedBytes ? client.UnflushedBytes == 0 : _written == 0)
        {
            return;
        }
        var flush = client.FlushAsync();
        if (flush.IsCompletedSuccessfully)
        {
            _ = flush.Result;
            settings.Clock?.Sent();
            return;
        }
        _behind = flush;
        _isBehind = true;
    }

    // -- Without waiting, from the upstream's socket on this loop

    /// <summary>Null: somebody has to wait, or it is more than small pieces.</summary>
    LoopPump? PumpHere() =>
        _loopBody?.SocketHere is { } socket && settings.Direct is not { Loop.IsCurrent: false } && !IsBulk
        ? _pump ??= new(this, _loopBody, socket) : null;

    /// <summary>Pieces are the client's writer's own affair: neither a filter nor the client's socket gets them first.</summary>
    bool IntoWriter => settings.Direct is null && filter is null;

    /// <summary>A body that fills blocks: received into the writer's own memory.</summary>
    bool IsBulk => IntoWriter && _block > SmallBlock;

    /// <summary>Passes on what is there now, through the loop's own buffer.</summary>
    internal PumpStep PassNow(Memory<byte> scratch)
    {
        if (!TryTake())
        {
            return PumpStep.Leave;
        }
        var step = PassHere(scratch);
        if (!_isBehind)
        {
            LetGo();
        }
        return step;
    }

    PumpStep PassHere(Memory<byte> scratch)
    {
        var most = IntoWriter ? Math.Min(SmallBlock, settings.NextPiece) : settings.NextPiece;
        var framed = settings.Direct is not null && !settings.Verbatim;
        var room = framed ? scratch[ChunkHead..^ChunkEnd] : scratch;
        room = room.Length > most ? room[..most] : room;
        var read = _loopBody!.TryRead(room.Span);
        if (read <= 0)
        {
            return read == 0 ? PumpStep.Ended : PumpStep.Again;
        }
        Received(read);
        var piece = room[..read];
        if (settings.Direct is { } direct)
        {
            if (framed)
            {
                _observer?.OnPiece(piece.Span, false);
                _written += read;
                piece = Chunk(scratch, read);
            }
            var sent = direct.TrySend(piece.Span);
            if (sent == piece.Length)
            {
                settings.Clock?.Sent();
                return PumpStep.Again;
            }
            if (framed)
            {
                direct.Append(piece.Span[sent..]);
            }
            else
            {
                this.Write(piece.Span[sent..]);
            }
        }
        else if (filter is not null)
        {
            filter.Filter(piece, false, this);
        }
        else
        {
            this.Write(piece.Span);
            _block = BlockAfter(read, room.Length);
        }
        FlushNow();
        return _isBehind || filter?.Ended == true || IsBulk ? PumpStep.Leave : PumpStep.Again;
    }

    /// <summary>Before the payload in the scratch: its length, right-aligned; behind it a line end.</summary>
    const int ChunkHead = 10, ChunkEnd = 2;

    static Memory<byte> Chunk(Memory<byte> scratch, int length)
    {
        var bytes = scratch.Span;
        var at = ChunkHead - 2;
        bytes[at] = bytes[ChunkHead + length] = (byte)'\r';
        bytes[at + 1] = bytes[ChunkHead + length + 1] = (byte)'\n';
        for (var rest = length; rest > 0; rest >>= 4)
        {
            bytes[--at] = "0123456789abcdef"u8[rest & 15];
        }
        return scratch[at..(ChunkHead + length + ChunkEnd)];
    }

    /// <summary>A body on its way fills blocks, an event does not.</summary>
    static int BlockAfter(int read, int asked) => read == asked ? int.MaxValue : SmallBlock;

    // -- With waiting

    /// <summary>The next piece into the client's writer, received into its own memory unless a filter has to see it.</summary>
    async ValueTask<int> PassAsync(int size)
    {
        if (filter is not null || settings.Clock is { Beats: true })
        {
            return await PassThroughBufferAsync(size);
        }
        var memory = GetMemory(Math.Min(size, _block));
        var asked = Math.Min(memory.Length, size);
        var read = await upstream.ReadAsync(memory[..asked]);
        if (read > 0)
        {
            _block = BlockAfter(read, asked);
            Advance(read);
        }
        return read;
    }

    /// <summary>While this waits, a heartbeat may pass: nothing of the client's writer is held.</summary>
    async ValueTask<int> PassThroughBufferAsync(int size)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(size);
        try
        {
            var reading = upstream.ReadAsync(buffer.AsMemory(0, size));
            int read;
            if (reading.IsCompleted)
            {
                read = await reading;
            }
            else
            {
                LetGo();
                read = await reading;
                await TakeAsync();
            }
            if (read > 0 && filter is not null)
            {
                filter.Filter(buffer.AsMemory(0, read), false, this);
            }
            else if (read > 0)
            {
                this.Write(buffer.AsSpan(0, read));
            }
            return read;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    // -- Through a spool

    async Task AbsorbIntoAsync(BodySpool spool)
    {
        Exception? failure = null;
        try
        {
            var size = settings.FirstPiece;
            SourceRuns();
            while (true)
            {
                await upstream.WaitReadableAsync();
                var room = spool.GetMemory();
                var read = await upstream.ReadAsync(room.Length > size ? room[..size] : room);
                if (read == 0)
                {
                    break;
                }
                Received(read);
                size = settings.NextPiece;
                var kept = spool.AdvanceAsync(read);
                if (!kept.IsCompletedSuccessfully)
                {
                    // memory and file are full: nobody reads the upstream meanwhile
                    SourceStops();
                    await kept;
                    SourceRuns();
                }
            }
            SourceStops();
            await owner.SourceEndedAsync();
        }
        catch (Exception e)
        {
            failure = e;
            if (e is SpoolException)
            {
                // nobody takes what it still sends, and the client may be long in finding out
                upstream.Abort(UpstreamFailureKind.Shutdown);
            }
        }
        spool.Complete(failure);
    }

    async ValueTask ServeAsync(BodySpool spool)
    {
        while (await spool.ReadAsync() is { IsEmpty: false } piece)
        {
            if (filter is null)
            {
                this.Write(piece.Span);
            }
            else
            {
                filter.Filter(piece, false, this);
            }
            await FlushedAsync(client.FlushAsync());
            if (EndedByFilter())
            {
                break;
            }
        }
        await FinishAsync();
    }

    // -- Both

    /// <summary>A filter wants no more: what the upstream still sends is nobody's.</summary>
    bool EndedByFilter()
    {
        if (filter?.Ended != true)
        {
            return false;
        }
        upstream.Abort(UpstreamFailureKind.Shutdown);
        return true;
    }

    async ValueTask FinishAsync()
    {
        if (filter is not null)
        {
            filter.Filter(default, true, this);
            await FlushedAsync(client.FlushAsync());
        }
    }

    /// <summary>Waits for the client, but not for ever.</summary>
    async ValueTask FlushedAsync(ValueTask<FlushResult> flush)
    {
        if (flush.IsCompletedSuccessfully)
        {
            _ = flush.Result;
            settings.Clock?.Sent();
            return;
        }
        if (settings.Clock is { } clock)
        {
            clock.ClientWaits();
            WaitsForClient = true;
            await flush;
            WaitsForClient = false;
            clock.ClientTook();
            return;
        }
        _clientSilence ??= new(time, static owner => ((IRelayOwner)owner!).ClientStalled(), owner);
        _clientSilence.Start(settings.SendTimeout);
        WaitsForClient = true;
        await flush;
        WaitsForClient = false;
        _clientSilence.Stop();
    }

    internal void Received(int bytes)
    {
        long now;
        if (Queued is null)
        {
            now = upstreamSilence.Touch();
            settings.Clock?.Read(now);
        }
        else
        {
            now = time.GetTimestamp();
        }
        if (_received == 0)
        {
            FirstByteTimestamp = now;
        }
        LastByteTimestamp = now;
        _received += bytes;
    }

    public void Dispose()
    {
        Observer = null;
        settings.Clock?.Dispose();
        _clientSilence?.Dispose();
    }

    void SourceRuns()
    {
        if (Queued is not null)
        {
            return;
        }
        if (settings.Clock is { } clock)
        {
            clock.Resume();
        }
        else
        {
            upstreamSilence.Start(settings.ReadTimeout);
        }
    }

    void SourceStops()
    {
        if (Queued is not null)
        {
            return;
        }
        if (settings.Clock is { } clock)
        {
            clock.Pause();
        }
        else
        {
            upstreamSilence.Stop();
        }
    }

    // -- Whose the client is: the relay's, or a heartbeat's that is on its way. The relay lets go of it only where it waits for the
    // upstream

    const int Free = 0, Taken = 1;

    int _client = Taken;
    bool _isOurs = true;
    TaskCompletionSource? _freed;

    void LetGo()
    {
        if (settings.Clock is { Beats: true })
        {
            _isOurs = false;
            Volatile.Write(ref _client, Free);
        }
    }

    bool TryTake() => _isOurs || (_isOurs = Interlocked.CompareExchange(ref _client, Taken, Free) == Free);

    ValueTask TakeAsync() => TryTake() ? default : TakeLaterAsync();

    async ValueTask TakeLaterAsync()
    {
        while (!TryTake())
        {
            var freed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            Volatile.Write(ref _freed, freed);
            if (TryTake())
            {
                return;
            }
            await freed.Task;
        }
    }

    /// <summary>No heartbeat is on its way, and none will be; nothing is read of the source.</summary>
    public ValueTask QuietAsync()
    {
        settings.Clock?.Dispose();
        (upstream as PacedBody)?.Dispose();
        return Queued is { } queue ? QuietAsync(queue) : TakeAsync();
    }

    async ValueTask QuietAsync(QueuedBody queue)
    {
        await queue.CloseAsync();
        await TakeAsync();
    }

    /// <summary>Sends bytes of the gateway's own while the stream is silent: only between units, and only when nothing waits for the
    /// client.</summary>
    public void Beat(ReadOnlySpan<byte> bytes)
    {
        if (Interlocked.CompareExchange(ref _client, Taken, Free) != Free)
        {
            return;
        }
        var flush = default(ValueTask<FlushResult>);
        try
        {
            if (settings.Edge?.IsBetween == true)
            {
                client.Write(bytes);
                flush = client.FlushAsync();
                settings.Clock?.Beaten();
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or InvalidOperationException or OperationCanceledException)
        {
            // the client has gone, which the relay is told too
        }
        if (flush.IsCompletedSuccessfully)
        {
            _ = flush.Result;
            Freed();
        }
        else
        {
            _ = BeatTakenAsync(flush);
        }
    }

    async Task BeatTakenAsync(ValueTask<FlushResult> flush)
    {
        try
        {
            await flush;
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or InvalidOperationException or OperationCanceledException)
        {
            // as above
        }
        Freed();
    }

    void Freed()
    {
        Volatile.Write(ref _client, Free);
        Interlocked.Exchange(ref _freed, null)?.TrySetResult();
    }

    // -- What filters write into: the client's writer, counted

    public void Advance(int count)
    {
        if (_observer is { } observer && count <= _observed.Length)
        {
            observer.OnPiece(_observed.Span[..count], false);
        }
        _observed = default;
        client.Advance(count);
        _written += count;
    }

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        var memory = client.GetMemory(sizeHint);
        if (_observer is not null)
        {
            _observed = memory;
        }
        return memory;
    }

    public Span<byte> GetSpan(int sizeHint = 0) => _observer is null ? client.GetSpan(sizeHint) : GetMemory(sizeHint).Span;
}

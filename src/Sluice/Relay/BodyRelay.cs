using System.Buffers;
using System.IO.Pipelines;
using Sluice.Net;
using Sluice.Net.Epoll;

namespace Sluice.Relay;

/// <summary>How a body is carried.</summary>
/// <param name="FirstPiece">No read is larger: <c>proxy_buffer_size</c>, bytes.</param>
/// <param name="NextPiece">The same for every read after the first: the size in <c>proxy_buffers</c>, bytes.</param>
/// <param name="ReadTimeout">Silence of the upstream (<c>proxy_read_timeout</c>); time spent waiting for the client does not count.</param>
/// <param name="SendTimeout">Silence of the client (<c>send_timeout</c>).</param>
public readonly record struct RelaySettings(int FirstPiece, int NextPiece, TimeSpan ReadTimeout, TimeSpan SendTimeout)
{
    /// <summary>
    /// Chunks go to the client with the framing that the upstream gave them: nobody looks into the body, and the answer's head says
    /// <c>Transfer-Encoding: chunked</c>.
    /// </summary>
    public bool Verbatim { get; init; }

    /// <summary>The client's connection, when bytes may be sent to it past its HTTP server: verbatim, plaintext, on an event loop.</summary>
    public EpollConnection? Direct { get; init; }
}

/// <summary>What a relay asks of whoever runs it.</summary>
public interface IRelayOwner
{
    /// <summary>Where a body is kept that the client does not take at once.</summary>
    BodySpool OpenSpool();

    /// <summary>The upstream has sent all, which may be long before the client has it: it is free.</summary>
    ValueTask UpstreamFreeAsync();

    /// <summary>The client took nothing for <c>send_timeout</c>; a pending flush must end.</summary>
    void ClientStalled();
}

/// <summary>
/// Carries an answer's body from the upstream to the client, in one of two ways: <see cref="StreamAsync"/> holds nothing,
/// <see cref="AbsorbAsync"/> frees the upstream as fast as it can send. In both, each piece is flushed to the client as soon as the client can
/// take it. An idle stream holds no buffer.
/// </summary>
/// <param name="client">Where the body goes; flushing it pushes the bytes onto the wire.</param>
/// <param name="filter">Null: nobody looks into the body.</param>
/// <param name="upstreamSilence">The deadline of the upstream's answers: aborts it.</param>
public sealed class BodyRelay(
    UpstreamConnection upstream, PipeWriter client, IPieceFilter? filter, RelaySettings settings, TimeProvider time,
    IdleDeadline upstreamSilence, IRelayOwner owner)
    : IBufferWriter<byte>, IDisposable
{
    IdleDeadline? _clientSilence;

    const int SmallBlock = 4096;

    LoopPump? _pump;
    int _block = SmallBlock;
    long _received, _written;
    ValueTask<FlushResult> _behind;
    bool _isBehind;

    /// <summary>Payload bytes read from the upstream.</summary>
    public long BytesReceived => settings.Verbatim ? upstream.VerbatimPayload : _received;

    /// <summary>Payload bytes handed to the client's connection, after filters.</summary>
    public long BytesSent => settings.Verbatim ? upstream.VerbatimPayload : _written;

    /// <summary>Timestamp of the first body byte from the upstream; 0 while there is none.</summary>
    public long FirstByteTimestamp { get; private set; }

    public bool ClientStalled => _clientSilence?.Expired == true;

    /// <summary>
    /// Buffering on: as long as the client takes every piece at once there is nothing to hold. From the first that it does not, one side reads the
    /// upstream into a spool (memory, then a temporary file, then back-pressure) while the other gives the client what is there.
    /// </summary>
    /// <param name="headFirst">As with <see cref="StreamAsync"/>.</param>
    public async ValueTask AbsorbAsync(bool headFirst)
    {
        if (await StreamAsync(headFirst, untilBehind: true))
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
    /// <param name="headFirst">
    /// Send the head before anything was read: what is readable may be framing of which no payload follows for hours (the size of a dripped chunk).
    /// Needless when the framing is passed on.
    /// </param>
    public async ValueTask<bool> StreamAsync(bool headFirst, bool untilBehind = false)
    {
        if (headFirst && !settings.Verbatim)
        {
            await client.FlushAsync();
        }
        var size = settings.FirstPiece;
        upstreamSilence.Start(settings.ReadTimeout);
        while (true)
        {
            var readable = upstream.WaitReadableAsync();
            if (!readable.IsCompleted && _received == 0)
            {
                // the body keeps us waiting: the client gets the head at once
                await client.FlushAsync();
            }
            await readable;
            if (_received > 0 && PumpHere() is { } pump)
            {
                if (await pump.RunAsync())
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
                upstreamSilence.Stop();
                if (untilBehind && !upstream.ResponseEnded)
                {
                    return false;
                }
                await FlushedAsync(_behind);
                upstreamSilence.Start(settings.ReadTimeout);
            }
            if (EndedByFilter())
            {
                break;
            }
        }
        upstreamSilence.Stop();
        await owner.UpstreamFreeAsync();
        await FinishAsync();
        return true;
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
            return;
        }
        _behind = flush;
        _isBehind = true;
    }

    ValueTask<int> ReadAsync(Memory<byte> destination) =>
        settings.Verbatim ? upstream.ReadVerbatimAsync(destination) : upstream.ReadBodyAsync(destination);

    // -- Without waiting, from the upstream's socket on this loop

    /// <summary>Null: somebody has to wait, or it is more than small pieces.</summary>
    LoopPump? PumpHere() => upstream.SocketHere is { } socket && settings.Direct is not { Loop.IsCurrent: false } && !IsBulk ? _pump ??= new(this, upstream, socket) : null;

    /// <summary>Pieces are the client's writer's own affair: neither a filter nor the client's socket gets them first.</summary>
    bool IntoWriter => settings.Direct is null && filter is null;

    /// <summary>A body that fills blocks: received into the writer's own memory.</summary>
    bool IsBulk => IntoWriter && _block > SmallBlock;

    /// <summary>Passes on what is there now, through the loop's own buffer.</summary>
    internal PumpStep PassNow(Memory<byte> scratch)
    {
        var most = IntoWriter ? Math.Min(SmallBlock, settings.NextPiece) : settings.NextPiece;
        var room = scratch.Length > most ? scratch[..most] : scratch;
        var read = settings.Verbatim ? upstream.TryReadVerbatim(room.Span) : upstream.TryReadBody(room.Span);
        if (read <= 0)
        {
            return read == 0 ? PumpStep.Ended : PumpStep.Again;
        }
        Received(read);
        var piece = room[..read];
        if (settings.Direct is { } direct)
        {
            var sent = direct.TrySend(piece.Span);
            if (sent == read)
            {
                return PumpStep.Again;
            }
            this.Write(piece.Span[sent..]);
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

    /// <summary>A body on its way fills blocks, an event does not.</summary>
    static int BlockAfter(int read, int asked) => read == asked ? int.MaxValue : SmallBlock;

    // -- With waiting

    /// <summary>The next piece into the client's writer, received into its own memory unless a filter has to see it.</summary>
    async ValueTask<int> PassAsync(int size)
    {
        if (filter is not null)
        {
            return await PassThroughFilterAsync(filter, size);
        }
        var memory = client.GetMemory(Math.Min(size, _block));
        var asked = Math.Min(memory.Length, size);
        var read = await ReadAsync(memory[..asked]);
        if (read > 0)
        {
            _block = BlockAfter(read, asked);
            Advance(read);
        }
        return read;
    }

    async ValueTask<int> PassThroughFilterAsync(IPieceFilter through, int size)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(size);
        try
        {
            var read = await upstream.ReadBodyAsync(buffer.AsMemory(0, size));
            if (read > 0)
            {
                through.Filter(buffer.AsMemory(0, read), false, this);
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
            upstreamSilence.Start(settings.ReadTimeout);
            while (true)
            {
                await upstream.WaitReadableAsync();
                var room = spool.GetMemory();
                var read = await ReadAsync(room.Length > size ? room[..size] : room);
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
                    upstreamSilence.Stop();
                    await kept;
                    upstreamSilence.Start(settings.ReadTimeout);
                }
            }
            upstreamSilence.Stop();
            await owner.UpstreamFreeAsync();
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
            return;
        }
        _clientSilence ??= new(time, static owner => ((IRelayOwner)owner!).ClientStalled(), owner);
        _clientSilence.Start(settings.SendTimeout);
        await flush;
        _clientSilence.Stop();
    }

    internal void Received(int bytes)
    {
        var now = upstreamSilence.Touch();
        if (_received == 0)
        {
            FirstByteTimestamp = now;
        }
        _received += bytes;
    }

    public void Dispose() => _clientSilence?.Dispose();

    // -- What filters write into: the client's writer, counted

    public void Advance(int count)
    {
        client.Advance(count);
        _written += count;
    }

    public Memory<byte> GetMemory(int sizeHint = 0) => client.GetMemory(sizeHint);

    public Span<byte> GetSpan(int sizeHint = 0) => client.GetSpan(sizeHint);
}

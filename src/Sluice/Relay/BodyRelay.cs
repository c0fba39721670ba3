using System.Buffers;
using System.IO.Pipelines;
using Sluice.Net;

namespace Sluice.Relay;

/// <summary>How a body is carried.</summary>
/// <param name="FirstPiece">No read is larger: <c>proxy_buffer_size</c>, bytes.</param>
/// <param name="NextPiece">The same for every read after the first: the size in <c>proxy_buffers</c>, bytes.</param>
/// <param name="ReadTimeout">Silence of the upstream (<c>proxy_read_timeout</c>); time spent waiting for the client does not count.</param>
/// <param name="SendTimeout">Silence of the client (<c>send_timeout</c>).</param>
public readonly record struct RelaySettings(int FirstPiece, int NextPiece, TimeSpan ReadTimeout, TimeSpan SendTimeout);

/// <summary>
/// Carries an answer's body from the upstream to the client, in one of two ways: <see cref="StreamAsync"/> holds nothing,
/// <see cref="AbsorbAsync"/> frees the upstream as fast as it can send. In both, each piece is flushed to the client as soon as the client can
/// take it. An idle stream holds no buffer.
/// </summary>
/// <param name="client">Where the body goes; flushing it pushes the bytes onto the wire.</param>
/// <param name="filter">Null: nobody looks into the body.</param>
/// <param name="clientStalled">Called when the client took nothing for <c>send_timeout</c>; must make a pending flush end.</param>
public sealed class BodyRelay(
    UpstreamConnection upstream, PipeWriter client, IPieceFilter? filter, RelaySettings settings, TimeProvider time, Action clientStalled) : IDisposable
{
    readonly IdleDeadline _upstreamSilence = new(time, static self => ((UpstreamConnection)self!).Abort(UpstreamFailureKind.ReadTimeout), upstream);
    readonly IdleDeadline _clientSilence = new(time, static self => ((Action)self!)(), clientStalled);

    /// <summary>Payload bytes read from the upstream.</summary>
    public long BytesReceived { get; private set; }

    /// <summary>Payload bytes handed to the client's connection, after filters.</summary>
    public long BytesSent { get; private set; }

    /// <summary>Timestamp of the first body byte from the upstream; 0 while there is none.</summary>
    public long FirstByteTimestamp { get; private set; }

    public bool ClientStalled => _clientSilence.Expired;

    /// <summary>Buffering off: each read from the upstream is flushed to the client before the next read.</summary>
    /// <param name="headFirst">
    /// Send the head before anything was read: what is readable may be framing of which no payload follows for hours (the size of a dripped chunk).
    /// </param>
    public async ValueTask StreamAsync(bool headFirst)
    {
        if (headFirst)
        {
            await FlushHeadAsync();
        }
        var counting = new CountingWriter(client);
        var size = settings.FirstPiece;
        _upstreamSilence.Start(settings.ReadTimeout);
        while (true)
        {
            var readable = upstream.WaitReadableAsync();
            if (!readable.IsCompleted && BytesReceived == 0)
            {
                await FlushHeadAsync();
            }
            await readable;
            int read;
            if (filter is null)
            {
                var memory = client.GetMemory(1);
                read = await upstream.ReadBodyAsync(memory.Length > size ? memory[..size] : memory);
                if (read == 0)
                {
                    break;
                }
                counting.Advance(read);
            }
            else if ((read = await ReadThroughFilterAsync(size, counting)) == 0)
            {
                break;
            }
            Received(read);
            size = settings.NextPiece;
            await FlushAsync(counting, _upstreamSilence);
            if (EndedByFilter())
            {
                break;
            }
        }
        _upstreamSilence.Stop();
        await FinishAsync(counting);
    }

    async ValueTask<int> ReadThroughFilterAsync(int size, CountingWriter counting)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(size);
        try
        {
            var read = await upstream.ReadBodyAsync(buffer.AsMemory(0, size));
            if (read > 0)
            {
                filter!.Filter(buffer.AsMemory(0, read), false, counting);
            }
            return read;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>
    /// Buffering on: one side reads the upstream into the spool (memory, then a temporary file, then back-pressure), the other gives the client
    /// what is there.
    /// </summary>
    /// <param name="upstreamFree">Called as soon as the upstream has sent all, which may be long before the client has it.</param>
    public async ValueTask AbsorbAsync(BodySpool spool, Func<ValueTask> upstreamFree)
    {
        var absorbing = AbsorbIntoAsync(spool, upstreamFree);
        try
        {
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

    async Task AbsorbIntoAsync(BodySpool spool, Func<ValueTask> upstreamFree)
    {
        Exception? failure = null;
        try
        {
            var size = settings.FirstPiece;
            _upstreamSilence.Start(settings.ReadTimeout);
            while (true)
            {
                await upstream.WaitReadableAsync();
                var room = spool.GetMemory();
                var read = await upstream.ReadBodyAsync(room.Length > size ? room[..size] : room);
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
                    _upstreamSilence.Stop();
                    await kept;
                    _upstreamSilence.Start(settings.ReadTimeout);
                }
            }
            _upstreamSilence.Stop();
            await upstreamFree();
        }
        catch (Exception e)
        {
            failure = e;
        }
        spool.Complete(failure);
    }

    async ValueTask ServeAsync(BodySpool spool)
    {
        var counting = new CountingWriter(client);
        while (true)
        {
            var reading = spool.ReadAsync();
            if (!reading.IsCompleted && counting.Written == 0)
            {
                await FlushHeadAsync();
            }
            var piece = await reading;
            if (piece.IsEmpty)
            {
                break;
            }
            if (filter is null)
            {
                counting.Write(piece.Span);
            }
            else
            {
                filter.Filter(piece, false, counting);
            }
            await FlushAsync(counting);
            if (EndedByFilter())
            {
                break;
            }
        }
        await FinishAsync(counting);
    }

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

    async ValueTask FinishAsync(CountingWriter counting)
    {
        if (filter is not null)
        {
            filter.Filter(default, true, counting);
            await FlushAsync(counting);
        }
    }

    /// <summary>The body keeps us waiting: the client gets the head at once.</summary>
    async ValueTask FlushHeadAsync()
    {
        await client.FlushAsync();
    }

    /// <param name="paused">Silence that does not count while the client makes us wait: nobody reads the upstream meanwhile.</param>
    async ValueTask FlushAsync(CountingWriter counting, IdleDeadline? paused = null)
    {
        if (counting.Written == BytesSent)
        {
            return;
        }
        BytesSent = counting.Written;
        var flush = client.FlushAsync();
        if (!flush.IsCompletedSuccessfully)
        {
            _clientSilence.Start(settings.SendTimeout);
            paused?.Stop();
            await flush;
            _clientSilence.Stop();
            paused?.Start(settings.ReadTimeout);
        }
    }

    void Received(int bytes)
    {
        _upstreamSilence.Touch();
        if (BytesReceived == 0)
        {
            FirstByteTimestamp = time.GetTimestamp();
        }
        BytesReceived += bytes;
    }

    public void Dispose()
    {
        _upstreamSilence.Dispose();
        _clientSilence.Dispose();
    }

    sealed class CountingWriter(PipeWriter inner) : IBufferWriter<byte>
    {
        public long Written { get; private set; }

        public void Advance(int count)
        {
            inner.Advance(count);
            Written += count;
        }

        public Memory<byte> GetMemory(int sizeHint = 0) => inner.GetMemory(sizeHint);

        public Span<byte> GetSpan(int sizeHint = 0) => inner.GetSpan(sizeHint);
    }
}

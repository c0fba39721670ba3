using System.Runtime.CompilerServices;
using Sluice.Net.Epoll;

namespace Sluice.Net;

/// <summary>The body of a response over HTTP/1.1. Each framing is a class of its own that says what received bytes mean; waiting for them
/// is the same for all.</summary>
internal abstract class UpstreamBody : ILoopBody
{
    readonly UpstreamConnection _connection;

    private protected UpstreamBody(UpstreamConnection connection) => _connection = connection;

    private protected UpstreamConnection Connection => _connection;

    public abstract BodyFraming Framing { get; }

    public bool Ended => _connection.ResponseEnded;

    /// <summary>How many bytes may be received at once, given so much room.</summary>
    private protected virtual int Room(int destination) => destination;

    /// <summary>Makes what the reader gets of what was received, in place: 0 at the clean end, -1 when it was nothing but
    /// framing.</summary>
    /// <param name="count">0 when the upstream ended the connection.</param>
    private protected abstract int Take(Span<byte> bytes, int count);

    /// <summary>What there is to give when all has been received.</summary>
    private protected virtual int TakeRest(Span<byte> destination) => 0;

    public ValueTask WaitReadableAsync() => _connection.WaitReadableAsync();

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<int> ReadAsync(Memory<byte> destination)
    {
        if (Ended)
        {
            return TakeRest(destination.Span);
        }
        _connection.ThrowIfFailed();
        try
        {
            ArgumentOutOfRangeException.ThrowIfZero(destination.Length);
            var room = destination[..Room(destination.Length)];
            while (true)
            {
                var count = await _connection.TakeAsync(room);
                if (Take(room.Span, count) is var given and >= 0)
                {
                    return given;
                }
            }
        }
        catch (Exception error) when (error is UpstreamException || UpstreamConnection.IsStreamFailure(error))
        {
            throw _connection.ReceiveFailure(error);
        }
    }

    /// <summary>Reads what is there now, without an await; -1 when there is nothing to give now, 0 at the clean end.</summary>
    public int TryRead(Span<byte> destination)
    {
        if (Ended)
        {
            return TakeRest(destination);
        }
        _connection.ThrowIfFailed();
        try
        {
            var room = destination[..Room(destination.Length)];
            var count = _connection.TryTake(room);
            return count < 0 ? -1 : Take(room, count);
        }
        catch (Exception error) when (error is UpstreamException || UpstreamConnection.IsStreamFailure(error))
        {
            throw _connection.ReceiveFailure(error);
        }
    }

    public void Abort(UpstreamFailureKind reason) => _connection.Abort(reason);

    LoopSocket? ILoopBody.SocketHere => _connection.SocketHere;

    bool ILoopBody.HasReceived => _connection.HasReceived;
}

/// <summary>A body whose length the head told.</summary>
sealed class LengthBody(UpstreamConnection connection, long length) : UpstreamBody(connection)
{
    long _missing = length;

    public override BodyFraming Framing { get; } = new(BodyKind.Length, length);

    private protected override int Room(int destination) => (int)Math.Min(destination, _missing);

    private protected override int Take(Span<byte> bytes, int count)
    {
        if (count == 0)
        {
            throw Connection.Failure(UpstreamFailureKind.EarlyClose, $"{_missing} bytes of the body are missing");
        }
        _missing -= count;
        if (_missing == 0)
        {
            Connection.EndResponse();
        }
        return count;
    }
}

/// <summary>A body in chunks, given without their framing or, to be passed on, with it (trailers without the fields that may not be
/// trailers).</summary>
sealed class ChunkedBody(UpstreamConnection connection, int maxTrailerBytes) : UpstreamBody(connection), IFramedBody
{
    readonly ChunkedDecoder _decoder = new(maxTrailerBytes);
    ReadOnlyMemory<byte> _trailers;
    volatile IPieceObserver? _observer;

    public override BodyFraming Framing => new(BodyKind.Chunked);

    public bool KeepsFraming { get; set; }

    public long FramedPayload { get; private set; }

    public IPieceObserver? Observer { set => _observer = value; }

    public HeaderFields Trailers => _decoder.Trailers;

    private protected override int Take(Span<byte> bytes, int count)
    {
        if (count == 0)
        {
            throw Connection.Failure(UpstreamFailureKind.EarlyClose, "the last chunk is missing");
        }
        return KeepsFraming ? Follow(bytes, count) : Decode(bytes, count);
    }

    int Decode(Span<byte> bytes, int count)
    {
        var used = _decoder.Decode(bytes[..count], bytes, out var written);
        if (_decoder.Done)
        {
            Connection.EndResponse(used < count);
        }
        return written > 0 || _decoder.Done ? written : -1;
    }

    /// <summary>How many of these bytes, from the start, may go on; behind the last chunk come the trailers, as far as there is
    /// room.</summary>
    int Follow(Span<byte> bytes, int count)
    {
        var used = _decoder.Follow(bytes[..count], out var passed, out var payload, _observer);
        FramedPayload += payload;
        if (_decoder.Done)
        {
            _trailers = _decoder.WriteTrailers();
            Connection.EndResponse(used < count);
            passed += TakeRest(bytes[passed..]);
        }
        return passed > 0 ? passed : -1;
    }

    private protected override int TakeRest(Span<byte> destination)
    {
        var count = Math.Min(destination.Length, _trailers.Length);
        _trailers.Span[..count].CopyTo(destination);
        _trailers = _trailers[count..];
        return count;
    }
}

/// <summary>A body that ends with its connection.</summary>
sealed class UntilCloseBody(UpstreamConnection connection) : UpstreamBody(connection)
{
    public override BodyFraming Framing => new(BodyKind.CloseDelimited);

    private protected override int Take(Span<byte> bytes, int count)
    {
        if (count == 0)
        {
            Connection.EndWithConnection();
        }
        return count;
    }
}

/// <summary>After a 101: bytes as they come; 0 when the upstream will send no more.</summary>
sealed class RawBody(UpstreamConnection connection) : UpstreamBody(connection)
{
    public override BodyFraming Framing => new(BodyKind.Upgrade);

    private protected override int Take(Span<byte> bytes, int count) => count;
}

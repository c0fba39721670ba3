using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Http;

namespace Sluice.Net.Http1;

/// <summary>
/// A request's body, without its framing. A body with a length is read in the connection's own memory; chunks are taken out of theirs into
/// a pooled buffer, which is held only while there is something in it.
/// </summary>
/// <remarks>What the client does wrong is a <see cref="BadHttpRequestException"/> with the status to answer.</remarks>
sealed class RequestBodyReader(PipeReader input, Http1Connection connection) : PipeReader
{
    const int FirstBuffer = 4096;

    /// <summary>Who sends more of them means no good.</summary>
    const int MaxTrailers = 100;

    ChunkedDecoder? _decoder;
    long _remaining;
    long _received;
    ReadOnlySequence<byte> _given;
    byte[]? _payload;
    int _start, _end;
    bool _examined;

    /// <summary>Nothing more comes, and all that came was consumed.</summary>
    public bool IsDone => _remaining == 0 && _decoder is not { Done: false } && _start == _end;

    /// <summary>What was taken off the connection, with its framing.</summary>
    public long RawBytes { get; private set; }

    /// <summary>What the client sent is no body: where its next request begins is unknown.</summary>
    public bool HasFailed { get; private set; }

    /// <summary>What may be read at most, bytes; null: no limit.</summary>
    public long? MaxBytes { get; set; }

    /// <summary>Those of a chunked body that ended; null before, and without any.</summary>
    public HeaderFields? Trailers { get; private set; }

    public void Begin(long? length, bool chunked)
    {
        _remaining = chunked ? 0 : length ?? 0;
        _decoder = chunked ? new() : null;
        _received = RawBytes = 0;
        _given = default;
        _examined = false;
        MaxBytes = null;
        Trailers = null;
        HasFailed = false;
    }

    /// <summary>The connection ends here: whatever is still there is nobody's.</summary>
    public void Release()
    {
        if (_payload is not null)
        {
            ArrayPool<byte>.Shared.Return(_payload);
            _payload = null;
        }
        _start = _end = 0;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public override async ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        if (Ready() is { } ready)
        {
            return ready;
        }
        await connection.ContinueAsync();
        while (true)
        {
            if (Take(await input.ReadAsync(cancellationToken)) is { } result)
            {
                return result;
            }
        }
    }

    public override bool TryRead(out ReadResult result)
    {
        while (true)
        {
            if (Ready() is { } ready)
            {
                result = ready;
                return true;
            }
            if (!input.TryRead(out var read))
            {
                result = default;
                return false;
            }
            if (Take(read) is { } taken)
            {
                result = taken;
                return true;
            }
        }
    }

    /// <summary>What can be said without receiving.</summary>
    ReadResult? Ready()
    {
        if (_decoder is null)
        {
            CheckSize(_received + _remaining);
            return _remaining == 0 ? new(ReadOnlySequence<byte>.Empty, isCanceled: false, isCompleted: true) : null;
        }
        return _decoder.Done || (_start < _end && !_examined) ? Payload(isCanceled: false) : null;
    }

    ReadResult Payload(bool isCanceled) =>
        new(_payload is null ? ReadOnlySequence<byte>.Empty : new(_payload, _start, _end - _start), isCanceled, _decoder!.Done);

    /// <summary>What this receive gave; null: framing only.</summary>
    ReadResult? Take(in ReadResult read)
    {
        if (_decoder is null)
        {
            _given = read.Buffer.Length > _remaining ? read.Buffer.Slice(0, _remaining) : read.Buffer;
            if (read.IsCompleted && _given.Length < _remaining)
            {
                throw Unfinished();
            }
            return new(_given, read.IsCanceled, _given.Length == _remaining);
        }
        if (read.IsCanceled)
        {
            input.AdvanceTo(read.Buffer.Start);
            return Payload(isCanceled: true);
        }
        var before = _end - _start;
        // a fault leaves nothing that anybody could read
        var end = read.Buffer.End;
        try
        {
            end = Decode(read.Buffer);
        }
        finally
        {
            input.AdvanceTo(end);
        }
        if (read.IsCompleted && !_decoder.Done)
        {
            throw Unfinished();
        }
        return _end - _start > before || _decoder.Done ? Payload(isCanceled: false) : null;
    }

    BadHttpRequestException Unfinished() => Fault("the body ended before its end", StatusCodes.Status400BadRequest);

    BadHttpRequestException Fault(string what, int status)
    {
        HasFailed = true;
        return new(what, status);
    }

    SequencePosition Decode(in ReadOnlySequence<byte> received)
    {
        var used = 0L;
        try
        {
            foreach (var segment in received)
            {
                used += Decode(segment.Span);
                if (_decoder!.Done)
                {
                    break;
                }
            }
        }
        catch (UpstreamException e)
        {
            throw Fault(e.Detail ?? "a malformed body", StatusCodes.Status400BadRequest);
        }
        if (_decoder!.Done)
        {
            Trailers = _decoder.Trailers.Count <= MaxTrailers
                ? _decoder.Trailers
                : throw Fault("too many trailers", StatusCodes.Status431RequestHeaderFieldsTooLarge);
        }
        CheckSize(_received);
        _examined = false;
        RawBytes += used;
        return received.GetPosition(used);
    }

    int Decode(ReadOnlySpan<byte> bytes)
    {
        MakeRoom(bytes.Length);
        var used = _decoder!.Decode(bytes, _payload.AsSpan(_end), out var written);
        _end += written;
        _received += written;
        return used;
    }

    void MakeRoom(int bytes)
    {
        if (_payload is not null && _payload.Length - _end >= bytes)
        {
            return;
        }
        var larger = ArrayPool<byte>.Shared.Rent(Math.Max(FirstBuffer, _end - _start + bytes));
        _payload.AsSpan(_start, _end - _start).CopyTo(larger);
        (_end, _start) = (_end - _start, 0);
        if (_payload is not null)
        {
            ArrayPool<byte>.Shared.Return(_payload);
        }
        _payload = larger;
    }

    void CheckSize(long bytes)
    {
        if (bytes > MaxBytes)
        {
            throw Fault("the request's body is too large", StatusCodes.Status413PayloadTooLarge);
        }
    }

    public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
    {
        if (_decoder is null)
        {
            if (_remaining > 0)
            {
                var used = _given.Slice(0, consumed).Length;
                _remaining -= used;
                _received += used;
                RawBytes += used;
                _given = default;
                input.AdvanceTo(consumed, examined);
            }
            return;
        }
        if (_payload is null)
        {
            return;
        }
        _start = consumed.GetInteger();
        _examined = examined.GetInteger() == _end;
        if (_start == _end)
        {
            Release();
        }
    }

    public override void CancelPendingRead() => input.CancelPendingRead();

    public override void Complete(Exception? exception = null)
    {
    }
}

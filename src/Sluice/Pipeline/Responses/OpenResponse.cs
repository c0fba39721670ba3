using System.Buffers;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Sluice.Net;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>A response whose body somebody writes piece by piece, for as long as that takes. Each piece passes the body filters and goes
/// out at once.</summary>
internal sealed class OpenResponse : ILiveBody
{
    readonly Exchange _exchange;
    readonly BodyFilters? _filters;
    readonly ArrayBufferWriter<byte>? _filtered;
    readonly WaitingFilters? _waiting;
    readonly ArrayBufferWriter<byte>? _passed;
    readonly LiveStream _live;
    volatile IPieceObserver? _observer;
    long _received, _sent, _last;
    bool _waitsForClient;

    internal OpenResponse(Exchange exchange, BodyFilters? filters, WaitingFilters? waiting)
    {
        (_exchange, _filters, _waiting) = (exchange, filters, waiting);
        _filtered = filters is null ? null : new();
        _passed = waiting is null ? null : new();
        _live = exchange.Services.Live.Add(exchange, null);
        _live.Body = this;
    }

    long ILiveBody.BytesReceived => _received;

    long ILiveBody.BytesSent => _sent;

    long ILiveBody.FirstByteTimestamp => _exchange.FirstByteTimestamp;

    long ILiveBody.LastByteTimestamp => _last;

    bool ILiveBody.WaitsForClient => _waitsForClient;

    string ILiveBody.Mode => _filters?.CutsEvents == true ? "events" : "pieces";

    bool ILiveBody.TryEnd() => false;

    IPieceObserver? ILiveBody.Observer { set => _observer = value; }

    /// <summary>Sends a piece; the head goes out with the first.</summary>
    /// <exception cref="ConnectionAbortedException">The client is gone.</exception>
    public ValueTask WriteAsync(ReadOnlyMemory<byte> piece) =>
        _waiting is null ? SendAsync(Filter(piece, last: false)) : WriteAfterAsync(piece);

    async ValueTask WriteAfterAsync(ReadOnlyMemory<byte> piece) =>
        await SendAsync(Filter(await PassAsync(piece, last: false), last: false));

    /// <summary>Sends the last piece and the end. A response that is whole in it has a length.</summary>
    /// <param name="whole">Nothing was written before.</param>
    public async ValueTask FinishAsync(ReadOnlyMemory<byte> piece, bool whole)
    {
        piece = Filter(await PassAsync(piece, last: true), last: true);
        if (whole && !_exchange.Response.HasStarted && HeaderPhase.MayHaveBody(_exchange.Response.StatusCode))
        {
            _exchange.Response.ContentLength = piece.Length;
        }
        await SendAsync(piece);
        await _exchange.Response.CompleteAsync();
        _live.Dispose();
    }

    /// <summary>What those let through that may take their time.</summary>
    async ValueTask<ReadOnlyMemory<byte>> PassAsync(ReadOnlyMemory<byte> piece, bool last)
    {
        if (_waiting is null)
        {
            return piece;
        }
        _passed!.ResetWrittenCount();
        await _waiting.FilterAsync(piece, last, _passed, _exchange.ClientGone);
        return _passed.WrittenMemory;
    }

    ReadOnlyMemory<byte> Filter(ReadOnlyMemory<byte> piece, bool last)
    {
        _received += piece.Length;
        if (_filters is null)
        {
            return piece;
        }
        _filtered!.ResetWrittenCount();
        _filters.Filter(piece, last, _filtered);
        return _filtered.WrittenMemory;
    }

    async ValueTask SendAsync(ReadOnlyMemory<byte> piece)
    {
        var (response, client) = (_exchange.Response, _exchange.ClientGone);
        if (!piece.IsEmpty && HeaderPhase.MayHaveBody(response.StatusCode) && !HttpMethods.IsHead(_exchange.Request.Method))
        {
            _last = _exchange.Services.Time.GetTimestamp();
            _exchange.FirstByteTimestamp = _exchange.FirstByteTimestamp == 0 ? _last : _exchange.FirstByteTimestamp;
            _observer?.OnPiece(piece.Span, false);
            _waitsForClient = true;
            var written = await response.BodyWriter.WriteAsync(piece, client);
            _waitsForClient = false;
            if (written.IsCompleted)
            {
                throw new ConnectionAbortedException("the client closed the connection");
            }
            _sent += piece.Length;
            _exchange.BodyBytesSent += piece.Length;
        }
        else if (!response.HasStarted)
        {
            await response.StartAsync(client);
        }
        client.ThrowIfCancellationRequested();
    }
}

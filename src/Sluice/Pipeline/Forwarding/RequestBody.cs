using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>
/// A request's body on its way to the upstream. Buffered (<c>proxy_request_buffering on</c>): read whole before the upstream is asked, so
/// that it can be sent again to another node. Otherwise each piece goes on as it comes and can be sent once.
/// </summary>
sealed class RequestBody : IDisposable
{
    readonly Exchange _exchange;
    readonly ReplayableBody? _buffered;
    IdleDeadline? _clientSilence;

    /// <summary>The buffer holds the body's beginning only.</summary>
    bool _hasMore;

    // of a streamed body, until the response's head is there: what was sent, to be sent again
    ArrayBufferWriter<byte>? _kept;
    bool _keeps = true;
    bool _clientEnded;

    RequestBody(Exchange exchange, RequestBodyFraming framing, ReplayableBody? buffered, IdleDeadline? clientSilence = null)
    {
        _exchange = exchange;
        Framing = framing;
        _buffered = buffered;
        _clientSilence = clientSilence;
    }

    static IdleDeadline WatchClient(Exchange exchange) =>
        new(exchange.Services.Time, static reader => ((PipeReader)reader!).CancelPendingRead(), exchange.Request.BodyReader);

    // nothing is read or kept for them: one for all requests
    static readonly RequestBody s_none = new(null!, RequestBodyFraming.None, null),
        s_empty = new(null!, RequestBodyFraming.Length(0), null);

    public RequestBodyFraming Framing { get; }

    public bool IsEmpty => Framing is { IsChunked: false, Bytes: 0 };

    /// <summary>Bytes were taken from the client and are not kept: the request cannot be sent again.</summary>
    public bool Consumed { get; private set; }

    /// <summary>What went wrong on the client's side while the body was streamed (a bad chunk, too large, gone).</summary>
    public Exception? ClientFault { get; private set; }

    /// <summary>Reads a body that is to be buffered. Without room for it on the disk, what was read goes first and the rest as it
    /// comes.</summary>
    public static async ValueTask<RequestBody> OpenAsync(Exchange exchange, string temporaryDirectory, ILogger logger)
    {
        var request = exchange.Request;
        if (!exchange.CanHaveBody)
        {
            return request.ContentLength == 0 ? s_empty : s_none;
        }
        if (!BufferingRules.Request(exchange, MediaType.IsStream(request.ContentType)).On)
        {
            return new(exchange, request.ContentLength is { } length ? RequestBodyFraming.Length(length) : RequestBodyFraming.Chunked,
                null);
        }
        var buffered = new ReplayableBody(exchange.Scope.ClientBodyBufferSize, temporaryDirectory);
        var clientSilence = WatchClient(exchange);
        try
        {
            while (true)
            {
                var result = await ReadAsync(exchange, clientSilence);
                var before = buffered.Length;
                try
                {
                    foreach (var segment in result.Buffer)
                    {
                        await buffered.AppendAsync(segment);
                    }
                }
                catch (SpoolException e)
                {
                    LogNoRoom(logger, exchange.Route!.Id, e.Message);
                    var kept = buffered.Length - before;
                    exchange.BodyBytesReceived += kept;
                    exchange.AdvanceBody(result.Buffer.GetPosition(kept));
                    buffered.Seal();
                    return new(
                        exchange, request.ContentLength is { } told ? RequestBodyFraming.Length(told) : RequestBodyFraming.Chunked,
                        buffered, clientSilence)
                    {
                        _hasMore = true,
                    };
                }
                exchange.BodyBytesReceived += result.Buffer.Length;
                exchange.AdvanceBody(result.Buffer.End);
                if (result.IsCompleted)
                {
                    break;
                }
            }
            buffered.Seal();
            return new(exchange, RequestBodyFraming.Length(buffered.Length), buffered, clientSilence);
        }
        catch
        {
            buffered.Dispose();
            clientSilence.Dispose();
            throw;
        }
    }

    /// <summary>The next piece from the client; canceled when nobody wants the rest any more.</summary>
    /// <exception cref="BadHttpRequestException">The client sent nothing for the whole <c>client_body_timeout</c>.</exception>
    static async ValueTask<ReadResult> ReadAsync(Exchange exchange, IdleDeadline silence)
    {
        var reading = exchange.ReadBodyAsync(CancellationToken.None);
        if (reading.IsCompleted)
        {
            return await reading;
        }
        silence.Start(exchange.Scope.ClientBodyTimeout);
        var result = await reading;
        silence.Stop();
        return result.IsCanceled && silence.Expired
            ? throw new BadHttpRequestException("the client sent nothing of its body for the whole client_body_timeout",
                StatusCodes.Status408RequestTimeout)
            : result;
    }

    /// <summary>For gRPC: never read beforehand. The client may pause as long as it likes, for it may be the answer that it waits
    /// for.</summary>
    public static RequestBody Streaming(Exchange exchange) => new(
        exchange,
        exchange.CanHaveBody ? RequestBodyFraming.Chunked : RequestBodyFraming.None,
        null);

    /// <summary>Sends a streaming body over HTTP/2. A fault of the client's is kept in <see cref="ClientFault"/>; all are thrown.</summary>
    /// <param name="client">Runs while the client is waited for; null: nobody minds.</param>
    public async Task CopyToAsync(Stream upstream, IdleDeadline silence, TimeSpan sendTimeout, IdleDeadline? client, TimeSpan clientIdle,
        CancellationToken cancellation)
    {
        if (_kept is { WrittenCount: > 0 } again)
        {
            silence.Start(sendTimeout);
            await upstream.WriteAsync(again.WrittenMemory, cancellation);
            await upstream.FlushAsync(cancellation);
            silence.Stop();
        }
        while (!_clientEnded)
        {
            ReadResult result;
            try
            {
                client?.Start(clientIdle);
                result = await _exchange.ReadBodyAsync(cancellation);
                client?.Stop();
            }
            catch (Exception e) when (!cancellation.IsCancellationRequested)
            {
                ClientFault = e;
                throw;
            }
            Keep(result.Buffer);
            _clientEnded = result.IsCompleted;
            _exchange.BodyBytesReceived += result.Buffer.Length;
            try
            {
                silence.Start(sendTimeout);
                foreach (var segment in result.Buffer)
                {
                    await upstream.WriteAsync(segment, cancellation);
                }
                await upstream.FlushAsync(cancellation);
                silence.Stop();
            }
            catch
            {
                TryAdvance(result.Buffer.End);
                throw;
            }
            if (!TryAdvance(result.Buffer.End))
            {
                throw ClientFault!;
            }
        }
    }

    /// <summary>False when that tells that the client has left.</summary>
    bool TryAdvance(SequencePosition consumed)
    {
        try
        {
            _exchange.AdvanceBody(consumed);
            return true;
        }
        catch (ConnectionResetException e)
        {
            ClientFault = e;
            return false;
        }
    }

    /// <summary>Keeps the beginning, no more than <c>client_body_buffer_size</c>: an upstream that goes away without having looked at a
    /// request gets it again.</summary>
    void Keep(in ReadOnlySequence<byte> piece)
    {
        if (piece.IsEmpty)
        {
            return;
        }
        if (!_keeps || (_kept?.WrittenCount ?? 0) + piece.Length > _exchange.Scope.ClientBodyBufferSize)
        {
            Consumed = true;
            KeepNoMore();
            return;
        }
        _kept ??= new((int)piece.Length);
        foreach (var segment in piece)
        {
            _kept.Write(segment.Span);
        }
    }

    /// <summary>The upstream has answered: nothing of a streamed body is sent again.</summary>
    public void KeepNoMore()
    {
        Consumed |= _kept is not null;
        _keeps = false;
        _kept = null;
    }

    /// <summary>Sends the body. A fault of the client's is kept in <see cref="ClientFault"/> and aborts the upstream; the upstream's is
    /// thrown.</summary>
    public async Task SendAsync(UpstreamConnection upstream, IdleDeadline silence, TimeSpan sendTimeout)
    {
        if (_buffered is not null)
        {
            using var reader = _buffered.OpenReader();
            while (await reader.ReadAsync() is { IsEmpty: false } piece)
            {
                silence.Start(sendTimeout);
                await upstream.Request.WriteBodyAsync(piece);
            }
            if (!_hasMore)
            {
                await upstream.Request.EndBodyAsync();
                silence.Stop();
                return;
            }
            silence.Stop();
        }
        while (true)
        {
            ReadResult result;
            try
            {
                result = await ReadAsync(_exchange, _clientSilence ??= WatchClient(_exchange));
            }
            catch (Exception e)
            {
                ClientFault = e;
                upstream.Abort(UpstreamFailureKind.ClientGone);
                return;
            }
            if (result.IsCanceled)
            {
                return;
            }
            Consumed |= !result.Buffer.IsEmpty;
            _exchange.BodyBytesReceived += result.Buffer.Length;
            try
            {
                if (!result.Buffer.IsEmpty)
                {
                    silence.Start(sendTimeout);
                    await upstream.Request.WriteBodyAsync(result.Buffer);
                    silence.Stop();
                }
            }
            catch
            {
                TryAdvance(result.Buffer.End);
                throw;
            }
            if (!TryAdvance(result.Buffer.End))
            {
                upstream.Abort(UpstreamFailureKind.ClientGone);
                return;
            }
            if (result.IsCompleted)
            {
                await upstream.Request.EndBodyAsync(Trailers());
                return;
            }
        }
    }

    IEnumerable<KeyValuePair<string, string>>? Trailers()
    {
        if (!_exchange.Request.SupportsTrailers() || !_exchange.Request.CheckTrailersAvailable())
        {
            return null;
        }
        var trailers = _exchange.Http.Features.Get<IHttpRequestTrailersFeature>()!.Trailers;
        return trailers.Count == 0 ? null
            : trailers.Where(header => UpstreamHead.MayTrail(header.Key))
            .SelectMany(header => header.Value.Select(value => new KeyValuePair<string, string>(header.Key, value ?? "")));
    }

    static readonly Action<ILogger, string, string, Exception?> s_logNoRoom = LoggerMessage.Define<string, string>(
        LogLevel.Warning, default, "route {Route}: the request's body is streamed instead of buffered: {Detail}");

    static void LogNoRoom(ILogger logger, string route, string detail) => s_logNoRoom(logger, route, detail, null);

    public void Dispose()
    {
        _clientSilence?.Dispose();
        _buffered?.Dispose();
    }
}

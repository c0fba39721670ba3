using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Net;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>
/// A request's body on its way to the upstream. Buffered (<c>proxy_request_buffering on</c>): read whole before the upstream is asked, so that it
/// can be sent again to another node. Otherwise each piece goes on as it comes and can be sent once.
/// </summary>
sealed class RequestBody : IDisposable
{
    readonly Exchange _exchange;
    readonly ReplayableBody? _buffered;
    IdleDeadline? _clientSilence;

    RequestBody(Exchange exchange, RequestBodyFraming framing, ReplayableBody? buffered, IdleDeadline? clientSilence = null)
    {
        _exchange = exchange;
        Framing = framing;
        _buffered = buffered;
        _clientSilence = clientSilence;
    }

    static IdleDeadline WatchClient(Exchange exchange) =>
        new(exchange.Services.Time, static reader => ((PipeReader)reader!).CancelPendingRead(), exchange.Request.BodyReader);

    public RequestBodyFraming Framing { get; }

    public bool IsEmpty => Framing is { IsChunked: false, Bytes: 0 };

    /// <summary>Bytes were taken from the client and are not kept: the request cannot be sent again.</summary>
    public bool Consumed { get; private set; }

    /// <summary>What went wrong on the client's side while the body was streamed (a bad chunk, too large, gone).</summary>
    public Exception? ClientFault { get; private set; }

    public static async ValueTask<RequestBody> OpenAsync(Exchange exchange, string temporaryDirectory)
    {
        var request = exchange.Request;
        if (!exchange.CanHaveBody)
        {
            return new(exchange, request.ContentLength == 0 ? RequestBodyFraming.Length(0) : RequestBodyFraming.None, null);
        }
        if (!BufferingRules.Request(exchange, BufferingRules.IsStream(request.ContentType)).On)
        {
            return new(exchange, request.ContentLength is { } length ? RequestBodyFraming.Length(length) : RequestBodyFraming.Chunked, null);
        }
        var buffered = new ReplayableBody(exchange.Scope.ClientBodyBufferSize, temporaryDirectory);
        var clientSilence = WatchClient(exchange);
        try
        {
            while (true)
            {
                var result = await ReadAsync(exchange, clientSilence);
                foreach (var segment in result.Buffer)
                {
                    await buffered.AppendAsync(segment);
                }
                exchange.BodyBytesReceived += result.Buffer.Length;
                request.BodyReader.AdvanceTo(result.Buffer.End);
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
        var reading = exchange.Request.BodyReader.ReadAsync();
        if (reading.IsCompleted)
        {
            return await reading;
        }
        silence.Start(exchange.Scope.ClientBodyTimeout);
        var result = await reading;
        silence.Stop();
        return result.IsCanceled && silence.Expired
            ? throw new BadHttpRequestException("the client sent nothing of its body for the whole client_body_timeout", StatusCodes.Status408RequestTimeout)
            : result;
    }

    /// <summary>For gRPC: never read beforehand. The client may pause as long as it likes, for it may be the answer that it waits for.</summary>
    public static RequestBody Streaming(Exchange exchange) => new(
        exchange,
        exchange.CanHaveBody ? RequestBodyFraming.Chunked : RequestBodyFraming.None,
        null);

    /// <summary>Sends a streaming body over HTTP/2. A fault of the client's is kept in <see cref="ClientFault"/>; all are thrown.</summary>
    public async Task CopyToAsync(Stream upstream, IdleDeadline silence, TimeSpan sendTimeout, CancellationToken cancellation)
    {
        var client = _exchange.Request.BodyReader;
        while (true)
        {
            ReadResult result;
            try
            {
                result = await client.ReadAsync(cancellation);
            }
            catch (Exception e) when (!cancellation.IsCancellationRequested)
            {
                ClientFault = e;
                throw;
            }
            Consumed |= !result.Buffer.IsEmpty;
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
            finally
            {
                client.AdvanceTo(result.Buffer.End);
            }
            if (result.IsCompleted)
            {
                return;
            }
        }
    }

    /// <summary>Sends the body. A fault of the client's is kept in <see cref="ClientFault"/> and aborts the upstream; the upstream's is thrown.</summary>
    public async Task SendAsync(UpstreamConnection upstream, IdleDeadline silence, TimeSpan sendTimeout)
    {
        if (_buffered is not null)
        {
            using var reader = _buffered.OpenReader();
            while (await reader.ReadAsync() is { IsEmpty: false } piece)
            {
                silence.Start(sendTimeout);
                await upstream.WriteBodyAsync(piece);
            }
            await upstream.EndBodyAsync();
            silence.Stop();
            return;
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
                    await upstream.WriteBodyAsync(result.Buffer);
                    silence.Stop();
                }
            }
            finally
            {
                _exchange.Request.BodyReader.AdvanceTo(result.Buffer.End);
            }
            if (result.IsCompleted)
            {
                await upstream.EndBodyAsync(Trailers());
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
        return trailers.Count == 0 ? null : trailers.Where(header => UpstreamHead.MayTrail(header.Key)).SelectMany(header => header.Value.Select(value => new KeyValuePair<string, string>(header.Key, value ?? "")));
    }

    public void Dispose()
    {
        _clientSilence?.Dispose();
        _buffered?.Dispose();
    }
}

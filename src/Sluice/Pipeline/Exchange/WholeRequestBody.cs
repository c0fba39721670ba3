using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Net;

namespace Sluice.Pipeline;

/// <summary>
/// The request's body for plugins that need it whole: read once, for all of them, and still there for the upstream and its retries. Such a
/// plugin says so with <see cref="INeedsRequestBody"/>, for it makes the upstream wait until the body is complete.
/// </summary>
public sealed class WholeRequestBody
{
    readonly Exchange _exchange;
    ReadOnlyMemory<byte>? _known;

    internal WholeRequestBody(Exchange exchange) => _exchange = exchange;

    /// <summary>The body, if somebody has read or replaced it; null otherwise.</summary>
    public ReadOnlyMemory<byte>? Known => _known;

    /// <summary>Reads the whole body; empty when the request has none.</summary>
    /// <exception cref="BadHttpRequestException">It is larger than the limit (413), or the client is silent for the whole
    /// <c>client_body_timeout</c> (408): the pipeline answers so.</exception>
    public async ValueTask<ReadOnlyMemory<byte>> ReadAsync(int limit)
    {
        if (_known is { } known)
        {
            return known.Length <= limit ? known : throw TooLarge(limit);
        }
        if (!_exchange.CanHaveBody)
        {
            return default;
        }
        if (_exchange.Request.ContentLength > limit)
        {
            throw TooLarge(limit);
        }
        var body = new ArrayBufferWriter<byte>();
        using var silence = new IdleDeadline(
            _exchange.Services.Time, static reader => ((PipeReader)reader!).CancelPendingRead(), _exchange.Request.BodyReader);
        for (var ended = false; !ended;)
        {
            silence.Start(_exchange.Scope.ClientBodyTimeout);
            var read = await _exchange.ReadBodyAsync(_exchange.ClientGone);
            silence.Stop();
            if (read.IsCanceled && silence.Expired)
            {
                throw new BadHttpRequestException("the client sent nothing of its body for the whole client_body_timeout",
                    StatusCodes.Status408RequestTimeout);
            }
            var tooLarge = body.WrittenCount + read.Buffer.Length > limit;
            if (!tooLarge)
            {
                foreach (var piece in read.Buffer)
                {
                    body.Write(piece.Span);
                }
                _exchange.BodyBytesRead += read.Buffer.Length;
            }
            _exchange.Request.BodyReader.AdvanceTo(read.Buffer.End);
            if (tooLarge)
            {
                throw TooLarge(limit);
            }
            ended = read.IsCompleted;
        }
        Put(body.WrittenMemory);
        return body.WrittenMemory;
    }

    /// <summary>Puts another body in the place of the client's, which need not have been read.</summary>
    public void Replace(ReadOnlyMemory<byte> body, string? contentType = null)
    {
        Put(body);
        if (contentType is not null)
        {
            _exchange.Request.ContentType = contentType;
        }
    }

    /// <summary>Somebody else has put another body there.</summary>
    internal void Forget() => _known = null;

    void Put(ReadOnlyMemory<byte> body)
    {
        _known = body;
        _exchange.Http.Features.Set<IHttpRequestBodyDetectionFeature>(new Detection(!body.IsEmpty));
        _exchange.Http.Features.Set<IRequestBodyPipeFeature>(new Pipe(PipeReader.Create(new ReadOnlySequence<byte>(body))));
        _exchange.Request.Headers.TransferEncoding = default;
        _exchange.Request.ContentLength = body.Length;
    }

    static BadHttpRequestException TooLarge(int limit) =>
        new($"the request's body is larger than {limit} bytes", StatusCodes.Status413PayloadTooLarge);

    sealed record Detection(bool CanHaveBody) : IHttpRequestBodyDetectionFeature;

    sealed record Pipe(PipeReader Reader) : IRequestBodyPipeFeature;
}

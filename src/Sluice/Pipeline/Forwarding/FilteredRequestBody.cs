using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http.Features;

namespace Sluice.Pipeline;

/// <summary>The request's body as filters leave it (<see cref="IRequestBodyFilter"/>): each piece is filtered when it is read, and none is
/// held back.</summary>
sealed class FilteredRequestBody : PipeReader
{
    readonly Exchange _exchange;
    readonly PipeReader _inner;
    readonly BodyFilters _filters;
    readonly ArrayBufferWriter<byte> _passed = new();
    ReadOnlySequence<byte> _left;
    bool _isOver;

    FilteredRequestBody(Exchange exchange, BodyFilters filters) =>
        (_exchange, _inner, _filters) = (exchange, exchange.Request.BodyReader, filters);

    /// <summary>Puts the filters of the request's chain between the client and whoever reads from here on.</summary>
    public static void Open(Exchange exchange)
    {
        if (exchange.CanHaveBody && BodyFilters.OfRequest(exchange) is { } filters)
        {
            // said before the length is taken away, by which the client's connection tells
            exchange.Http.Features.Set<IHttpRequestBodyDetectionFeature>(new HasBody());
            exchange.Http.Features.Set<IRequestBodyPipeFeature>(new Feature(new FilteredRequestBody(exchange, filters)));
            // how long it will be only the filters know
            exchange.Request.ContentLength = null;
            exchange.Request.Headers.TransferEncoding = "chunked";
        }
    }

    sealed record HasBody : IHttpRequestBodyDetectionFeature
    {
        public bool CanHaveBody => true;
    }

    sealed record Feature(PipeReader Reader) : IRequestBodyPipeFeature;

    public override async ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        while (_left.IsEmpty && !_isOver)
        {
            var read = await _inner.ReadAsync(cancellationToken);
            if (read.IsCanceled)
            {
                return new(_left, isCanceled: true, _isOver);
            }
            Take(read);
        }
        return new(_left, isCanceled: false, _isOver);
    }

    public override bool TryRead(out ReadResult result)
    {
        while (_left.IsEmpty && !_isOver)
        {
            if (!_inner.TryRead(out var read))
            {
                result = default;
                return false;
            }
            if (read.IsCanceled)
            {
                result = new(_left, isCanceled: true, _isOver);
                return true;
            }
            Take(read);
        }
        result = new(_left, isCanceled: false, _isOver);
        return true;
    }

    void Take(in ReadResult read)
    {
        _passed.ResetWrittenCount();
        var length = read.Buffer.Length;
        try
        {
            foreach (var piece in read.Buffer)
            {
                if (!piece.IsEmpty)
                {
                    _filters.Filter(piece, false, _passed);
                }
            }
            if (read.IsCompleted)
            {
                _filters.Filter(default, true, _passed);
                _isOver = true;
            }
        }
        finally
        {
            _inner.AdvanceTo(read.Buffer.End);
        }
        // whoever reads counts what it gets; what the client has sent is what came
        _exchange.BodyBytesReceived += length - _passed.WrittenCount;
        _left = new(_passed.WrittenMemory);
    }

    public override void AdvanceTo(SequencePosition consumed) => _left = _left.Slice(consumed);

    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined) => AdvanceTo(consumed);

    public override void CancelPendingRead() => _inner.CancelPendingRead();

    public override void Complete(Exception? exception = null) => _inner.Complete(exception);
}

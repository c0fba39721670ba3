using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Functions;

/// <summary>What a function answers, as it comes.</summary>
sealed class FunctionResponse : IResponseSource, IBodySource
{
    readonly OutgoingResponse _response;
    readonly CancellationTokenSource _cancel = new();
    UpstreamFailureKind? _gaveUp;

    public FunctionResponse(OutgoingResponse response, TimeSpan silence, TimeProvider time)
    {
        (_response, ReadTimeout) = (response, silence);
        Silence = new(time, static source => ((FunctionResponse)source!).Abort(UpstreamFailureKind.ReadTimeout), this);
    }

    public bool IsStream => MediaType.IsStream(_response.Header("Content-Type"));

    public long? Length => long.TryParse(_response.Header("Content-Length"), out var length) ? length : null;

    public IdleDeadline Silence { get; }

    public TimeSpan ReadTimeout { get; }

    public void WriteHead(Exchange exchange)
    {
        exchange.Response.StatusCode = _response.Status;
        foreach (var (name, value) in _response.Headers)
        {
            if (HopByHop.Contains(name) || HopByHop.IsFraming(name) || HeaderName.Is(name, "Server") || !HeaderName.IsToken(name))
            {
                continue;
            }
            if (HeaderName.Is(name, "Content-Type"))
            {
                exchange.Response.ContentType = value;
            }
            else
            {
                exchange.Response.Headers.Append(name, value);
            }
        }
    }

    public IBodySource TakeBody() => this;

    public BodyFraming Framing => Length is { } length ? new(BodyKind.Length, length) : new(BodyKind.CloseDelimited);

    public bool Ended { get; private set; }

    public async ValueTask WaitReadableAsync()
    {
        try
        {
            _ = await _response.Stream.ReadAsync(Memory<byte>.Empty, _cancel.Token);
        }
        catch (Exception e)
        {
            throw Failed(e);
        }
    }

    public async ValueTask<int> ReadAsync(Memory<byte> destination)
    {
        try
        {
            var read = await _response.Stream.ReadAsync(destination, _cancel.Token);
            Ended = read == 0;
            return read;
        }
        catch (Exception e)
        {
            throw Failed(e);
        }
    }

    UpstreamException Failed(Exception error) => new(_gaveUp ?? UpstreamFailureKind.EarlyClose, null, error);

    public void Abandon() => Abort(UpstreamFailureKind.Shutdown);

    public void Abort(UpstreamFailureKind reason)
    {
        _gaveUp ??= reason;
        try
        {
            _cancel.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // it is over already
        }
    }

    public void Close()
    {
        Silence.Dispose();
        _response.Dispose();
        _cancel.Dispose();
    }

    public ValueTask DisposeAsync()
    {
        Close();
        return default;
    }
}

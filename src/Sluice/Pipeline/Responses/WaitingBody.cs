using System.Buffers;
using Sluice.Net;
using Sluice.Relay;

namespace Sluice.Pipeline;

/// <summary>
/// A body that has passed the filters which may take their time. While one does, nothing more is read of where the body comes from, and its
/// silence is not held against it.
/// </summary>
sealed class WaitingBody(IBodySource inner, WaitingFilters filters, Exchange exchange) : IBodySource
{
    const int PieceSize = 16 * 1024;

    readonly ArrayBufferWriter<byte> _passed = new();
    int _taken;
    bool _isOver;
    IdleDeadline? _silence;
    StreamClock? _clock;
    TimeSpan _readTimeout;

    /// <summary>What measures the source's silence.</summary>
    public void Measure(IdleDeadline silence, in RelaySettings settings) =>
        (_silence, _clock, _readTimeout) = (silence, settings.Clock, settings.ReadTimeout);

    /// <summary>How long it will be only the filters know.</summary>
    public BodyFraming Framing => new(BodyKind.CloseDelimited);

    public bool Ended => _isOver && _taken == _passed.WrittenCount;

    public async ValueTask WaitReadableAsync()
    {
        while (_taken == _passed.WrittenCount && !_isOver)
        {
            await inner.WaitReadableAsync();
            await PassAsync();
        }
    }

    public async ValueTask<int> ReadAsync(Memory<byte> destination)
    {
        await WaitReadableAsync();
        var piece = _passed.WrittenMemory[_taken..];
        piece = piece.Length > destination.Length ? piece[..destination.Length] : piece;
        piece.CopyTo(destination);
        _taken += piece.Length;
        return piece.Length;
    }

    public void Abort(UpstreamFailureKind reason) => inner.Abort(reason);

    async ValueTask PassAsync()
    {
        _passed.ResetWrittenCount();
        _taken = 0;
        var buffer = ArrayPool<byte>.Shared.Rent(PieceSize);
        try
        {
            var read = await inner.ReadAsync(buffer.AsMemory(0, PieceSize));
            await FilterAsync(buffer.AsMemory(0, read), last: read == 0);
            if (read > 0 && filters.Ended)
            {
                // what still comes is nobody's
                inner.Abort(UpstreamFailureKind.Shutdown);
                await FilterAsync(default, last: true);
            }
            // the relay counts what it gets; what the source has sent is what came
            exchange.Upstream.BytesReceived += read - _passed.WrittenCount;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    async ValueTask FilterAsync(ReadOnlyMemory<byte> piece, bool last)
    {
        var filtering = filters.FilterAsync(piece, last, _passed, exchange.ClientGone);
        if (!filtering.IsCompleted)
        {
            Pause();
            await filtering;
            Resume();
        }
        else
        {
            await filtering;
        }
        _isOver = last;
    }

    void Pause()
    {
        if (_clock is { } clock)
        {
            clock.Pause();
        }
        else
        {
            _silence?.Stop();
        }
    }

    void Resume()
    {
        if (_clock is { } clock)
        {
            clock.Resume();
        }
        else
        {
            _silence?.Start(_readTimeout);
        }
    }
}

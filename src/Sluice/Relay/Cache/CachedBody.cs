using Microsoft.Win32.SafeHandles;
using Sluice.Net;

namespace Sluice.Relay.Cache;

/// <summary>A stored body on its way to a client. It is read to its end whatever becomes of the entry meanwhile.</summary>
sealed class CachedBody(byte[][]? blocks, SafeFileHandle? file, long start, long length) : IBodySource, IDisposable
{
    long _at;

    public long Length => length;

    public BodyFraming Framing => new(BodyKind.Length, length);

    public bool Ended => _at == length;

    public ValueTask WaitReadableAsync() => default;

    public async ValueTask<int> ReadAsync(Memory<byte> destination)
    {
        var wanted = (int)Math.Min(destination.Length, length - _at);
        if (wanted == 0)
        {
            return 0;
        }
        var read = blocks is null ? await RandomAccess.ReadAsync(file!, destination[..wanted], start + _at)
            : Copy(blocks, destination.Span[..wanted]);
        if (read == 0)
        {
            throw new UpstreamException(UpstreamFailureKind.EarlyClose, "the file of the stored response ends too early");
        }
        _at += read;
        return read;
    }

    int Copy(byte[][] blocks, Span<byte> destination)
    {
        var piece = blocks[_at / CacheFill.Block].AsSpan((int)(_at % CacheFill.Block));
        piece = piece[..Math.Min(piece.Length, destination.Length)];
        piece.CopyTo(destination);
        return piece.Length;
    }

    public void Abort(UpstreamFailureKind reason)
    {
    }

    public void Dispose() => file?.Dispose();
}

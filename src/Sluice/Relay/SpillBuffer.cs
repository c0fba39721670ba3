using System.Buffers;

namespace Sluice.Relay;

/// <summary>
/// What bodies are kept in: blocks of memory from the shared pool, and a temporary file behind them that is made when somebody writes into
/// it. What is kept how long is its user's affair: <see cref="BodySpool"/> gives back what was read, <see cref="ReplayableBody"/> keeps
/// all.
/// </summary>
/// <param name="directory">Where the file is.</param>
/// <param name="named">Others may read the file by its name.</param>
sealed class SpillBuffer(int blockSize, string directory, bool named = false) : IDisposable
{
    readonly Lock _lock = new();
    TempFile? _file;
    bool _disposed;

    public int BlockSize => blockSize;

    /// <summary>Bytes of memory held now.</summary>
    public long Memory { get; private set; }

    /// <summary>The most memory that was held at a time.</summary>
    public long PeakMemory { get; private set; }

    /// <summary>A block, or several in one.</summary>
    public byte[] Rent(int blocks = 1)
    {
        Memory += blockSize * blocks;
        PeakMemory = Math.Max(PeakMemory, Memory);
        return ArrayPool<byte>.Shared.Rent(blockSize * blocks);
    }

    public void Return(byte[] block, int blocks = 1)
    {
        Memory -= blockSize * blocks;
        ArrayPool<byte>.Shared.Return(block);
    }

    /// <exception cref="SpoolException">There is no room for a file.</exception>
    public ValueTask WriteAsync(ReadOnlyMemory<byte> data, long offset) => (_file ?? Open()).WriteAsync(data, offset);

    /// <summary>At least one byte of what was written.</summary>
    public ValueTask<int> ReadAsync(Memory<byte> destination, long offset, CancellationToken cancel) =>
        _file!.ReadAsync(destination, offset, cancel);

    /// <summary>The file from its start, when something was written into it.</summary>
    public FileStream? File => _file?.Stream;

    /// <summary>Gives the disk space back.</summary>
    public void EmptyFile() => _file?.Empty();

    TempFile Open()
    {
        var file = TempFile.Create(directory, named);
        lock (_lock)
        {
            if (!_disposed)
            {
                return _file = file;
            }
        }
        file.Dispose();
        throw new SpoolException("nobody reads the body any more", new ObjectDisposedException(nameof(SpillBuffer)));
    }

    /// <summary>Closes the file; a write on its way keeps the handle open until it is over. Blocks are their users'.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            _file?.Dispose();
        }
    }
}

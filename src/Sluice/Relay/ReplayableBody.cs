using System.Buffers;

namespace Sluice.Relay;

/// <summary>
/// A whole request body, the first <c>client_body_buffer_size</c> bytes in memory and the rest in a temporary file, read from its start
/// as often as it takes (a retry on another node reads it again). For scripts, which read a file by its name, all of it is there when
/// memory is not enough.
/// <code>append …, Seal(), then any number of OpenReader(), at last Dispose()</code>
/// </summary>
/// <param name="named">The file has a name, and all of the body in it.</param>
internal sealed class ReplayableBody(int memoryBytes, string directory, int blockSize = ReplayableBody.DefaultBlockSize, bool named = false)
    : IDisposable
{
    public const int DefaultBlockSize = 16 * 1024;

    readonly SpillBuffer _kept = new(blockSize, directory, named);
    readonly List<byte[]> _blocks = [];
    readonly int _memoryBytes = Math.Max(memoryBytes, 0);
    byte[]? _hand;              // being filled; the rest of the last block, or one that is on its way to the file
    int _handUsed;
    long _fileLength;
    int _memoryLength;
    bool _disposed;

    /// <summary>How many bytes were appended; the body's length once it is sealed.</summary>
    public long Length => _memoryLength + _fileLength;

    public long FileBytes => _fileLength;

    /// <summary>The file from its start; null when all is in memory.</summary>
    public FileStream? File => _kept.File;

    public bool IsSealed { get; private set; }

    /// <summary>Where the next bytes go.</summary>
    public Memory<byte> GetMemory()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (IsSealed)
        {
            throw new InvalidOperationException("the body is sealed");
        }
        if (_hand is null)
        {
            _hand = _kept.Rent();
            _handUsed = 0;
            if (_memoryLength < _memoryBytes && _fileLength == 0)
            {
                _blocks.Add(_hand);
            }
        }
        return _hand.AsMemory(_handUsed, Room);
    }

    /// <summary>So many bytes were put into <see cref="GetMemory"/>.</summary>
    public ValueTask AdvanceAsync(int count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)count, (uint)Room, nameof(count));
        if (count == 0 || _hand is null)
        {
            return ValueTask.CompletedTask;
        }
        if (!InMemory)
        {
            return WriteFileAsync(_hand, count);
        }
        _handUsed += count;
        _memoryLength += count;
        if (Room == 0)
        {
            _hand = null;
        }
        return ValueTask.CompletedTask;
    }

    public async ValueTask AppendAsync(ReadOnlyMemory<byte> data)
    {
        while (!data.IsEmpty)
        {
            var memory = GetMemory();
            var count = Math.Min(memory.Length, data.Length);
            data[..count].CopyTo(memory);
            data = data[count..];
            await AdvanceAsync(count);
        }
    }

    /// <summary>The body is whole.</summary>
    public void Seal()
    {
        IsSealed = true;
        if (_hand is not null && !InMemory)
        {
            _kept.Return(_hand);
        }
        _hand = null;
    }

    /// <summary>All that is in memory, in one.</summary>
    public byte[] ToArray()
    {
        var all = new byte[_memoryLength];
        for (var i = 0; i < _blocks.Count; i++)
        {
            _blocks[i].AsSpan(0, Math.Min(blockSize, _memoryLength - (i * blockSize))).CopyTo(all.AsSpan(i * blockSize));
        }
        return all;
    }

    /// <summary>The body from its start. Readers are independent of each other; each is for one consumer.</summary>
    public Reader OpenReader() =>
        IsSealed ? new Reader(this) : throw new InvalidOperationException("the body is not sealed yet");

    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }
        Seal();
        _disposed = true;
        ReturnBlocks();
        _kept.Dispose();
    }

    void ReturnBlocks()
    {
        foreach (var block in _blocks)
        {
            _kept.Return(block);
        }
        _blocks.Clear();
    }

    bool InMemory => _blocks.Count > 0 && _hand == _blocks[^1];

    // a block of memory is filled to the limit of memory, not beyond
    int Room => InMemory ? Math.Min(blockSize - _handUsed, _memoryBytes - _memoryLength) : blockSize;

    async ValueTask WriteFileAsync(byte[] block, int count)
    {
        if (named && _memoryLength > 0)
        {
            await _kept.WriteAsync(ToArray(), 0);
            (_fileLength, _memoryLength) = (_memoryLength, 0);
            ReturnBlocks();
        }
        await _kept.WriteAsync(block.AsMemory(0, count), _fileLength);
        _fileLength += count;
    }

    public sealed class Reader : IDisposable
    {
        readonly ReplayableBody _body;
        byte[]? _buffer;
        long _at;

        internal Reader(ReplayableBody body) => _body = body;

        /// <summary>The next bytes, valid until the next call; none at the end.</summary>
        public ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancel = default)
        {
            ObjectDisposedException.ThrowIf(_body._disposed, _body);
            if (_at >= _body._memoryLength)
            {
                return ReadFileAsync(cancel);
            }
            var size = _body.BlockSize;
            var (index, start) = ((int)(_at / size), (int)(_at % size));
            var data = _body._blocks[index].AsMemory(start, (int)Math.Min(size - start, _body._memoryLength - _at));
            _at += data.Length;
            return ValueTask.FromResult<ReadOnlyMemory<byte>>(data);
        }

        public void Dispose()
        {
            if (_buffer is not null)
            {
                ArrayPool<byte>.Shared.Return(_buffer);
                _buffer = null;
            }
        }

        async ValueTask<ReadOnlyMemory<byte>> ReadFileAsync(CancellationToken cancel)
        {
            var left = _body.Length - _at;
            if (left == 0)
            {
                Dispose();
                return default;
            }
            _buffer ??= ArrayPool<byte>.Shared.Rent(_body.BlockSize);
            var count = await _body._kept.ReadAsync(
                _buffer.AsMemory(0, (int)Math.Min(_body.BlockSize, left)), _at - _body._memoryLength, cancel);
            _at += count;
            return _buffer.AsMemory(0, count);
        }
    }

    int BlockSize => blockSize;
}

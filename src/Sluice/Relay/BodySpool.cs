using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Threading.Tasks.Sources;

namespace Sluice.Relay;

/// <summary>
/// How much a buffered body may hold: <paramref name="Blocks"/> × <paramref name="BlockSize"/> bytes of memory (<c>proxy_buffers</c>), then
/// a file of up to <paramref name="MaxFileSize"/> bytes (<c>proxy_max_temp_file_size</c>, 0 = none) in <paramref name="Directory"/>.
/// Without room for the file it is as if there were none.
/// </summary>
internal sealed record SpoolLimits(int Blocks, int BlockSize, long MaxFileSize, string Directory);

/// <summary>What the producer is told when the reader has left.</summary>
internal sealed class SpoolAbandonedException() : OperationCanceledException("the reader of the buffered body is gone");

/// <summary>
/// Buffering "on": bytes on their way from one producer to one consumer, in order. The producer is held back only when memory and file are
/// full; the consumer gets every byte as soon as it is there.
/// <code>
/// producer: var n = await socket.ReadAsync(spool.GetMemory()); await spool.AdvanceAsync(n); … spool.Complete(error)
/// consumer: while ((data = await spool.ReadAsync()).Length > 0) { … }  finally: await spool.DisposeAsync()
/// </code>
/// </summary>
/// <remarks>
/// The order of the bytes: blocks first, then the file. While the file has unread bytes every new byte goes to the file; when it is drained
/// it is emptied and memory is used again. Beside the limit there are at most the block that the producer fills and a buffer to read the
/// file with. Blocks come from the shared array pool and go back when they are consumed: an empty spool holds none.
/// </remarks>
internal sealed class BodySpool : IAsyncDisposable
{
    const int FileReadBlocks = 4;

    readonly SpoolLimits _limits;
    readonly SpillBuffer _kept;
    readonly int _leastRoom;
    readonly Lock _lock = new();
    readonly Waiter _reader;
    readonly Waiter _writer;

    Block? _first, _last;       // what memory holds, oldest first
    int _stored;                // blocks in that chain
    Block? _hand;               // what GetMemory gave out: the last one of the chain, or one that is not in it yet
    byte[]? _fileBuffer;        // what the consumer reads the file with
    long _fileRead, _fileWritten;
    bool _writing, _reading;    // the file is in use
    bool _completed, _abandoned;
    Exception? _error;          // the producer's, told after all bytes
    SpoolException? _failure;   // the spool's own, told at once
    readonly Action<SpoolException>? _noFile;
    bool _fileFailed;

    /// <param name="noFile">Told once when the file cannot be made or written (a full disk, mostly): from then on memory is all there
    /// is.</param>
    public BodySpool(SpoolLimits limits, Action<SpoolException>? noFile = null)
    {
        _noFile = noFile;
        ArgumentOutOfRangeException.ThrowIfLessThan(limits.Blocks, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(limits.BlockSize, 1);
        _limits = limits;
        _kept = new(limits.BlockSize, limits.Directory);
        _reader = new Waiter(_lock);
        _writer = new Waiter(_lock);
        _leastRoom = Math.Max(1, limits.BlockSize / 4);
    }

    /// <summary>The most memory that was held at a time.</summary>
    public long PeakMemory => _kept.PeakMemory;

    /// <summary>How many bytes went through the file.</summary>
    public long FileBytes { get; private set; }

    /// <summary>Bytes of memory held now.</summary>
    public long Memory
    {
        get { lock (_lock) { return _kept.Memory; } }
    }

    /// <summary>Bytes that wait to be read: blocks of memory, and what the file has.</summary>
    public long Held
    {
        get { lock (_lock) { return _kept.Memory + _fileWritten - _fileRead; } }
    }

    bool FileIsEmpty => _fileRead == _fileWritten;

    /// <summary>Where the producer's next bytes go, at most a block; the same until <see cref="AdvanceAsync"/>.</summary>
    public Memory<byte> GetMemory()
    {
        lock (_lock)
        {
            ThrowToWriter();
            if (_hand is null)
            {
                var appendable = _last is not null && FileIsEmpty && !_writing && Room(_last) >= _leastRoom;
                _hand = appendable ? _last! : Rent();
            }
            return _hand.Array.AsMemory(_hand.End, Room(_hand));
        }
    }

    /// <summary>So many bytes were put into <see cref="GetMemory"/>. Completes when the producer may go on.</summary>
    public ValueTask AdvanceAsync(int count, CancellationToken cancel = default)
    {
        bool stored;
        Block block;
        lock (_lock)
        {
            block = _hand ?? throw new InvalidOperationException("GetMemory comes first");
            ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)count, (uint)Room(block), nameof(count));
            _hand = null;
            stored = block == _last;
            if (_abandoned || _failure is not null || (count == 0 && !stored))
            {
                if (!stored)
                {
                    Return(block);
                }
                ThrowToWriter();
                return ValueTask.CompletedTask;
            }
            block.End += count;
            stored = stored || TryStore(block);
            if (stored)
            {
                _reader.Wake();
                if (!MustWait)
                {
                    return ValueTask.CompletedTask;
                }
            }
        }
        return stored ? WaitForRoomAsync(cancel) : SpillAsync(block, cancel);
    }

    /// <summary>For a producer that has its bytes elsewhere.</summary>
    public async ValueTask WriteAsync(ReadOnlyMemory<byte> data, CancellationToken cancel = default)
    {
        while (!data.IsEmpty)
        {
            var memory = GetMemory();
            var count = Math.Min(memory.Length, data.Length);
            data[..count].CopyTo(memory);
            data = data[count..];
            await AdvanceAsync(count, cancel);
        }
    }

    /// <summary>No more bytes come. The error, if there is one, is thrown to the consumer after the last byte.</summary>
    public void Complete(Exception? error = null)
    {
        lock (_lock)
        {
            if (_completed)
            {
                return;
            }
            _completed = true;
            _error = error;
            if (_hand is not null && (_hand != _last || _abandoned))
            {
                Return(_hand);
            }
            _hand = null;
            _reader.Wake();
        }
    }

    /// <summary>The next bytes, valid until the next call, which gives them back; none at the end.</summary>
    public ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancel = default)
    {
        lock (_lock)
        {
            if (TryRead(out var data))
            {
                return ValueTask.FromResult(data);
            }
        }
        return ReadSlowAsync(cancel);
    }

    /// <summary>
    /// The consumer's way out, early or not: gives everything back and wakes a waiting producer with <see cref="SpoolAbandonedException"/>.
    /// Only when nobody uses the bytes of the last read any more (no write to the client is on its way): their block goes to others.
    /// </summary>
    public ValueTask DisposeAsync()
    {
        lock (_lock)
        {
            if (_abandoned)
            {
                return ValueTask.CompletedTask;
            }
            _abandoned = true;
            while (_first is { } block)
            {
                _first = block.Next;
                if (block != _hand)     // a socket may be writing into that one: the producer's next call gives it back
                {
                    Return(block);
                }
            }
            _last = null;
            _stored = 0;
            if (!_reading)
            {
                GiveFileBufferBack();
            }
            _kept.Dispose();
            _reader.Wake();
            _writer.Wake();
        }
        return ValueTask.CompletedTask;
    }

    // ---- producer ----

    /// <summary>None once it could not be written: the producer is held back instead.</summary>
    long MaxFileSize => _fileFailed ? 0 : _limits.MaxFileSize;

    bool MustWait => MaxFileSize == 0 && _stored >= _limits.Blocks && Room(_last!) < _leastRoom;

    bool TryStore(Block block)
    {
        if (!FileIsEmpty || _stored >= _limits.Blocks)
        {
            return false;
        }
        if (_last is null)
        {
            _first = block;
        }
        else
        {
            _last.Next = block;
        }
        _last = block;
        _stored++;
        return true;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask WaitForRoomAsync(CancellationToken cancel)
    {
        while (true)
        {
            ValueTask woken;
            lock (_lock)
            {
                ThrowToWriter();
                if (!MustWait)
                {
                    return;
                }
                woken = _writer.Arm();
            }
            await WaitAsync(_writer, woken, cancel);
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask SpillAsync(Block block, CancellationToken cancel)
    {
        var kept = false;
        try
        {
            while (true)
            {
                ValueTask woken = default;
                lock (_lock)
                {
                    ThrowToWriter();
                    kept = TryStore(block);
                    if (kept)
                    {
                        _reader.Wake();
                        break;
                    }
                    _writing = _fileWritten + block.End <= MaxFileSize;
                    woken = _writing ? default : _writer.Arm();
                }
                if (!_writing)
                {
                    await WaitAsync(_writer, woken, cancel);
                }
                else if (await WriteFileAsync(block))
                {
                    return;
                }
            }
        }
        finally
        {
            if (!kept)
            {
                lock (_lock) { Return(block); }
            }
        }
        await WaitForRoomAsync(cancel);
    }

    /// <summary>False when there is no file to write into (any more).</summary>
    async ValueTask<bool> WriteFileAsync(Block block)
    {
        try
        {
            await _kept.WriteAsync(block.Array.AsMemory(0, block.End), _fileWritten);
        }
        catch (SpoolException e)
        {
            lock (_lock)
            {
                _writing = false;
                ThrowToWriter();        // that the reader is gone says more
                _fileFailed = true;
            }
            _noFile?.Invoke(e);
            return false;
        }
        lock (_lock)
        {
            _writing = false;
            _fileWritten += block.End;
            FileBytes += block.End;
            _reader.Wake();
            return true;
        }
    }

    void ThrowToWriter()
    {
        if (_abandoned)
        {
            throw new SpoolAbandonedException();
        }
        if (_failure is not null)
        {
            ExceptionDispatchInfo.Throw(_failure);
        }
        if (_completed)
        {
            throw new InvalidOperationException("the spool was completed");
        }
    }

    // ---- consumer ----

    /// <summary>What can be told without waiting: bytes of memory, the end, or a failure.</summary>
    bool TryRead(out ReadOnlyMemory<byte> data)
    {
        ObjectDisposedException.ThrowIf(_abandoned, this);
        if (_failure is not null)
        {
            ExceptionDispatchInfo.Throw(_failure);
        }
        while (_first is { } block)
        {
            if (block.Start < block.End)
            {
                data = block.Array.AsMemory(block.Start, block.End - block.Start);
                block.Start = block.End;
                return true;
            }
            if (block == _hand)
            {
                break;
            }
            _first = block.Next;
            _last = _first is null ? null : _last;
            _stored--;
            Return(block);
            _writer.Wake();
        }
        data = default;
        if (!FileIsEmpty)
        {
            return false;
        }
        GiveFileBufferBack();
        if (_completed && _error is not null)
        {
            ExceptionDispatchInfo.Throw(_error);
        }
        return _completed;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<ReadOnlyMemory<byte>> ReadSlowAsync(CancellationToken cancel)
    {
        while (true)
        {
            ValueTask woken = default;
            bool fromFile;
            lock (_lock)
            {
                if (TryRead(out var data))
                {
                    return data;
                }
                fromFile = !FileIsEmpty;
                if (!fromFile)
                {
                    woken = _reader.Arm();
                }
            }
            if (fromFile)
            {
                return await ReadFileAsync(cancel);
            }
            await WaitAsync(_reader, woken, cancel);
        }
    }

    async ValueTask<ReadOnlyMemory<byte>> ReadFileAsync(CancellationToken cancel)
    {
        Memory<byte> buffer;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_abandoned, this);
            _fileBuffer ??= _kept.Rent(FileReadBlocks);
            _reading = true;
            buffer = _fileBuffer.AsMemory(0, (int)Math.Min(_limits.BlockSize * FileReadBlocks, _fileWritten - _fileRead));
        }
        try
        {
            var count = await _kept.ReadAsync(buffer, _fileRead, cancel);
            lock (_lock)
            {
                ObjectDisposedException.ThrowIf(_abandoned, this);
                _fileRead += count;
                if (FileIsEmpty && !_writing)
                {
                    _fileRead = _fileWritten = 0;
                    _kept.EmptyFile();
                    _writer.Wake();
                }
            }
            return buffer[..count];
        }
        catch (SpoolException e)
        {
            lock (_lock) { Fail(e); }
            throw;
        }
        finally
        {
            lock (_lock)
            {
                _reading = false;
                if (_abandoned)
                {
                    GiveFileBufferBack();
                }
            }
        }
    }

    // ---- both, under the lock ----

    void Fail(SpoolException failure)
    {
        _failure ??= failure;
        _reader.Wake();
        _writer.Wake();
    }

    int Room(Block block) => _limits.BlockSize - block.End;

    Block Rent() => new(_kept.Rent());

    void Return(Block block) => _kept.Return(block.Array);

    void GiveFileBufferBack()
    {
        if (_fileBuffer is not null)
        {
            _kept.Return(_fileBuffer, FileReadBlocks);
            _fileBuffer = null;
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    static async ValueTask WaitAsync(Waiter waiter, ValueTask woken, CancellationToken cancel)
    {
        if (!cancel.CanBeCanceled)
        {
            await woken;
            return;
        }
        using var registration = cancel.UnsafeRegister(static (waiter, token) => ((Waiter)waiter!).Cancel(token), waiter);
        await woken;
    }

    sealed class Block(byte[] array)
    {
        public readonly byte[] Array = array;
        public int Start;           // consumed up to here
        public int End;             // filled up to here
        public Block? Next;
    }

    /// <summary>One side waiting for the other; used again and again. Armed, woken and cancelled under the spool's lock, so no waking is
    /// lost.</summary>
    sealed class Waiter(Lock gate) : IValueTaskSource
    {
        ManualResetValueTaskSourceCore<bool> _core = new() { RunContinuationsAsynchronously = true };
        bool _armed;

        public ValueTask Arm()
        {
            _core.Reset();
            _armed = true;
            return new ValueTask(this, _core.Version);
        }

        public void Wake()
        {
            if (_armed)
            {
                _armed = false;
                _core.SetResult(true);
            }
        }

        public void Cancel(CancellationToken token)
        {
            lock (gate)
            {
                if (_armed)
                {
                    _armed = false;
                    _core.SetException(new OperationCanceledException(token));
                }
            }
        }

        void IValueTaskSource.GetResult(short token) => _core.GetResult(token);

        ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _core.GetStatus(token);

        void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token,
            ValueTaskSourceOnCompletedFlags flags) =>
            _core.OnCompleted(continuation, state, token, flags);
    }
}

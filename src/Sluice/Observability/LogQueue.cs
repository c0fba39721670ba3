using System.Buffers;
using System.Threading.Channels;

namespace Sluice.Observability;

/// <summary>
/// Lines on their way to a file. Whoever logs copies its line into a buffer and goes on; one task writes what has gathered, at once when
/// idle and in large pieces under load. When <see cref="Capacity"/> bytes wait, further lines are dropped and counted: a slow or full disk
/// never holds a request up. A failing write loses its lines, is told once, and the next write is tried all the same.
/// </summary>
sealed class LogQueue : IAsyncDisposable
{
    public const int DefaultCapacity = 4 * 1024 * 1024;
    const int Piece = 64 * 1024;
    static readonly TimeSpan ReportEvery = TimeSpan.FromSeconds(10);

    readonly string _name;
    readonly LogFile _file;
    readonly TimeProvider _time;
    readonly Action<string> _report;
    readonly TimeSpan _gather;
    readonly Lock _lock = new();
    readonly Channel<bool> _signal =
        Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true });
    readonly Task _writing;

    byte[] _filling = [];
    int _length;
    int _lines;
    bool _reopen;
    bool _closed;
    bool _failing;
    long _dropped;
    long _reported;
    long _reportedAt;

    /// <param name="name">What the lines are, for reports: <c>access log</c>.</param>
    /// <param name="report">Told of lost lines and of failing and recovered writes; must not write to this queue's file.</param>
    /// <param name="gather">How long the writer waits for more lines after the first: waking it for each line costs more than the
    /// line.</param>
    public LogQueue(string name, string path, TimeProvider time, Action<string> report, int capacity = DefaultCapacity,
        TimeSpan gather = default)
    {
        _gather = gather;
        _name = name;
        _time = time;
        _report = report;
        Capacity = capacity;
        _file = new LogFile(path);
        _reportedAt = time.GetTimestamp() - (long)(ReportEvery.TotalSeconds * time.TimestampFrequency);
        _writing = Task.Run(RunAsync);
    }

    public int Capacity { get; }

    /// <summary>Lines that were never written, because the queue was full or a write failed.</summary>
    public long Dropped => Volatile.Read(ref _dropped);

    /// <summary>False when the line was dropped.</summary>
    public bool TryWrite(ReadOnlySpan<byte> line)
    {
        bool first;
        lock (_lock)
        {
            if (_closed || _length + line.Length > Capacity)
            {
                Interlocked.Increment(ref _dropped);
                return false;
            }
            Reserve(line.Length);
            line.CopyTo(_filling.AsSpan(_length));
            first = _length == 0;
            _length += line.Length;
            _lines++;
        }
        if (first)
        {
            _signal.Writer.TryWrite(true);
        }
        return true;
    }

    /// <summary>Opens the file by its name again, after what waits now was written to the old one.</summary>
    public void Reopen()
    {
        Volatile.Write(ref _reopen, true);
        _signal.Writer.TryWrite(true);
    }

    /// <summary>Writes what waits, but does not wait for a stuck disk longer than the bound.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_lock) { _closed = true; }
        _signal.Writer.TryComplete();
        try
        {
            await _writing.WaitAsync(TimeSpan.FromSeconds(2), _time);
            _file.Dispose();
        }
        catch (TimeoutException)
        {
            _report($"{_name}: could not write the last lines within 2 seconds");
        }
    }

    async Task RunAsync()
    {
        bool open;
        do
        {
            open = await _signal.Reader.WaitToReadAsync();
            if (_gather > TimeSpan.Zero && !_signal.Reader.Completion.IsCompleted)
            {
                await Task.WhenAny(Task.Delay(_gather, _time), _signal.Reader.Completion);
            }
            _signal.Reader.TryRead(out _);
            while (Swap(out var batch, out var length, out var lines))
            {
                await WriteAsync(batch, length, lines);
                ReportDropped(atOnce: false);
            }
            if (Volatile.Read(ref _reopen))
            {
                Volatile.Write(ref _reopen, false);
                Attempt(_file.Reopen);
            }
        }
        while (open);
        ReportDropped(atOnce: true);
    }

    bool Swap(out byte[] batch, out int length, out int lines)
    {
        lock (_lock)
        {
            (batch, length, lines) = (_filling, _length, _lines);
            (_filling, _length, _lines) = ([], 0, 0);
            return length > 0;
        }
    }

    async ValueTask WriteAsync(byte[] batch, int length, int lines)
    {
        try
        {
            await _file.WriteAsync(batch.AsMemory(0, length));
            if (_failing)
            {
                _failing = false;
                _report($"{_name}: written again");
            }
        }
        catch (Exception e)
        {
            Interlocked.Add(ref _dropped, lines);
            if (!_failing)
            {
                _failing = true;
                _report($"{_name}: cannot be written, lines are lost until it can: {e.Message}");
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(batch);
        }
    }

    void Attempt(Action open)
    {
        try
        {
            open();
        }
        catch (IOException e)
        {
            _report($"{_name}: {e.Message}; going on with the old file");
        }
    }

    void ReportDropped(bool atOnce)
    {
        var dropped = Dropped;
        if (dropped == _reported || (!atOnce && _time.GetElapsedTime(_reportedAt) < ReportEvery))
        {
            return;
        }
        _report($"{_name}: {dropped - _reported} lines were dropped");
        _reported = dropped;
        _reportedAt = _time.GetTimestamp();
    }

    void Reserve(int more)
    {
        if (_filling.Length - _length >= more)
        {
            return;
        }
        var larger = ArrayPool<byte>.Shared.Rent(Math.Max(Piece, Math.Max(_length + more, _length * 2)));
        _filling.AsSpan(0, _length).CopyTo(larger);
        if (_filling.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_filling);
        }
        _filling = larger;
    }
}

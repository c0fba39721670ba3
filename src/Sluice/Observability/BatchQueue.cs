using Microsoft.Extensions.Logging;

namespace Sluice.Observability;

/// <summary>When a <see cref="BatchQueue{T}"/> sends what has gathered. The defaults are APISIX's.</summary>
/// <param name="Name">Stands in the log: <c>http logger</c>.</param>
public sealed record BatchOptions(string Name)
{
    /// <summary>So many entries go at once; 1: each alone.</summary>
    public int MaxSize { get; init; } = 1000;

    /// <summary>Fewer go when none has come for so long,</summary>
    public TimeSpan InactiveTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>or when the oldest has waited for so long.</summary>
    public TimeSpan BufferDuration { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How often a batch that could not be sent is tried again.</summary>
    public int MaxRetries { get; init; }

    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long the end of the queue waits for what is left to be sent.</summary>
    public TimeSpan FlushTimeout { get; init; } = TimeSpan.FromSeconds(5);
}

/// <summary>How many entries may wait in all queues that share this limit; those beyond are dropped and counted.</summary>
public sealed class PendingLimit(int max = PendingLimit.DefaultMax)
{
    public const int DefaultMax = 8192;

    int _max = max;
    long _pushed;
    long _processed;
    long _dropped;

    /// <summary>May change while queues run.</summary>
    public int Max
    {
        get => Volatile.Read(ref _max);
        set => Volatile.Write(ref _max, value);
    }

    /// <summary>Entries that were taken.</summary>
    public long Pushed => Interlocked.Read(ref _pushed);

    /// <summary>Entries that were sent or given up.</summary>
    public long Processed => Interlocked.Read(ref _processed);

    public long Dropped => Interlocked.Read(ref _dropped);

    internal bool TryTake()
    {
        if (Interlocked.Increment(ref _pushed) - Processed <= Max)
        {
            return true;
        }
        Interlocked.Decrement(ref _pushed);
        Interlocked.Increment(ref _dropped);
        return false;
    }

    internal void Release(int count) => Interlocked.Add(ref _processed, count);
}

/// <summary>Only the first entries of a batch were sent: the rest is tried again.</summary>
internal sealed class PartlySentException(int sent, string message) : Exception(message)
{
    public int Sent => sent;
}

/// <summary>
/// Entries on their way to somewhere else, in batches. Whoever adds never waits; one task sends, one batch after the other. Bounded by a
/// <see cref="PendingLimit"/>; disposing of it sends what is left. While nothing waits it has no timer and no task.
/// </summary>
public sealed partial class BatchQueue<T>(
    BatchOptions options, Func<IReadOnlyList<T>, CancellationToken, Task> send, PendingLimit limit, TimeProvider time, ILogger logger)
    : IAsyncDisposable
{
    static readonly TimeSpan ReportEvery = TimeSpan.FromSeconds(1);

    readonly Lock _lock = new();
    readonly Queue<List<T>> _ready = [];
    readonly CancellationTokenSource _stopping = new();
    List<T> _filling = [];
    ITimer? _timer;
    Task _sending = Task.CompletedTask;
    long _first;
    long _last;
    long _reported = long.MinValue;
    int _waiting;
    bool _isSending;
    bool _closed;

    /// <summary>Entries that are not sent yet.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    /// <summary>False: it was dropped, because too many wait or the queue has ended.</summary>
    public bool TryAdd(T entry)
    {
        if (!limit.TryTake())
        {
            ReportDrops();
            return false;
        }
        lock (_lock)
        {
            if (_closed)
            {
                limit.Release(1);
                return false;
            }
            _waiting++;
            _last = time.GetTimestamp();
            _filling.Add(entry);
            if (_filling.Count >= options.MaxSize)
            {
                Flush();
            }
            else if (_filling.Count == 1)
            {
                _first = _last;
                _timer ??= time.CreateTimer(static queue => ((BatchQueue<T>)queue!).Look(), this, Timeout.InfiniteTimeSpan,
                    Timeout.InfiniteTimeSpan);
                _timer.Change(Due(), Timeout.InfiniteTimeSpan);
            }
        }
        return true;
    }

    /// <summary>Until what has gathered is due.</summary>
    TimeSpan Due()
    {
        var now = time.GetTimestamp();
        var (silent, old) = (options.InactiveTimeout - time.GetElapsedTime(_last, now),
            options.BufferDuration - time.GetElapsedTime(_first, now));
        return silent < old ? silent : old;
    }

    void Look()
    {
        lock (_lock)
        {
            if (_filling.Count == 0 || _closed)
            {
                return;
            }
            if (Due() is var due && due > TimeSpan.Zero)
            {
                _timer!.Change(due, Timeout.InfiniteTimeSpan);
                return;
            }
            Flush();
        }
    }

    void Flush()
    {
        if (_filling.Count == 0)
        {
            return;
        }
        _timer?.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        _ready.Enqueue(_filling);
        _filling = [];
        if (!_isSending)
        {
            _isSending = true;
            _sending = Task.Run(SendAsync);
        }
    }

    async Task SendAsync()
    {
        while (true)
        {
            List<T>? batch;
            lock (_lock)
            {
                if (!_ready.TryDequeue(out batch))
                {
                    _isSending = false;
                    return;
                }
            }
            await SendAsync(batch);
            Interlocked.Add(ref _waiting, -batch.Count);
            limit.Release(batch.Count);
        }
    }

    async Task SendAsync(List<T> batch)
    {
        var left = batch;
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                await send(left, _stopping.Token);
                LogSent(options.Name);
                return;
            }
            catch (PartlySentException e)
            {
                left = [.. left.Skip(e.Sent)];
                LogPartlySent(options.Name, left.Count, batch.Count, e.Message);
            }
            catch (Exception e)
            {
                LogFailed(options.Name, e.Message);
            }
            if (left.Count == 0)
            {
                return;
            }
            if (attempt >= options.MaxRetries || _stopping.IsCancellationRequested)
            {
                LogGivenUp(options.Name, options.MaxRetries);
                return;
            }
            await Task.Delay(options.RetryDelay, time, _stopping.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    void ReportDrops()
    {
        var now = time.GetTimestamp();
        var reported = Interlocked.Read(ref _reported);
        if ((reported == long.MinValue || time.GetElapsedTime(reported, now) >= ReportEvery)
            && Interlocked.CompareExchange(ref _reported, now, reported) == reported)
        {
            LogDropped(limit.Pushed, limit.Processed, limit.Max, limit.Dropped);
        }
    }

    /// <summary>Takes nothing more and sends what is left, for <see cref="BatchOptions.FlushTimeout"/> at most.</summary>
    public async ValueTask DisposeAsync()
    {
        Task sending;
        lock (_lock)
        {
            if (_closed)
            {
                return;
            }
            _closed = true;
            Flush();
            _timer?.Dispose();
            sending = _sending;
        }
        using var patience = new CancellationTokenSource(options.FlushTimeout, time);
        await using (patience.Token.UnsafeRegister(static source => ((CancellationTokenSource)source!).Cancel(), _stopping))
        {
            await sending;
        }
        _stopping.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "Batch Processor[{Name}] successfully processed the entries")]
    partial void LogSent(string name);

    [LoggerMessage(Level = LogLevel.Error, Message = "Batch Processor[{Name}] failed to process entries: {What}")]
    partial void LogFailed(string name, string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "Batch Processor[{Name}] failed to process entries [{Left}/{All}]: {What}")]
    partial void LogPartlySent(string name, int left, int all, string what);

    [LoggerMessage(Level = LogLevel.Error,
        Message = "Batch Processor[{Name}] exceeded the max_retry_count[{Retries}] dropping the entries")]
    partial void LogGivenUp(string name, int retries);

    [LoggerMessage(Level = LogLevel.Error, Message =
        "max pending entries limit exceeded. discarding entry. total_pushed_entries: {Pushed} total_processed_entries: {Processed} "
            + "max_pending_entries: {Max} discarded_entries: {Dropped}")]
    partial void LogDropped(long pushed, long processed, int max, long dropped);
}

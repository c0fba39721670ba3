using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Observability;

namespace Sluice.Tests.Observability;

public sealed class BatchQueueTests : IDisposable
{
    readonly FakeTime _time = new();
    readonly List<string> _sent = [];
    readonly SemaphoreSlim _came = new(0);

    BatchQueue<int> Queue(BatchOptions? options = null, PendingLimit? limit = null, Func<IReadOnlyList<int>, Task>? send = null,
        ILogger? log = null) => new(
        options ?? new("test logger"),
        async (batch, _) =>
        {
            if (send is not null)
            {
                await send(batch);
            }
            lock (_sent)
            {
                _sent.Add(string.Join(',', batch));
            }
            _came.Release();
        },
        limit ?? new(), _time, log ?? NullLogger.Instance);

    public void Dispose() => _came.Dispose();

    Task ComeAsync() => _came.WaitAsync(TestContext.Current.CancellationToken);

    [Fact]
    public async Task A_full_batch_goes_at_once()
    {
        await using var queue = Queue(new("q") { MaxSize = 2 });
        queue.TryAdd(1);
        queue.TryAdd(2);
        await ComeAsync();
        queue.TryAdd(3);
        Assert.Equal(["1,2"], _sent);
    }

    [Fact]
    public async Task Fewer_go_when_no_more_have_come_for_a_while()
    {
        await using var queue = Queue();
        queue.TryAdd(1);
        _time.Advance(TimeSpan.FromSeconds(4));
        queue.TryAdd(2);
        _time.Advance(TimeSpan.FromSeconds(4));
        Assert.Empty(_sent);
        Assert.Equal(2, queue.Waiting);
        _time.Advance(TimeSpan.FromSeconds(1));
        await ComeAsync();
        Assert.Equal(["1,2"], _sent);
        Assert.Equal(0, _time.ArmedTimers);
    }

    [Fact]
    public async Task An_entry_never_waits_longer_than_the_buffer_lasts()
    {
        await using var queue = Queue(new("q") { BufferDuration = TimeSpan.FromSeconds(9) });
        for (var i = 0; i < 3; i++)
        {
            queue.TryAdd(i);
            _time.Advance(TimeSpan.FromSeconds(3));
        }
        await ComeAsync();
        Assert.Equal(["0,1,2"], _sent);
    }

    [Fact]
    public async Task What_does_not_fit_is_dropped_and_counted()
    {
        var limit = new PendingLimit(2);
        var log = new LogLines();
        await using var queue = Queue(limit: limit, log: log);
        Assert.True(queue.TryAdd(1));
        Assert.True(queue.TryAdd(2));
        Assert.False(queue.TryAdd(3));
        Assert.False(queue.TryAdd(4));
        Assert.Equal(2, limit.Dropped);
        var line = Assert.Single(log.Lines);
        Assert.Contains(
            "max pending entries limit exceeded. discarding entry. total_pushed_entries: 2 total_processed_entries: 0 "
                + "max_pending_entries: 2 discarded_entries: 1", line,
            StringComparison.Ordinal);
        _time.Advance(TimeSpan.FromSeconds(5));
        await ComeAsync();
        SpinWait.SpinUntil(() => queue.Waiting == 0 && limit.Processed == 2);
        Assert.True(queue.TryAdd(5));
    }

    [Fact]
    public async Task The_end_sends_what_is_left_and_takes_no_more()
    {
        var queue = Queue();
        queue.TryAdd(1);
        queue.TryAdd(2);
        await queue.DisposeAsync();
        Assert.Equal(["1,2"], _sent);
        Assert.False(queue.TryAdd(3));
        Assert.Equal(0, _time.ArmedTimers);
    }

    [Fact]
    public async Task A_receiver_that_hangs_does_not_hold_up_the_end()
    {
        var asked = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var queue = new BatchQueue<int>(new("q"), async (_, cancellation) =>
        {
            asked.SetResult();
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellation);
        }, new(), _time, NullLogger.Instance);
        queue.TryAdd(1);
        var ending = queue.DisposeAsync();
        await asked.Task;
        _time.Advance(TimeSpan.FromSeconds(5));
        await ending;
    }

    [Fact]
    public async Task Only_what_was_not_sent_is_tried_again()
    {
        var attempts = 0;
        var failed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var log = new LogLines();
        await using var queue = Queue(new("q") { MaxSize = 3, MaxRetries = 1 }, log: log, send: _ =>
        {
            if (attempts++ == 0)
            {
                failed.SetResult();
                throw new PartlySentException(2, "the third is wrong");
            }
            return Task.CompletedTask;
        });
        for (var i = 1; i <= 3; i++)
        {
            queue.TryAdd(i);
        }
        await failed.Task;
        SpinWait.SpinUntil(() => _time.ArmedTimers == 1);
        _time.Advance(TimeSpan.FromSeconds(1));
        await ComeAsync();
        Assert.Equal(["3"], _sent);
        Assert.Contains(log.Lines, line =>
            line.Contains("Batch Processor[q] failed to process entries [1/3]: the third is wrong", StringComparison.Ordinal));
    }

    [Fact]
    public async Task After_the_last_retry_entries_are_given_up()
    {
        var limit = new PendingLimit();
        var log = new LogLines();
        var queue = Queue(new("q") { MaxSize = 1 }, limit, _ => throw new IOException("refused"), log);
        queue.TryAdd(1);
        await queue.DisposeAsync();
        Assert.Equal(1, limit.Processed);
        Assert.Contains(log.Lines, line =>
            line.Contains("Batch Processor[q] failed to process entries: refused", StringComparison.Ordinal));
        Assert.Contains(log.Lines, line =>
            line.Contains("Batch Processor[q] exceeded the max_retry_count[0] dropping the entries", StringComparison.Ordinal));
    }
}

using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Net.Epoll;

namespace Sluice.FunctionalTests.Connections;

/// <summary>The two pipes of a client's connection, and the loop that they run on, over a real socket.</summary>
public sealed class EpollPipesTests : IAsyncLifetime
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    readonly EventLoop _loop = new(0, NullLogger.Instance);
    Socket _peer = null!;
    TestSocket _socket = null!;
    EpollInput _input = null!;
    EpollOutput _output = null!;

    sealed class TestSocket(EventLoop loop, int descriptor) : LoopSocket(loop, descriptor, connected: false);

    public async ValueTask InitializeAsync()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        var address = (IPEndPoint)listener.LocalEndPoint!;
        var descriptor = Posix.Open(address);
        Assert.True(Posix.Connect(descriptor, address) is 0 or Posix.InProgress);
        _peer = await listener.AcceptAsync();
        _peer.NoDelay = true;
        _socket = new(_loop, descriptor);
        _input = new(_socket);
        _output = new(_socket);
        await OnLoopAsync(async () =>
        {
            _socket.Register();
            await _socket.WaitWritableAsync();
        });
    }

    public ValueTask DisposeAsync()
    {
        _socket.Close(reset: true);
        _peer.Dispose();
        _loop.Dispose();
        return default;
    }

    Task<bool> OnLoopAsync(Func<Task> work) => OnLoopAsync(async () =>
    {
        await work();
        return true;
    });

    async Task<T> OnLoopAsync<T>(Func<Task<T>> work)
    {
        async Task<T> RunAsync()
        {
            await _loop.SwitchTo();
            Assert.True(_loop.IsCurrent);
            return await work();
        }
        var result = await RunAsync().WaitAsync(Patience);
        await EventLoop.Leave();
        return result;
    }

    Task<int> SendAsync(string latin1) => _peer.SendAsync(Encoding.Latin1.GetBytes(latin1));

    static string Text(ReadResult result) => Encoding.Latin1.GetString(result.Buffer);

    [Fact]
    public async Task What_was_not_consumed_comes_again_and_what_was_examined_waits_for_more()
    {
        await SendAsync("hello");
        await OnLoopAsync(async () =>
        {
            var result = await _input.ReadAsync();
            while (result.Buffer.Length < 5)
            {
                _input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
                result = await _input.ReadAsync();
            }
            _input.AdvanceTo(result.Buffer.GetPosition(2));
            Assert.True(_input.TryRead(out result));
            Assert.Equal("llo", Text(result));
            _input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
            Assert.False(_input.TryRead(out _));
            var more = _input.ReadAsync().AsTask();
            await SendAsync("!");
            result = await more;
            Assert.Equal("llo!", Text(result));
            _input.AdvanceTo(result.Buffer.End);
        });
    }

    [Fact]
    public async Task Many_blocks_are_one_sequence_up_to_the_end()
    {
        var sent = string.Concat(Enumerable.Range(0, 5_000).Select(number => $"{number};"));
        var sending = SendAsync(sent).ContinueWith(_ => _peer.Shutdown(SocketShutdown.Send), TaskScheduler.Default);
        await OnLoopAsync(async () =>
        {
            var taken = new StringBuilder();
            for (var turn = 0; ; turn++)
            {
                var result = await _input.ReadAsync();
                if (result.IsCompleted && result.Buffer.IsEmpty)
                {
                    break;
                }
                // now all, now a part, now nothing
                var count = turn % 3 == 0 || result.IsCompleted ? result.Buffer.Length : turn % 3 == 1 ? result.Buffer.Length / 2 : 0;
                var taking = result.Buffer.Slice(0, count);
                taken.Append(Encoding.Latin1.GetString(taking));
                _input.AdvanceTo(taking.End, result.Buffer.End);
            }
            Assert.Equal(sent, taken.ToString());
        });
        await sending;
    }

    [Fact]
    public async Task A_pending_read_can_be_cancelled_and_the_next_one_goes_on()
    {
        await OnLoopAsync(async () =>
        {
            var reading = _input.ReadAsync().AsTask();
            _input.CancelPendingRead();
            var result = await reading;
            Assert.True(result.IsCanceled);
            _input.AdvanceTo(result.Buffer.End);
            reading = _input.ReadAsync().AsTask();
            Assert.False(reading.IsCompleted);
            await SendAsync("on");
            result = await reading;
            Assert.False(result.IsCanceled);
            _input.AdvanceTo(result.Buffer.End);
            using var cancellation = new CancellationTokenSource();
            reading = _input.ReadAsync(cancellation.Token).AsTask();
            await cancellation.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading);
            _input.Complete();
            Assert.Throws<ObjectDisposedException>(() => _input.TryRead(out _));
        });
    }

    [Fact]
    public async Task A_reset_fails_the_read_and_completes_flushes()
    {
        await OnLoopAsync(async () =>
        {
            var reading = _input.ReadAsync().AsTask();
            _peer.LingerState = new LingerOption(true, 0);
            _peer.Dispose();
            await Assert.ThrowsAnyAsync<IOException>(() => reading);
            FlushResult flushed;
            do
            {
                flushed = await _output.WriteAsync("x"u8.ToArray());
            }
            while (!flushed.IsCompleted);
            Assert.True(_output.IsBroken);
        });
    }

    [Fact]
    public async Task A_flush_waits_for_the_peer_can_be_cancelled_and_loses_nothing()
    {
        var block = new byte[32 * 1024 * 1024];
        Random.Shared.NextBytes(block);
        var flushing = new TaskCompletionSource();
        var sending = OnLoopAsync(async () =>
        {
            _output.Write(block);
            var flush = _output.FlushAsync().AsTask();
            Assert.False(flush.IsCompleted);
            _output.CancelPendingFlush();
            Assert.True((await flush).IsCanceled);
            Assert.True(_output.UnflushedBytes > 0);
            flush = _output.FlushAsync().AsTask();
            flushing.SetResult();
            Assert.False((await flush).IsCanceled);
            Assert.Equal(0, _output.UnflushedBytes);
        });
        await flushing.Task.WaitAsync(Patience);
        var got = new byte[block.Length];
        for (var at = 0; at < got.Length;)
        {
            at += await _peer.ReceiveAsync(got.AsMemory(at));
        }
        await sending;
        Assert.True(got.AsSpan().SequenceEqual(block));
    }

    [Fact]
    public async Task Posted_work_runs_in_order_on_the_loop_and_a_failure_in_it_is_its_own()
    {
        var order = new List<int>();
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _loop.Post(_ => throw new InvalidOperationException("a bug"), null);
        for (var number = 0; number < 1_000; number++)
        {
            _loop.Post(value => order.Add(_loop.IsCurrent ? (int)value! : -1), number);
        }
        _loop.Post(_ => done.SetResult(), null);
        await done.Task.WaitAsync(Patience);
        Assert.Equal(Enumerable.Range(0, 1_000), order);
        await EventLoop.Leave();
        Assert.False(_loop.IsCurrent);
    }

    [Fact]
    public async Task A_socket_that_was_never_registered_takes_no_place_from_another()
    {
        await OnLoopAsync(() =>
        {
            new TestSocket(_loop, Posix.Open(new IPEndPoint(IPAddress.Loopback, 0))).Close(reset: true);
            return Task.CompletedTask;
        });
        await SendAsync("still here");
        await OnLoopAsync(async () => Assert.False((await _input.ReadAsync()).Buffer.IsEmpty));
    }

    [Fact]
    public async Task Who_goes_on_later_lets_sockets_have_their_turn_and_stays_on_the_loop() => await OnLoopAsync(async () =>
    {
        var reading = _socket.WaitReadableAsync().AsTask();
        Assert.False(reading.IsCompleted);
        await _peer.SendAsync("x"u8.ToArray());
        await _loop.SwitchTo();
        while (!_loop.IsLate)
        {
            Thread.SpinWait(1000);
        }
        while (!reading.IsCompleted)
        {
            await EventLoop.Later();
            Assert.True(_loop.IsCurrent);
        }
    });
}

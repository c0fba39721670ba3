using System.IO.Pipelines;
using System.Net.Sockets;
using System.Threading.Tasks.Sources;

namespace Sluice.Net.Epoll;

/// <summary>
/// What a client is sent. A finished flush means that the kernel has the bytes, so whoever sends beside it
/// (<see cref="LoopSocket.TrySend"/>) comes after them. Holds blocks only while there are unsent bytes. When the connection is broken,
/// flushes say completed and bytes are dropped.
/// </summary>
sealed class EpollOutput(LoopSocket socket) : PipeWriter, IValueTaskSource<FlushResult>
{
    BlockPool.Block? _first, _last;
    long _unsent;
    bool _broken;
    bool _waits;
    int _cancel;
    Action? _onWritable;
    ManualResetValueTaskSourceCore<FlushResult> _core;

    public override bool CanGetUnflushedBytes => true;

    public override long UnflushedBytes => _unsent;

    /// <summary>Nobody will take these bytes: the connection is broken or closed.</summary>
    public bool IsBroken => _broken;

    // -- PipeWriter

    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        if (_last is null || _last.Room < Math.Max(sizeHint, 1))
        {
            var block = BlockPool.Instance.RentBlock(Math.Max(sizeHint, BlockPool.BlockSize));
            if (_last is null)
            {
                _first = block;
            }
            else
            {
                _last.Append(block);
            }
            _last = block;
        }
        return _last.Free;
    }

    public override Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

    public override void Advance(int bytes)
    {
        _last!.Fill(bytes);
        _unsent += bytes;
    }

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (Interlocked.Exchange(ref _cancel, 0) != 0)
        {
            return new(new FlushResult(isCanceled: true, isCompleted: false));
        }
        if (_unsent == 0 || _broken || (socket.Loop.IsCurrent && SendAll()))
        {
            Release();
            return new(new FlushResult(isCanceled: false, isCompleted: _broken));
        }
        var waiting = new ValueTask<FlushResult>(this, _core.Version);
        return cancellationToken.CanBeCanceled ? CancellableAsync(waiting, cancellationToken) : waiting;
    }

    async ValueTask<FlushResult> CancellableAsync(ValueTask<FlushResult> waiting, CancellationToken cancellationToken)
    {
        using var registration = cancellationToken.UnsafeRegister(static output => ((EpollOutput)output!).CancelPendingFlush(), this);
        var result = await waiting;
        if (result.IsCanceled)
        {
            cancellationToken.ThrowIfCancellationRequested();
        }
        return result;
    }

    public override void CancelPendingFlush()
    {
        Volatile.Write(ref _cancel, 1);
        socket.Loop.Post(static output => ((EpollOutput)output!).Cancel(), this);
    }

    /// <summary>No more bytes come; unsent ones are the connection's to send (<see cref="DrainAsync"/>).</summary>
    public override void Complete(Exception? exception = null)
    {
        if (_unsent == 0)
        {
            Release();
        }
    }

    // -- Sending, on the loop

    /// <summary>True when nothing is left to send.</summary>
    bool SendAll()
    {
        try
        {
            while (_first is not null && _unsent > 0)
            {
                var sent = socket.TrySend(_first.Filled, more: _unsent > _first.Length);
                _first.Start += sent;
                _unsent -= sent;
                if (_first.Length > 0)
                {
                    return false;
                }
                if (_first == _last)
                {
                    break;
                }
                var used = _first;
                _first = used.Following;
                used.Dispose();
            }
            return true;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            _broken = true;
            return true;
        }
    }

    /// <summary>The connection is closed: nobody takes what was not sent.</summary>
    public void Drop()
    {
        _broken = true;
        Release();
    }

    void Release()
    {
        for (var block = _first; block is not null;)
        {
            var next = block.Following;
            block.Dispose();
            block = next;
        }
        _first = _last = null;
        _unsent = 0;
    }

    void Start()
    {
        _waits = true;
        if (Volatile.Read(ref _cancel) != 0)
        {
            socket.Loop.Post(static output => ((EpollOutput)output!).Cancel(), this);
        }
        socket.WhenWritable(_onWritable ??= OnWritable);
    }

    void OnWritable()
    {
        if (!_waits)
        {
            return;
        }
        if (!_broken && !SendAll())
        {
            socket.WhenWritable(_onWritable!);
            return;
        }
        Release();
        _waits = false;
        _core.SetResult(new FlushResult(isCanceled: false, isCompleted: _broken));
    }

    void Cancel()
    {
        if (_waits && Interlocked.Exchange(ref _cancel, 0) != 0)
        {
            _waits = false;
            _core.SetResult(new FlushResult(isCanceled: true, isCompleted: false));
        }
    }

    /// <summary>Sends what is left after the last flush. On the loop.</summary>
    public async ValueTask DrainAsync()
    {
        while (!_broken && _unsent > 0 && !SendAll())
        {
            await socket.WaitWritableAsync();
        }
        Release();
    }

    // -- IValueTaskSource

    FlushResult IValueTaskSource<FlushResult>.GetResult(short token) => _core.Take(token);

    ValueTaskSourceStatus IValueTaskSource<FlushResult>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<FlushResult>.OnCompleted(Action<object?> continuation, object? state, short token,
        ValueTaskSourceOnCompletedFlags flags)
    {
        _core.OnCompleted(continuation, state, token, flags);
        if (socket.Loop.IsCurrent)
        {
            Start();
        }
        else
        {
            socket.Loop.Post(static output => ((EpollOutput)output!).Start(), this);
        }
    }
}

using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using System.Threading.Tasks.Sources;
using Microsoft.AspNetCore.Connections;

namespace Sluice.Net.Epoll;

/// <summary>
/// What a client sends, received when the reader asks for it: nobody's bytes wait here, so back-pressure is the kernel's. Holds a block
/// only while there are bytes that were not consumed.
/// </summary>
sealed class EpollInput(LoopSocket socket) : PipeReader, IValueTaskSource<ReadResult>
{
    const int LargeBlock = 32 * 1024;

    BlockPool.Block? _first, _last;
    bool _examinedAll = true;
    bool _ended;
    bool _lastWasFull;
    bool _completed;
    Exception? _failure;
    ManualResetValueTaskSourceCore<ReadResult> _core;
    int _cancel;
    bool _waits;
    Action? _onReadable;

    // -- PipeReader

    public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (TryRead(out var result))
        {
            return new(result);
        }
        var waiting = new ValueTask<ReadResult>(this, _core.Version);
        return cancellationToken.CanBeCanceled ? CancellableAsync(waiting, cancellationToken) : waiting;
    }

    async ValueTask<ReadResult> CancellableAsync(ValueTask<ReadResult> waiting, CancellationToken cancellationToken)
    {
        using var registration = cancellationToken.UnsafeRegister(static input => ((EpollInput)input!).CancelPendingRead(), this);
        var result = await waiting;
        if (result.IsCanceled)
        {
            cancellationToken.ThrowIfCancellationRequested();
        }
        return result;
    }

    public override bool TryRead(out ReadResult result)
    {
        ObjectDisposedException.ThrowIf(_completed, this);
        if (Interlocked.Exchange(ref _cancel, 0) != 0)
        {
            result = new(Buffer, isCanceled: true, isCompleted: false);
            return true;
        }
        if (!HasNews && socket.Loop.IsCurrent && socket.IsReadable)
        {
            Receive();
        }
        result = default;
        if (!HasNews)
        {
            return false;
        }
        result = Result();
        return true;
    }

    bool HasNews => !_examinedAll || _ended || _failure is not null;

    ReadResult Result() => _failure is null || !_examinedAll
        ? new(Buffer, isCanceled: false, isCompleted: _ended)
        : throw _failure;

    ReadOnlySequence<byte> Buffer => _first is null ? ReadOnlySequence<byte>.Empty : new(_first, _first.Start, _last!, _last!.End);

    public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
    {
        if (consumed.GetObject() is not BlockPool.Block until)
        {
            return;
        }
        while (_first != until)
        {
            var used = _first!;
            _first = used.Following;
            used.Dispose();
        }
        _first.Start = consumed.GetInteger();
        if (IsEnd(until, until.Start))
        {
            Release();
            _examinedAll = true;
            return;
        }
        _examinedAll = examined.GetObject() is BlockPool.Block seen && IsEnd(seen, examined.GetInteger());
    }

    /// <summary>Nothing comes behind this place. A receive that got nothing leaves an empty block at the end.</summary>
    static bool IsEnd(BlockPool.Block block, int index)
    {
        while (index == block.End)
        {
            if (block.Following is not { } next)
            {
                return true;
            }
            block = next;
            index = next.Start;
        }
        return false;
    }

    public override void CancelPendingRead()
    {
        Volatile.Write(ref _cancel, 1);
        socket.Loop.Post(static input => ((EpollInput)input!).Cancel(), this);
    }

    public override void Complete(Exception? exception = null)
    {
        _completed = true;
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
    }

    // -- Receiving, on the loop

    /// <summary>One receive.</summary>
    void Receive()
    {
        try
        {
            if (_last is null || _last.Room < BlockPool.BlockSize / 4)
            {
                // a body on its way fills blocks: larger ones spare it calls
                Append(BlockPool.Instance.RentBlock(_lastWasFull ? LargeBlock : BlockPool.BlockSize));
            }
            var room = _last!.Room;
            var count = socket.TryReceive(_last.Free.Span);
            if (count > 0)
            {
                _last.Fill(count);
                _examinedAll = false;
            }
            _ended |= count == 0;
            _lastWasFull = count == room;
        }
        catch (ObjectDisposedException)
        {
            _failure = new ConnectionAbortedException();
        }
        catch (SocketException e)
        {
            _failure = e.SocketErrorCode == SocketError.ConnectionReset ? new ConnectionResetException(e.Message, e)
                : new IOException(e.Message, e);
        }
        if (_first is { Length: 0 } && _first == _last)
        {
            _first.Dispose();
            _first = _last = null;
        }
    }

    void Append(BlockPool.Block block)
    {
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

    /// <summary>Somebody waits: receives as soon as there is something.</summary>
    void Start()
    {
        _waits = true;
        if (Volatile.Read(ref _cancel) != 0)
        {
            socket.Loop.Post(static input => ((EpollInput)input!).Cancel(), this);
        }
        socket.WhenReadable(_onReadable ??= OnReadable);
    }

    void OnReadable()
    {
        if (!_waits)
        {
            return;
        }
        Receive();
        if (HasNews)
        {
            Finish(canceled: false);
        }
        else
        {
            socket.WhenReadable(_onReadable!);
        }
    }

    void Cancel()
    {
        if (_waits && Interlocked.Exchange(ref _cancel, 0) != 0)
        {
            Finish(canceled: true);
        }
    }

    void Finish(bool canceled)
    {
        _waits = false;
        if (canceled)
        {
            _core.SetResult(new(Buffer, isCanceled: true, isCompleted: _ended));
        }
        else if (_failure is not null && _examinedAll)
        {
            _core.SetException(_failure);
        }
        else
        {
            _core.SetResult(new(Buffer, isCanceled: false, isCompleted: _ended));
        }
    }

    // -- IValueTaskSource

    ReadResult IValueTaskSource<ReadResult>.GetResult(short token) => _core.Take(token);

    ValueTaskSourceStatus IValueTaskSource<ReadResult>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<ReadResult>.OnCompleted(Action<object?> continuation, object? state, short token,
        ValueTaskSourceOnCompletedFlags flags)
    {
        _core.OnCompleted(continuation, state, token, flags);
        if (socket.Loop.IsCurrent)
        {
            Start();
        }
        else
        {
            socket.Loop.Post(static input => ((EpollInput)input!).Start(), this);
        }
    }
}

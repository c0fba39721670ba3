using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Sluice.Net.Epoll;

/// <summary>Wants to know of the end of a client's connection.</summary>
internal interface IConnectionFollower
{
    /// <summary>The client is gone, or sends no more. Once, on any thread.</summary>
    void ClientGone();
}

/// <summary>A client's connection as Kestrel sees it; its own feature collection, to be small.</summary>
internal sealed class EpollConnection : ConnectionContext, IFeatureCollection, IDuplexPipe,
    IConnectionIdFeature, IConnectionTransportFeature, IConnectionItemsFeature, IMemoryPoolFeature, IConnectionLifetimeFeature,
    IConnectionEndPointFeature
{
    /// <summary>How long a closing connection may take for its last bytes, milliseconds.</summary>
    const int DrainMilliseconds = 30_000;

    /// <summary>How long a client that still sends may be silent after the end, milliseconds (nginx's lingering_timeout).</summary>
    const int LingerMilliseconds = 5_000;

    readonly ClientSocket _socket;
    readonly EpollInput _input;
    readonly EpollOutput _output;
    CancellationTokenSource? _closed;
    IConnectionFollower? _follower;
    List<KeyValuePair<Type, object>>? _features;
    IDictionary<object, object?>? _items;
    volatile int _closedSaid;

    internal EpollConnection(EventLoop loop, int descriptor)
    {
        _socket = new(loop, descriptor, this);
        _input = new(_socket);
        _output = new(_socket);
        Transport = this;
        LocalEndPoint = Posix.LocalEndPoint(descriptor, loop.LastLocal);
        loop.LastLocal = (IPEndPoint?)LocalEndPoint;
        RemoteEndPoint = Posix.RemoteEndPoint(descriptor);
    }

    /// <summary>Where everything about this connection runs.</summary>
    public EventLoop Loop => _socket.Loop;

    /// <summary>Whether the bytes that an application writes are those that the client gets: nothing (TLS) stands between.</summary>
    public bool IsPlain => Transport == this;

    /// <summary>Sends at once what the kernel takes of it, after all that was flushed before. On the loop, only when every flush has
    /// finished.</summary>
    /// <returns>How many bytes the kernel took; all of them when the connection is broken, which <see cref="ConnectionClosed"/>
    /// tells.</returns>
    internal int TrySend(ReadOnlySpan<byte> bytes)
    {
        try
        {
            return _socket.TrySend(bytes);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return bytes.Length;
        }
    }

    /// <summary>The client has not sent all of its request: it is listened to after the end, so that it gets the answer and no
    /// RST.</summary>
    internal bool IsStillSending { get; set; }

    /// <summary>What <see cref="TrySend"/> has left over: goes with the next flush.</summary>
    internal void Append(ReadOnlySpan<byte> bytes) => _output.Write(bytes);

    /// <summary>The kernel takes no more when so many bytes of it are not sent; 0: as the system says.</summary>
    internal void LimitUnsent(int bytes)
    {
        if (!_socket.IsClosed)
        {
            Posix.LimitUnsent(_socket.Descriptor, bytes);
        }
    }

    internal void Register() => _socket.Register();

    // -- ConnectionContext

    public override string ConnectionId { get => field ??= CorrelationId.Next(); set; }

    public override IFeatureCollection Features => this;

    public override IDictionary<object, object?> Items { get => _items ??= new ConnectionItems(); set => _items = value; }

    public override IDuplexPipe Transport { get; set; }

    /// <summary>Made for who asks for it; a stream has a lighter way (<see cref="Follow"/>).</summary>
    public override CancellationToken ConnectionClosed
    {
        get
        {
            if (_closed is null && Interlocked.CompareExchange(ref _closed, new(), null) is null && _closedSaid != 0)
            {
                _closed.Cancel();
            }
            return _closed.Token;
        }
        set => throw new NotSupportedException("the connection says itself when it is closed");
    }

    /// <summary>Tells one follower of the end, at once when the end is here already.</summary>
    internal void Follow(IConnectionFollower follower)
    {
        Interlocked.Exchange(ref _follower, follower);
        if (_closedSaid != 0)
        {
            Interlocked.Exchange(ref _follower, null)?.ClientGone();
        }
    }

    /// <summary>A call that has begun may still be running.</summary>
    internal void Unfollow() => Interlocked.Exchange(ref _follower, null);

    public override EndPoint? LocalEndPoint { get; set; }

    public override EndPoint? RemoteEndPoint { get; set; }

    PipeReader IDuplexPipe.Input => _input;

    PipeWriter IDuplexPipe.Output => _output;

    MemoryPool<byte> IMemoryPoolFeature.MemoryPool => BlockPool.Instance;

    public override void Abort(ConnectionAbortedException abortReason)
    {
        SayClosed();
        _socket.Close(reset: true);
    }

    /// <summary>Sends what is left, then FIN; a client that is still sending is listened to for a while.</summary>
    public override async ValueTask DisposeAsync()
    {
        await Loop.SwitchTo();
        if (!_socket.IsClosed)
        {
            var deadline = new Deadline(_socket);
            Loop.Set(deadline, After(DrainMilliseconds));
            try
            {
                await _output.DrainAsync();
                await LingerAsync(deadline);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // gone: nothing left to say
            }
            Loop.Remove(deadline);
            _socket.Close(reset: false);
        }
        _output.Drop();
        _input.Complete();
        SayClosed();
        await base.DisposeAsync();
    }

    /// <summary>At most <see cref="DrainMilliseconds"/>, however much it sends (nginx's lingering_time).</summary>
    async ValueTask LingerAsync(Deadline deadline)
    {
        _socket.ShutdownSend();
        var received = _socket.TryReceive(Loop.Scratch.Span);
        if (received == 0 || (received < 0 && !IsStillSending))
        {
            return;
        }
        for (var end = After(DrainMilliseconds); received != 0; received = _socket.TryReceive(Loop.Scratch.Span))
        {
            Loop.Set(deadline, Math.Min(After(LingerMilliseconds), end));
            await _socket.WaitReadableAsync();
        }
    }

    static long After(int milliseconds) =>
        System.Diagnostics.Stopwatch.GetTimestamp() + (System.Diagnostics.Stopwatch.Frequency * milliseconds / 1000);

    void SayClosed()
    {
        if (Interlocked.Exchange(ref _closedSaid, 1) == 0)
        {
            // whoever listens may do anything: not on the loop
            ThreadPool.UnsafeQueueUserWorkItem(static connection => connection.TellClosed(), this, preferLocal: false);
        }
    }

    void TellClosed()
    {
        Volatile.Read(ref _closed)?.Cancel();
        Interlocked.Exchange(ref _follower, null)?.ClientGone();
    }

    sealed class ClientSocket(EventLoop loop, int descriptor, EpollConnection connection) : LoopSocket(loop, descriptor, connected: true)
    {
        protected override void OnPeerClosed() => connection.SayClosed();

        protected override void OnClosed() => connection.SayClosed();
    }

    sealed class Deadline(LoopSocket socket) : WheelTimer
    {
        protected internal override void Due() => socket.Close(reset: true);
    }

    // -- IFeatureCollection: the connection is its own features; Kestrel adds a few

    /// <summary>Somebody added features to its own.</summary>
    internal bool HasFeatures => _features is { Count: > 0 };

    bool IFeatureCollection.IsReadOnly => false;

    int IFeatureCollection.Revision => _features?.Count ?? 0;

    object? IFeatureCollection.this[Type key]
    {
        get
        {
            foreach (var (type, feature) in _features ?? [])
            {
                if (type == key)
                {
                    return feature;
                }
            }
            return key.IsInstanceOfType(this) ? this : null;
        }
        set
        {
            _features ??= new(6);
            _features.RemoveAll(feature => feature.Key == key);
            if (value is not null)
            {
                _features.Add(new(key, value));
            }
        }
    }

    TFeature? IFeatureCollection.Get<TFeature>()
        where TFeature : default => (TFeature?)((IFeatureCollection)this)[typeof(TFeature)];

    void IFeatureCollection.Set<TFeature>(TFeature? instance)
        where TFeature : default => ((IFeatureCollection)this)[typeof(TFeature)] = instance;

    IEnumerator<KeyValuePair<Type, object>> IEnumerable<KeyValuePair<Type, object>>.GetEnumerator() => (_features ?? []).GetEnumerator();

    System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => (_features ?? []).GetEnumerator();
}

/// <summary>Short ids for connections: unique in a process.</summary>
static class CorrelationId
{
    static long s_last = System.Diagnostics.Stopwatch.GetTimestamp();

    public static string Next() => Interlocked.Increment(ref s_last).ToString("X", System.Globalization.CultureInfo.InvariantCulture);
}

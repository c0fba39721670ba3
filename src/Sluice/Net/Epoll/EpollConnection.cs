using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Sluice.Net.Epoll;

/// <summary>A client's connection as Kestrel sees it; its own feature collection, to be small.</summary>
public sealed class EpollConnection : ConnectionContext, IFeatureCollection, IDuplexPipe,
    IConnectionIdFeature, IConnectionTransportFeature, IConnectionItemsFeature, IMemoryPoolFeature, IConnectionLifetimeFeature, IConnectionEndPointFeature
{
    /// <summary>How long a closing connection may take for its last bytes, milliseconds.</summary>
    const int DrainMilliseconds = 30_000;

    /// <summary>How long a client that still sends is listened to after the end, so that it gets the answer and no RST; milliseconds.</summary>
    const int LingerMilliseconds = 5_000;

    readonly ClientSocket _socket;
    readonly EpollInput _input;
    readonly EpollOutput _output;
    readonly CancellationTokenSource _closed = new();
    List<KeyValuePair<Type, object>>? _features;
    IDictionary<object, object?>? _items;
    int _closedSaid;

    internal EpollConnection(EventLoop loop, int descriptor)
    {
        _socket = new(loop, descriptor, this);
        _input = new(_socket);
        _output = new(_socket);
        Transport = this;
        ConnectionClosed = _closed.Token;
        LocalEndPoint = Posix.LocalEndPoint(descriptor);
        RemoteEndPoint = Posix.RemoteEndPoint(descriptor);
    }

    /// <summary>Where everything about this connection runs.</summary>
    public EventLoop Loop => _socket.Loop;

    /// <summary>Whether the bytes that an application writes are those that the client gets: nothing (TLS) stands between.</summary>
    public bool IsPlain => Transport == this;

    /// <summary>Sends at once what the kernel takes of it, after all that was flushed before. On the loop, only when every flush has finished.</summary>
    /// <returns>How many bytes the kernel took; all of them when the connection is broken, which <see cref="ConnectionClosed"/> tells.</returns>
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

    internal void Register() => _socket.Register();

    // -- ConnectionContext

    public override string ConnectionId { get => field ??= CorrelationId.Next(); set; }

    public override IFeatureCollection Features => this;

    public override IDictionary<object, object?> Items { get => _items ??= new ConnectionItems(); set => _items = value; }

    public override IDuplexPipe Transport { get; set; }

    public override CancellationToken ConnectionClosed { get; set; }

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

    async ValueTask LingerAsync(Deadline deadline)
    {
        _socket.ShutdownSend();
        if (_socket.TryReceive(Loop.Scratch.Span) <= 0)
        {
            return;
        }
        Loop.Set(deadline, After(LingerMilliseconds));
        while (true)
        {
            await _socket.WaitReadableAsync();
            if (_socket.TryReceive(Loop.Scratch.Span) == 0)
            {
                return;
            }
        }
    }

    static long After(int milliseconds) => System.Diagnostics.Stopwatch.GetTimestamp() + (System.Diagnostics.Stopwatch.Frequency * milliseconds / 1000);

    void SayClosed()
    {
        if (Interlocked.Exchange(ref _closedSaid, 1) == 0)
        {
            // whoever listens may do anything: not on the loop
            ThreadPool.UnsafeQueueUserWorkItem(static closed => closed.Cancel(), _closed, preferLocal: false);
        }
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

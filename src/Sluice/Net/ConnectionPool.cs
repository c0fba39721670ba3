using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using Sluice.Net.Epoll;

namespace Sluice.Net;

/// <summary>Who asks for a connection, and may want it no longer before there is one.</summary>
internal interface IConnector
{
    /// <summary>While a new connection is being made: cancelled, it is given up.</summary>
    CancellationTokenSource? Connecting { set; }
}

/// <summary>
/// Connections to upstreams, kept between requests. The one used last is used next, so the others become idle and go. An idle connection is
/// watched by the wait for its next answer: what arrives before there was a request closes it. One timer for all of them.
/// </summary>
internal sealed class ConnectionPool : IDisposable
{
    static readonly TimeSpan SweepInterval = TimeSpan.FromSeconds(1);

    sealed class IdleList
    {
        /// <summary>Oldest first.</summary>
        public readonly List<PooledStream> Streams = [];
        public PoolLimits Limits = PoolLimits.Default;
    }

    readonly TimeProvider clock;
    readonly EventLoop? loop;
    readonly Lock gate = new();
    readonly Dictionary<UpstreamEndpoint, IdleList> idle = [];
    readonly ITimer sweeper;
    bool sweeping;
    bool disposed;
    int openCount;
    int idleCount;

    /// <param name="loop">Where its connections live; null: the framework's sockets.</param>
    public ConnectionPool(TimeProvider? clock = null, EventLoop? loop = null)
    {
        this.loop = loop;
        this.clock = clock ?? TimeProvider.System;
        sweeper = this.clock.CreateTimer(static pool => ((ConnectionPool)pool!).Sweep(), this, Timeout.InfiniteTimeSpan,
            Timeout.InfiniteTimeSpan);
    }

    /// <summary>Connections in use and idle.</summary>
    public int Open => Volatile.Read(ref openCount);

    public int Idle => Volatile.Read(ref idleCount);

    /// <summary>An idle connection, or a new one.</summary>
    /// <param name="fresh">Never an idle one: for the second try after <see cref="UpstreamException.StalePooledConnection"/>.</param>
    /// <exception cref="UpstreamException">The upstream can't be reached.</exception>
    /// <exception cref="OperationCanceledException">The connector wanted it no longer.</exception>
    public ValueTask<UpstreamConnection> RentAsync(UpstreamEndpoint endpoint, PoolLimits limits, TimeSpan connectTimeout, bool fresh,
        IConnector? connector)
    {
        if (!fresh && TakeIdle(endpoint, limits) is { } stream)
        {
            return new(new UpstreamConnection(this, stream, limits, reused: true));
        }
        return new(OpenAsync(endpoint, limits, connectTimeout, connector));
    }

    async Task<UpstreamConnection> OpenAsync(UpstreamEndpoint endpoint, PoolLimits limits, TimeSpan connectTimeout, IConnector? connector)
    {
        var stream = new PooledStream(endpoint, await ConnectAsync(endpoint, connectTimeout, connector));
        Interlocked.Increment(ref openCount);
        return new UpstreamConnection(this, stream, limits, reused: false);
    }

    async Task<ByteStream> ConnectAsync(UpstreamEndpoint endpoint, TimeSpan connectTimeout, IConnector? connector)
    {
        var handshaking = false;
        using var timeout = new CancellationTokenSource(connectTimeout, clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token);
        connector?.Connecting = either;
        try
        {
            ByteStream plain = loop is null
                ? await SocketByteStream.ConnectAsync(endpoint.Address, either.Token)
                : await LoopByteStream.ConnectAsync(loop, endpoint.Address, either.Token);
            handshaking = true;
            return endpoint.Tls.UseTls ? await TlsByteStream.ConnectAsync(plain, endpoint.Tls, either.Token) : plain;
        }
        catch (Exception error)
        {
            if (either.IsCancellationRequested && !timeout.IsCancellationRequested)
            {
                throw new OperationCanceledException("nobody wants the connection any more", error);
            }
            throw error switch
            {
                _ when timeout.IsCancellationRequested => Failure(UpstreamFailureKind.ConnectTimeout, endpoint.AddressText),
                AuthenticationException or IOException or ObjectDisposedException when handshaking =>
                    Failure(UpstreamFailureKind.TlsFailed, $"{endpoint.AddressText}: {(error.InnerException ?? error).Message}"),
                SocketException { SocketErrorCode: SocketError.ConnectionRefused } =>
                    Failure(UpstreamFailureKind.ConnectRefused, endpoint.AddressText),
                SocketException { SocketErrorCode: SocketError.TimedOut } =>
                    Failure(UpstreamFailureKind.ConnectTimeout, endpoint.AddressText),
                _ => Failure(UpstreamFailureKind.ConnectFailed, $"{endpoint.AddressText}: {error.Message}"),
            };

            UpstreamException Failure(UpstreamFailureKind kind, string detail) => new(kind, detail, error);
        }
        finally
        {
            connector?.Connecting = null;
        }
    }

    PooledStream? TakeIdle(UpstreamEndpoint endpoint, PoolLimits limits)
    {
        List<PooledStream>? expired = null;
        PooledStream? taken = null;
        lock (gate)
        {
            if (!idle.TryGetValue(endpoint, out var list))
            {
                return null;
            }
            list.Limits = limits;
            while (taken is null && list.Streams.Count > 0)
            {
                var last = list.Streams[^1];
                Forget(list, list.Streams.Count - 1);
                if (IsExpired(last, limits))
                {
                    (expired ??= []).Add(last);
                }
                else
                {
                    taken = last;
                    taken.Rented = true;
                }
            }
            RemoveIfEmpty(endpoint, list);
        }
        CloseAll(expired);
        return taken;
    }

    /// <summary>Takes a connection whose request and answer are both completely through.</summary>
    internal void Return(PooledStream stream, PoolLimits limits)
    {
        stream.Requests++;
        if (limits.Size <= 0 || (limits.MaxRequests > 0 && stream.Requests >= limits.MaxRequests))
        {
            Close(stream);
            return;
        }
        stream.WatchEnded = false;
        stream.Rented = false;
        if (!stream.Stream.TryWatch(stream.News ??= () => IdleHasNews(stream)))
        {
            stream.Watch = WatchAsync(stream);
        }
        List<PooledStream>? surplus = null;
        lock (gate)
        {
            if (disposed || stream.WatchEnded)
            {
                (surplus ??= []).Add(stream);
            }
            else
            {
                if (!idle.TryGetValue(stream.Endpoint, out var list))
                {
                    idle.Add(stream.Endpoint, list = new IdleList());
                }
                list.Limits = limits;
                stream.IdleSince = clock.GetTimestamp();
                stream.Idle = true;
                list.Streams.Add(stream);
                idleCount++;
                while (list.Streams.Count > limits.Size)
                {
                    (surplus ??= []).Add(list.Streams[0]);
                    Forget(list, 0);
                }
                if (!sweeping)
                {
                    sweeping = true;
                    sweeper.Change(SweepInterval, Timeout.InfiniteTimeSpan);
                }
            }
        }
        CloseAll(surplus);
    }

    internal void Close(PooledStream stream, bool reset = false)
    {
        if (stream.TryClose(reset))
        {
            Interlocked.Decrement(ref openCount);
        }
    }

    async Task<Exception?> WatchAsync(PooledStream stream)
    {
        var failure = await stream.WaitAsync();
        IdleHasNews(stream);
        return failure;
    }

    void IdleHasNews(PooledStream stream)
    {
        bool wasIdle;
        lock (gate)
        {
            stream.WatchEnded = true;
            wasIdle = stream.Idle;
            if (wasIdle && idle.TryGetValue(stream.Endpoint, out var list))
            {
                Forget(list, list.Streams.IndexOf(stream));
                RemoveIfEmpty(stream.Endpoint, list);
            }
        }
        if (wasIdle)
        {
            Close(stream);
        }
    }

    void Sweep()
    {
        List<PooledStream>? expired = null;
        lock (gate)
        {
            foreach (var (endpoint, list) in idle)
            {
                while (list.Streams.Count > 0 && IsExpired(list.Streams[0], list.Limits))
                {
                    (expired ??= []).Add(list.Streams[0]);
                    Forget(list, 0);
                }
                RemoveIfEmpty(endpoint, list);
            }
            sweeping = idleCount > 0 && !disposed;
            if (sweeping)
            {
                sweeper.Change(SweepInterval, Timeout.InfiniteTimeSpan);
            }
        }
        CloseAll(expired);
    }

    bool IsExpired(PooledStream stream, PoolLimits limits) =>
        limits.IdleTimeout > TimeSpan.Zero && clock.GetElapsedTime(stream.IdleSince) >= limits.IdleTimeout;

    void Forget(IdleList list, int index)
    {
        list.Streams[index].Idle = false;
        list.Streams.RemoveAt(index);
        idleCount--;
    }

    void RemoveIfEmpty(UpstreamEndpoint endpoint, IdleList list)
    {
        if (list.Streams.Count == 0)
        {
            idle.Remove(endpoint);
        }
    }

    void CloseAll(List<PooledStream>? streams)
    {
        foreach (var stream in streams ?? [])
        {
            Close(stream);
        }
    }

    /// <summary>Closes what is idle; what is in use closes when it is given back.</summary>
    public void Dispose()
    {
        List<PooledStream> all;
        lock (gate)
        {
            disposed = true;
            all = [.. idle.Values.SelectMany(list => list.Streams)];
            foreach (var stream in all)
            {
                stream.Idle = false;
            }
            idle.Clear();
            idleCount = 0;
        }
        sweeper.Dispose();
        CloseAll(all);
    }
}

/// <summary>A pool for each event loop, so that a request never changes threads, and one for whatever runs on none.</summary>
internal sealed class ConnectionPools : IDisposable
{
    readonly ConnectionPool _shared;
    readonly ConnectionPool[] _ofLoops;

    /// <param name="loops">Null: the framework's sockets for all.</param>
    public ConnectionPools(EventLoops? loops, TimeProvider clock)
    {
        _shared = new ConnectionPool(clock);
        _ofLoops = [.. loops?.All.Select(loop => new ConnectionPool(clock, loop)) ?? []];
    }

    /// <summary>The pool of the loop that this runs on.</summary>
    public ConnectionPool Here => EventLoop.Current is { } loop ? _ofLoops[loop.Index] : _shared;

    public int Open => _shared.Open + _ofLoops.Sum(pool => pool.Open);

    public int Idle => _shared.Idle + _ofLoops.Sum(pool => pool.Idle);

    public void Dispose()
    {
        _shared.Dispose();
        foreach (var pool in _ofLoops)
        {
            pool.Dispose();
        }
    }
}

using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace Sluice.Net;

/// <summary>
/// HTTP/2 towards upstreams: one <see cref="SocketsHttpHandler"/> for each address (and name and kind of TLS), which keeps and shares its
/// connections. Without TLS it speaks HTTP/2 from the first byte (prior knowledge), with TLS it insists on h2.
/// </summary>
internal sealed class Http2Connections(TimeProvider time) : IDisposable
{
    /// <summary>From so many addresses on those that nobody uses are given up: names may come from clients.</summary>
    const int ManyAddresses = 256;

    /// <summary>How long the connection that a request needs may take to be there.</summary>
    static readonly HttpRequestOptionsKey<TimeSpan> ConnectTimeout = new("sluice-connect-timeout");

    readonly ConcurrentDictionary<UpstreamEndpoint, Shared> _byEndpoint = [];
    volatile bool _disposed;

    sealed class Shared(HttpMessageInvoker invoker)
    {
        public readonly HttpMessageInvoker Invoker = invoker;
        public int Users;
        public bool IsGone;
    }

    /// <summary>The right to send one request. Give it back when the answer's end has been read.</summary>
    public readonly struct Lease : IDisposable
    {
        readonly Shared _shared;

        internal Lease(object shared) => _shared = (Shared)shared;

        public Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, TimeSpan connectTimeout, CancellationToken cancellation)
        {
            request.Version = HttpVersion.Version20;
            request.VersionPolicy = HttpVersionPolicy.RequestVersionExact;
            request.Options.Set(ConnectTimeout, connectTimeout);
            return _shared.Invoker.SendAsync(request, cancellation);
        }

        public void Dispose()
        {
            lock (_shared)
            {
                _shared.Users--;
            }
        }
    }

    public Lease Rent(UpstreamEndpoint endpoint, PoolLimits limits)
    {
        while (true)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (!_byEndpoint.TryGetValue(endpoint, out var shared))
            {
                GiveUpIdle();
                var made = new Shared(new HttpMessageInvoker(Handler(endpoint, limits)));
                shared = _byEndpoint.GetOrAdd(endpoint, made);
                if (shared != made)
                {
                    made.Invoker.Dispose();
                }
            }
            lock (shared)
            {
                if (!shared.IsGone)
                {
                    shared.Users++;
                    return new Lease(shared);
                }
            }
        }
    }

    void GiveUpIdle()
    {
        if (_byEndpoint.Count < ManyAddresses)
        {
            return;
        }
        foreach (var (endpoint, shared) in _byEndpoint)
        {
            lock (shared)
            {
                if (shared.Users > 0 || shared.IsGone)
                {
                    continue;
                }
                shared.IsGone = true;
            }
            _byEndpoint.TryRemove(KeyValuePair.Create(endpoint, shared));
            shared.Invoker.Dispose();
        }
    }

    SocketsHttpHandler Handler(UpstreamEndpoint endpoint, PoolLimits limits)
    {
        var handler = OutgoingHttp.Handler();
        handler.EnableMultipleHttp2Connections = true;
        handler.PooledConnectionIdleTimeout = limits.IdleTimeout > TimeSpan.Zero ? limits.IdleTimeout : Timeout.InfiniteTimeSpan;
        handler.ConnectCallback = (context, cancellation) => ConnectAsync(endpoint, context, cancellation);
        if (endpoint.Tls.UseTls)
        {
            // an empty name: no SNI
            handler.SslOptions.TargetHost = endpoint.Tls.ServerName ?? "";
            new OutgoingTls { Verify = endpoint.Tls.Verify, Client = endpoint.Tls.Client,
                Roots = endpoint.Tls.Roots }.Apply(handler.SslOptions);
        }
        return handler;
    }

    async ValueTask<Stream> ConnectAsync(UpstreamEndpoint endpoint, SocketsHttpConnectionContext context, CancellationToken cancellation)
    {
        var limit = context.InitialRequestMessage.Options.TryGetValue(ConnectTimeout, out var configured) ? configured
            : TimeSpan.FromSeconds(60);
        var socket = new Socket(endpoint.Address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        using var timeout = new CancellationTokenSource(limit, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellation);
        try
        {
            await socket.ConnectAsync(endpoint.Address, either.Token);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch (OperationCanceledException) when (timeout.IsCancellationRequested)
        {
            socket.Dispose();
            throw new UpstreamException(UpstreamFailureKind.ConnectTimeout, endpoint.AddressText);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>What an exception of a request or of the reading of its answer means.</summary>
    public static UpstreamException Failure(Exception error, string address)
    {
        for (var inner = error; inner is not null; inner = inner.InnerException)
        {
            if (inner is UpstreamException known)
            {
                return known;
            }
        }
        var root = error.GetBaseException();
        var kind = (error as HttpRequestException)?.HttpRequestError switch
        {
            HttpRequestError.ConnectionError => (root as SocketException)?.SocketErrorCode switch
            {
                SocketError.ConnectionRefused => UpstreamFailureKind.ConnectRefused,
                SocketError.TimedOut => UpstreamFailureKind.ConnectTimeout,
                _ => UpstreamFailureKind.ConnectFailed,
            },
            HttpRequestError.SecureConnectionError => UpstreamFailureKind.TlsFailed,
            HttpRequestError.VersionNegotiationError or HttpRequestError.ExtendedConnectNotSupported or HttpRequestError.InvalidResponse
                or HttpRequestError.ConfigurationLimitExceeded => UpstreamFailureKind.BadResponse,
            _ => root is HttpProtocolException or SocketException ? UpstreamFailureKind.Reset : UpstreamFailureKind.EarlyClose,
        };
        return new UpstreamException(kind, $"{address}: {root.Message}", error);
    }

    public void Dispose()
    {
        _disposed = true;
        foreach (var shared in _byEndpoint.Values)
        {
            shared.Invoker.Dispose();
        }
    }
}

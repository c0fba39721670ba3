using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;

namespace Sluice.Net;

/// <summary>
/// The gateway's own HTTP client: for everything that it asks in its own name (secret managers, service discovery, plugins that call out).
/// One pool of connections for each TLS setting; no redirects, no cookies, no proxy unless <see cref="OutgoingOptions.Proxy"/> names one;
/// every call has a time limit and every body that is gathered a limit of bytes. Names are resolved as upstreams' are.
/// </summary>
public sealed class OutgoingHttp : IDisposable
{
    readonly TimeProvider _time;
    readonly HostResolver? _resolver;

    internal OutgoingHttp(TimeProvider time, HostResolver? resolver = null) => (_time, _resolver) = (time, resolver);

    /// <summary>From so many settings on, the pools of those that nobody uses are given up.</summary>
    const int ManySettings = 32;

    static readonly HttpRequestOptionsKey<TimeSpan> ConnectTimeout = new("sluice-connect-timeout");

    readonly ConcurrentDictionary<Settings, Pool> _pools = [];
    volatile bool _disposed;

    /// <summary>What connections are not shared across.</summary>
    readonly record struct Settings(OutgoingTls Tls, Uri? Proxy, TimeSpan IdleTimeout, int MaxConnections);

    sealed class Pool(SocketsHttpHandler handler) : IDisposable
    {
        public HttpMessageInvoker Invoker { get; } = new(handler);
        public int Users;
        public bool IsGone;

        public void Leave()
        {
            lock (this)
            {
                Users--;
            }
        }

        public void Dispose() => Invoker.Dispose();
    }

    /// <summary>How many pools there are: one for each setting in use.</summary>
    public int Pools => _pools.Count;

    /// <summary>A request with a body and headers that are sent as they are given.</summary>
    public static HttpRequestMessage Request(
        string method, string uri, ReadOnlyMemory<byte>? body = null, string? contentType = null,
        IEnumerable<KeyValuePair<string, string>>? headers = null)
    {
        var request = new HttpRequestMessage(new HttpMethod(method), uri);
        if (body is { } bytes)
        {
            request.Content = new ReadOnlyMemoryContent(bytes);
            if (contentType is not null)
            {
                request.Content.Headers.TryAddWithoutValidation("Content-Type", contentType);
            }
        }
        foreach (var (name, value) in headers ?? [])
        {
            if (!request.Headers.TryAddWithoutValidation(name, value))
            {
                request.Content?.Headers.TryAddWithoutValidation(name, value);
            }
        }
        return request;
    }

    /// <summary>Sends and gathers the whole response, all within <see cref="OutgoingOptions.Timeout"/>.</summary>
    /// <exception cref="OutgoingException">It cannot be sent, is not answered in time, or the body is over the limit.</exception>
    public async Task<OutgoingResponse> SendAsync(HttpRequestMessage request, OutgoingOptions options, CancellationToken cancellation)
    {
        using var limit = new Limit(options.Timeout, _time, cancellation);
        using var response = await OpenAsync(request, options, limit);
        try
        {
            await response.GatherAsync(options.MaxResponseBytes, limit.Token);
            return response;
        }
        catch (Exception e) when (e is not OutgoingException && !cancellation.IsCancellationRequested)
        {
            throw Failure(e, limit);
        }
    }

    /// <summary>
    /// Sends and returns when the response's head is there, all within <see cref="OutgoingOptions.Timeout"/>; the body is read from
    /// <see cref="OutgoingResponse.Stream"/> for as long as it takes. Dispose of the response.
    /// </summary>
    /// <exception cref="OutgoingException">It cannot be sent or is not answered in time.</exception>
    public async Task<OutgoingResponse> OpenAsync(HttpRequestMessage request, OutgoingOptions options, CancellationToken cancellation)
    {
        using var limit = new Limit(options.Timeout, _time, cancellation);
        return await OpenAsync(request, options, limit);
    }

    async Task<OutgoingResponse> OpenAsync(HttpRequestMessage request, OutgoingOptions options, Limit limit)
    {
        var pool = Rent(new(options.Tls, options.Proxy, options.KeepAlive ? options.IdleTimeout : TimeSpan.Zero, options.MaxConnections));
        HttpResponseMessage? response = null;
        try
        {
            request.Options.Set(ConnectTimeout, options.ConnectTimeout);
            if (!options.KeepAlive)
            {
                request.Headers.ConnectionClose = true;
            }
            response = await pool.Invoker.SendAsync(request, limit.Token);
            return new OutgoingResponse(response, await response.Content.ReadAsStreamAsync(limit.Token), pool.Leave);
        }
        catch (Exception e)
        {
            response?.Dispose();
            pool.Leave();
            if (limit.Canceled)
            {
                throw;
            }
            throw Failure(e, limit);
        }
    }

    Pool Rent(Settings settings)
    {
        while (true)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (!_pools.TryGetValue(settings, out var pool))
            {
                GiveUpIdle();
                var made = new Pool(Handler(settings));
                pool = _pools.GetOrAdd(settings, made);
                if (pool != made)
                {
                    made.Dispose();
                }
            }
            lock (pool)
            {
                if (!pool.IsGone)
                {
                    pool.Users++;
                    return pool;
                }
            }
        }
    }

    /// <summary>Settings come from configurations, which change: what is in use stays.</summary>
    void GiveUpIdle()
    {
        if (_pools.Count < ManySettings)
        {
            return;
        }
        foreach (var (settings, pool) in _pools)
        {
            lock (pool)
            {
                if (pool.Users > 0 || pool.IsGone)
                {
                    continue;
                }
                pool.IsGone = true;
            }
            _pools.TryRemove(KeyValuePair.Create(settings, pool));
            pool.Dispose();
        }
    }

    SocketsHttpHandler Handler(Settings settings)
    {
        var handler = Handler();
        handler.ConnectTimeout = Timeout.InfiniteTimeSpan; // each request has its own
        handler.PooledConnectionIdleTimeout = settings.IdleTimeout;
        handler.PooledConnectionLifetime = TimeSpan.FromMinutes(5);
        handler.MaxConnectionsPerServer = settings.MaxConnections;
        handler.ConnectCallback = settings.Tls.ServerName is null || settings.Proxy is not null
            ? ConnectAsync
            : (context, cancellation) => ConnectTlsAsync(settings.Tls, context, cancellation);
        settings.Tls.Apply(handler.SslOptions);
        if (settings.Proxy is { } proxy)
        {
            handler.UseProxy = true;
            handler.Proxy = new WebProxy(proxy);
        }
        return handler;
    }

    /// <summary>What holds for every HTTP client of the gateway, whoever pools its connections.</summary>
    public static SocketsHttpHandler Handler() => new()
    {
        AllowAutoRedirect = false,
        UseProxy = false,
        UseCookies = false,
        ActivityHeadersPropagator = null,
        MaxResponseHeadersLength = 64,
        RequestHeaderEncodingSelector = static (_, _) => Encoding.Latin1,
        ResponseHeaderEncodingSelector = static (_, _) => Encoding.Latin1,
    };

    async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancellation)
    {
        var patience = context.InitialRequestMessage.Options.TryGetValue(ConnectTimeout, out var configured) ? configured
            : TimeSpan.FromSeconds(60);
        using var limit = new Limit(patience, _time, cancellation);
        var (host, port) = (context.DnsEndPoint.Host, context.DnsEndPoint.Port);
        Socket? socket = null;
        try
        {
            if (_resolver is null)
            {
                socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                await socket.ConnectAsync(host, port, limit.Token);
            }
            else
            {
                var address = (await _resolver.ResolveAsync(host.Trim('[', ']'), limit.Token)).Next();
                socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                await socket.ConnectAsync(new IPEndPoint(address, port), limit.Token);
            }
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch (Exception e)
        {
            socket?.Dispose();
            if (limit.Canceled)
            {
                throw;
            }
            throw e is OperationCanceledException ? new OutgoingException(OutgoingFailure.Timeout, "timeout", e) : Failure(e, limit);
        }
    }

    /// <summary>The handler itself takes the name to check from the address.</summary>
    async ValueTask<Stream> ConnectTlsAsync(OutgoingTls tls, SocketsHttpConnectionContext context, CancellationToken cancellation)
    {
        var connection = await ConnectAsync(context, cancellation);
        if (context.InitialRequestMessage.RequestUri!.Scheme != Uri.UriSchemeHttps)
        {
            return connection;
        }
        var secured = new SslStream(connection);
        try
        {
            var options = new SslClientAuthenticationOptions { TargetHost = tls.ServerName };
            if (context.InitialRequestMessage.Version.Major == 2)
            {
                options.ApplicationProtocols = [SslApplicationProtocol.Http2];
            }
            tls.Apply(options);
            await secured.AuthenticateAsClientAsync(options, cancellation);
            return secured;
        }
        catch (Exception e)
        {
            await secured.DisposeAsync();
            if (e is System.Security.Authentication.AuthenticationException)
            {
                throw new OutgoingException(OutgoingFailure.Tls, e.Message, e);
            }
            throw;
        }
    }

    /// <summary>In nginx's words where it has any: they stand in logs.</summary>
    static OutgoingException Failure(Exception error, Limit limit)
    {
        for (var inner = error; inner is not null; inner = inner.InnerException)
        {
            if (inner is OutgoingException known)
            {
                return known;
            }
        }
        if (limit.Expired)
        {
            return new(OutgoingFailure.Timeout, "timeout", error);
        }
        var root = error.GetBaseException();
        return root switch
        {
            UpstreamException unresolved => new(OutgoingFailure.Connect, unresolved.Message, error),
            SocketException { SocketErrorCode: SocketError.ConnectionRefused } => new(OutgoingFailure.Connect, "connection refused", error),
            SocketException { SocketErrorCode: SocketError.TimedOut } => new(OutgoingFailure.Timeout, "timeout", error),
            SocketException { SocketErrorCode: SocketError.ConnectionReset } =>
                new(OutgoingFailure.Broken, "connection reset by peer", error),
            SocketException => new(OutgoingFailure.Connect, root.Message, error),
            _ => (error as HttpRequestException)?.HttpRequestError switch
            {
                HttpRequestError.SecureConnectionError => new(OutgoingFailure.Tls, root.Message, error),
                HttpRequestError.ResponseEnded => new(OutgoingFailure.Broken, "closed", error),
                _ => new(OutgoingFailure.Broken, root.Message, error),
            },
        };
    }

    public void Dispose()
    {
        _disposed = true;
        foreach (var pool in _pools.Values)
        {
            pool.Dispose();
        }
        _pools.Clear();
    }

    /// <summary>A time limit of the gateway's clock together with the caller's token.</summary>
    sealed class Limit : IDisposable
    {
        readonly CancellationToken _caller;
        readonly CancellationTokenSource? _timeout;
        readonly CancellationTokenSource _either;

        public Limit(TimeSpan limit, TimeProvider time, CancellationToken caller)
        {
            _caller = caller;
            _timeout = limit == Timeout.InfiniteTimeSpan ? null : new(limit, time);
            _either = CancellationTokenSource.CreateLinkedTokenSource(caller, _timeout?.Token ?? CancellationToken.None);
        }

        public CancellationToken Token => _either.Token;

        public bool Expired => _timeout?.IsCancellationRequested == true;

        /// <summary>The caller has given up, whatever the time.</summary>
        public bool Canceled => _caller.IsCancellationRequested && !Expired;

        public void Dispose()
        {
            _either.Dispose();
            _timeout?.Dispose();
        }
    }
}

/// <summary>How an <see cref="OutgoingHttp"/> call is made.</summary>
public sealed record OutgoingOptions
{
    /// <summary>Until the connection is there, TLS not included.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The whole call, the connection included.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>A gathered body of more bytes is a failure.</summary>
    public int MaxResponseBytes { get; init; } = 1024 * 1024;

    public OutgoingTls Tls { get; init; } = OutgoingTls.Verified;

    /// <summary>False: a connection for this call alone.</summary>
    public bool KeepAlive { get; init; } = true;

    /// <summary>How long a connection waits for the next call.</summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Connections to one server at a time.</summary>
    public int MaxConnections { get; init; } = int.MaxValue;

    /// <summary>A proxy that the configuration names; the environment's is never used.</summary>
    public Uri? Proxy { get; init; }
}

/// <summary>How the other side of an <see cref="OutgoingHttp"/> call is trusted and what it is shown. Equal when it says the
/// same.</summary>
public sealed record OutgoingTls
{
    public static OutgoingTls Verified { get; } = new();

    /// <summary><c>ssl_verify: false</c>: any certificate will do.</summary>
    public static OutgoingTls Unverified { get; } = new() { Verify = false };

    public bool Verify { get; init; } = true;

    /// <summary>The name to ask for and to check; null: the host of the address. It has no effect behind a proxy.</summary>
    public string? ServerName { get; init; }

    /// <summary>What the gateway shows of itself; null: nothing.</summary>
    internal ClientCertificate? Client { get; init; }

    /// <summary>Null: the system's.</summary>
    internal TrustedRoots? Roots { get; init; }

    public void Apply(SslClientAuthenticationOptions options)
    {
        options.ClientCertificateContext = Client?.Context;
        options.CertificateChainPolicy = Roots?.Policy();
        if (!Verify)
        {
#pragma warning disable CA5359 // the configuration says so
            options.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
    }
}

/// <summary>What came back from an <see cref="OutgoingHttp"/> call.</summary>
public sealed class OutgoingResponse : IDisposable
{
    readonly HttpResponseMessage _response;
    Action? _leave;

    internal OutgoingResponse(HttpResponseMessage response, Stream stream, Action leave)
    {
        _response = response;
        Stream = stream;
        _leave = leave;
    }

    public int Status => (int)_response.StatusCode;

    public bool IsSuccess => _response.IsSuccessStatusCode;

    /// <summary>The whole body, of <see cref="OutgoingHttp.SendAsync"/>.</summary>
    public ReadOnlyMemory<byte> Body { get; private set; }

    /// <summary>The body as it comes, of <see cref="OutgoingHttp.OpenAsync"/>.</summary>
    public Stream Stream { get; }

    public string Text => Encoding.UTF8.GetString(Body.Span);

    /// <summary>All headers, in order; one that was sent twice is there twice.</summary>
    public IEnumerable<KeyValuePair<string, string>> Headers =>
        _response.Headers.NonValidated.Concat(_response.Content.Headers.NonValidated)
            .SelectMany(header => header.Value.Select(value => KeyValuePair.Create(header.Key, value)));

    /// <summary>The first value of a header; null when it is not there.</summary>
    public string? Header(string name)
    {
        foreach (var (known, value) in Headers)
        {
            if (known.Equals(name, StringComparison.OrdinalIgnoreCase))
            {
                return value;
            }
        }
        return null;
    }

    internal async Task GatherAsync(int limit, CancellationToken cancellation)
    {
        if (_response.Content.Headers.ContentLength > limit)
        {
            throw TooLarge(limit);
        }
        var body = new MemoryStream();
        var piece = new byte[16 * 1024];
        while (await Stream.ReadAsync(piece, cancellation) is > 0 and var count)
        {
            if (body.Length + count > limit)
            {
                throw TooLarge(limit);
            }
            body.Write(piece, 0, count);
        }
        Body = body.GetBuffer().AsMemory(0, (int)body.Length);
    }

    static OutgoingException TooLarge(int limit) => new(OutgoingFailure.TooLarge, $"the response is larger than {limit} bytes");

    public void Dispose()
    {
        _response.Dispose();
        Interlocked.Exchange(ref _leave, null)?.Invoke();
    }
}

/// <summary>Why an <see cref="OutgoingHttp"/> call failed.</summary>
public enum OutgoingFailure
{
    Connect,
    Tls,
    Timeout,
    TooLarge,
    Broken,
}

/// <summary>An <see cref="OutgoingHttp"/> call failed; the message is what a log says of it.</summary>
public sealed class OutgoingException(OutgoingFailure kind, string message, Exception? inner = null) : IOException(message, inner)
{
    public OutgoingFailure Kind { get; } = kind;
}

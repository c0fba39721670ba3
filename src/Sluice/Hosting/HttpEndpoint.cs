using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging;
using Sluice.Hosting.Streams;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Net.Http1;
using Sluice.Observability;

namespace Sluice.Hosting;

/// <summary>One address that the gateway listens on: a Kestrel server of its own, so that a reload opens and closes addresses one by one.</summary>
sealed class HttpEndpoint : IAsyncDisposable
{
    readonly WebApplication _services;
    readonly IServer _server;
    readonly KestrelServerOptions _options;
    readonly ListenOptions _listen;
    readonly IHttp1Server? _http1;
    readonly bool _straight;

    /// <summary>A line ends with CRLF: with LF alone, too, a header could hide from another server.</summary>
    static HttpEndpoint() => AppContext.SetSwitch("Microsoft.AspNetCore.Server.Kestrel.DisableHttp1LineFeedTerminators", true);

    HttpEndpoint(EndpointAddress address, WebApplication services, KestrelServerOptions options, ListenOptions listen, IHttp1Server? http1, bool straight)
    {
        Address = address;
        _services = services;
        _server = services.Services.GetRequiredService<IServer>();
        _options = options;
        _listen = listen;
        _http1 = http1;
        _straight = straight;
    }

    /// <summary>As configured; port 0 stays 0 here.</summary>
    public EndpointAddress Address { get; }

    /// <summary>As bound.</summary>
    public IPEndPoint Bound => _listen.IPEndPoint!;

    public KestrelServerLimits Limits => _options.Limits;

    /// <summary>Binds and begins to accept.</summary>
    /// <param name="loops">Who serves the connections; null: the framework's sockets.</param>
    /// <exception cref="EndpointException">The address is in use or not there; the message names it and, where it can be found, the holder.</exception>
    public static async Task<HttpEndpoint> StartAsync<TContext>(
        EndpointAddress address, IHttpApplication<TContext> application, EventLoops? loops, ILoggerFactory loggers, Action<KestrelServerLimits> limit,
        CancellationToken cancellation, ForClients? forClients = null)
        where TContext : notnull
    {
        var priorKnowledge = address is { Http2: true, Tls: false } ? new Http2PriorKnowledge() : null;
        var http1Settings = forClients is null ? null : new Http1Settings(forClients.Time);
        // HTTP/1 towards clients is ours, HTTP/2 Kestrel's
        var http1 = http1Settings is null
            ? null
            : new Http1Server<TContext>(http1Settings, application, priorKnowledge is null ? null : priorKnowledge.HandOverAsync, forClients!.Meters);
        // nothing has to be done before the first request
        var straight = loops is not null && http1 is not null && address is { Tls: false, ProxyProtocol: false };
        KestrelServerOptions options = null!;
        ListenOptions listen = null!;
        var builder = WebApplication.CreateEmptyBuilder(new());
        builder.Services.AddSingleton(loggers);
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel =>
        {
            options = kestrel;
            Harden(kestrel);
            limit(kestrel.Limits);
            kestrel.Listen(address.EndPoint, endpoint =>
            {
                listen = endpoint;
                endpoint.Protocols = address is { Http2: true, Tls: true } ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1;
                if (address.Http3)
                {
                    endpoint.Protocols |= HttpProtocols.Http3;
                }
                if (forClients is not null)
                {
                    endpoint.Use(next => connection => CountedAsync(next, connection, forClients.Meters));
                }
                if (address.ProxyProtocol)
                {
                    var log = loggers.CreateLogger<HttpEndpoint>();
                    endpoint.Use(next => ProxyOpening.Use(next, log));
                }
                if (address.Tls)
                {
                    endpoint.Use(forClients!.Tls.Use);
                    endpoint.UseHttps(forClients.Tls.Kestrel);
                }
                if (http1 is not null)
                {
                    http1Settings!.Limits = kestrel.Limits;
                    endpoint.Use(http2 => connection => IsHttp2(connection) ? http2(Numbered(connection)) : http1.RunAsync(connection));
                }
            });
            if (priorKnowledge is not null)
            {
                kestrel.Listen(priorKnowledge.EndPoint, endpoint => endpoint.Protocols = HttpProtocols.Http2);
            }
        });
        if (address.Http3)
        {
            builder.WebHost.UseQuic();
        }
        builder.Services.Configure<SocketTransportOptions>(sockets => sockets.CreateBoundListenSocket = endpoint => Bind((IPEndPoint)endpoint, address.DualMode));
        if (loops is not null)
        {
            builder.Services.AddSingleton<IConnectionListenerFactory>(
                new EpollTransport(loops, address.DualMode, loggers.CreateLogger<EpollTransport>(), straight ? http1 : null));
        }
        if (priorKnowledge is not null)
        {
            // beside the socket transport, which Kestrel adds only where there is none yet
            builder.Services.AddSingleton<IConnectionListenerFactory>(priorKnowledge);
        }
        var services = builder.Build();
        var server = services.Services.GetRequiredService<IServer>();
        try
        {
            await server.StartAsync(application, cancellation);
        }
        catch (Exception e) when (e is IOException { InnerException: AddressInUseException } or SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse })
        {
            await services.DisposeAsync();
            throw new EndpointException($"{address}: address already in use{PortHolder.Describe(address.EndPoint.Port)}", e);
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            await services.DisposeAsync();
            throw new EndpointException($"{address}: cannot listen: {e.Message}", e);
        }
        return new HttpEndpoint(address, services, options, listen, http1, straight);
    }

    static bool IsHttp2(ConnectionContext connection) =>
        connection.Features.Get<ISslStreamFeature>()?.SslStream.NegotiatedApplicationProtocol == SslApplicationProtocol.Http2;

    static ConnectionContext Numbered(ConnectionContext connection)
    {
        connection.Features.Set<IConnectionCounts>(new ConnectionCounts());
        return connection;
    }

    static async Task CountedAsync(ConnectionDelegate next, ConnectionContext connection, ConnectionMeters meters)
    {
        meters.Opened();
        try
        {
            await next(connection);
        }
        finally
        {
            meters.Closed();
        }
    }

    /// <summary>IPv4 has a socket of its own, unless the address says otherwise: an IPv6 one that takes it too would be in its way.</summary>
    static Socket Bind(IPEndPoint endpoint, bool dualMode)
    {
        var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            if (endpoint.AddressFamily == AddressFamily.InterNetworkV6)
            {
                socket.DualMode = dualMode;
            }
            socket.Bind(endpoint);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    static void Harden(KestrelServerOptions options)
    {
        options.AddServerHeader = false;
        options.AllowResponseHeaderCompression = true;
        // header values are bytes: they leave as they came
        options.RequestHeaderEncodingSelector = static _ => Encoding.Latin1;
        options.ResponseHeaderEncodingSelector = static _ => Encoding.Latin1;
        // bodies are bounded by client_max_body_size, silences by client_body_timeout and send_timeout
        options.Limits.MaxRequestBodySize = null;
        options.Limits.MinRequestBodyDataRate = null;
        options.Limits.MinResponseDataRate = null;
    }

    /// <summary>Accepts nothing new; requests under way end until the token says that it takes too long, then they are aborted.</summary>
    public async Task StopAsync(CancellationToken tooLong)
    {
        if (_http1 is null)
        {
            await _server.StopAsync(tooLong);
            return;
        }
        if (!_straight)
        {
            // otherwise the listener says it, when it takes no more connections
            _http1.Stop();
        }
        await _server.StopAsync(tooLong);
        await _http1.EndAsync(tooLong);
    }

    public async ValueTask DisposeAsync()
    {
        using (var now = new CancellationTokenSource())
        {
            await now.CancelAsync();
            await StopAsync(now.Token);
        }
        await _services.DisposeAsync();
        _http1?.Dispose();
    }
}

/// <summary>What addresses have that take requests to forward.</summary>
sealed record ForClients(TimeProvider Time, ConnectionMeters Meters, TlsTermination Tls);

/// <param name="Http2">Plaintext: HTTP/2 with prior knowledge beside HTTP/1.1; TLS: by ALPN.</param>
sealed record EndpointAddress(IPEndPoint EndPoint, bool Http2 = false, bool Tls = false)
{
    /// <summary>HTTP/3 on the UDP port of the same number.</summary>
    public bool Http3 { get; init; }

    /// <summary>Connections begin with a PROXY header.</summary>
    public bool ProxyProtocol { get; init; }

    /// <summary>No harm when the machine does not have it (the IPv6 half of an address without an IP).</summary>
    public bool Optional { get; init; }

    /// <summary>An IPv6 address takes IPv4 clients too.</summary>
    public bool DualMode { get; init; }

    public override string ToString() => EndPoint.ToString();
}

/// <summary>An address cannot be listened on.</summary>
sealed class EndpointException(string message, Exception inner) : Exception(message, inner);

/// <summary>Serves a plain handler, for the gateway's own interfaces (Admin API, Control API, status, metrics).</summary>
sealed class HandlerApplication(RequestDelegate handler) : IHttpApplication<HttpContext>
{
    public HttpContext CreateContext(IFeatureCollection contextFeatures) => new DefaultHttpContext(contextFeatures);

    public Task ProcessRequestAsync(HttpContext context) => handler(context);

    public void DisposeContext(HttpContext context, Exception? exception)
    {
    }
}

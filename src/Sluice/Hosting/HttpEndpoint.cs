using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Net.Http1;

namespace Sluice.Hosting;

/// <summary>One address that the gateway listens on: a Kestrel server of its own, so that a reload opens and closes addresses one by
/// one.</summary>
sealed class HttpEndpoint : IAsyncDisposable
{
    readonly WebApplication _services;
    readonly IServer _server;
    readonly KestrelAddress _kestrel;
    readonly IHttp1Server? _http1;
    readonly bool _straight;
    readonly ListenSockets? _sockets;

    HttpEndpoint(EndpointAddress address, WebApplication services, KestrelAddress kestrel, IHttp1Server? http1, bool straight,
        ListenSockets? sockets)
    {
        _sockets = sockets;
        Address = address;
        _services = services;
        _server = services.Services.GetRequiredService<IServer>();
        _kestrel = kestrel;
        _http1 = http1;
        _straight = straight;
    }

    /// <summary>As configured; port 0 stays 0 here.</summary>
    public EndpointAddress Address { get; }

    /// <summary>As bound.</summary>
    public IPEndPoint Bound => _kestrel.Listener.IPEndPoint!;

    public KestrelServerLimits Limits => _kestrel.Options.Limits;

    /// <summary>For connections that come from now on.</summary>
    public void KeepAlive(KeepAliveSettings keepAlive) => _sockets?.Change(keepAlive);

    /// <summary>Binds and begins to accept.</summary>
    /// <param name="loops">Who serves the connections; null: the framework's sockets.</param>
    /// <exception cref="EndpointException">The address is in use or not there; the message names it and, where it can be found, the
    /// holder.</exception>
    public static async Task<HttpEndpoint> StartAsync<TContext>(
        EndpointAddress address, IHttpApplication<TContext> application, EventLoops? loops, ILoggerFactory loggers,
        Action<KestrelServerLimits> limit,
        CancellationToken cancellation, ForClients? forClients = null)
        where TContext : notnull
    {
        var priorKnowledge = address is { Http2: true, Tls: false } ? new Http2PriorKnowledge() : null;
        var http1Settings = forClients is null ? null : new Http1Settings(forClients.Time);
        // HTTP/1 towards clients is ours, HTTP/2 Kestrel's
        var http1 = http1Settings is null
            ? null
            : new Http1Server<TContext>(http1Settings, application, priorKnowledge is null ? null : priorKnowledge.HandOverAsync,
                forClients!.Meters);
        // nothing has to be done before the first request
        var straight = loops is not null && http1 is not null && address is { Tls: false, ProxyProtocol: false };
        var sockets = forClients is null ? null : new ListenSockets(forClients.KeepAlive);
        var kestrel = new KestrelAddress(address, forClients, http1, http1Settings, priorKnowledge, loggers);
        var builder = WebApplication.CreateEmptyBuilder(new());
        builder.Services.AddSingleton(loggers);
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(options => kestrel.Configure(options, limit));
        if (address.Http3)
        {
            builder.WebHost.UseQuic();
        }
        builder.Services.Configure<SocketTransportOptions>(transport =>
        {
            transport.CreateBoundListenSocket = endpoint => KestrelAddress.Bind((IPEndPoint)endpoint, address.DualMode, sockets);
            // a flush ends when the kernel has the bytes: those still in Kestrel's pipe when an answer is cut off would be lost
            transport.MaxWriteBufferSize = 2;
        });
        if (loops is not null)
        {
            builder.Services.AddSingleton<IConnectionListenerFactory>(
                new EpollTransport(loops, address.DualMode, loggers.CreateLogger<EpollTransport>(), straight ? http1 : null, sockets));
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
        catch (Exception e)
            when (e is IOException { InnerException: AddressInUseException }
                or SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse })
        {
            await services.DisposeAsync();
            throw new EndpointException(address.Place.Text ?? "conf/config.yaml",
                $"{address}: address already in use{PortHolder.Describe(address.EndPoint.Port)}", e);
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            await services.DisposeAsync();
            throw new EndpointException(address.Place.Text ?? "conf/config.yaml", $"{address}: cannot listen: {e.Message}", e);
        }
        return new HttpEndpoint(address, services, kestrel, http1, straight, sockets);
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

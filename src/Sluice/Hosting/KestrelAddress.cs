using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.Logging;
using Sluice.Hosting.Streams;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Net.Http1;
using Sluice.Observability;

namespace Sluice.Hosting;

/// <summary>What addresses have that take requests to forward.</summary>
sealed record ForClients(TimeProvider Time, ConnectionMeters Meters, TlsTermination Tls, KeepAliveSettings KeepAlive);

/// <summary>What Kestrel is told of one address: its limits, its protocols, and what stands before them on each connection.</summary>
/// <param name="http1">Takes the connections that speak HTTP/1.1; null: Kestrel does.</param>
/// <param name="priorKnowledge">Takes those that speak HTTP/2 without TLS; null: nobody does.</param>
sealed class KestrelAddress(
    EndpointAddress address, ForClients? forClients, IHttp1Server? http1, Http1Settings? http1Settings, Http2PriorKnowledge? priorKnowledge,
    ILoggerFactory loggers)
{
    readonly ILogger _floods = loggers.CreateLogger<Http2FloodGuard>();

    /// <summary>A line ends with CRLF: with LF alone, too, a header could hide from another server.</summary>
    static KestrelAddress() => AppContext.SetSwitch("Microsoft.AspNetCore.Server.Kestrel.DisableHttp1LineFeedTerminators", true);

    public KestrelServerOptions Options { get; private set; } = null!;

    /// <summary>Has the address as it was bound, once the server has started.</summary>
    public ListenOptions Listener { get; private set; } = null!;

    public void Configure(KestrelServerOptions options, Action<KestrelServerLimits> limit)
    {
        Options = options;
        Harden(options);
        limit(options.Limits);
        options.Listen(address.EndPoint, Listen);
        if (priorKnowledge is not null)
        {
            options.Listen(priorKnowledge.EndPoint, ListenForPriorKnowledge);
        }
    }

    /// <summary>In the order in which a connection meets them.</summary>
    void Listen(ListenOptions listener)
    {
        Listener = listener;
        listener.Protocols = (address is { Http2: true, Tls: true } ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1)
            | (address.Http3 ? HttpProtocols.Http3 : HttpProtocols.None);
        if (forClients is not null)
        {
            listener.Use(next => connection => CountedAsync(next, connection, forClients.Meters));
        }
        if (address.ProxyProtocol)
        {
            var log = loggers.CreateLogger<HttpEndpoint>();
            listener.Use(next => ProxyOpening.Use(next, log));
        }
        if (address.Tls)
        {
            listener.Use(forClients!.Tls.Use);
            listener.UseHttps(forClients.Tls.Kestrel);
        }
        if (http1 is not null)
        {
            http1Settings!.Limits = Options.Limits;
            listener.Use(http2 => connection => IsHttp2(connection)
                ? Http2FloodGuard.RunAsync(http2, Numbered(connection), forClients!.Time, _floods)
                : http1.RunAsync(connection));
        }
    }

    void ListenForPriorKnowledge(ListenOptions listener)
    {
        listener.Protocols = HttpProtocols.Http2;
        listener.Use(http2 => connection => Http2FloodGuard.RunAsync(http2, connection, forClients?.Time ?? TimeProvider.System, _floods));
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
        if (connection.Features.Get<IConnectionSocketFeature>()?.Socket is { } socket && Descriptors.IsShort(socket.Handle))
        {
            // the framework's sockets; event loops look when they accept
            connection.Abort();
            return;
        }
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

    /// <summary>IPv4 has a socket of its own, unless the address says otherwise: an IPv6 one that takes it too would be in its
    /// way.</summary>
    public static Socket Bind(IPEndPoint endpoint, bool dualMode, ListenSockets? sockets = null)
    {
        var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            if (endpoint.AddressFamily == AddressFamily.InterNetworkV6)
            {
                socket.DualMode = dualMode;
            }
            socket.Bind(endpoint);
            sockets?.Add(keepAlive => TcpKeepAlive.Apply(keepAlive, socket));
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
}

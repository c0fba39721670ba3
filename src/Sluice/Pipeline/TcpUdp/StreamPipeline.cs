using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Sluice.Model;
using Sluice.Net;
using Sluice.Upstreams;
using Sluice.Upstreams.Discovery;

namespace Sluice.Pipeline.TcpUdp;

/// <summary>What happens to a session: match → preread (plugins) → pick node, connect, retries → relay → end.</summary>
/// <param name="log">Writes a session that has ended into the access log.</param>
internal sealed partial class StreamPipeline(PluginServices services, HostResolver resolver, Action<StreamSession> log,
    ILogger<StreamPipeline> logger)
{
    static readonly TimeSpan DefaultConnect = TimeSpan.FromSeconds(60), DefaultIdle = TimeSpan.FromMinutes(10);

    public PluginServices Services => services;

    /// <summary>Match and preread. False: the session ends here, and the log says why.</summary>
    public async ValueTask<bool> AdmitAsync(StreamSession session)
    {
        if (session.Snapshot.StreamRoutes.Match(session) is not { } route)
        {
            LogNoRoute(session.Remote, session.Local, session.ServerName ?? "");
            session.Status = 503;
            return false;
        }
        session.Route = route;
        foreach (var (known, use) in route.Chain.Steps(Phase.Preread))
        {
            if (!use.AppliesTo(session))
            {
                continue;
            }
            var (plugin, refusal) = known is null && use.Deferred is { } deferred ? await deferred.GetAsync(session.Items) : (known, null);
            if ((refusal ?? (plugin is IStreamAccess phase ? await phase.AdmitAsync(session) : null)) is { } why)
            {
                LogRefused(route.Config.Id, use.Descriptor.Name, session.Remote, why);
                session.Status = 403;
                return false;
            }
            if (plugin is IStreamEnd end)
            {
                session.LetIn.Add(end);
            }
        }
        return true;
    }

    /// <summary>Silence that ends a session.</summary>
    public static TimeSpan Idle(StreamSession session) =>
        session.Route?.Upstream?.Config.Timeout?.Read is { } seconds ? TimeSpan.FromSeconds(seconds) : DefaultIdle;

    /// <summary>Connects to a node, or to the next when one cannot be reached; null when none can.</summary>
    public async Task<UpstreamPeer?> ConnectAsync(StreamSession session, CancellationToken cancellation)
    {
        if (session.Route!.Upstream is not { } upstream)
        {
            LogNoUpstream(session.Route.Config.Id);
            session.Status = 503;
            return null;
        }
        try
        {
            await upstream.RefreshAsync(cancellation);
        }
        catch (DiscoveryException e)
        {
            LogNoNode(session.Route.Config.Id, e.Message);
            session.Status = 503;
            return null;
        }
        var picks = upstream.Begin(HashKeyOf(session, upstream.Config));
        for (var attempt = 0; picks.Next() is { } node; attempt++)
        {
            var began = services.Time.GetTimestamp();
            try
            {
                var peer = await ConnectAsync(session, upstream, node, cancellation);
                picks.Took(services.Time.GetElapsedTime(began));
                session.UpstreamAddress = session.UpstreamAddress is null ? peer.Address : $"{session.UpstreamAddress}, {peer.Address}";
                return peer with { Picks = picks };
            }
            catch (Exception e) when (!cancellation.IsCancellationRequested
                && e is SocketException or IOException or OperationCanceledException
                or System.Security.Authentication.AuthenticationException or UpstreamException)
            {
                picks.Failed(timeout: e is OperationCanceledException);
                session.UpstreamAddress = session.UpstreamAddress is null ? node.Name : $"{session.UpstreamAddress}, {node.Name}";
                LogNodeFailed(session.Route.Config.Id, node.Name, e is OperationCanceledException ? "connect timeout" : e.Message);
                if (attempt >= picks.Retries)
                {
                    break;
                }
            }
        }
        picks.Dispose();
        session.Status = 502;
        return null;
    }

    async Task<UpstreamPeer> ConnectAsync(StreamSession session, Upstream upstream, Node node, CancellationToken cancellation)
    {
        using var patience = new CancellationTokenSource(upstream.Config.Timeout?.Connect is { } seconds ? TimeSpan.FromSeconds(seconds)
            : DefaultConnect, services.Time);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, cancellation);
        var address = (await resolver.ResolveAsync(node.Config.Host, end.Token)).Next();
        var target = new IPEndPoint(address, node.Port);
        var socket = session.IsUdp
            ? new Socket(address.AddressFamily, SocketType.Dgram, ProtocolType.Udp)
            : new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(target, end.Token);
            if (session.IsUdp)
            {
                return new(target.ToString(), socket, Stream.Null);
            }
            Stream stream = new NetworkStream(socket, ownsSocket: false);
            if (session.Snapshot.Settings.Streams.ProxyProtocolOut)
            {
                await stream.WriteAsync(ProxyHeader.Write(session.Remote, session.Local), end.Token);
            }
            return new(target.ToString(), socket,
                upstream.Config.Scheme == "tls" ? await SecureAsync(stream, upstream, node, end.Token) : stream);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    static async Task<Stream> SecureAsync(Stream stream, Upstream upstream, Node node, CancellationToken cancellation)
    {
        var tls = new SslStream(stream);
        var options = new SslClientAuthenticationOptions
        {
            TargetHost = upstream.Config.UpstreamHost ?? node.HostName,
            AllowRenegotiation = false,
            ClientCertificateContext = upstream.ClientCertificate?.Context,
            CertificateChainPolicy = upstream.Roots?.Policy(),
        };
        if (upstream.Config.Tls?.Verify != true)
        {
#pragma warning disable CA5359 // the upstream's tls.verify is not true
            options.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        await tls.AuthenticateAsClientAsync(options, cancellation);
        return tls;
    }

    /// <summary>What <c>chash</c> goes by; the client's address where it has no value.</summary>
    static string HashKeyOf(StreamSession session, UpstreamConfig config)
    {
        if (config.Type != "chash")
        {
            return "";
        }
        var resolved = 1;
        var value = config.HashOn == "vars_combinations" ? Template.Expand(config.Key ?? "", session, null, out resolved)
            : session.Get(config.Key ?? "");
        return resolved > 0 && !string.IsNullOrEmpty(value) ? value : session.Get("remote_addr")!;
    }

    /// <summary>Tells the plugins and the log.</summary>
    public void End(StreamSession session, string how)
    {
        foreach (var plugin in session.LetIn)
        {
            try
            {
                plugin.Ended(session);
            }
            catch (Exception e)
            {
                LogEndFailed(e, session.Route?.Config.Id);
            }
        }
        LogEnded(session.IsUdp ? "UDP" : "TCP", session.Remote, session.Local, session.Route?.Config.Id, session.UpstreamAddress,
            session.Get("session_time"), session.BytesReceived, session.BytesSent, how);
        log(session);
        if (session.Seat is { } seat)
        {
            LiveConfiguration.Leave(session.Snapshot, seat);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "stream: no route for {Client} to {Server}, SNI \"{Sni}\"")]
    partial void LogNoRoute(IPEndPoint client, IPEndPoint server, string sni);

    [LoggerMessage(Level = LogLevel.Warning, Message = "stream route {Route}: plugin {Plugin} refused {Client}: {Why}")]
    partial void LogRefused(string route, string plugin, IPEndPoint client, string why);

    [LoggerMessage(Level = LogLevel.Error, Message = "stream route {Route}: {What}")]
    partial void LogNoNode(string route, string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "stream route {Route} has no upstream, or the one it names does not exist")]
    partial void LogNoUpstream(string route);

    [LoggerMessage(Level = LogLevel.Error, Message = "stream route {Route}: upstream {Node}: {What}")]
    partial void LogNodeFailed(string route, string node, string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "end of a session of stream route {Route} failed")]
    partial void LogEndFailed(Exception exception, string? route);

    [LoggerMessage(Level = LogLevel.Information,
        Message = "stream: {Protocol} {Client} to {Server}, route {Route}, upstream {Upstream}, {Seconds} s, {Received} bytes received, "
            + "{Sent} sent: {How}")]
    partial void LogEnded(string protocol, IPEndPoint client, IPEndPoint server, string? route, string? upstream, string? seconds,
        long received, long sent, string how);
}

/// <summary>The upstream's end of a session.</summary>
/// <param name="Stream">Of TCP.</param>
internal sealed record UpstreamPeer(string Address, Socket Socket, Stream Stream) : IDisposable
{
    /// <summary>The node counts as busy until the session ends.</summary>
    public NodePicks? Picks { get; init; }

    public void Dispose()
    {
        Picks?.Dispose();
        Stream.Dispose();
        Socket.Dispose();
    }
}

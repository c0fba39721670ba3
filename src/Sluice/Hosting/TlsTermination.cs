using System.IO.Pipelines;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.Logging;
using Sluice.Net;
using Sluice.Net.Epoll;
using Sluice.Net.Http;
using Sluice.Pipeline;
using Sluice.Pipeline.References;
using Sluice.Pipeline.Tls;

namespace Sluice.Hosting;

/// <summary>
/// TLS towards clients. Looks at what the client says first, finds the certificates for its name in the running snapshot (so that a change
/// is there with the next handshake and open connections stay), and leaves the handshake itself to Kestrel.
/// </summary>
sealed partial class TlsTermination(LiveConfiguration live, ILogger<TlsTermination> logger)
{
    static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(10);

    /// <summary>A fatal alert: unrecognized_name, internal_error.</summary>
    static readonly byte[] UnrecognizedName = [21, 3, 3, 0, 2, 2, 112], InternalError = [21, 3, 3, 0, 2, 2, 80];

    /// <summary>For Kestrel, behind <see cref="Use"/>.</summary>
    public TlsHandshakeCallbackOptions Kestrel => new() { OnConnection = OnConnectionAsync, HandshakeTimeout = HandshakeTimeout };

    /// <summary>Connection middleware in front of Kestrel's TLS.</summary>
    public ConnectionDelegate Use(ConnectionDelegate next) => async connection =>
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(connection.ConnectionClosed);
        patience.CancelAfter(HandshakeTimeout);
        Prepared? prepared;
        try
        {
            prepared = await PrepareAsync(connection.Transport, $"{connection.RemoteEndPoint}", patience.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or ConnectionAbortedException)
        {
            return;
        }
        if (prepared is not null)
        {
            connection.Features.Set(prepared.Peer);
            connection.Features.Set(prepared);
            // a signature takes a millisecond or two, for which no stream of the loop should wait; reading comes back to it
            await EventLoop.Leave();
            await next(connection);
        }
    };

    /// <summary>Reads the client's hello without taking it, and answers with an alert when there is no certificate for it: null.</summary>
    public async ValueTask<Prepared?> PrepareAsync(IDuplexPipe transport, string client, CancellationToken cancellation)
    {
        if (await PeekAsync(transport.Input, cancellation) is not { } hello)
        {
            return null;
        }
        var settings = live.Current.Settings.Tls;
        var name = hello.ServerName ?? HostName.Normalize(settings?.FallbackSni);
        if (live.Current.Tls.Find(name) is not { } site)
        {
            LogNoCertificate(name ?? "", client);
            await AlertAsync(transport.Output, UnrecognizedName);
            return null;
        }
        try
        {
            var peer = new TlsPeer(site, name);
            await (site.Clients?.PrepareAsync() ?? default);
            return new(peer, Options(peer, TlsSite.Choose(await site.Certificates.GetAsync(), hello)));
        }
        catch (Exception e) when (e is FormatException or SecretException)
        {
            LogBadCertificate(site.Place, name ?? "", e.Message);
            await AlertAsync(transport.Output, InternalError);
            return null;
        }
    }

    /// <summary>What a handshake needs.</summary>
    public sealed record Prepared(TlsPeer Peer, SslServerAuthenticationOptions Options);

    static async ValueTask<ClientHello?> PeekAsync(PipeReader input, CancellationToken cancellation)
    {
        while (true)
        {
            var read = await input.ReadAsync(cancellation);
            var known = ClientHello.TryParse(read.Buffer, out var hello);
            if (known is not null || read.IsCompleted || read.Buffer.Length > ClientHello.MaxBytes)
            {
                input.AdvanceTo(read.Buffer.Start);
                return hello;
            }
            input.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    static async ValueTask AlertAsync(PipeWriter output, byte[] alert)
    {
        await output.WriteAsync(alert);
        await output.CompleteAsync();
    }

    ValueTask<SslServerAuthenticationOptions> OnConnectionAsync(TlsHandshakeCallbackContext context) =>
        context.Connection.Features.Get<Prepared>() is { } prepared ? new(prepared.Options) : OverQuicAsync(context);

    /// <summary>QUIC shows nothing of the hello but the name.</summary>
    async ValueTask<SslServerAuthenticationOptions> OverQuicAsync(TlsHandshakeCallbackContext context)
    {
        var name = context.ClientHelloInfo.ServerName is { Length: > 0 } given ? HostName.Of(given)
            : HostName.Normalize(live.Current.Settings.Tls?.FallbackSni);
        if (live.Current.Tls.Find(name) is not { } site)
        {
            LogNoCertificate(name ?? "", $"{context.Connection.RemoteEndPoint}");
            throw new AuthenticationException("no certificate for this name");
        }
        var peer = new TlsPeer(site, name);
        context.Connection.Features.Set(peer);
        return Options(peer, TlsSite.Choose(await site.Certificates.GetAsync(), null));
    }

    SslServerAuthenticationOptions Options(TlsPeer peer, TlsCertificate certificate)
    {
        var settings = live.Current.Settings.Tls;
        var options = new SslServerAuthenticationOptions
        {
            ServerCertificateContext = certificate.Context,
            EnabledSslProtocols = peer.Site.Protocols,
            AllowRenegotiation = false,
            // a resumed session would be one whose client certificate nobody looks at again
            AllowTlsResume = settings?.Tickets != false && peer.Site.Clients is null,
        };
        if (settings?.CipherSuites is { } suites && !OperatingSystem.IsWindows())
        {
            options.CipherSuitesPolicy = new([.. Tls13Suites, .. suites]);
        }
        if (peer.Site.Clients is { } clients)
        {
            options.ClientCertificateRequired = true;
            options.RemoteCertificateValidationCallback = (_, certificate, chain, _) =>
                Accept(peer, clients, certificate as X509Certificate2, chain);
        }
        return options;
    }

    static readonly TlsCipherSuite[] Tls13Suites =
        [TlsCipherSuite.TLS_AES_128_GCM_SHA256, TlsCipherSuite.TLS_AES_256_GCM_SHA384, TlsCipherSuite.TLS_CHACHA20_POLY1305_SHA256];

    bool Accept(TlsPeer peer, TlsClients clients, X509Certificate2? certificate, X509Chain? chain)
    {
        var error = certificate is null ? null : clients.Verify(certificate, chain);
        peer.Client = certificate;
        peer.ClientVerify = certificate is null ? "NONE" : error is null ? "SUCCESS" : $"FAILED:{error}";
        if (peer.ClientVerify == "SUCCESS" || clients.MayComeWithout)
        {
            return true;
        }
        LogClientRefused(peer.Site.Place, peer.ServerName ?? "", error ?? "client certificate was not present");
        return false;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "TLS: failed to find any SSL certificate by SNI: \"{Sni}\", client: {Client}")]
    partial void LogNoCertificate(string sni, string client);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Place}: no handshake for \"{Sni}\": {What}")]
    partial void LogBadCertificate(string place, string sni, string what);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Place}: client certificate for \"{Sni}\" refused: {What}")]
    partial void LogClientRefused(string place, string sni, string what);
}

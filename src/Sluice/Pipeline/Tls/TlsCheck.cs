using Microsoft.Extensions.Logging;

namespace Sluice.Pipeline.Tls;

/// <summary>What only shows when the request is there: a client certificate is needed for its host, or may be missing for its
/// path.</summary>
static partial class TlsCheck
{
    public static Answer? Refuse(Exchange exchange, ILogger log)
    {
        if (!exchange.Request.IsHttps || exchange.Http.Features.Get<TlsPeer>() is not { } peer)
        {
            return null;
        }
        if (peer.Site.Clients is { MayComeWithout: true } clients && peer.ClientVerify != "SUCCESS" && !clients.IsSkipped(exchange.Uri))
        {
            LogNoCertificate(log, exchange.Uri, peer.ClientVerify);
            return Answer.OwnError(400, "400 Bad Request: this path needs a client certificate");
        }
        // a connection that was made for one name must not get around the client check of another
        if (exchange.Host != peer.ServerName && exchange.Snapshot.Tls.Find(exchange.Host) is { Clients: not null })
        {
            LogOtherHost(log, exchange.Host, peer.ServerName ?? "");
            return Answer.OwnError(400, "400 Bad Request: the host needs a TLS connection of its own");
        }
        return null;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "TLS: {Uri} needs a client certificate: {Verify}")]
    static partial void LogNoCertificate(ILogger log, string uri, string verify);

    [LoggerMessage(Level = LogLevel.Error,
        Message = "TLS: request for {Host}, which checks client certificates, on a connection with SNI \"{Sni}\"")]
    static partial void LogOtherHost(ILogger log, string host, string sni);
}

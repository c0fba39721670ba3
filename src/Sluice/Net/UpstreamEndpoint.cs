using System.Net;
using System.Net.Sockets;

namespace Sluice.Net;

/// <summary>How to speak TLS with an upstream.</summary>
/// <param name="ServerName">Name for SNI and for the check of the certificate; without one no SNI is sent.</param>
/// <param name="Verify">Check the upstream's certificate; off, any certificate is taken.</param>
/// <param name="Client">Null: the gateway shows none.</param>
/// <param name="Roots">Null: whom the machine trusts.</param>
internal sealed record UpstreamTls(bool UseTls, string? ServerName = null, bool Verify = true, ClientCertificate? Client = null,
    TrustedRoots? Roots = null)
{
    public static readonly UpstreamTls None = new(false);
}

/// <summary>Where a connection goes; connections are pooled per value of this.</summary>
internal sealed class UpstreamEndpoint(string host, EndPoint address, UpstreamTls tls) : IEquatable<UpstreamEndpoint>
{
    // asked for by every request, more than once
    readonly int _hash = HashCode.Combine(host, address, tls);

    /// <summary>As configured, for logs.</summary>
    public string Host => host;

    /// <summary>An <see cref="IPEndPoint"/> or a <see cref="UnixDomainSocketEndPoint"/>.</summary>
    public EndPoint Address => address;

    public UpstreamTls Tls => tls;

    public static UpstreamEndpoint Tcp(string host, IPAddress address, int port, UpstreamTls? tls = null) =>
        new(host, new IPEndPoint(address, port), tls ?? UpstreamTls.None);

    public static UpstreamEndpoint Unix(string path, UpstreamTls? tls = null) =>
        new("unix:" + path, new UnixDomainSocketEndPoint(path), tls ?? UpstreamTls.None);

    /// <summary>The address without its port; null for a Unix socket.</summary>
    public string? IpText { get; } = (address as IPEndPoint)?.Address.ToString();

    /// <summary>As nginx writes it in <c>$upstream_addr</c>.</summary>
    public string AddressText { get; } = address is UnixDomainSocketEndPoint ? host : address.ToString()!;

    public bool Equals(UpstreamEndpoint? other) =>
        ReferenceEquals(this, other)
        || (other is not null && _hash == other._hash && Host == other.Host && Address.Equals(other.Address) && Tls == other.Tls);

    public override bool Equals(object? obj) => Equals(obj as UpstreamEndpoint);

    public override int GetHashCode() => _hash;
}

/// <summary>How long connections to one endpoint are kept. Zero means no limit for the time and the number of requests, and no keeping for
/// the size.</summary>
internal sealed record PoolLimits(int Size, TimeSpan IdleTimeout, int MaxRequests)
{
    /// <summary>APISIX's defaults of <c>keepalive_pool</c>.</summary>
    public static readonly PoolLimits Default = new(320, TimeSpan.FromSeconds(60), 1000);
}

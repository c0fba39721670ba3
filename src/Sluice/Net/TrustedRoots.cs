using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Sluice.Net;

/// <summary>Who may have signed the certificates of upstreams: <c>apisix.ssl.ssl_trusted_certificate</c>. Equal when made of the same
/// text.</summary>
internal sealed class TrustedRoots : IEquatable<TrustedRoots>
{
    readonly string _pem;
    readonly X509Certificate2Collection _certificates = [];

    /// <exception cref="FormatException">There is no certificate in the text.</exception>
    public TrustedRoots(string pem)
    {
        _pem = pem;
        try
        {
            _certificates.ImportFromPem(pem);
        }
        catch (CryptographicException e)
        {
            throw new FormatException($"is not a PEM file of certificates: {e.Message.Split('\n')[0].Trim()}", e);
        }
        if (_certificates.Count == 0)
        {
            throw new FormatException("there is no PEM certificate in it");
        }
    }

    public X509ChainPolicy Policy()
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.AddRange(_certificates);
        return policy;
    }

    public bool Equals(TrustedRoots? other) => other is not null && _pem == other._pem;

    public override bool Equals(object? obj) => Equals(obj as TrustedRoots);

    public override int GetHashCode() => _pem.GetHashCode(StringComparison.Ordinal);
}

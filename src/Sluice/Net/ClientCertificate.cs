using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Sluice.Net;

/// <summary>What the gateway shows to upstreams that ask who it is. Equal when made of the same text.</summary>
internal sealed class ClientCertificate : IEquatable<ClientCertificate>
{
    readonly string _certificate;
    readonly string _key;

    /// <param name="certificate">PEM: the certificate, then what leads to its root.</param>
    /// <param name="key">PEM, not encrypted.</param>
    /// <exception cref="FormatException">One of them is not what it should be, or they do not belong together.</exception>
    public ClientCertificate(string certificate, string key)
    {
        _certificate = certificate;
        _key = key;
        try
        {
            var chain = new X509Certificate2Collection();
            chain.ImportFromPem(certificate);
            if (chain.Count > 0)
            {
                if (!key.Contains("-----BEGIN", StringComparison.Ordinal))
                {
                    // what is no PEM is taken for one that was encrypted
                    throw new FormatException("failed to decrypt previous encrypted key");
                }
                chain.RemoveAt(0);
            }
            Context = SslStreamCertificateContext.Create(X509Certificate2.CreateFromPem(certificate, key), chain, offline: true);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            // never the text itself: it may be a key
            throw new FormatException($"failed to parse client_cert or client_key: {e.Message.Split('\n')[0].Trim()}", e);
        }
    }

    public SslStreamCertificateContext Context { get; }

    public bool IsMadeOf(string certificate, string key) => _certificate == certificate && _key == key;

    public bool Equals(ClientCertificate? other) => other is not null && IsMadeOf(other._certificate, other._key);

    public override bool Equals(object? obj) => Equals(obj as ClientCertificate);

    public override int GetHashCode() => _certificate.GetHashCode(StringComparison.Ordinal);

    public override string ToString() => Context.TargetCertificate.Subject;
}

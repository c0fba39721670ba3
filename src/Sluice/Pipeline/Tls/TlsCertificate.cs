using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Sluice.Pipeline.Tls;

/// <summary>A certificate with its key and its chain, ready for handshakes.</summary>
internal sealed class TlsCertificate
{
    readonly Lazy<SslStreamCertificateContext> _context;

    TlsCertificate(X509Certificate2 leaf, X509Certificate2Collection chain, bool staple)
    {
        Leaf = leaf;
        IsEcdsa = leaf.GetKeyAlgorithm() == "1.2.840.10045.2.1";
        // made when it is first asked for: ten thousand names start as fast as one
        _context = new(() => SslStreamCertificateContext.Create(leaf, chain, offline: !staple));
    }

    public X509Certificate2 Leaf { get; }

    public bool IsEcdsa { get; }

    public SslStreamCertificateContext Context => _context.Value;

    /// <param name="certificate">PEM: the certificate, then what leads to its root.</param>
    /// <param name="key">PEM, not encrypted.</param>
    /// <param name="staple">The platform fetches the certificate's OCSP answers and sends them along.</param>
    /// <exception cref="FormatException">In APISIX's words: <c>failed to parse cert: …</c>.</exception>
    public static TlsCertificate Parse(string certificate, string key, bool staple = false)
    {
        X509Certificate2Collection chain;
        try
        {
            chain = ParseAll(certificate, "");
        }
        catch (FormatException e)
        {
            throw new FormatException("failed to parse cert: PEM_read_bio_X509_AUX() failed", e);
        }
        if (!key.Contains("-----BEGIN", StringComparison.Ordinal))
        {
            // what is no PEM is taken for one that was encrypted
            throw new FormatException("failed to decrypt previous encrypted key");
        }
        try
        {
            var leaf = chain[0].GetKeyAlgorithm() switch
            {
                "1.2.840.113549.1.1.1" => WithKey<RSA>(chain[0], key, RSA.Create(), static (one, own) => one.CopyWithPrivateKey(own)),
                "1.2.840.10045.2.1" => WithKey<ECDsa>(chain[0], key, ECDsa.Create(), static (one, own) => one.CopyWithPrivateKey(own)),
                var other => throw new FormatException($"failed to parse cert: keys of type {other} are not supported, use RSA or ECDSA"),
            };
            chain.RemoveAt(0);
            return new(leaf, chain, staple);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new FormatException("failed to parse key: PEM_read_bio_PrivateKey() failed", e);
        }
    }

    static X509Certificate2 WithKey<TKey>(X509Certificate2 certificate, string pem, TKey key,
        Func<X509Certificate2, TKey, X509Certificate2> join)
        where TKey : AsymmetricAlgorithm
    {
        using (key)
        {
            key.ImportFromPem(pem);
            try
            {
                return join(certificate, key);
            }
            catch (ArgumentException e)
            {
                throw new FormatException("failed to parse key: it is not the key of this certificate", e);
            }
        }
    }

    /// <summary>All certificates of a PEM text, at least one.</summary>
    public static X509Certificate2Collection ParseAll(string pem, string error)
    {
        var all = new X509Certificate2Collection();
        try
        {
            all.ImportFromPem(pem);
        }
        catch (CryptographicException e)
        {
            throw new FormatException($"{error}: {e.Message.Split('\n')[0].Trim()}", e);
        }
        return all.Count > 0 ? all : throw new FormatException($"{error}: there is no PEM certificate in it");
    }
}

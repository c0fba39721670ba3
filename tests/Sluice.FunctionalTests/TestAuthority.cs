using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;

namespace Sluice.FunctionalTests;

/// <summary>A certificate authority for one test, with its files in a directory of its own.</summary>
sealed class TestAuthority : IDisposable
{
    readonly X509Certificate2 _root;
    int _serial;

    public TestAuthority(string name = "Test CA")
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(
            new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign | X509KeyUsageFlags.DigitalSignature,
                true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        _root = request.CreateSelfSigned(From, Until);
        File.WriteAllText(CaFile, Pem);
    }

    static DateTimeOffset From => TimeProvider.System.GetUtcNow().AddDays(-1);

    static DateTimeOffset Until => TimeProvider.System.GetUtcNow().AddDays(7);

    public string Directory { get; } = System.IO.Directory.CreateTempSubdirectory("sluice-ca-").FullName;

    public string CaFile => Path.Combine(Directory, "ca.pem");

    public string Pem => _root.ExportCertificatePem();

    public X509Certificate2 Root => _root;

    /// <summary>Certificate and key as PEM.</summary>
    /// <param name="ocsp">The responder that the certificate names.</param>
    public (string Certificate, string Key) Issue(string name, bool rsa = false, bool client = false, string? ocsp = null)
    {
        using AsymmetricAlgorithm key = rsa ? RSA.Create(2048) : ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var subject = new X500DistinguishedName($"CN={name}{(rsa ? ",OU=RSA" : "")}");
        var request = rsa
            ? new CertificateRequest(subject, (RSA)key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest(subject, (ECDsa)key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name);
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(_root, true, false));
        request.CertificateExtensions.Add(
            new X509EnhancedKeyUsageExtension([new(client ? "1.3.6.1.5.5.7.3.2" : "1.3.6.1.5.5.7.3.1")], false));
        if (ocsp is not null)
        {
            request.CertificateExtensions.Add(new X509AuthorityInformationAccessExtension([ocsp], null));
        }
        using var issued = request.Create(_root.SubjectName, X509SignatureGenerator.CreateForECDsa(_root.GetECDsaPrivateKey()!), From,
            Until, [1, (byte)Interlocked.Increment(ref _serial)]);
        return (issued.ExportCertificatePem(), key.ExportPkcs8PrivateKeyPem());
    }

    /// <summary>The same in files, for command-line tools.</summary>
    public (string Certificate, string Key) IssueFiles(string name, bool client = false)
    {
        var (certificate, key) = Issue(name, client: client);
        var path = Path.Combine(Directory, name);
        File.WriteAllText(path + ".pem", certificate);
        File.WriteAllText(path + ".key", key);
        return (path + ".pem", path + ".key");
    }

    public string WriteRootKey()
    {
        var path = Path.Combine(Directory, "ca.key");
        File.WriteAllText(path, _root.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
        return path;
    }

    /// <summary>An ssl resource.</summary>
    public static string Ssl(string[] names, (string Certificate, string Key)[] pairs, JsonObject? more = null)
    {
        var ssl = new JsonObject
        {
            ["snis"] = new JsonArray([.. names.Select(name => (JsonNode?)name)]),
            ["cert"] = pairs[0].Certificate,
            ["key"] = pairs[0].Key,
        };
        if (pairs.Length > 1)
        {
            ssl["certs"] = new JsonArray([.. pairs.Skip(1).Select(pair => (JsonNode?)pair.Certificate)]);
            ssl["keys"] = new JsonArray([.. pairs.Skip(1).Select(pair => (JsonNode?)pair.Key)]);
        }
        foreach (var (name, value) in more ?? [])
        {
            ssl[name] = value?.DeepClone();
        }
        return ssl.ToJsonString();
    }

    public void Dispose()
    {
        _root.Dispose();
        System.IO.Directory.Delete(Directory, recursive: true);
    }
}

using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text.RegularExpressions;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Net;
using Sluice.Pipeline.References;

namespace Sluice.Pipeline.Tls;

/// <summary>How handshakes for some names go: which certificates, which versions, which clients.</summary>
/// <param name="Place">For logs: <c>/apisix/ssls/1</c>.</param>
internal sealed record TlsSite(string Place, string[] Names, TlsCertificates Certificates, SslProtocols Protocols, TlsClients? Clients)
{
    /// <summary>A resource's; one that is disabled or for upstreams has no names.</summary>
    /// <exception cref="FormatException">What is wrong with its certificates.</exception>
    public static TlsSite Of(SslConfig config, string place, GatewaySettings settings, SecretStore secrets)
    {
        Func<string, ValueTask<string>>? resolve = config.Pairs.Any(pair => SecretReference.Is(pair.Certificate)
            || SecretReference.Is(pair.Key)) ? secrets.ResolveAsync : null;
        return new(
            place,
            config.ForClients && config.Enabled ? config.Names : [],
            new(config.Pairs, config.Stapling, resolve),
            TlsSites.ProtocolsOf(config.Protocols, settings.Tls),
            config.Client is { } client ? new TlsClients(client, SecretReference.Is(client.Ca) ? secrets.ResolveAsync : null) : null);
    }

    /// <summary>The certificate that conf/config.yaml names; null: it names none.</summary>
    public static TlsSite? OfFiles(GatewaySettings settings) => settings.Tls is { CertificateFile: { } certificate, KeyFile: { } key } tls
        ? new(tls.Place, [], new([(File.ReadAllText(certificate), File.ReadAllText(key))], staple: false, null),
            TlsSites.ProtocolsOf(null, tls), null)
        : null;

    /// <summary>The certificate of the kind that the client can check; ECDSA when it can check both.</summary>
    public static TlsCertificate Choose(IReadOnlyList<TlsCertificate> certificates, ClientHello? hello)
    {
        var ecdsa = certificates.FirstOrDefault(one => one.IsEcdsa);
        var rsa = certificates.FirstOrDefault(one => !one.IsEcdsa);
        return (hello is null || hello.TakesEcdsa ? ecdsa ?? rsa : rsa ?? ecdsa)!;
    }
}

/// <summary>A site's certificates. With references to secrets in them they are fetched at the first handshake and looked at again when the
/// secrets' time is up.</summary>
internal sealed class TlsCertificates
{
    readonly (string Certificate, string Key)[] _written;
    readonly bool _staple;
    readonly Func<string, ValueTask<string>>? _resolve;
    Parsed? _current;

    sealed record Parsed((string Certificate, string Key)[] Texts, TlsCertificate[] Certificates);

    /// <param name="resolve">Turns a text into what it refers to; null: nothing refers to anything.</param>
    public TlsCertificates((string Certificate, string Key)[] written, bool staple, Func<string, ValueTask<string>>? resolve)
    {
        _written = written;
        _staple = staple;
        _resolve = resolve;
        if (resolve is null)
        {
            _current = Parse(written);
        }
    }

    public async ValueTask<IReadOnlyList<TlsCertificate>> GetAsync()
    {
        if (_resolve is null)
        {
            return _current!.Certificates;
        }
        var texts = new (string Certificate, string Key)[_written.Length];
        for (var i = 0; i < texts.Length; i++)
        {
            texts[i] = (await _resolve(_written[i].Certificate), await _resolve(_written[i].Key));
        }
        var current = _current;
        if (current is null || !current.Texts.SequenceEqual(texts))
        {
            _current = current = Parse(texts);
        }
        return current.Certificates;
    }

    Parsed Parse((string Certificate, string Key)[] texts) =>
        new(texts, [.. texts.Select(pair => TlsCertificate.Parse(pair.Certificate, pair.Key, _staple))]);
}

/// <summary>Which client certificates a site accepts.</summary>
internal sealed class TlsClients
{
    readonly Func<string, ValueTask<string>>? _resolve;
    readonly string _ca;
    readonly int _depth;
    Parsed? _current;

    sealed record Parsed(string Text, X509Certificate2Collection Roots);
    readonly Regex[] _skipped;

    /// <param name="resolve">Turns the CA's text into what it refers to; null: it refers to nothing.</param>
    public TlsClients(SslClientConfig config, Func<string, ValueTask<string>>? resolve = null)
    {
        _ca = config.Ca;
        _resolve = resolve;
        _current = resolve is null && !SecretReference.Is(config.Ca) ? Parse(config.Ca) : null;
        _depth = config.Depth;
        _skipped = config.Skipped;
    }

    static Parsed Parse(string ca)
    {
        try
        {
            return new(ca, TlsCertificate.ParseAll(ca, ""));
        }
        catch (FormatException e)
        {
            throw new FormatException("failed to validate client_cert: failed to parse cert: PEM_read_bio_X509_AUX() failed", e);
        }
    }

    /// <summary>Before a handshake: the CA is fetched, or looked at again.</summary>
    public async ValueTask PrepareAsync()
    {
        if (_resolve is not null && await _resolve(_ca) is var text && _current?.Text != text)
        {
            _current = Parse(text);
        }
    }

    /// <summary>A client without a (good) certificate may come in: its requests for other paths are refused later.</summary>
    public bool MayComeWithout => _skipped.Length > 0;

    public bool IsSkipped(string uri) => Array.Exists(_skipped, skipped => skipped.Finds(uri));

    /// <summary>Null when the certificate leads to one of the CAs; otherwise why not.</summary>
    public string? Verify(X509Certificate2 certificate, X509Chain? sent)
    {
        if (_current?.Roots is not { } roots)
        {
            return "unable to get issuer certificate";
        }
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(roots);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        chain.ChainPolicy.ApplicationPolicy.Add(new System.Security.Cryptography.Oid("1.3.6.1.5.5.7.3.2"));
        foreach (var element in sent?.ChainElements ?? Enumerable.Empty<X509ChainElement>())
        {
            chain.ChainPolicy.ExtraStore.Add(element.Certificate);
        }
        // a CA that is given counts as trusted even when it is not self-signed
        chain.ChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
        var built = chain.Build(certificate);
        var intermediates = chain.ChainElements.Skip(1).ToList().FindIndex(element => IsRoot(roots, element.Certificate));
        if (intermediates < 0)
        {
            return built && IsRoot(roots, certificate) ? null : "unable to get issuer certificate";
        }
        if (!built)
        {
            return Array.Find(chain.ChainStatus,
                status => status.Status is not (X509ChainStatusFlags.UntrustedRoot
                    or X509ChainStatusFlags.PartialChain)).StatusInformation?.Trim() is { Length: > 0 } why
                ? why : "certificate verification failed";
        }
        return intermediates > _depth ? "certificate chain too long" : null;
    }

    // X509Certificate2.Equals only looks at issuer and serial number
    static bool IsRoot(X509Certificate2Collection roots, X509Certificate2 certificate) =>
        roots.Any(root => root.RawDataMemory.Span.SequenceEqual(certificate.RawDataMemory.Span));
}

/// <summary>What became of a connection's handshake; a feature of the connection and so of its requests.</summary>
internal sealed class TlsPeer(TlsSite site, string? serverName)
{
    public TlsSite Site { get; } = site;

    /// <summary>The SNI, or <c>fallback_sni</c>.</summary>
    public string? ServerName { get; } = serverName;

    /// <summary>nginx's <c>$ssl_client_verify</c>: <c>NONE</c>, <c>SUCCESS</c> or <c>FAILED:reason</c>.</summary>
    public string ClientVerify { get; set; } = "NONE";

    public X509Certificate2? Client { get; set; }
}

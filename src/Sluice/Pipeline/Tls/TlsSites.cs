using System.Collections.Frozen;
using System.Security.Authentication;
using Sluice.Model;
using Sluice.Model.Settings;

namespace Sluice.Pipeline.Tls;

/// <summary>All certificates for clients, found by the name that a client asks for. Immutable, part of a snapshot.</summary>
internal sealed class TlsSites
{
    readonly FrozenDictionary<string, TlsSite> _exact;
    readonly FrozenDictionary<string, TlsSite> _wildcard;
    readonly TlsSite? _any;
    readonly TlsSite? _static;

    public static TlsSites None { get; } = new(new Dictionary<Document, TlsSite>(), null);

    /// <summary>The resources that they come from.</summary>
    public IReadOnlyDictionary<Document, TlsSite> ByDocument { get; }

    /// <param name="byDefault">For every name that no other has: <c>apisix.ssl.ssl_cert</c>.</param>
    public TlsSites(IReadOnlyDictionary<Document, TlsSite> sites, TlsSite? byDefault)
    {
        ByDocument = sites;
        Dictionary<string, TlsSite> exact = [], wildcard = [];
        foreach (var site in sites.OrderBy(pair => pair.Key.Id, StringComparer.Ordinal).Select(pair => pair.Value))
        {
            foreach (var name in site.Names)
            {
                if (name == "*")
                {
                    _any ??= site;
                }
                else if (name.StartsWith('*'))
                {
                    wildcard.TryAdd(name.TrimStart('*').TrimStart('.'), site);
                }
                else
                {
                    exact.TryAdd(name, site);
                }
            }
        }
        _exact = exact.ToFrozenDictionary();
        _wildcard = wildcard.ToFrozenDictionary();
        _static = byDefault;
        IsEmpty = byDefault is null && sites.Values.All(site => site.Names.Length == 0);
    }

    public bool IsEmpty { get; }

    /// <summary>Exact name, then a wildcard for its first label, then <c>*</c>, then the certificate of conf/config.yaml.</summary>
    public TlsSite? Find(string? name)
    {
        if (name is not null)
        {
            if (_exact.TryGetValue(name, out var site))
            {
                return site;
            }
            var dot = name.IndexOf('.', StringComparison.Ordinal);
            if (dot > 0 && _wildcard.TryGetValue(name[(dot + 1)..], out site))
            {
                return site;
            }
            if (_any is not null)
            {
                return _any;
            }
        }
        return _static;
    }

    /// <summary>TLS versions of <c>ssl_protocols</c>; what is too old to be safe is left out.</summary>
    public static SslProtocols ProtocolsOf(string[]? names, TlsSettings? settings)
    {
        var tls12 = names?.Contains("TLSv1.2") ?? settings?.Tls12 ?? true;
        var tls13 = names?.Contains("TLSv1.3") ?? settings?.Tls13 ?? true;
        return (tls12 ? SslProtocols.Tls12 : SslProtocols.None) | (tls13 ? SslProtocols.Tls13 : SslProtocols.None);
    }
}

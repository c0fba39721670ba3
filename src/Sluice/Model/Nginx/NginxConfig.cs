using System.Collections.Frozen;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Sluice.Net.Http;

namespace Sluice.Model.Nginx;

/// <summary>
/// What <c>conf/nginx.conf</c> and the snippets say, compiled: which addresses to open, and which values hold for a request. Immutable.
/// </summary>
internal sealed class NginxConfig
{
    readonly FrozenDictionary<int, NginxPort> _ports;
    readonly NginxServers _everywhere;

    internal NginxConfig(
        IReadOnlyList<NginxListen> listens, FrozenDictionary<int, NginxPort> ports, NginxServers everywhere,
        IReadOnlyDictionary<string, NginxMap>? maps = null)
    {
        Maps = maps ?? FrozenDictionary<string, NginxMap>.Empty;
        Listens = listens;
        _ports = ports;
        _everywhere = everywhere;
    }

    /// <summary>Nothing is configured.</summary>
    public static NginxConfig Empty { get; } =
        new([], FrozenDictionary<int, NginxPort>.Empty, new([], null, [], new(NginxScope.Default, [])));

    /// <summary>The addresses that <c>listen</c> directives open, each once.</summary>
    public IReadOnlyList<NginxListen> Listens { get; }

    /// <summary>The variables that <c>map</c> makes.</summary>
    public IReadOnlyDictionary<string, NginxMap> Maps { get; }

    /// <summary>What holds on an address before a request has said where it goes: its default server's.</summary>
    public NginxScope Default(IPEndPoint address) =>
        (_ports.TryGetValue(address.Port, out var port) ? port.Find(address.Address) ?? _everywhere : _everywhere).Fallback.Scope;

    /// <summary>What holds when no server block and no location applies.</summary>
    public NginxScope Http => _everywhere.Own.Scope;

    /// <summary>What holds for a request: the server by address and name, then the location by path.</summary>
    /// <param name="host">The request's host; a port behind it does not matter.</param>
    /// <param name="path">The normalised path, without query.</param>
    public NginxScope Select(IPAddress localAddress, int localPort, string host, string path)
    {
        var servers = _ports.TryGetValue(localPort, out var port) ? port.Find(localAddress) ?? _everywhere : _everywhere;
        return servers.Find(HostName.Bare(host)).Find(path);
    }
}

/// <summary>The servers of one port, by the address that the connection came in on: that very address first, then any.</summary>
sealed class NginxPort(IReadOnlyList<(IPAddress Address, NginxServers Servers)> exact, NginxServers? anyV4, NginxServers? anyV6)
{
    public NginxServers? Find(IPAddress address)
    {
        foreach (var (candidate, servers) in exact)
        {
            if (candidate.Equals(address))
            {
                return servers;
            }
        }
        return address.AddressFamily == AddressFamily.InterNetwork || address.IsIPv4MappedToIPv6 ? anyV4 : anyV6;
    }
}

/// <summary>The servers of one address, by name: exact, longest leading wildcard, longest trailing wildcard, first regular expression,
/// default.</summary>
sealed class NginxServers
{
    readonly FrozenDictionary<string, NginxServer>.AlternateLookup<ReadOnlySpan<char>> _exact;
    readonly FrozenDictionary<string, NginxServer>.AlternateLookup<ReadOnlySpan<char>> _leading;
    readonly FrozenDictionary<string, NginxServer>.AlternateLookup<ReadOnlySpan<char>> _trailing;
    readonly (Regex Name, NginxServer Server)[] _patterns;
    readonly NginxServer _fallback;
    readonly bool _named;

    /// <param name="names">In the order of the configuration: of two equal ones the first counts.</param>
    /// <param name="fallback">Answers names that none has; null: the gateway's own server does.</param>
    /// <param name="own">The gateway's own server: the http level with the snippets.</param>
    public NginxServers(
        IReadOnlyList<(NginxServerName Name, NginxServer Server)> names,
        NginxServer? fallback,
        IReadOnlyList<(Regex Name, NginxServer Server)> patterns,
        NginxServer own)
    {
        _exact = Table(names, NginxNameKind.Exact);
        _leading = Table(names, NginxNameKind.Leading);
        _trailing = Table(names, NginxNameKind.Trailing);
        _patterns = [.. patterns];
        _fallback = fallback ?? own;
        _named = names.Count + patterns.Count > 0;
        Own = own;
    }

    public NginxServer Own { get; }

    /// <summary>The server that answers names that none has.</summary>
    public NginxServer Fallback => _fallback;

    static FrozenDictionary<string, NginxServer>.AlternateLookup<ReadOnlySpan<char>> Table(
        IReadOnlyList<(NginxServerName Name, NginxServer Server)> names, NginxNameKind kind)
    {
        var table = new Dictionary<string, NginxServer>(StringComparer.OrdinalIgnoreCase);
        foreach (var (name, server) in names)
        {
            if (name.Kind == kind)
            {
                table.TryAdd(name.Text, server);
            }
        }
        return table.ToFrozenDictionary(StringComparer.OrdinalIgnoreCase).GetAlternateLookup<ReadOnlySpan<char>>();
    }

    public NginxServer Find(ReadOnlySpan<char> host) =>
        !_named ? _fallback
        : _exact.TryGetValue(host, out var server) || FindLeading(host, out server) || FindTrailing(host, out server)
        || FindPattern(host, out server)
            ? server
            : _fallback;

    bool FindLeading(ReadOnlySpan<char> host, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out NginxServer? server)
    {
        server = null;
        if (_leading.Dictionary.Count == 0)
        {
            return false;
        }
        for (var dot = host.IndexOf('.'); dot >= 0; dot = host.IndexOf('.'))
        {
            host = host[(dot + 1)..];
            if (_leading.TryGetValue(host, out server))
            {
                return true;
            }
        }
        return false;
    }

    bool FindTrailing(ReadOnlySpan<char> host, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out NginxServer? server)
    {
        server = null;
        if (_trailing.Dictionary.Count == 0)
        {
            return false;
        }
        for (var dot = host.LastIndexOf('.'); dot > 0; dot = host.LastIndexOf('.'))
        {
            host = host[..dot];
            if (_trailing.TryGetValue(host, out server))
            {
                return true;
            }
        }
        return false;
    }

    bool FindPattern(ReadOnlySpan<char> host, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out NginxServer? server)
    {
        foreach (var (name, candidate) in _patterns)
        {
            if (name.Finds(host))
            {
                server = candidate;
                return true;
            }
        }
        server = null;
        return false;
    }
}

enum NginxNameKind
{
    Exact,

    /// <summary><c>*.example.com</c>, kept as <c>example.com</c>.</summary>
    Leading,

    /// <summary><c>www.*</c>, kept as <c>www</c>.</summary>
    Trailing,
    Pattern,
}

/// <param name="Text">What the tables are asked for.</param>
sealed record NginxServerName(NginxNameKind Kind, string Text);

/// <summary>One server's locations, by path: exact, else the longest prefix unless it is not <c>^~</c> and a regular expression
/// matches.</summary>
sealed class NginxServer
{
    readonly FrozenDictionary<string, NginxScope>.AlternateLookup<ReadOnlySpan<char>> _prefixes;
    readonly FrozenDictionary<string, NginxScope> _exact;
    readonly FrozenSet<string>.AlternateLookup<ReadOnlySpan<char>> _final;
    readonly int[] _lengths;
    readonly (Regex Path, NginxScope Scope)[] _patterns;
    readonly bool _any;

    public NginxServer(NginxScope scope, IReadOnlyList<NginxLocation> locations)
    {
        Scope = scope;
        var prefixes = locations.Where(location => location.Kind is NginxLocationKind.Prefix or NginxLocationKind.FinalPrefix).ToList();
        _prefixes = prefixes.ToFrozenDictionary(location => location.Path, location => location.Scope, StringComparer.Ordinal)
            .GetAlternateLookup<ReadOnlySpan<char>>();
        _final = prefixes.Where(location => location.Kind == NginxLocationKind.FinalPrefix).Select(location => location.Path)
            .ToFrozenSet(StringComparer.Ordinal).GetAlternateLookup<ReadOnlySpan<char>>();
        _lengths = [.. prefixes.Select(location => location.Path.Length).Distinct().OrderDescending()];
        _exact = locations.Where(location => location.Kind == NginxLocationKind.Exact)
            .ToFrozenDictionary(location => location.Path, location => location.Scope, StringComparer.Ordinal);
        _patterns = [.. locations.Where(location => location.Pattern is not null).Select(location => (location.Pattern!, location.Scope))];
        _any = locations.Count > 0;
    }

    public NginxScope Scope { get; }

    public NginxScope Find(string path)
    {
        if (!_any)
        {
            return Scope;
        }
        if (_exact.TryGetValue(path, out var exact))
        {
            return exact;
        }
        var found = Scope;
        foreach (var length in _lengths)
        {
            if (length <= path.Length && _prefixes.TryGetValue(path.AsSpan(0, length), out var prefixed))
            {
                found = prefixed;
                if (_final.Contains(path.AsSpan(0, length)))
                {
                    return found;
                }
                break;
            }
        }
        foreach (var (pattern, scope) in _patterns)
        {
            if (pattern.Finds(path))
            {
                return scope;
            }
        }
        return found;
    }
}

enum NginxLocationKind
{
    Exact,
    Prefix,

    /// <summary><c>^~</c>: regular expressions are not asked.</summary>
    FinalPrefix,
    Pattern,
}

sealed record NginxLocation(NginxLocationKind Kind, string Path, Regex? Pattern, NginxScope Scope);

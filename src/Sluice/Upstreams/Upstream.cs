using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Net;
using Sluice.Upstreams.Discovery;

namespace Sluice.Upstreams;

/// <summary>An upstream as requests see it: its nodes and the balancers that pick one of them for each attempt.</summary>
internal sealed class Upstream
{
    const int MaxEndpoints = 4096;

    readonly Lock _changing = new();
    NodeSet _nodes;
    readonly bool _resolves;

    /// <summary>Until the names are resolved: what is known of the addresses goes on.</summary>
    (NodeSet Nodes, bool SameChecks)? _earlier;
    ResolvedHost?[]? _hosts;
    readonly JsonObject? _source;
    readonly ConcurrentDictionary<(IPAddress Address, int Port, bool Tls, string? ServerName), UpstreamEndpoint> _endpoints = new();

    /// <param name="key">Where it is written: <c>upstreams/1</c>, <c>routes/r1</c>, <c>services/s1</c>.</param>
    /// <param name="source">What the configuration was bound from.</param>
    /// <param name="predecessor">What stood there before: what is known of its nodes goes on.</param>
    public Upstream(
        UpstreamConfig config, UpstreamServices? services = null, string key = "", JsonObject? source = null, Upstream? predecessor = null,
        ClientCertificate? certificate = null, TrustedRoots? roots = null)
    {
        Roots = roots;
        ClientCertificate = certificate;
        Config = config;
        Key = key;
        Services = services ?? UpstreamServices.Alone();
        _source = source;
        Checks = config.Checks is null ? null : new HealthChecks(this, config.Checks);
        var sameChecks = JsonNode.DeepEquals(source?["checks"], predecessor?._source?["checks"]);
        // a service's nodes come with the first question
        var nodes = config.ServiceName is not null && predecessor?.Config.ServiceName == config.ServiceName ? predecessor._nodes.Configs
            : config.Nodes;
        _nodes = new NodeSet(config, nodes, Services, predecessor?._nodes, sameChecks);
        _resolves = Checks is not null && Services.Resolver is not null && config.ServiceName is null
            && Array.Exists(config.Nodes, IsNamed);
        _earlier = _resolves && predecessor is not null ? (predecessor._nodes, sameChecks) : null;
        var pool = config.KeepalivePool ?? new KeepalivePoolConfig();
        Limits = new PoolLimits(pool.Size, TimeSpan.FromSeconds(pool.IdleTimeout), pool.Requests);
    }

    public UpstreamConfig Config { get; }

    public string Key { get; }

    /// <summary><c>/apisix/upstreams/1</c>: as health checks call it in metrics, logs and the Control API.</summary>
    public string Name => $"/apisix/{Key}";

    public UpstreamServices Services { get; }

    /// <summary>What is shown to nodes over TLS; null: nothing.</summary>
    public ClientCertificate? ClientCertificate { get; }

    /// <summary>What the certificate refers to, with the values that it was made of; null: not known then.</summary>
    public IReadOnlyDictionary<string, string?> Secrets { get; init; } = System.Collections.Frozen.FrozenDictionary<string, string?>.Empty;

    /// <summary>Why there is no certificate although one is to be shown; null: all is well.</summary>
    public string? Incomplete { get; init; }

    /// <summary>Who may have signed the nodes' certificates; null: whom the machine trusts.</summary>
    public TrustedRoots? Roots { get; }

    /// <summary>Null: the upstream has no <c>checks</c>.</summary>
    public HealthChecks? Checks { get; }

    /// <summary>Whether this one was made of the same configuration, whenever that was written.</summary>
    public bool IsMadeOf(JsonObject source) => _source is not null
        && (ReferenceEquals(_source, source) || JsonNode.DeepEquals(WithoutTimes(_source), WithoutTimes(source)));

    static JsonObject WithoutTimes(JsonObject source)
    {
        if (!source.ContainsKey("update_time") && !source.ContainsKey("create_time"))
        {
            return source;
        }
        var copy = source.DeepClone().AsObject();
        copy.Remove("update_time");
        copy.Remove("create_time");
        return copy;
    }

    public IReadOnlyList<Node> Nodes => Volatile.Read(ref _nodes).Nodes;

    public PoolLimits Limits { get; }

    /// <summary>There is nothing to bring up to date.</summary>
    public bool IsFixed => Incomplete is null && Config.ServiceName is null && !_resolves;

    /// <summary>With service discovery: brings the nodes up to date. Nearly always that is done at once.</summary>
    /// <exception cref="DiscoveryException">The service's nodes are not known, or the upstream is <see cref="Incomplete"/>.</exception>
    public ValueTask RefreshAsync(CancellationToken cancellation)
    {
        if (Incomplete is { } why)
        {
            throw new DiscoveryException(why);
        }
        if (Config.ServiceName is not { } service)
        {
            return _resolves ? ResolveAsync(cancellation) : ValueTask.CompletedTask;
        }
        var discovery = Services.Discoveries.Find(Config.DiscoveryType)
            ?? throw new DiscoveryException($"discovery_type {Config.DiscoveryType} is not configured: see discovery in conf/config.yaml");
        var asking = discovery.NodesAsync(service, cancellation);
        if (!asking.IsCompletedSuccessfully)
        {
            return Awaited(asking);
        }
        Use(asking.Result);
        return ValueTask.CompletedTask;

        async ValueTask Awaited(ValueTask<NodeConfig[]> nodes) => Use(await nodes);
    }

    static bool IsNamed(NodeConfig node) => !IPAddress.TryParse(node.Host, out _);

    /// <summary>Each address of a name is a node of its own where nodes are checked: one of them may be ill. A name that is not known stays
    /// what it was.</summary>
    async ValueTask ResolveAsync(CancellationToken cancellation)
    {
        var hosts = new ResolvedHost?[Config.Nodes.Length];
        var known = Volatile.Read(ref _hosts);
        for (var i = 0; i < hosts.Length; i++)
        {
            try
            {
                hosts[i] = IsNamed(Config.Nodes[i]) ? await Services.Resolver!.ResolveAsync(Config.Nodes[i].Host, cancellation) : null;
            }
            catch (UpstreamException)
            {
                hosts[i] = known?[i];
            }
        }
        if (known is not null && hosts.AsSpan().SequenceEqual(known))
        {
            return;
        }
        lock (_changing)
        {
            if (_hosts is null || !hosts.Zip(_hosts).All(pair => SameAddresses(pair.First, pair.Second)))
            {
                var (before, sameChecks) = _earlier ?? (_nodes, true);
                Volatile.Write(ref _nodes, new NodeSet(Config, Expanded(hosts), Services, before, sameChecks));
                _earlier = null;
            }
            Volatile.Write(ref _hosts, hosts);
        }
    }

    static bool SameAddresses(ResolvedHost? one, ResolvedHost? other) =>
        ReferenceEquals(one, other) || (one is not null && other is not null && one.Addresses.ToHashSet().SetEquals(other.Addresses));

    /// <summary>The addresses of a name share its weight.</summary>
    NodeConfig[] Expanded(ResolvedHost?[] hosts)
    {
        var scale = hosts.Aggregate(1L, (common, host) => host is null ? common : LeastCommonMultiple(common, host.Addresses.Count));
        scale = scale > MaxScale ? 0 : scale;
        return [.. Config.Nodes.SelectMany((node, i) => hosts[i] is not { } host
            ? [node with { Weight = scale == 0 ? node.Weight : Times(node.Weight, scale) }]
            : host.Addresses.OrderBy(address => address.ToString(), StringComparer.Ordinal).Select(address =>
                node with { Host = address.ToString(), Domain = node.Host,
                    Weight = scale == 0 ? node.Weight : Times(node.Weight, scale / host.Addresses.Count) }))];
    }

    const int MaxScale = 60;

    static int Times(int weight, long factor) => (int)Math.Min(weight * factor, int.MaxValue);

    static long LeastCommonMultiple(long a, long b) => a / (long)System.Numerics.BigInteger.GreatestCommonDivisor(a, b) * b;

    int _hasNoNodes;

    /// <summary>Whether this is the first time in a row that its service's nodes are not known, which is the one to log: requests would
    /// repeat it.</summary>
    public bool IsFirstDiscoveryFailure() => Interlocked.Exchange(ref _hasNoNodes, 1) == 0;

    void Use(NodeConfig[] nodes)
    {
        if (Volatile.Read(ref _hasNoNodes) != 0)
        {
            Volatile.Write(ref _hasNoNodes, 0);
        }
        if (ReferenceEquals(Volatile.Read(ref _nodes).Configs, nodes))
        {
            return;
        }
        lock (_changing)
        {
            if (!ReferenceEquals(_nodes.Configs, nodes))
            {
                Volatile.Write(ref _nodes, new NodeSet(Config, nodes, Services, _nodes, sameChecks: true));
            }
        }
    }

    /// <summary>A request's way through the nodes.</summary>
    /// <param name="hashKey">What <c>chash</c> goes by.</param>
    public NodePicks Begin(string hashKey = "") => new(this, Volatile.Read(ref _nodes), hashKey);

    /// <summary>The pool's key for an address of a node. The same object each time, so that a request allocates none.</summary>
    public UpstreamEndpoint Endpoint(Node node, IPAddress address, bool tls, string? serverName)
    {
        if (node.LastEndpoint is { Address: IPEndPoint last } same && ReferenceEquals(last.Address, address) && same.Tls.UseTls == tls
            && same.Tls.ServerName == serverName)
        {
            return same;
        }
        return node.LastEndpoint = FindEndpoint(node, address, tls, serverName);
    }

    UpstreamEndpoint FindEndpoint(Node node, IPAddress address, bool tls, string? serverName)
    {
        var key = (address, node.Port, tls, serverName);
        if (_endpoints.TryGetValue(key, out var known))
        {
            return known;
        }
        if (_endpoints.Count >= MaxEndpoints)
        {
            // with pass_host "pass" the server name is the client's to choose
            _endpoints.Clear();
        }
        return _endpoints.GetOrAdd(key, UpstreamEndpoint.Tcp(
            node.HostName, address, node.Port,
            tls ? new UpstreamTls(true, serverName, Config.Tls?.Verify ?? false, ClientCertificate, Roots) : UpstreamTls.None));
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Config.Id ?? "inline"} ({Nodes.Count} nodes)");
}

using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using Sluice.Model;
using Sluice.Net;

namespace Sluice.Upstreams;

/// <summary>A node of an upstream, as picked for an attempt.</summary>
/// <param name="Index">Position in the upstream's list of nodes.</param>
public sealed record Node(int Index, NodeConfig Config, int Port)
{
    /// <summary><c>host:port</c> as configured; also what <c>pass_host: node</c> sends when the port is not the scheme's.</summary>
    public string Name { get; } = Config.Host.Contains(':') ? $"[{Config.Host.Trim('[', ']')}]:{Port}" : $"{Config.Host}:{Port}";

    /// <summary>Host header for <c>pass_host: node</c>: without the port where the configuration names none.</summary>
    public string HostHeader => Config.Port is null ? Config.Host : Name;
}

/// <summary>An upstream as requests see it: its nodes and the balancer that picks one of them for each attempt.</summary>
public sealed class Upstream
{
    readonly Node[] _nodes;
    readonly SmoothRoundRobin[] _tiers;
    readonly ConcurrentDictionary<(IPAddress Address, int Port, bool Tls, string? ServerName), UpstreamEndpoint> _endpoints = new();

    public Upstream(UpstreamConfig config)
    {
        Config = config;
        _nodes = [.. config.Nodes.Select((node, index) => new Node(index, node, node.Port ?? (config.Scheme == "https" ? 443 : 80)))];
        _tiers = [.. _nodes.GroupBy(node => node.Config.Priority).OrderByDescending(tier => tier.Key).Select(tier => new SmoothRoundRobin([.. tier]))];
        var pool = config.KeepalivePool ?? new KeepalivePoolConfig();
        Limits = new PoolLimits(pool.Size, TimeSpan.FromSeconds(pool.IdleTimeout), pool.Requests);
    }

    public UpstreamConfig Config { get; }

    public IReadOnlyList<Node> Nodes => _nodes;

    public PoolLimits Limits { get; }

    /// <summary>Attempts after the first: <c>retries</c>, by default one for each further node.</summary>
    public int Retries => Config.Retries ?? Math.Max(0, _nodes.Count(node => node.Config.Weight > 0) - 1);

    /// <summary>The next node by weight among those of the highest priority that were not tried yet; null when none is left.</summary>
    /// <param name="tried">Nodes that failed for this request, by index.</param>
    public Node? Pick(HashSet<int>? tried)
    {
        foreach (var tier in _tiers)
        {
            if (tier.Next(tried) is { } node)
            {
                return node;
            }
        }
        return null;
    }

    /// <summary>The pool's key for an address of a node. The same object each time, so that a request allocates none.</summary>
    public UpstreamEndpoint Endpoint(Node node, IPAddress address, bool tls, string? serverName) =>
        _endpoints.GetOrAdd((address, node.Port, tls, serverName), static (key, state) =>
            UpstreamEndpoint.Tcp(state.Config.Host, key.Address, key.Port, key.Tls ? new UpstreamTls(true, key.ServerName, state.Verify) : UpstreamTls.None),
            (node.Config, Verify: Config.Tls?.Verify ?? false));

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Config.Id ?? "inline"} ({_nodes.Length} nodes)");
}

/// <summary>nginx's smooth weighted round robin: each pick adds its weight to every node and takes the total from the chosen one.</summary>
sealed class SmoothRoundRobin(Node[] nodes)
{
    readonly Lock _lock = new();
    readonly long[] _current = new long[nodes.Length];

    public Node? Next(HashSet<int>? tried)
    {
        if (nodes.Length == 1)
        {
            return nodes[0].Config.Weight > 0 && tried?.Contains(nodes[0].Index) != true ? nodes[0] : null;
        }
        lock (_lock)
        {
            long total = 0;
            var best = -1;
            for (var i = 0; i < nodes.Length; i++)
            {
                var weight = nodes[i].Config.Weight;
                if (weight <= 0 || tried?.Contains(nodes[i].Index) == true)
                {
                    continue;
                }
                total += weight;
                _current[i] += weight;
                if (best < 0 || _current[i] > _current[best])
                {
                    best = i;
                }
            }
            if (best < 0)
            {
                return null;
            }
            _current[best] -= total;
            return nodes[best];
        }
    }
}

using Sluice.Model;
using Sluice.Upstreams.Balancers;

namespace Sluice.Upstreams;

/// <summary>The nodes that an upstream has at one time, with a balancer for each priority. Those of an upstream with service discovery come
/// and go.</summary>
sealed class NodeSet
{
    readonly Node[] _nodes;
    readonly IBalancer[] _tiers;

    /// <param name="known">The set before this one: what is known of a node goes on.</param>
    /// <param name="sameChecks">Whether that is so for health too.</param>
    public NodeSet(UpstreamConfig config, NodeConfig[] nodes, UpstreamServices services, NodeSet? known, bool sameChecks)
    {
        Configs = nodes;
        _nodes = [.. nodes.Select((node, index) => Make(index, node))];
        _tiers = [.. _nodes.GroupBy(node => node.Config.Priority).OrderByDescending(tier => tier.Key)
            .Select(tier => IBalancer.Create(config.Type, [.. tier], services.Time, services.Random))];

        Node Make(int index, NodeConfig node)
        {
            var port = node.Port ?? (config.Scheme is "https" or "grpcs" ? 443 : 80);
            var before = known?.Find(Node.NameOf(node, port));
            return new Node(index, node, port)
            {
                State = before?.State ?? new(),
                Health = config.Checks is null ? null : sameChecks && before?.Health is { } health ? health : new(),
            };
        }
    }

    /// <summary>What the set was made of: the same array means the same set.</summary>
    public NodeConfig[] Configs { get; }

    public IReadOnlyList<Node> Nodes => _nodes;

    Node? Find(string name) => Array.Find(_nodes, node => node.Name == name);

    /// <summary>
    /// A node of the highest priority that has one to try. Unhealthy ones are left out, unless all are: then nobody knows better.
    /// </summary>
    public Node? Pick(HashSet<int>? tried, string hashKey) =>
        Pick(new Pick(tried, HealthyOnly: true, hashKey))
        ?? (Array.Exists(_nodes, node => node.Config.Weight > 0 && node.IsHealthy) ? null
            : Pick(new Pick(tried, HealthyOnly: false, hashKey)));

    Node? Pick(in Pick pick)
    {
        foreach (var tier in _tiers)
        {
            if (tier.Pick(pick) is { } node)
            {
                return node;
            }
        }
        return null;
    }
}

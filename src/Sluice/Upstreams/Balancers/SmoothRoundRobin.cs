namespace Sluice.Upstreams.Balancers;

/// <summary>nginx's smooth weighted round robin: each pick adds its weight to every node and takes the total from the chosen one.</summary>
sealed class SmoothRoundRobin(Node[] nodes) : IBalancer
{
    readonly Lock _lock = new();
    readonly long[] _current = new long[nodes.Length];

    public Node? Pick(in Pick pick)
    {
        if (nodes.Length == 1)
        {
            return pick.Allows(nodes[0]) ? nodes[0] : null;
        }
        lock (_lock)
        {
            long total = 0;
            var best = -1;
            for (var i = 0; i < nodes.Length; i++)
            {
                if (!pick.Allows(nodes[i]))
                {
                    continue;
                }
                var weight = nodes[i].Config.Weight;
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

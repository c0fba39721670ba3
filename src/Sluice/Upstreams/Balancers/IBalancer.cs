namespace Sluice.Upstreams.Balancers;

/// <summary>Picks among the nodes of one priority.</summary>
interface IBalancer
{
    /// <summary>A node that <paramref name="pick"/> allows; null when there is none.</summary>
    Node? Pick(in Pick pick);

    public static IBalancer Create(string type, Node[] nodes, TimeProvider time, Random random) => type switch
    {
        "chash" => new HashRing(nodes),
        "least_conn" => new LeastConnections(nodes),
        "ewma" => new Ewma(nodes, time, random),
        _ => new SmoothRoundRobin(nodes),
    };
}

/// <summary>What one pick has to heed.</summary>
/// <param name="Tried">Nodes that failed for this request, by index.</param>
/// <param name="HealthyOnly">False: all nodes are unhealthy, so each is as good as the others.</param>
/// <param name="HashKey">For <c>chash</c>.</param>
readonly record struct Pick(HashSet<int>? Tried, bool HealthyOnly, string HashKey)
{
    public bool Allows(Node node) =>
        node.Config.Weight > 0 && (!HealthyOnly || node.IsHealthy) && Tried?.Contains(node.Index) != true;
}

namespace Sluice.Upstreams.Balancers;

/// <summary>
/// The node with the fewest requests under way for its weight, the one that is being picked counted in; between equals one after the other.
/// </summary>
sealed class LeastConnections(Node[] nodes) : IBalancer
{
    readonly Lock _lock = new();
    int _turn;

    public Node? Pick(in Pick pick)
    {
        lock (_lock)
        {
            Node? best = null;
            var bestScore = double.MaxValue;
            var start = _turn;
            for (var i = 0; i < nodes.Length; i++)
            {
                var at = (start + i) % nodes.Length;
                var node = nodes[at];
                var score = (node.State.Active + 1) / (double)node.Config.Weight;
                if (score < bestScore && pick.Allows(node))
                {
                    (best, bestScore) = (node, score);
                    _turn = at + 1;
                }
            }
            // counted here and not later: the next pick must see it
            best?.State.Enter();
            return best;
        }
    }
}

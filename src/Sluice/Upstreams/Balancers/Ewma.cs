namespace Sluice.Upstreams.Balancers;

/// <summary>Of two nodes drawn by lot the one whose answers have come faster lately (APISIX's peak EWMA). Weights only tell whether a node
/// takes part.</summary>
sealed class Ewma(Node[] nodes, TimeProvider time, Random random) : IBalancer
{
    public Node? Pick(in Pick pick)
    {
        var count = 0;
        foreach (var node in nodes)
        {
            count += pick.Allows(node) ? 1 : 0;
        }
        if (count == 0)
        {
            return null;
        }
        var first = random.Next(count);
        var second = count == 1 ? first : random.Next(count - 1);
        second += count > 1 && second >= first ? 1 : 0;
        // health may have changed meanwhile: then one of them is missing
        return (Nth(pick, first), Nth(pick, second)) switch
        {
            ({ } one, { } other) => one.State.Score(time) <= other.State.Score(time) ? one : other,
            var (one, other) => one ?? other,
        };
    }

    Node? Nth(in Pick pick, int index)
    {
        foreach (var node in nodes)
        {
            if (pick.Allows(node) && index-- == 0)
            {
                return node;
            }
        }
        return null;
    }
}

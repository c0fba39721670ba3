namespace Sluice.Plugins.Traffic;

/// <summary>Takes turns exactly by weight: of six turns with the weights 1 and 2 two go to the first and four to the second.</summary>
sealed class WeightedTurns(int[] weights)
{
    readonly Lock _lock = new();
    readonly long[] _current = new long[weights.Length];

    /// <summary>Whose turn it is; -1 when all weights are 0.</summary>
    public int Next()
    {
        if (weights.Length == 1)
        {
            return weights[0] > 0 ? 0 : -1;
        }
        lock (_lock)
        {
            var best = -1;
            long total = 0;
            for (var i = 0; i < weights.Length; i++)
            {
                total += weights[i];
                _current[i] += weights[i];
                if (weights[i] > 0 && (best < 0 || _current[i] > _current[best]))
                {
                    best = i;
                }
            }
            if (best >= 0)
            {
                _current[best] -= total;
            }
            return best;
        }
    }
}

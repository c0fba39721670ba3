using System.Runtime.InteropServices;

namespace Sluice.Upstreams.Balancers;

/// <summary>
/// Consistent hashing: every node has points on a ring, as many as its weight says, and a key belongs to the first point behind its own
/// hash. Points depend on the node alone, so a node that leaves (gone, unhealthy, tried) hands over its own keys and nobody else's. The
/// hash is the same on every gateway.
/// </summary>
sealed class HashRing : IBalancer
{
    const int PointsPerWeight = 160;
    const int MaxPoints = 256 * 1024;

    readonly ulong[] _hashes;
    readonly Node[] _owners;

    public HashRing(Node[] nodes)
    {
        var takingPart = nodes.Where(node => node.Config.Weight > 0).ToArray();
        var unit = takingPart.Aggregate(0, (divisor, node) => GreatestCommonDivisor(divisor, node.Config.Weight));
        var total = takingPart.Sum(node => (double)(node.Config.Weight / unit) * PointsPerWeight);
        var shrink = total > MaxPoints ? MaxPoints / total : 1;
        List<(ulong Hash, Node Owner)> points = [];
        foreach (var node in takingPart)
        {
            var count = Math.Max(1, (int)((double)(node.Config.Weight / unit) * PointsPerWeight * shrink));
            var seed = Hash(node.Name);
            for (var i = 0; i < count; i++)
            {
                points.Add((Mix(seed + ((ulong)i * 0x9E3779B97F4A7C15)), node));
            }
        }
        points.Sort(static (a, b) => a.Hash != b.Hash ? a.Hash.CompareTo(b.Hash) : string.CompareOrdinal(a.Owner.Name, b.Owner.Name));
        _hashes = [.. points.Select(point => point.Hash)];
        _owners = [.. points.Select(point => point.Owner)];
    }

    public Node? Pick(in Pick pick)
    {
        var start = Array.BinarySearch(_hashes, Hash(pick.HashKey));
        start = start < 0 ? ~start : start;
        for (var i = 0; i < _owners.Length; i++)
        {
            var node = _owners[(start + i) % _owners.Length];
            if (pick.Allows(node))
            {
                return node;
            }
        }
        return null;
    }

    /// <summary>FNV-1a, its bits stirred.</summary>
    static ulong Hash(string text)
    {
        var hash = 0xCBF29CE484222325;
        foreach (var part in MemoryMarshal.AsBytes(text.AsSpan()))
        {
            hash = (hash ^ part) * 0x100000001B3;
        }
        return Mix(hash);
    }

    /// <summary>The finalizer of MurmurHash3.</summary>
    static ulong Mix(ulong hash)
    {
        hash = (hash ^ (hash >> 33)) * 0xFF51AFD7ED558CCD;
        hash = (hash ^ (hash >> 33)) * 0xC4CEB9FE1A85EC53;
        return hash ^ (hash >> 33);
    }

    static int GreatestCommonDivisor(int a, int b) => b == 0 ? a : GreatestCommonDivisor(b, a % b);
}

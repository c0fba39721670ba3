using System.Collections;
using System.Diagnostics.CodeAnalysis;

namespace Sluice.Pipeline;

/// <summary>
/// An immutable map by text whose changed copy shares nearly everything with it: a change costs as much as a few dozen entries, however
/// many there are; a look-up is one in a hash table.
/// </summary>
internal sealed class SharedMap<TValue> : IEnumerable<KeyValuePair<string, TValue>>
    where TValue : class
{
    const int PerShard = 32;

    static readonly Dictionary<string, TValue> NoEntries = [];

    public static SharedMap<TValue> Empty { get; } = new([NoEntries], 0);

    readonly Dictionary<string, TValue>[] _shards;

    SharedMap(Dictionary<string, TValue>[] shards, int count) => (_shards, Count) = (shards, count);

    public static SharedMap<TValue> Of(IEnumerable<KeyValuePair<string, TValue>> entries)
    {
        var all = entries as ICollection<KeyValuePair<string, TValue>> ?? [.. entries];
        var shards = NewShards(all.Count);
        foreach (var (key, value) in all)
        {
            shards[At(key, shards.Length)].Add(key, value);
        }
        return new(shards, all.Count);
    }

    public int Count { get; }

    public TValue this[string key] => GetValueOrDefault(key) ?? throw new KeyNotFoundException(key);

    public IEnumerable<TValue> Values => _shards.SelectMany(shard => shard.Values);

    public TValue? GetValueOrDefault(string key) => _shards[At(key, _shards.Length)].GetValueOrDefault(key);

    public bool TryGetValue(string key, [MaybeNullWhen(false)] out TValue value) =>
        _shards[At(key, _shards.Length)].TryGetValue(key, out value);

    public bool TryGetValue(ReadOnlySpan<char> key, [MaybeNullWhen(false)] out TValue value) =>
        _shards[At(key, _shards.Length)].GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(key, out value);

    /// <summary>A changed copy; a null value removes.</summary>
    public SharedMap<TValue> With(IEnumerable<KeyValuePair<string, TValue?>> changes)
    {
        Dictionary<string, TValue>[]? shards = null;
        HashSet<int> copied = [];
        var count = Count;
        foreach (var (key, value) in changes)
        {
            shards ??= [.. _shards];
            var index = At(key, shards.Length);
            if (copied.Add(index))
            {
                shards[index] = new(shards[index]);
            }
            count -= shards[index].Remove(key) ? 1 : 0;
            if (value is not null)
            {
                shards[index].Add(key, value);
                count++;
            }
        }
        return shards is null ? this : Fits(count, shards.Length) ? new(shards, count) : Of([.. shards.SelectMany(shard => shard)]);
    }

    public SharedMap<TValue> With(string key, TValue? value) => With([KeyValuePair.Create(key, value)]);

    public IEnumerator<KeyValuePair<string, TValue>> GetEnumerator() => _shards.SelectMany(shard => shard).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    static int At(ReadOnlySpan<char> key, int shards) => shards == 1 ? 0 : string.GetHashCode(key) & (shards - 1);

    static bool Fits(int count, int shards) => count <= 4 * PerShard * shards && (shards == 1 || count * 4 >= PerShard * shards);

    static Dictionary<string, TValue>[] NewShards(int count)
    {
        var shards =
            new Dictionary<string, TValue>[(int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(1, count / PerShard))];
        for (var i = 0; i < shards.Length; i++)
        {
            shards[i] = [];
        }
        return shards;
    }
}

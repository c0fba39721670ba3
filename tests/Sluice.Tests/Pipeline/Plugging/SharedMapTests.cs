using System.Globalization;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline;

public class SharedMapTests
{
    [Fact]
    public void It_says_the_same_as_a_dictionary_after_any_changes_and_older_copies_stay()
    {
        var random = new Random(7);
        var map = SharedMap<string>.Empty;
        Dictionary<string, string> same = [];
        for (var i = 0; i < 3000; i++)
        {
            var key = random.Next(1000).ToString(CultureInfo.InvariantCulture);
            var value = random.Next(i > 2000 ? 1 : 4) == 0 ? null : $"v{i}";
            var (before, count) = (map, map.Count);
            map = map.With(key, value);
            Assert.Equal(count, before.Count);
            if (value is null)
            {
                same.Remove(key);
            }
            else
            {
                same[key] = value;
            }
            Assert.Equal(same.Count, map.Count);
            Assert.Equal(value, map.GetValueOrDefault(key));
        }
        Assert.Equal(same.OrderBy(pair => pair.Key), map.OrderBy(pair => pair.Key));
    }

    [Fact]
    public void A_key_is_found_by_span()
    {
        var map = SharedMap<string>.Of(Enumerable.Range(0, 500).Select(i => KeyValuePair.Create($"key{i}", $"{i}")));
        Assert.True(map.TryGetValue("xkey77"[1..].AsSpan(), out var found));
        Assert.Equal("77", found);
        Assert.False(map.TryGetValue("key500".AsSpan(), out _));
    }
}

using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Relay.Cache;

namespace Sluice.Tests.Relay.Cache;

public sealed class CacheZoneTests : IDisposable
{
    readonly FakeTime _time = new();
    readonly string _directory = Directory.CreateTempSubdirectory("sluice-cache-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    CacheZone InMemory(long most = 1 << 20) => new(null, [], most, _time, NullLogger.Instance);

    CacheZone InFiles() => new(_directory, [1, 2], 1 << 20, _time, NullLogger.Instance);

    CachedHead Head(string key, string[]? vary = null, string variant = "") =>
        new(key, vary ?? [], variant, 200, [new("X", ["1"])], _time.GetUtcNow().ToUnixTimeMilliseconds(), 60_000, 0);

    bool Put(CacheZone zone, CachedHead head, string body)
    {
        var fill = zone.Begin(head, null, long.MaxValue);
        fill?.Write(Encoding.UTF8.GetBytes(body));
        fill?.Commit();
        return zone.Find(head.Key, _ => head.Variant) is not null;
    }

    static async Task<string?> BodyAsync(CacheZone zone, string key, string variant = "")
    {
        if (zone.Find(key, _ => variant) is not { } entry || zone.Open(entry) is not { } body)
        {
            return null;
        }
        using (body)
        {
            var bytes = new byte[body.Length];
            var at = 0;
            for (int read; (read = await body.ReadAsync(bytes.AsMemory(at))) > 0; at += read)
            {
            }
            Assert.True(body.Ended);
            return Encoding.UTF8.GetString(bytes, 0, at);
        }
    }

    [Fact]
    public async Task Bodies_come_out_as_they_went_in()
    {
        await using var zone = InMemory();
        var text = string.Concat(Enumerable.Range(0, 20_000).Select(number => $"{number},"));
        var fill = zone.Begin(Head("k"), null, long.MaxValue)!;
        foreach (var piece in Encoding.UTF8.GetBytes(text).Chunk(7001))
        {
            fill.Write(piece);
        }
        Assert.Null(zone.Find("k", _ => ""));
        fill.Commit();
        Assert.Equal(text, await BodyAsync(zone, "k"));
        Assert.Equal(0, zone.Held);
    }

    [Fact]
    public async Task What_was_used_longest_ago_goes_first()
    {
        await using var zone = InMemory(most: 40_000);
        Assert.True(Put(zone, Head("a"), new('a', 15_000)));
        Assert.True(Put(zone, Head("b"), new('b', 15_000)));
        Assert.NotNull(zone.Find("a", _ => ""));
        Assert.True(Put(zone, Head("c"), new('c', 15_000)));
        Assert.Null(zone.Find("b", _ => ""));
        Assert.NotNull(zone.Find("a", _ => ""));
        Assert.InRange(zone.Bytes, 30_000, 40_000);
        Assert.False(Put(zone, Head("d"), new('d', 40_000)));
        Assert.Equal(0, zone.Held);
        zone.Purge("a");
        zone.Purge("c");
        Assert.Equal(0, zone.Bytes);
    }

    [Fact]
    public async Task What_is_under_way_takes_no_more_than_the_zone_may()
    {
        await using var zone = InMemory(most: 100_000);
        var one = zone.Begin(Head("a"), null, long.MaxValue)!;
        var other = zone.Begin(Head("b"), null, long.MaxValue)!;
        one.Write(new byte[60_000]);
        other.Write(new byte[60_000]);
        other.Commit();
        Assert.Null(zone.Find("b", _ => ""));
        one.Commit();
        Assert.NotNull(zone.Find("a", _ => ""));
        Assert.Equal(0, zone.Held);
    }

    [Fact]
    public async Task A_body_that_is_not_as_long_as_was_told_is_not_stored()
    {
        await using var zone = InMemory();
        var fill = zone.Begin(Head("k"), 10, long.MaxValue)!;
        fill.Write("hello"u8);
        fill.Commit();
        Assert.Null(zone.Find("k", _ => ""));
        Assert.Null(zone.Begin(Head("k"), 10, 9));
    }

    [Fact]
    public async Task A_key_has_a_variant_each_and_no_more_than_64()
    {
        await using var zone = InMemory();
        for (var i = 0; i < 65; i++)
        {
            Assert.True(Put(zone, Head("k", ["accept"], $"{i}"), $"body {i}"));
        }
        Assert.Null(await BodyAsync(zone, "k", "0"));
        Assert.Equal("body 64", await BodyAsync(zone, "k", "64"));
        // it depends on something else now
        Assert.True(Put(zone, Head("k", ["cookie"], "x"), "other"));
        Assert.Null(await BodyAsync(zone, "k", "64"));
        Assert.True(zone.Purge("k"));
        Assert.False(zone.Purge("k"));
    }

    [Fact]
    public async Task What_nobody_asks_for_in_a_day_goes()
    {
        await using var zone = InMemory();
        Put(zone, Head("old"), "1");
        _time.Advance(TimeSpan.FromHours(25));
        Put(zone, Head("new"), "2");
        Assert.Null(zone.Find("old", _ => ""));
        Assert.NotNull(zone.Find("new", _ => ""));
    }

    [Fact]
    public async Task Files_are_whole_or_not_there()
    {
        var zone = InFiles();
        Put(zone, Head("a"), new('a', 100_000));
        Put(zone, Head("b"), "b");
        Put(zone, Head("c"), "c");
        await zone.DisposeAsync();
        var files = Directory.GetFiles(_directory, "*", SearchOption.AllDirectories);
        Assert.Equal(3, files.Length);
        Assert.All(files, file => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file)));
        Assert.All(files,
            file => Assert.Equal(4, Path.GetRelativePath(_directory, file).Split('/')
                .Sum(part => part.Length is 1 or 2 ? part.Length : 1)));
        await using (var cut = File.OpenWrite(files.Single(file => new FileInfo(file).Length > 100_000)))
        {
            cut.SetLength(50_000);
        }
        File.WriteAllText(Path.Combine(_directory, "not-ours"), "x");
        await using var again = InFiles().Load();
        await WaitAsync(() => again.Find("b", _ => "") is not null && again.Find("c", _ => "") is not null);
        Assert.Equal("b", await BodyAsync(again, "b"));
        await WaitAsync(() => Directory.GetFiles(_directory, "*", SearchOption.AllDirectories).Length == 3);
        Assert.Null(again.Find("a", _ => ""));
        Assert.True(File.Exists(Path.Combine(_directory, "not-ours")));
        again.Purge("b");
        again.Purge("c");
        Assert.Single(Directory.GetFiles(_directory, "*", SearchOption.AllDirectories));
    }

    [Fact]
    public async Task A_file_that_somebody_has_deleted_is_a_miss()
    {
        await using (var zone = InFiles())
        {
            Put(zone, Head("a"), "a");
        }
        await using var again = InFiles().Load();
        await WaitAsync(() => again.Find("a", _ => "") is not null);
        File.Delete(Directory.GetFiles(_directory, "*", SearchOption.AllDirectories).Single());
        Assert.Null(await BodyAsync(again, "a"));
        Assert.Null(again.Find("a", _ => ""));
        Assert.Equal(0, again.Bytes);
    }

    static async Task WaitAsync(Func<bool> condition)
    {
        var ends = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(ends) < TimeSpan.FromSeconds(30));
            await Task.Yield();
        }
    }
}

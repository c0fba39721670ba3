using System.Globalization;
using System.Runtime.Versioning;
using Sluice.Sources;

namespace Sluice.FunctionalTests.Configuration;

public sealed class EmbeddedStoreTests : IDisposable
{
    readonly TemporaryPrefix _prefix = new();

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _prefix.Dispose();

    [Fact]
    public async Task Entries_carry_revisions_and_versions_like_etcd()
    {
        await using var store = Open();
        Assert.Equal(1, store.Revision);
        Assert.Equal(new StoreEntry("/a", "1", 2, 2, 1), await store.Put("/a", "1", Cancel));
        Assert.Equal(new StoreEntry("/b", "2", 3, 3, 1), await store.Put("/b", "2", Cancel));
        Assert.Equal(new StoreEntry("/a", "3", 2, 4, 2), await store.Put("/a", "3", Cancel));
        Assert.True(await store.Delete("/a", Cancel));
        Assert.False(await store.Delete("/a", Cancel));
        Assert.Equal(5, store.Revision);
        Assert.Null(store.Get("/a"));
        Assert.Equal(new StoreEntry("/a", "4", 6, 6, 1), await store.Put("/a", "4", Cancel));
    }

    [Fact]
    public async Task List_is_ordered_and_tells_its_revision()
    {
        await using var store = Open();
        foreach (var key in new[] { "/apisix/routes/b", "/apisix/services/s", "/apisix/routes/a", "/apisix/routes/B" })
        {
            await store.Put(key, "{}", Cancel);
        }
        var range = store.List("/apisix/routes/");
        Assert.Equal(5, range.Revision);
        Assert.Equal(["/apisix/routes/B", "/apisix/routes/a", "/apisix/routes/b"], range.Entries.Select(entry => entry.Key));
    }

    [Fact]
    public async Task Everything_is_there_after_reopening()
    {
        StoreEntry entry;
        await using (var store = Open())
        {
            await store.Put("/ä/ключ", "old", Cancel);
            await store.Put("/gone", "", Cancel);
            await store.Delete("/gone", Cancel);
            entry = await store.Put("/ä/ключ", "{\"name\":\"逐字转发 🚰\"}", Cancel);
        }
        await using var reopened = Open();
        Assert.Equal([entry], reopened.List("/").Entries);
        Assert.Equal(5, reopened.Revision);
        Assert.Equal(6, (await reopened.Put("/next", "", Cancel)).ModRevision);
    }

    [Fact]
    public async Task A_transaction_whose_condition_does_not_hold_changes_nothing()
    {
        await using var store = Open();
        var entry = await store.Put("/a", "1", Cancel);
        var refused = await store.Transaction(
            [new("/a", entry.ModRevision), new("/b", 7)], [new StoreOp.Put("/a", "2"), new StoreOp.Delete("/b")], Cancel);
        Assert.False(refused.Succeeded);
        Assert.Equal((entry, 2), (store.Get("/a"), store.Revision));

        var done = await store.Transaction(
            [new("/a", entry.ModRevision), new("/b", 0)], [new StoreOp.Delete("/a"), new StoreOp.Put("/b", "2")], Cancel);
        Assert.True(done.Succeeded);
        Assert.Equal(3, done.Revision);
        Assert.Equal([new("/b", "2", 3, 3, 1)], store.List("/").Entries);
    }

    [Theory]
    [InlineData("")]
    [InlineData("no-slash")]
    [InlineData("/nul\0")]
    [InlineData("/line\nfeed")]
    public async Task Bad_keys_are_refused(string key)
    {
        await using var store = Open();
        await Assert.ThrowsAsync<ArgumentException>(() => store.Put(key, "", Cancel));
        await Assert.ThrowsAsync<ArgumentException>(() => store.Put("/a", "nul \0 in it", Cancel));
        await Assert.ThrowsAsync<ArgumentException>(
            () => store.Transaction([], [new StoreOp.Put("/a", ""), new StoreOp.Delete("/a")], Cancel));
        Assert.Equal(1, store.Revision);
    }

    [Fact]
    public async Task Concurrent_writers_each_get_their_own_revision()
    {
        await using var store = Open();
        var entries = await Task.WhenAll(Enumerable.Range(0, 400).Select(i => Task.Run(() => store.Put($"/{i % 50}", $"{i}", Cancel))));
        Assert.Equal(Enumerable.Range(2, 400).Select(i => (long)i), entries.Select(entry => entry.ModRevision).Order());
        Assert.Equal(50, store.List("/").Entries.Count);
        Assert.All(store.List("/").Entries, entry => Assert.Equal(8, entry.Version));
    }

    [Fact]
    public async Task Only_one_of_two_compare_and_swaps_wins()
    {
        await using var store = Open();
        var results = await Task.WhenAll(Enumerable.Range(0, 20).Select(i =>
            Task.Run(() => store.Transaction([new("/leader", 0)], [new StoreOp.Put("/leader", $"{i}")], Cancel))));
        Assert.Single(results, result => result.Succeeded);
    }

    [Fact]
    public async Task A_watch_resumes_from_an_old_revision_and_goes_on_live()
    {
        await using (var store = Open())
        {
            await store.Put("/apisix/routes/1", "a", Cancel);
            await store.Put("/other", "b", Cancel);
            await store.Put("/apisix/routes/1", "c", Cancel);
            await store.Delete("/apisix/routes/1", Cancel);
        }
        await using var reopened = Open();
        await using var watch = reopened.Watch("/apisix/", 3, Cancel).GetAsyncEnumerator(Cancel);

        Assert.True(await watch.MoveNextAsync());
        Assert.Equal(5, watch.Current.Revision);
        Assert.Equal(
            [
                new StoreEvent(StoreEventKind.Put, new("/apisix/routes/1", "c", 2, 4, 2)),
                new StoreEvent(StoreEventKind.Delete, new("/apisix/routes/1", "", 0, 5, 0)),
            ],
            watch.Current.Events);

        var live = watch.MoveNextAsync().AsTask();
        await reopened.Put("/other", "d", Cancel);
        await reopened.Transaction([], [new StoreOp.Put("/apisix/x", "1"), new StoreOp.Put("/apisix/y", "2")], Cancel);
        Assert.True(await live);
        Assert.Equal(["/apisix/x", "/apisix/y"], watch.Current.Events.Select(change => change.Entry.Key));
    }

    [Fact]
    public async Task A_watch_from_now_on_sees_only_what_comes()
    {
        await using var store = Open();
        await store.Put("/a", "old", Cancel);
        await using var watch = store.Watch("/", cancel: Cancel).GetAsyncEnumerator(Cancel);
        await store.Put("/a", "new", Cancel);
        Assert.True(await watch.MoveNextAsync());
        Assert.Equal("new", Assert.Single(watch.Current.Events).Entry.Value);
    }

    [Fact]
    public async Task A_watch_of_thousands_of_changes_misses_none()
    {
        await using var store = Open(new StoreOptions(KeepRevisions: 5000));
        var writing = Task.WhenAll(Enumerable.Range(0, 3000).Select(i => store.Put($"/{i}", "", Cancel)));
        var seen = new List<long>();
        await foreach (var changes in store.Watch("/", 2, Cancel))
        {
            seen.AddRange(changes.Events.Select(change => change.Entry.ModRevision));
            if (seen.Count >= 3000)
            {
                break;
            }
        }
        await writing;
        Assert.Equal(Enumerable.Range(2, 3000).Select(i => (long)i), seen);
    }

    [Fact]
    public async Task A_watch_ends_when_the_store_is_closed()
    {
        var store = Open();
        await using var watch = store.Watch("/", cancel: Cancel).GetAsyncEnumerator(Cancel);
        var next = watch.MoveNextAsync().AsTask();
        await store.DisposeAsync();
        Assert.False(await next);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => store.Put("/a", "", Cancel));
    }

    [Fact]
    public async Task Compacted_revisions_are_refused_and_the_kept_ones_are_there()
    {
        await using var store = Open(new StoreOptions(KeepRevisions: 20));
        for (var i = 0; i < 200; i++)
        {
            await store.Put("/a", $"{i}", Cancel);
        }
        Assert.InRange(store.Revision - store.CompactedRevision, 20, 23);
        await using var late = store.Watch("/", 2, Cancel).GetAsyncEnumerator(Cancel);
        var error = await Assert.ThrowsAsync<CompactedException>(async () => await late.MoveNextAsync());
        Assert.Equal(store.CompactedRevision, error.CompactedRevision);

        await using var watch = store.Watch("/", store.CompactedRevision + 1, Cancel).GetAsyncEnumerator(Cancel);
        Assert.True(await watch.MoveNextAsync());
        Assert.Equal(store.Revision - store.CompactedRevision, watch.Current.Events.Count);
    }

    [Fact]
    public async Task What_was_answered_survives_kill_9()
    {
        var acknowledged = new List<string>();
        for (var round = 0; round < 3; round++)
        {
            using var writer = StoreWriter.Start(_prefix.Path);
            var enough = acknowledged.Count + 200;
            while (await writer.StandardOutput.ReadLineAsync(Cancel) is { } line)
            {
                acknowledged.Add(line);
                if (acknowledged.Count == enough)
                {
                    writer.Kill();
                }
            }
            await writer.WaitForExitAsync(Cancel);

            await using var store = Open();
            var entries = store.List("/").Entries.ToDictionary(entry => entry.Key);
            foreach (var line in acknowledged)
            {
                if (line.Split(' ') is [var key, var revision])
                {
                    Assert.True(entries[key].ModRevision >= long.Parse(revision, CultureInfo.InvariantCulture), line);
                }
            }
        }
        Assert.True(acknowledged.Count >= 600);
    }

    [Fact]
    public async Task A_second_instance_is_refused_with_prefix_and_pid()
    {
        await using (Open())
        {
            var error = Assert.Throws<PrefixInUseException>(() => Open());
            Assert.Contains(_prefix.Path, error.Message);
            Assert.Contains($"(pid {Environment.ProcessId})", error.Message);
        }
        await using var reopened = Open();
    }

    [Fact]
    public async Task The_pid_of_another_process_is_named_and_its_death_frees_the_prefix()
    {
        using (var writer = StoreWriter.Start(_prefix.Path))
        {
            await writer.StandardOutput.ReadLineAsync(Cancel);
            Assert.Equal(writer.Id, Assert.Throws<PrefixInUseException>(() => Open()).Holder);
            writer.Kill();
            await writer.WaitForExitAsync(Cancel);
        }
        Assert.True(File.Exists(Path.Combine(_prefix.Path, "data", "sluice.lock")));
        await using var store = Open();
        Assert.NotEmpty(store.List("/").Entries);
    }

    [Fact]
    [UnsupportedOSPlatform("windows")]
    public async Task A_store_is_for_its_owner_only()
    {
        await using var store = Open();
        await store.Put("/a", "secret", Cancel);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute,
            File.GetUnixFileMode(Path.Combine(_prefix.Path, "data")));
        Assert.All(Directory.GetFiles(Path.Combine(_prefix.Path, "data")),
            file => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file)));
        Assert.True(Directory.GetFiles(Path.Combine(_prefix.Path, "data")).Length >= 3);
    }

    public enum Damage
    {
        RandomMiddle,
        TruncatedHeader,
        Halved,
        Emptied,
        OtherText,
        OneLetterOfAValue,
    }

    [Theory]
    [InlineData(Damage.RandomMiddle)]
    [InlineData(Damage.TruncatedHeader)]
    [InlineData(Damage.Halved)]
    [InlineData(Damage.Emptied)]
    [InlineData(Damage.OtherText)]
    [InlineData(Damage.OneLetterOfAValue)]
    public async Task A_damaged_store_is_refused_and_left_as_it_is(Damage damage)
    {
        await using (var store = Open())
        {
            await Task.WhenAll(Enumerable.Range(0, 300).Select(i => store.Put($"/apisix/routes/{i}", new string('v', 500), Cancel)));
        }
        var bytes = await File.ReadAllBytesAsync(_prefix.Store, Cancel);
        switch (damage)
        {
            case Damage.RandomMiddle:
                new Random(1).NextBytes(bytes.AsSpan(bytes.Length / 4, bytes.Length / 2));
                break;
            case Damage.OneLetterOfAValue:
                bytes.AsSpan().Replace((byte)'v', (byte)'w');
                break;
            default:
                bytes = damage switch
                {
                    Damage.TruncatedHeader => bytes[..50],
                    Damage.Halved => bytes[..(bytes.Length / 2)],
                    Damage.OtherText =>
                        "not a database at all, but long enough to have been one, if only it had begun with the right sixteen bytes"u8.ToArray(),
                    _ => [],
                };
                break;
        }
        await File.WriteAllBytesAsync(_prefix.Store, bytes, Cancel);

        var error = Assert.Throws<StoreCorruptException>(() => Open());
        Assert.Contains(_prefix.Store, error.Message);
        Assert.Contains("left untouched", error.Message);
        Assert.Contains("\".recover\"", error.Message);
        Assert.Equal(bytes, await File.ReadAllBytesAsync(_prefix.Store, Cancel));

        // and the prefix is free again: whoever moves the file away can start
        File.Delete(_prefix.Store);
        await using var empty = Open();
        Assert.Empty(empty.List("/").Entries);
    }

    [Theory]
    [InlineData("PRAGMA user_version = 99", "newer Sluice")]
    [InlineData("PRAGMA application_id = 7", "not one of Sluice")]
    public async Task A_store_of_somebody_else_is_refused(string sql, string message)
    {
        await Open().DisposeAsync();
        await using (var connection = new Microsoft.Data.Sqlite.SqliteConnection($"Data Source={_prefix.Store};Pooling=False"))
        {
            connection.Open();
            using var command = connection.CreateCommand();
            command.CommandText = sql;
            command.ExecuteNonQuery();
        }
        Assert.Contains(message, Assert.Throws<StoreVersionException>(() => Open()).Message);
    }

    [Fact]
    public async Task A_full_disk_refuses_the_write_and_the_store_lives_on()
    {
        await using (var store = Open(new StoreOptions(KeepRevisions: 3, MaxPages: 60)))
        {
            var small = await store.Put("/small", "1", Cancel);
            var large = store.Put("/large", new string('x', 300_000), Cancel);
            var beside = store.Put("/beside", "1", Cancel);
            var error = await Assert.ThrowsAsync<StoreFullException>(() => large);
            Assert.Contains(_prefix.Store, error.Message);
            Assert.Equal("1", (await beside).Value);
            Assert.Null(store.Get("/large"));
            Assert.Equal(["/beside", "/small"], store.List("/").Entries.Select(entry => entry.Key));
            Assert.Equal(small, store.Get("/small"));
            await store.Put("/small", "2", Cancel);
        }
        await using var reopened = Open();
        Assert.Equal(["1", "2"], reopened.List("/").Entries.Select(entry => entry.Value));
        Assert.Equal(4, reopened.Revision);
    }

    [Fact]
    public async Task A_disk_that_is_really_full_refuses_writes_until_there_is_room_again()
    {
        using var disk = TinyDisk.Mount(Path.Combine(_prefix.Path, "tiny"), "1m");
        Assert.SkipWhen(disk is null, "mounting a tmpfs needs root");
        var acknowledged = new List<string>();
        var ballast = Path.Combine(disk.Path, "ballast");
        await File.WriteAllBytesAsync(ballast, new byte[200_000], Cancel);
        await using (var store = EmbeddedStore.Open(disk.Path, new StoreOptions(KeepRevisions: 3)))
        {
            Exception? refusal = null;
            for (var i = 0; refusal is null; i++)
            {
                refusal = await Record.ExceptionAsync(() => store.Put($"/{i:D4}", new string('x', 20_000), Cancel));
                if (refusal is null)
                {
                    acknowledged.Add($"/{i:D4}");
                }
            }
            Assert.IsType<StoreFullException>(refusal);
            Assert.NotEmpty(acknowledged);
            Assert.Equal(acknowledged, store.List("/").Entries.Select(entry => entry.Key));

            File.Delete(ballast);
            await store.Put("/zz", "after", Cancel);
            acknowledged.Add("/zz");
        }
        await using var reopened = EmbeddedStore.Open(disk.Path);
        Assert.Equal(acknowledged, reopened.List("/").Entries.Select(entry => entry.Key));
    }

    EmbeddedStore Open(StoreOptions? options = null) => EmbeddedStore.Open(_prefix.Path, options);
}

using System.Diagnostics;
using System.Text;
using CsCheck;
using Sluice.Relay;

namespace Sluice.Tests.Relay;

public sealed class BodySpoolTests : IDisposable
{
    readonly string _directory = Directory.CreateTempSubdirectory("sluice-spool").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    BodySpool Spool(int blocks = 4, int size = 16, long file = 1 << 20) => new(new SpoolLimits(blocks, size, file, _directory));

    static byte[] Bytes(int count, int from = 0) => [.. Enumerable.Range(from, count).Select(i => (byte)(i * 31 + (i >> 8)))];

    static async Task<byte[]> ReadAll(BodySpool spool)
    {
        var all = new MemoryStream();
        while (await spool.ReadAsync(Cancel) is { Length: > 0 } data)
        {
            all.Write(data.Span);
        }
        return all.ToArray();
    }

    [Fact]
    public async Task The_consumer_gets_each_piece_as_soon_as_it_is_there()
    {
        await using var spool = Spool();
        var read = spool.ReadAsync(Cancel);
        Assert.False(read.IsCompleted);
        await spool.WriteAsync("one"u8.ToArray(), Cancel);
        Assert.Equal("one", Encoding.ASCII.GetString((await read).Span));
        await spool.WriteAsync("two"u8.ToArray(), Cancel);
        await spool.WriteAsync("three"u8.ToArray(), Cancel);
        Assert.Equal("twothree", Encoding.ASCII.GetString((await spool.ReadAsync(Cancel)).Span));
        spool.Complete();
        Assert.True((await spool.ReadAsync(Cancel)).IsEmpty);
        Assert.True((await spool.ReadAsync(Cancel)).IsEmpty);
    }

    [Fact]
    public async Task Small_pieces_share_blocks_and_an_empty_spool_holds_none()
    {
        await using var spool = Spool(blocks: 2, size: 16, file: 0);
        for (var i = 0; i < 8; i++)
        {
            await spool.WriteAsync("123"u8.ToArray(), Cancel);
        }
        Assert.Equal(32, spool.Memory);
        spool.Complete();
        Assert.Equal(24, (await ReadAll(spool)).Length);
        Assert.Equal(0, spool.Memory);
        Assert.Equal(32, spool.PeakMemory);
    }

    [Fact]
    public async Task Without_a_file_a_full_memory_holds_the_producer_back_until_the_consumer_took_a_block()
    {
        await using var spool = Spool(blocks: 2, size: 16, file: 0);
        var writing = spool.WriteAsync(Bytes(48), Cancel).AsTask();
        Assert.False(writing.IsCompleted);
        Assert.Equal(32, spool.Memory);
        Assert.Equal(Bytes(16), (await spool.ReadAsync(Cancel)).ToArray());
        Assert.False(writing.IsCompleted);
        Assert.Equal(Bytes(16, 16), (await spool.ReadAsync(Cancel)).ToArray());
        await spool.ReadAsync(Cancel);
        await writing;
        Assert.Equal(32, spool.PeakMemory);
        Assert.Equal(0, spool.FileBytes);
    }

    [Fact]
    public async Task Above_memory_the_bytes_go_to_a_file_without_a_name_and_come_back_in_order()
    {
        await using var spool = Spool();
        await spool.WriteAsync(Bytes(1000), Cancel);
        Assert.Equal(1000 - 64, spool.FileBytes);
        Assert.Empty(Directory.GetFileSystemEntries(_directory));
        spool.Complete();
        Assert.Equal(Bytes(1000), await ReadAll(spool));
        Assert.Equal(0, spool.Memory);
        Assert.InRange(spool.PeakMemory, 64, 64 + 16 + 64);
    }

    [Fact]
    public async Task Megabytes_free_the_producer_long_before_a_slow_consumer_has_them()
    {
        const int Size = 8 << 20;
        var body = Bytes(Size);
        await using var spool = new BodySpool(new SpoolLimits(8, 4096, 1 << 30, _directory));
        await spool.WriteAsync(body, Cancel);
        spool.Complete();
        Assert.Equal(Size - 8 * 4096, spool.FileBytes);
        Assert.InRange(spool.PeakMemory, 1, 9 * 4096);
        var read = await ReadAll(spool);
        Assert.True(body.AsSpan().SequenceEqual(read));
        Assert.InRange(spool.PeakMemory, 1, 13 * 4096);
    }

    [Fact]
    public async Task A_drained_file_is_emptied_and_memory_is_used_again()
    {
        await using var spool = Spool();
        await spool.WriteAsync(Bytes(200), Cancel);
        for (var seen = 0; seen < 200;)
        {
            seen += (await spool.ReadAsync(Cancel)).Length;
        }
        Assert.Equal(0, OpenFileLength());
        var file = spool.FileBytes;
        await spool.WriteAsync(Bytes(60), Cancel);
        Assert.Equal(file, spool.FileBytes);
        Assert.Equal(Bytes(16), (await spool.ReadAsync(Cancel)).ToArray());
    }

    [Fact]
    public async Task A_full_file_holds_the_producer_back()
    {
        await using var spool = Spool(file: 64);
        var writing = spool.WriteAsync(Bytes(400), Cancel).AsTask();
        var all = new List<byte>();
        while (all.Count < 400)
        {
            all.AddRange((await spool.ReadAsync(Cancel)).ToArray());
            Assert.InRange(OpenFileLength(), 0, 64);
        }
        await writing;
        Assert.Equal(Bytes(400), all);
    }

    [Fact]
    public async Task An_error_of_the_producer_comes_after_all_bytes()
    {
        await using var spool = Spool();
        await spool.WriteAsync(Bytes(100), Cancel);
        spool.Complete(new IOException("reset by peer"));
        for (var seen = 0; seen < 100;)
        {
            seen += (await spool.ReadAsync(Cancel)).Length;
        }
        Assert.Equal("reset by peer", (await Assert.ThrowsAsync<IOException>(async () => await spool.ReadAsync(Cancel))).Message);
    }

    [Fact]
    public async Task A_consumer_that_leaves_wakes_the_waiting_producer()
    {
        var spool = Spool(blocks: 1, file: 0);
        var writing = spool.WriteAsync(Bytes(100), Cancel).AsTask();
        Assert.False(writing.IsCompleted);
        await spool.DisposeAsync();
        await Assert.ThrowsAsync<SpoolAbandonedException>(() => writing);
        Assert.Throws<SpoolAbandonedException>(() => spool.GetMemory());
        spool.Complete();
        Assert.Equal(0, spool.Memory);
    }

    [Fact]
    public async Task A_block_in_the_producers_hand_goes_back_only_when_the_producer_comes()
    {
        var spool = Spool();
        spool.GetMemory();
        await spool.DisposeAsync();
        Assert.Equal(16, spool.Memory);
        await Assert.ThrowsAsync<SpoolAbandonedException>(async () => await spool.AdvanceAsync(3, Cancel));
        Assert.Equal(0, spool.Memory);

        var other = Spool();
        await other.WriteAsync("abc"u8.ToArray(), Cancel);
        other.GetMemory();
        await other.DisposeAsync();
        Assert.Equal(16, other.Memory);
        other.Complete();
        Assert.Equal(0, other.Memory);
    }

    [Fact]
    public async Task Reader_and_writer_of_a_spool_can_stop_waiting()
    {
        await using var spool = Spool(blocks: 1, file: 0);
        using var stop = new CancellationTokenSource();
        var reading = spool.ReadAsync(stop.Token).AsTask();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading);

        using var stopWriting = new CancellationTokenSource();
        var writing = spool.WriteAsync(Bytes(100), stopWriting.Token).AsTask();
        await stopWriting.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => writing);
        Assert.Equal(Bytes(16), (await spool.ReadAsync(Cancel)).ToArray());
    }

    [Fact]
    public async Task A_file_that_cannot_be_written_holds_the_producer_back_and_is_told_once_with_its_directory()
    {
        var blocked = Path.Combine(_directory, "a-file");
        await File.WriteAllTextAsync(blocked, "", Cancel);
        List<SpoolException> told = [];
        await using var spool = new BodySpool(new SpoolLimits(1, 16, 1000, blocked), told.Add);
        var writing = spool.WriteAsync(Bytes(100), Cancel).AsTask();
        Assert.False(writing.IsCompleted);
        List<byte> read = [];
        while (read.Count < 100)
        {
            read.AddRange((await spool.ReadAsync(Cancel)).ToArray());
        }
        await writing;
        Assert.Equal(Bytes(100), read);
        Assert.Contains(blocked, Assert.Single(told).Message);
        Assert.Equal(0, spool.FileBytes);
        await spool.DisposeAsync();
        Assert.Equal(0, spool.Memory);
    }

    [Fact]
    public async Task A_temporary_file_is_for_the_gateways_user_only()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }
        await using var spool = Spool();
        await spool.WriteAsync(Bytes(1000), Cancel);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(OpenFiles().Single()));
    }

    [Fact]
    public void Any_interleaving_keeps_the_bytes_and_the_bounds() =>
        Gen.Select(Gen.Int[1, 4], Gen.Int[1, 20], Gen.OneOf(Gen.Const(0L), Gen.Long[1, 200], Gen.Const(1L << 20)),
            Gen.Int[0, 70].Array[0, 60], Gen.Int[0, 3].Array[1, 20])
            .Sample((blocks, size, file, pieces, pauses) => Task.Run(async () =>
            {
                var expected = Bytes(pieces.Sum());
                var spool = new BodySpool(new SpoolLimits(blocks, size, file, _directory));
                var producer = Task.Run(async () =>
                {
                    var at = 0;
                    for (var i = 0; i < pieces.Length; i++)
                    {
                        await spool.WriteAsync(expected.AsMemory(at, pieces[i]));
                        at += pieces[i];
                        await Pause(pauses[i % pauses.Length]);
                    }
                    spool.Complete();
                });
                var seen = new MemoryStream();
                for (var i = 0; await spool.ReadAsync() is { Length: > 0 } data; i++)
                {
                    seen.Write(data.Span);
                    await Pause(pauses[^(i % pauses.Length + 1)]);
                }
                await producer;
                Assert.Equal(expected, seen.ToArray());
                Assert.Equal(0, spool.Memory);
                Assert.InRange(spool.PeakMemory, 0, size * (blocks + 5));
                await spool.DisposeAsync();
            }).GetAwaiter().GetResult(), iter: 500);

    [Fact]
    public void A_reader_that_leaves_at_any_moment_leaks_nothing() =>
        Gen.Select(Gen.Int[1, 3], Gen.OneOfConst(0L, 100L, 1L << 20), Gen.Int[0, 30]).Sample((blocks, file, reads) => Task.Run(async () =>
        {
            var spool = new BodySpool(new SpoolLimits(blocks, 16, file, _directory));
            var producer = Task.Run(async () =>
            {
                try
                {
                    while (true)
                    {
                        spool.GetMemory().Span.Fill(1);
                        await spool.AdvanceAsync(7);
                    }
                }
                finally
                {
                    spool.Complete();
                }
            });
            for (var i = 0; i < reads; i++)
            {
                await spool.ReadAsync();
            }
            await spool.DisposeAsync();
            await Assert.ThrowsAsync<SpoolAbandonedException>(() => producer);
            Assert.Equal(0, spool.Memory);
        }).GetAwaiter().GetResult(), iter: 500);

    [Theory]
    [InlineData(0, 0)]
    [InlineData(10, 100)]
    [InlineData(100, 100)]
    [InlineData(1000, 100)]
    [InlineData(1000, 0)]
    [InlineData(1000, 40)]
    public async Task A_replayable_body_is_read_again_from_its_start(int length, int memory)
    {
        using var body = new ReplayableBody(memory, _directory, blockSize: 16);
        for (var at = 0; at < length; at += 7)
        {
            await body.AppendAsync(Bytes(Math.Min(7, length - at), at));
        }
        body.GetMemory();
        body.Seal();
        Assert.Equal(length, body.Length);
        Assert.Equal(Math.Max(0, length - memory), body.FileBytes);
        for (var i = 0; i < 3; i++)
        {
            using var reader = body.OpenReader();
            var all = new List<byte>();
            while (await reader.ReadAsync(Cancel) is { Length: > 0 } data)
            {
                all.AddRange(data.ToArray());
            }
            Assert.Equal(Bytes(length), all);
        }
    }

    static async ValueTask Pause(int yields)
    {
        for (var i = 0; i < yields; i++)
        {
            await Task.Yield();
        }
    }

    // the file has no name, but Linux shows it among the open files of the process
    IEnumerable<string> OpenFiles() => Directory.GetFiles("/proc/self/fd").Where(IsOurs);

    bool IsOurs(string fd)
    {
        try
        {
            return File.ResolveLinkTarget(fd, false)?.FullName.StartsWith(_directory, StringComparison.Ordinal) == true;
        }
        catch (FileNotFoundException)
        {
            // another test closed it meanwhile
            return false;
        }
    }

    long OpenFileLength() => OperatingSystem.IsLinux() ? OpenFiles().Sum(LengthOf) : 0;

    static long LengthOf(string fd)
    {
        using var file = new FileStream(fd, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        return file.Length;
    }
}

using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Bodies;

/// <summary>40 MB to a client that does not read, then reads: with buffering off the upstream is held back, with buffering on it is soon
/// free.</summary>
public class LargeDownloadTests
{
    const int Megabyte = 1024 * 1024;
    const long Size = 40 * Megabyte;

    /// <summary>Sends as fast as it may and tells how far it got.</summary>
    sealed class Source : IAsyncDisposable
    {
        readonly ScriptedOrigin _origin;
        readonly TaskCompletionSource _sentAll = new(TaskCreationOptions.RunContinuationsAsynchronously);
        long _sent;

        public Source(bool chunked = false)
        {
            _origin = ScriptedOrigin.Start(async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(
                    $"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{(chunked ? "Transfer-Encoding: chunked" : $"Content-Length: {Size}")}\r\n\r\n");
                var piece = new byte[64 * 1024];
                try
                {
                    for (long at = 0; at < Size; at += piece.Length)
                    {
                        Fill(piece, at);
                        if (chunked)
                        {
                            await connection.SendAsync($"{piece.Length:x}\r\n");
                        }
                        await connection.SendAsync(piece, patience: TimeSpan.FromSeconds(60));
                        if (chunked)
                        {
                            await connection.SendAsync("\r\n");
                        }
                        Interlocked.Add(ref _sent, piece.Length);
                    }
                    if (chunked)
                    {
                        await connection.SendAsync("0\r\n\r\n");
                    }
                }
                catch (IOException)
                {
                    Gone.TrySetResult();
                    return;
                }
                _sentAll.TrySetResult();
                await connection.ReadEndAsync();
                Gone.TrySetResult();
            });
        }

        public int Port => _origin.Port;

        public long Sent => Interlocked.Read(ref _sent);

        public Task SentAll => _sentAll.Task;

        public TaskCompletionSource Gone { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        /// <summary>Each position has a byte of its own, so that nothing can be lost, doubled or moved unseen.</summary>
        public static void Fill(Span<byte> piece, long at)
        {
            for (var i = 0; i < piece.Length; i++)
            {
                piece[i] = (byte)((at + i) * 31 >> 8);
            }
        }

        public ValueTask DisposeAsync() => _origin.DisposeAsync();
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public async Task With_buffering_off_the_upstream_goes_as_fast_as_the_client(bool chunked, bool http2)
    {
        await using var source = new Source(chunked);
        await using var gateway = await TestGateway.StartAsync(nginx: "http { proxy_buffering off; }");
        await gateway.RouteAsync("r1", "/big", source.Port);
        using var response = await OpenAsync(gateway, http2);
        using var body = await response.Content.ReadAsStreamAsync();

        // what is on its way fills the kernel's buffers of two connections and no more
        await SettledAsync(() => source.Sent);
        Assert.False(source.SentAll.IsCompleted);
        Assert.InRange(source.Sent, 1, Size - 4 * Megabyte);
        Assert.Empty(TemporaryFiles(gateway));

        await ReadAllAsync(body);
        await source.SentAll.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public async Task With_buffering_on_the_upstream_is_free_before_the_client_has_read_anything(bool chunked, bool http2)
    {
        await using var source = new Source(chunked);
        await using var gateway = await TestGateway.StartAsync(nginx: "http { proxy_buffering on; }");
        await gateway.RouteAsync("r1", "/big", source.Port);
        using var response = await OpenAsync(gateway, http2);
        using var body = await response.Content.ReadAsStreamAsync();

        await source.SentAll.WaitAsync(TimeSpan.FromSeconds(30));
        // what memory does not hold is in a file that nobody else can open and that is gone with the gateway
        await Eventually.TrueAsync(() => TemporaryFiles(gateway).Length > 0, "no temporary file");
        Assert.All(TemporaryFiles(gateway), file => Assert.EndsWith(" (deleted)", file, StringComparison.Ordinal));
        Assert.Empty(Directory.GetFiles(Path.Combine(gateway.Prefix, "data", "tmp")));

        await ReadAllAsync(body);
        await Eventually.TrueAsync(() => TemporaryFiles(gateway).Length == 0, "the temporary file stays");
    }

    [Fact]
    public async Task With_buffering_on_and_no_file_the_upstream_waits_when_memory_is_full()
    {
        await using var source = new Source();
        await using var gateway = await TestGateway.StartAsync(nginx: "http { proxy_buffering on; proxy_max_temp_file_size 0; }");
        await gateway.RouteAsync("r1", "/big", source.Port);
        using var response = await OpenAsync(gateway);
        using var body = await response.Content.ReadAsStreamAsync();

        await SettledAsync(() => source.Sent);
        Assert.False(source.SentAll.IsCompleted);
        Assert.Empty(TemporaryFiles(gateway));

        await ReadAllAsync(body);
        await source.SentAll.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task A_client_that_leaves_in_the_middle_frees_file_and_upstream()
    {
        await using var source = new Source();
        await using var gateway = await TestGateway.StartAsync(nginx: "http { proxy_buffering on; proxy_max_temp_file_size 8m; }");
        await gateway.RouteAsync("r1", "/big", source.Port);
        using (var response = await OpenAsync(gateway))
        {
            await Eventually.TrueAsync(() => TemporaryFiles(gateway).Length > 0, "no temporary file");
            await SettledAsync(() => source.Sent);
            Assert.False(source.SentAll.IsCompleted);
        }
        await source.Gone.Task.WaitAsync(TimeSpan.FromSeconds(30));
        await Eventually.TrueAsync(() => TemporaryFiles(gateway).Length == 0, "the temporary file stays");
    }

    [Fact]
    public async Task On_a_full_disk_the_upstream_waits_for_the_client_which_gets_all()
    {
        var mounted = Directory.CreateTempSubdirectory("sluice-disk-").FullName;
        var disk = TinyDisk.Mount(mounted, "2m");
        // who may not mount has a place at which nobody can write
        var (directory, complaint) = disk is null ? ("/proc/sluice", "cannot create a temporary file")
            : (mounted, "No space left on device");
        try
        {
            await using var source = new Source();
            await using var gateway = await TestGateway.StartAsync(nginx: $"http {{ proxy_buffering on; proxy_temp_path {directory}; }}");
            await gateway.RouteAsync("r1", "/big", source.Port);
            using (var response = await OpenAsync(gateway))
            {
                using var body = await response.Content.ReadAsStreamAsync();
                // the client has read nothing when the disk is full
                await gateway.ErrorLogSaysAsync(complaint);
                await ReadAllAsync(body);
            }
            await Eventually.TrueAsync(() => TemporaryFiles(gateway, directory).Length == 0, "the temporary file stays");

            await using var small = EchoOrigin.Start();
            await gateway.RouteAsync("r2", "/small", small.Port);
            Assert.StartsWith("GET /small", await gateway.Client.GetStringAsync(gateway.Url("/small")), StringComparison.Ordinal);
        }
        finally
        {
            disk?.Dispose();
            Directory.Delete(mounted);
        }
    }

    static Task<HttpResponseMessage> OpenAsync(TestGateway gateway, bool http2 = false) => gateway.Client.SendAsync(
        new HttpRequestMessage(HttpMethod.Get, gateway.Url("/big"))
        {
            Version = http2 ? HttpVersion.Version20 : HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        },
        HttpCompletionOption.ResponseHeadersRead);

    static async Task ReadAllAsync(Stream body)
    {
        var piece = new byte[64 * 1024];
        var expected = new byte[piece.Length];
        long at = 0;
        while (await body.ReadAsync(piece).AsTask().WaitAsync(TimeSpan.FromSeconds(30)) is > 0 and var read)
        {
            Source.Fill(expected.AsSpan(0, read), at);
            Assert.True(piece.AsSpan(0, read).SequenceEqual(expected.AsSpan(0, read)), $"other bytes after {at}");
            at += read;
        }
        Assert.Equal(Size, at);
    }

    /// <summary>Waits until a number has stopped growing.</summary>
    static async Task SettledAsync(Func<long> number)
    {
        long before = -1;
        for (var same = 0; same < 20;)
        {
            await Task.Delay(60);
            var now = number();
            same = now == before && now > 0 ? same + 1 : 0;
            before = now;
        }
    }

    /// <summary>This process's open files of that gateway that were meant for buffering.</summary>
    static string[] TemporaryFiles(TestGateway gateway, string? directory = null)
    {
        directory ??= Path.Combine(gateway.Prefix, "data", "tmp");
        List<string> found = [];
        foreach (var descriptor in Directory.GetFiles("/proc/self/fd"))
        {
            try
            {
                if (File.ResolveLinkTarget(descriptor, false)?.FullName is { } target
                    && target.StartsWith(directory + "/", StringComparison.Ordinal))
                {
                    found.Add(target);
                }
            }
            catch (IOException)
            {
                // closed meanwhile
            }
        }
        return [.. found];
    }
}

using System.Buffers;
using System.IO.Compression;
using System.Text;
using Sluice.Pipeline;

namespace Sluice.Tests.Plugins.Transform;

/// <summary>gzip, and brotli where it is the same.</summary>
public class GzipTests
{
    static readonly string Body = string.Concat(Enumerable.Repeat("<p>hello</p>", 50));

    [Theory]
    [InlineData("gzip", """{"types":"x"}""", """property "types" validation failed: object matches none of the required""")]
    [InlineData("gzip", """{"comp_level":10}""", """property "comp_level" validation failed: expected 10 to be at most 9""")]
    [InlineData("brotli", """{"lgwin":9}""", """property "lgwin" validation failed: matches none of the enum values""")]
    [InlineData("brotli", """{"mode":3}""", """property "mode" validation failed: expected 3 to be at most 2""")]
    public void Wrong_configurations_are_refused(string plugin, string config, string error) =>
        Assert.Equal(error, PluginTest.Check(plugin, config));

    [Theory]
    [InlineData("gzip", "{}", "gzip", "text/html; charset=utf-8", true)]
    [InlineData("gzip", "{}", "deflate, gzip;q=0.5", "text/html", true)]
    [InlineData("gzip", "{}", "gzip;q=0", "text/html", false)]
    [InlineData("gzip", "{}", "br", "text/html", false)]
    [InlineData("gzip", "{}", "*", "text/html", true)]
    [InlineData("gzip", "{}", null, "text/html", false)]
    [InlineData("gzip", "{}", "gzip", "text/plain", false)]
    [InlineData("gzip", """{"types":"*"}""", "gzip", "text/plain", true)]
    [InlineData("gzip", """{"types":["text/plain"]}""", "gzip", "text/plain", true)]
    [InlineData("gzip", """{"min_length":601}""", "gzip", "text/html", false)]
    [InlineData("gzip", """{"min_length":600}""", "gzip", "text/html", true)]
    [InlineData("brotli", "{}", "br", "text/html", true)]
    [InlineData("brotli", "{}", "gzip, br;q=0.1", "text/html", true)]
    [InlineData("brotli", "{}", "br;q=0", "text/html", false)]
    [InlineData("brotli", "{}", "gzip", "text/html", false)]
    [InlineData("brotli", """{"lgwin":0,"comp_level":0}""", "*", "text/html", true)]
    public async Task Type_length_and_what_the_client_accepts_decide(string plugin, string config, string? accept, string type,
        bool compressed)
    {
        var (result, bytes) = await SendAsync($$$"""{"{{{plugin}}}":{{{config}}}}""", accept,
            Upstream(200, ("Content-Type", type), ("Content-Length", "600")));
        Assert.Equal(compressed ? plugin == "gzip" ? "gzip" : "br" : null, result.Answered("Content-Encoding"));
        Assert.Equal(Body, Encoding.UTF8.GetString(compressed ? Decompress(plugin, bytes) : bytes));
    }

    [Theory]
    [InlineData(500, null)]
    [InlineData(404, "gzip")]
    public async Task Gzip_is_for_the_statuses_that_nginx_compresses(int status, string? encoding) =>
        Assert.Equal(encoding,
            (await SendAsync("""{"gzip":{}}""", "gzip", Upstream(status, ("Content-Type", "text/html")))).Result.Answered(
                "Content-Encoding"));

    [Fact]
    public async Task What_is_compressed_already_stays()
    {
        var (result, bytes) = await SendAsync("""{"gzip":{}}""", "gzip",
            Upstream(200, ("Content-Type", "text/html"), ("Content-Encoding", "zstd")));
        Assert.Equal(("zstd", Body), (result.Answered("Content-Encoding"), Encoding.UTF8.GetString(bytes)));
    }

    [Theory]
    [InlineData("\"a\"", "W/\"a\"")]
    [InlineData("W/\"a\"", "W/\"a\"")]
    [InlineData("a", null)]
    [InlineData("\"a\"b\"", null)]
    public async Task A_strong_etag_becomes_a_weak_one(string tag, string? after)
    {
        foreach (var (plugin, accept) in ((string, string)[])[("gzip", "gzip"), ("brotli", "br")])
        {
            Assert.Equal(after,
                (await SendAsync($$$"""{"{{{plugin}}}":{}}""", accept,
                    Upstream(200, ("Content-Type", "text/html"), ("ETag", tag)))).Result.Answered("ETag"));
        }
    }

    [Theory]
    [InlineData("gzip", "gzip", "upstream | Accept-Encoding")]
    [InlineData("gzip", "deflate", "upstream | Accept-Encoding")]
    [InlineData("brotli", "br", "upstream | Accept-Encoding")]
    [InlineData("brotli", "deflate", "upstream")]
    public async Task Vary_is_added_to_what_is_there(string plugin, string accept, string vary) => Assert.Equal(
        vary,
        (await SendAsync($$$"""{"{{{plugin}}}":{"vary":true}}""", accept,
            Upstream(200, ("Content-Type", "text/html"), ("Vary", "upstream")))).Result.Answered("Vary"));

    [Theory]
    [InlineData("gzip", "gzip")]
    [InlineData("brotli", "br")]
    public async Task Each_piece_of_a_stream_can_be_read_as_soon_as_it_is_there(string plugin, string accept)
    {
        var upstream = PluginTest.Upstream.Events("data: 1\n\n", "data: 2\n\n");
        var (result, _) = await SendAsync($$$"""{"{{{plugin}}}":{"types":["text/event-stream"]}}""", accept, upstream);
        var filter = BodyFilters.Open(result.Exchange, out _)!;
        var output = new ArrayBufferWriter<byte>();
        for (var i = 1; i <= 3; i++)
        {
            filter.Filter(Encoding.UTF8.GetBytes($"data: {i}\n\n"), false, output);
            Assert.Equal(string.Concat(Enumerable.Range(1, i).Select(n => $"data: {n}\n\n")),
                Encoding.UTF8.GetString(Beginning(plugin, output.WrittenSpan.ToArray(), 9 * i)));
        }
    }

    [Fact]
    public async Task Other_plugins_see_the_body_before_it_is_compressed()
    {
        var (result, bytes) = await SendAsync(
            """{"gzip":{},"response-rewrite":{"filters":[{"regex":"hello","replace":"bye","scope":"global"}]}}""", "gzip",
            Upstream(200, ("Content-Type", "text/html")));
        Assert.Equal(("gzip", Body.Replace("hello", "bye", StringComparison.Ordinal)),
            (result.Answered("Content-Encoding"), Encoding.UTF8.GetString(Decompress("gzip", bytes))));
    }

    [Fact]
    public async Task Brotli_goes_before_gzip()
    {
        var (result, bytes) = await SendAsync("""{"gzip":{},"brotli":{}}""", "gzip, br", Upstream(200, ("Content-Type", "text/html")));
        Assert.Equal(("br", Body), (result.Answered("Content-Encoding"), Encoding.UTF8.GetString(Decompress("brotli", bytes))));
    }

    static PluginTest.Upstream Upstream(int status, params (string, string)[] headers) =>
        new(status, headers) { Pieces = [Encoding.UTF8.GetBytes(Body[..300]), Encoding.UTF8.GetBytes(Body[300..])] };

    static async Task<(PluginTest.Result Result, byte[] Bytes)> SendAsync(string plugins, string? accept, PluginTest.Upstream upstream)
    {
        var result = await new PluginTest(plugins).SendAsync("GET", "/", upstream, accept is null ? [] : [("Accept-Encoding", accept)]);
        return (result, result.Bytes);
    }

    static byte[] Decompress(string plugin, byte[] bytes)
    {
        using var stream = Open(plugin, bytes);
        using var plain = new MemoryStream();
        stream.CopyTo(plain);
        return plain.ToArray();
    }

    static byte[] Beginning(string plugin, byte[] bytes, int length)
    {
        using var stream = Open(plugin, bytes);
        var plain = new byte[length];
        stream.ReadExactly(plain);
        return plain;
    }

    static Stream Open(string plugin, byte[] bytes) => plugin == "gzip"
        ? new GZipStream(new MemoryStream(bytes), CompressionMode.Decompress)
        : new BrotliStream(new MemoryStream(bytes), CompressionMode.Decompress);
}

using System.IO.Compression;
using System.Text;

namespace Sluice.Tests.Plugins.Transform;

public class ResponseRewriteTests
{
    [Theory]
    [InlineData("""{"status_code":199}""", """property "status_code" validation failed: expected 199 to be at least 200""")]
    [InlineData("""{"body":"a","filters":[{"regex":"a","replace":"b"}]}""",
        """failed to validate dependent schema for "body": value wasn't supposed to match schema""")]
    [InlineData("""{"body":"???","body_base64":true}""", "invalid base64 content")]
    [InlineData("""{"body_base64":true}""", "invalid base64 content")]
    [InlineData("""{"filters":[{"regex":"a"}]}""",
        """property "filters" validation failed: failed to validate item 1: property "replace" is required""")]
    [InlineData("""{"filters":[{"regex":"a","replace":"b","options":"z"}]}""",
        "regex \"a\" validation failed: unknown flag \"z\" (flags \"z\")")]
    [InlineData("""{"headers":{"set":{"Content-Length":"5"}}}""",
        "header Content-Length can not be set: the gateway frames answers itself")]
    [InlineData("""{"headers":{"a b":"c"}}""", "invalid field character in header")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("response-rewrite", config));

    [Fact]
    public void Wrong_vars_are_refused() =>
        Assert.StartsWith("failed to validate the 'vars' expression: ",
            PluginTest.Check("response-rewrite", """{"vars":[["a","??","b"]]}"""), StringComparison.Ordinal);

    [Fact]
    public async Task Status_and_headers_change_and_the_body_streams_on()
    {
        var result =
            await Test("""{"status_code":201,"headers":{"add":["X-A: 2"],"set":{"X-B":"$status $remote_addr"},"remove":["X-C"]}}""")
            .SendAsync("GET", "/", PluginTest.Upstream.Text("a", "b") with { Headers = [("X-A", "1"), ("X-C", "gone"), ("ETag", "kept")] });
        Assert.Equal(201, result.Status);
        Assert.Equal("1 | 2", result.Answered("X-A"));
        Assert.Equal("201 192.0.2.1", result.Answered("X-B"));
        Assert.Null(result.Answered("X-C"));
        Assert.Equal("kept", result.Answered("ETag"));
        Assert.Equal("ab", result.Body);
        Assert.Null(Sluice.Pipeline.BodyFilters.Open(result.Exchange, out _));
    }

    [Theory]
    [InlineData("""{"body":"new"}""", "new")]
    [InlineData("""{"body":"bmV3","body_base64":true}""", "new")]
    [InlineData("""{"body":""}""", "")]
    public async Task A_new_body_replaces_the_upstreams(string config, string expected)
    {
        var result = await Test(config)
            .SendAsync("GET", "/",
                PluginTest.Upstream.Text("old") with { Headers = [("Content-Encoding", "gzip"), ("ETag", "x"), ("Last-Modified", "x")] });
        Assert.Equal(expected, result.Body);
        Assert.Null(result.Answered("Content-Encoding"));
        Assert.Null(result.Answered("ETag"));
        Assert.Null(result.Answered("Last-Modified"));
    }

    [Theory]
    [InlineData("""{"filters":[{"regex":"l","replace":"L"}]}""", "heLlo wörld")]
    [InlineData("""{"filters":[{"regex":"l","replace":"L","scope":"global"}]}""", "heLLo wörLd")]
    [InlineData("""{"filters":[{"regex":"(H)(E)","replace":"$2$1","options":"joi"}]}""", "ehllo wörld")]
    [InlineData("""{"filters":[{"regex":"ö","replace":"oe"},{"regex":"oe","replace":"ü"}]}""", "hello würld")]
    public async Task Filters_see_the_whole_body_whatever_its_pieces(string config, string expected)
    {
        var result = await Test(config).SendAsync("GET", "/", PluginTest.Upstream.Text("hel", "lo wö", "rld"));
        Assert.Equal(expected, result.Body);
    }

    [Fact]
    public async Task Filters_read_compressed_bodies()
    {
        var compressed = new MemoryStream();
        using (var gzip = new GZipStream(compressed, CompressionMode.Compress))
        {
            gzip.Write("hello"u8);
        }
        var result = await Test("""{"filters":[{"regex":"hello","replace":"bye"}]}""")
            .SendAsync("GET", "/", new PluginTest.Upstream(200, ("Content-Encoding", "gzip")) { Pieces = [compressed.ToArray()] });
        Assert.Equal("bye", result.Body);
        Assert.Null(result.Answered("Content-Encoding"));
    }

    [Fact]
    public async Task A_body_that_filters_cannot_read_stays_what_it_is()
    {
        var result = await Test("""{"filters":[{"regex":"hello","replace":"bye"}]}""")
            .SendAsync("GET", "/",
                new PluginTest.Upstream(200, ("Content-Encoding", "zstd"), ("ETag", "1")) { Pieces = ["hello"u8.ToArray()] });
        Assert.Equal(("hello", "zstd", "1"), (result.Body, result.Answered("Content-Encoding"), result.Answered("ETag")));
    }

    [Theory]
    [InlineData(105, 200, "HELLO")]
    [InlineData(104, 500, "{\"error_msg\":\"500 Internal Server Error\"}\n")]
    public async Task A_body_over_the_limit_is_an_error_and_never_cut(int limit, int status, string body)
    {
        var result = await Test($$"""{"max_resp_body_size":{{limit}},"filters":[{"regex":"hello","replace":"HELLO"}]}""")
            .SendAsync("GET", "/", PluginTest.Upstream.Text("hel", "lo", new string(' ', 100)));
        Assert.Equal((status, body), (result.Status, result.Body.TrimEnd(' ')));
    }

    [Theory]
    [InlineData(200, "changed")]
    [InlineData(500, "same")]
    public async Task Vars_say_for_which_answers(int status, string expected)
    {
        var result = await Test("""{"body":"changed","vars":[["status","==",200]]}""")
            .SendAsync("GET", "/", PluginTest.Upstream.Text("same") with { Status = status });
        Assert.Equal(expected, result.Body);
    }

    [Fact]
    public async Task A_line_end_in_a_variable_stays_in_its_header()
    {
        var result = await Test("""{"headers":{"set":{"X-U":"$uri"}}}""").GetAsync("/a%0D%0AX-Evil:1");
        Assert.Equal("/a%0D%0AX-Evil:1", result.Answered("X-U"));
    }

    static PluginTest Test(string config) => new($$$"""{"response-rewrite":{{{config}}}}""");
}

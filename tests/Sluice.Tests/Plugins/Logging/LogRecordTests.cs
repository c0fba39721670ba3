using System.IO.Compression;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Pipeline;
using Sluice.Plugins.Logging;

namespace Sluice.Tests.Plugins.Logging;

public sealed class LogRecordTests
{
    static readonly PluginTest Route = new("{}");

    static async Task<JsonObject?> EntryAsync(string config, string target = "/a?b=1&b=2&c", PluginTest.Upstream? upstream = null,
        JsonObject? metadata = null, List<string>? warnings = null)
    {
        var record = new LogRecord(new(), JsonNode.Parse(config)!.AsObject(), metadata, text => warnings?.Add(text));
        var result = await Route.SendAsync("GET", target, PluginTest.Upstream.Text("x"), ("X-Two", "1"), ("X-Two", "2"));
        var exchange = result.Exchange;
        if (upstream is not null && record.OpenBody(exchange) is { } copy)
        {
            exchange.Response.Headers.ContentEncoding = upstream.Headers.FirstOrDefault(header => header.Name == "Content-Encoding").Value;
            copy = record.OpenBody(exchange)!;
            var output = new System.Buffers.ArrayBufferWriter<byte>();
            foreach (var piece in upstream.Pieces)
            {
                output.Clear();
                copy.Filter(piece, false, output);
                // every piece leaves as it came, at once
                Assert.Equal(piece, output.WrittenSpan.ToArray());
            }
            copy.Filter(default, true, output);
        }
        return record.Of(exchange) is { } entry ? JsonNode.Parse(LogRecord.Bytes(entry))!.AsObject() : null;
    }

    [Fact]
    public async Task The_default_entry_has_apisixs_shape()
    {
        var entry = (await EntryAsync("{}"))!;
        Assert.Equal("http://gateway.test:9080/a?b=1&b=2&c", (string?)entry["request"]!["url"]);
        Assert.Equal("/a?b=1&b=2&c", (string?)entry["request"]!["uri"]);
        Assert.Equal("""{"b":["1","2"],"c":true}""", entry["request"]!["querystring"]!.ToJsonString());
        Assert.Equal("""["1","2"]""", entry["request"]!["headers"]!["x-two"]!.ToJsonString());
        Assert.Equal(200, (int)entry["response"]!["status"]!);
        Assert.Equal(("r1", "", "192.0.2.1"), ((string?)entry["route_id"], (string?)entry["service_id"], (string?)entry["client_ip"]));
        Assert.Equal("127.0.0.1:1", (string?)entry["upstream"]);
        Assert.False(entry.ContainsKey("consumer"));
        Assert.True((double)entry["apisix_latency"]! >= 0);
    }

    [Fact]
    public async Task A_format_nests_keeps_numbers_and_leaves_out_what_has_no_value()
    {
        var entry =
            (await EntryAsync(
                """{"log_format":{"s":"$status","a":"$arg_b","none":"$arg_none","fixed":"f","n":3,"in":{"h":"$host"} } }"""))!;
        Assert.Equal("""{"s":200,"a":"1","fixed":"f","n":3,"in":{"h":"gateway.test"},"route_id":"r1"}""", entry.ToJsonString());
    }

    [Fact]
    public async Task What_nests_too_deep_is_empty_and_said()
    {
        List<string> warnings = [];
        var entry = (await EntryAsync("""{"log_format":{"a":{"b":{"c":{"d":{"e":{"f":"$status"} } } } } } }""", warnings: warnings))!;
        Assert.Equal("{}", entry["a"]!["b"]!["c"]!["d"]!["e"]!.ToJsonString());
        Assert.Equal(["log_format nesting exceeds max depth 5, truncating"], warnings);
    }

    [Fact]
    public async Task The_plugins_format_comes_before_the_metadatas_and_an_empty_one_of_the_metadata_is_none()
    {
        var metadata = JsonNode.Parse("""{"log_format":{"from":"metadata"} }""")!.AsObject();
        Assert.Equal("metadata", (string?)(await EntryAsync("{}", metadata: metadata))!["from"]);
        Assert.Equal("conf", (string?)(await EntryAsync("""{"log_format":{"from":"conf"} }""", metadata: metadata))!["from"]);
        Assert.True((await EntryAsync("{}", metadata: JsonNode.Parse("""{"log_format":{} }""")!.AsObject()))!.ContainsKey("request"));
    }

    [Fact]
    public async Task Extra_fields_are_added_and_replace_nothing()
    {
        var entry = (await EntryAsync("""{"log_format_extra":{"more":"$status","client_ip":"mine"} }"""))!;
        Assert.Equal((200, "192.0.2.1"), ((int)entry["more"]!, (string?)entry["client_ip"]));
    }

    [Fact]
    public async Task A_response_is_copied_as_it_passes_and_cut_at_the_limit()
    {
        var entry = (await EntryAsync("""{"include_resp_body":true,"max_resp_body_bytes":5}""",
            upstream: PluginTest.Upstream.Text("abc", "def", "ghi")))!;
        Assert.Equal("abcde", (string?)entry["response"]!["body"]);
        entry = (await EntryAsync("""{"include_resp_body":true,"include_resp_body_expr":[["arg_b","==","9"]]}""",
            upstream: PluginTest.Upstream.Text("abc")))!;
        Assert.False(entry["response"]!.AsObject().ContainsKey("body"));
    }

    [Fact]
    public async Task A_compressed_response_is_decoded_for_the_log()
    {
        var compressed = new MemoryStream();
        await using (var gzip = new GZipStream(compressed, CompressionLevel.Optimal, leaveOpen: true))
        {
            await gzip.WriteAsync(Encoding.UTF8.GetBytes("plain text"));
        }
        var upstream = new PluginTest.Upstream(200, ("Content-Encoding", "gzip")) { Pieces = [compressed.ToArray()] };
        var entry = (await EntryAsync("""{"include_resp_body":true}""", upstream: upstream))!;
        Assert.Equal("plain text", (string?)entry["response"]!["body"]);
    }

    [Fact]
    public async Task Only_matching_requests_are_logged()
    {
        Assert.Null(await EntryAsync("""{"match":[[["arg_b","==","2"]]]}"""));
        Assert.NotNull(await EntryAsync("""{"match":[[["arg_b","==","2"]],[["arg_b","==","1"]]]}"""));
    }

    [Theory]
    [InlineData("http-logger", """{"uri":"http://a/","include_req_body_expr":[["a","<>","b"]]}""",
        "failed to validate the 'include_req_body_expr' expression")]
    [InlineData("http-logger", """{"uri":"/logs"}""", "property \"uri\" validation failed")]
    [InlineData("tcp-logger", """{"host":"a"}""", "property \"port\" is required")]
    [InlineData("udp-logger", """{"port":1}""", "property \"host\" is required")]
    [InlineData("syslog", """{"host":"a","port":1,"pool_size":4}""", "property \"pool_size\" validation failed")]
    public void What_cannot_be_is_refused(string plugin, string config, string error) =>
        Assert.StartsWith(error, PluginTest.Check(plugin, config), StringComparison.Ordinal);
}

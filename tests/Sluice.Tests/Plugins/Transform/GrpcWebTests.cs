using System.Buffers.Binary;
using System.Text;
using CsCheck;
using Sluice.Plugins.Transform;

namespace Sluice.Tests.Plugins.Transform;

public class GrpcWebTests
{
    const string Binary = "application/grpc-web";
    const string Text = "application/grpc-web-text";

    static Task<PluginTest.Result> CallAsync(
        string contentType, PluginTest.Upstream? upstream = null, string plugins = """{"grpc-web":{} }""", string body = "AAAAAAA=",
        string method = "POST") =>
        new PluginTest(plugins).SendAsync(method, "/test.Echo/Unary", upstream, ("Content-Type", contentType), (":body", body));

    static byte[] Message(string text)
    {
        var message = new byte[5 + text.Length];
        BinaryPrimitives.WriteInt32BigEndian(message.AsSpan(1), text.Length);
        Encoding.Latin1.GetBytes(text, message.AsSpan(5));
        return message;
    }

    static string Frame(string trailers)
    {
        var frame = Message(trailers);
        frame[0] = 0x80;
        return Encoding.Latin1.GetString(frame);
    }

    static PluginTest.Upstream Grpc(params byte[][] pieces) =>
        new(200, ("Content-Type", "application/grpc")) { Pieces = pieces, Trailers = [("grpc-status", "0")] };

    [Fact]
    public async Task Trailers_are_the_last_frame_of_the_body()
    {
        var result = await CallAsync(Binary,
            Grpc(Message("a"), Message("bc")) with { Trailers = [("x-More", "1"), ("grpc-message", "gut"), ("grpc-status", "5")] });
        Assert.Equal(Encoding.Latin1.GetString([.. Message("a"), .. Message("bc")])
            + Frame("grpc-status:5\r\ngrpc-message:gut\r\nx-more:1\r\n"), Encoding.Latin1.GetString(result.Bytes));
        Assert.Equal(Binary, result.Answered("Content-Type"));
        Assert.Equal("application/grpc", result.Sent("Content-Type"));
    }

    [Fact]
    public async Task A_status_that_never_came_is_said_to_be_unknown()
    {
        var result = await CallAsync(Binary, Grpc(Message("a")) with { Trailers = [] });
        Assert.EndsWith(Frame("grpc-status:2\r\ngrpc-message:upstream grpc status not received\r\n"),
            Encoding.Latin1.GetString(result.Bytes), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Binary)]
    [InlineData(Text)]
    public async Task A_status_in_the_head_is_the_whole_answer(string contentType)
    {
        var result = await CallAsync(contentType, new PluginTest.Upstream(200, ("grpc-status", "12"), ("grpc-message", "no")));
        Assert.Equal(("12", "no", "", contentType),
            (result.Answered("grpc-status"), result.Answered("grpc-message"), result.Body, result.Answered("Content-Type")));
    }

    [Fact]
    public void Text_has_an_end_of_Base64_at_each_message_whatever_the_pieces() => Gen.Select(
        Gen.String[Gen.Char['a', 'z'], 0, 20].Array[1, 6], Gen.Int[1, 9].Array[1, 60]).Sample((texts, lengths) =>
    {
        var all = texts.SelectMany(Message).ToArray();
        List<byte[]> pieces = [];
        for (int at = 0, i = 0; at < all.Length; i++)
        {
            var length = Math.Min(lengths[i % lengths.Length], all.Length - at);
            pieces.Add(all[at..(at + length)]);
            at += length;
        }
        var result = CallAsync(Text, Grpc([.. pieces])).Result;
        var expected = string.Concat(texts.Select(text => Convert.ToBase64String(Message(text))))
            + Base64(Frame("grpc-status:0\r\ngrpc-message:\r\n"));
        Assert.Equal(expected, result.Body);
    }, iter: 200);

    static string Base64(string latin1) => Convert.ToBase64String(Encoding.Latin1.GetBytes(latin1));

    [Theory]
    [InlineData("", "")]
    [InlineData("YWJj", "abc")]
    [InlineData("YWI=", "ab")]
    [InlineData("YQ==YmM=ZGVm", "abcdef")]
    [InlineData("YWI=\r\n", "ab")]
    [InlineData("YWI", null)]
    [InlineData("Y=I=", null)]
    [InlineData("hello!", null)]
    public void Base64_may_have_padding_in_the_middle(string text, string? expected) =>
        Assert.Equal(expected, GrpcWeb.Decode(Encoding.ASCII.GetBytes(text)) is { } bytes ? Encoding.ASCII.GetString(bytes) : null);

    [Fact]
    public async Task A_preflight_is_answered_with_the_headers_of_the_configuration()
    {
        var result = await CallAsync(Binary, method: "OPTIONS", plugins: """{"grpc-web":{"cors_allow_headers":"x-a"} }""");
        Assert.Equal((204, false), (result.Status, result.Proxied));
        Assert.Equal(("POST", "x-a", "*", "grpc-message,grpc-status"),
            (result.Answered("Access-Control-Allow-Methods"), result.Answered("Access-Control-Allow-Headers"),
            result.Answered("Access-Control-Allow-Origin"), result.Answered("Access-Control-Expose-Headers")));
    }

    [Theory]
    [InlineData("GET", Binary, "AAAAAAA=", 405)]
    [InlineData("POST", "application/json", "AAAAAAA=", 400)]
    [InlineData("POST", "application/grpc-web; charset=utf-8", "AAAAAAA=", 400)]
    [InlineData("POST", Binary, "", 400)]
    [InlineData("POST", Text, "???", 400)]
    [InlineData("POST", Text, "AAAAAAAAAAAAAAAA", 400)]
    [InlineData("POST", Binary, "12345678901234567890", 400)]
    public async Task What_is_no_call_gets_a_page_that_a_browser_may_read(string method, string contentType, string body, int status)
    {
        var result = await CallAsync(contentType, Grpc(), """{"grpc-web":{"max_req_body_size":12} }""", body, method);
        Assert.Equal((status, false), (result.Status, result.Proxied));
        Assert.Equal("*", result.Answered("Access-Control-Allow-Origin"));
        Assert.Equal("text/html; charset=utf-8", result.Answered("Content-Type"));
    }

    [Fact]
    public async Task A_text_is_decoded_for_the_upstream()
    {
        string? got = null;
        await CallAsync(Text, Grpc() with { Read = async exchange => got = Convert.ToHexString((await exchange.Body.ReadAsync(100)).Span) },
            body: "AAAAAAE=Qg==");
        Assert.Equal("000000000142", got);
    }

    [Theory]
    [InlineData("https://a.test", "https://a.test")]
    [InlineData("https://b.test", null)]
    public async Task Which_origins_may_read_is_left_to_a_plugin_that_says_so(string origin, string? allowed)
    {
        var test = new PluginTest("""{"grpc-web":{},"cors":{"allow_origins":"https://a.test","expose_headers":"x"} }""");
        var result = await test.SendAsync("POST", "/a.B/C", Grpc(), ("Content-Type", Binary), (":body", "x"), ("Origin", origin));
        Assert.Equal((allowed, "grpc-message,grpc-status"),
            (result.Answered("Access-Control-Allow-Origin"), result.Answered("Access-Control-Expose-Headers")));
    }

    [Fact]
    public async Task An_answer_before_the_call_was_taken_stays_what_it_is()
    {
        var result = await CallAsync(Text, Grpc(), """{"grpc-web":{},"key-auth":{} }""");
        Assert.Equal((401, "{\"message\":\"Missing API key in request\"}\n"), (result.Status, result.Body));
        Assert.Equal("*", result.Answered("Access-Control-Allow-Origin"));
    }
}

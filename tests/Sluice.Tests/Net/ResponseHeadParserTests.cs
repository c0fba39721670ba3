using System.Text;
using CsCheck;
using Sluice.Net;

namespace Sluice.Tests.Net;

public class ResponseHeadParserTests
{
    const int Limit = 4096;

    [Fact]
    public void A_head_keeps_order_casing_and_duplicates_of_its_fields()
    {
        var head =
            Parse("HTTP/1.1 200 All good\r\nX-b: 1\r\ncontent-TYPE:  text/plain \t\r\nx-B: 2\r\nEmpty:\r\nContent-Length: 7\r\n\r\n");
        Assert.Equal((1, 1, 200, "All good"), (head.MajorVersion, head.MinorVersion, head.Status, head.Reason));
        Assert.Equal(["X-b=1", "content-TYPE=text/plain", "x-B=2", "Empty=", "Content-Length=7"],
            Enumerable.Range(0, head.Headers.Count).Select(index => $"{head.Headers.Name(index)}={head.Headers.Value(index)}"));
        Assert.Equal("1", head.Headers.First("x-b"));
        Assert.Equal(2, head.Headers.IndexOf("X-B"u8, 1));
        Assert.Null(head.Headers.First("Missing"));
    }

    [Fact]
    public void Bytes_above_ASCII_in_values_read_as_Latin_1()
    {
        var head = Parse("HTTP/1.1 200 OK\r\nX: \u00c3\u00a9\r\n\r\n");
        Assert.Equal("\u00c3\u00a9", head.Headers.Value(0));
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", BodyKind.Length, 5, true)]
    [InlineData("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "GET", BodyKind.Length, 0, true)]
    [InlineData("HTTP/1.1 200 \r\ntransfer-encoding: Chunked\r\n\r\n", "GET", BodyKind.Chunked, 0, true)]
    [InlineData("HTTP/1.1 200 OK\r\n\r\n", "GET", BodyKind.CloseDelimited, 0, false)]
    [InlineData("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", BodyKind.Length, 5, false)]
    [InlineData("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n", "GET", BodyKind.Length, 5, true)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, CLOSE\r\n\r\n", "GET", BodyKind.Length, 5, false)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", BodyKind.None, 0, true)]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", BodyKind.None, 0, true)]
    [InlineData("HTTP/1.1 204 No Content\r\n\r\n", "GET", BodyKind.None, 0, true)]
    [InlineData("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "GET", BodyKind.None, 0, true)]
    [InlineData("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "GET", BodyKind.None, 0, false)]
    [InlineData("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", BodyKind.None, 0, true)]
    [InlineData("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "GET", BodyKind.None, 0, true)]
    [InlineData("HTTP/1.1 101 Switching Protocols\r\n\r\n", "UPGRADE", BodyKind.Upgrade, 0, false)]
    [InlineData("HTTP/1.1 200 OK\r\n\r\n", "CONNECT", BodyKind.None, 0, false)]
    public void Framing_follows_from_status_fields_and_method(string bytes, string method, BodyKind kind, long length, bool keepAlive)
    {
        var head = Parse(bytes, new RequestFacts(method == "HEAD", method == "CONNECT", method == "UPGRADE"));
        Assert.Equal((new BodyFraming(kind, length), keepAlive), (head.Body, head.KeepAlive));
    }

    [Theory]
    [InlineData("Content-Length: 5\r\nContent-Length: 6")]
    [InlineData("Content-Length: 5\r\ncontent-length: 5")]
    [InlineData("Content-Length: 5, 5")]
    [InlineData("Content-Length: +5")]
    [InlineData("Content-Length: -5")]
    [InlineData("Content-Length: 0x5")]
    [InlineData("Content-Length: ")]
    [InlineData("Content-Length: 5 5")]
    [InlineData("Content-Length: 9223372036854775808")]
    [InlineData("Content-Length: 5\r\nTransfer-Encoding: chunked")]
    [InlineData("Transfer-Encoding: chunked\r\nContent-Length: 5")]
    [InlineData("Transfer-Encoding: gzip")]
    [InlineData("Transfer-Encoding: gzip, chunked")]
    [InlineData("Transfer-Encoding: chunked, chunked")]
    [InlineData("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")]
    [InlineData("Transfer-Encoding: xchunked")]
    [InlineData("Transfer-Encoding: \"chunked\"")]
    [InlineData("Transfer-Encoding: \u000bchunked")]
    [InlineData("Transfer-Encoding:")]
    [InlineData("A: 1\r\n folded")]
    [InlineData("A: 1\r\n\tfolded")]
    [InlineData(" A: 1")]
    [InlineData("A : 1")]
    [InlineData("A\t: 1")]
    [InlineData(": 1")]
    [InlineData("A")]
    [InlineData("A B: 1")]
    [InlineData("A(: 1")]
    [InlineData("\u00c4: 1")]
    [InlineData("A: 1\rB: 2")]
    [InlineData("A: 1\r\r\nB: 2")]
    [InlineData("A: 1\nB: 2")]
    [InlineData("A: \0")]
    [InlineData("A\0: 1")]
    [InlineData("A: \u0001")]
    [InlineData("A: \u007f")]
    public void Ambiguous_fields_are_refused(string fields) => Refused($"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");

    [Theory]
    [InlineData("<html>")]
    [InlineData("\r\nHTTP/1.1 200 OK\r\n\r\n")]
    [InlineData("http/1.1 200 OK\r\n\r\n")]
    [InlineData("HTTP/2 200\r\n\r\n")]
    [InlineData("HTTP/1.x 200 OK\r\n\r\n")]
    [InlineData("HTTP/1.11 200 OK\r\n\r\n")]
    [InlineData("HTTP/1.1  200 OK\r\n\r\n")]
    [InlineData("HTTP/1.1\t200 OK\r\n\r\n")]
    [InlineData("HTTP/1.1 20 OK\r\n\r\n")]
    [InlineData("HTTP/1.1 2000 OK\r\n\r\n")]
    [InlineData("HTTP/1.1 099 OK\r\n\r\n")]
    [InlineData("HTTP/1.1 200OK\r\n\r\n")]
    [InlineData("HTTP/1.1 200 O\0K\r\n\r\n")]
    [InlineData("HTTP/1.1 200 O\rK\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\n\n")]
    [InlineData("HTTP/1.1 200 OK\r\n\n")]
    [InlineData("HTTP/1.1 101 Switching Protocols\r\n\r\n")]
    [InlineData("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n")]
    [InlineData("HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n")]
    [InlineData("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")]
    public void Malformed_heads_are_refused(string bytes) => Refused(bytes);

    [Fact]
    public void A_head_may_be_as_long_as_the_limit_and_not_a_byte_longer()
    {
        var fixedPart = "HTTP/1.1 200 OK\r\nA: \r\n\r\n".Length;
        Assert.Equal(1, Parse($"HTTP/1.1 200 OK\r\nA: {new string('x', Limit - fixedPart)}\r\n\r\n").Headers.Count);
        Refused($"HTTP/1.1 200 OK\r\nA: {new string('x', Limit - fixedPart + 1)}\r\n\r\n");
        Refused("HTTP/1.1 200 OK\r\nA: " + new string('x', Limit));
    }

    [Fact]
    public void Garbage_is_refused_before_its_line_ends()
    {
        Assert.False(new ResponseHeadParser().Advance("HTTP/1"u8, Limit));
        Assert.Throws<UpstreamException>(() => new ResponseHeadParser().Advance("HTTQ"u8, Limit));
    }

    [Fact]
    public void Where_the_bytes_are_cut_makes_no_difference()
    {
        string[] lines =
        [
            "Content-Length: 5", "Content-Length: 6", "Transfer-Encoding: chunked", "A: b", "B:", " fold", "bad line", "C: \0", "D: x\r",
            "Connection: close",
        ];
        var heads = Gen.Select(
            Gen.OneOfConst("HTTP/1.1 200 OK", "HTTP/1.0 200", "HTTP/1.1 103 Hints", "HTTP/1.1 304 x", "HTTX", "HTTP/1.1 2"),
            Gen.OneOfConst(lines).Array[0, 5],
            Gen.OneOfConst("\r\n", "\r\n", "\r\n", "\n"),
            Gen.OneOfConst("", "rest of it"),
            (status, fields, end, rest) => string.Join("\r\n", [status, .. fields]) + end + "\r\n" + rest);
        Gen.Select(heads, Gen.Int[1, 20].Array[1, 40]).Sample((bytes, cuts) =>
        {
            var whole = Outcome(bytes, [bytes.Length]);
            var pieces = Outcome(bytes, cuts);
            return whole == pieces && whole == Outcome(bytes, [1]);
        });
    }

    static ResponseHead Parse(string bytes, RequestFacts facts = default)
    {
        var received = Encoding.Latin1.GetBytes(bytes);
        var parser = new ResponseHeadParser();
        Assert.True(parser.Advance(received, Limit));
        Assert.Equal(received.Length, parser.Length);
        return parser.Build(received, facts);
    }

    static void Refused(string bytes)
    {
        var failure = Assert.Throws<UpstreamException>(() => Parse(bytes));
        Assert.Equal(UpstreamFailureKind.BadResponse, failure.Kind);
        Assert.StartsWith("invalid response: ", failure.Message, StringComparison.Ordinal);
    }

    static string Outcome(string bytes, int[] cuts)
    {
        var received = Encoding.Latin1.GetBytes(bytes);
        var parser = new ResponseHeadParser();
        var end = 0;
        try
        {
            for (var cut = 0; end < received.Length; cut++)
            {
                end = Math.Min(received.Length, end + cuts[cut % cuts.Length]);
                if (parser.Advance(received.AsSpan(0, end), Limit))
                {
                    var head = parser.Build(received, default);
                    var fields = Enumerable.Range(0, head.Headers.Count)
                        .Select(index => $"{head.Headers.Name(index)}={head.Headers.Value(index)}");
                    return $"{parser.Length} {head.Status} {head.Reason} {head.Body} {head.KeepAlive} {string.Join('|', fields)}";
                }
            }
            return "more";
        }
        catch (UpstreamException failure)
        {
            return failure.Message;
        }
    }
}

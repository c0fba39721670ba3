using System.Text;
using CsCheck;
using Sluice.Net;

namespace Sluice.Tests.Net;

public class ChunkedDecoderTests
{
    [Theory]
    [InlineData("5\r\nhello\r\n0\r\n\r\n", "hello")]
    [InlineData("0\r\n\r\n", "")]
    [InlineData("00000000000005\r\nhello\r\n1\r\n!\r\n000\r\n\r\n", "hello!")]
    [InlineData("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789")]
    [InlineData("2;name=\"v\"\r\nab\r\n0;last\r\n\r\n", "ab")]
    public void Payload_comes_out_of_the_framing(string bytes, string payload) =>
        Assert.Equal($"{payload}[done {bytes.Length}]", Decode(bytes, [bytes.Length], 1000));

    [Theory]
    [InlineData("\r\n")]
    [InlineData(";x\r\n")]
    [InlineData("+5\r\nhello\r\n")]
    [InlineData("-5\r\nhello\r\n")]
    [InlineData("0x5\r\nhello\r\n")]
    [InlineData("5 \r\nhello\r\n")]
    [InlineData(" 5\r\nhello\r\n")]
    [InlineData("5\nhello\r\n")]
    [InlineData("5\rhello\r\n")]
    [InlineData("g\r\n")]
    [InlineData("5;a\nb\r\nhello\r\n")]
    [InlineData("5;a\0\r\nhello\r\n")]
    [InlineData("5\r\nhello0\r\n\r\n")]
    [InlineData("5\r\nhello\n0\r\n\r\n")]
    [InlineData("5\r\nhello!\r\n0\r\n\r\n")]
    [InlineData("8000000000000000\r\n")]
    [InlineData("FFFFFFFFFFFFFFFF\r\n")]
    [InlineData("00000000000000005\r\n")]
    [InlineData("0\r\n\n")]
    [InlineData("0\r\nA : b\r\n\r\n")]
    [InlineData("0\r\n fold\r\n\r\n")]
    [InlineData("0\r\nA: b\rC: d\r\n\r\n")]
    [InlineData("0\r\nno colon\r\n\r\n")]
    public void Bad_framing_is_refused(string bytes) =>
        Assert.Contains("invalid response", Decode(bytes, [bytes.Length], 1000), StringComparison.Ordinal);

    [Fact]
    public void Extensions_and_trailers_have_a_limit()
    {
        Assert.Contains("too long", Decode($"1;{new string('x', 300)}\r\na", [1000], 1000), StringComparison.Ordinal);
        Assert.Contains("trailers longer than", Decode($"0\r\nA: {new string('x', 20_000)}", [30_000], 1000), StringComparison.Ordinal);
    }

    [Fact]
    public void Trailers_are_kept_except_those_about_framing_and_routing()
    {
        var decoder = new ChunkedDecoder();
        var bytes = "0\r\nX-Sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: a\r\nX-sum: 2\r\n\r\n"u8;
        Assert.Equal(bytes.Length, decoder.Decode(bytes, [], out _));
        Assert.True(decoder.Done);
        Assert.Equal(["X-Sum=1", "X-sum=2"],
            Enumerable.Range(0, decoder.Trailers.Count).Select(index => $"{decoder.Trailers.Name(index)}={decoder.Trailers.Value(index)}"));
    }

    [Fact]
    public void Each_byte_comes_out_with_the_byte_that_brought_it()
    {
        var decoder = new ChunkedDecoder();
        var room = new byte[10];
        decoder.Decode("3\r\n"u8, room, out var written);
        Assert.Equal(0, written);
        foreach (var letter in "abc"u8)
        {
            decoder.Decode([letter], room, out written);
            Assert.Equal((1, letter), (written, room[0]));
        }
    }

    [Fact]
    public void What_follows_the_end_is_left_alone()
    {
        var decoder = new ChunkedDecoder();
        Assert.Equal(5, decoder.Decode("0\r\n\r\nHTTP/1.1"u8, new byte[100], out _));
    }

    [Fact]
    public void Where_the_input_is_cut_and_how_much_room_there_is_changes_nothing()
    {
        var chunk = Gen.Select(Gen.String[Gen.Char['a', 'z'], 1, 40], Gen.OneOfConst("", ";x=y"),
            (data, extension) => $"{data.Length:x}{extension}\r\n{data}\r\n");
        var bodies = Gen.Select(chunk.Array[0, 6], Gen.OneOfConst("0\r\n\r\n", "0\r\nA: b\r\n\r\n", "", "x", "0\r\nbad\r\n\r\n", "3\r\nab"),
            Gen.OneOfConst("", "next"),
            (chunks, end, rest) => string.Concat(chunks) + end + rest);
        Gen.Select(bodies, Gen.Int[1, 20].Array[1, 10], Gen.Int[1, 50]).Sample((bytes, cuts, room) =>
        {
            var whole = Decode(bytes, [Math.Max(1, bytes.Length)], 100_000);
            return whole == Decode(bytes, cuts, room) && whole == Decode(bytes, [1], 1) && whole == Decode(bytes, cuts, room: 0);
        });
    }

    /// <summary>The payload, then how it ended. Room 0: in place.</summary>
    static string Decode(string bytes, int[] cuts, int room)
    {
        var decoder = new ChunkedDecoder();
        var source = Encoding.Latin1.GetBytes(bytes);
        var payload = new StringBuilder();
        var at = 0;
        try
        {
            for (var cut = 0; at < source.Length && !decoder.Done; cut++)
            {
                var piece = source[at..Math.Min(source.Length, at + cuts[cut % cuts.Length])];
                var place = room == 0 ? piece : new byte[room];
                at += decoder.Decode(piece, place, out var written);
                payload.Append(Encoding.Latin1.GetString(place, 0, written));
            }
            return $"{payload}[{(decoder.Done ? "done" : "more")} {at}]";
        }
        catch (UpstreamException failure)
        {
            // payload that came before the fault in the same piece is not given out
            return failure.Message;
        }
    }
}

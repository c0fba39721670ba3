using System.Text;
using System.Text.RegularExpressions;
using CsCheck;
using Sluice.Relay;

namespace Sluice.Tests.Relay.Events;

public partial class EdgeWatchTests
{
    static bool IsBetween(EdgeWatch edge, params string[] pieces)
    {
        foreach (var piece in pieces)
        {
            edge.OnPiece(Encoding.Latin1.GetBytes(piece), false);
        }
        return edge.IsBetween;
    }

    [Theory]
    [InlineData("", true)]
    [InlineData("data: 1\n\n", true)]
    [InlineData("data: 1\r\n\r\n", true)]
    [InlineData("data: 1\r\r", true)]
    [InlineData("data: 1\n\r\n", true)]
    [InlineData("\n", true)]
    [InlineData("\r\n", true)]
    [InlineData("data: 1\n", false)]
    [InlineData("data: 1\r\n", false)]
    [InlineData("data: 1", false)]
    [InlineData("\nx", false)]
    public void Between_events_is_behind_a_blank_line(string sent, bool between)
    {
        Assert.Equal(between, IsBetween(new SseEdge(), sent));
        // one by one
        Assert.Equal(between, IsBetween(new SseEdge(), [.. sent.Select(letter => $"{letter}")]));
    }

    [Fact]
    public void A_blank_line_is_where_the_format_has_it_however_the_stream_is_cut() =>
        Gen.Select(Gen.String["a:\r\n"], Gen.Int[1, 5].Array[0, 20]).Sample((stream, sizes) =>
        {
            // comments that come alone are another test's
            stream = stream.Replace(':', 'b');
            var (edge, at) = (new SseEdge(), 0);
            foreach (var size in sizes.Append(stream.Length))
            {
                var piece = stream[at..Math.Min(at + size, stream.Length)];
                at += piece.Length;
                edge.OnPiece(Encoding.Latin1.GetBytes(piece), false);
                var lines = LineEnds().Split(stream[..at]);
                Assert.Equal(lines[^1].Length == 0 && (lines.Length == 1 || lines[^2].Length == 0), edge.IsBetween);
            }
        });

    [Theory]
    [InlineData(": ping\n", true)]
    [InlineData(":\r\n:\n", true)]
    [InlineData(": a\ndata: 1\n", false)]
    [InlineData(": half", false)]
    public void Whole_comments_between_events_leave_it_there(string piece, bool between)
    {
        Assert.Equal(between, IsBetween(new SseEdge(), "data: 1\n\n", piece));
        // inside of an event they do not end it
        Assert.False(IsBetween(new SseEdge(), "data: 1\n", piece));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(true, "{}\n")]
    [InlineData(false, "{}\n[")]
    [InlineData(true, "{", "}\n")]
    [InlineData(false, "{", "")]
    public void Between_lines_is_behind_a_line_end(bool between, params string[] pieces) =>
        Assert.Equal(between, IsBetween(new LineEdge(), pieces));

    [Fact]
    public void Messages_of_gRPC_are_counted_however_they_are_cut() =>
        Gen.Select(Gen.Int[0, 300].Array[0, 8], Gen.Int[1, 50].Array[0, 60]).Sample((lengths, sizes) =>
        {
            var stream = lengths.SelectMany(length => new byte[] { 0, 0, 0, (byte)(length >> 8), (byte)length }.Concat(new byte[length]))
                .ToArray();
            var ends = lengths.Aggregate(new List<int> { 0 }, (all, length) => [.. all, all[^1] + 5 + length]);
            var (messages, at) = (0, 0);
            var edge = new MessageEdge(_ => messages++);
            foreach (var size in sizes.Append(stream.Length))
            {
                var piece = stream[at..Math.Min(at + size, stream.Length)];
                at += piece.Length;
                edge.OnPiece(piece, false);
                Assert.Equal((ends.Contains(at), ends.Count(end => end > 0 && end <= at)), (edge.IsBetween, messages));
            }
        });

    [GeneratedRegex("\r\n|\n|\r")]
    private static partial Regex LineEnds();
}

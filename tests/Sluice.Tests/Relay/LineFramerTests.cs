using System.Text;
using CsCheck;
using Sluice.Relay;

namespace Sluice.Tests.Relay;

public class LineFramerTests
{
    static List<(FrameKind Kind, string Raw)> Cut(string stream, int max, params int[] sizes) =>
        [.. Framed.Cut(new LineFramer(max), Encoding.Latin1.GetBytes(stream), sizes).Select(frame => (frame.Kind, frame.Raw))];

    [Fact]
    public void A_line_is_an_event_and_a_blank_one_passes() =>
        Assert.Equal([(FrameKind.Event, "{}\n"), (FrameKind.Passage, " \r\n"), (FrameKind.Event, "[1]")], Cut("{}\n \r\n[1]", 100));

    [Theory]
    [InlineData(4, FrameKind.Event)]
    [InlineData(3, FrameKind.TooLarge)]
    public void A_line_of_the_most_bytes_is_an_event_and_one_more_is_too_large(int max, FrameKind kind)
    {
        Assert.Equal([(kind, "abc\n"), (FrameKind.Event, "d\n")], Cut("abc\nd\n", max));
        // in two pieces: what has gathered, and then the rest up to the end of the line
        Assert.All(Cut("abc\nd\n", max, 2)[..^1], frame => Assert.Equal(kind, frame.Kind));
        Assert.Equal((FrameKind.Event, "d\n"), Cut("abc\nd\n", max, 2)[^1]);
    }

    [Fact]
    public void The_rest_of_a_line_that_is_too_large_passes_as_it_comes_and_the_next_line_is_an_event_again() =>
        Assert.Equal(
            [(FrameKind.TooLarge, "abcd"), (FrameKind.TooLarge, "ef"), (FrameKind.TooLarge, "g\n"), (FrameKind.Event, "h\n")],
            Cut("abcdefg\nh\n", 3, 4, 2, 2));

    [Fact]
    public void However_a_stream_is_cut_its_events_are_the_same_and_nothing_is_lost() =>
        Gen.Select(Gen.String["ab \r\n"], Gen.Int[1, 7].Array[0, 12]).Sample((stream, sizes) =>
        {
            var whole = Cut(stream, 1000);
            Assert.Equal(whole, Cut(stream, 1000, sizes));
            Assert.Equal(stream, string.Concat(Cut(stream, 3, sizes).Select(frame => frame.Raw)));
        });

    [Fact]
    public void It_is_between_events_unless_a_line_that_is_too_large_goes_on()
    {
        using var framer = new LineFramer(2);
        framer.Push("abc"u8.ToArray());
        Assert.True(framer.TryRead(out _));
        Assert.False(framer.BetweenEvents);
        framer.Push("d\n"u8.ToArray());
        Assert.True(framer.TryRead(out _));
        Assert.True(framer.BetweenEvents);
    }
}

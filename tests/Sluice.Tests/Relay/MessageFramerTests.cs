using System.Text;
using CsCheck;
using Sluice.Relay;

namespace Sluice.Tests.Relay;

public class MessageFramerTests
{
    static string Message(string text, char flags = '\0') => $"{flags}\0\0\0{(char)text.Length}{text}";

    static List<(FrameKind Kind, string Raw)> Cut(string stream, int max, params int[] sizes) =>
        [.. Framed.Cut(new MessageFramer(max), Encoding.Latin1.GetBytes(stream), sizes).Select(frame => (frame.Kind, frame.Raw))];

    [Fact]
    public void A_message_with_its_prefix_is_an_event_and_what_is_cut_is_none() => Assert.Equal(
        [(FrameKind.Event, Message("hello")), (FrameKind.Event, Message("")), (FrameKind.Event, Message("zip", '\x1')),
            (FrameKind.Incomplete, "\0\0\0\0\x5he")],
        Cut(Message("hello") + Message("") + Message("zip", '\x1') + "\0\0\0\0\x5he", 100));

    [Fact]
    public void A_message_above_the_limit_passes_in_parts_and_the_next_is_an_event_again() => Assert.Equal(
        [(FrameKind.TooLarge, Message("abcdefgh")[..9]), (FrameKind.TooLarge, "efgh"), (FrameKind.Event, Message("i"))],
        Cut(Message("abcdefgh") + Message("i"), 10, 9, 4, 6));

    [Fact]
    public void A_frame_tells_its_message_and_a_prefix_can_be_written()
    {
        var raw = Encoding.Latin1.GetBytes(Message("abc"));
        Assert.Equal("abc", Encoding.ASCII.GetString(MessageFramer.MessageOf(raw)));
        var output = new System.Buffers.ArrayBufferWriter<byte>();
        MessageFramer.WritePrefix(output, 1, 0x01020304);
        Assert.Equal([1, 1, 2, 3, 4], output.WrittenSpan.ToArray());
    }

    [Fact]
    public void However_a_stream_is_cut_its_messages_are_the_same_and_nothing_is_lost() =>
        Gen.Select(Gen.String["abc"].Array[0, 5], Gen.Int[1, 7].Array[0, 20], Gen.Int[0, 4]).Sample((texts, sizes, missing) =>
        {
            var stream = string.Concat(texts.Select(text => Message(text)));
            stream = stream[..Math.Max(0, stream.Length - missing)];
            var whole = Cut(stream, 1000);
            Assert.Equal(whole, Cut(stream, 1000, sizes));
            Assert.Equal(stream, string.Concat(Cut(stream, 8, sizes).Select(frame => frame.Raw)));
        });
}

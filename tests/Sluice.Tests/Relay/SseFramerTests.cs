using System.Text;
using CsCheck;
using Sluice.Relay;

namespace Sluice.Tests.Relay;

public class SseFramerTests
{
    static List<Seen> Cut(string stream, params int[] sizes) => Framed.Cut(new SseFramer(), Encoding.UTF8.GetBytes(stream), sizes);

    static (string Name, string Data, string? Id, long? Retry) Read(string raw)
    {
        var read = new SseEvent(Encoding.Latin1.GetBytes(raw));
        return (Encoding.UTF8.GetString(read.Name), read.DataText, read.HasId ? Encoding.UTF8.GetString(read.Id) : null, read.Retry);
    }

    static string[] Data(string stream) =>
        [.. Cut(stream).Where(frame => frame.Kind == FrameKind.Event).Select(frame => Read(frame.Raw).Data)];

    // the streams of the WHATWG text and the rules they stand for
    [Theory]
    [InlineData("data: YHOO\ndata: +2\ndata: 10\n\n", "YHOO\n+2\n10")]
    [InlineData(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event", "first event", "second event")]
    [InlineData("data\n\ndata\ndata\n\ndata:", "", "\n")]
    [InlineData("data:test\n\ndata: test\n\n", "test", "test")]
    [InlineData("data: a\r\ndata: b\r\n\r\n", "a\nb")]
    [InlineData("data: a\rdata: b\r\rdata: c\r\r", "a\nb", "c")]
    [InlineData("data: a\r\n\ndata: b\n\r\n", "a", "b")]
    [InlineData("\uFEFFdata: a\n\n\uFEFFdata: b\n\n", "a")]
    [InlineData("Data: a\ndata : b\ndatax: c\ndata: d\n\n", "d")]
    [InlineData("data:\tx\n\n", "\tx")]
    [InlineData("data: a:b: c\n\n", "a:b: c")]
    [InlineData("\n\n\r\r\n\ndata: é€\n\n\n\n", "é€")]
    [InlineData("event: x\n\nid: 7\n\nretry: 5\n\n")]
    [InlineData("data: never finished\n")]
    public void Events_are_those_that_the_standard_dispatches(string stream, params string[] data) => Assert.Equal(data, Data(stream));

    [Fact]
    public void Fields_are_read_as_a_browser_reads_them()
    {
        Assert.Equal(("add", "73857293", "1", null), Read("event: add\ndata: 73857293\nid: 1\n\n"));
        Assert.Equal(("b", "x", "", 2500), Read("event: a\nevent: b\nid: 1\nid\nretry: 2500\nretry: 1s\nretry: -1\nretry\ndata: x\n\n"));
        Assert.Equal(("", "x", "1", null), Read("id: 1\nid: a\0b\ndata: x\nevent\n\n"));
        Assert.Equal(("", "", null, null), Read("name: x\n: comment\n\n"));
        Assert.True(new SseEvent(": hi\n:\n\n"u8).IsComment);
        Assert.False(new SseEvent(": hi\ndata\n\n"u8).IsComment);
        Assert.True(new SseEvent("data\n\n"u8).HasData);
        Assert.False(new SseEvent("id: 1\n\n"u8).HasData);
    }

    [Theory]
    [InlineData("add", "one", "7", 2500L, "id: 7\nretry: 2500\nevent: add\ndata: one\n\n")]
    [InlineData("", "a\r\nb\rc\n\n", null, null, "data: a\ndata: b\ndata: c\ndata: \ndata: \n\n")]
    [InlineData("", " x", "", null, "id: \ndata:  x\n\n")]
    public void A_written_event_is_read_as_what_was_meant(string name, string data, string? id, long? retry, string raw)
    {
        var writer = new System.Buffers.ArrayBufferWriter<byte>();
        SseEvent.Write(writer, Encoding.UTF8.GetBytes(name), Encoding.UTF8.GetBytes(data), id, retry);
        Assert.Equal(raw, Encoding.UTF8.GetString(writer.WrittenSpan));
        Assert.Equal((name, data.Replace("\r\n", "\n").Replace('\r', '\n'), id, retry), Read(raw));
    }

    [Fact]
    public void An_event_cannot_be_smuggled_in_through_a_name_or_id()
    {
        Assert.Throws<ArgumentException>(() => SseEvent.Write(new System.Buffers.ArrayBufferWriter<byte>(), "a\ndata: x"u8, default));
        Assert.Throws<ArgumentException>(() => SseEvent.Write(new System.Buffers.ArrayBufferWriter<byte>(), default, default, "1\r2"));
    }

    [Fact]
    public void Frames_say_what_they_are_and_keep_every_byte()
    {
        Assert.Equal(
            [
                new(FrameKind.Passage, "\u00EF\u00BB\u00BF"), new(FrameKind.Passage, ": hi\n\n"),
                new(FrameKind.Event, "data: a\n: inside\n\n"),
                new(FrameKind.Fields, "retry: 1\r\n\r\n"), new(FrameKind.Passage, "\n:\n"), new(FrameKind.Incomplete, "data: b\n"),
            ],
            Cut("\uFEFF: hi\n\ndata: a\n: inside\n\nretry: 1\r\n\r\n\n:\ndata: b\n"));
    }

    [Fact]
    public void A_heartbeat_comment_leaves_without_its_blank_line()
    {
        using var framer = new SseFramer();
        framer.Push(": ping\n"u8.ToArray());
        Assert.True(framer.TryRead(out var frame));
        Assert.Equal(FrameKind.Passage, frame.Kind);
        Assert.False(framer.TryRead(out _));
    }

    [Fact]
    public void An_event_that_ends_in_CR_leaves_at_once_and_the_LF_after_it_is_a_passage() =>
        Assert.Equal([new(FrameKind.Event, "data: a\r\n\r"), new(FrameKind.Passage, "\n"), new(FrameKind.Event, "data: b\n\n")],
            Cut("data: a\r\n\r\ndata: b\n\n", 10, 1));

    [Fact]
    public void An_event_above_the_limit_is_told_and_its_parts_can_pass()
    {
        var large = "data: " + new string('x', 100) + "\n\n";
        foreach (var sizes in new int[][] { [], [3], [50], [20, 20, 20, 20, 20], [107], [.. Enumerable.Repeat(1, 110)] })
        {
            var seen = Framed.Cut(new SseFramer(64), Encoding.UTF8.GetBytes(large + "data: y\n\n"), sizes);
            Assert.Equal(new Seen(FrameKind.Event, "data: y\n\n"), seen[^1]);
            Assert.All(seen[..^1], frame => Assert.Equal(FrameKind.TooLarge, frame.Kind));
            Assert.Equal(large, string.Concat(seen[..^1].Select(frame => frame.Raw)));
        }
    }

    [Fact]
    public void Whole_events_cost_no_allocation()
    {
        using var framer = new SseFramer();
        var piece = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat("event: token\nid: 1\ndata: {\"x\":1}\n\n", 100)));
        long bytes = 0;
        Run();
        Assert.Equal(0, Allocation.Of(Run));
        Assert.True(bytes > 0);

        void Run()
        {
            framer.Push(piece);
            while (framer.TryRead(out var frame))
            {
                var read = new SseEvent(frame.Raw.Span);
                bytes += read.Name.Length + read.Id.Length + read.Data.Length;
            }
        }
    }

    static readonly Gen<byte[]> Streams =
        Gen.OneOfConst("data", "data: ", "data:x", "id: 1", "event: e", "retry: 9", ":", ": c", "\n", "\n", "\n\n", "\r", "\r\r", "\r\n",
            "\r\n\r\n", " ", "\uFEFF", "é", "\0")
            .Array[0, 40].Select(parts => Encoding.UTF8.GetBytes(string.Concat(parts)));

    [Fact]
    public void Any_cutting_gives_the_same_events_and_loses_no_byte() =>
        Gen.Select(Streams, Gen.Int[0, 7].Array[0, 60]).Sample((stream, sizes) =>
        {
            var whole = Framed.Cut(new SseFramer(), stream, []);
            var cut = Framed.Cut(new SseFramer(), stream, sizes);
            return string.Concat(whole.Select(frame => frame.Raw)) == Encoding.Latin1.GetString(stream)
                && string.Concat(cut.Select(frame => frame.Raw)) == Encoding.Latin1.GetString(stream)
                && Blocks(whole).SequenceEqual(Blocks(cut));
        }, iter: 20_000);

    [Fact]
    public void No_byte_is_lost_whatever_the_limit() =>
        Gen.Select(Streams, Gen.Int[0, 7].Array[0, 60], Gen.Int[1, 30]).Sample((stream, sizes, limit) =>
            string.Concat(Framed.Cut(new SseFramer(limit), stream, sizes).Select(frame => frame.Raw)) == Encoding.Latin1.GetString(stream),
            iter: 20_000);

    [Fact]
    public void Events_are_those_of_a_line_by_line_reading_of_the_standard() =>
        Streams.Sample(stream => Blocks(Framed.Cut(new SseFramer(), stream, [])).Where(block => block.Kind == FrameKind.Event)
            .Select(block => block.Fields).SequenceEqual(ByTheBook(stream)), iter: 20_000);

    static IEnumerable<(FrameKind Kind, (string Name, string Data, string? Id, long? Retry) Fields)> Blocks(List<Seen> frames) =>
        frames.Where(frame => frame.Kind is FrameKind.Event or FrameKind.Fields).Select(frame => (frame.Kind, Read(frame.Raw)));

    /// <summary>The algorithm of 9.2.6 as it is written, on the whole text.</summary>
    static List<(string Name, string Data, string? Id, long? Retry)> ByTheBook(byte[] stream)
    {
        var text = Encoding.UTF8.GetString(stream is [0xEF, 0xBB, 0xBF, ..] ? stream[3..] : stream).Replace("\r\n", "\n")
            .Replace('\r', '\n');
        var events = new List<(string, string, string?, long?)>();
        string name = "", data = "";
        string? id = null;
        long? retry = null;
        foreach (var line in text.Split('\n')[..^1])
        {
            if (line.Length == 0)
            {
                if (data.Length > 0)
                {
                    events.Add((name, data[..^1], id, retry));
                }
                (name, data, id, retry) = ("", "", null, null);
                continue;
            }
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            var field = colon < 0 ? line : line[..colon];
            var value = colon < 0 ? "" : line[(colon + 1)..];
            value = value.StartsWith(' ') ? value[1..] : value;
            switch (field)
            {
                case "event": name = value; break;
                case "data": data += value + "\n"; break;
                case "id" when !value.Contains('\0'): id = value; break;
                case "retry" when value.Length > 0 && value.All(char.IsAsciiDigit): retry = long.Parse(value); break;
            }
        }
        return events;
    }
}

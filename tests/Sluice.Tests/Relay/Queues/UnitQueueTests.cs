using System.Text;
using Sluice.Relay.Queues;

namespace Sluice.Tests.Relay.Queues;

public class UnitQueueTests
{
    readonly FakeTime _time = new();
    readonly QueueMemory _memory = new();

    UnitQueue Open(
        SlowPolicy policy = SlowPolicy.DropOldest, string? key = null, long bytes = 1 << 20, int units = 0, double lag = 0,
        GapNotice notice = GapNotice.Comment,
        bool isLines = false) =>
        new(new(policy, key is null ? null : UnitKey.Parse(key)!, bytes, units, TimeSpan.FromSeconds(lag), notice, isLines), _memory,
            _time);

    static bool Add(UnitQueue queue, string unit, bool isUnit = true) => queue.TryAdd(Encoding.UTF8.GetBytes(unit), isUnit);

    static string Take(UnitQueue queue, int bytes = 1 << 16)
    {
        var into = new byte[bytes];
        return Encoding.UTF8.GetString(into, 0, queue.Fill(into, null));
    }

    [Fact]
    public void The_oldest_go_and_the_client_is_told_before_the_next_unit()
    {
        using var queue = Open(units: 2);
        for (var n = 1; n <= 5; n++)
        {
            Assert.True(Add(queue, $"data: {n}\n\n"));
        }
        Assert.Equal((2, 3L), (queue.Units, queue.Dropped));
        Assert.Equal(": dropped 3\n\ndata: 4\n\ndata: 5\n\n", Take(queue));
        Assert.True(queue.IsEmpty);
        Add(queue, "data: 6\n\n");
        Assert.Equal("data: 6\n\n", Take(queue));
    }

    [Fact]
    public void The_unit_that_is_being_given_is_never_dropped()
    {
        using var queue = Open(units: 1);
        Add(queue, "data: 1\n\n");
        Assert.Equal("data", Take(queue, 4));
        Add(queue, "data: 2\n\n");
        Add(queue, "data: 3\n\n");
        Assert.Equal(": 1\n\n: dropped 1\n\ndata: 3\n\n", Take(queue));
    }

    [Fact]
    public void A_newer_unit_takes_the_place_of_the_waiting_one_of_its_key()
    {
        using var queue = Open(SlowPolicy.LatestPerKey, "data.symbol", notice: GapNotice.None);
        foreach (var unit in (string[])["a 1", "b 1", "none", "a 2", "c 1", "a 3", "b 2"])
        {
            var parts = unit.Split(' ');
            Add(queue, parts.Length == 1 ? "data: hello\n\n"
                : $"data: {{\"x\":[1,{{}}],\"symbol\":\"{parts[0]}\",\n" + $"data: \"n\":{parts[1]}}}\n\n");
        }
        Assert.Equal(3, queue.Dropped);
        Assert.Equal(["\"a\" \"n\":3", "\"b\" \"n\":2", "hello", "\"c\" \"n\":1"],
            Take(queue).Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(static one =>
                one.StartsWith("data: {", StringComparison.Ordinal)
                ? $"{one[one.IndexOf("\"symbol\":", StringComparison.Ordinal)..].Split(',')[0][9..]} {one.Split("data: ")[2].TrimEnd('}')}"
                : one["data: ".Length..]));
    }

    [Theory]
    [InlineData("event", "event: a\ndata: 1\n\n", "a")]
    [InlineData("event", "data: 1\n\n", "")]
    [InlineData("id", "id: 7\ndata: 1\n\n", "7")]
    [InlineData("id", "data: 1\n\n", null)]
    [InlineData("data.a.1.b", "data: {\"z\":{\"a\":0},\"a\":[0,{\"b\":1.5}]}\n\n", "1.5")]
    [InlineData("data.a.1.b", "data: {\"a\":{\"b\":1}}\n\n", null)]
    [InlineData("data.a", "data: {\"a\":{}}\n\n", null)]
    [InlineData("data.a", "data: {\"a\"\n\n", null)]
    [InlineData("data.a", "data: \n\n", null)]
    public void A_key_is_what_stands_there(string text, string unit, string? key)
    {
        var found = UnitKey.Parse(text)!.TryFind(Encoding.UTF8.GetBytes(unit), isLine: false, out var value);
        Assert.Equal(key, found ? Encoding.UTF8.GetString(value) : null);
    }

    [Theory]
    [InlineData("name")]
    [InlineData("data.")]
    [InlineData("data.a..b")]
    public void What_is_no_key_is_none(string text) => Assert.Null(UnitKey.Parse(text));

    [Fact]
    public void Ids_of_what_is_missed_are_told_and_never_the_streams_own()
    {
        using var queue = Open(units: 1, notice: GapNotice.Event);
        foreach (var id in (string[])["s_gABCDEFGHIJKLMNOPQRSTUV.41", "s_gABCDEFGHIJKLMNOPQRSTUV.42", "x"])
        {
            Add(queue, $"id: {id}\ndata: 1\n\n");
        }
        Assert.StartsWith("event: gap\ndata: {\"reason\":\"slow_consumer\",\"dropped\":2,\"from\":\"41\",\"to\":\"42\"}\n\nid: x\n",
            Take(queue), StringComparison.Ordinal);
        using var lines = Open(units: 1, notice: GapNotice.Event, isLines: true);
        Add(lines, "{\"a\":1}\n");
        Add(lines, "{\"a\":2}\n");
        Assert.Equal("{\"gap\":{\"reason\":\"slow_consumer\",\"dropped\":1}}\n{\"a\":2}\n", Take(lines));
    }

    [Fact]
    public void Who_is_behind_for_too_long_misses_what_is_too_old()
    {
        using var queue = Open(lag: 5);
        Add(queue, "data: 1\n\n");
        _time.Advance(TimeSpan.FromSeconds(3));
        Add(queue, "data: 2\n\n");
        _time.Advance(TimeSpan.FromSeconds(3));
        Assert.Equal(": dropped 1\n\ndata: 2\n\n", Take(queue));
    }

    [Fact]
    public void A_client_that_may_not_be_behind_is_refused_more()
    {
        using var queue = Open(SlowPolicy.Disconnect, bytes: 20);
        Assert.True(Add(queue, new string('x', 100)));
        Assert.False(Add(queue, "data: 2\n\n"));
        using var lagging = Open(SlowPolicy.Disconnect, lag: 5);
        Add(lagging, "data: 1\n\n");
        _time.Advance(TimeSpan.FromSeconds(6));
        Assert.False(Add(lagging, "data: 2\n\n"));
    }

    [Fact]
    public void All_together_hold_no_more_than_they_may()
    {
        _memory.Max = 64 * 1024;
        var queues = Enumerable.Range(0, 4).Select(_ => Open(notice: GapNotice.None)).ToArray();
        for (var i = 0; i < 1000; i++)
        {
            foreach (var queue in queues)
            {
                Add(queue, new string('x', 1000));
            }
        }
        Assert.All(queues, queue => Assert.InRange(queue.Bytes, 15_000, 33_000));
        Assert.True(_memory.Used <= 128 * 1024, $"{_memory.Used}");
        Assert.Equal(1000, queues[0].Units + queues[0].Dropped);
        foreach (var queue in queues)
        {
            queue.Dispose();
        }
        Assert.Equal(0, _memory.Used);
        Assert.Equal(1 << 20, _memory.Limit(1 << 20));
    }

    [Theory]
    [InlineData("drop_oldest")]
    [InlineData("latest_per_key")]
    public void What_is_given_and_what_is_dropped_are_what_was_made(string policy)
    {
        var random = new Random(1);
        using var queue = Open(policy == "drop_oldest" ? SlowPolicy.DropOldest : SlowPolicy.LatestPerKey,
            policy == "drop_oldest" ? null : "data.k", bytes: 2000, units: 20);
        var given = new StringBuilder();
        for (var n = 0; n < 5000; n++)
        {
            Add(queue, $"data: {{\"k\":{random.Next(30)},\"n\":{n},\"x\":\"{new string('x', random.Next(200))}\"}}\n\n");
            Assert.True(queue.Bytes <= 2300 && queue.Units <= 20);
            if (random.Next(3) == 0)
            {
                given.Append(Take(queue, random.Next(1, 300)));
            }
        }
        given.Append(Take(queue));
        var events = given.ToString().Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        var told = events.Where(static one => one.StartsWith(": dropped ", StringComparison.Ordinal))
            .Sum(static one => int.Parse(one[10..], null));
        Assert.Equal(queue.Dropped, told);
        Assert.Equal(5000, events.Count(static one => one.StartsWith("data: {\"k\":", StringComparison.Ordinal)) + told);
        Assert.Contains("\"n\":4999,", events[^1], StringComparison.Ordinal);
    }
}

using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline.Live;

public class EventCountsTests
{
    static EventCounts Of(params string[] events)
    {
        var counts = new EventCounts(TestExchange.Of(TestExchange.Compile([]), "http://a/"));
        foreach (var text in events)
        {
            counts.Show(System.Text.Encoding.UTF8.GetBytes(text), isFirst: true);
            counts.Add(1, text.Length);
        }
        return counts;
    }

    [Fact]
    public void The_last_event_is_known_by_name_and_id()
    {
        Assert.Equal(("tick", "7"), Of("event: old\nid: 6\ndata: 1\n\n", "event: tick\nid: 7\ndata: 2\n\n").LastNames());
        Assert.Equal(default, Of("event: tick\nid: 7\ndata: 1\n\n", "data: 2\n\n").LastNames());
        Assert.Equal((null, ""), Of("id\ndata: 2\n\n").LastNames());
        Assert.Equal(default, Of().LastNames());
    }

    [Fact]
    public void What_may_be_cut_is_not_taken_for_whole()
    {
        var data = new string('x', 300);
        Assert.Equal(("tick", null), Of($"event: tick\ndata: {data}\nid: 7\n\n").LastNames());
        Assert.Equal(("tick", null), Of($"event: tick\nid: {data}\ndata: 1\n\n").LastNames());
        // the beginning of a field of another name
        Assert.Equal(default, Of($"data: {new string('y', 116)}\nid: 7{data}\n\n").LastNames());
    }

    [Fact]
    public void An_event_that_comes_in_parts_is_one()
    {
        var counts = Of();
        counts.Show("event: ti"u8, isFirst: true);
        Assert.Equal(default, counts.LastNames());
        counts.Show("ck\nid: 9\ndata: 1\n\n"u8, isFirst: false);
        counts.Add(1, 27);
        Assert.Equal(("tick", "9", 1L, 27), (counts.LastNames().Name, counts.LastNames().Id, counts.Count, counts.LastBytes));
    }
}

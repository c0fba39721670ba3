using System.Buffers;
using System.Text;
using Sluice.Net;
using Sluice.Relay.Topics;

namespace Sluice.Tests.Relay.Topics;

public sealed class TopicTests : IDisposable
{
    readonly FakeTime _time = new();
    readonly TopicStore _store;

    public TopicTests() => _store = new(_time);

    public void Dispose() => _store.Dispose();

    Topic Open(int events = 100, long bytes = 1 << 20, double age = 300, string owner = "ann", bool givesIds = true, double detach = 30) =>
        _store.Open(
        TopicStore.NewId(ofGet: true), new("r", owner, owner, "/live", "", null, null),
        new(givesIds, new(events, bytes, TimeSpan.FromSeconds(age)), TimeSpan.FromSeconds(detach), TimeSpan.FromSeconds(300), 2));

    static async Task WriteAsync(TopicWriter writer, string text)
    {
        writer.Write(Encoding.UTF8.GetBytes(text));
        await writer.FlushAsync(TestContext.Current.CancellationToken);
    }

    static async Task<string> ReadAsync(Subscriber subscriber)
    {
        var buffer = new byte[64 * 1024];
        return Encoding.UTF8.GetString(buffer, 0, await subscriber.ReadAsync(buffer));
    }

    [Theory]
    [InlineData("id: 7\ndata: x\n\n", "id: S.1\ndata: x\n\n")]
    [InlineData("data: x\r\nid\r\n\r\n", "id: S.1\ndata: x\r\n\r\n")]
    [InlineData("identity: 1\ndata: x\n\n", "id: S.1\nidentity: 1\ndata: x\n\n")]
    [InlineData("id: 7\n\ndata: x\n\n", "id: S.1\ndata: x\n\n")]
    [InlineData("id: 7\nretry: 10\n\n", "retry: 10\n\n")]
    [InlineData("\uFEFFdata: x\n\n", "id: S.1\ndata: x\n\n")]
    public async Task Each_unit_gets_an_id_in_the_place_of_the_sources(string sent, string given)
    {
        var topic = Open();
        using var reader = topic.Subscribe(0, default, null)!;
        using var writer = new TopicWriter(topic);
        await WriteAsync(writer, sent);
        Assert.Equal(given.Replace("S", topic.Id, StringComparison.Ordinal), await ReadAsync(reader));
    }

    [Fact]
    public async Task A_comment_comes_to_those_who_are_there_and_never_again()
    {
        var topic = Open(givesIds: false);
        using var writer = new TopicWriter(topic);
        using var there = topic.Subscribe(0, default, null)!;
        await WriteAsync(writer, "data: 1\n\n");
        await WriteAsync(writer, ": ping\n\n");
        await WriteAsync(writer, "data: 2\n\n");
        Assert.Equal("data: 1\n\n: ping\n\ndata: 2\n\n", await ReadAsync(there));
        using var late = topic.Subscribe(0, default, null)!;
        Assert.Equal("data: 1\n\ndata: 2\n\n", await ReadAsync(late));
    }

    [Fact]
    public async Task A_client_that_is_behind_by_the_whole_tail_holds_the_source_back_and_nobody_does_when_nobody_is_there()
    {
        var topic = Open(events: 2, givesIds: false);
        using var writer = new TopicWriter(topic);
        var reader = topic.Subscribe(0, default, null)!;
        await WriteAsync(writer, "data: 1\n\ndata: 2\n\n");
        var third = WriteAsync(writer, "data: 3\n\n");
        Assert.False(third.IsCompleted);
        Assert.Equal("data: 1\n\ndata: 2\n\n", await ReadAsync(reader));
        await third.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        reader.Dispose();
        await WriteAsync(writer, "data: 4\n\ndata: 5\n\ndata: 6\n\n");
        Assert.Equal((5L, 6L), (topic.Look(0).First, topic.Look(0).Last));
    }

    [Fact]
    public async Task A_source_and_a_reader_never_wait_for_each_other()
    {
        var topic = Open(events: 1, givesIds: false);
        using var writer = new TopicWriter(topic);
        using var reader = topic.Subscribe(0, default, null)!;
        const int Units = 20_000;
        var writing = Task.Run(async () =>
        {
            for (var n = 0; n < Units; n++)
            {
                await WriteAsync(writer, "data: x\n\n");
            }
            topic.Complete(TopicEnd.Complete);
        });
        var bytes = 0;
        for (var buffer = new byte[64]; await reader.ReadAsync(buffer).AsTask().WaitAsync(TimeSpan.FromSeconds(30)) is > 0 and var read;
            bytes += read)
        {
        }
        await writing;
        Assert.Equal(Units * 9, bytes);
    }

    [Fact]
    public async Task What_is_too_old_is_no_longer_kept()
    {
        var topic = Open(age: 60);
        using var writer = new TopicWriter(topic);
        await WriteAsync(writer, "data: 1\n\n");
        _time.Advance(TimeSpan.FromSeconds(50));
        await WriteAsync(writer, "data: 2\n\n");
        _time.Advance(TimeSpan.FromSeconds(20));
        Assert.Equal(2, topic.Look(0).First);
    }

    [Fact]
    public async Task A_further_client_takes_the_place_of_the_oldest()
    {
        var topic = Open();
        TopicEnd? told = null;
        using var first = topic.Subscribe(0, default, null)!;
        first.BrokeOff = end => told = end;
        using var second = topic.Subscribe(0, default, null)!;
        using var third = topic.Subscribe(0, default, null)!;
        await Assert.ThrowsAsync<UpstreamException>(() => ReadAsync(first));
        Assert.Equal("evicted", told?.Reason);
    }

    [Fact]
    public async Task All_tails_together_stay_within_their_memory_and_a_cut_is_told()
    {
        _store.MaxMemory = 1 << 20;
        var most = 0L;
        List<(Topic Topic, TopicWriter Writer, Subscriber Reader)> streams = [];
        for (var i = 0; i < 20; i++)
        {
            var topic = Open(owner: $"o{i}");
            var reader = topic.Subscribe(0, default, null)!;
            streams.Add((topic, new(topic), reader));
        }
        for (var n = 0; n < 100; n++)
        {
            foreach (var (_, writer, _) in streams)
            {
                await WriteAsync(writer, $"data: {new string('x', 1000)}\n\n");
                most = Math.Max(most, _store.Memory);
            }
        }
        Assert.InRange(most, 1 << 19, (1 << 20) * 11 / 10);
        var (cut, _, behind) = streams.First(stream => stream.Topic.Look(0).First > 1);
        Assert.StartsWith($"event: gap\ndata: {{\"reason\":\"expired\",\"from\":\"1\",\"to\":\"{cut.Look(0).First - 1}\"}}\n\n",
            await ReadAsync(behind), StringComparison.Ordinal);
        foreach (var (_, writer, reader) in streams)
        {
            reader.Dispose();
            writer.Dispose();
        }
        _store.Dispose();
        Assert.Equal(0, _store.Memory);
    }

    [Fact]
    public void The_oldest_source_without_a_client_goes_when_there_are_too_many()
    {
        _store.MaxDetached = 2;
        List<int> stopped = [];
        for (var i = 0; i < 3; i++)
        {
            var (number, topic) = (i, Open(owner: $"o{i}"));
            topic.Begin(() => stopped.Add(number));
            topic.Subscribe(0, default, null)!.Dispose();
        }
        Assert.Equal([0], stopped);
    }

    [Fact]
    public void An_owner_keeps_64_streams()
    {
        Topic[] topics = [.. Enumerable.Range(0, 65).Select(_ => Open())];
        Assert.All(topics, topic => Assert.NotNull(_store.Find(topic.Id)));
        foreach (var topic in topics)
        {
            topic.Complete(TopicEnd.Complete);
        }
        var one = Open();
        Assert.Null(_store.Find(topics[0].Id));
        Assert.NotNull(_store.Find(one.Id));
    }

    [Fact]
    public void A_finished_stream_is_kept_for_a_while()
    {
        var topic = Open();
        topic.Complete(TopicEnd.Complete);
        _time.Advance(TimeSpan.FromSeconds(299));
        Assert.NotNull(_store.Find(topic.Id));
        _time.Advance(TimeSpan.FromSeconds(2));
        Assert.Null(_store.Find(topic.Id));
        Assert.Null(topic.Subscribe(0, default, null));
    }

    [Theory]
    [InlineData("s_gAAAAAAAAAAAAAAAAAAAAAA", true)]
    [InlineData("s_pzzzzzzzzzzzzzzzzzzzzzz", true)]
    [InlineData("s_xAAAAAAAAAAAAAAAAAAAAAA", false)]
    [InlineData("s_gAAAAAAAAAAAAAAAAAAAAA", false)]
    [InlineData("s_gAAAAAAAAAAAAAAAAAAAAA-", false)]
    public void Ids_have_one_form(string text, bool isId) => Assert.Equal(isId, TopicStore.IsId(text));

    [Fact]
    public void New_ids_are_ids_and_differ()
    {
        Assert.True(TopicStore.IsId(TopicStore.NewId(ofGet: true)));
        Assert.NotEqual(TopicStore.NewId(ofGet: false), TopicStore.NewId(ofGet: false));
    }
}

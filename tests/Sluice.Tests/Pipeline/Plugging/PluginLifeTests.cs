using Sluice.Model;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline.Plugging;

public sealed class PluginLifeTests
{
    readonly PluginServices _services = TestExchange.Services();
    readonly LiveConfiguration _live;

    public PluginLifeTests()
    {
        _live = new(new SnapshotCompiler(_services, [PluginDescriptor.Of<OwningPlugin, OwningPlugin.Config>()]));
        _live.Apply(TestExchange.DefaultSettings);
    }

    static Document Route(string id, string config) =>
        TestExchange.Document(ResourceKind.Routes, id,
            $$"""{"uri":"/{{id}}","plugins":{"owning":{{config}}},"upstream":{"nodes":{"127.0.0.1:1":1} } }""");

    IReadOnlyList<Problem> Apply(params Document[] documents) => _live.Apply(documents: DocumentSet.Of(documents));

    /// <summary>Plugins end on a task of their own; there is nothing to wait for but that.</summary>
    async Task HasAsync(int owned, int shared)
    {
        while ((OwningPlugin.Owned, OwningPlugin.Shared, _services.Lives.Count, _services.Lives.SharedCount) != (owned, shared, owned,
            shared))
        {
            await Task.Yield();
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
        }
    }

    [Fact(Timeout = 60_000)]
    public async Task A_thousand_tried_refused_and_replaced_configurations_leave_nothing_behind()
    {
        Apply(Route("r1", "{}"));
        await HasAsync(1, 1);
        for (var i = 0; i < 1000; i++)
        {
            using (var prepared = _live.Prepare(DocumentSet.Of([Route("r1", $$"""{"name":"t{{i}}"}"""), Route("r2", "{}")])))
            {
                Assert.Empty(prepared.Problems);
            }
            Assert.Single(Apply(Route("r1", $$"""{"name":"f{{i}}"}"""), Route("r2", """{"bad":true}""")));
            Assert.Empty(Apply(Route("r1", $$"""{"name":"p{{i}}"}""")));
        }
        await HasAsync(1, 1);
        Apply();
        await HasAsync(0, 0);
    }

    [Fact(Timeout = 60_000)]
    public async Task What_is_shared_outlives_the_change_that_both_sides_share()
    {
        Apply(Route("r1", """{"name":"a"}"""));
        var before = _live.Enter(out var seat);
        Apply(Route("r1", """{"name":"a"}"""), Route("r2", """{"name":"a"}"""));
        // r1 of the request that is under way, r1 and r2
        await HasAsync(3, 1);
        LiveConfiguration.Leave(before, seat);
        await HasAsync(2, 1);
        Apply();
        await HasAsync(0, 0);
    }

    [Fact(Timeout = 60_000)]
    public async Task A_request_on_an_old_snapshot_holds_up_only_what_that_snapshot_has()
    {
        Apply(Route("r1", """{"name":"first"}"""));
        var old = _live.Enter(out var seat);
        for (var i = 0; i < 100; i++)
        {
            Apply(Route("r1", $$"""{"name":"n{{i}}"}"""));
        }
        await HasAsync(2, 2);
        Assert.Equal(1, _live.RetiredPlugins);
        LiveConfiguration.Leave(old, seat);
        await HasAsync(1, 1);
        Assert.Equal(0, _live.RetiredPlugins);
        Apply();
        await HasAsync(0, 0);
    }

    [Fact(Timeout = 60_000)]
    public async Task Global_rules_that_stay_keep_what_they_own()
    {
        var rule = TestExchange.Document(ResourceKind.GlobalRules, "g1", """{"plugins":{"owning":{"name":"g1"}}}""");
        var other = TestExchange.Document(ResourceKind.GlobalRules, "g2", """{"plugins":{"owning":{"name":"g2"}}}""");
        Apply(rule, other);
        await HasAsync(2, 2);
        Apply(rule);
        await HasAsync(1, 1);
        Assert.NotNull(_live.Current.GlobalRules.Uses.Single().Life);
        await _services.Lives.EndAllAsync();
        await HasAsync(0, 0);
    }

    [Fact(Timeout = 60_000)]
    public async Task Whoever_uses_a_snapshot_is_seen_from_every_thread()
    {
        var uses = new UseCount();
        var unused = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var inside = 0;
        var threads = Enumerable.Range(0, 8).Select(_ => Task.Run(() =>
        {
            while (uses.TryEnter(out var seat))
            {
                Interlocked.Increment(ref inside);
                Assert.False(unused.Task.IsCompleted);
                Interlocked.Decrement(ref inside);
                uses.Leave(seat);
            }
        })).ToArray();
        uses.Retire(() =>
        {
            Assert.Equal(0, Volatile.Read(ref inside));
            unused.SetResult();
        });
        await Task.WhenAll(threads);
        await unused.Task;
    }
}

using Sluice.Pipeline;

namespace Sluice.Tests.Plugins;

public class LimitConnTests
{
    const string One = """{"limit-conn":{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"http_x_key","rejected_code":429,"rejected_msg":"full"}}""";

    [Fact]
    public async Task A_request_that_has_ended_makes_room()
    {
        var test = new PluginTest(One);
        for (var i = 0; i < 3; i++)
        {
            Assert.True((await test.GetAsync("/", ("x-key", "a"))).Proxied);
        }
    }

    [Fact]
    public async Task Requests_over_the_limit_are_refused_by_key_and_the_rest_is_not_held_up()
    {
        var test = new PluginTest(One);
        var chain = test.Snapshot.Routes["r1"].Chain;
        var (plugin, _) = Assert.Single(chain.Access);
        Exchange Of(string key) => Sluice.Tests.Pipeline.TestExchange.Of(test.Snapshot, "http://x/", headers: ("x-key", key));
        var first = Of("a");
        Assert.Null(await plugin.AccessAsync(first));
        Assert.Equal(429, (await plugin.AccessAsync(Of("a")))!.Status);
        Assert.Null(await plugin.AccessAsync(Of("b")));
        ((ILog)plugin).Log(first);
        Assert.Null(await plugin.AccessAsync(Of("a")));
    }

    [Fact]
    public async Task Bursts_wait()
    {
        var test = new PluginTest("""{"limit-conn":{"conn":1,"burst":1,"default_conn_delay":2,"only_use_default_delay":true,"key":"remote_addr"}}""");
        var (plugin, _) = Assert.Single(test.Snapshot.Routes["r1"].Chain.Access);
        Exchange Of() => Sluice.Tests.Pipeline.TestExchange.Of(test.Snapshot, "http://x/");
        Assert.Null(await plugin.AccessAsync(Of()));
        var waiting = plugin.AccessAsync(Of()).AsTask();
        Assert.False(waiting.IsCompleted);
        Assert.Equal(503, (await plugin.AccessAsync(Of()))!.Status);
        test.Time.Advance(TimeSpan.FromSeconds(2));
        Assert.Null(await waiting);
    }

    [Fact]
    public void Other_policies_are_refused() => Assert.Contains("policy \"redis\" is not supported",
        PluginTest.Check("limit-conn", """{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"remote_addr","policy":"redis"}"""), StringComparison.Ordinal);
}

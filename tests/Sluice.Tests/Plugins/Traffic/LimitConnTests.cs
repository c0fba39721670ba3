using Sluice.Model;
using Sluice.Plugins;
using Sluice.Tests.Pipeline;
using Sluice.Pipeline;

namespace Sluice.Tests.Plugins.Traffic;

public class LimitConnTests
{
    const string One =
        """{"limit-conn":{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"http_x_key","rejected_code":429,"rejected_msg":"full"}}""";

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
        var (plugin, _) = Assert.Single(chain.Steps(Phase.Access));
        Exchange Of(string key) => TestExchange.Of(test.Snapshot, "http://x/", headers: ("x-key", key));
        var first = Of("a");
        Assert.Null(await plugin.AccessAsync(first));
        Assert.Equal(429, (await plugin.AccessAsync(Of("a")))!.Status);
        Assert.Null(await plugin.AccessAsync(Of("b")));
        ((ILog)plugin).Log(first);
        Assert.Null(await plugin.AccessAsync(Of("a")));
    }

    [Fact]
    public async Task Requests_within_the_burst_wait()
    {
        var test =
            new PluginTest(
                """{"limit-conn":{"conn":1,"burst":1,"default_conn_delay":2,"only_use_default_delay":true,"key":"remote_addr"}}""");
        var (plugin, _) = Assert.Single(test.Snapshot.Routes["r1"].Chain.Steps(Phase.Access));
        Exchange Of() => TestExchange.Of(test.Snapshot, "http://x/");
        Assert.Null(await plugin.AccessAsync(Of()));
        var waiting = plugin.AccessAsync(Of()).AsTask();
        Assert.False(waiting.IsCompleted);
        Assert.Equal(503, (await plugin.AccessAsync(Of()))!.Status);
        test.Time.Advance(TimeSpan.FromSeconds(2));
        Assert.Null(await waiting);
    }

    [Fact]
    public async Task Limits_may_come_from_variables()
    {
        var test =
            new PluginTest(
                """{"limit-conn":{"conn":"${http_conn ?? 2}","burst":"${http_burst ?? 0}","default_conn_delay":0.1,"key":"remote_addr"}}""");
        var (plugin, _) = Assert.Single(test.Snapshot.Routes["r1"].Chain.Steps(Phase.Access));
        async Task<int?> Of(params (string, string)[] headers) =>
            (await plugin.AccessAsync(TestExchange.Of(test.Snapshot, "http://x/", headers: headers)))?.Status;
        Assert.Null(await Of());
        Assert.Equal(503, await Of(("conn", "1")));
        Assert.Null(await Of());
        Assert.Equal(503, await Of());
        Assert.Null(await Of(("conn", "3")));
        foreach (var wrong in (string[])["0", "-1", "1.5", "x", "9007199254740993"])
        {
            Assert.Equal(500, await Of(("conn", wrong)));
        }
        Assert.Equal(500, await Of(("burst", "-1")));
    }

    [Fact]
    public async Task Rules_are_limits_side_by_side_and_give_back_what_they_took()
    {
        var test =
            new PluginTest(
                """{"limit-conn":{"default_conn_delay":0.1,"rules":[{"conn":2,"burst":0,"key":"$http_user"},{"conn":1,"burst":0,"key":"$http_project"}]}}""");
        var (plugin, _) = Assert.Single(test.Snapshot.Routes["r1"].Chain.Steps(Phase.Access));
        Exchange Of(params (string, string)[] headers) => TestExchange.Of(test.Snapshot, "http://x/", headers: headers);
        async Task<int?> Status(Exchange exchange) => (await plugin.AccessAsync(exchange))?.Status;
        var first = Of(("user", "a"), ("project", "p"));
        Assert.Null(await Status(first));
        var refused = Of(("user", "a"), ("project", "p"));
        Assert.Equal(503, await Status(refused));
        Assert.Equal(503, await Status(Of(("user", "a"))));
        ((ILog)plugin).Log(refused);
        Assert.Null(await Status(Of(("user", "a"))));
        ((ILog)plugin).Log(first);
        Assert.Null(await Status(Of(("project", "p"))));
        Assert.Equal(500, await Status(Of()));
    }

    [Theory]
    [InlineData("""{"conn":1,"burst":0,"default_conn_delay":0.1}""", "value should match only one schema, but matches none")]
    [InlineData("""{"conn":-1,"burst":0,"default_conn_delay":0.1,"key":"a"}""",
        "property \"conn\" validation failed: value should match only one schema, but matches none")]
    [InlineData("""{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"a","rules":[]}""",
        "value should match only one schema, but matches both schemas 1 and 2")]
    public void Mistakes_have_APISIX_words(string config, string error) => Assert.Equal(error, PluginTest.Check("limit-conn", config));

    [Theory]
    [InlineData("""{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"remote_addr","policy":"redis"}""", "then clause did not match")]
    [InlineData("""{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"remote_addr","policy":"redis-cluster"}""",
        "else clause did not match")]
    [InlineData("""{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"remote_addr","policy":"redis-sentinel"}""",
        "property \"policy\" validation failed: matches none of the enum values")]
    [InlineData(
        """{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"remote_addr","policy":"redis","redis_host":"127.0.0.1","key_ttl":60}""",
        null)]
    public void Policies_have_settings_of_their_own(string config, string? error) =>
        Assert.Equal(error, PluginTest.Check("limit-conn", config));
}

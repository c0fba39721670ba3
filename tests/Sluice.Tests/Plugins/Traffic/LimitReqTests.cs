using Sluice.Plugins.Traffic;
using Sluice.Tests.Pipeline;
using Sluice.Pipeline;

namespace Sluice.Tests.Plugins.Traffic;

public class LimitReqTests
{
    [Theory]
    [InlineData("""{"burst":1,"key":"remote_addr"}""", "property \"rate\" is required")]
    [InlineData("""{"rate":0,"burst":1,"key":"remote_addr"}""", "property \"rate\" validation failed: expected 0 to be greater than 0")]
    [InlineData("""{"rate":1,"burst":1,"key":"remote_addr","policy":"redis"}""", "then clause did not match")]
    [InlineData("""{"rate":1,"burst":1,"key":"remote_addr","policy":"redis-cluster"}""", "else clause did not match")]
    [InlineData("""{"rate":0.1,"burst":0.5,"key":"remote_addr"}""", null)]
    public void Mistakes_have_APISIX_words(string config, string? error) => Assert.Equal(error, PluginTest.Check("limit-req", config));

    [Fact]
    public async Task Requests_come_through_at_the_rate_and_the_others_are_refused()
    {
        var test = Test("""{"rate":2,"burst":0,"key":"remote_addr","rejected_msg":"slow down"}""");
        Assert.True((await test.GetAsync("/")).Proxied);
        var refused = await test.GetAsync("/");
        Assert.Equal((503, "{\"error_msg\":\"slow down\"}\n"), (refused.Status, refused.Body));
        // who was refused does not count
        test.Time.Advance(TimeSpan.FromSeconds(0.499));
        Assert.Equal(503, (await test.GetAsync("/")).Status);
        test.Time.Advance(TimeSpan.FromSeconds(0.001));
        Assert.True((await test.GetAsync("/")).Proxied);
    }

    [Fact]
    public async Task Requests_within_the_burst_wait_until_they_fit_the_rate()
    {
        var test = Test("""{"rate":2,"burst":1,"key":"remote_addr","rejected_code":429}""");
        var (plugin, _) = Assert.Single(test.Snapshot.Routes["r1"].Chain.Steps(Phase.Access));
        Assert.Null(await plugin.AccessAsync(TestExchange.Of(test.Snapshot, "http://x/")));
        var waiting = plugin.AccessAsync(TestExchange.Of(test.Snapshot, "http://x/")).AsTask();
        Assert.Equal(429, (await plugin.AccessAsync(TestExchange.Of(test.Snapshot, "http://x/")))!.Status);
        test.Time.Advance(TimeSpan.FromSeconds(0.49));
        Assert.False(waiting.IsCompleted);
        test.Time.Advance(TimeSpan.FromSeconds(0.01));
        Assert.Null(await waiting);
    }

    [Fact]
    public async Task Without_delay_the_burst_passes_at_once()
    {
        var test = Test("""{"rate":0.1,"burst":2,"key":"remote_addr","nodelay":true}""");
        for (var i = 0; i < 3; i++)
        {
            Assert.True((await test.GetAsync("/")).Proxied);
        }
        Assert.Equal(503, (await test.GetAsync("/")).Status);
    }

    [Theory]
    [InlineData("""{"rate":0.1,"burst":0,"key":"arg_k"}""")]
    [InlineData("""{"rate":0.1,"burst":0,"key_type":"var_combination","key":"$remote_addr $arg_k"}""")]
    public async Task Requests_are_counted_by_key_and_without_one_by_address(string config)
    {
        var test = Test(config);
        Assert.True((await test.GetAsync("/?k=a")).Proxied);
        Assert.True((await test.GetAsync("/?k=b")).Proxied);
        Assert.False((await test.GetAsync("/?k=a")).Proxied);
        Assert.True((await test.GetAsync("/")).Proxied);
        Assert.True((await test.GetAsync("/", (":peer", "192.0.2.2"))).Proxied);
        Assert.False((await test.GetAsync("/")).Proxied);
    }

    [Fact]
    public async Task Buckets_survive_a_change_elsewhere()
    {
        var test = Test("""{"rate":0.1,"burst":0,"key":"remote_addr"}""");
        await test.GetAsync("/");
        test.Configure("""{"limit-req":{"rate":0.1,"burst":0,"key":"remote_addr"},"request-id":{}}""");
        Assert.Equal(503, (await test.GetAsync("/")).Status);
        test.Configure("""{"limit-req":{"rate":0.2,"burst":0,"key":"remote_addr"}}""");
        Assert.True((await test.GetAsync("/")).Proxied);
    }

    [Fact]
    public void Memory_is_bounded()
    {
        var buckets = new LeakyBuckets(new FakeTime(), capacity: 2000);
        for (var i = 0; i < 5000; i++)
        {
            buckets.Add($"{i}", 0.001, 1);
            Assert.InRange(buckets.Count, 1, 2000);
        }
    }

    static PluginTest Test(string config) => new($$$"""{"limit-req":{{{config}}}}""");
}

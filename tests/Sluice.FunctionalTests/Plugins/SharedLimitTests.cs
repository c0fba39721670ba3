using System.Globalization;
using System.Net;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;
using StackExchange.Redis;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>Limits that gateways share over Redis.</summary>
public sealed class SharedLimitTests
{
    [Theory]
    [InlineData("fixed", 1000, 1000)]
    [InlineData("sliding", 990, 1010)]
    public async Task Two_gateways_let_the_limit_through_and_no_more(string window, int least, int most)
    {
        await using var redis = await RedisServer.StartAsync();
        await using var two = await TwoAsync(
            $$""" "limit-count":{"count":1000,"time_window":3600,"window_type":"{{window}}","rejected_code":429,{{redis.Policy}}} """);
        var passed = 0;
        await Parallel.ForEachAsync(Enumerable.Range(0, 10_000), new ParallelOptions { MaxDegreeOfParallelism = 40 }, async (number, _) =>
        {
            var status = await two.GetAsync(number % 2);
            Assert.True(status is 200 or 429, $"{status}\n{two[number % 2].ErrorLog}");
            Interlocked.Add(ref passed, status == 200 ? 1 : 0);
        });
        Assert.InRange(passed, least, most);
        // a script is one command: nothing else was asked for each request
        var commands = (string)(await redis.AskAsync("INFO", "commandstats"))!;
        Assert.InRange(Calls("evalsha"), 10_000, 10_010);
        Assert.InRange(Calls("eval"), 0, 40);

        int Calls(string command) => commands.Split('\n').Where(line => line.StartsWith($"cmdstat_{command}:", StringComparison.Ordinal))
            .Select(line => int.Parse(line.Split("calls=")[1].Split(',')[0], CultureInfo.InvariantCulture)).FirstOrDefault();
    }

    [Theory]
    [InlineData("limit-count", """ "count":2,"time_window":3600 """, false)]
    [InlineData("limit-count", """ "count":2,"time_window":3600 """, true)]
    [InlineData("limit-req", """ "rate":0.0001,"burst":1,"nodelay":true,"key":"remote_addr" """, false)]
    [InlineData("limit-req", """ "rate":0.0001,"burst":1,"nodelay":true,"key":"remote_addr" """, true)]
    [InlineData("limit-conn", """ "conn":2,"burst":0,"default_conn_delay":0.1,"key":"remote_addr" """, false)]
    [InlineData("limit-conn", """ "conn":2,"burst":0,"default_conn_delay":0.1,"key":"remote_addr" """, true)]
    public async Task While_Redis_is_away_requests_pass_or_are_answered_500_as_configured(string plugin, string config, bool pass)
    {
        await using var redis = await RedisServer.StartAsync();
        await using var two = await TwoAsync(
            $$""" "{{plugin}}":{ {{config}},"rejected_code":429,"allow_degradation":{{(pass ? "true" : "false")}},{{redis.Policy}}} """);
        Assert.Equal(200, await two.GetAsync(0));
        await redis.KillAsync();
        for (var i = 0; i < 5; i++)
        {
            Assert.Equal(pass ? 200 : 500, await two.GetAsync(0));
        }
        await two[0].ErrorLogSaysAsync($"failed to {plugin.Replace('-', ' ')}: ");
        await redis.RunAsync();
        // and it is asked again as soon as it is there
        await Eventually.HoldsAsync(async () => await two.GetAsync(0) == 200
            && (int)await redis.AskAsync("DBSIZE") > (plugin == "limit-conn" ? -1 : 0), "Redis is back, and is not asked");
        if (plugin != "limit-conn")
        {
            await Eventually.HoldsAsync(async () => await two.GetAsync(0) == 429, "Redis is back, and does not limit");
        }
    }

    [Fact]
    public async Task What_limit_count_says_when_Redis_is_away_is_APISIXs()
    {
        await using var redis = await RedisServer.StartAsync();
        await redis.KillAsync();
        await using var two = await TwoAsync($$""" "limit-count":{"count":2,"time_window":3600,{{redis.Policy}}} """);
        using var response = await two[0].Client.GetAsync(two[0].Url("/"), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.InternalServerError, response.StatusCode);
        Assert.Equal("{\"error_msg\":\"failed to limit count\"}\n",
            await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Scripts_that_Redis_has_forgotten_are_sent_again()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var two = await TwoAsync($$""" "limit-count":{"count":2,"time_window":3600,"rejected_code":429,{{redis.Policy}}} """);
        Assert.Equal(200, await two.GetAsync(0));
        await redis.AskAsync("SCRIPT", "FLUSH");
        Assert.Equal(200, await two.GetAsync(1));
        Assert.Equal(429, await two.GetAsync(0));
        await two[1].ErrorLogSaysAsync("redis evalsha failed: NOSCRIPT");
    }

    [Fact]
    public async Task A_wrong_password_does_not_get_the_connection_of_a_right_one()
    {
        await using var redis = await RedisServer.StartAsync("--user", "alice", "on", ">somepassword", "~*", "+@all");
        await using var two = await TwoAsync("");
        foreach (var (id, more) in ((string, string)[])[
            ("right", """ "redis_username":"alice","redis_password":"somepassword" """),
            ("wrong", """ "redis_username":"alice","redis_password":"other" """),
            ("other", """ "redis_username":"alice","redis_password":"somepassword","redis_database":1 """)])
        {
            await two[0].RouteAsync(id, $"/{id}", two.Origin.Port,
                $$""" "plugins":{"limit-count":{"count":9,"time_window":3600,{{redis.Policy}},{{more}} } } """);
        }
        Assert.Equal(200, await two.GetAsync(0, "/right"));
        Assert.Equal(500, await two.GetAsync(0, "/wrong"));
        Assert.Equal(200, await two.GetAsync(0, "/right"));
        Assert.Equal(1, (int)await redis.AskAsync("DBSIZE"));
        Assert.Equal(200, await two.GetAsync(0, "/other"));
        Assert.Equal(1, (int)await redis.AskAsync("DBSIZE"));
        await two[0].ErrorLogSaysAsync("WRONGPASS");
        Assert.DoesNotContain("somepassword", two[0].ErrorLog, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Redis_may_be_behind_TLS_and_its_certificate_is_checked_when_asked_for()
    {
        using var authority = new TestAuthority();
        await using var redis = await RedisServer.StartAsync(Certificate(authority));
        await using var two = await TwoAsync(
            $$""" "limit-count":{"count":1,"time_window":3600,"rejected_code":429,"redis_ssl":true,{{redis.Policy}}} """);
        Assert.Equal(200, await two.GetAsync(0));
        Assert.Equal(429, await two.GetAsync(1));
        await two[0].RouteAsync("r1", "/*", two.Origin.Port,
            $$""" "plugins":{"limit-count":{"count":1,"time_window":3600,"redis_ssl":true,"redis_ssl_verify":true,{{redis.Policy}} } } """);
        Assert.Equal(500, await two.GetAsync(0));
    }

    [Fact]
    public async Task Limit_req_is_one_bucket_for_all_gateways()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var two = await TwoAsync(
            $$""" "limit-req":{"rate":0.001,"burst":2,"nodelay":true,"key":"remote_addr","rejected_code":429,{{redis.Policy}}} """);
        int[] statuses = [await two.GetAsync(0), await two.GetAsync(1), await two.GetAsync(0), await two.GetAsync(1),
            await two.GetAsync(0)];
        Assert.Equal([200, 200, 200, 429, 429], statuses);
        Assert.InRange((int)await redis.AskAsync("TTL", await redis.OnlyKeyAsync()), 1900, 2001);
    }

    [Fact]
    public async Task Limit_conn_counts_the_streams_of_all_gateways_and_renews_those_that_go_on()
    {
        await using var redis = await RedisServer.StartAsync();
        var clock = new ManualClock();
        await using var two = await TwoAsync(
            $$""" "limit-conn":{"conn":2,"burst":0,"default_conn_delay":0.1,"key":"remote_addr","rejected_code":429,{{redis.Policy}}} """,
            clock);
        using (await two.OpenStreamAsync(0))
        using (await two.OpenStreamAsync(1))
        {
            Assert.Equal(429, await two.GetAsync(0));
            Assert.Equal(429, await two.GetAsync(1));
            // as if they were almost no longer believed
            var key = await redis.OnlyKeyAsync();
            var soon = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() + 20_000;
            foreach (var member in (string[])(await redis.AskAsync("ZRANGE", key, 0, -1))!)
            {
                await redis.AskAsync("ZADD", key, soon, member);
            }
            clock.Advance(TimeSpan.FromSeconds(30));
            await Eventually.HoldsAsync(async () => (int)await redis.AskAsync("ZCOUNT", key, $"({soon + 30_000}", "+inf") == 2,
                "members were not renewed");
        }
        await Eventually.HoldsAsync(async () => await two.GetAsync(0) == 200, "a stream has ended, and its place was not given back");
        await Eventually.HoldsAsync(async () => (int)await redis.AskAsync("DBSIZE") == 0, "places were not given back");
    }

    [Theory]
    [InlineData("reject")]
    [InlineData("evict_oldest")]
    public async Task Concurrent_streams_of_all_gateways_are_counted_together_and_never_lost(string onFull)
    {
        await using var redis = await RedisServer.StartAsync();
        var clock = new ManualClock();
        await using var two = await TwoAsync(
            $$$"""" "streaming":{"concurrent":[{"key":"$route_id","limit":2,"on_full":"{{{onFull}}}",{{{redis.Policy}}}}]} """", clock);
        string key;
        using (await two.OpenStreamAsync(0))
        using (await two.OpenStreamAsync(0))
        {
            key = await redis.OnlyKeyAsync();
            Assert.StartsWith("sluice_streams:route r1/0/$route_id:", key, StringComparison.Ordinal);
            // the other gateway has no stream that could make room
            Assert.Equal(429, await two.GetAsync(1));
            // who is no stream holds no place
            Assert.Equal(onFull == "reject" ? 429 : 200, await two.GetAsync(0));
            await Eventually.HoldsAsync(async () => (int)await redis.AskAsync("ZCARD", key) == (onFull == "reject" ? 2 : 1),
                "not those are counted that are there");
            // as if they were almost no longer believed
            var soon = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() + 20_000;
            foreach (var member in (string[])(await redis.AskAsync("ZRANGE", key, 0, -1))!)
            {
                await redis.AskAsync("ZADD", key, soon, member);
            }
            clock.Advance(TimeSpan.FromSeconds(30));
            await Eventually.HoldsAsync(async () =>
                (int)await redis.AskAsync("ZCOUNT", key, $"({soon + 30_000}", "+inf") == (onFull == "reject" ? 2 : 1),
                "members were not renewed");
        }
        await Eventually.HoldsAsync(async () => (int)await redis.AskAsync("DBSIZE") == 0, "places were not given back");
        // those of a gateway that was killed
        var now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        await redis.AskAsync("ZADD", key, now + 80_000, "one", now + 80_000, "other");
        Assert.Equal(429, await two.GetAsync(0));
        await redis.AskAsync("ZADD", key, now - 1, "one");
        Assert.Equal(200, await two.GetAsync(0));
    }

    [Theory]
    [InlineData(true, 200)]
    [InlineData(false, 500)]
    public async Task While_Redis_is_away_streams_pass_or_are_answered_500_as_configured(bool pass, int status)
    {
        await using var redis = await RedisServer.StartAsync();
        await using var two = await TwoAsync(
            $$$""" "streaming":{"concurrent":[{"key":"$route_id","limit":2,"allow_degradation":{{{(pass ? "true" : "false")}}},{{{redis.Policy}}}}]} """);
        Assert.Equal(200, await two.GetAsync(0));
        await redis.KillAsync();
        Assert.Equal(status, await two.GetAsync(0));
        await two[0].ErrorLogSaysAsync("places of concurrent streams cannot be asked for in redis: ");
    }

    [Fact]
    public async Task Places_of_a_gateway_that_died_are_free_again_when_they_are_no_longer_believed()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var two = await TwoAsync(
            $$""" "limit-conn":{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"remote_addr","rejected_code":429,{{redis.Policy}}} """);
        string key;
        using (await two.OpenStreamAsync(0))
        {
            key = await redis.OnlyKeyAsync();
            Assert.InRange((int)await redis.AskAsync("TTL", key), 80, 90);
        }
        await Eventually.HoldsAsync(async () => (int)await redis.AskAsync("DBSIZE") == 0, "the place was not given back");
        var now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        await redis.AskAsync("ZADD", key, now + 80_000, "of-another-gateway");
        Assert.Equal(429, await two.GetAsync(0));
        await redis.AskAsync("ZADD", key, now - 1, "of-another-gateway");
        Assert.Equal(200, await two.GetAsync(0));
    }

    [Fact]
    public async Task With_a_sync_interval_requests_are_counted_here_and_Redis_is_told_later()
    {
        await using var redis = await RedisServer.StartAsync();
        var clock = new ManualClock();
        await using var two = await TwoAsync(
            $$""" "limit-count":{"count":4,"time_window":3600,"sync_interval":10,"rejected_code":429,{{redis.Policy}}} """, clock);
        Assert.Equal(200, await two.GetAsync(0));
        Assert.Equal(200, await two.GetAsync(0));
        Assert.Equal(200, await two.GetAsync(0));
        Assert.Equal(200, await two.GetAsync(1));
        var key = await redis.OnlyKeyAsync();
        Assert.Equal("0", (string?)await redis.AskAsync("GET", key));
        clock.Advance(TimeSpan.FromSeconds(10));
        await Eventually.HoldsAsync(async () => (string?)await redis.AskAsync("GET", key) == "4", "Redis was not told");
        // both gateways know when they have told it the next time, or at once because they have told it last
        await Eventually.HoldsAsync(
            async () =>
            {
                clock.Advance(TimeSpan.FromSeconds(10));
                return await two.GetAsync(0) == 429 && await two.GetAsync(1) == 429;
            },
            "the limit was not heard of");
        // while it is away, each counts for itself
        await redis.KillAsync();
        clock.Advance(TimeSpan.FromHours(2));
        Assert.Equal(200, await two.GetAsync(0));
        await two[0].ErrorLogSaysAsync("sync to redis failed: ");
    }

    [Fact]
    public async Task A_cluster_is_found_by_one_of_its_nodes_and_every_key_has_its_node()
    {
        await using var first = await RedisNode.StartAsync(settings: "cluster-enabled yes");
        await using var second = await RedisNode.StartAsync(settings: "cluster-enabled yes");
        await first.AskAsync("CLUSTER", "ADDSLOTSRANGE", 0, 8191);
        await second.AskAsync("CLUSTER", "ADDSLOTSRANGE", 8192, 16383);
        var bus = ((string)(await second.AskAsync("CLUSTER", "NODES"))!).Split('@')[1].Split([' ', ','])[0];
        await first.AskAsync("CLUSTER", "MEET", "127.0.0.1", second.Port, bus);
        foreach (var node in (RedisNode[])[first, second])
        {
            await Eventually.HoldsAsync(async () =>
                ((string)(await node.AskAsync("CLUSTER", "INFO"))!).Contains("cluster_state:ok", StringComparison.Ordinal), "no cluster",
                seconds: 30);
        }
        await using var two = await TwoAsync(
            $$""" "limit-count":{"count":1,"time_window":3600,"key":"arg_k","rejected_code":429,"policy":"redis-cluster","redis_cluster_name":"c","redis_cluster_nodes":["127.0.0.1:{{first.Port}}"]} """);
        for (var key = 0; key < 20; key++)
        {
            Assert.Equal(200, await two.GetAsync(0, $"/?k={key}"));
            Assert.Equal(429, await two.GetAsync(1, $"/?k={key}"));
        }
        var (one, other) = ((int)await first.AskAsync("DBSIZE"), (int)await second.AskAsync("DBSIZE"));
        Assert.True(one > 0 && other > 0 && one + other == 20, $"{one} {other}");
    }

    [Fact]
    public async Task Sentinels_say_where_the_master_is()
    {
        await using var master = await RedisNode.StartAsync(settings: "requirepass secret");
        await using var sentinel = await RedisNode.StartAsync(
            sentinel: true, "requirepass guard", $"sentinel monitor main 127.0.0.1 {master.Port} 1", "sentinel auth-pass main secret");
        var settings =
            $$""" "count":1,"time_window":3600,"rejected_code":429,"policy":"redis-sentinel","redis_sentinels":[{"host":"127.0.0.1","port":{{sentinel.Port}}}],"redis_master_name":"main","redis_password":"secret" """;
        await using var two = await TwoAsync($$""" "limit-count":{ {{settings}},"sentinel_password":"guard"} """);
        Assert.Equal(200, await two.GetAsync(0));
        Assert.Equal(429, await two.GetAsync(1));
        // who may not ask the sentinel is not told
        await two[0].RouteAsync("r1", "/*", two.Origin.Port, $$""" "plugins":{"limit-count":{ {{settings}} } } """);
        Assert.Equal(500, await two.GetAsync(0));
    }

    static X509Certificate2 Certificate(TestAuthority authority)
    {
        var (certificate, key) = authority.Issue("127.0.0.1");
        using var pem = X509Certificate2.CreateFromPem(certificate, key);
        return X509CertificateLoader.LoadPkcs12(pem.Export(X509ContentType.Pfx), null);
    }

    static async Task<Two> TwoAsync(string plugins, TimeProvider? time = null)
    {
        var origin = await WebOrigin.StartAppAsync(app =>
        {
            app.MapGet("/stream", async context =>
            {
                context.Response.ContentType = "text/event-stream";
                await context.Response.WriteAsync("data: 1\n\n", context.RequestAborted);
                await context.Response.Body.FlushAsync(context.RequestAborted);
                await Task.Delay(Timeout.Infinite, context.RequestAborted).ContinueWith(static _ => { }, TaskScheduler.Default);
            });
            app.MapFallback(() => "x");
        });
        var gateways = await Task.WhenAll(TestGateway.StartAsync(time: time), TestGateway.StartAsync(time: time));
        foreach (var gateway in gateways)
        {
            await gateway.RouteAsync("r1", "/*", origin.Port, $$""" "plugins":{ {{plugins}} } """);
        }
        return new(origin, gateways);
    }

    sealed class Two(WebOrigin origin, TestGateway[] gateways) : IAsyncDisposable
    {
        public WebOrigin Origin => origin;

        public TestGateway this[int index] => gateways[index];

        public async Task<int> GetAsync(int index, string path = "/")
        {
            using var response = await gateways[index].Client.GetAsync(gateways[index].Url(path), TestContext.Current.CancellationToken);
            return (int)response.StatusCode;
        }

        public async Task<HttpResponseMessage> OpenStreamAsync(int index)
        {
            var response = await gateways[index].Client.GetAsync(gateways[index].Url("/stream"), HttpCompletionOption.ResponseHeadersRead,
                TestContext.Current.CancellationToken);
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            return response;
        }

        public async ValueTask DisposeAsync()
        {
            foreach (var gateway in gateways)
            {
                await gateway.DisposeAsync();
            }
            await origin.DisposeAsync();
        }
    }
}

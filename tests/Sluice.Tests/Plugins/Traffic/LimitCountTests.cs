using Sluice.Pipeline;
using Sluice.Model;
using Sluice.Plugins;
using Sluice.Tests.Pipeline;
using Sluice.Plugins.Traffic;

namespace Sluice.Tests.Plugins.Traffic;

public class LimitCountTests
{
    [Theory]
    [InlineData("""{"count":2}""", "value should match only one schema, but matches none")]
    [InlineData("""{"count":0,"time_window":1}""",
        """property "count" validation failed: value should match only one schema, but matches none""")]
    [InlineData("""{"count":"x","time_window":1}""",
        """property "count" validation failed: expected a positive integer or a text with a variable such as "${http_x_quota ?? 10}", got "x" """)]
    [InlineData("""{"count":1,"time_window":"x"}""",
        """property "time_window" validation failed: expected a positive integer or a text with a variable such as "${http_x_quota ?? 10}", got "x" """)]
    [InlineData("""{"rules":[{"count":"x","time_window":1,"key":"a"}]}""",
        """property "rules" validation failed: failed to validate item 1: property "count" validation failed: expected a positive integer or a text with a variable such as "${http_x_quota ?? 10}", got "x" """)]
    [InlineData("""{"rules":[{"count":1,"time_window":1,"key":"a"},{"count":2,"time_window":1,"key":"a"}]}""",
        "duplicate key 'a' in rules")]
    [InlineData("""{"count":1,"time_window":1,"policy":"redis"}""", "then clause did not match")]
    [InlineData("""{"count":1,"time_window":1,"policy":"redis-cluster","redis_cluster_name":"a"}""", "else clause did not match")]
    [InlineData("""{"count":1,"time_window":1,"policy":"redis-sentinel","redis_sentinels":[{"host":"127.0.0.1","port":1}]}""",
        "else clause did not match")]
    [InlineData(
        """{"count":1,"time_window":1,"policy":"redis-sentinel","redis_master_name":"a","redis_sentinels":[{"host":"127.0.0.1","port":1,"x":1}]}""", "else clause did not match")]
    [InlineData("""{"count":1,"time_window":1,"policy":"redis","redis_host":"127.0.0.1","sync_interval":0.01}""",
        "sync_interval should not be smaller than 0.1")]
    [InlineData("""{"count":1,"time_window":1,"policy":"redis","redis_host":"127.0.0.1","sync_interval":1}""",
        "sync_interval should be smaller than time_window")]
    [InlineData("""{"count":1,"time_window":1,"window_type":"bogus"}""",
        """property "window_type" validation failed: matches none of the enum values""")]
    [InlineData("""{"count":1,"time_window":1,"key_type":"bogus"}""",
        """property "key_type" validation failed: matches none of the enum values""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error.TrimEnd(), PluginTest.Check("limit-count", config));

    [Theory]
    [InlineData("""{"count":"5","time_window":60}""")]
    [InlineData("""{"count":"$http_x","time_window":"${arg_w ?? 60}"}""")]
    [InlineData("""{"count":1,"time_window":1,"sync_interval":0.01}""")]
    [InlineData(
        """{"count":1,"time_window":1,"policy":"redis","redis_host":"127.0.0.1","redis_password":"$secret://x/y/z","sync_interval":0.5}""")]
    [InlineData("""{"count":1,"time_window":1,"policy":"redis-cluster","redis_cluster_nodes":["127.0.0.1:1"],"redis_cluster_name":"a"}""")]
    [InlineData(
        """{"count":1,"time_window":1,"policy":"redis-sentinel","redis_master_name":"a","redis_sentinels":[{"host":"127.0.0.1","port":1}]}""")]
    public void Numbers_as_text_and_variables_are_accepted(string config) => Assert.Null(PluginTest.Check("limit-count", config));

    [Fact]
    public async Task The_quota_is_counted_down_and_starts_anew_with_the_window()
    {
        var test = Test("""{"count":2,"time_window":60}""");
        Assert.Equal("2 1 60", Quota(await test.GetAsync("/")));
        test.Time.Advance(TimeSpan.FromSeconds(10.5));
        Assert.Equal("2 0 49.5", Quota(await test.GetAsync("/")));
        var refused = await test.GetAsync("/");
        Assert.False(refused.Proxied);
        Assert.Equal(503, refused.Status);
        Assert.Contains("503 Service Temporarily Unavailable", refused.Body, StringComparison.Ordinal);
        Assert.Equal("2 0 49.5", Quota(refused));
        test.Time.Advance(TimeSpan.FromSeconds(49.5));
        Assert.Equal("2 1 60", Quota(await test.GetAsync("/")));
    }

    [Fact]
    public async Task The_refusal_is_the_configured_one_and_headers_may_be_left_out()
    {
        var test = Test("""{"count":1,"time_window":60,"rejected_code":429,"rejected_msg":"slow down","show_limit_quota_header":false}""");
        Assert.Null((await test.GetAsync("/")).Answered("X-RateLimit-Limit"));
        var refused = await test.GetAsync("/");
        Assert.Equal((429, "{\"error_msg\":\"slow down\"}\n"), (refused.Status, refused.Body));
    }

    [Theory]
    [InlineData("""{"count":1,"time_window":60,"key":"arg_k"}""")]
    [InlineData("""{"count":1,"time_window":60,"key_type":"var_combination","key":"$remote_addr $arg_k"}""")]
    public async Task Requests_are_counted_by_key(string config)
    {
        var test = Test(config);
        Assert.True((await test.GetAsync("/?k=a")).Proxied);
        Assert.True((await test.GetAsync("/?k=b")).Proxied);
        Assert.False((await test.GetAsync("/?k=a")).Proxied);
    }

    [Fact]
    public async Task A_key_without_a_value_counts_by_address()
    {
        var test = Test("""{"count":1,"time_window":60,"key":"arg_k"}""");
        Assert.True((await test.GetAsync("/")).Proxied);
        Assert.True((await test.GetAsync("/", (":peer", "192.0.2.2"))).Proxied);
        Assert.False((await test.GetAsync("/")).Proxied);
    }

    [Fact]
    public async Task A_constant_key_is_one_counter_for_all()
    {
        var test = Test("""{"count":1,"time_window":60,"key_type":"constant","key":"all"}""");
        Assert.True((await test.GetAsync("/")).Proxied);
        Assert.False((await test.GetAsync("/", (":peer", "192.0.2.2"))).Proxied);
    }

    [Fact]
    public async Task Count_and_window_may_come_from_variables()
    {
        var test = Test("""{"count":"${http_x_quota ?? 3}","time_window":"${arg_w ?? 9}"}""");
        Assert.Equal("3 2 9", Quota(await test.GetAsync("/")));
        Assert.Equal("5 4 30", Quota(await test.GetAsync("/?w=30", ("X-Quota", "5"), (":peer", "192.0.2.9"))));
        var broken = await test.GetAsync("/", ("X-Quota", "many"));
        Assert.Equal(500, broken.Status);
        var lenient = Test("""{"count":"$http_x_quota","time_window":9,"allow_degradation":true}""");
        Assert.True((await lenient.GetAsync("/")).Proxied);
    }

    [Fact]
    public async Task Rules_have_counters_and_headers_of_their_own()
    {
        var test =
            Test(
                """{"rules":[{"count":1,"time_window":10,"key":"$http_user"},{"count":9,"time_window":60,"key":"$remote_addr","header_prefix":"Ip"}]}""");
        var first = await test.GetAsync("/", ("User", "a"));
        Assert.Equal(("1", "0", "9", "8"),
            (first.Answered("X-1-RateLimit-Limit"), first.Answered("X-1-RateLimit-Remaining"), first.Answered("X-Ip-RateLimit-Limit"),
                first.Answered("X-Ip-RateLimit-Remaining")));
        Assert.False((await test.GetAsync("/", ("User", "a"))).Proxied);
        var nobody = await test.GetAsync("/");
        Assert.True(nobody.Proxied);
        Assert.Null(nobody.Answered("X-1-RateLimit-Limit"));
        Assert.Equal("7", nobody.Answered("X-Ip-RateLimit-Remaining"));
    }

    [Fact]
    public async Task Counters_survive_a_change_elsewhere_and_start_anew_with_the_plugins_own()
    {
        var test = Test("""{"count":2,"time_window":60}""");
        await test.GetAsync("/");
        test.Configure("""{"limit-count":{"count":2,"time_window":60},"request-id":{}}""");
        Assert.Equal("2 0 60", Quota(await test.GetAsync("/")));
        test.Configure("""{"limit-count":{"count":3,"time_window":60}}""");
        Assert.Equal("3 2 60", Quota(await test.GetAsync("/")));
    }

    [Fact]
    public async Task Header_names_may_come_from_the_metadata()
    {
        var metadata = new Sluice.Model.Document(
            Sluice.Model.ResourceKind.PluginMetadata, "limit-count", new() { ["limit_header"] = "X-Quota" }, 1, 1,
            "/apisix/plugin_metadata/limit-count");
        var result = await new PluginTest("""{"limit-count":{"count":2,"time_window":60}}""", metadata).GetAsync("/");
        Assert.Equal("2", result.Answered("X-Quota"));
        Assert.Equal("1", result.Answered("X-RateLimit-Remaining"));
    }

    [Fact]
    public void Memory_is_bounded_and_ended_windows_go_first()
    {
        var time = new FakeTime();
        var windows = new FixedCounters(time, capacity: 2000);
        for (var i = 0; i < 1500; i++)
        {
            windows.Take($"old{i}", 1, TimeSpan.FromSeconds(1));
        }
        time.Advance(TimeSpan.FromSeconds(2));
        windows.Take("kept", 5, TimeSpan.FromHours(1));
        for (var i = 0; i < 1000; i++)
        {
            windows.Take($"new{i}", 1, TimeSpan.FromHours(1));
        }
        Assert.Equal(3, windows.Take("kept", 5, TimeSpan.FromHours(1)).Remaining);
        for (var i = 0; i < 10_000; i++)
        {
            windows.Take($"flood{i}{new string('x', 1000)}", 1, TimeSpan.FromHours(1));
            Assert.InRange(windows.Count, 1, 2000);
        }
    }

    [Fact]
    public async Task Threads_never_take_more_than_the_quota()
    {
        var windows = new FixedCounters(TimeProvider.System, capacity: 64);
        var taken = 0;
        await Parallel.ForEachAsync(Enumerable.Range(0, 20_000), (_, _) =>
        {
            if (windows.Take("one", 500, TimeSpan.FromHours(1)).Remaining >= 0)
            {
                Interlocked.Increment(ref taken);
            }
            return ValueTask.CompletedTask;
        });
        Assert.Equal(500, taken);
    }

    [Fact]
    public async Task A_sliding_window_counts_what_the_last_one_took()
    {
        var test = Test("""{"count":4,"time_window":60,"window_type":"sliding"}""");
        // to the beginning of a window
        test.Time.Advance(TimeSpan.FromSeconds(60 - (test.Time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0 % 60)));
        for (var left = 3; left >= 0; left--)
        {
            Assert.Equal($"4 {left} 60", Quota(await test.GetAsync("/")));
        }
        Assert.Equal((503, "4 0 60"), await RefusedAsync());
        test.Time.Advance(TimeSpan.FromSeconds(60));
        // as if the four had come evenly
        Assert.Equal(503, (await RefusedAsync()).Item1);
        test.Time.Advance(TimeSpan.FromSeconds(30));
        Assert.Equal("4 1 30", Quota(await test.GetAsync("/")));
        Assert.Equal("4 0 30", Quota(await test.GetAsync("/")));
        Assert.Equal(503, (await RefusedAsync()).Item1);

        async Task<(int, string)> RefusedAsync()
        {
            var refused = await test.GetAsync("/");
            return (refused.Status, Quota(refused));
        }
    }

    [Fact]
    public async Task Metadata_names_the_rules_headers_too()
    {
        var metadata = new Document(ResourceKind.PluginMetadata, "limit-count", new() { ["limit_header"] = "X-My-RateLimit-Limit" }, 1, 1,
            "/apisix/plugin_metadata/limit-count");
        var result = await new PluginTest("""{"limit-count":{"rules":[{"count":3,"time_window":60,"key":"${remote_addr}"}]}}""",
            metadata).GetAsync("/");
        Assert.Equal(("3", "2"), (result.Answered("X-My-1-RateLimit-Limit"), result.Answered("X-1-RateLimit-Remaining")));
    }

    [Fact]
    public async Task What_the_quota_says_is_a_variable()
    {
        var test = new PluginTest("""{"limit-count":{"count":2,"time_window":60,"key_type":"constant","key":"a\"b"}}""");
        var info = (await test.GetAsync("/")).Exchange.Get("rate_limiting_info");
        var json = System.Text.Json.Nodes.JsonNode.Parse(info!)!;
        Assert.EndsWith(":a\"b", (string?)json["rate_limiting_key"], StringComparison.Ordinal);
        Assert.Equal((2, 1, 60),
            ((int)json["rate_limiting_limit"]!, (int)json["rate_limiting_remaining"]!, (int)json["rate_limiting_reset"]!));
    }

    [Fact]
    public async Task What_is_used_counts_against_the_limit_of_this_request()
    {
        var test = Test("""{"count":"${http_count ?? 2}","time_window":60}""");
        Assert.True((await test.GetAsync("/")).Proxied);
        Assert.Equal("4 2 60", Quota(await test.GetAsync("/", ("count", "4"))));
        Assert.Equal(503, (await test.GetAsync("/")).Status);
        Assert.True((await test.GetAsync("/", ("count", "4"))).Proxied);
    }

    [Theory]
    [InlineData("1.5")]
    [InlineData("0")]
    [InlineData("-1")]
    [InlineData("many")]
    [InlineData("9007199254740993")]
    public async Task A_quota_that_is_no_positive_whole_number_is_500(string count)
    {
        Assert.Equal(500, (await Test("""{"count":"$http_count","time_window":60}""").GetAsync("/", ("count", count))).Status);
        Assert.Equal(500,
            (await Test("""{"rules":[{"count":"$http_count","time_window":60,"key":"$remote_addr"}]}""")
                .GetAsync("/", ("count", count))).Status);
        Assert.True(
            (await Test("""{"count":"$http_count","time_window":60,"allow_degradation":true}""").GetAsync("/", ("count", count))).Proxied);
    }

    [Fact]
    public async Task A_rules_key_may_have_a_default()
    {
        var test = Test("""{"rules":[{"count":1,"time_window":60,"key":"${http_project ?? all}"}]}""");
        Assert.True((await test.GetAsync("/")).Proxied);
        Assert.Equal(503, (await test.GetAsync("/")).Status);
        Assert.True((await test.GetAsync("/", ("project", "x"))).Proxied);
    }

    [Theory]
    [InlineData("""{"count":1,"time_window":60,"rules":[]}""", "count/time_window and rules cannot be specified at the same time")]
    [InlineData("""{"group":"g","rules":[{"count":1,"time_window":1,"key":"$a"}]}""",
        "group and rules cannot be specified at the same time")]
    [InlineData("""{"count":1.5,"time_window":60}""",
        "property \"count\" validation failed: value should match only one schema, but matches none")]
    [InlineData("""{"count":1}""", "value should match only one schema, but matches none")]
    public void Contradictions_are_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("limit-count", config));

    [Fact]
    public void Uses_of_a_group_must_be_configured_the_same()
    {
        var first = TestExchange.Document(ResourceKind.Routes, "r1",
            """{"uri":"/1","plugins":{"limit-count":{"count":2,"time_window":60,"group":"g","_meta":{"priority":1}}}}""");
        var documents = DocumentSet.Of([first]);
        string? Of(string config) => new Sluice.Sources.DocumentIntake(TestExchange.Maker(Builtin.All)).Conflict(
            ResourceKind.Services, "s",
            new() { ["plugins"] =
                new System.Text.Json.Nodes.JsonObject { ["limit-count"] = System.Text.Json.Nodes.JsonNode.Parse(config) } }, documents);
        Assert.Equal("failed to check the configuration of plugin limit-count err: group conf mismatched",
            Of("""{"count":1,"time_window":60,"group":"g"}"""));
        Assert.Null(Of("""{"count":2,"time_window":60,"group":"g"}"""));
        Assert.Null(Of("""{"count":1,"time_window":60,"group":"other"}"""));
    }

    static string Quota(PluginTest.Result result) =>
        $"{result.Answered("X-RateLimit-Limit")} {result.Answered("X-RateLimit-Remaining")} {result.Answered("X-RateLimit-Reset")}";

    static PluginTest Test(string config) => new($$$"""{"limit-count":{{{config}}}}""");
}

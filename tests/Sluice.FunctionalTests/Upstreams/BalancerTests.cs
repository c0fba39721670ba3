using System.Net;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Upstreams;

public class BalancerTests
{
    static async Task<string> GetAsync(TestGateway gateway, string path, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url(path));
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }
        using var response = await gateway.Client.SendAsync(request);
        return await response.Content.ReadAsStringAsync();
    }

    static string Nodes(params WebOrigin[] origins) => string.Join(',', origins.Select(origin => $"\"127.0.0.1:{origin.Port}\":1"));

    [Theory]
    [InlineData(""" "hash_on":"header","key":"X-Session" """, "X-Session", "{0}")]
    [InlineData(""" "hash_on":"cookie","key":"sid" """, "Cookie", "sid={0}; other=1")]
    [InlineData(""" "hash_on":"vars","key":"arg_user" """, null, "user={0}")]
    [InlineData(""" "hash_on":"vars_combinations","key":"$http_x_a-$arg_user" """, null, "user={0}")]
    public async Task Chash_sends_the_same_key_to_the_same_node(string hash, string? header, string template)
    {
        await using var a = await WebOrigin.StartAsync("a");
        await using var b = await WebOrigin.StartAsync("b");
        await using var c = await WebOrigin.StartAsync("c");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/*","upstream":{"type":"chash",{{hash}},"nodes":{ {{Nodes(a, b, c)}} } } }""");
        HashSet<string> seen = [];
        for (var user = 0; user < 40; user++)
        {
            var value = string.Format(System.Globalization.CultureInfo.InvariantCulture, template, user);
            async Task<string> AskAsync() =>
                header is null ? await GetAsync(gateway, "/?" + value) : await GetAsync(gateway, "/", (header, value));
            var first = await AskAsync();
            Assert.Equal(first, await AskAsync());
            seen.Add(first);
        }
        Assert.Equal(["a", "b", "c"], seen.Order());
    }

    [Fact]
    public async Task Chash_on_the_consumer_goes_by_who_asks()
    {
        await using var a = await WebOrigin.StartAsync("a");
        await using var b = await WebOrigin.StartAsync("b");
        await using var gateway = await TestGateway.StartAsync();
        var users = Enumerable.Range(0, 12).Select(number => $"user{number}").ToArray();
        foreach (var user in users)
        {
            await gateway.PutAsync($"/consumers/{user}",
                $$"""{"username":"{{user}}","plugins":{"key-auth":{"key":"key-of-{{user}}" } } }""");
        }
        await gateway.PutAsync("/routes/1",
            $$"""{"uri":"/*","plugins":{"key-auth":{} },"upstream":{"type":"chash","hash_on":"consumer","nodes":{ {{Nodes(a, b)}} } } }""");
        HashSet<string> seen = [];
        foreach (var user in users)
        {
            var first = await GetAsync(gateway, "/", ("apikey", $"key-of-{user}"));
            Assert.Equal(first, await GetAsync(gateway, "/", ("apikey", $"key-of-{user}")));
            seen.Add(first);
        }
        Assert.Equal(["a", "b"], seen.Order());
    }

    [Fact]
    public async Task Least_conn_sends_new_requests_past_a_node_with_open_streams()
    {
        await using var streams = new EventOrigin(Framing.ChunkPerEvent);
        await using var idle = await WebOrigin.StartAsync("idle");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""
            {"uri":"/*","upstream":{"type":"least_conn","nodes":[{"host":"127.0.0.1","port":{{streams.Port}},"weight":1},{"host":"127.0.0.1","port":{{idle.Port}},"weight":1}] } }
            """);
        using var stream = await gateway.Client.GetAsync(gateway.Url("/stream"), HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal("text/event-stream", stream.Content.Headers.ContentType!.MediaType);
        for (var i = 0; i < 6; i++)
        {
            Assert.Equal("idle", await GetAsync(gateway, "/"));
        }
        streams.End();
    }

    [Fact]
    public async Task Ewma_learns_from_answers_which_node_is_fast()
    {
        await using var slow = await WebOrigin.StartAsync(async context =>
        {
            await Task.Delay(2000, context.RequestAborted);
            await context.Response.WriteAsync("slow");
        });
        await using var fast = await WebOrigin.StartAsync("fast");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/*","upstream":{"type":"ewma","nodes":{ {{Nodes(slow, fast)}} } } }""");
        List<string> answers = [];
        for (var i = 0; i < 12; i++)
        {
            answers.Add(await GetAsync(gateway, "/"));
        }
        Assert.True(answers.Count(answer => answer == "slow") <= 2, string.Join(' ', answers));
    }

    [Fact]
    public async Task Nodes_of_lower_priority_answer_when_the_higher_are_down()
    {
        await using var backup = await WebOrigin.StartAsync("backup");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""
            {"uri":"/*","upstream":{"nodes":[
              {"host":"127.0.0.1","port":1,"weight":1,"priority":10},
              {"host":"127.0.0.1","port":{{backup.Port}},"weight":1,"priority":-1}] } }
            """);
        Assert.Equal("backup", await GetAsync(gateway, "/"));
    }

    [Fact]
    public async Task Retries_end_at_their_number_and_at_retry_timeout()
    {
        await using var good = await WebOrigin.StartAsync("good");
        await using var stalled = ScriptedOrigin.Start(connection => connection.StallAsync());
        await using var gateway = await TestGateway.StartAsync();
        var nodes = $$"""
            [{"host":"127.0.0.1","port":{{stalled.Port}},"weight":1,"priority":3},{"host":"127.0.0.1","port":1,"weight":1,"priority":2},
            {"host":"127.0.0.1","port":{{good.Port}},"weight":1,"priority":1}]
            """;
        const string Quick = """ "timeout":{"connect":2,"send":2,"read":2} """;
        await gateway.PutAsync("/routes/all", $$"""{"uri":"/all","upstream":{"nodes":{{nodes}},{{Quick}} } }""");
        await gateway.PutAsync("/routes/one", $$"""{"uri":"/one","upstream":{"nodes":{{nodes}},"retries":1,{{Quick}} } }""");
        await gateway.PutAsync("/routes/late", $$"""{"uri":"/late","upstream":{"nodes":{{nodes}},"retry_timeout":0.1,{{Quick}} } }""");

        Assert.Equal("good", await GetAsync(gateway, "/all"));
        Assert.Equal(1, stalled.Accepted);
        using var one = await gateway.Client.GetAsync(gateway.Url("/one"));
        Assert.Equal(HttpStatusCode.BadGateway, one.StatusCode);
        Assert.Equal("504, 502", one.Headers.GetValues("X-APISIX-Upstream-Status").Single());
        Assert.Equal(2, stalled.Accepted);
        using var late = await gateway.Client.GetAsync(gateway.Url("/late"));
        Assert.Equal(HttpStatusCode.GatewayTimeout, late.StatusCode);
    }

    [Fact]
    public async Task A_type_that_does_not_exist_is_refused_with_those_that_do()
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/upstreams/1", """{"type":"bogus","nodes":{"a":1} }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains("roundrobin, chash, ewma, least_conn, got \"bogus\"", (string)body!["error_msg"]!, StringComparison.Ordinal);
    }
}

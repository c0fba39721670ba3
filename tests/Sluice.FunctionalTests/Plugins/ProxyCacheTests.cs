using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>Responses are stored while they pass, never held, and only whole.</summary>
public sealed class ProxyCacheTests
{
    const string Memory = """ "cache_strategy":"memory","cache_zone":"m" """;
    const string Disk = """ "cache_strategy":"disk","cache_zone":"d" """;

    static Task<TestGateway> StartAsync(TimeProvider? time = null) =>
        TestGateway.StartAsync(
            apisix: "proxy_cache: {cache_ttl: 60s, zones: [{name: m, memory_size: 8m}, {name: d, disk_path: cache, disk_size: 8m, "
                + "cache_levels: \"1:2\"}]}", time: time);

    static Task RouteAsync(TestGateway gateway, ScriptedOrigin origin, string config, string more = "") =>
        gateway.RouteAsync("r1", "/*", origin.Port, $$""" "plugins":{"proxy-cache":{ {{config}} } {{more}} } """);

    /// <summary>Answers every request of every connection.</summary>
    static ScriptedOrigin Serve(Func<string, string> answer) => ScriptedOrigin.Start(async connection =>
    {
        while (true)
        {
            await connection.SendAsync(answer(await connection.ReadHeadAsync()));
        }
    });

    /// <summary>Counts what it was asked, and says the number.</summary>
    sealed class Counted(string headers = "")
    {
        int _asked;

        public int Asked => Volatile.Read(ref _asked);

        public ScriptedOrigin Start() => Serve(_ => Of($"answer {Interlocked.Increment(ref _asked)}", headers));
    }

    static string Of(string body, string headers = "") =>
        $"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body.Length}\r\n{headers}\r\n{body}";

    static async Task<(string? Status, string Body, HttpResponseMessage Response)> AskAsync(
        TestGateway gateway, string path = "/a", string method = "GET", params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), gateway.Url(path));
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        var response = await gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        var body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        if (method != "PURGE")
        {
            await SettledAsync(gateway);
        }
        return (StatusOf(response), body, response);
    }

    /// <summary>Clients have the end of a response a moment before the gateway is through with it.</summary>
    static Task SettledAsync(TestGateway gateway) =>
        Eventually.HoldsAsync(async () => (int?)(await gateway.ControlAsync("/v1/streams"))["total"] == 0, "a response is still under way");

    static string? StatusOf(HttpResponseMessage response) =>
        response.Headers.TryGetValues("Apisix-Cache-Status", out var values) ? string.Join(", ", values) : null;

    [Theory]
    [InlineData(Memory)]
    [InlineData(Disk)]
    public async Task The_second_request_is_answered_from_the_cache_until_it_is_purged(string config)
    {
        var counted = new Counted("X-Own: yes\r\n");
        await using var origin = counted.Start();
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, config);
        Assert.Equal(HttpStatusCode.NotFound, (await AskAsync(gateway, method: "PURGE")).Response.StatusCode);
        var (status, body, _) = await AskAsync(gateway);
        Assert.Equal(("MISS", "answer 1"), (status, body));
        (status, body, var stored) = await AskAsync(gateway);
        Assert.Equal(("HIT", "answer 1"), (status, body));
        Assert.Equal("yes", stored.Headers.GetValues("X-Own").Single());
        Assert.Equal("text/plain", stored.Content.Headers.ContentType!.ToString());
        Assert.NotNull(stored.Headers.Age);
        Assert.Equal(8, stored.Content.Headers.ContentLength);
        (status, body, _) = await AskAsync(gateway, "/b");
        Assert.Equal(("MISS", "answer 2"), (status, body));
        Assert.Equal(HttpStatusCode.OK, (await AskAsync(gateway, method: "PURGE")).Response.StatusCode);
        (status, body, _) = await AskAsync(gateway);
        Assert.Equal(("MISS", "answer 3"), (status, body));
    }

    [Theory]
    [InlineData(Memory, "text/event-stream", "")]
    [InlineData(Disk, "text/event-stream", "")]
    [InlineData(Memory, "application/x-ndjson", "")]
    [InlineData(Memory, "text/plain", "X-Accel-Buffering: no\r\n")]
    public async Task A_stream_passes_piece_by_piece_and_is_never_stored(string config, string type, string header)
    {
        var seen = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(
                    $"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nCache-Control: max-age=60\r\n{header}Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
                await seen.Task.WaitAsync(TimeSpan.FromSeconds(30));
                await connection.SendAsync("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
                // the next one, wherever it comes in
                await connection.ReadHeadAsync();
                await connection.SendAsync(Of("again"));
            },
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(Of("again"));
            });
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, config);
        using (var response = await gateway.Client.GetAsync(gateway.Url("/a"), HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken))
        {
            Assert.Equal("BYPASS", StatusOf(response));
            using var body = new StreamReader(await response.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken));
            Assert.Equal("data: 1", await body.ReadLineAsync(TestContext.Current.CancellationToken));
            seen.SetResult();
            Assert.Equal("\ndata: 2\n\n", await body.ReadToEndAsync(TestContext.Current.CancellationToken));
        }
        Assert.Equal("again", (await AskAsync(gateway)).Body);
    }

    [Theory]
    [InlineData(Memory, "")]
    [InlineData(Disk, "")]
    [InlineData(Memory, ""","response-rewrite":{"filters":[{"regex":"nothing","replace":""}]} """)]
    [InlineData(Memory, ""","gzip":{"types":"*"} """)]
    public async Task What_is_stored_passes_as_it_comes(string config, string more)
    {
        var seen = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n");
            await seen.Task.WaitAsync(TimeSpan.FromSeconds(30));
            await connection.SendAsync("7\r\nsecond\n\r\n0\r\n\r\n");
            await connection.ReadEndAsync();
        });
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, config, more);
        using (var response = await gateway.Client.GetAsync(gateway.Url("/a"), HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken))
        {
            using var body = new StreamReader(await response.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken));
            if (more.Contains("response-rewrite", StringComparison.Ordinal))
            {
                // a filter that wants the whole body has it: this is not the cache's doing
                seen.SetResult();
            }
            Assert.Equal("first", await body.ReadLineAsync(TestContext.Current.CancellationToken));
            seen.TrySetResult();
            Assert.Equal("second\n", await body.ReadToEndAsync(TestContext.Current.CancellationToken));
        }
        await SettledAsync(gateway);
        var (status, stored, _) = await AskAsync(gateway);
        Assert.Equal(("HIT", "first\nsecond\n"), (status, stored));
    }

    [Theory]
    [InlineData(Memory, "Content-Length: 10\r\n\r\nhello")]
    [InlineData(Disk, "Content-Length: 10\r\n\r\nhello")]
    [InlineData(Memory, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")]
    [InlineData(Memory, "Connection: close\r\n\r\nhello")]
    public async Task What_is_not_known_to_be_complete_is_not_stored(string config, string part)
    {
        var seen = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + part);
                await seen.Task.WaitAsync(TimeSpan.FromSeconds(30));
            },
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(Of("whole"));
            });
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, config);
        using (var response = await gateway.Client.GetAsync(gateway.Url("/a"), HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken))
        {
            await using var body = await response.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken);
            var bytes = new byte[5];
            await body.ReadExactlyAsync(bytes, TestContext.Current.CancellationToken);
            seen.SetResult();
            try
            {
                await body.CopyToAsync(Stream.Null, TestContext.Current.CancellationToken);
                Assert.Contains("close", part, StringComparison.Ordinal);
            }
            catch (Exception e) when (e is IOException or HttpRequestException)
            {
                // it broke off, as it should
            }
        }
        var (status, whole, _) = await AskAsync(gateway);
        Assert.Equal(("MISS", "whole"), (status, whole));
    }

    [Fact]
    public async Task A_response_whose_client_left_is_not_stored()
    {
        await using var origin = ScriptedOrigin.Start(
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nhello");
                await connection.ReadEndAsync();
            },
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(Of("whole"));
            });
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Memory);
        using (var client = await RawClient.ConnectAsync(gateway.EndPoint))
        {
            await client.SendAsync($"GET /a HTTP/1.1\r\nHost: {gateway.EndPoint}\r\n\r\n");
            await client.UntilAsync("hello");
        }
        Assert.Equal("whole", (await AskAsync(gateway)).Body);
    }

    [Fact]
    public async Task Requests_that_miss_together_do_not_wait_for_each_other()
    {
        var other = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(
            async connection =>
            {
                await connection.ReadHeadAsync();
                await other.Task.WaitAsync(TimeSpan.FromSeconds(30));
                await connection.SendAsync(Of("first"));
                await connection.ReadEndAsync();
            },
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(Of("second"));
                await connection.ReadEndAsync();
            });
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Memory);
        var first = AskAsync(gateway);
        await Eventually.TrueAsync(() => origin.Accepted == 1, () => "nothing came");
        var (status, body, _) = await AskAsync(gateway);
        Assert.Equal(("MISS", "second"), (status, body));
        Assert.Equal("second", (await AskAsync(gateway)).Body);
        other.SetResult();
        (status, body, _) = await first;
        Assert.Equal(("MISS", "first"), (status, body));
        await Eventually.HoldsAsync(async () => (await AskAsync(gateway)).Body == "first", "the newer response is not stored");
    }

    [Fact]
    public async Task A_purge_also_meets_what_is_under_way()
    {
        var purged = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nold ");
            await purged.Task.WaitAsync(TimeSpan.FromSeconds(30));
            await connection.SendAsync("news");
            await connection.ReadHeadAsync();
            await connection.SendAsync(Of("new"));
            await connection.ReadEndAsync();
        });
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Memory);
        using (var response = await gateway.Client.GetAsync(gateway.Url("/a"), HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken))
        {
            await AskAsync(gateway, method: "PURGE");
            purged.SetResult();
            Assert.Equal("old news", await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }
        Assert.Equal("new", (await AskAsync(gateway)).Body);
    }

    [Theory]
    [InlineData(Memory)]
    [InlineData(Disk)]
    public async Task Vary_is_followed(string config)
    {
        await using var origin = Serve(
            head => Of(head.Contains("Accept-Language: de", StringComparison.OrdinalIgnoreCase) ? "hallo" : "hello",
                "Vary: Accept-Language\r\n"));
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, config);
        foreach (var expected in new[] { "MISS", "HIT" })
        {
            foreach (var (language, text) in new[] { ("de", "hallo"), ("en", "hello") })
            {
                var (status, body, _) = await AskAsync(gateway, headers: ("Accept-Language", language));
                Assert.Equal((expected, text), (status, body));
            }
        }
        await AskAsync(gateway, method: "PURGE");
        Assert.Equal("MISS", (await AskAsync(gateway, headers: ("Accept-Language", "de"))).Status);
        Assert.Equal("MISS", (await AskAsync(gateway, headers: ("Accept-Language", "en"))).Status);
    }

    [Fact]
    public async Task Files_are_found_again_after_a_restart()
    {
        var counted = new Counted();
        await using var origin = counted.Start();
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Disk + ""","no_cache":["$http_x_probe"]""");
        Assert.Equal("answer 1", (await AskAsync(gateway)).Body);
        await gateway.RestartAsync();
        // what is not loaded yet misses, and is not stored for this header
        await Eventually.HoldsAsync(async () => (await AskAsync(gateway, headers: ("X-Probe", "1"))) is { Status: "HIT", Body: "answer 1" },
            "it is not there");
    }

    [Fact]
    public async Task A_response_expires_and_is_replaced()
    {
        var clock = new ManualClock();
        var counted = new Counted("Cache-Control: max-age=30\r\n");
        await using var origin = counted.Start();
        await using var gateway = await StartAsync(clock);
        await RouteAsync(gateway, origin, Disk);
        Assert.Equal("MISS", (await AskAsync(gateway)).Status);
        clock.Advance(TimeSpan.FromSeconds(29));
        var (status, _, response) = await AskAsync(gateway);
        Assert.Equal(("HIT", TimeSpan.FromSeconds(29)), (status, response.Headers.Age));
        clock.Advance(TimeSpan.FromSeconds(2));
        (status, var body, _) = await AskAsync(gateway);
        Assert.Equal(("EXPIRED", "answer 2"), (status, body));
        Assert.Equal("HIT", (await AskAsync(gateway)).Status);
    }

    [Fact]
    public async Task Requests_say_how_fresh_they_want_it()
    {
        var clock = new ManualClock();
        var counted = new Counted("Cache-Control: max-age=30\r\n");
        await using var origin = counted.Start();
        await using var gateway = await StartAsync(clock);
        await RouteAsync(gateway, origin, Memory + ""","cache_control":true""");
        Assert.Equal(HttpStatusCode.GatewayTimeout,
            (await AskAsync(gateway, headers: ("Cache-Control", "only-if-cached"))).Response.StatusCode);
        Assert.Equal("MISS", (await AskAsync(gateway)).Status);
        clock.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal("HIT", (await AskAsync(gateway, headers: ("Cache-Control", "max-age=10"))).Status);
        Assert.Equal("HIT", (await AskAsync(gateway, headers: ("Cache-Control", "only-if-cached, min-fresh=20"))).Status);
        Assert.Equal("BYPASS", (await AskAsync(gateway, headers: ("Cache-Control", "no-cache"))).Status);
        Assert.Equal("STALE", (await AskAsync(gateway, headers: ("Cache-Control", "max-age=9"))).Status);
        Assert.Equal(3, counted.Asked);
    }

    [Theory]
    [InlineData("Cache-Control: private\r\n")]
    [InlineData("Cache-Control: no-store\r\n")]
    [InlineData("Cache-Control: no-cache=\"Set-Cookie\"\r\n")]
    [InlineData("Set-Cookie: a=b\r\n")]
    [InlineData("Vary: Accept, *\r\n")]
    [InlineData("Expires: 0\r\n")]
    [InlineData("X-Accel-Expires: 0\r\nCache-Control: max-age=60\r\n")]
    [InlineData("Cache-Control: max-age=60\r\nAge: 60\r\n")]
    public async Task What_says_so_is_not_stored(string header)
    {
        var counted = new Counted(header);
        await using var origin = counted.Start();
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Disk);
        Assert.Equal("MISS", (await AskAsync(gateway)).Status);
        Assert.Equal("MISS", (await AskAsync(gateway)).Status);
        Assert.Equal(2, counted.Asked);
    }

    [Fact]
    public async Task Nobody_gets_what_was_made_for_another()
    {
        var counted = new Counted();
        await using var origin = counted.Start();
        await using var gateway = await StartAsync();
        await gateway.PutAsync("/consumers/jack", """{"username":"jack","plugins":{"key-auth":{"key":"j"}}}""");
        await gateway.PutAsync("/consumers/rose", """{"username":"rose","plugins":{"key-auth":{"key":"r"}}}""");
        await RouteAsync(gateway, origin, Memory, ""","key-auth":{} """);
        Assert.Equal("answer 1", (await AskAsync(gateway, headers: ("apikey", "j"))).Body);
        Assert.Equal("answer 2", (await AskAsync(gateway, headers: ("apikey", "r"))).Body);
        Assert.Equal("answer 1", (await AskAsync(gateway, headers: ("apikey", "j"))).Body);
        await RouteAsync(gateway, origin, Memory);
        Assert.Equal("MISS", (await AskAsync(gateway, headers: ("Authorization", "Bearer x"))).Status);
        Assert.Equal("MISS", (await AskAsync(gateway, headers: ("Authorization", "Bearer y"))).Status);
        Assert.Equal(4, counted.Asked);
    }

    [Fact]
    public async Task A_stored_response_answers_HEAD_and_what_the_client_has_already()
    {
        var counted = new Counted("ETag: \"1\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        await using var origin = counted.Start();
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Memory);
        await AskAsync(gateway);
        var (status, body, head) = await AskAsync(gateway, method: "HEAD");
        Assert.Equal(("HIT", "", 8L), (status, body, head.Content.Headers.ContentLength));
        Assert.Equal(HttpStatusCode.NotModified, (await AskAsync(gateway, headers: ("If-None-Match", "W/\"1\""))).Response.StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await AskAsync(gateway, headers: ("If-None-Match", "\"2\""))).Response.StatusCode);
        Assert.Equal(HttpStatusCode.NotModified,
            (await AskAsync(gateway, headers: ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"))).Response.StatusCode);
        Assert.Equal(1, counted.Asked);
    }

    [Fact]
    public async Task A_body_over_the_limit_passes_and_is_not_stored()
    {
        var counted = new Counted();
        await using var origin = counted.Start();
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Memory + ""","max_resp_body_size":7""");
        Assert.Equal("answer 1", (await AskAsync(gateway)).Body);
        Assert.Equal("answer 2", (await AskAsync(gateway)).Body);
    }

    [Fact]
    public async Task What_changes_the_resource_makes_the_stored_response_go()
    {
        var counted = new Counted();
        await using var origin = counted.Start();
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Memory);
        await AskAsync(gateway);
        Assert.Equal("answer 1", (await AskAsync(gateway)).Body);
        await AskAsync(gateway, method: "DELETE");
        Assert.Equal("answer 3", (await AskAsync(gateway)).Body);
    }

    [Fact]
    public async Task Clients_that_compress_and_that_do_not_share_one_response()
    {
        await using var origin = Serve(_ => Of(new string('x', 1000)));
        await using var gateway = await StartAsync();
        await RouteAsync(gateway, origin, Memory, ""","gzip":{"types":"*"} """);
        var (status, _, response) = await AskAsync(gateway, headers: ("Accept-Encoding", "gzip"));
        Assert.Equal(("MISS", "gzip"), (status, response.Content.Headers.ContentEncoding.Single()));
        (status, var plain, _) = await AskAsync(gateway);
        Assert.Equal(("HIT", new string('x', 1000)), (status, plain));
        (status, _, response) = await AskAsync(gateway, headers: ("Accept-Encoding", "gzip"));
        Assert.Equal(("HIT", "gzip"), (status, response.Content.Headers.ContentEncoding.Single()));
    }

    [Theory]
    [InlineData(""" "cache_zone":"x" """, "cache_zone x not found")]
    [InlineData(""" "cache_zone":"m" """, "invalid or empty cache_zone for cache_strategy: disk")]
    [InlineData(""" "cache_zone":"d","cache_key":["$uri","$request_method"] """, "cache_key variable $request_method unsupported")]
    public async Task A_wrong_configuration_is_refused(string config, string error)
    {
        await using var gateway = await StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r1",
            $$"""{"uri":"/*","plugins":{"proxy-cache":{ {{config}} } },"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1} } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Equal($"failed to check the configuration of plugin proxy-cache err: {error}", (string?)body!["error_msg"]);
    }
}

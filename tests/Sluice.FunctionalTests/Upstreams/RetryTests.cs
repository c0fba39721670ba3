using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Upstreams;

/// <summary>A failure before the head of the answer: the next node, and when there is none, 502 or 504.</summary>
public sealed class RetryTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>
{
    static readonly Dictionary<string, Func<OriginConnection, Task>> Failures = new()
    {
        ["closes"] = connection => connection.ReadHeadAsync(),
        ["resets"] = async connection =>
        {
            await connection.ReadHeadAsync();
            connection.Reset();
        },
        ["closes in the head"] = async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Le");
        },
        ["speaks something else"] = async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("220 mail.example.com ESMTP\r\n\r\n");
        },
        ["says nothing"] = async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.ReadEndAsync();
        },
    };

    public static TheoryData<string> Kinds => [.. Failures.Keys];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task The_next_node_is_asked(string failure)
    {
        await using var bad = ScriptedOrigin.Start(Failures[failure]);
        await using var good = Answering("well");
        var path = await RouteAsync($"[{Node(bad.Port, 10)},{Node(good.Port, 1)}]");
        // smooth round robin begins with the heavier one
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        Assert.Equal((HttpStatusCode.OK, "well"), (response.StatusCode, await response.Content.ReadAsStringAsync()));
        Assert.Equal((1, 1), (bad.Accepted, good.Accepted));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Without_another_node_the_answer_is_502_or_504(string failure)
    {
        await using var bad = ScriptedOrigin.Start(Failures[failure]);
        var path = await RouteAsync($"[{Node(bad.Port, 1)}]");
        using var response = await fixture.SendAsync(Protocol.H2c, path);
        var expected = failure == "says nothing" ? 504 : 502;
        Assert.Equal(expected, (int)response.StatusCode);
        Assert.Equal([$"{expected}"], response.Headers.GetValues("X-APISIX-Upstream-Status"));
        Assert.NotNull(JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error_msg"]);
    }

    [Fact]
    public async Task A_refused_connection_is_502_and_the_next_node_is_asked()
    {
        using var nobody = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        // bound but not listening: refused, and nobody else gets the port
        nobody.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var port = ((IPEndPoint)nobody.LocalEndPoint!).Port;
        await using var good = Answering("well");

        using var alone = await fixture.SendAsync(Protocol.Http1, await RouteAsync($"[{Node(port, 1)}]"));
        using var both = await fixture.SendAsync(Protocol.Http1, await RouteAsync($"[{Node(port, 10)},{Node(good.Port, 1)}]"));

        Assert.Equal(HttpStatusCode.BadGateway, alone.StatusCode);
        Assert.Equal("well", await both.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task A_connect_that_nobody_answers_is_504_after_the_connect_timeout()
    {
        // a listener whose queue is full drops further connection attempts
        using var full = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        full.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        full.Listen(0);
        using var first = new TcpClient();
        await first.ConnectAsync((IPEndPoint)full.LocalEndPoint!);
        using var second = new TcpClient();
        _ = second.ConnectAsync((IPEndPoint)full.LocalEndPoint!).ContinueWith(task => task.Exception, TaskScheduler.Default);

        var path = await RouteAsync($"[{Node(((IPEndPoint)full.LocalEndPoint!).Port, 1)}]",
            """ "timeout":{"connect":0.3,"send":10,"read":10}, """);
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        Assert.Equal(HttpStatusCode.GatewayTimeout, response.StatusCode);
    }

    [Theory]
    [InlineData("POST", false)]
    [InlineData("PUT", true)]
    public async Task Only_what_may_be_sent_twice_is_sent_twice(string method, bool retried)
    {
        await using var bad = ScriptedOrigin.Start(Failures["closes"]);
        await using var good = Answering("well");
        var path = await RouteAsync($"[{Node(bad.Port, 10)},{Node(good.Port, 1)}]");
        using var request = new HttpRequestMessage(new HttpMethod(method),
            fixture.Url(Protocol.Http1, path)) { Content = new StringContent("body") };
        using var response = await fixture.Client(Protocol.Http1).SendAsync(request);
        Assert.Equal((retried ? HttpStatusCode.OK : HttpStatusCode.BadGateway, retried ? 1 : 0), (response.StatusCode, good.Accepted));
    }

    [Fact]
    public async Task A_request_without_a_node_left_gets_one_attempt_for_each_retry()
    {
        await using var one = ScriptedOrigin.Start(Failures["closes"]);
        await using var two = ScriptedOrigin.Start(Failures["closes"]);
        await using var three = ScriptedOrigin.Start(Failures["closes"]);
        var path = await RouteAsync($"[{Node(one.Port, 10)},{Node(two.Port, 5)},{Node(three.Port, 1)}]", upstream: """ "retries":1, """);
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
        Assert.Equal([1, 1, 0], [one.Accepted, two.Accepted, three.Accepted]);
    }

    [Theory]
    [InlineData(Protocol.Http1)]
    [InlineData(Protocol.H2c)]
    public async Task A_body_that_was_streamed_is_not_sent_again(Protocol protocol)
    {
        await using var bad = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadUntilAsync("body");
            connection.Reset();
        });
        await using var good = Answering("well");
        // idempotent: nothing but the body stands in the way
        var path = await RouteAsync($"[{Node(bad.Port, 10)},{Node(good.Port, 1)}]",
            more: """ "plugins":{"proxy-control":{"request_buffering":false} }, """);
        using var request = new HttpRequestMessage(HttpMethod.Put, fixture.Url(protocol, path))
        {
            Content = new StringContent("body"), Version = protocol == Protocol.H2c ? HttpVersion.Version20 : HttpVersion.Version11,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        using var response = await fixture.Client(protocol).SendAsync(request);
        Assert.Equal((HttpStatusCode.BadGateway, 1, 0), (response.StatusCode, bad.Accepted, good.Accepted));
    }

    [Theory]
    [InlineData("GET", null, true, true)]
    [InlineData("PUT", "body", true, true)]
    [InlineData("PUT", "body", false, false)]
    [InlineData("POST", "body", true, false)]
    [InlineData("POST", "body", false, false)]
    [InlineData("POST", null, true, false)]
    [InlineData("PATCH", "body", true, false)]
    [InlineData("LOCK", null, true, false)]
    public async Task On_a_kept_connection_that_dies_only_what_may_be_sent_twice_is_sent_twice(string method, string? body, bool buffering,
        bool again)
    {
        var asked = 0;
        await using var origin = ScriptedOrigin.Start(
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                await connection.ReadUntilAsync(body ?? "\r\n\r\n");
                Interlocked.Increment(ref asked);
            },
            async connection =>
            {
                await connection.ReadUntilAsync(body ?? "\r\n\r\n");
                Interlocked.Increment(ref asked);
                await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain");
                await connection.ReadEndAsync();
            });
        var path = await RouteAsync($"[{Node(origin.Port, 1)}]",
            more: $$""" "plugins":{"proxy-control":{"request_buffering":{{(buffering ? "true" : "false")}}} }, """);
        // one connection of the client is one event loop, and so one pool
        using var client = await RawClient.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync($"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal("ok", (await client.AnswerAsync()).Body);
        await client.SendAsync(
            $"{method} {path} HTTP/1.1\r\nHost: a\r\n{(body is null ? "" : $"Content-Length: {body.Length}\r\n")}\r\n{body}");
        var answer = await client.AnswerAsync();
        Assert.Equal(again ? (200, "again") : (502, ""), (answer.Status, again ? answer.Body : ""));
        Assert.Equal(again ? (2, 2) : (1, 1), (asked, origin.Accepted));
    }

    [Fact]
    public async Task A_response_that_has_begun_is_not_asked_for_again()
    {
        await using var bad = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhel");
        });
        await using var good = Answering("well");
        using var response = await fixture.SendAsync(Protocol.Http1, await RouteAsync($"[{Node(bad.Port, 10)},{Node(good.Port, 1)}]"));
        await Assert.ThrowsAnyAsync<Exception>(() => response.Content.ReadAsStringAsync());
        Assert.Equal((HttpStatusCode.OK, 1, 0), (response.StatusCode, bad.Accepted, good.Accepted));
    }

    [Theory]
    [InlineData(500)]
    [InlineData(502)]
    [InlineData(503)]
    [InlineData(504)]
    public async Task A_response_is_no_failure_whatever_its_status(int status)
    {
        await using var first = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync($"HTTP/1.1 {status} Its Own\r\nContent-Length: 3\r\n\r\nown");
        });
        await using var other = Answering("well");
        using var response = await fixture.SendAsync(Protocol.Http1, await RouteAsync($"[{Node(first.Port, 10)},{Node(other.Port, 1)}]"));
        Assert.Equal((status, "own", 0), ((int)response.StatusCode, await response.Content.ReadAsStringAsync(), other.Accepted));
    }

    [Fact]
    public async Task A_client_that_leaves_is_no_reason_to_ask_another_node()
    {
        var left = new TaskCompletionSource();
        var asked = new TaskCompletionSource();
        await using var first = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            asked.TrySetResult();
            await connection.ReadEndAsync();
            left.TrySetResult();
        });
        await using var other = Answering("well");
        var path = await RouteAsync($"[{Node(first.Port, 10)},{Node(other.Port, 1)}]", more: "");
        using (var client = await RawClient.ConnectAsync(fixture.Gateway.EndPoint))
        {
            await client.SendAsync($"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            await asked.Task.WaitAsync(TimeSpan.FromSeconds(30));
            client.Reset();
        }
        await left.Task.WaitAsync(TimeSpan.FromSeconds(30));
        await OpenConnections.NoneAsync(first.Port);
        Assert.Equal(0, other.Accepted);
    }

    static ScriptedOrigin Answering(string text) => ScriptedOrigin.Start(async connection =>
    {
        var head = await connection.ReadHeadAsync();
        if (head.Contains("Content-Length: 4", StringComparison.OrdinalIgnoreCase))
        {
            await connection.ExpectAsync("body");
        }
        await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {text.Length}\r\n\r\n{text}");
        await connection.ReadEndAsync();
    });

    static string Node(int port, int weight) => $$"""{"host":"127.0.0.1","port":{{port}},"weight":{{weight}}}""";

    static int _routes;

    async Task<string> RouteAsync(string nodes, string more = """ "timeout":{"connect":10,"send":10,"read":2}, """, string upstream = "")
    {
        var id = $"retry{Interlocked.Increment(ref _routes)}";
        await fixture.Gateway.PutAsync($"/routes/{id}",
            $$"""{"uri":"/{{id}}",{{more}}"upstream":{"type":"roundrobin",{{upstream}}"nodes":{{nodes}} } }""");
        return $"/{id}";
    }
}

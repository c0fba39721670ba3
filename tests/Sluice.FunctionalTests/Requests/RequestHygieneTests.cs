using System.Globalization;
using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Requests;

/// <summary>A gateway with a route for everything, in front of an upstream that counts what comes.</summary>
public sealed class HygieneFixture : IAsyncLifetime
{
    int _requests;

    public HygieneFixture() => Origin = EchoOrigin.Start(() => Interlocked.Increment(ref _requests));

    public ScriptedOrigin Origin { get; }

    /// <summary>Requests that have come to the upstream.</summary>
    public int Requests => Volatile.Read(ref _requests);

    public TestGateway Gateway { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Gateway = await TestGateway.StartAsync();
        await Gateway.RouteAsync("all", "/*", Origin.Port);
        await Gateway.RouteAsync("streamed", "/streamed", Origin.Port, """ "plugins":{"proxy-control":{"request_buffering":false}} """);
        await Gateway.PutAsync("/routes/matched", """{"uri":"/a/b","plugins":{"redirect":{"uri":"/matched"}}}""");
    }

    public async ValueTask DisposeAsync()
    {
        await Gateway.DisposeAsync();
        await Origin.DisposeAsync();
    }
}

/// <summary>What two servers could understand differently is refused at the first of them, and never forwarded (request
/// smuggling).</summary>
public sealed class RequestHygieneTests(HygieneFixture fixture) : IClassFixture<HygieneFixture>
{
    const string Start = "POST / HTTP/1.1\r\nHost: a.test\r\n";
    const string Smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

    IPEndPoint EndPoint => fixture.Gateway.EndPoint;

    [Theory]
    // how long is the body?
    [InlineData(Start + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")]
    [InlineData(Start + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc")]
    [InlineData(Start + "Content-Length: 3, 3\r\n\r\nabc")]
    [InlineData(Start + "Content-Length: -1\r\n\r\nabc")]
    [InlineData(Start + "Content-Length: +3\r\n\r\nabc")]
    [InlineData(Start + "Content-Length: 0x3\r\n\r\nabc")]
    [InlineData(Start + "Content-Length: 99999999999999999999\r\n\r\nabc")]
    [InlineData(Start + "Content-Length: \r\n\r\nabc")]
    [InlineData(Start + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: gzip\r\n\r\nabc")]
    [InlineData(Start + "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc")]
    [InlineData(Start + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: \x000bchunked\r\n\r\n0\r\n\r\n")]
    [InlineData("POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
    // where does a line end, and which header is it?
    [InlineData(Start + "X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n")]
    [InlineData(Start + "X-A: a\r\n\tTransfer-Encoding: chunked\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\n Host: a.test\r\n\r\n")]
    [InlineData(Start + "X-A: a\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n")]
    [InlineData(Start + "X-A: a\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\nHost: a.test\n\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a.test\r\n\n")]
    [InlineData(Start + "X-A: a\0b\r\nContent-Length: 0\r\n\r\n")]
    [InlineData(Start + "X\0A: a\r\nContent-Length: 0\r\n\r\n")]
    [InlineData(Start + "Content-Length(: 3\r\n\r\nabc")]
    [InlineData(Start + "Transfer-\x00e4Encoding: chunked\r\nContent-Length: 0\r\n\r\n")]
    [InlineData(Start + ": a\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a.test\r\nHost\x00e4: b.test\r\n\r\n")]
    [InlineData(Start + "Content-Length : 3\r\n\r\nabc")]
    [InlineData(Start + "Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding\t: chunked\r\nContent-Length: 0\r\n\r\n")]
    [InlineData(Start + "no colon\r\nContent-Length: 0\r\n\r\n")]
    [InlineData(Start + ": no name\r\nContent-Length: 0\r\n\r\n")]
    // for whom is it?
    [InlineData("GET / HTTP/1.1\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost:\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a.test:port\r\n\r\n")]
    [InlineData("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    // what is asked?
    [InlineData("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a\0b HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a\x0001b HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a\tb HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a?\x007f HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a\rb HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GE(T / HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /%00 HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /% HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /%zz HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /.. HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a/../../b HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a/%2e%2e/%2e%2e/b HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    [InlineData("GET /a%2f..%2f..%2fb HTTP/1.1\r\nHost: a.test\r\n\r\n")]
    // a body that is not what it says
    [InlineData(Start + "Transfer-Encoding: chunked\r\n\r\ng\r\n")]
    [InlineData(Start + "Transfer-Encoding: chunked\r\n\r\n-1\r\n")]
    [InlineData(Start + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n")]
    [InlineData(Start + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello")]
    [InlineData(Start + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A : b\r\n\r\n")]
    public async Task Ambiguous_requests_are_400_and_never_forwarded(string request)
    {
        var before = fixture.Requests;
        using var client = await RawClient.ConnectAsync(EndPoint);
        await client.SendAsync(request + Smuggled);
        var answer = await client.AnswerAsync();
        Assert.True(answer.Status == 400, request + answer.Head + answer.Body);
        // no second request is read from a connection that is out of step
        Assert.DoesNotContain("HTTP/1.1", await client.RestAsync(), StringComparison.Ordinal);
        Assert.Equal(before, fixture.Requests);
    }

    [Theory]
    [InlineData("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n", 405)]
    [InlineData("GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", 405)]
    [InlineData("GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", 405)]
    [InlineData("GET / HTTP/2.0\r\nHost: a.test\r\n\r\n", 505)]
    [InlineData("GET / HTTP/1.2\r\nHost: a.test\r\n\r\n", 505)]
    public async Task What_a_gateway_does_not_speak_is_refused(string request, int status) =>
        Assert.Equal(status, (await RawClient.AskAsync(EndPoint, request)).Status);

    public static TheoryData<string, int> TooLarge() => new()
    {
        { $"GET /{new string('a', 20_000)} HTTP/1.1\r\nHost: a.test\r\n\r\n", 414 },
        { $"GET / HTTP/1.1\r\nHost: a.test\r\nX-A: {new string('a', 70_000)}\r\n\r\n", 431 },
        { $"GET / HTTP/1.1\r\nHost: a.test\r\n{string.Concat(Enumerable.Range(0, 1000).Select(i => string.Create(CultureInfo.InvariantCulture, $"X-{i}: a\r\n")))}\r\n", 431 },
        { $"GET / HTTP/1.1\r\nHost: a.test\r\n{string.Concat(Enumerable.Range(0, 50).Select(i => string.Create(CultureInfo.InvariantCulture, $"X-{i}: {new string('a', 1000)}\r\n")))}\r\n", 431 },
        { Start
            + $"Transfer-Encoding: chunked\r\n\r\n0\r\n{string.Concat(Enumerable.Range(0, 200).Select(i => string.Create(CultureInfo.InvariantCulture, $"X-{i}: a\r\n")))}\r\n", 431 },
    };

    [Theory]
    [MemberData(nameof(TooLarge), DisableDiscoveryEnumeration = true)]
    public async Task What_a_client_could_let_grow_has_limits(string request, int status)
    {
        var before = fixture.Requests;
        Assert.Equal(status, (await RawClient.AskAsync(EndPoint, request)).Status);
        Assert.Equal(before, fixture.Requests);
    }

    [Fact]
    public async Task As_many_headers_as_nginx_takes_pass()
    {
        var names = Enumerable.Range(0, 900).Select(i => string.Create(CultureInfo.InvariantCulture, $"X-{i}: a\r\n")).ToArray();
        var answer = await RawClient.AskAsync(EndPoint, $"GET / HTTP/1.1\r\nHost: a.test\r\n{string.Concat(names)}\r\n");
        Assert.All(names, name => Assert.Contains(name, answer.Body, StringComparison.Ordinal));
    }

    /// <summary>nginx: ignore_invalid_headers.</summary>
    [Theory]
    [InlineData("X(A: a")]
    [InlineData("X\x00e4: a")]
    [InlineData("\"X\": a")]
    public async Task A_header_with_an_illegal_name_is_left_out_and_the_rest_goes_on(string header)
    {
        var answer = await RawClient.AskAsync(EndPoint, $"{Start}{header}\r\nX-Good: 1\r\nContent-Length: 3\r\n\r\nabc");
        Assert.Equal(200, answer.Status);
        Assert.DoesNotContain(header, answer.Body, StringComparison.Ordinal);
        Assert.Contains("X-Good: 1\r\n", answer.Body, StringComparison.Ordinal);
        Assert.EndsWith("\r\n\r\nabc", answer.Body, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("on", 200)]
    [InlineData("off", 400)]
    public async Task The_operator_decides_about_illegal_header_names_and_is_told(string ignore, int status)
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync("nginx_config: {error_log_level: info}",
            $"http {{ ignore_invalid_headers {ignore}; }}");
        await gateway.RouteAsync("1", "/*", origin.Port);
        Assert.Equal(status, (await RawClient.AskAsync(gateway.EndPoint, "GET / HTTP/1.1\r\nHost: a\r\nX(A: 1\r\n\r\n")).Status);
        if (status == 200)
        {
            await gateway.ErrorLogSaysAsync("client sent a header with an invalid name: \"X(A\", it is left out, client: 127.0.0.1");
        }
    }

    [Theory]
    [InlineData("/a//b")]
    [InlineData("/a/./b")]
    [InlineData("/x/../a/b")]
    [InlineData("/a%2fb")]
    [InlineData("/a/%2e/b")]
    [InlineData("/%61/b?x=/../y")]
    [InlineData("http://a.test/a/b")]
    [InlineData("http://a.test//a/b")]
    public async Task Paths_are_matched_as_nginx_normalises_them(string target)
    {
        var answer = await RawClient.AskAsync(EndPoint, $"GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        Assert.Contains("Location: /matched", answer.Head, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/x//y", "/x//y")]
    [InlineData("/x%2fy?q=%00", "/x%2fy?q=%00")]
    [InlineData("/x/../y", "/x/../y")]
    [InlineData("http://a.test/x?y", "/x?y")]
    [InlineData("http://a.test", "/")]
    [InlineData("http://a.test?y", "/?y")]
    [InlineData("http://a.test?y=/z", "/?y=/z")]
    public async Task The_upstream_gets_the_target_as_sent_in_origin_form(string sent, string forwarded)
    {
        var answer = await RawClient.AskAsync(EndPoint, $"GET {sent} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        Assert.StartsWith($"GET {forwarded} HTTP/1.1\r\nHost: a.test\r\n", answer.Body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pipelined_requests_are_answered_one_after_the_other()
    {
        using var client = await RawClient.ConnectAsync(EndPoint);
        await client.SendAsync(Start + "Content-Length: 3\r\n\r\nabc" + Start
            + "Transfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\nGET /third HTTP/1.1\r\nHost: a.test\r\n\r\n");
        Assert.EndsWith("\r\n\r\nabc", (await client.AnswerAsync()).Body, StringComparison.Ordinal);
        var second = await client.AnswerAsync();
        Assert.EndsWith("\r\n\r\ndef", second.Body, StringComparison.Ordinal);
        Assert.Contains("Content-Length: 3\r\n", second.Body, StringComparison.Ordinal);
        Assert.StartsWith("GET /third", (await client.AnswerAsync()).Body, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("X-Mine, Host")]
    [InlineData("keep-alive, X-Mine")]
    public async Task Headers_of_the_connection_stay_on_it(string named)
    {
        var answer = await RawClient.AskAsync(EndPoint,
            $"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: {named}\r\nX-Mine: 1\r\nX-Other: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nTE: trailers, gzip\r\nTrailer: X\r\n\r\n");
        foreach (var gone in (string[])["X-Mine", "Keep-Alive", "Proxy-Connection", "Upgrade", "HTTP2-Settings", "gzip"])
        {
            Assert.DoesNotContain(gone, answer.Body, StringComparison.OrdinalIgnoreCase);
        }
        Assert.Contains("Host: a.test\r\n", answer.Body, StringComparison.Ordinal);
        Assert.Contains("X-Other: 2\r\n", answer.Body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_bad_chunk_of_a_streamed_body_is_400_and_the_upstream_sees_no_end()
    {
        var seen = new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously);
        var begun = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            var body = await connection.ReadUntilAsync("hello\r\n");
            begun.SetResult();
            try
            {
                body += await connection.ReadUntilAsync("0\r\n\r\n");
            }
            catch (Exception e) when (e is IOException)
            {
                body += "(aborted)";
            }
            seen.SetResult(head + body);
        });
        await fixture.Gateway.RouteAsync("bad-chunk", "/bad-chunk", origin.Port,
            """ "plugins":{"proxy-control":{"request_buffering":false}} """);
        using var client = await RawClient.ConnectAsync(EndPoint);
        await client.SendAsync("POST /bad-chunk HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        await begun.Task;
        await client.SendAsync("zz\r\n" + Smuggled);
        Assert.Equal(400, (await client.AnswerAsync()).Status);
        Assert.EndsWith("(aborted)", await seen.Task, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Content-Length: 5")]
    [InlineData("Transfer-Encoding: chunked")]
    [InlineData("Host: b.test")]
    [InlineData("X(A: b")]
    public async Task Trailers_that_would_change_the_framing_or_the_routing_are_not_passed_on(string trailer)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            var body = await connection.ReadUntilAsync("\r\n\r\n");
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {body.Length}\r\n\r\n{body}");
        });
        await fixture.Gateway.RouteAsync("trailers", "/trailers", origin.Port,
            """ "plugins":{"proxy-control":{"request_buffering":false}} """);
        var answer = await RawClient.AskAsync(EndPoint,
            $"POST /trailers HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailer}\r\nX-Good: 1\r\n\r\n");
        Assert.True(answer.Status is 200 or 400, answer.Head);
        Assert.DoesNotContain(trailer, answer.Body, StringComparison.Ordinal);
        if (answer.Status == 200)
        {
            Assert.Contains("X-Good: 1", answer.Body, StringComparison.Ordinal);
        }
    }
}

using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Connections;

/// <summary>What HTTP/1.1 has beside requests and answers: interim answers, trailers, connections that live on, and requests that are
/// none.</summary>
public sealed class Http1Tests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() =>
        _gateway = await TestGateway.StartAsync("nginx_config:\n  http:\n    access_log_format: '$request|$status|$body_bytes_sent'");

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    [Fact]
    public async Task Interim_answers_reach_the_client_before_the_answer_is_there()
    {
        var seen = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nConnection: X-Hop\r\n\r\n");
            await seen.Task;
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        await _gateway.RouteAsync("hints", "/hints", origin.Port);
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync("GET /hints HTTP/1.1\r\nHost: a.test\r\n\r\n");
        var hints = await client.AnswerAsync();
        seen.SetResult();
        Assert.Equal(103, hints.Status);
        Assert.Equal("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n", hints.Head);
        var answer = await client.AnswerAsync();
        Assert.Equal((200, "ok"), (answer.Status, answer.Body));
    }

    [Fact]
    public async Task A_client_of_HTTP_1_0_gets_no_interim_answer()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        await _gateway.RouteAsync("old", "/old", origin.Port);
        Assert.Equal(200, (await RawClient.AskAsync(_gateway.EndPoint, "GET /old HTTP/1.0\r\nHost: a.test\r\n\r\n")).Status);
    }

    [Fact]
    public async Task Trailers_reach_the_client_through_a_filter_too()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n");
        });
        await _gateway.RouteAsync("trailing", "/trailing", origin.Port,
            """ "plugins":{"response-rewrite":{"filters":[{"regex":"hello","scope":"once","replace":"hallo"}]}} """);
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync("GET /trailing HTTP/1.1\r\nHost: a.test\r\n\r\n");
        var answer = await client.UntilAsync("\r\nX-Sum: 42\r\n\r\n");
        Assert.Contains("hallo\r\n0\r\nX-Sum: 42\r\n\r\n", answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_refused_before_it_is_a_request_has_its_line_in_the_access_log()
    {
        Assert.Equal(400, (await RawClient.AskAsync(_gateway.EndPoint, "GET / HTTP/1.1\r\nno colon\r\n\r\n")).Status);
        Assert.Equal(400, (await RawClient.AskAsync(_gateway.EndPoint, "rubbish\r\n")).Status);
        Assert.Equal(414, (await RawClient.AskAsync(_gateway.EndPoint, $"GET /{new string('a', 20_000)} HTTP/1.1\r\n\r\n")).Status);
        var file = Path.Combine(_gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(file) && File.ReadAllLines(file).Length >= 3, "no access log");
        var lines = await File.ReadAllLinesAsync(file, TestContext.Current.CancellationToken);
        Assert.StartsWith("GET / HTTP/1.1|400|", lines[0], StringComparison.Ordinal);
        Assert.StartsWith("|400|", lines[1], StringComparison.Ordinal);
        Assert.StartsWith("|414|", lines[2], StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_connection_lives_on_when_nobody_read_the_whole_body_of_a_small_request()
    {
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync("POST /nowhere HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        Assert.Equal(404, (await client.AnswerAsync()).Status);
        await client.SendAsync("5\r\nagain\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a.test\r\n\r\n");
        Assert.Equal(404, (await client.AnswerAsync()).Status);
    }

    [Fact]
    public async Task A_client_that_waits_to_be_asked_for_its_body_and_is_not_is_told_that_the_connection_ends()
    {
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync("POST /nowhere HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        var answer = await client.AnswerAsync();
        Assert.Equal(404, answer.Status);
        Assert.Contains("\r\nConnection: close\r\n", answer.Head, StringComparison.Ordinal);
        await client.RestAsync();
    }

    [Fact]
    public async Task An_expectation_that_is_unknown_is_refused() =>
        Assert.Equal(417,
            (await RawClient.AskAsync(_gateway.EndPoint, "GET / HTTP/1.1\r\nHost: a.test\r\nExpect: a-miracle\r\n\r\n")).Status);

    [Fact]
    public async Task HTTP_1_0_keeps_its_connection_when_asked_to_and_the_answer_has_a_length()
    {
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        for (var i = 0; i < 2; i++)
        {
            await client.SendAsync("GET /nowhere HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            var answer = await client.AnswerAsync();
            Assert.Equal(404, answer.Status);
            Assert.Contains("\r\nConnection: keep-alive\r\n", answer.Head, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_connection_lives_on_when_nobody_read_the_whole_body_of_a_large_request()
    {
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync($"POST /nowhere HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4000000\r\n\r\n{new string('x', 1_000_000)}");
        Assert.Equal(404, (await client.AnswerAsync()).Status);
        await client.SendOrThrowAsync($"{new string('x', 3_000_000)}GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n");
        Assert.Equal(404, (await client.AnswerAsync()).Status);
    }

    [Theory]
    [InlineData("Connection: close\r\nContent-Length: 4000000\r\n\r\n", 404)]
    [InlineData("Transfer-Encoding: chunked\r\n\r\nno chunk\r\n", 400)]
    [InlineData("Transfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n", 413)]
    [InlineData("no colon\r\n\r\n", 400)]
    public async Task A_client_that_still_sends_when_the_connection_ends_gets_the_answer_and_no_reset(string head, int status)
    {
        await using var origin = ScriptedOrigin.Start(connection => connection.ReadHeadAsync());
        await _gateway.RouteAsync("limited", "/limited", origin.Port, """ "plugins":{"client-control":{"max_body_size":10}} """);
        await _gateway.RouteAsync("buffered", "/buffered", origin.Port, """ "plugins":{"proxy-buffering":{"request_buffering":true}} """);
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(
            $"POST {(status == 413 ? "/limited" : status == 404 ? "/nowhere" : "/buffered")} HTTP/1.1\r\nHost: a.test\r\n{head}");
        Assert.Equal(status, (await client.AnswerAsync()).Status);
        Assert.Equal("", await client.RestAsync());
        for (var i = 0; i < 20; i++)
        {
            await client.SendOrThrowAsync(new string('x', 100_000));
        }
    }
}

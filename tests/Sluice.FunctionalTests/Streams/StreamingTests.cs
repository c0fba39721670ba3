using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams;

/// <summary>Plugin <c>streaming</c>: limits that know the phase, heartbeats only between events, endings that one can read.</summary>
public sealed partial class StreamingTests : IAsyncLifetime
{
    const string Head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    const string Ask = "GET /live HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";

    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() =>
        _gateway = await TestGateway.StartAsync("nginx_config:\n  http:\n    access_log_format: '$uri|$status|$sluice_failure'");

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    static string Chunk(string text) => $"{text.Length:x}\r\n{text}\r\n";

    /// <summary>Sends this after the request's head, and then nothing; tells when the gateway has closed.</summary>
    static ScriptedOrigin Silent(string response, TaskCompletionSource? closed = null) => ScriptedOrigin.Start(async connection =>
    {
        await connection.ReadHeadAsync();
        await connection.SendAsync(response);
        await connection.ReadEndAsync();
        closed?.TrySetResult();
    });

    Task RouteAsync(ScriptedOrigin origin, string streaming, string more = "") =>
        _gateway.RouteAsync("live", "/live", origin.Port, $$"""{{more}}"plugins":{"streaming":{{streaming}} }""");

    [Theory]
    [InlineData("""{"idle_timeout": "500ms"}""", "data: 1\n\n", "idle_timeout", "the stream was silent for too long", true)]
    [InlineData("""{"event_idle_timeout": "500ms"}""", "data: 1\n\n", "event_idle_timeout", "no event came for too long", true)]
    [InlineData("""{"first_event_timeout": "500ms"}""", ": x\n\n", "first_event_timeout", "no event came in time", true)]
    [InlineData("""{"max_duration": "2s", "jitter": 0}""", "data: 1\n\n", "max_duration", "the stream has lasted as long as it may", false)]
    public async Task A_limit_ends_a_stream_in_words_that_say_why(string streaming, string sent, string reason, string message,
        bool isError)
    {
        var closed = new TaskCompletionSource();
        await using var origin = Silent(Head + Chunk(sent), closed);
        await RouteAsync(origin, streaming);
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        var began = Stopwatch.GetTimestamp();
        await client.SendAsync(Ask);
        var answer = await client.UntilAsync("\r\n0\r\n\r\n");
        Assert.True(Stopwatch.GetElapsedTime(began) >= TimeSpan.FromMilliseconds(490));
        Assert.EndsWith(
            $"event: {(isError ? "error" : "end")}\ndata: {{\"reason\":\"{reason}\",\"message\":\"{message}\"}}\n\n\r\n0\r\n\r\n", answer,
            StringComparison.Ordinal);
        await closed.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        // the connection is the next request's
        await client.SendAsync("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal(404, (await client.AnswerAsync()).Status);
        await Eventually.TrueAsync(() => AccessLog().Contains($"/live|200|{reason}\n", StringComparison.Ordinal), AccessLog);
    }

    string AccessLog() => File.ReadAllText(Path.Combine(_gateway.Prefix, "logs", "access.log"));

    [Theory]
    [InlineData("""{"idle_timeout": "300ms"}""", "data: hal")]
    [InlineData("""{"max_duration": "2s"}""", "data: 1\n\ndata: 2\n")]
    [InlineData("""{"idle_timeout": "300ms", "ending": {"mode": "abort"}}""", "data: 1\n\n")]
    public async Task Half_an_event_or_abort_is_never_a_clean_end(string streaming, string sent)
    {
        await using var origin = Silent(Head + Chunk(sent));
        await RouteAsync(origin, streaming);
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask);
        var all = await client.RestAsync();
        Assert.Contains(sent, all, StringComparison.Ordinal);
        Assert.DoesNotContain("\r\n0\r\n", all, StringComparison.Ordinal);
        Assert.DoesNotContain("reason", all, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_promised_length_is_never_filled_with_words()
    {
        await using var origin = Silent("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: 1\n\n");
        await RouteAsync(origin, """{"idle_timeout": "300ms", "heartbeat": {"interval": 1}}""");
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask);
        Assert.EndsWith("\r\n\r\ndata: 1\n\n", await client.RestAsync(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"first_byte_timeout": "300ms"}""", 504, "first_byte_timeout")]
    [InlineData("""{"first_byte_timeout": "300ms", "timeout_status": 503}""", 503, "first_byte_timeout")]
    [InlineData("""{"first_byte_timeout": "300ms", "timeout_status": 204}""", 504, "first_byte_timeout")]
    [InlineData("""{"max_duration": "300ms"}""", 504, "max_duration")]
    public async Task Before_the_head_a_limit_is_a_status(string streaming, int status, string failure)
    {
        await using var origin = Silent("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        await RouteAsync(origin, streaming);
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask);
        var answer = await client.AnswerAsync();
        Assert.Equal(status, answer.Status == 103 ? (await client.AnswerAsync()).Status : answer.Status);
        await Eventually.TrueAsync(() => AccessLog().Contains($"/live|{status}|{failure}\n", StringComparison.Ordinal), AccessLog);
    }

    [Theory]
    [InlineData(": nothing\n\n")]
    [InlineData("")]
    public async Task A_held_head_lets_another_node_be_tried(string before)
    {
        await using var first = Silent(Head + (before.Length > 0 ? Chunk(before) : ""));
        await using var second = Silent(Head + Chunk("data: 1\n\n"));
        await _gateway.PutAsync("/routes/live", $$"""
            {"uri": "/live", "plugins": {"streaming": {"hold": "event", "first_event_timeout": "2s"} },
             "upstream": {"type": "roundrobin", "nodes": [{"host": "127.0.0.1", "port": {{first.Port}}, "weight": 1, "priority": 1}, {"host": "127.0.0.1", "port": {{second.Port}}, "weight": 1}] } }
            """);
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask);
        var answer = await client.UntilAsync("data: 1\n\n");
        Assert.StartsWith("HTTP/1.1 200 ", answer, StringComparison.Ordinal);
        Assert.DoesNotContain(": nothing", answer, StringComparison.Ordinal);
        Assert.Equal(1, first.Accepted);
    }

    [Fact]
    public async Task A_held_head_whose_stream_ends_without_an_event_is_an_error()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Head + Chunk(": bye\n\n") + "0\r\n\r\n");
        });
        await RouteAsync(origin, """{"hold": "event"}""");
        Assert.Equal(502, (await RawClient.AskAsync(_gateway.EndPoint, Ask)).Status);
    }

    [Theory]
    [InlineData("HTTP/1.1", false)]
    [InlineData("HTTP/1.1", true)]
    [InlineData("HTTP/2", false)]
    public async Task Heartbeats_come_only_between_events_wherever_the_origin_falls_silent(string protocol, bool isOneChunk)
    {
        const string Script = "data: 1\n\nevent: a\r\ndata: 2\r\n\r\n: c\n\nid: 4\rdata: 3\r\rdata: 4\n\ndata: 5\n\n";
        var goOn = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            var at = int.Parse(Offset().Match(head).Groups[1].ValueSpan, System.Globalization.CultureInfo.InvariantCulture);
            await connection.SendAsync(Head + (isOneChunk ? $"{Script.Length:x}\r\n{Script[..at]}" : at == 0 ? "" : Chunk(Script[..at])));
            await goOn.Task;
            await connection.SendAsync((isOneChunk ? Script[at..] + "\r\n" : at == Script.Length ? "" : Chunk(Script[at..])) + "0\r\n\r\n");
            await connection.ReadEndAsync();
        });
        await using var http2 = protocol == "HTTP/2" ? await TestGateway.StartAsync(apisix: "enable_http2: true") : null;
        var gateway = http2 ?? _gateway;
        await gateway.RouteAsync("live", "/live", origin.Port,
            "\"plugins\":{\"streaming\":{\"heartbeat\":{\"interval\":1,\"comment\":\"beat\"}}}");
        using var client = new HttpClient(new SocketsHttpHandler { UseProxy = false, EnableMultipleHttp2Connections = true })
        {
            DefaultRequestVersion = protocol == "HTTP/2" ? HttpVersion.Version20 : HttpVersion.Version11,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        const string Beat = ": beat\n\n";
        var beats = 0;
        var all = Enumerable.Range(0, Script.Length + 1).Select(async at =>
        {
            using var response = await client.GetAsync(gateway.Url($"/live?at={at}."), HttpCompletionOption.ResponseHeadersRead, Cancel);
            using var body = new StreamReader(await response.Content.ReadAsStreamAsync(Cancel));
            var (text, piece) = (new StringBuilder(), new char[256]);
            for (var beaten = false; await body.ReadAsync(piece, Cancel) is > 0 and var count;)
            {
                text.Append(piece, 0, count);
                if (!beaten && text.ToString().Contains(Beat, StringComparison.Ordinal))
                {
                    beaten = true;
                    Interlocked.Increment(ref beats);
                }
            }
            return text.ToString();
        }).ToArray();
        // when all that may have one have one, the others would have it too
        var places = Enumerable.Range(0, Script.Length + 1).Count(at => IsBetween(Script[..at]));
        await Eventually.TrueAsync(() => Volatile.Read(ref beats) >= places, () => $"{beats} heartbeats of {places}", seconds: 30);
        goOn.SetResult();
        var bodies = await Task.WhenAll(all);
        for (var at = 0; at < bodies.Length; at++)
        {
            var place = bodies[at].IndexOf(Beat, StringComparison.Ordinal);
            Assert.Equal(Script, bodies[at].Replace(Beat, "", StringComparison.Ordinal));
            Assert.True(IsBetween(Script[..at]) ? place == at : place < 0, $"silent after {at}: {bodies[at]}");
        }
    }

    /// <summary>As the format's grammar has it, not as the gateway looks at it.</summary>
    static bool IsBetween(string sent)
    {
        var lines = LineEnds().Split(sent);
        return lines[^1].Length == 0 && (lines.Length == 1 || lines[^2].Length == 0);
    }

    [Fact]
    public async Task Comments_that_an_upstream_sends_alone_keep_the_place_between_events()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Head + Chunk("data: 1\n\n"));
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, Cancel);
            await connection.SendAsync(Chunk(":\n"));
            await connection.ReadEndAsync();
        });
        await RouteAsync(origin, """{"idle_timeout": "500ms"}""");
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask);
        Assert.Contains("event: error\n", await client.UntilAsync("\r\n0\r\n\r\n"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Silence_after_a_first_event_that_came_late_is_measured_from_there()
    {
        var goOn = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Head);
            await goOn.Task;
            await connection.SendAsync(Chunk("data: 1\n\n"));
            await connection.ReadEndAsync();
        });
        await RouteAsync(origin, """{"event_idle_timeout": "500ms", "idle_timeout": "10m"}""");
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask);
        await client.UntilAsync("\r\n\r\n");
        goOn.SetResult();
        Assert.Contains("\"reason\":\"event_idle_timeout\"", await client.UntilAsync("\r\n0\r\n\r\n"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pings_of_the_upstream_keep_no_stream_alive_that_shall_have_events()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Head + Chunk("data: 1\n\n"));
            while (true)
            {
                await connection.SendAsync(Chunk(": ping\n\n"));
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, Cancel);
            }
        });
        await RouteAsync(origin, """{"idle_timeout": "10s", "event_idle_timeout": "600ms"}""");
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask);
        Assert.Contains("\"reason\":\"event_idle_timeout\"", await client.UntilAsync("\r\n0\r\n\r\n"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_stream_that_broke_off_says_so_and_when_to_come_back()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(Head + Chunk("data: 1\n\n"));
        });
        await RouteAsync(origin, """{"reconnect": {"delay": "2s", "jitter": 0}}""");
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask);
        var answer = await client.UntilAsync("\r\n0\r\n\r\n");
        Assert.Matches("""\r\n\r\n[0-9a-f]+\r\nretry: 2000\n\n""", answer);
        Assert.Contains(
            "event: error\nretry: 2000\ndata: {\"reason\":\"early_close\",\"message\":\"the stream broke off\",\"retry_ms\":2000}\n\n",
            answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"auto\"", 503, "7", 200, "retry: 7000\n: 503 upstream_status\n\n")]
    [InlineData("[503]", 503, "", 200, "retry: 2000\n: 503 upstream_status\n\n")]
    [InlineData("[503]", 502, "", 502, "")]
    [InlineData("[404]", 404, "", 404, "")]
    public async Task An_EventSource_is_told_to_come_back_instead_of_a_status(string on, int status, string retryAfter, int seen,
        string body)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(
                $"HTTP/1.1 {status} No\r\n{(retryAfter.Length > 0 ? $"Retry-After: {retryAfter}\r\n" : "")}Content-Length: 0\r\n\r\n");
        });
        await RouteAsync(origin, $$"""{"reconnect": {"delay": "2s", "jitter": 0, "on": {{on}}} }""");
        var answer = await RawClient.AskAsync(_gateway.EndPoint, Ask);
        Assert.Equal((seen, body), (answer.Status, answer.Body));
        // who is no EventSource gets what there is
        Assert.Equal(status,
            (await RawClient.AskAsync(_gateway.EndPoint, Ask.Replace("text/event-stream", "*/*", StringComparison.Ordinal))).Status);
    }

    [Fact]
    public async Task A_refusal_of_the_gateway_itself_is_shielded_too()
    {
        // a port on which nobody listens any more
        var origin = ScriptedOrigin.Start(static _ => Task.CompletedTask);
        var port = origin.Port;
        await origin.DisposeAsync();
        await _gateway.RouteAsync("live", "/live", port,
            "\"plugins\":{\"streaming\":{\"reconnect\":{\"delay\":2,\"jitter\":0,\"on\":\"auto\"}}}");
        var answer = await RawClient.AskAsync(_gateway.EndPoint, Ask);
        Assert.Equal((200, "retry: 2000\n: 502 connect_refused\n\n"), (answer.Status, answer.Body));
    }

    [Theory]
    [InlineData("line", "{\"a\":1}\n", true)]
    [InlineData("line", "{\"a\":", false)]
    [InlineData("abort", "{\"a\":1}\n", false)]
    public async Task Streams_of_lines_end_in_a_line_where_that_is_wanted_and_can_be_said(string ndjson, string sent, bool ends)
    {
        await using var origin = Silent("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
            + Chunk(sent));
        await RouteAsync(origin, $$"""{"idle_timeout": "300ms", "ending": {"ndjson": "{{ndjson}}"} }""");
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(Ask.Replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n", StringComparison.Ordinal));
        var all = await client.RestAsync();
        const string Words = "{\"error\":{\"reason\":\"idle_timeout\",\"message\":\"the stream was silent for too long\"}}\n\r\n0\r\n\r\n";
        Assert.Equal(ends, all.EndsWith(Words, StringComparison.Ordinal));
        Assert.Equal(ends, all.EndsWith("0\r\n\r\n", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("""{"client_idle_timeout": "2s"}""", "client_idle_timeout")]
    [InlineData("""{"client_idle_timeout": 60, "idle_timeout": "2s"}""", "idle_timeout")]
    public async Task A_tunnel_ends_when_its_client_is_silent_for_too_long(string streaming, string reason)
    {
        var gone = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\nConnection: Upgrade\r\n\r\nhello");
            await connection.ReadEndAsync();
            gone.SetResult();
        });
        await RouteAsync(origin, streaming, "\"enable_websocket\":true,");
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync("GET /live HTTP/1.1\r\nHost: a\r\nUpgrade: lines\r\nConnection: Upgrade\r\n\r\n");
        await client.UntilAsync("hello");
        await gone.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        await Eventually.TrueAsync(() => AccessLog().Contains($"/live|101|{reason}\n", StringComparison.Ordinal), AccessLog);
    }

    [Fact]
    public async Task Defaults_of_the_gateway_hold_where_no_plugin_speaks_and_a_wrong_one_is_refused()
    {
        await using var origin = Silent(Head + Chunk("data: 1\n\n"));
        await using var gateway = await TestGateway.StartAsync(
            "sluice: {streams: {defaults: {idle_timeout: 300ms, ending: {mode: dialect}}}}");
        await gateway.RouteAsync("live", "/live", origin.Port);
        using var client = await RawClient.ConnectAsync(gateway.EndPoint);
        await client.SendAsync(Ask);
        Assert.Contains("\"reason\":\"idle_timeout\"", await client.UntilAsync("\r\n0\r\n\r\n"), StringComparison.Ordinal);
    }

    [GeneratedRegex(@"at=(\d+)\.")]
    private static partial Regex Offset();

    [GeneratedRegex("\r\n|\n|\r")]
    private static partial Regex LineEnds();
}

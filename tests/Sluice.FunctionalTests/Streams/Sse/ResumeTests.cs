using System.Globalization;
using System.Net;
using System.Text;
using Microsoft.Playwright;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>Streams that outlive their connections: plugin sse-resume over real sockets.</summary>
public sealed class ResumeTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync(
        "nginx_config:\n  http:\n    access_log_format: '$request|$status|$sluice_resumed_from|$sluice_failure|'");

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    Task RouteAsync(int port, string config = "{}", string more = "") =>
        _gateway.RouteAsync("r", "/live", port, $"\"plugins\":{{\"sse-resume\":{config}{more}}}");

    static string Unit(int n) => string.Create(CultureInfo.InvariantCulture, $"event: tick\nid: up-{n}\ndata: number {n}\n\n");

    /// <summary>An upstream that gives so many events and ends.</summary>
    static ScriptedOrigin Finite(int events, int status = 200) => ScriptedOrigin.Start(async connection =>
    {
        await connection.ReadHeadAsync();
        await connection.SendAsync(
            $"HTTP/1.1 {status} X\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (var n = 1; n <= events; n++)
        {
            var unit = Unit(n);
            await connection.SendAsync($"{unit.Length:x}\r\n{unit}\r\n");
        }
        await connection.SendAsync("0\r\n\r\n");
        await connection.ReadEndAsync();
    });

    /// <summary>What a client of the stream gets, when ids are the gateway's.</summary>
    static string Numbered(string stream, int first, int last) => string.Concat(
        Enumerable.Range(first, last - first + 1)
        .Select(n => string.Create(CultureInfo.InvariantCulture, $"id: {stream}.{n}\nevent: tick\ndata: number {n}\n\n")));

    async Task<HttpResponseMessage> OpenAsync(string path = "/live", string method = "GET", string? body = null,
        params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(new(method),
            _gateway.Url(path)) { Content = body is null ? null : new StringContent(body) };
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        return await _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
    }

    static Task MetricsSayAsync(TestGateway gateway, string text) => Eventually.HoldsAsync(
        async () =>
        (await gateway.Client.GetStringAsync($"http://{gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics", Cancel)).Contains(text,
            StringComparison.Ordinal),
        $"no {text}");

    static string IdOf(HttpResponseMessage response) => response.Headers.GetValues("X-Sluice-Stream-Id").Single();

    /// <summary>Exactly so many bytes of a body.</summary>
    static async Task<string> ReadAsync(HttpResponseMessage response, int bytes)
    {
        var buffer = new byte[bytes];
        await (await response.Content.ReadAsStreamAsync(Cancel)).ReadExactlyAsync(buffer, Cancel);
        return Encoding.UTF8.GetString(buffer);
    }

    [Theory]
    [InlineData("GET", false)]
    [InlineData("GET", true)]
    [InlineData("POST", false)]
    [InlineData("POST", true)]
    public async Task A_stream_that_is_cut_at_any_byte_goes_on_behind_the_last_whole_event(string method, bool query)
    {
        const int Events = 4;
        await using var origin = Finite(Events);
        await RouteAsync(origin.Port);
        var whole = Numbered(new string('x', 25), 1, Events).Length;
        var streams = 0;
        for (var cut = 0; cut <= whole; cut++)
        {
            string got, stream;
            using (var first = await OpenAsync("/live", method, method == "POST" ? "ask" : null))
            {
                stream = IdOf(first);
                Assert.StartsWith(method == "GET" ? "s_g" : "s_p", stream, StringComparison.Ordinal);
                got = await ReadAsync(first, cut);
            }
            streams++;
            got = got[..(got.LastIndexOf("\n\n", StringComparison.Ordinal) is >= 0 and var end ? end + 2 : 0)];
            if (got.Length == 0)
            {
                continue;
            }
            var seen = got.Split("\n\n").Length - 1;
            var position = $"{stream}.{seen}";
            using var again = query ? await OpenAsync($"/live?last_event_id={position}", method)
                : await OpenAsync("/live", method, null, ("Last-Event-ID", position));
            Assert.Equal((HttpStatusCode.OK, stream), (again.StatusCode, IdOf(again)));
            Assert.Equal(Numbered(stream, 1, Events), got + await again.Content.ReadAsStringAsync(Cancel));
        }
        Assert.Equal(streams, origin.Accepted);
    }

    [Fact]
    public async Task The_upstream_runs_on_without_a_client_and_what_it_said_meanwhile_comes_first()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await RouteAsync(origin.Port);
        string stream;
        using (var first = await OpenAsync())
        {
            stream = IdOf(first);
            await origin.SendAsync(Unit(1));
            using var reader = new EventReader(await first.Content.ReadAsStreamAsync(Cancel));
            Assert.Equal(Numbered(stream, 1, 1), (await reader.NextAsync()).Event);
        }
        await MetricsSayAsync(_gateway, "sluice_detached_streams{route=\"r\"} 1");
        await origin.SendAsync(Unit(2));
        await origin.SendAsync(Unit(3));
        using var again = await OpenAsync("/live", headers: [("Last-Event-ID", $"{stream}.1")]);
        using var rest = new EventReader(await again.Content.ReadAsStreamAsync(Cancel));
        Assert.Equal(Numbered(stream, 2, 2), (await rest.NextAsync()).Event);
        Assert.Equal(Numbered(stream, 3, 3), (await rest.NextAsync()).Event);
        // live, each before the next; a comment comes to those who are there
        for (var n = 4; n < 8; n++)
        {
            await origin.SendAsync(Unit(n));
            Assert.Equal(Numbered(stream, n, n), (await rest.NextAsync()).Event);
        }
        await origin.SendAsync(": here\n\n");
        Assert.Equal(": here\n\n", (await rest.NextAsync()).Event);
        await MetricsSayAsync(_gateway, "sluice_stream_resumes_total{route=\"r\",result=\"");
        origin.End();
        await Assert.ThrowsAsync<EndOfStreamException>(rest.NextAsync);
    }

    [Fact]
    public async Task Nobody_comes_back_the_upstream_is_let_go_after_detach()
    {
        var clock = new ManualClock();
        await using var gateway = await TestGateway.StartAsync(time: clock);
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await gateway.RouteAsync("r", "/live", origin.Port, """ "plugins":{"sse-resume":{"detach":"20s"}} """);
        var (client, head) = await RawConnection.GetAsync(gateway.EndPoint, "/live");
        Assert.Contains("X-Sluice-Stream-Id: s_g", head, StringComparison.OrdinalIgnoreCase);
        await origin.SendAsync(Unit(1));
        await client.ReadChunkAsync();
        client.Reset();
        await Eventually.TrueAsync(() => gateway.Gateway.Live.Count == 1, "the client's stream stays");
        await MetricsSayAsync(gateway, "sluice_detached_streams{route=\"r\"} 1");
        clock.Advance(TimeSpan.FromSeconds(19));
        Assert.False(origin.ClientGone.IsCompleted);
        clock.Advance(TimeSpan.FromSeconds(2));
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
    }

    [Fact]
    public async Task A_finished_stream_of_which_all_was_seen_ends_an_EventSource_and_is_empty_for_others()
    {
        await using var origin = Finite(2);
        await RouteAsync(origin.Port);
        using var first = await OpenAsync();
        Assert.Equal(Numbered(IdOf(first), 1, 2), await first.Content.ReadAsStringAsync(Cancel));
        using var source = await OpenAsync("/live", headers: [("Last-Event-ID", $"{IdOf(first)}.2"), ("Accept", "text/event-stream")]);
        Assert.Equal(HttpStatusCode.NoContent, source.StatusCode);
        using var other = await OpenAsync("/live", headers: [("Last-Event-ID", $"{IdOf(first)}.2")]);
        Assert.Equal((HttpStatusCode.OK, ""), (other.StatusCode, await other.Content.ReadAsStringAsync(Cancel)));
        using var some = await OpenAsync("/live", headers: [("Last-Event-ID", $"{IdOf(first)}.1")]);
        Assert.Equal("from=1; tail=1", some.Headers.GetValues("X-Sluice-Resumed").Single());
        Assert.Equal(1, origin.Accepted);
    }

    [Theory]
    [InlineData("event", "GET", "event: gap\ndata: {\"reason\":\"expired\",\"from\":\"2\",\"to\":\"3\"}\n\n")]
    [InlineData("end", "GET", "event: gap\ndata: {\"reason\":\"expired\",\"from\":\"2\",\"to\":\"3\"}\n\n")]
    [InlineData("status", "GET", null)]
    [InlineData("event", "POST", null)]
    public async Task What_is_no_longer_kept_is_told(string onGap, string method, string? gap)
    {
        await using var origin = Finite(5);
        await RouteAsync(origin.Port, $$"""{"tail":{"events":2},"on_gap":"{{onGap}}"}""");
        using var first = await OpenAsync("/live", method, method == "POST" ? "ask" : null);
        var stream = IdOf(first);
        await first.Content.ReadAsStringAsync(Cancel);
        using var again = await OpenAsync("/live", method, null, ("Last-Event-ID", $"{stream}.1"));
        var text = await again.Content.ReadAsStringAsync(Cancel);
        if (gap is null)
        {
            Assert.Equal((HttpStatusCode.Gone, "{\"error_msg\":\"event is no longer kept\"}\n"), (again.StatusCode, text));
            return;
        }
        Assert.Equal((HttpStatusCode.OK, gap + (onGap == "end" ? "" : Numbered(stream, 4, 5))), (again.StatusCode, text));
    }

    [Fact]
    public async Task An_unknown_or_future_position_gets_a_new_stream_and_a_gap_or_404()
    {
        await using var origin = Finite(1);
        await RouteAsync(origin.Port);
        using var first = await OpenAsync();
        await first.Content.ReadAsStringAsync(Cancel);
        foreach (var position in (string[])["s_gAAAAAAAAAAAAAAAAAAAAAA.1", $"{IdOf(first)}.2"])
        {
            var before = origin.Accepted;
            using var again = await OpenAsync("/live", headers: [("Last-Event-ID", position)]);
            Assert.NotEqual(IdOf(first), IdOf(again));
            Assert.Equal("event: gap\ndata: {\"reason\":\"unknown\"}\n\n" + Numbered(IdOf(again), 1, 1),
                await again.Content.ReadAsStringAsync(Cancel));
            Assert.Equal(before + 1, origin.Accepted);
        }
        using var post = await OpenAsync("/live", "POST", "ask");
        await post.Content.ReadAsStringAsync(Cancel);
        foreach (var position in (string[])["s_pAAAAAAAAAAAAAAAAAAAAAA.1", $"{IdOf(post)}.2"])
        {
            using var again = await OpenAsync("/live", headers: [("Last-Event-ID", position)]);
            Assert.Equal((HttpStatusCode.NotFound, "{\"error_msg\":\"no such stream\"}\n"),
                (again.StatusCode, await again.Content.ReadAsStringAsync(Cancel)));
        }
        // what is no position of ours is none at all
        foreach (var position in (string[])["nonsense", $"{IdOf(first)}.x", new string('a', 2048), $"{IdOf(first)}.-1"])
        {
            using var again = await OpenAsync("/live", headers: [("Last-Event-ID", position)]);
            Assert.Equal(Numbered(IdOf(again), 1, 1), await again.Content.ReadAsStringAsync(Cancel));
        }
    }

    [Fact]
    public async Task Nobody_else_gets_a_byte_of_a_consumers_stream()
    {
        await using var origin = Finite(2);
        await _gateway.PutAsync("/consumers/ann", """{"username":"ann","plugins":{"key-auth":{"key":"a"}}}""");
        await _gateway.PutAsync("/consumers/bob", """{"username":"bob","plugins":{"key-auth":{"key":"b"}}}""");
        await RouteAsync(origin.Port, more: ""","key-auth":{}""");
        using var get = await OpenAsync("/live", headers: [("apikey", "a")]);
        using var post = await OpenAsync("/live", "POST", "ask", ("apikey", "a"), ("Idempotency-Key", "k"));
        await get.Content.ReadAsStringAsync(Cancel);
        await post.Content.ReadAsStringAsync(Cancel);
        using var foreignGet = await OpenAsync("/live", headers: [("apikey", "b"), ("Last-Event-ID", $"{IdOf(get)}.1")]);
        Assert.NotEqual(IdOf(get), IdOf(foreignGet));
        Assert.StartsWith("event: gap\ndata: {\"reason\":\"unknown\"}", await foreignGet.Content.ReadAsStringAsync(Cancel),
            StringComparison.Ordinal);
        using var foreignPost = await OpenAsync("/live", headers: [("apikey", "b"), ("Last-Event-ID", $"{IdOf(post)}.1")]);
        Assert.Equal(HttpStatusCode.NotFound, foreignPost.StatusCode);
        using var stop = await OpenAsync("/live", "DELETE", null, ("apikey", "b"), ("X-Sluice-Stream-Id", IdOf(post)));
        Assert.Equal(HttpStatusCode.NotFound, stop.StatusCode);
        using var joined = await OpenAsync("/live", "POST", "ask", ("apikey", "b"), ("Idempotency-Key", "k"));
        Assert.NotEqual(IdOf(post), IdOf(joined));
        using var without = await OpenAsync("/live", headers: [("Last-Event-ID", $"{IdOf(post)}.1")]);
        Assert.Equal(HttpStatusCode.Unauthorized, without.StatusCode);
        using var own = await OpenAsync("/live", headers: [("apikey", "a"), ("Last-Event-ID", $"{IdOf(post)}.1")]);
        Assert.Equal(Numbered(IdOf(post), 2, 2), await own.Content.ReadAsStringAsync(Cancel));
    }

    [Theory]
    [InlineData("attached")]
    [InlineData("detached")]
    [InlineData("finished")]
    public async Task A_stream_can_be_stopped_by_its_owner(string state)
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await RouteAsync(origin.Port);
        var client = await OpenAsync("/live", "POST", "ask");
        var stream = IdOf(client);
        await origin.SendAsync(Unit(1));
        await ReadAsync(client, Numbered(stream, 1, 1).Length);
        if (state == "finished")
        {
            origin.End();
            Assert.Equal(0, await (await client.Content.ReadAsStreamAsync(Cancel)).ReadAsync(new byte[1], Cancel));
        }
        if (state == "detached")
        {
            client.Dispose();
        }
        using var stop = await OpenAsync(state == "detached" ? $"/live?stream_id={stream}" : "/live", "DELETE", null,
            state == "detached" ? [] : [("X-Sluice-Stream-Id", stream)]);
        Assert.Equal(HttpStatusCode.NoContent, stop.StatusCode);
        if (state != "finished")
        {
            await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        }
        if (state == "attached")
        {
            await Assert.ThrowsAnyAsync<IOException>(
                async () => await (await client.Content.ReadAsStreamAsync(Cancel)).ReadAsync(new byte[1], Cancel));
        }
        // what there is can still be fetched
        using var all = await OpenAsync("/live", headers: [("Last-Event-ID", $"{stream}.1")]);
        Assert.Equal((HttpStatusCode.OK, ""), (all.StatusCode, await all.Content.ReadAsStringAsync(Cancel)));
        client.Dispose();
    }

    [Fact]
    public async Task An_idempotency_key_joins_the_running_stream_and_never_with_another_body()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await RouteAsync(origin.Port);
        using var first = await OpenAsync("/live", "POST", "ask", ("Idempotency-Key", "k1"));
        await origin.SendAsync(Unit(1));
        await ReadAsync(first, Numbered(IdOf(first), 1, 1).Length);
        using var second = await OpenAsync("/live", "POST", "ask", ("Idempotency-Key", "k1"));
        Assert.Equal(IdOf(first), IdOf(second));
        using var other = await OpenAsync("/live", "POST", "another", ("Idempotency-Key", "k1"));
        Assert.Equal((HttpStatusCode.UnprocessableEntity, "{\"error_msg\":\"Idempotency-Key was used with another body\"}\n"),
            (other.StatusCode, await other.Content.ReadAsStringAsync(Cancel)));
        await origin.SendAsync(Unit(2));
        origin.End();
        Assert.Equal(Numbered(IdOf(first), 1, 2), await second.Content.ReadAsStringAsync(Cancel));
        Assert.Equal(Numbered(IdOf(first), 2, 2), await ReadAsync(first, Numbered(IdOf(first), 2, 2).Length));
    }

    [Fact]
    public async Task A_stream_that_its_upstream_breaks_off_never_ends_cleanly_and_is_asked_for_anew()
    {
        var seen = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(
                    $"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{Unit(1).Length:x}\r\n{Unit(1)}\r\n");
                await seen.Task;
                await connection.SendAsync("14\r\ndata: half an");
                connection.ShutdownSend();
            },
            async connection =>
            {
                Assert.Contains("\r\nlast-event-id: up-1\r\n", (await connection.ReadHeadAsync()).ToLowerInvariant(),
                    StringComparison.Ordinal);
                await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{Unit(2)}");
            });
        await RouteAsync(origin.Port);
        var (client, head) = await RawConnection.GetAsync(_gateway.EndPoint, "/live");
        var unit = await client.ReadChunkAsync();
        seen.SetResult();
        Assert.Equal("", (await client.ReadRestAsync()).Text);
        var stream = head.Split("\r\n").Single(line => line.StartsWith("X-Sluice-Stream-Id", StringComparison.OrdinalIgnoreCase))[20..];
        Assert.Equal(Numbered(stream, 1, 1), unit);
        using var again = await OpenAsync("/live", headers: [("Last-Event-ID", $"{stream}.1")]);
        Assert.Equal(
            $"event: gap\ndata: {{\"reason\":\"unknown\"}}\n\nid: {IdOf(again)}.1\nevent: tick\ndata: number 2\n\n",
            await again.Content.ReadAsStringAsync(Cancel));
    }

    [Fact]
    public async Task Ids_of_the_upstream_are_points_to_come_back_to()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await RouteAsync(origin.Port, """{"ids":"upstream"}""");
        using (var first = await OpenAsync())
        {
            await origin.SendAsync(Unit(1) + Unit(2) + Unit(3));
            Assert.Equal(Unit(1) + Unit(2) + Unit(3), await ReadAsync(first, Unit(1).Length * 3));
        }
        using var again = await OpenAsync("/live", headers: [("Last-Event-ID", "up-1")]);
        origin.End();
        Assert.Equal(Unit(2) + Unit(3), await again.Content.ReadAsStringAsync(Cancel));
        Assert.DoesNotContain("up-1", await origin.Request, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_no_event_stream_passes_as_it_is()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 201 Created\r\nContent-Length: 5\r\nConnection: close\r\nX-A: b\r\n\r\nhello");
        });
        await RouteAsync(origin.Port);
        using var response = await OpenAsync("/live", "POST", "ask");
        Assert.Equal((HttpStatusCode.Created, "hello", "b", 5L),
            (response.StatusCode, await response.Content.ReadAsStringAsync(Cancel), response.Headers.GetValues("X-A").Single(),
                response.Content.Headers.ContentLength));
        Assert.False(response.Headers.Contains("X-Sluice-Stream-Id"));
    }

    [Fact]
    public async Task No_node_is_an_error_answer()
    {
        await RouteAsync(RawConnection.FreeAddress().Port);
        using var response = await OpenAsync();
        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
    }

    [Fact]
    public async Task Logs_have_a_line_for_each_client_and_no_secret()
    {
        await using var origin = Finite(2);
        await RouteAsync(origin.Port);
        using var first = await OpenAsync();
        await first.Content.ReadAsStringAsync(Cancel);
        using var again = await OpenAsync($"/live?last_event_id={IdOf(first)}.1");
        await again.Content.ReadAsStringAsync(Cancel);
        var log = Path.Combine(_gateway.Prefix, "logs", "access.log");
        string[] lines = ["GET /live HTTP/1.1|200|-|-|", "GET /live?last_event_id=*** HTTP/1.1|200|1|-|"];
        await Eventually.TrueAsync(() => File.Exists(log) && File.ReadAllLines(log).SequenceEqual(lines),
            () => File.Exists(log) ? File.ReadAllText(log) : "no line");
        Assert.DoesNotContain(IdOf(first),
            File.ReadAllText(log) + _gateway.ErrorLog + (await _gateway.ControlAsync("/v1/streams")).ToJsonString(),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task Ids_are_in_no_log_whatever_becomes_of_the_request()
    {
        await using var gateway = await TestGateway.StartAsync("""
            nginx_config:
              http:
                access_log_format: '$request|$request_uri|$args|$arg_last_event_id|$http_last_event_id|$http_x_sluice_stream_id|$sent_http_x_sluice_stream_id|$upstream_uri|$status'
            sluice: {streams: {access_log_start: true}}
            """);
        await using var origin = Finite(2);
        var file = Path.Combine(gateway.Prefix, "logs", "entries.log");
        await gateway.PutAsync("/consumers/ann", """{"username":"ann","plugins":{"key-auth":{"key":"k"} } }""");
        await gateway.RouteAsync("r", "/live", origin.Port, $$"""
            "plugins":{"key-auth":{},"sse-resume":{},"file-logger":{"path":"{{file}}","include_resp_body":true} }
            """);

        async Task<HttpResponseMessage> AskAsync(HttpMethod method, string path, string key, params (string Name, string Value)[] headers)
        {
            using var request = new HttpRequestMessage(method, new Uri(new Uri($"http://{gateway.EndPoint}"), path));
            request.Headers.Add("apikey", key);
            foreach (var (name, value) in headers)
            {
                request.Headers.Add(name, value);
            }
            return await gateway.Client.SendAsync(request, Cancel);
        }

        using var first = await AskAsync(HttpMethod.Get, "/live", "k");
        var id = IdOf(first);
        (HttpMethod, string, string, HttpStatusCode)[] asked =
        [
            (HttpMethod.Get, $"/live?last_event_id={id}.1", "wrong", HttpStatusCode.Unauthorized),
            (HttpMethod.Get, $"/live?last_event_id=s%5F{id[2..]}.1&x=1", "wrong", HttpStatusCode.Unauthorized),
            (HttpMethod.Get, $"/elsewhere?last_event_id={id}.1", "k", HttpStatusCode.NotFound),
            (HttpMethod.Get, $"/live?last_event_id={id}.1", "k", HttpStatusCode.OK),
            (HttpMethod.Delete, $"/live?stream_id={id}", "wrong", HttpStatusCode.Unauthorized),
            (HttpMethod.Delete, $"/live?stream_id={id}", "k", HttpStatusCode.NoContent),
        ];
        foreach (var (method, path, key, status) in asked)
        {
            using var response = await AskAsync(method, path, key);
            Assert.Equal(status, response.StatusCode);
        }
        using (var response = await AskAsync(HttpMethod.Delete, "/live", "k", ("X-Sluice-Stream-Id", id), ("Last-Event-ID", id + ".1")))
        {
            Assert.Equal(HttpStatusCode.NoContent, response.StatusCode);
        }
        var access = Path.Combine(gateway.Prefix, "logs", "access.log");
        // a stream has two lines
        await Eventually.TrueAsync(() => File.Exists(access) && File.ReadAllLines(access).Length == asked.Length + 4,
            () => File.ReadAllText(access));
        await Eventually.TrueAsync(() => File.ReadAllLines(file).Length == asked.Length + 1, () => File.ReadAllText(file));
        var (log, entries) = (File.ReadAllText(access), File.ReadAllText(file));
        Assert.Contains("GET /live?last_event_id=***&x=1 HTTP/1.1|", log, StringComparison.Ordinal);
        Assert.Contains("\"querystring\":{\"stream_id\":\"***\"}", entries, StringComparison.Ordinal);
        Assert.Contains("\"x-sluice-stream-id\":\"***\"", entries, StringComparison.Ordinal);
        // not even in another spelling
        Assert.DoesNotContain(id[3..], log + entries + gateway.ErrorLog, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_resumable_stream_is_one_stream_wherever_streams_are_counted()
    {
        await using var gateway = await TestGateway.StartAsync("sluice: {streams: {max: 2, control_write: true}}");
        await gateway.PutAsync("/global_rules/1", """{"plugins":{"prometheus":{}}}""");
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
            await connection.ReadEndAsync();
        });
        await gateway.RouteAsync("r", "/live", origin.Port, """ "plugins":{"sse-resume":{"detach":0} } """);
        var (one, _) = await RawConnection.GetAsync(gateway.EndPoint, "/live");
        using var first = one;
        var (two, _) = await RawConnection.GetAsync(gateway.EndPoint, "/live");
        using var second = two;
        await MetricsSayAsync(gateway, "sluice_active_streams{route=\"r\",kind=\"sse\"} 2\n");
        Assert.Equal((2, 2),
            ((int)(await gateway.ControlAsync("/v1/streams"))["total"]!,
                (await gateway.ControlAsync("/v1/streams"))["streams"]!.AsArray().Count));
        foreach (var client in (OriginConnection[])[first, second])
        {
            await client.ReadUntilAsync("data: 1\n\n");
        }
        await MetricsSayAsync(gateway, "sluice_stream_events_total{route=\"r\"} 2\n");
        await MetricsSayAsync(gateway, "sluice_stream_bytes_total{route=\"r\",direction=\"received\"} 18\n");
        await MetricsSayAsync(gateway, "sluice_time_to_first_event_seconds_count{route=\"r\"} 2\n");
        using (var refused = await gateway.Client.GetAsync(gateway.Url("/live"), Cancel))
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
        }
        using (var ended = await gateway.Client.DeleteAsync($"http://{gateway.Gateway.ControlEndpoint}/v1/streams?route=r", Cancel))
        {
            Assert.Equal("{\"matched\":2}", (await ended.Content.ReadAsStringAsync(Cancel)).TrimEnd());
        }
        await MetricsSayAsync(gateway, "sluice_active_streams{route=\"r\",kind=\"sse\"} 0\n");
        await MetricsSayAsync(gateway, "sluice_stream_ends_total{route=\"r\",reason=\"killed\"} 2\n");
        await Eventually.TrueAsync(() => gateway.Gateway.Live.Count == 0, "the upstreams are not let go");
    }

    [Fact]
    public async Task Curl_goes_on_where_it_was()
    {
        await using var origin = Finite(3);
        await RouteAsync(origin.Port);
        using var first = await OpenAsync();
        await first.Content.ReadAsStringAsync(Cancel);
        var (code, output) = await Tool.RunAsync("curl", "-sN", "-H", $"Last-Event-ID: {IdOf(first)}.2", _gateway.Url("/live").ToString());
        Assert.Equal((0, Numbered(IdOf(first), 3, 3)), (code, output));
    }
}

/// <summary>Chromium's EventSource across connections that break.</summary>
public sealed class ResumeBrowserTests(Chromium chromium) : IClassFixture<Chromium>
{
    [Fact]
    public async Task An_EventSource_gets_each_event_once_across_connections_that_break()
    {
        await using var gateway = await TestGateway.StartAsync();
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await using var site = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            const string Page =
                "<!doctype html><script>const received=[];const s=new EventSource('/live');s.onmessage=e=>received.push(e.data)</script>";
            await connection.SendAsync(
                $"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {Page.Length}\r\nConnection: close\r\n\r\n{Page}");
        });
        await gateway.RouteAsync("page", "/page", site.Port);
        await gateway.RouteAsync("r", "/live", origin.Port, """ "plugins":{"sse-resume":{}} """);
        var page = await chromium.Browser.NewPageAsync();
        await page.GotoAsync(gateway.Url("/page").ToString());
        await origin.SendAsync("retry: 50\n\n");
        for (var n = 1; n <= 9; n++)
        {
            await origin.SendAsync($"data: {n}\n\n");
            await page.WaitForFunctionAsync($"received.length === {n}");
            if (n % 3 == 0)
            {
                // a network that breaks: the client's side alone
                Assert.Single(gateway.Gateway.Live.List(), stream => stream.Look() is { Phase: not "detached" }).Kill("the network");
                await origin.SendAsync($"data: {n}b\n\n");
                await page.WaitForFunctionAsync($"received.at(-1) === '{n}b'");
                await page.EvaluateAsync("received.pop()");
            }
        }
        Assert.Equal(Enumerable.Range(1, 9).Select(n => n.ToString(CultureInfo.InvariantCulture)),
            await page.EvaluateAsync<string[]>("received"));
        await page.CloseAsync();
    }
}

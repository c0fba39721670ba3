using System.Net;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams;

/// <summary>Streams as operators see and end them: lists, filters, pages, metrics, log lines.</summary>
public sealed class StreamsApiTests : IAsyncLifetime
{
    ScriptedOrigin _origin = null!;
    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public ValueTask InitializeAsync() => StartAsync("sluice: {streams: {access_log_start: true}}");

    async ValueTask StartAsync(string config)
    {
        _origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            var type = head.Contains("/lines", StringComparison.Ordinal) ? "application/x-ndjson"
                : head.Contains("/body", StringComparison.Ordinal) ? "text/plain" : "text/event-stream";
            var first = head.Contains("/named", StringComparison.Ordinal) ? "20\r\nevent: tick\nid: 812\ndata: abcd\n\n\r\n"
                : head.Contains("/held", StringComparison.Ordinal) ? "3\r\n: x\r\n" : "9\r\ndata: 1\n\n\r\n";
            await connection.SendAsync($"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nTransfer-Encoding: chunked\r\n\r\n{first}");
            if (head.Contains("/flood", StringComparison.Ordinal))
            {
                await FloodAsync(connection);
                return;
            }
            if (!await connection.ReadEndAsync())
            {
                await connection.SendAsync("0\r\n\r\n");
            }
        });
        _gateway = await TestGateway.StartAsync(
            "nginx_config:\n  http:\n    access_log_format: "
                + "'$uri|$sluice_stream_kind|$sluice_stream_phase|$sluice_stream_end|$sluice_events|$sluice_stream_id'\n" + config);
        await _gateway.PutAsync("/global_rules/1", """{"plugins":{"prometheus":{}}}""");
        await _gateway.RouteAsync("live", "/live", _origin.Port);
        await _gateway.RouteAsync("seen", "/seen", _origin.Port, "\"plugins\":{\"sse\":{}}");
        await _gateway.RouteAsync("lines", "/lines", _origin.Port);
        await _gateway.RouteAsync("body", "/body", _origin.Port);
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    /// <summary>More than sockets hold for a client that does not read; over when that has gone.</summary>
    static async Task FloodAsync(OriginConnection connection)
    {
        var chunk = $"10000\r\n{new string('x', 65536)}\r\n";
        try
        {
            while (true)
            {
                await connection.SendAsync(chunk);
            }
        }
        catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
        {
            // the gateway has closed
        }
    }

    async Task<OriginConnection> OpenAsync(string path, string until = "data: 1\n\n\r\n")
    {
        var (client, head) = await RawConnection.GetAsync(_gateway.EndPoint, path);
        Assert.StartsWith("HTTP/1.1 200 ", head, StringComparison.Ordinal);
        await client.ReadUntilAsync(until);
        return client;
    }

    async Task<string> RoutesAsync(string query)
    {
        var list = await _gateway.ControlAsync("/v1/streams" + query);
        return string.Join(' ', list["streams"]!.AsArray().Select(row => (string?)row!["route"]));
    }

    async Task<(HttpStatusCode Status, string Body)> SendAsync(HttpMethod method, string path, bool withKey = true)
    {
        using var request = new HttpRequestMessage(method, $"http://{_gateway.Gateway.ControlEndpoint}{path}");
        if (withKey)
        {
            request.Headers.Add("X-API-KEY", TestGateway.AdminKey);
        }
        using var response = await _gateway.Client.SendAsync(request, Cancel);
        return (response.StatusCode, (await response.Content.ReadAsStringAsync(Cancel)).TrimEnd());
    }

    async Task<string> MetricsAsync()
    {
        using var text = new MemoryStream();
        await _gateway.Client.GetStreamAsync($"http://{_gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics", Cancel)
            .ContinueWith(stream => stream.Result.CopyTo(text), Cancel, default, TaskScheduler.Default);
        return System.Text.Encoding.UTF8.GetString(text.ToArray());
    }

    [Fact]
    public async Task A_list_shows_those_that_are_meant_page_by_page()
    {
        using var one = await OpenAsync("/live?token=s3cret&page=2");
        using var two = await OpenAsync("/seen");
        using var three = await OpenAsync("/lines");
        using var four = await OpenAsync("/body");
        Assert.Equal("live seen lines body", await RoutesAsync(""));
        Assert.Equal("body lines seen live", await RoutesAsync("?sort=age"));
        Assert.Equal("live seen", await RoutesAsync("?kind=sse"));
        Assert.Equal("seen", await RoutesAsync("?mode=events&phase=open&min_age=0&idle=0s&slow=false&consumer=&client=127.0.0.0/8"));
        Assert.Equal("", await RoutesAsync("?client=10.0.0.0/8"));
        Assert.Equal("", await RoutesAsync("?idle=10m"));
        Assert.Equal("", await RoutesAsync("?slow=true"));

        var first = await _gateway.ControlAsync("/v1/streams?limit=3");
        Assert.Equal((4, 3), ((int)first["total"]!, first["streams"]!.AsArray().Count));
        Assert.Equal("body", await RoutesAsync($"?limit=3&cursor={first["next"]}"));
        Assert.Null((await _gateway.ControlAsync($"/v1/streams?limit=3&cursor={first["next"]}"))["next"]);

        Assert.Equal("""{"total":4,"groups":[{"kind":"sse","count":2},{"kind":"ndjson","count":1},{"kind":"body","count":1}]}""",
            (await _gateway.ControlAsync("/v1/streams?by=kind")).ToJsonString());

        var row = (await _gateway.ControlAsync("/v1/streams?route=live"))["streams"]![0]!;
        Assert.Equal(("/live?token=***&page=***", null), ((string)row["uri"]!, row["events"]));
        row = (await _gateway.ControlAsync("/v1/streams?route=seen"))["streams"]![0]!;
        Assert.Equal((1, 9), ((int)row["events"]!, (int)row["last_event"]!["bytes"]!));
        Assert.NotNull(row["first_event_ms"]);
    }

    [Theory]
    [InlineData("rout=live", "unknown argument \"rout\"; did you mean \"route\"?")]
    [InlineData("kind=sss", "argument \"kind\": \"sss\" is none of body, sse, ndjson, grpc, eventstream, websocket, tunnel")]
    [InlineData("client=x", "argument \"client\": \"x\" is no address or range")]
    [InlineData("idle=5x",
        "argument \"idle\": \"5x\" is no duration: write seconds as a number, or \"500ms\", \"15s\", \"5m\", \"2h\", \"1d\"")]
    [InlineData("slow=1", "argument \"slow\": \"1\" is neither true nor false")]
    [InlineData("route=a&route=b", "argument \"route\" is given twice")]
    [InlineData("limit=1001", "argument \"limit\" is no number from 1 to 1000: \"1001\"")]
    [InlineData("cursor=5", "argument \"cursor\" is none that a list gave as \"next\": \"5\"")]
    [InlineData("sort=size", "argument \"sort\" is none of age, bytes, events, queue, idle (with - in front: descending): \"size\"")]
    [InlineData("by=rout",
        "argument \"by\" is none of route, service, consumer, kind, phase, mode, node, protocol: \"rout\"; did you mean \"route\"?")]
    public async Task Arguments_that_make_no_sense_are_refused(string query, string error)
    {
        var (status, body) = await SendAsync(HttpMethod.Get, "/v1/streams?" + query);
        Assert.Equal((HttpStatusCode.BadRequest, error), (status, (string)JsonNode.Parse(body)!["error_msg"]!));
    }

    [Fact]
    public async Task Streams_are_ended_by_filter_and_known_for_a_while()
    {
        using var one = await OpenAsync("/live");
        using var two = await OpenAsync("/live");
        using var other = await OpenAsync("/seen");
        var id = (string)(await _gateway.ControlAsync("/v1/streams?route=live"))["streams"]![0]!["id"]!;
        Assert.Equal((HttpStatusCode.Unauthorized,
            """{"error_msg":"this needs an admin key in X-API-KEY, or sluice.streams.control_write"}"""),
            await SendAsync(HttpMethod.Delete, "/v1/streams?route=live", withKey: false));
        Assert.Equal((HttpStatusCode.BadRequest, """{"error_msg":"name at least one filter, or all=true"}"""),
            await SendAsync(HttpMethod.Delete, "/v1/streams"));
        Assert.Equal((HttpStatusCode.Accepted, """{"matched":2}"""),
            await SendAsync(HttpMethod.Delete, "/v1/streams?route=live&over=50ms&reason=move"));
        Assert.Equal("", (await one.ReadRestAsync()).Text);
        Assert.Equal("", (await two.ReadRestAsync()).Text);
        await Eventually.HoldsAsync(async () => await RoutesAsync("") == "seen", "not exactly those that were meant are gone");
        await Eventually.HoldsAsync(async () => (await SendAsync(HttpMethod.Get, "/v1/streams/" + id)).Status == HttpStatusCode.OK,
            "the page of a stream that has ended is gone");
        var row = await _gateway.ControlAsync("/v1/streams/" + id);
        Assert.Equal(("killed", "open", 9), ((string)row["reason"]!, (string)row["phase"]!, (int)row["bytes"]!));
        Assert.NotNull(row["ended"]);
        await _gateway.ErrorLogSaysAsync($"stream {id} (route live, consumer -) is ended from 127.0.0.1: move");
    }

    [Theory]
    [InlineData("", "the stream was ended")]
    [InlineData("?reason=we%20move", "we move")]
    [InlineData("?mode=end&reason=bye", "bye")]
    [InlineData("?mode=abort&reason=bye", null)]
    public async Task Where_there_are_words_for_an_ending_the_client_gets_them(string query, string? message)
    {
        await _gateway.RouteAsync("worded", "/worded", _origin.Port, "\"plugins\":{\"streaming\":{\"reconnect\":{}}}");
        using var client = await OpenAsync("/worded");
        var id = (string)(await _gateway.ControlAsync("/v1/streams"))["streams"]![0]!["id"]!;
        Assert.Equal((HttpStatusCode.OK, """{"ended":1}"""), await SendAsync(HttpMethod.Delete, $"/v1/streams/{id}{query}"));
        if (message is not null)
        {
            var data = $"event: end\ndata: {{\"reason\":\"killed\",\"message\":\"{message}\"}}\n\n";
            await client.ExpectAsync($"{data.Length:x}\r\n{data}\r\n0\r\n\r\n");
        }
        else
        {
            Assert.Equal("", (await client.ReadRestAsync()).Text);
        }
        await Eventually.HoldsAsync(async () => (string?)(await _gateway.ControlAsync("/v1/streams/" + id))["reason"] == "killed",
            "it goes on");
        await _gateway.ErrorLogSaysAsync($"stream {id} (route worded, consumer -) is ended from 127.0.0.1: ");
        Assert.DoesNotContain("[error]", _gateway.ErrorLog, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_way_to_end_streams_that_is_none_is_refused()
    {
        var (status, body) = await SendAsync(HttpMethod.Delete, "/v1/streams/0000-0?mode=kill");
        Assert.Equal((HttpStatusCode.BadRequest, "argument \"mode\": \"kill\" is none of end, abort"),
            (status, (string)JsonNode.Parse(body)!["error_msg"]!));
    }

    [Fact]
    public async Task The_same_is_below_the_Admin_API()
    {
        using var one = await OpenAsync("/live");
        var (status, list) = await _gateway.AdminAsync(HttpMethod.Get, "/streams?route=live");
        Assert.Equal((HttpStatusCode.OK, 1), (status, (int)list!["total"]!));
        Assert.Equal(HttpStatusCode.Unauthorized, (await _gateway.AdminAsync(HttpMethod.Get, "/streams", key: "wrong")).Status);
        var (ended, body) = await _gateway.AdminAsync(HttpMethod.Delete, $"/streams/{list["streams"]![0]!["id"]}");
        Assert.Equal((HttpStatusCode.OK, 1), (ended, (int)body!["ended"]!));
    }

    [Fact]
    public async Task Counters_go_on_while_a_stream_runs_and_go_with_its_route()
    {
        using (await OpenAsync("/seen"))
        {
            await _gateway.MetricsSayAsync(
                "sluice_active_streams{route=\"seen\",kind=\"sse\"} 1\n",
                "sluice_stream_events_total{route=\"seen\"} 1\n",
                "sluice_stream_bytes_total{route=\"seen\",direction=\"sent\"} 9\n",
                "sluice_stream_bytes_total{route=\"seen\",direction=\"received\"} 9\n",
                "sluice_time_to_first_event_seconds_count{route=\"seen\"} 1\n");
        }
        await Eventually.HoldsAsync(async () =>
            (await MetricsAsync()).Contains("sluice_stream_ends_total{route=\"seen\",reason=\"client_gone\"} 1\n",
                StringComparison.Ordinal), "the end is not counted");
        await _gateway.MetricsSayAsync("sluice_stream_bytes_total{route=\"seen\",direction=\"sent\"} 9\n");
        await _gateway.AdminAsync(HttpMethod.Delete, "/routes/seen");
        Assert.DoesNotContain("route=\"seen\"", await MetricsAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_stream_is_in_the_access_log_at_its_head_and_at_its_end()
    {
        string[] Lines() => File.Exists(Path.Combine(_gateway.Prefix, "logs", "access.log"))
            ? File.ReadAllLines(Path.Combine(_gateway.Prefix, "logs", "access.log")) : [];
        using (await OpenAsync("/seen"))
        {
            var id = (string)(await _gateway.ControlAsync("/v1/streams"))["streams"]![0]!["id"]!;
            await Eventually.TrueAsync(() => Lines().SequenceEqual([$"/seen|sse|head|-|0|{id}"]), () => string.Join('\n', Lines()));
        }
        await Eventually.TrueAsync(() => Lines() is [_, var line]
            && line.StartsWith("/seen|sse|open|client_gone|1|", StringComparison.Ordinal), () => string.Join('\n', Lines()));
        using (await OpenAsync("/body"))
        {
        }
        await Eventually.TrueAsync(() => Lines() is [_, _, var line]
            && line.StartsWith("/body|body|open|client_gone|-|", StringComparison.Ordinal), () => string.Join('\n', Lines()));
    }

    [Fact]
    public async Task Beyond_the_most_streams_new_ones_are_refused_and_other_requests_go_on()
    {
        await DisposeAsync();
        await StartAsync("sluice: {streams: {max: 2, control_write: true}}");
        using var one = await OpenAsync("/live");
        using var two = await OpenAsync("/lines");
        using (var refused = await _gateway.Client.GetAsync(_gateway.Url("/live"), Cancel))
        {
            Assert.Equal((HttpStatusCode.ServiceUnavailable, """{"error_msg":"too many streams"}""" + "\n"),
                (refused.StatusCode, await refused.Content.ReadAsStringAsync(Cancel)));
        }
        using var body = await OpenAsync("/body");
        await _gateway.MetricsSayAsync("sluice_streams_refused_total{route=\"live\",reason=\"max\"} 1\n");
        Assert.Equal((HttpStatusCode.Accepted, """{"matched":1}"""),
            await SendAsync(HttpMethod.Delete, "/v1/streams?kind=ndjson", withKey: false));
        await Eventually.HoldsAsync(async () => await RoutesAsync("") == "live body", "the stream goes on");
        using var three = await OpenAsync("/live");
    }

    [Fact]
    public async Task A_row_says_everything_that_is_known_of_a_stream()
    {
        await _gateway.RouteAsync("named", "/named", _origin.Port,
            "\"plugins\":{\"streaming\":{\"event_idle_timeout\":\"30m\",\"max_duration\":\"1h\",\"jitter\":0}}");
        using var one = await OpenAsync("/named", "data: abcd\n\n\r\n");
        var row = (await _gateway.ControlAsync("/v1/streams?route=named"))["streams"]![0]!.AsObject();
        Assert.Equal(
            "id kind mode phase route service consumer client protocol method uri node started age_ms first_byte_ms first_event_ms "
                + "events bytes events_per_second last_event max_gap_ms "
                + "queue heartbeats lease ends_at_ms resumable topic idle_ms slow taps",
            string.Join(' ', row.Select(static pair => pair.Key)));
        Assert.Equal(("sse", "events", "open", 1, 32),
            ((string)row["kind"]!, (string)row["mode"]!, (string)row["phase"]!, (int)row["events"]!, (int)row["bytes"]!));
        Assert.Equal(("tick", "812", 32),
            ((string)row["last_event"]!["name"]!, (string)row["last_event"]!["id"]!, (int)row["last_event"]!["bytes"]!));
        Assert.Equal(3_600_000, (int)row["ends_at_ms"]!);
        Assert.Equal("""{"bytes":0,"events":0,"dropped":0}|0|{"expires_in_ms":null}|false||""",
            $"{row["queue"]!.ToJsonString()}|{row["heartbeats"]}|{row["lease"]!.ToJsonString()}|{row["resumable"]!.ToJsonString()}|{row["topic"]}|{row["max_gap_ms"]}");
        Assert.Equal(row.ToJsonString().Split("\"age_ms\"")[0],
            (await _gateway.ControlAsync($"/v1/streams/{row["id"]}")).ToJsonString().Split("\"age_ms\"")[0]);

        using var plain = await OpenAsync("/live");
        row = (await _gateway.ControlAsync("/v1/streams?route=live"))["streams"]![0]!.AsObject();
        Assert.Equal("null,null,null,null,null",
            string.Join(',',
                ((string[])["events", "events_per_second", "last_event", "max_gap_ms", "ends_at_ms"]).Select(
                    name => row[name]?.ToJsonString() ?? "null")));
    }

    [Fact]
    public async Task Clients_of_one_history_are_seen_together_and_its_secret_is_not()
    {
        await _gateway.RouteAsync("kept", "/named", _origin.Port, "\"plugins\":{\"sse-resume\":{}}");
        using var first = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/named"));
        using var one = await _gateway.Client.SendAsync(first, HttpCompletionOption.ResponseHeadersRead, Cancel);
        var id = one.Headers.GetValues("X-Sluice-Stream-Id").Single();
        await Eventually.HoldsAsync(async () => (await _gateway.ControlAsync("/v1/streams?route=kept"))["streams"]!.AsArray() is [{ } row]
            && (int?)row["events"] == 1, "the event is not counted");
        using var again = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/named")) { Headers = { { "Last-Event-ID", id + ".1" } } };
        using var two = await _gateway.Client.SendAsync(again, HttpCompletionOption.ResponseHeadersRead, Cancel);
        var list = await _gateway.ControlAsync("/v1/streams?route=kept&mode=topic&sort=age");
        Assert.Equal(2, (int)list["total"]!);
        Assert.DoesNotContain(id, list.ToJsonString(), StringComparison.Ordinal);
        var row = list["streams"]!.AsArray().Single(row => (int?)row!["events"] == 1)!;
        Assert.Equal(("tick", "1", true),
            ((string)row["last_event"]!["name"]!, (string)row["last_event"]!["id"]!, (bool)row["resumable"]!));
        Assert.Equal(2, (int)(await _gateway.ControlAsync($"/v1/streams?topic={row["topic"]}"))["total"]!);
        Assert.Equal(0, (int)(await _gateway.ControlAsync("/v1/streams?topic=0123456789ab"))["total"]!);
    }

    [Fact]
    public async Task A_head_that_is_held_is_seen_as_held()
    {
        await _gateway.RouteAsync("held", "/held", _origin.Port, "\"plugins\":{\"streaming\":{\"hold\":\"event\"}}");
        using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/held"));
        using var cancel = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var answer = _gateway.Client.SendAsync(request, cancel.Token);
        await Eventually.HoldsAsync(async () => await RoutesAsync("?phase=held") == "held", "nobody is held");
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => answer);
    }

    [Fact]
    public async Task Who_is_behind_comes_first_and_is_counted()
    {
        await _gateway.RouteAsync("flood", "/flood", _origin.Port);
        using var quick = await OpenAsync("/live");
        using (var slow = (await RawConnection.GetAsync(_gateway.EndPoint, "/flood")).Connection)
        {
            await Eventually.HoldsAsync(async () => await RoutesAsync("?slow=true") == "flood", "nobody is slow");
            Assert.Equal("flood live", await RoutesAsync("?sort=-queue"));
            await Eventually.HoldsAsync(
                async () => (await MetricsAsync()).Contains("sluice_slow_streams{route=\"flood\",policy=\"block\"} 1\n",
                    StringComparison.Ordinal), "the slow one is not counted");
            await _gateway.MetricsSayAsync("sluice_stream_queue_bytes{route=\"flood\"} 0\n");
        }
        await Eventually.HoldsAsync(
            async () => (await MetricsAsync()).Contains("sluice_slow_streams{route=\"flood\",policy=\"block\"} 0\n",
                StringComparison.Ordinal), "the slow one is still counted");
    }

    [Fact]
    public async Task Heartbeats_and_invitations_to_come_back_are_counted()
    {
        await _gateway.RouteAsync("beat", "/live", _origin.Port, "\"plugins\":{\"streaming\":{\"heartbeat\":{\"interval\":1}}}");
        using var one = await OpenAsync("/live");
        await one.ReadUntilAsync(": ping\n\n");
        // a beat is counted when it is on its way
        await Eventually.HoldsAsync(
            async () => System.Text.RegularExpressions.Regex.IsMatch(await MetricsAsync(),
                "sluice_stream_heartbeats_total\\{route=\"beat\"} [1-9]"), "the heartbeat is not counted");
        Assert.True((int)(await _gateway.ControlAsync("/v1/streams?route=beat"))["streams"]![0]!["heartbeats"]! >= 1);

        await _gateway.PutAsync("/routes/back",
            """{"uri":"/back","plugins":{"streaming":{"reconnect":{"on":"auto"}},"fault-injection":{"abort":{"http_status":503}}}}""");
        using var request = new HttpRequestMessage(HttpMethod.Get,
            _gateway.Url("/back")) { Headers = { { "Accept", "text/event-stream" } } };
        using (var answer = await _gateway.Client.SendAsync(request, Cancel))
        {
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        }
        await Eventually.HoldsAsync(
            async () => (await MetricsAsync()).Contains("sluice_stream_reconnects_total{route=\"back\",status=\"503\"} 1\n",
                StringComparison.Ordinal), "the invitation is not counted");
        await _gateway.AdminAsync(HttpMethod.Delete, "/routes/back");
        Assert.DoesNotContain("route=\"back\"", await MetricsAsync(), StringComparison.Ordinal);
    }
}

using System.Globalization;
using System.Net;
using System.Text.RegularExpressions;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Observability;

/// <summary>What is recorded of an exchange, in the access log and in the metrics, is what happened.</summary>
public sealed class ExchangeRecordTests(ExchangeRecordTests.Fixture fixture) : IClassFixture<ExchangeRecordTests.Fixture>
{
    /// <summary>Every field of the log, as <c>name=value</c>.</summary>
    static readonly string[] Fields =
    [
        "route_id", "status", "request", "request_method", "uri", "request_uri", "real_request_uri", "args", "arg_q", "is_args",
        "http_x_mark", "cookie_c", "host", "http_host",
        "scheme", "https", "server_protocol", "content_type", "content_length", "request_length", "request_id", "remote_user",
        "remote_addr", "remote_port", "realip_remote_addr", "server_addr", "server_port", "connection", "connection_requests",
        "body_bytes_sent", "bytes_sent", "sent_http_x_answer", "request_time", "request_completion",
        "upstream_addr", "upstream_status", "upstream_scheme", "upstream_host", "upstream_uri", "upstream_connect_time",
        "upstream_header_time",
        "upstream_response_time", "upstream_bytes_received", "upstream_response_length", "upstream_http_x_answer", "balancer_ip",
        "balancer_port",
        "route_name", "service_id", "service_name", "matched_uri", "consumer_name", "consumer_group_id",
        "sluice_buffering", "sluice_buffering_rule", "sluice_failure", "pid", "hostname", "msec",
    ];

    public sealed class Fixture : ProtocolsGateway
    {
        protected override string Nginx => "http { proxy_buffering off; }";
    }

    TestGateway Gateway => fixture.Gateway;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    static int _numbers;

    /// <summary>A gateway whose log has every field.</summary>
    static Task<TestGateway> LoggedAsync() => TestGateway.StartAsync(
        $"nginx_config:\n  http:\n    access_log_format: '{string.Join('|', Fields.Select(field => $"{field}=${field}"))}'");

    static async Task<Dictionary<string, string>> LineAsync(TestGateway gateway, string route)
    {
        var file = Path.Combine(gateway.Prefix, "logs", "access.log");
        string? line = null;
        await Eventually.TrueAsync(() => File.Exists(file)
            && (line = File.ReadAllLines(file)
                .LastOrDefault(one => one.StartsWith($"route_id={route}|", StringComparison.Ordinal))) is not null,
            $"no line of route {route} in the access log");
        return line!.Split('|').Select(field => field.Split('=', 2)).ToDictionary(field => field[0], field => field[1]);
    }

    /// <summary>nginx: log_format escape=default.</summary>
    [Fact]
    public async Task Octets_that_are_no_plain_text_are_written_as_such_once()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync(
            "nginx_config:\n  http:\n    access_log_format: 'route_id=$route_id|$http_user_agent|$request_uri'\n    "
                + "access_log_format_escape: default\n");
        await gateway.RouteAsync("bytes", "/*", origin.Port);
        await RawClient.AskAsync(gateway.EndPoint, "GET /%e4 HTTP/1.1\r\nHost: a\r\nUser-Agent: \u00e4\u00c3\u00a4\"\\\t\u007e\r\n\r\n");
        var file = Path.Combine(gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(file) && File.ReadAllText(file).EndsWith('\n'), "no line");
        Assert.Equal("route_id=bytes|\\xE4\\xC3\\xA4\\x22\\x5C\\x09~|/%e4\n", File.ReadAllText(file));
    }

    [Fact]
    public async Task Every_field_of_the_access_log_says_what_happened()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadUntilAsync("hello");
            await connection.SendAsync("HTTP/1.1 201 Created\r\nX-Answer: forty-two\r\nContent-Length: 7\r\n\r\ncreated");
            await connection.ReadEndAsync();
        });
        await using var gateway = await LoggedAsync();
        await gateway.PutAsync("/consumer_groups/g1", """{"plugins":{}}""");
        await gateway.PutAsync("/consumers", """{"username":"jack","group_id":"g1","plugins":{"key-auth":{"key":"k"}}}""");
        await gateway.PutAsync("/services/s1", $$"""{"name":"orders","upstream":{"nodes":{"127.0.0.1:{{origin.Port}}":1} } }""");
        await gateway.PutAsync("/routes/r1",
            """{"name":"all","uri":"/a/*","service_id":"s1","plugins":{"key-auth":{},"proxy-rewrite":{"uri":"/b","host":"inner.test"}}}""");
        var head =
            "POST /a/%78?q=1 HTTP/1.1\r\nHost: Log.test:80\r\nX-Mark: m\r\nCookie: c=crumb\r\napikey: k\r\nContent-Type: text/plain\r\n"
            + "Authorization: Basic dXNlcjpwYXNz\r\nContent-Length: 5\r\n\r\n";
        using var client = await RawClient.ConnectAsync(gateway.EndPoint);
        await client.SendAsync("GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal(404, (await client.AnswerAsync()).Status);
        await client.SendAsync(head + "hello");
        var answer = await client.AnswerAsync();
        Assert.Equal((201, "created"), (answer.Status, answer.Body));

        var line = await LineAsync(gateway, "r1");
        var expected = new Dictionary<string, string>
        {
            ["status"] = "201", ["request"] = "POST /a/%78?q=1 HTTP/1.1", ["request_method"] = "POST", ["uri"] = "/b",
                ["real_request_uri"] = "/a/%78?q=1",
            ["args"] = "q=1", ["arg_q"] = "1", ["is_args"] = "?", ["http_x_mark"] = "m", ["cookie_c"] = "crumb", ["host"] = "log.test",
                ["http_host"] = "Log.test:80",
            ["scheme"] = "http", ["https"] = "", ["server_protocol"] = "HTTP/1.1", ["content_type"] = "text/plain",
                ["content_length"] = "5",
            ["request_length"] = $"{head.Length + 5}", ["remote_user"] = "user", ["remote_addr"] = "127.0.0.1",
                ["realip_remote_addr"] = "127.0.0.1",
            ["server_addr"] = "127.0.0.1", ["server_port"] = $"{gateway.EndPoint.Port}", ["connection_requests"] = "2",
            ["body_bytes_sent"] = "7", ["sent_http_x_answer"] = "forty-two", ["request_completion"] = "OK",
            ["upstream_addr"] = $"127.0.0.1:{origin.Port}", ["upstream_status"] = "201", ["upstream_scheme"] = "http",
                ["upstream_host"] = "inner.test",
            ["upstream_uri"] = "/b?q=1", ["upstream_bytes_received"] = "7", ["upstream_response_length"] = "7",
                ["upstream_http_x_answer"] = "forty-two",
            ["balancer_ip"] = "127.0.0.1", ["balancer_port"] = $"{origin.Port}", ["route_name"] = "all", ["service_id"] = "s1",
                ["service_name"] = "orders",
            ["matched_uri"] = "/a/*", ["consumer_name"] = "jack", ["consumer_group_id"] = "g1", ["sluice_failure"] = "-",
                ["pid"] = $"{Environment.ProcessId}",
            ["hostname"] = Environment.MachineName, ["sluice_buffering"] = "on",
        };
        Assert.Equal(expected.OrderBy(field => field.Key),
            line.Where(field => expected.ContainsKey(field.Key)).OrderBy(field => field.Key));
        Assert.Matches("^[0-9a-f]{32}$", line["request_id"]);
        Assert.Matches("^[0-9]+$", line["connection"]);
        Assert.InRange(int.Parse(line["remote_port"], CultureInfo.InvariantCulture), 1, 65535);
        foreach (var time in (string[])["request_time", "upstream_connect_time", "upstream_header_time", "upstream_response_time"])
        {
            Assert.Matches(@"^\d+\.\d{3}$", line[time]);
        }
        Assert.True(Seconds("upstream_header_time") <= Seconds("upstream_response_time") + 0.001, "the head came after the whole");
        Assert.True(Seconds("upstream_response_time") <= Seconds("request_time") + 0.001, "the upstream took longer than the request");

        double Seconds(string field) => double.Parse(line[field], CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task Every_attempt_is_in_the_access_log()
    {
        await using var bad = ScriptedOrigin.Start(connection => connection.ReadHeadAsync());
        await using var good = EchoOrigin.Start();
        await using var gateway = await LoggedAsync();
        await gateway.PutAsync("/routes/r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:{{bad.Port}}":10,"127.0.0.1:{{good.Port}}":1} } }""");
        using (await gateway.Client.GetAsync(gateway.Url("/"), Cancel))
        {
        }
        var line = await LineAsync(gateway, "r1");
        Assert.Equal(($"127.0.0.1:{bad.Port}, 127.0.0.1:{good.Port}", "502, 200", "200", "-", $"{good.Port}"),
            (line["upstream_addr"], line["upstream_status"], line["status"], line["sluice_failure"], line["balancer_port"]));
    }

    [Theory]
    [InlineData("refused", "502", "502", "connect_refused")]
    [InlineData("no answer", "502", "502", "no_answer")]
    [InlineData("breaks off", "200", "200", "early_close")]
    [InlineData("bad response", "502", "502", "bad_response")]
    public async Task A_failure_is_in_the_access_log_by_its_kind(string how, string status, string upstream, string failure)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(how switch
            {
                "breaks off" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
                "bad response" => "SSH-2.0-OpenSSH\r\n\r\n",
                _ => "",
            });
        });
        await using var gateway = await LoggedAsync();
        await gateway.RouteAsync("r1", "/*", how == "refused" ? 1 : origin.Port);
        await Record.ExceptionAsync(async () =>
        {
            using var response = await gateway.Client.GetAsync(gateway.Url("/"), Cancel);
        });
        var line = await LineAsync(gateway, "r1");
        Assert.Equal((status, upstream, failure, ""),
            (line["status"], line["upstream_status"], line["sluice_failure"], line["request_completion"]));
    }

    [Theory]
    [InlineData(Protocol.Http1)]
    [InlineData(Protocol.H2c)]
    [InlineData(Protocol.TlsHttp1)]
    [InlineData(Protocol.TlsHttp2)]
    public async Task A_client_that_leaves_in_the_middle_of_a_stream_is_counted_as_gone(Protocol protocol)
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var (path, route) = await RouteAsync(origin.Port);
        using (var leave = CancellationTokenSource.CreateLinkedTokenSource(Cancel))
        {
            using var response = await fixture.SendAsync(protocol, path, cancel: leave.Token);
            using var events = new EventReader(await response.Content.ReadAsStreamAsync(leave.Token));
            await origin.SendAsync(EventOrigin.Event(1));
            await events.NextAsync();
            Assert.Equal(1, await MetricAsync($"sluice_active_streams{{route=\"{route}\",kind=\"sse\"}}"));
        }
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        await EndedAsync(route, "client_gone");
        Assert.Equal(0, await MetricAsync($"sluice_stream_ends_total{{route=\"{route}\",reason=\"complete\"}}"));
        Assert.Equal(0, await MetricAsync($"sluice_active_streams{{route=\"{route}\",kind=\"sse\"}}"));
        await Eventually.HoldsAsync(async () =>
            await MetricAsync($"apisix_bandwidth{{type=\"egress\",route=\"{route}\",") == EventOrigin.Event(1).Length,
            "the bytes that went out before are not counted");
    }

    [Theory]
    [InlineData("complete")]
    [InlineData("early_close")]
    [InlineData("reset")]
    [InlineData("read_timeout")]
    public async Task The_end_of_a_stream_is_counted_by_its_reason(string reason)
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        var (path, route) = await RouteAsync(origin.Port,
            reason == "read_timeout" ? """ "timeout":{"connect":10,"send":10,"read":0.3}, """ : "");
        using var response = await fixture.SendAsync(Protocol.Http1, path, cancel: Cancel);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync(Cancel));
        await origin.SendAsync(EventOrigin.Event(1));
        await events.NextAsync();
        switch (reason)
        {
            case "complete":
                origin.End();
                break;
            case "early_close":
                await origin.BreakOffAsync();
                break;
            case "reset":
                await origin.ResetAsync();
                break;
        }
        await EndedAsync(route, reason);
        Assert.Equal(1, await MetricAsync($"sluice_stream_duration_seconds_count{{route=\"{route}\"}}"));
        Assert.Equal(1, await MetricAsync($"sluice_time_to_first_byte_seconds_count{{route=\"{route}\"}}"));
        Assert.Equal(0, await MetricAsync($"apisix_http_latency_count{{type=\"request\",route=\"{route}\","));
        await Eventually.HoldsAsync(async () => await MetricAsync($"apisix_http_status{{code=\"200\",route=\"{route}\",") == 1,
            "the stream's status is not counted");
    }

    [Theory]
    [InlineData(Protocol.Http1)]
    [InlineData(Protocol.H2c)]
    public async Task Requests_bytes_and_latencies_are_counted_as_they_were(Protocol protocol)
    {
        await using var origin = EchoOrigin.Start();
        var (path, route) = await RouteAsync(origin.Port);
        var before = await MetricAsync("apisix_http_requests_total");
        long received = 0;
        for (var i = 0; i < 3; i++)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, fixture.Url(protocol, path))
            {
                Content = new ByteArrayContent(new byte[1000]),
                    Version = protocol == Protocol.H2c ? HttpVersion.Version20 : HttpVersion.Version11,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            };
            using var response = await fixture.Client(protocol).SendAsync(request, Cancel);
            received += (await response.Content.ReadAsByteArrayAsync(Cancel)).Length;
        }
        await Eventually.HoldsAsync(async () => await MetricAsync($"apisix_http_status{{code=\"200\",route=\"{route}\",") == 3,
            "not every request is counted");
        await Eventually.HoldsAsync(async () => await MetricAsync($"apisix_bandwidth{{type=\"ingress\",route=\"{route}\",") == 3000,
            "not what was received");
        await Eventually.HoldsAsync(async () =>
            (long)await MetricAsync($"apisix_bandwidth{{type=\"egress\",route=\"{route}\",") == received, "not what was sent");
        foreach (var type in (string[])["request", "upstream", "apisix"])
        {
            await Eventually.HoldsAsync(async () =>
                await MetricAsync($"apisix_http_latency_count{{type=\"{type}\",route=\"{route}\",") == 3, $"not each {type} has its time");
        }
        Assert.Equal(0, await MetricAsync($"sluice_stream_duration_seconds_count{{route=\"{route}\"}}"));
        Assert.True(await MetricAsync("apisix_http_requests_total") >= before + 3, "the gateway's own count is behind");
    }

    async Task<(string Path, string Route)> RouteAsync(int port, string more = "")
    {
        var route = $"recorded{Interlocked.Increment(ref _numbers)}";
        await Gateway.PutAsync($"/routes/{route}",
            $$"""{"uri":"/{{route}}",{{more}}"plugins":{"prometheus":{},"proxy-buffering":{"disable_proxy_buffering":true} },"upstream":{"nodes":{"127.0.0.1:{{port}}":1} } }""");
        return ($"/{route}", route);
    }

    Task EndedAsync(string route, string reason) => Eventually.HoldsAsync(
        async () => await MetricAsync($"sluice_stream_ends_total{{route=\"{route}\",reason=\"{reason}\"}}") == 1,
        $"no stream of {route} ended as {reason}");

    /// <summary>The value of the first series that begins so; 0 when there is none.</summary>
    async Task<double> MetricAsync(string series)
    {
        var text = await Gateway.Client.GetStringAsync(new Uri($"http://{Gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics"),
            Cancel);
        var found = Regex.Match(text, $"^{Regex.Escape(series)}.*? (\\S+)$", RegexOptions.Multiline);
        return found.Success ? double.Parse(found.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
    }
}

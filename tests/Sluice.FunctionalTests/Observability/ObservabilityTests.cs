using System.Net;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Observability;

/// <summary>What operators see: access log, error log, Control API, status.</summary>
public sealed class ObservabilityTests : IAsyncLifetime
{
    readonly ScriptedOrigin _origin = EchoOrigin.Start();
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync(
        "nginx_config:\n  http:\n    access_log_format: "
            + "'$remote_addr|$request|$status|$body_bytes_sent|$route_id|$upstream_addr|$upstream_status|$http_x_mark|$arg_q|$host|$uri|$consumer_name|$request_time'");

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_access_log_has_nginxs_and_APISIXs_variables()
    {
        await _gateway.RouteAsync("logged", "/logged/*", _origin.Port);
        using var request = new HttpRequestMessage(HttpMethod.Get,
            _gateway.Url("/logged/a%20b?q=1")) { Headers = { Host = "Log.test:80" } };
        request.Headers.Add("X-Mark", "quo\"te");
        using var answer = await _gateway.Client.SendAsync(request, Cancel);
        var length = (await answer.Content.ReadAsByteArrayAsync(Cancel)).Length;
        await _gateway.Client.GetAsync(_gateway.Url("/none"), Cancel);

        var lines = await LinesAsync(2);
        var line = lines.Single(one => one.Contains("/logged", StringComparison.Ordinal));
        Assert.StartsWith(
            $"127.0.0.1|GET /logged/a%20b?q=1 HTTP/1.1|200|{length}|logged|127.0.0.1:{_origin.Port}|200|quo\\x22te|1|log.test|/logged/a b|-|", line, StringComparison.Ordinal);
        Assert.Matches(@"\|\d+\.\d{3}$", line);
        Assert.StartsWith("127.0.0.1|GET /none HTTP/1.1|404|", lines.Single(one => one.Contains("/none", StringComparison.Ordinal)),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_log_line_cannot_be_forged()
    {
        await _gateway.RouteAsync("logged", "/*", _origin.Port);
        using var answer = await _gateway.Client.GetAsync(_gateway.Url("/x?q=a%0a127.0.0.1%7cforged"), Cancel);
        Assert.Single(await LinesAsync(1));
    }

    async Task<string[]> LinesAsync(int count)
    {
        var file = Path.Combine(_gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(file) && File.ReadAllLines(file).Length >= count, "no access log");
        return await File.ReadAllLinesAsync(file, Cancel);
    }

    [Fact]
    public async Task The_error_log_names_route_node_and_reason_of_a_failure()
    {
        await _gateway.RouteAsync("dead", "/dead", 1);
        await _gateway.Client.GetAsync(_gateway.Url("/dead"), Cancel);
        await _gateway.ErrorLogSaysAsync("connect_refused");
        var line = _gateway.ErrorLog.Split('\n').First(one => one.Contains("connect_refused", StringComparison.Ordinal));
        Assert.Contains("dead", line, StringComparison.Ordinal);
        Assert.Contains("127.0.0.1:1", line, StringComparison.Ordinal);
        Assert.Contains("[error]", line, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_Control_API_shows_what_runs()
    {
        await _gateway.PutAsync("/upstreams/u", $$"""{"type":"roundrobin","nodes":{"127.0.0.1:{{_origin.Port}}":1} }""");
        await _gateway.PutAsync("/services/s", """{"upstream_id":"u"}""");
        await _gateway.PutAsync("/routes/r", """{"uri":"/r","service_id":"s"}""");
        await _gateway.PutAsync("/plugin_metadata/batch-requests", """{"max_body_size":50}""");

        Assert.Equal("/apisix/routes/r", (string?)(await _gateway.ControlAsync("/v1/routes"))[0]!["key"]);
        Assert.Equal("/r", (string?)(await _gateway.ControlAsync("/v1/route/r"))["value"]!["uri"]);
        Assert.Equal("u", (string?)(await _gateway.ControlAsync("/v1/service/s"))["value"]!["upstream_id"]);
        Assert.Equal("/apisix/upstreams/u", (string?)(await _gateway.ControlAsync("/v1/upstreams"))[0]!["key"]);
        Assert.Single((await _gateway.ControlAsync("/v1/services")).AsArray());
        Assert.Equal(50, (int)(await _gateway.ControlAsync("/v1/plugin_metadata/batch-requests"))["max_body_size"]!);
        Assert.Empty((await _gateway.ControlAsync("/v1/healthcheck")).AsArray());
        Assert.Contains((await _gateway.ControlAsync("/v1/plugins")).AsArray(),
            plugin => (string?)plugin!["name"] == "key-auth" && (int)plugin["priority"]! == 2500);
        var schema = await _gateway.ControlAsync("/v1/schema");
        Assert.NotNull(schema["main"]!["route"]);
        Assert.NotNull(schema["plugins"]!["limit-count"]!["schema"]);
        var buffering = await _gateway.ControlAsync("/v1/buffering?uri=/r");
        Assert.NotNull(buffering);
        foreach (var unknown in (string[])["/v1/nothing", "/v1/route/none", "/"])
        {
            using var answer = await _gateway.Client.GetAsync(new Uri($"http://{_gateway.Gateway.ControlEndpoint}{unknown}"), Cancel);
            Assert.Equal(HttpStatusCode.NotFound, answer.StatusCode);
            Assert.NotNull(JsonNode.Parse(await answer.Content.ReadAsStringAsync(Cancel))!["error_msg"]);
        }
    }

    [Fact]
    public async Task Status_answers_and_is_ready_until_the_gateway_stops()
    {
        foreach (var path in (string[])["/status", "/status/ready"])
        {
            Assert.Equal("""{"status":"ok"}""",
                (await _gateway.Client.GetStringAsync(new Uri($"http://{_gateway.Gateway.StatusEndpoint}{path}"), Cancel)).TrimEnd());
        }
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await _gateway.RouteAsync("stream", "/stream", origin.Port);
        using var stream = await _gateway.Client.GetAsync(_gateway.Url("/stream"), HttpCompletionOption.ResponseHeadersRead, Cancel);
        var stopping = _gateway.Gateway.StopAsync(graceful: true);
        using var answer = await _gateway.Client.GetAsync(new Uri($"http://{_gateway.Gateway.StatusEndpoint}/status/ready"), Cancel);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.StatusCode);
        Assert.Contains("shutting down", await answer.Content.ReadAsStringAsync(Cancel), StringComparison.Ordinal);
        await origin.SendAsync(EventOrigin.Event(1));
        origin.End();
        Assert.Equal(EventOrigin.Event(1), await stream.Content.ReadAsStringAsync(Cancel));
        await stopping;
    }
}

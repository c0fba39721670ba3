using System.Net;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Upstreams;

public class HealthCheckTests
{
    /// <summary>An origin with a name whose health page answers what the test says.</summary>
    sealed class Patient(string name) : IAsyncDisposable
    {
        WebOrigin _origin = null!;

        public int Status { get; set; } = 200;

        public int AnswerStatus { get; set; } = 200;

        public string? LastProbe { get; private set; }

        public int Probes;

        public int Port => _origin.Port;

        public static async Task<Patient> StartAsync(string name, int port = 0)
        {
            var patient = new Patient(name);
            patient._origin = await WebOrigin.StartAsync(patient.AnswerAsync, port);
            return patient;
        }

        Task AnswerAsync(HttpContext context)
        {
            if (context.Request.Path == "/health")
            {
                LastProbe =
                    $"{context.Request.Method} {context.Request.Protocol} {context.Request.Host} {context.Request.Headers["X-Probe"]}";
                Interlocked.Increment(ref Probes);
                context.Response.StatusCode = Status;
                return Task.CompletedTask;
            }
            context.Response.StatusCode = AnswerStatus;
            return context.Response.WriteAsync(name);
        }

        public ValueTask DisposeAsync() => _origin.DisposeAsync();
    }

    static string Upstream(string checks, params Patient[] patients) =>
        $$"""{"type":"roundrobin","nodes":{ {{string.Join(',', patients.Select(patient => $"\"127.0.0.1:{patient.Port}\":1"))}} },"checks":{{checks}}}""";

    static async Task<string[]> StatesAsync(TestGateway gateway, string path) =>
        [.. (await gateway.ControlAsync($"/v1/healthcheck/{path}"))["nodes"]!.AsArray().Select(node => (string)node!["status"]!)];

    static async Task BecomesAsync(TestGateway gateway, string path, params string[] states)
    {
        string[] now = [];
        for (var tries = 0; tries < 500; tries++)
        {
            now = await StatesAsync(gateway, path);
            if (now.SequenceEqual(states))
            {
                return;
            }
            await Task.Delay(20);
        }
        Assert.Equal(states, now);
    }

    static async Task<string[]> AskAsync(TestGateway gateway, int times)
    {
        List<string> answers = [];
        for (var i = 0; i < times; i++)
        {
            using var response = await gateway.Client.GetAsync(gateway.Url("/"));
            answers.Add(await response.Content.ReadAsStringAsync());
        }
        return [.. answers.Distinct().Order()];
    }

    [Fact]
    public async Task Each_address_of_a_name_has_a_health_of_its_own()
    {
        using var dns = new DnsServer { Ttl = 60 };
        dns.Addresses("two.test", "127.0.0.1", "127.0.0.2");
        // listens on 127.0.0.1 only
        await using var origin = await Patient.StartAsync("one");
        await using var gateway = await TestGateway.StartAsync(apisix: $"dns_resolver: [\"{dns.EndPoint}\"]");
        await gateway.PutAsync("/routes/1", $$"""
            {"uri":"/*","upstream":{"nodes":{"two.test:{{origin.Port}}":1},"pass_host":"node","retries":0,
             "checks":{"active":{"http_path":"/health","healthy":{"interval":1,"successes":1},"unhealthy":{"interval":1,"tcp_failures":1} } } } }
            """);
        await BecomesAsync(gateway, "routes/1", "healthy", "unhealthy");
        var nodes = (await gateway.ControlAsync("/v1/healthcheck/routes/1"))["nodes"]!.AsArray();
        Assert.Equal(["127.0.0.1 two.test", "127.0.0.2 two.test"], nodes.Select(node => $"{node!["ip"]} {node["hostname"]}"));
        Assert.Equal(["one"], await AskAsync(gateway, 6));
        Assert.Equal($"GET HTTP/1.0 two.test ", origin.LastProbe);

        // a change of something else forgets nothing
        await gateway.PutAsync("/routes/1", $$"""
            {"uri":"/*","upstream":{"nodes":{"two.test:{{origin.Port}}":1},"pass_host":"node","retries":0,"retry_timeout":5,
             "checks":{"active":{"http_path":"/health","healthy":{"interval":1,"successes":1},"unhealthy":{"interval":1,"tcp_failures":1} } } } }
            """);
        Assert.Equal(["one"], await AskAsync(gateway, 6));
    }

    const string Quick = """
        {"active":{"http_path":"/health","req_headers":["X-Probe: yes"],"host":"checked.example",
          "healthy":{"interval":1,"successes":1},"unhealthy":{"interval":1,"http_failures":1,"tcp_failures":1,"timeouts":1} } }
        """;

    [Fact]
    public async Task An_active_check_takes_a_node_out_and_back_in()
    {
        await using var a = await Patient.StartAsync("a");
        await using var b = await Patient.StartAsync("b");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/*","upstream":{{Upstream(Quick, a, b)}} }""");
        await Eventually.TrueAsync(() => Volatile.Read(ref a.Probes) > 0 && Volatile.Read(ref b.Probes) > 0, "no probe came");
        Assert.Equal("GET HTTP/1.0 checked.example yes", a.LastProbe);
        Assert.Equal(["a", "b"], await AskAsync(gateway, 4));

        b.Status = 500;
        await BecomesAsync(gateway, "routes/1", "healthy", "unhealthy");
        Assert.Equal(["a"], await AskAsync(gateway, 6));
        await gateway.ErrorLogSaysAsync($"/apisix/routes/1: node 127.0.0.1:{b.Port} is unhealthy now (active check, HttpFailure)");
        var metrics = await gateway.Client.GetStringAsync(new Uri($"http://{gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics"));
        Assert.Contains($"apisix_upstream_status{{name=\"/apisix/routes/1\",ip=\"127.0.0.1\",port=\"{a.Port}\"}} 1", metrics,
            StringComparison.Ordinal);
        Assert.Contains($"apisix_upstream_status{{name=\"/apisix/routes/1\",ip=\"127.0.0.1\",port=\"{b.Port}\"}} 0", metrics,
            StringComparison.Ordinal);

        // what is around the upstream may change: health goes on
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/*","priority":3,"upstream":{{Upstream(Quick, a, b)}} }""");
        Assert.Equal(["healthy", "unhealthy"], await StatesAsync(gateway, "routes/1"));

        b.Status = 200;
        await BecomesAsync(gateway, "routes/1", "healthy", "healthy");
        Assert.Equal(["a", "b"], await AskAsync(gateway, 4));
        await gateway.ErrorLogSaysAsync($"/apisix/routes/1: node 127.0.0.1:{b.Port} is healthy again (active check)");
    }

    [Fact]
    public async Task When_all_nodes_are_unhealthy_all_are_tried()
    {
        await using var a = await Patient.StartAsync("a");
        await using var b = await Patient.StartAsync("b");
        (a.Status, b.Status) = (500, 500);
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/*","upstream":{{Upstream(Quick, a, b)}} }""");
        await BecomesAsync(gateway, "routes/1", "unhealthy", "unhealthy");
        Assert.Equal(["a", "b"], await AskAsync(gateway, 4));
    }

    [Fact]
    public async Task A_tcp_check_asks_only_for_a_connection()
    {
        await using var a = await Patient.StartAsync("a");
        await using var silent = ScriptedOrigin.Start(connection => connection.StallAsync());
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""
            {"uri":"/*","upstream":{"nodes":[
              {"host":"127.0.0.1","port":{{a.Port}},"weight":1},{"host":"127.0.0.1","port":1,"weight":1},{"host":"127.0.0.1","port":{{silent.Port}},"weight":1}],
              "checks":{"active":{"type":"tcp","unhealthy":{"tcp_failures":2} } } } }
            """);
        await BecomesAsync(gateway, "routes/1", "healthy", "unhealthy", "healthy");
        var node = (await gateway.ControlAsync("/v1/healthcheck/routes/1"))["nodes"]![1]!;
        Assert.Equal("""{"success":0,"http_failure":0,"tcp_failure":2,"timeout_failure":0}""", node["counter"]!.ToJsonString());
    }

    [Fact]
    public async Task A_check_that_gets_no_answer_in_time_counts_as_a_timeout()
    {
        await using var silent = ScriptedOrigin.Start(connection => connection.StallAsync());
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""
            {"uri":"/*","upstream":{"nodes":{"127.0.0.1:{{silent.Port}}":1},"checks":{"active":{"timeout":0.2,"unhealthy":{"timeouts":1} } } } }
            """);
        await BecomesAsync(gateway, "routes/1", "unhealthy");
        Assert.Equal(1, (int)(await gateway.ControlAsync("/v1/healthcheck/routes/1"))["nodes"]![0]!["counter"]!["timeout_failure"]!);
    }

    [Fact]
    public async Task An_https_check_verifies_the_certificate_unless_told_otherwise()
    {
        using var certificate = ScriptedOrigin.SelfSigned("localhost");
        await using var origin = await WebOrigin.StartAsync(
            context => context.Response.WriteAsync("ok"), https: new() { ServerCertificate = certificate });
        await using var gateway = await TestGateway.StartAsync();
        string Upstream(bool verify) => $$"""
            {"nodes":{"127.0.0.1:{{origin.Port}}":1},"scheme":"https","checks":{"active":{"type":"https","https_verify_certificate":{{(verify ? "true" : "false")}},
            "healthy":{"successes":1},"unhealthy":{"tcp_failures":1} } } }
            """;
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/1","upstream":{{Upstream(true)}} }""");
        await BecomesAsync(gateway, "routes/1", "unhealthy");
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/1","upstream":{{Upstream(false)}} }""");
        await BecomesAsync(gateway, "routes/1", "healthy");
    }

    [Fact]
    public async Task Passive_checks_learn_from_the_answers_to_clients()
    {
        await using var a = await Patient.StartAsync("a");
        await using var b = await Patient.StartAsync("b");
        b.AnswerStatus = 503;
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/upstreams/1", Upstream("""
            {"active":{"http_path":"/health","healthy":{"interval":1,"successes":1,"http_statuses":[299]},"unhealthy":{"http_statuses":[599]} },
             "passive":{"unhealthy":{"http_statuses":[503],"http_failures":2,"tcp_failures":1} } }
            """, a, b));
        await gateway.PutAsync("/routes/1", """{"uri":"/*","upstream_id":"1"}""");
        await AskAsync(gateway, 4);
        Assert.Equal(["healthy", "unhealthy"], await StatesAsync(gateway, "upstreams/1"));
        Assert.Equal(["a"], await AskAsync(gateway, 4));

        // an active check that succeeds brings it back
        b.Status = 299;
        await BecomesAsync(gateway, "upstreams/1", "healthy", "healthy");
        await b.DisposeAsync();
        Assert.Equal(["a"], await AskAsync(gateway, 4));
        Assert.Equal(["healthy", "unhealthy"], await StatesAsync(gateway, "upstreams/1"));
    }

    [Fact]
    public async Task Checks_stop_when_their_upstream_goes()
    {
        await using var a = await Patient.StartAsync("a");
        await using var other = await Patient.StartAsync("b");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/*","upstream":{{Upstream(Quick, a)}} }""");
        await gateway.PutAsync("/routes/2", $$"""{"uri":"/2","upstream":{{Upstream(Quick, other)}} }""");
        await Eventually.TrueAsync(() => Volatile.Read(ref a.Probes) > 0, "no probe came");
        await gateway.AdminAsync(HttpMethod.Delete, "/routes/1");
        var before = Volatile.Read(ref a.Probes);
        var metrics = await gateway.Client.GetStringAsync(new Uri($"http://{gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics"));
        Assert.DoesNotContain("apisix_upstream_status{name=\"/apisix/routes/1\"", metrics, StringComparison.Ordinal);
        Assert.Contains("apisix_upstream_status{name=\"/apisix/routes/2\"", metrics, StringComparison.Ordinal);
        // one may have been on its way; a check that went on would come as often as the other one
        var others = Volatile.Read(ref other.Probes);
        await Eventually.TrueAsync(() => Volatile.Read(ref other.Probes) >= others + 3, "the other check stopped too", seconds: 30);
        Assert.InRange(Volatile.Read(ref a.Probes) - before, 0, 1);
    }

    [Fact]
    public async Task A_setting_turns_all_checks_off()
    {
        await using var a = await Patient.StartAsync("a");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""{"uri":"/*","upstream":{{Upstream(Quick, a)}} }""");
        await Eventually.TrueAsync(() => Volatile.Read(ref a.Probes) > 0, "no probe came");
        gateway.Write("conf/config.yaml",
            TestGateway.Config().Replace("  control: {ip", "  disable_upstream_healthcheck: true\n  control: {ip",
                StringComparison.Ordinal));
        await gateway.ReloadAsync();
        Assert.Empty(await StatesAsync(gateway, "routes/1"));
        Assert.Equal(["a"], await AskAsync(gateway, 1));
        gateway.Write("conf/config.yaml", TestGateway.Config());
        await gateway.ReloadAsync();
        Assert.Equal(["healthy"], await StatesAsync(gateway, "routes/1"));
    }

    [Fact]
    public async Task The_control_api_shows_all_checkers_as_JSON_and_as_a_page()
    {
        await using var a = await Patient.StartAsync("a");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/upstreams/u", Upstream(Quick, a));
        Assert.Empty((await gateway.ControlAsync("/v1/healthcheck"))[0]!["nodes"]!.AsArray());
        await gateway.PutAsync("/routes/1", """{"uri":"/*","upstream_id":"u"}""");
        await gateway.PutAsync("/services/s", $$"""{"upstream":{{Upstream(Quick, a)}} }""");
        await gateway.PutAsync("/routes/2", """{"uri":"/2","service_id":"s"}""");
        var all = (await gateway.ControlAsync("/v1/healthcheck")).AsArray();
        Assert.Equal(["/apisix/services/s", "/apisix/upstreams/u"], all.Select(one => (string)one!["name"]!));
        Assert.Equal(
            $$"""{"ip":"127.0.0.1","port":{{a.Port}},"hostname":"checked.example","status":"healthy","counter":{"success":0,"http_failure":0,"tcp_failure":0,"timeout_failure":0} }""".Replace(" ", "", StringComparison.Ordinal),
            all[1]!["nodes"]![0]!.ToJsonString());
        Assert.Equal("http", (string?)all[1]!["type"]);

        using var request = new HttpRequestMessage(HttpMethod.Get,
            $"http://{gateway.Gateway.ControlEndpoint}/v1/healthcheck/services/s") { Headers = { { "Accept", "text/html" } } };
        using var page = await gateway.Client.SendAsync(request);
        Assert.Equal("text/html", page.Content.Headers.ContentType!.MediaType);
        Assert.Contains($"<td>1</td><td>/apisix/services/s</td><td>http</td><td>127.0.0.1:{a.Port}</td><td>healthy</td>",
            await page.Content.ReadAsStringAsync(), StringComparison.Ordinal);

        async Task<(HttpStatusCode, string)> ErrorAsync(string path)
        {
            using var response = await gateway.Client.GetAsync(new Uri($"http://{gateway.Gateway.ControlEndpoint}/v1/healthcheck/{path}"));
            return (response.StatusCode, (string)JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error_msg"]!);
        }
        Assert.Equal((HttpStatusCode.NotFound, "no checker for routes[1]"), await ErrorAsync("routes/1"));
        Assert.Equal((HttpStatusCode.NotFound, "upstreams[x] not found"), await ErrorAsync("upstreams/x"));
        Assert.Equal((HttpStatusCode.BadRequest, "invalid src type x"), await ErrorAsync("x/1"));
    }

    [Theory]
    [InlineData(""" "req_headers":["X-A: 1\r\nX-B: 2"] """, "req_headers")]
    [InlineData(""" "req_headers":["no header"] """, "req_headers")]
    [InlineData(""" "http_path":"/a HTTP/1.1" """, "http_path")]
    public async Task A_probe_that_is_not_one_request_is_refused(string active, string property)
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/upstreams/1",
            $$"""{"nodes":{"a":1},"checks":{"active":{ {{active}} } } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains($"property \"{property}\" validation failed", (string)body!["error_msg"]!, StringComparison.Ordinal);
    }
}

using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Upstreams;

public class ConsulDiscoveryTests
{
    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    /// <summary>As much of Consul's HTTP API as there is to see: <c>/v1/health/service/NAME</c> with index and blocking queries.</summary>
    sealed class Consul : IAsyncDisposable
    {
        readonly Lock _lock = new();
        readonly Dictionary<string, JsonArray> _services = [];
        WebOrigin _server = null!;
        TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
        int _index = 7;

        public int Port => _server.Port;

        public ConcurrentQueue<string> Questions { get; } = [];

        /// <summary>It breaks every connection off.</summary>
        public volatile bool IsAway;

        public static async Task<Consul> StartAsync(int port = 0)
        {
            var consul = new Consul();
            consul._server = await WebOrigin.StartAsync(consul.AnswerAsync, port);
            return consul;
        }

        public void Register(string service, params int[] ports)
        {
            lock (_lock)
            {
                _services[service] = [.. ports.Select(port => JsonNode.Parse(
                    $$"""{"Node":{"Address":"127.0.0.1"},"Service":{"Service":"{{service}}","Address":"","Port":{{port}} } }"""))];
                _index++;
                _changed.SetResult();
                _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
            }
        }

        async Task AnswerAsync(HttpContext context)
        {
            Questions.Enqueue($"{context.Request.Path}{context.Request.QueryString} {context.Request.Headers["X-Consul-Token"]}");
            if (IsAway)
            {
                context.Abort();
                return;
            }
            Task changed;
            lock (_lock)
            {
                changed = context.Request.Query["index"] == _index.ToString(CultureInfo.InvariantCulture) ? _changed.Task
                    : Task.CompletedTask;
            }
            await changed.WaitAsync(context.RequestAborted);
            string text;
            lock (_lock)
            {
                context.Response.Headers["X-Consul-Index"] = _index.ToString(CultureInfo.InvariantCulture);
                text = (_services.GetValueOrDefault(context.Request.Path.Value!.Split('/')[^1]) ?? []).ToJsonString();
            }
            await context.Response.WriteAsync(text);
        }

        public ValueTask DisposeAsync() => _server.DisposeAsync();
    }

    static string Config(int port, string more = "") => $"discovery:\n  consul:\n    servers: [\"http://127.0.0.1:{port}\"]\n{more}";

    static Task RouteAsync(TestGateway gateway, string service) =>
        gateway.PutAsync("/routes/1",
            $$"""{"uri":"/*","upstream":{"type":"roundrobin","discovery_type":"consul","service_name":"{{service}}"} }""");

    static async Task<(HttpStatusCode Status, string Text)> AskAsync(TestGateway gateway)
    {
        using var response = await gateway.Client.GetAsync(gateway.Url("/"), Cancellation);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(Cancellation));
    }

    static async Task BecomesAsync(TestGateway gateway, HttpStatusCode status, string? text = null)
    {
        for (var tries = 0; ; tries++)
        {
            var answer = await AskAsync(gateway);
            if (answer.Status == status && (text is null || answer.Text == text))
            {
                return;
            }
            Assert.True(tries < 400, $"still {answer}");
            await Task.Delay(20, Cancellation);
        }
    }

    [Fact]
    public async Task Nodes_come_from_consul_and_a_change_is_live_at_once()
    {
        await using var a = await WebOrigin.StartAsync("a");
        await using var b = await WebOrigin.StartAsync("b");
        await using var consul = await Consul.StartAsync();
        consul.Register("api", a.Port);
        await using var gateway = await TestGateway.StartAsync(Config(consul.Port, "    token: s3cret\n"));
        await RouteAsync(gateway, "api");
        Assert.Equal((HttpStatusCode.OK, "a"), await AskAsync(gateway));
        Assert.Contains("/v1/health/service/api?passing=true s3cret", consul.Questions);
        await Eventually.TrueAsync(() => consul.Questions.Contains("/v1/health/service/api?passing=true&index=8&wait=60s s3cret"),
            () => string.Join('\n', consul.Questions));

        // within the wait of a long poll
        consul.Register("api", b.Port);
        await BecomesAsync(gateway, HttpStatusCode.OK, "b");
        var dump = await gateway.ControlAsync("/v1/discovery/consul/dump");
        Assert.Equal($$"""[{"host":"127.0.0.1","port":{{b.Port}},"weight":1}]""", dump["services"]!["api"]!.ToJsonString());

        consul.Register("api");
        await BecomesAsync(gateway, HttpStatusCode.ServiceUnavailable);
        await gateway.ErrorLogSaysAsync("consul: api: there is no passing instance");
    }

    [Fact]
    public async Task A_watch_ends_with_the_last_upstream_that_names_its_service()
    {
        await using var a = await WebOrigin.StartAsync("a");
        await using var consul = await Consul.StartAsync();
        consul.Register("api", a.Port);
        await using var gateway = await TestGateway.StartAsync(Config(consul.Port));
        await RouteAsync(gateway, "api");
        Assert.Equal("a", (await AskAsync(gateway)).Text);
        await gateway.AdminAsync(HttpMethod.Delete, "/routes/1");
        Assert.Empty((await gateway.ControlAsync("/v1/discovery/consul/dump"))["services"]!.AsObject());
    }

    [Fact]
    public async Task While_consul_is_away_the_old_nodes_serve_and_after_a_restart_those_of_the_dump()
    {
        await using var a = await WebOrigin.StartAsync("a");
        var consul = await Consul.StartAsync();
        consul.Register("api", a.Port);
        var config = Config(consul.Port, "    dump: {path: logs/consul.dump}\n");
        await using var gateway = await TestGateway.StartAsync(config);
        await RouteAsync(gateway, "api");
        Assert.Equal("a", (await AskAsync(gateway)).Text);
        await consul.DisposeAsync();
        await gateway.ErrorLogSaysAsync("discovery consul: api cannot be asked for");
        Assert.Equal("a", (await AskAsync(gateway)).Text);

        var dump = Path.Combine(gateway.Prefix, "logs", "consul.dump");
        await Eventually.TrueAsync(() => File.Exists(dump), "no dump");
        await using var second = await TestGateway.StartAsync(config.Replace("logs/consul.dump", dump, StringComparison.Ordinal));
        await RouteAsync(second, "api");
        Assert.Equal((HttpStatusCode.OK, "a"), await AskAsync(second));
        Assert.Equal(a.Port, (int)(await second.ControlAsync("/v1/discovery/consul/show_dump_file"))["services"]!["api"]![0]!["port"]!);
    }

    [Fact]
    public async Task A_consul_that_comes_up_late_is_found_and_was_logged_once()
    {
        await using var a = await WebOrigin.StartAsync("a");
        await using var consul = await Consul.StartAsync();
        consul.IsAway = true;
        consul.Register("api", a.Port);
        var time = new ManualClock();
        await using var gateway = await TestGateway.StartAsync(Config(consul.Port), time: time);
        await RouteAsync(gateway, "api");
        for (var i = 0; i < 5; i++)
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, (await AskAsync(gateway)).Status);
        }
        await gateway.ErrorLogSaysAsync("discovery consul: api cannot be asked for");
        Assert.Single(Regex.Matches(gateway.ErrorLog, @"\[error\].*discovery consul"));

        for (var asked = consul.Questions.Count; asked < 5; asked++)
        {
            await AskedAsync(asked);
        }
        consul.IsAway = false;
        await AskedAsync(consul.Questions.Count);
        await BecomesAsync(gateway, HttpStatusCode.OK, "a");
        await gateway.ErrorLogSaysAsync("discovery consul: api can be asked for again");
        Assert.Single(Regex.Matches(gateway.ErrorLog, @"\[error\].*discovery consul"));

        async Task AskedAsync(int before)
        {
            await Eventually.TrueAsync(
                () =>
                {
                    if (consul.Questions.Count == before)
                    {
                        time.Advance(TimeSpan.FromSeconds(0.1));
                    }
                    return consul.Questions.Count > before;
                },
                "consul is not asked again");
        }
    }

    [Fact]
    public async Task The_default_service_answers_for_services_without_nodes()
    {
        await using var a = await WebOrigin.StartAsync("default");
        await using var consul = await Consul.StartAsync();
        await using var gateway = await TestGateway.StartAsync(
            Config(consul.Port, $"    skip_services: [secret]\n    default_service: {{host: 127.0.0.1, port: {a.Port}}}\n"));
        await RouteAsync(gateway, "api");
        Assert.Equal((HttpStatusCode.OK, "default"), await AskAsync(gateway));
        await RouteAsync(gateway, "secret");
        Assert.Equal((HttpStatusCode.OK, "default"), await AskAsync(gateway));
        Assert.DoesNotContain(consul.Questions, question => question.Contains("secret", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Without_keepalive_consul_is_asked_again_and_again()
    {
        await using var a = await WebOrigin.StartAsync("a");
        await using var b = await WebOrigin.StartAsync("b");
        await using var consul = await Consul.StartAsync();
        consul.Register("api", a.Port);
        await using var gateway = await TestGateway.StartAsync(Config(consul.Port, "    keepalive: false\n    fetch_interval: 0.1\n"));
        await RouteAsync(gateway, "api");
        Assert.Equal("a", (await AskAsync(gateway)).Text);
        consul.Register("api", b.Port);
        await BecomesAsync(gateway, HttpStatusCode.OK, "b");
        Assert.All(consul.Questions, question => Assert.DoesNotContain("index", question, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_reload_may_bring_consul_and_discovered_nodes_are_health_checked()
    {
        await using var a = await WebOrigin.StartAsync("a");
        await using var consul = await Consul.StartAsync();
        consul.Register("api", a.Port, 1);
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", """
            {"uri":"/*","upstream":{"discovery_type":"consul","service_name":"api","checks":{"active":{"type":"tcp","unhealthy":{"tcp_failures":1} } } } }
            """);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await AskAsync(gateway)).Status);
        await gateway.ErrorLogSaysAsync("discovery_type consul is not configured");

        gateway.Write("conf/config.yaml", TestGateway.Config(Config(consul.Port)));
        await gateway.ReloadAsync();
        Assert.Equal("a", (await AskAsync(gateway)).Text);
        await gateway.ErrorLogSaysAsync("/apisix/routes/1: node 127.0.0.1:1 is unhealthy now");
        var nodes = (await gateway.ControlAsync("/v1/healthcheck/routes/1"))["nodes"]!.AsArray();
        Assert.Equal(["unhealthy", "healthy"], nodes.OrderBy(node => (int)node!["port"]!).Select(node => (string)node!["status"]!));
    }
}

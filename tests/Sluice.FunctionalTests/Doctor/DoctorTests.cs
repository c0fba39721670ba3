using System.Net;
using System.Text.Json.Nodes;
using Sluice.Cli;
using Sluice.Cli.Doctor;
using Sluice.FunctionalTests.Origins;
using Sluice.FunctionalTests.Processes;

namespace Sluice.FunctionalTests.Doctor;

public sealed class DoctorTests(DoctorTests.Fixture fixture) : IClassFixture<DoctorTests.Fixture>
{
    public sealed class Fixture : IAsyncLifetime
    {
        public TestGateway Gateway { get; private set; } = null!;

        public async ValueTask InitializeAsync() => Gateway = await TestGateway.StartAsync();

        public ValueTask DisposeAsync() => Gateway.DisposeAsync();
    }

    /// <summary>A route with nothing left to say of its configuration.</summary>
    const string Sound = """ "plugins":{"streaming":{"heartbeat":{"interval":15},"reconnect":{"on":"auto","start":false}}} """;

    TestGateway Gateway => fixture.Gateway;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    static readonly DoctorOptions s_options = new([], null, null, [], null, null, "sse", Events: 3, TimeSpan.FromSeconds(20),
        ConfigOnly: false, Json: false, Strict: false);

    async Task<Outcome> RunAsync(DoctorOptions options)
    {
        await using StringWriter output = new(), error = new();
        var run = new DoctorRun($"{Gateway.Gateway.ControlEndpoint}", $"{Gateway.EndPoint}", options,
            new(output, error, TimeProvider.System, static _ => null));
        return new(await run.RunAsync(Cancel), output.ToString(), error.ToString());
    }

    /// <summary>Three events, so long apart, then a proper end.</summary>
    static ScriptedOrigin Events(double secondsApart, string more = "") => ScriptedOrigin.Start(async connection =>
    {
        await connection.ReadHeadAsync();
        await connection.SendAsync(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        for (var i = 1; i <= 3; i++)
        {
            if (secondsApart > 0)
            {
                await Task.Delay(TimeSpan.FromSeconds(secondsApart), TimeProvider.System);
            }
            var text = $"{more}data: {i}\n\n";
            await connection.SendAsync($"{text.Length:x}\r\n{text}\r\n");
        }
        await connection.SendAsync("0\r\n\r\n");
    });

    [Fact]
    public async Task An_honest_chain_has_no_findings()
    {
        await using var origin = Events(secondsApart: 1.5);
        await Gateway.RouteAsync("honest", "/honest", origin.Port, Sound);

        var outcome = await RunAsync(s_options with { Targets = ["honest"] });

        Assert.True(outcome.ExitCode == 0, $"{outcome}");
        Assert.Contains("route honest, /honest\n", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("nothing found", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_nginx_that_buffers_is_named_with_what_it_holds()
    {
        await using var origin = Events(secondsApart: 1);
        await Gateway.RouteAsync("held", "/held", origin.Port, Sound);
        await using var nginx = await NginxFront.StartAsync(Gateway.EndPoint, "proxy_http_version 1.0;");

        var outcome = await RunAsync(s_options with { Targets = ["/held"], Through = nginx.Url });

        Assert.Equal(3, outcome.ExitCode);
        Assert.Matches(@"(?m)^error D01 buffered: the hop in front of the gateway \(Server: nginx/[\d.]+\) holds [23] events for \d\.\d s$",
            outcome.Output);
        Assert.Contains("fix: let it pass streams as they come (nginx: proxy_buffering off", outcome.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("the gateway holds", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_nginx_that_compresses_and_lets_go_is_told_as_it_is()
    {
        await using var origin = Events(secondsApart: 0.5);
        await Gateway.RouteAsync("zipped", "/zipped", origin.Port, Sound);
        await using var nginx = await NginxFront.StartAsync(Gateway.EndPoint,
            "proxy_http_version 1.1; proxy_buffering off; gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;");

        var outcome = await RunAsync(s_options with { Targets = ["/zipped"], Through = nginx.Url, Json = true });

        var target = JsonNode.Parse(outcome.Output)!["targets"]![0]!;
        Assert.Equal(1, JsonNode.Parse(outcome.Output)!["version"]!.GetValue<int>());
        Assert.Equal(["direct", "gateway", "public"], target["legs"]!.AsArray().Select(static leg => leg!["name"]!.GetValue<string>()));
        Assert.Equal("gzip", target["legs"]![2]!["encoding"]!.GetValue<string>());
        Assert.All(target["legs"]!.AsArray(), static leg => Assert.Equal(3, leg!["events"]!.AsArray().Count));
        var compressed = Assert.Single(target["findings"]!.AsArray(), static one => one!["code"]!.GetValue<string>() == "D02")!;
        Assert.Equal("public", compressed["hop"]!.GetValue<string>());
        Assert.Contains(compressed["severity"]!.GetValue<string>(), (string[])["info", "error"]);
    }

    [Fact]
    public async Task An_nginx_that_cuts_silent_streams_is_named_with_its_patience()
    {
        await using var origin = Events(secondsApart: 6);
        await Gateway.RouteAsync("silent", "/silent", origin.Port, Sound);
        await using var nginx = await NginxFront.StartAsync(Gateway.EndPoint,
            "proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 3s;");

        var outcome = await RunAsync(s_options with { Targets = ["/silent"], Through = nginx.Url, Events = 2 });

        Assert.Equal(3, outcome.ExitCode);
        Assert.Matches(
            @"(?m)^error D04 cut_when_silent: the hop in front of the gateway \(Server: nginx/[\d.]+\) closes the stream after \d\.\d s of silence \((FIN|RST)\)$", outcome.Output);
        Assert.Contains("fix: streaming.heartbeat.interval below ", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Comments_that_the_gateway_drops_are_missed()
    {
        await using var origin = Events(secondsApart: 0, more: ": still here\n\n");
        await Gateway.RouteAsync("quiet", "/quiet", origin.Port, """ "plugins":{"sse":{"strip_comments":true}} """);

        var outcome = await RunAsync(s_options with { Targets = ["quiet"] });

        Assert.Equal(3, outcome.ExitCode);
        Assert.Contains("error D05 heartbeat_lost: the gateway drops comments, and heartbeats with them\n", outcome.Output,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_handshake_that_the_gateway_refuses_is_found()
    {
        await using var origin = ScriptedOrigin.Start(static async connection =>
        {
            var head = await connection.ReadHeadAsync();
            await connection.SendAsync(head.Contains("Upgrade: websocket", StringComparison.OrdinalIgnoreCase)
                ? "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                : "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n");
            await connection.ReadEndAsync();
        });
        await Gateway.RouteAsync("socket", "/socket", origin.Port, Sound);

        var outcome = await RunAsync(s_options with { Targets = ["socket"], Probe = "websocket" });

        Assert.Equal(3, outcome.ExitCode);
        Assert.Contains("error D11 upgrade_refused: the gateway refuses the WebSocket handshake with 426\n", outcome.Output,
            StringComparison.Ordinal);
        Assert.Contains("fix: enable_websocket: true on the route\n", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_cannot_be_asked_is_exit_code_1_with_the_reason()
    {
        await using var origin = Events(secondsApart: 0);
        await Gateway.RouteAsync("locked", "/locked", origin.Port, """ "plugins":{"key-auth":{}} """);
        await Gateway.RouteAsync("down", "/down", CommandFixture.FreePort());
        await Gateway.RouteAsync("wild", "/wild/*", origin.Port);

        var locked = await RunAsync(s_options with { Targets = ["locked"] });
        Assert.Equal(1, locked.ExitCode);
        Assert.Contains("gateway leg: http://" + Gateway.EndPoint + "/locked answers 401; --header 'K: V' gives what it asks for",
            locked.Error, StringComparison.Ordinal);
        var down = await RunAsync(s_options with { Targets = ["down"] });
        Assert.Equal(1, down.ExitCode);
        Assert.Contains("direct leg: ", down.Error, StringComparison.Ordinal);
        var wild = await RunAsync(s_options with { Targets = ["wild"] });
        Assert.Equal("sluice: route wild takes /wild/*: name a path or a URL of it, or say --config-only\n", wild.Error);
        Assert.Equal("sluice: no route nowhere\n", (await RunAsync(s_options with { Targets = ["nowhere"] })).Error);
        Assert.Equal("sluice: no route takes GET /nowhere\n", (await RunAsync(s_options with { Targets = ["/nowhere"] })).Error);
    }

    /// <summary>A code, a route that has it, and the same route without what it complains of.</summary>
    public static TheoryData<string, string, string, string> Configurations => new()
    {
        { "C01", "error",
            """ "timeout":{"connect":6,"send":6,"read":60000}, "plugins":{"streaming":{"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """, Sound },
        { "C01", "error", """ "plugins":{"streaming":{"idle_timeout":60000,"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """,
            Sound },
        { "C02", "error",
            """ "plugins":{"response-rewrite":{"filters":[{"regex":"a","replace":"b"}]},"streaming":{"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """, Sound },
        { "C03", "warn",
            """ "plugins":{"proxy-buffering":{"disable_proxy_buffering":false},"streaming":{"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """, Sound },
        { "C04", "warn",
            """ "plugins":{"gzip":{"types":["text/event-stream"]},"streaming":{"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """,
                Sound },
        { "C06", "warn", """ "plugins":{"streaming":{"heartbeat":{"interval":0},"reconnect":{"on":"auto"}}} """, Sound },
        { "C06", "warn", """ "plugins":{"streaming":{"heartbeat":{"interval":58},"reconnect":{"on":"auto"}}} """, Sound },
        { "C06", "warn", """ "plugins":{"streaming":{"idle_timeout":0,"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """, Sound },
        { "C07", "warn",
            """ "enable_websocket":true,"plugins":{"streaming":{"hold":"event","heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """,
                Sound },
        { "C10", "info", """ "plugins":{"jwt-auth":{},"streaming":{"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """, Sound },
        { "C11", "warn",
            """ "plugins":{"key-auth":{"query":"token"},"streaming":{"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """, Sound },
        { "C12", "warn", """ "plugins":{"streaming":{"heartbeat":{"interval":15}}} """, Sound },
        { "C15", "warn",
            """ "plugins":{"streaming":{"max_duration":"1h","jitter":0,"heartbeat":{"interval":15},"reconnect":{"on":"auto"}}} """, Sound },
    };

    [Theory]
    [MemberData(nameof(Configurations))]
    public async Task A_finding_of_the_configuration_is_found_once_and_gone_when_it_is_fixed(string code, string severity, string wrong,
        string right)
    {
        await Gateway.RouteAsync("checked", "/checked", 1, wrong);
        var found = (await Gateway.ControlAsync("/v1/doctor?route=checked"))["targets"]![0]!["findings"]!.AsArray();
        Assert.True(found.Count == 1, found.ToJsonString());
        Assert.Equal((code, severity, "route checked"),
            (found[0]!["code"]!.GetValue<string>(), found[0]!["severity"]!.GetValue<string>(), found[0]!["hop"]!.GetValue<string>()));
        var outcome = await RunAsync(s_options with { Targets = ["checked"], ConfigOnly = true });
        Assert.Equal(severity switch { "error" => 3, "warn" => 2, _ => 0 }, outcome.ExitCode);
        Assert.Contains($"{severity} {code} ", outcome.Output, StringComparison.Ordinal);
        Assert.Equal(severity == "info" ? 0 : 3,
            (await RunAsync(s_options with { Targets = ["checked"], ConfigOnly = true, Strict = true })).ExitCode);

        await Gateway.RouteAsync("checked", "/checked", 1, right);
        Assert.Equal(new Outcome(0, "nothing found\n", ""), await RunAsync(s_options with { Targets = ["checked"], ConfigOnly = true }));
    }

    [Fact]
    public async Task The_command_finds_the_gateway_that_runs_and_says_when_none_does()
    {
        await using var sluice = new CommandFixture();
        var stopped = await sluice.RunAsync("doctor", "-p", sluice.Prefix);
        Assert.Equal(1, stopped.ExitCode);
        Assert.Contains($"not running on {sluice.Prefix}", stopped.Error, StringComparison.Ordinal);

        await sluice.SucceedAsync("start");
        Assert.Equal("nothing found\n", (await sluice.SucceedAsync("doctor", "--strict")).Output);
        var wrong = await sluice.RunAsync("doctor", "r0", "--probe", "smoke");
        Assert.Equal(new Outcome(1, "", "sluice: --probe smoke: expected one of sse, ndjson, post, websocket\n"), wrong);
        var nowhere = await sluice.RunAsync("doctor", "nowhere");
        Assert.Equal(new Outcome(1, "", "sluice: no route nowhere\n"), nowhere);
    }

    [Fact]
    public async Task The_Control_API_refuses_what_it_does_not_know()
    {
        using var response = await Gateway.Client.GetAsync(new Uri($"http://{Gateway.Gateway.ControlEndpoint}/v1/doctor?rout=r1"), Cancel);
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Contains("unknown argument \\\"rout\\\"; did you mean \\\"route\\\"?", await response.Content.ReadAsStringAsync(Cancel),
            StringComparison.Ordinal);
    }
}

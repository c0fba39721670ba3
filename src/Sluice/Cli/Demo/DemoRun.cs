using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Hosting;

namespace Sluice.Cli.Demo;

/// <summary><c>sluice demo</c>: a gateway, a sample upstream and the routes between them, until Ctrl-C.</summary>
static class DemoRun
{
    const string Signature = "# Written by `sluice demo` at each start.";

    /// <param name="asked">The prefix given on the command line, if one was.</param>
    public static async Task<int> RunAsync(Terminal terminal, Instance? asked, int? port, bool check, CancellationToken cancellation)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        // a script's background ignores SIGINT, and a process is born ignoring what its parent does
        Native.Heed([Native.Interrupt, Native.Terminate, Native.Quit]);
        using var interrupt = StopOn(PosixSignal.SIGINT, stop);
        using var terminate = StopOn(PosixSignal.SIGTERM, stop);
        using var quit = StopOn(PosixSignal.SIGQUIT, stop);

        using var place = DemoPlace.Choose(asked, terminal);
        var instance = place.Instance;
        if (File.Exists(instance.ConfigFile) && !File.ReadAllText(instance.ConfigFile).StartsWith(Signature, StringComparison.Ordinal))
        {
            return terminal.Fail($"{instance.ConfigFile} is not of a demo and was left as it is; choose another directory with -p");
        }
        using var claim = await instance.ClaimAsync(terminal.Time);
        if (claim is null)
        {
            return terminal.Fail($"already running on {instance.Prefix} (pid {instance.RunningPid()})");
        }

        await using var upstream = SampleUpstream.Start(terminal.Time);
        var ports = DemoPorts.Choose(port);
        var key = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
        place.WriteConfig(Config(ports, key));
        Gateway gateway;
        try
        {
            gateway = await Gateway.StartAsync(
                new GatewayOptions(instance.Prefix) { Time = terminal.Time, Environment = terminal.Environment },
                stop.Token);
        }
        catch (GatewayStartException e)
        {
            terminal.Report(e.Problems);
            return 1;
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            return 0;
        }
        await using (gateway)
        {
            try
            {
                upstream.Control = $"http://{gateway.ControlEndpoint}";
                await CreateRoutesAsync(gateway.AdminEndpoint!, key, upstream.Endpoint, stop.Token);
                var proxy = $"http://{gateway.ProxyEndpoints[0]}";
                if (check)
                {
                    return await DemoCheck.RunAsync(proxy, terminal, stop.Token);
                }
                Explain(terminal, gateway, proxy, key, instance, upstream, tookAnother: port is null);
                await Task.Delay(Timeout.InfiniteTimeSpan, terminal.Time, stop.Token);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                terminal.Say("stopping");
            }
            catch (HttpRequestException e)
            {
                return terminal.Fail(e.Message);
            }
            finally
            {
                await gateway.StopAsync(graceful: false);
            }
        }
        return 0;
    }

    static PosixSignalRegistration StopOn(PosixSignal signal, CancellationTokenSource stop) =>
        PosixSignalRegistration.Create(signal, context =>
    {
        context.Cancel = true;
        stop.Cancel();
    });

    static void Explain(Terminal terminal, Gateway gateway, string proxy, string key, Instance instance, SampleUpstream upstream,
        bool tookAnother)
    {
        if (tookAnother && gateway.ProxyEndpoints[0].Port != DemoPorts.UsualProxy)
        {
            terminal.Say(
                $"Port {DemoPorts.UsualProxy} is taken{PortHolder.Describe(DemoPorts.UsualProxy)}; the gateway listens on {gateway.ProxyEndpoints[0].Port}.");
        }
        terminal.Say(
            $$"""

            Sluice {{CommandLine.Version}} runs in {{instance.Prefix}}

              Open this page:     {{proxy}}/demo/

              Admin API:          http://{{gateway.AdminEndpoint}}/apisix/admin/routes
              Admin key:          {{key}}
              Control API:        http://{{gateway.ControlEndpoint}}/v1/routes
              Sample upstream:    http://{{upstream.Endpoint}}

            To try in another terminal:

              curl -N {{proxy}}/off/events/chunked               # one event per chunk, buffering off
              curl -N {{proxy}}/on/events/dripped                # one chunk dripped over seconds, buffering on
              curl -N '{{proxy}}/off/events/length?n=20&interval_ms=100'
              curl -N {{proxy}}/ndjson
              curl -N {{proxy}}/v1/chat/completions -H 'Content-Type: application/json' \
                -d '{"stream": true, "messages": [{"role": "user", "content": "hello"}]}'
              curl http://{{gateway.AdminEndpoint}}/apisix/admin/routes -H 'X-API-KEY: {{key}}'

            The logs are in {{instance.Prefix}}/logs. Ctrl-C stops everything.
            """);
    }

    static string Config(DemoPorts ports, string key) =>
        $"""
        {Signature}
        apisix:
          node_listen:
            - ip: 127.0.0.1
              port: {ports.Proxy}
          enable_control: true
          control:
            ip: 127.0.0.1
            port: {ports.Control}
          status:
            ip: 127.0.0.1
            port: {ports.Status}
        sluice:
          debug_headers: true
        deployment:
          role: traditional
          role_traditional:
            config_provider: embedded
          admin:
            admin_key:
              - name: admin
                key: {key}
                role: admin
            admin_listen:
              ip: 127.0.0.1
              port: {ports.Admin}
        plugin_attr:
          prometheus:
            export_addr:
              ip: 127.0.0.1
              port: {ports.Metrics}

        """;

    static async Task CreateRoutesAsync(IPEndPoint admin, string key, IPEndPoint upstream, CancellationToken cancellation)
    {
        using var client = new HttpClient { BaseAddress = new Uri($"http://{admin}/apisix/admin/") };
        client.DefaultRequestHeaders.Add("X-API-KEY", key);
        await PutAsync("upstreams/demo", new JsonObject
        {
            ["type"] = "roundrobin",
            ["nodes"] = new JsonObject { [upstream.ToString()] = 1 },
        });
        await PutAsync("routes/demo-buffering-on", Prefixed("/on/", disableBuffering: false));
        await PutAsync("routes/demo-buffering-off", Prefixed("/off/", disableBuffering: true));
        await PutAsync("routes/demo-bunching", new JsonObject
        {
            ["uri"] = "/plain/*",
            ["upstream_id"] = "demo",
            ["plugins"] =
                new JsonObject { ["proxy-rewrite"] = new JsonObject { ["regex_uri"] = new JsonArray("^/plain/(.*)", "/bunched/$1") } },
        });
        await PutAsync("routes/demo", new JsonObject
        {
            ["uris"] = new JsonArray("/demo", "/demo/*", "/events/*", "/ndjson", "/download", "/download/*", "/v1/*"),
            ["upstream_id"] = "demo",
        });
        await PutAsync("routes/demo-websocket", new JsonObject
        {
            ["uri"] = "/ws",
            ["enable_websocket"] = true,
            ["upstream_id"] = "demo",
        });

        static JsonObject Prefixed(string prefix, bool disableBuffering) => new()
        {
            ["uri"] = prefix + "*",
            ["upstream_id"] = "demo",
            ["plugins"] = new JsonObject
            {
                ["proxy-rewrite"] = new JsonObject { ["regex_uri"] = new JsonArray($"^{prefix}(.*)", "/$1") },
                ["proxy-buffering"] = new JsonObject { ["disable_proxy_buffering"] = disableBuffering },
            },
        };

        async Task PutAsync(string path, JsonObject resource)
        {
            using var content = new StringContent(resource.ToJsonString(), Encoding.UTF8, MediaTypeHeaderValue.Parse("application/json"));
            using var answer = await client.PutAsync(new Uri(path, UriKind.Relative), content, cancellation);
            if (!answer.IsSuccessStatusCode)
            {
                throw new HttpRequestException($"the Admin API refused {path}: {await answer.Content.ReadAsStringAsync(cancellation)}");
            }
        }
    }
}

/// <summary>The usual ports, or those beside the proxy's that was asked for; the next free one where one is taken.</summary>
sealed record DemoPorts(int Proxy, int Admin, int Control, int Metrics, int Status)
{
    public const int UsualProxy = 9080;

    public static DemoPorts Choose(int? proxy)
    {
        HashSet<int> taken = [];
        return proxy is { } asked
            ? new DemoPorts(asked, Next(asked + 100), Next(asked + 10), Next(asked + 11), Next(asked + 5))
            : new DemoPorts(Next(UsualProxy), Next(9180), Next(9090), Next(9091), Next(7085));

        int Next(int port)
        {
            while (port == proxy || taken.Contains(port) || port > IPEndPoint.MaxPort || !IsFree(port))
            {
                port = port >= IPEndPoint.MaxPort ? 1024 : port + 1;
            }
            taken.Add(port);
            return port;
        }
    }

    internal static bool IsFree(int port)
    {
        try
        {
            // every address: somebody on 0.0.0.0 would get what is meant for us, or the other way round
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.Any, port));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}

/// <summary>Where the demo lives: <c>demo/</c> in the repository; a directory that goes with it when there is none or it is in
/// use.</summary>
sealed class DemoPlace : IDisposable
{
    readonly bool _temporary;

    DemoPlace(Instance instance, bool temporary)
    {
        Instance = instance;
        _temporary = temporary;
    }

    public Instance Instance { get; }

    public static DemoPlace Choose(Instance? asked, Terminal terminal)
    {
        if (asked is not null)
        {
            return new DemoPlace(asked, temporary: false);
        }
        if (terminal.Environment("SLUICE_HOME") is { Length: > 0 } home && new Instance(Path.Combine(home, "demo")) is var instance
            && instance.RunningPid() is null)
        {
            return new DemoPlace(instance, temporary: false);
        }
        return new DemoPlace(new Instance(Directory.CreateTempSubdirectory("sluice-demo-").FullName), temporary: true);
    }

    public void WriteConfig(string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Instance.ConfigFile)!);
        File.Delete(Instance.ConfigFile);
        using var writer = new StreamWriter(Instance.ConfigFile, DefaultFiles.Private(FileMode.CreateNew));
        writer.Write(text);
    }

    public void Dispose()
    {
        if (_temporary)
        {
            Directory.Delete(Instance.Prefix, recursive: true);
        }
    }
}

/// <summary><c>sluice demo --check</c>: does what a visitor would see, and says whether it was right.</summary>
static class DemoCheck
{
    const int Events = 5, Interval = 200;

    static readonly TimeSpan Most = TimeSpan.FromSeconds(20);

    public static async Task<int> RunAsync(string proxy, Terminal terminal, CancellationToken cancellation)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(Most);
        using var client = new HttpClient { BaseAddress = new Uri(proxy) };
        var good = true;
        try
        {
            var page = await client.GetStringAsync(new Uri("/demo/", UriKind.Relative), patience.Token);
            good &= Tell("page", page.Contains("sluice", StringComparison.OrdinalIgnoreCase) ? null : "is not the demo page");
            var watched = from side in (string[])["on", "off"]
                          from framing in (string[])["chunked", "close", "length", "dripped"]
                          select ($"{framing}, buffering {side}",
                              WatchAsync($"/{side}/events/{framing}?n={Events}&interval_ms={Interval}"));
            foreach (var (what, watching) in watched.ToArray())
            {
                good &= Tell(what, await watching);
            }
        }
        catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException)
        {
            return terminal.Fail("demo: " + e.Message);
        }
        return good ? 0 : 1;

        bool Tell(string what, string? problem)
        {
            terminal.Say($"{what}: {problem ?? "good"}");
            return problem is null;
        }

        async Task<string?> WatchAsync(string path)
        {
            using var answer = await client.GetAsync(new Uri(path, UriKind.Relative), HttpCompletionOption.ResponseHeadersRead,
                patience.Token);
            if (!answer.IsSuccessStatusCode)
            {
                return $"status {(int)answer.StatusCode}";
            }
            using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync(patience.Token));
            List<(long Sent, long Arrived)> events = [];
            while (await reader.ReadLineAsync(patience.Token) is { } line)
            {
                if (line.StartsWith("data:", StringComparison.Ordinal))
                {
                    events.Add((JsonNode.Parse(line[5..])!["sent"]!.GetValue<long>(), terminal.Time.GetUtcNow().ToUnixTimeMilliseconds()));
                }
            }
            // on a busy machine one or the other is late; of a stream that is held back all are
            var late = events.Zip(events.Skip(1)).Count(pair => pair.First.Arrived >= pair.Second.Sent);
            return events.Count != Events ? $"{events.Count} of {Events} events"
                : late > Events / 2 ? $"{late} events arrived only when the next had been sent"
                : null;
        }
    }
}

using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sluice.Hosting;
using Sluice.Model;

namespace Sluice.FunctionalTests;

/// <summary>
/// A whole gateway in a directory of its own, every port chosen by the kernel. Resources are written through the Admin API, or with
/// <c>apisixYaml</c> through conf/apisix.yaml.
/// </summary>
public sealed class TestGateway : IAsyncDisposable
{
    public const string AdminKey = "functional-tests-key";

    TestGateway(string prefix, Gateway gateway)
    {
        Prefix = prefix;
        Gateway = gateway;
    }

    ManualClock? _clock;

    public string Prefix { get; }

    public Gateway Gateway { get; private set; }

    public IPEndPoint EndPoint => Gateway.ProxyEndpoints[0];

    public Uri Url(string path) => new($"http://{EndPoint}{path}");

    /// <summary>Never buffers, never follows redirects, no timeout of its own.</summary>
    public HttpClient Client { get; } = new(new SocketsHttpHandler { UseCookies = false, AllowAutoRedirect = false, UseProxy = false })
    {
        Timeout = TimeSpan.FromSeconds(30),
    };

    /// <param name="config">YAML that is merged over the defaults, top-level key by top-level key of <c>apisix</c>, <c>nginx_config</c>,
    /// <c>deployment</c>, …</param>
    /// <param name="nginx">conf/nginx.conf.</param>
    /// <param name="apisixYaml">conf/apisix.yaml: the gateway runs standalone.</param>
    /// <param name="apisix">More keys of <c>apisix</c>, one a line.</param>
    /// <param name="ssl"><c>apisix.ssl</c>; a test with certificates says <see cref="Https"/>.</param>
    /// <param name="environment">The environment that the gateway sees.</param>
    /// <param name="time">The gateway's clock and timers.</param>
    /// <param name="pluginAttr">One more line of <c>plugin_attr</c>.</param>
    public static async Task<TestGateway> StartAsync(
        string config = "", string? nginx = null, string? apisixYaml = null, string apisix = "", string? ssl = null,
        Func<string, string?>? environment = null,
        TimeProvider? time = null, string pluginAttr = "")
    {
        var prefix = Directory.CreateTempSubdirectory("sluice-test-").FullName;
        Write(prefix, "conf/config.yaml", Config(config, apisixYaml is not null, apisix, ssl, pluginAttr));
        if (nginx is not null)
        {
            Write(prefix, "conf/nginx.conf", nginx);
        }
        if (apisixYaml is not null)
        {
            Write(prefix, "conf/apisix.yaml", apisixYaml);
        }
        var options = new GatewayOptions(prefix) { Time = time ?? TimeProvider.System };
        return new(prefix,
            await Gateway.StartAsync(environment is null ? options
                : options with { Environment = environment })) { _clock = time as ManualClock };
    }

    /// <summary>HTTPS on a free port, with the first certificate: for <c>ssl</c>.</summary>
    public const string Https = "{listen: [{ip: 127.0.0.1, port: 0}]}";

    /// <summary>The same instance in a new gateway.</summary>
    public async Task RestartAsync()
    {
        await Gateway.DisposeAsync();
        Gateway = await Gateway.StartAsync(new GatewayOptions(Prefix));
    }

    /// <summary>A gateway in a directory that is there already, with this conf/config.yaml.</summary>
    public static async Task<TestGateway> RunAsync(string prefix, string config)
    {
        Write(prefix, "conf/config.yaml", config);
        return new(prefix, await Gateway.StartAsync(new GatewayOptions(prefix)));
    }

    /// <summary>The directory stays for the next gateway.</summary>
    public bool KeepsPrefix { get; set; }

    /// <summary>The configuration of a test gateway: loopback, port 0 everywhere, a known admin key.</summary>
    public static string Config(string more = "", bool standalone = false, string apisix = "", string? ssl = null,
        string pluginAttr = "") =>
        $$"""
        apisix:
          node_listen:
            - {ip: 127.0.0.1, port: 0, enable_http2: true}
          control: {ip: 127.0.0.1, port: 0}
          status: {ip: 127.0.0.1, port: 0}
          {{(ssl is null ? "" : $"ssl: {ssl}")}}
          {{apisix.Replace("\n", "\n  ", StringComparison.Ordinal)}}
        deployment:
          role: traditional
          role_traditional:
            config_provider: {{(standalone ? "yaml" : "embedded")}}
          admin:
            admin_listen: {ip: 127.0.0.1, port: 0}
            admin_key:
              - {name: admin, key: {{AdminKey}}, role: admin}
        plugin_attr:
          prometheus:
            export_addr: {ip: 127.0.0.1, port: 0}
          {{pluginAttr}}
        {{OnTransport(more)}}
        """;

    /// <summary>The whole suite runs on each transport: SLUICE_TEST_TRANSPORT names the one of this run, <c>epoll</c> or
    /// <c>sockets</c>.</summary>
    public static string Transport { get; } = Environment.GetEnvironmentVariable("SLUICE_TEST_TRANSPORT") ?? "epoll";

    static string OnTransport(string config)
    {
        var own = Regex.Match(config, @"^sluice:[ ]*(\{?)", RegexOptions.Multiline);
        return !own.Success ? $"{config}\nsluice: {{transport: {Transport}}}"
            : config.Insert(own.Index + own.Length, own.Groups[1].Length > 0 ? $"transport: {Transport}, " : $"\n  transport: {Transport}");
    }

    public static void Write(string prefix, string file, string text)
    {
        var path = Path.Combine(prefix, file);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    public void Write(string file, string text) => Write(Prefix, file, text);

    /// <summary>Reloads and fails the test on any error.</summary>
    public async Task ReloadAsync() =>
        Assert.DoesNotContain(await Gateway.ReloadAsync(), problem => problem.Severity == Severity.Error);

    /// <summary>An Admin API request; the path begins behind <c>/apisix/admin</c>.</summary>
    public async Task<(HttpStatusCode Status, JsonNode? Body)> AdminAsync(HttpMethod method, string path, string? json = null,
        string key = AdminKey)
    {
        using var request = new HttpRequestMessage(method, $"http://{Gateway.AdminEndpoint}/apisix/admin{path}");
        request.Headers.Add("X-API-KEY", key);
        if (json is not null)
        {
            request.Content = new StringContent(json, Encoding.UTF8, new MediaTypeHeaderValue("application/json"));
        }
        using var response = await Client.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        return (response.StatusCode, text.Length == 0 ? null : JsonNode.Parse(text));
    }

    /// <summary>PUTs a resource and fails the test when it is refused.</summary>
    public async Task PutAsync(string path, string json)
    {
        var (status, body) = await AdminAsync(HttpMethod.Put, path, json);
        Assert.True(status is HttpStatusCode.Created or HttpStatusCode.OK, $"PUT {path}: {(int)status} {body?.ToJsonString()}");
    }

    /// <summary>A route to one upstream node, with plugins or other properties as JSON members: <c>"plugins":{…}</c>.</summary>
    public Task RouteAsync(string id, string uri, int port, string? more = null) => PutAsync($"/routes/{id}",
        $$"""{"uri":"{{uri}}",{{(more is null ? "" : more + ",")}}"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:{{port}}":1} } }""");

    public async Task<JsonNode> ControlAsync(string path) =>
        JsonNode.Parse(await Client.GetStringAsync(new Uri($"http://{Gateway.ControlEndpoint}{path}")))!;

    /// <summary>What the error log says so far; it is written behind the events, so wait with <see cref="ErrorLogSaysAsync"/>.</summary>
    public string ErrorLog => File.ReadAllText(Path.Combine(Prefix, "logs", "error.log"));

    public Task ErrorLogSaysAsync(string text) =>
        Eventually.TrueAsync(() => ErrorLog.Contains(text, StringComparison.Ordinal), () => $"no \"{text}\" in the error log:\n{ErrorLog}");

    public Task<string> MetricsAsync() => Client.GetStringAsync(new Uri($"http://{Gateway.MetricsEndpoint}/apisix/prometheus/metrics"));

    /// <summary>What is counted of a response, and of a piece of one, is counted when it has gone out: its client may be quicker than
    /// that.</summary>
    public async Task MetricsSayAsync(params string[] texts)
    {
        foreach (var text in texts)
        {
            await Eventually.HoldsAsync(async () => (await MetricsAsync()).Contains(text, StringComparison.Ordinal),
                $"no \"{text}\" in the metrics", seconds: 30);
        }
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        var stopping = Gateway.DisposeAsync().AsTask();
        while (_clock is not null && !stopping.IsCompleted)
        {
            // what the gateway waits for at its end is waited for by this clock
            _clock.Advance(TimeSpan.FromSeconds(1));
            await Task.WhenAny(stopping, Task.Delay(10));
        }
        await stopping.WaitAsync(TimeSpan.FromSeconds(60));
        if (!KeepsPrefix)
        {
            Directory.Delete(Prefix, recursive: true);
        }
    }
}

using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Json;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Hosting;
using Sluice.Model.Settings;
using Sluice.Sources;
using Sluice.Sources.Etcd;

namespace Sluice.Bench;

/// <summary>
/// A large configuration: 10,000 routes, 1,000 upstreams, 1,000 consumers. How long a start takes, how much memory it needs, how long a
/// change takes until the Admin API answers and until requests see it; with an etcd, also until another gateway's requests see it.
/// <code>dotnet run -c Release --project bench/Sluice.Bench -- scale [http://127.0.0.1:2379]</code>
/// </summary>
static class ScaleRun
{
    const int Routes = 10_000, Upstreams = 1_000, Consumers = 1_000, Changes = 200;
    const string AdminKey = "bench";

    public static async Task RunAsync(Uri? etcd)
    {
        var prefix = $"/bench-{Guid.NewGuid():N}";
        var directory = Directory.CreateTempSubdirectory("sluice-scale-").FullName;
        try
        {
            if (etcd is null)
            {
                await using var store = EmbeddedStore.Open(directory);
                await FillAsync(store, "/apisix");
            }
            else
            {
                using var store = new EtcdStore(
                    new EtcdSettings([etcd], prefix, null, null, TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(50), 0, null, true, null,
                        null), TimeProvider.System, NullLogger<EtcdStore>.Instance);
                await FillAsync(store, prefix);
            }
            var before = Memory();
            var watch = Stopwatch.StartNew();
            await using var gateway = await StartAsync(directory, etcd, prefix);
            Say("start", watch.Elapsed);
            Console.WriteLine($"memory of the configuration: {(Memory() - before) >> 20} MB");
            await using var other = etcd is null ? null
                : await StartAsync(Directory.CreateTempSubdirectory("sluice-scale-").FullName, etcd, prefix);
            using var client = new HttpClient { DefaultRequestHeaders = { { "X-API-KEY", AdminKey } } };
            await ChangeAsync(client, gateway, other);
            foreach (var (what, change) in OtherChanges)
            {
                await ChangeAsync(client, gateway, what, change);
            }
            Console.WriteLine($"working set of the process: {Environment.WorkingSet >> 20} MB");
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    static async Task ChangeAsync(HttpClient client, Gateway gateway, Gateway? other)
    {
        List<TimeSpan> answered = [], elsewhere = [];
        for (var i = 0; i < Changes; i++)
        {
            var to = $"/changed-{i}";
            var watch = Stopwatch.StartNew();
            using (var response = await client.PutAsJsonAsync($"http://{gateway.AdminEndpoint}/apisix/admin/routes/changing",
                new Dictionary<string, object> { ["uri"] = "/changing",
                    ["plugins"] = new { redirect = new { uri = to, ret_code = 302 } } }))
            {
                response.EnsureSuccessStatusCode();
            }
            answered.Add(watch.Elapsed);
            if (other is not null)
            {
                while (await WhereAsync(other) != to)
                {
                }
                elsewhere.Add(watch.Elapsed - answered[^1]);
            }
            if (await WhereAsync(gateway) != to)
            {
                throw new InvalidOperationException("an answered change is not in force");
            }
        }
        Say("a change, until the Admin API answers and requests see it", answered);
        if (other is not null)
        {
            Say("from there until another gateway's requests see it", elsewhere);
        }
    }

    /// <summary>What else changes in a running system: method, path and body of the i-th change.</summary>
    static readonly (string What, Func<int, (HttpMethod, string, string?)> Change)[] OtherChanges =
    [
        ("an upstream that 10 routes use",
            i => (HttpMethod.Put, $"upstreams/u{i}", $$"""{"type":"roundrobin","nodes":{"10.1.{{i % 250}}.1:80":1} }""")),
        ("a consumer", i => (HttpMethod.Put, "consumers", $$"""{"username":"c{{i}}","plugins":{"key-auth":{"key":"changed-{{i}}"} } }""")),
        ("a credential",
            i => (HttpMethod.Put, $"consumers/c{i}/credentials/one", $$"""{"plugins":{"key-auth":{"key":"credential-{{i}}"} } }""")),
        ("a plugin's metadata that nobody uses",
            i => (HttpMethod.Put, "plugin_metadata/limit-count", $$"""{"limit_header":"X-Limit-{{i}}"}""")),
        ("a global rule", i => (HttpMethod.Put, "global_rules/1", $$"""{"plugins":{"request-id":{"header_name":"X-Id-{{i}}"} } }""")),
        ("a consumer that goes", i => (HttpMethod.Delete, $"consumers/c{i}", null)),
        ("a route that goes", i => (HttpMethod.Delete, $"routes/r{i}", null)),
    ];

    static async Task ChangeAsync(HttpClient client, Gateway gateway, string what, Func<int, (HttpMethod, string, string?)> change)
    {
        List<TimeSpan> answered = [];
        for (var i = 0; i < Changes; i++)
        {
            var (method, path, body) = change(i);
            using var request = new HttpRequestMessage(method,
                $"http://{gateway.AdminEndpoint}/apisix/admin/{path}") { Content = body is null ? null : new StringContent(body) };
            var watch = Stopwatch.StartNew();
            using var response = await client.SendAsync(request);
            answered.Add(watch.Elapsed);
            response.EnsureSuccessStatusCode();
        }
        Say($"{what}, until the Admin API answers", answered);
    }

    static readonly HttpClient Direct = new(new SocketsHttpHandler { AllowAutoRedirect = false });

    static async Task<string?> WhereAsync(Gateway gateway)
    {
        using var response = await Direct.GetAsync($"http://{gateway.ProxyEndpoints[0]}/changing");
        return response.Headers.Location?.ToString();
    }

    static async Task FillAsync(IKeyValueStore store, string prefix)
    {
        var all = Enumerable.Range(0, Upstreams)
            .Select(i => ($"upstreams/u{i}",
                $$"""{"id":"u{{i}}","type":"roundrobin","nodes":{"10.0.{{i / 250}}.{{(i % 250) + 1}}:80":1} }"""))
            .Concat(Enumerable.Range(0, Routes).Select(i => ($"routes/r{i}",
                $$"""{"id":"r{{i}}","uri":"/api/v{{i % 7}}/service{{i}}/{{(i % 2 == 0 ? "items" : "*")}}","upstream_id":"u{{i % Upstreams}}","plugins":{"key-auth":{},"proxy-buffering":{"disable_proxy_buffering":true} } }""")))
            .Concat(Enumerable.Range(0, Consumers)
                .Select(i => ($"consumers/c{i}", $$"""{"username":"c{{i}}","plugins":{"key-auth":{"key":"key-{{i}}"} } }""")));
        foreach (var some in all.Chunk(50))
        {
            await store.Transaction([], [.. some.Select(one => new StoreOp.Put($"{prefix}/{one.Item1}", one.Item2))]);
        }
    }

    static Task<Gateway> StartAsync(string directory, Uri? etcd, string prefix)
    {
        Directory.CreateDirectory(Path.Combine(directory, "conf"));
        File.WriteAllText(Path.Combine(directory, "conf", "config.yaml"),
            $$"""
            apisix:
              node_listen: [{ip: 127.0.0.1, port: 0}]
              control: {ip: 127.0.0.1, port: 0}
              status: {ip: 127.0.0.1, port: 0}
            deployment:
              role_traditional: {config_provider: {{(etcd is null ? "embedded" : "etcd")}} }
              etcd: {host: ["{{etcd ?? new Uri("http://127.0.0.1:2379")}}"], prefix: {{prefix}} }
              admin:
                admin_listen: {ip: 127.0.0.1, port: 0}
                admin_key: [{name: admin, key: {{AdminKey}}, role: admin}]
            plugin_attr:
              prometheus: {export_addr: {ip: 127.0.0.1, port: 0} }
            """);
        return Gateway.StartAsync(new GatewayOptions(directory));
    }

    static long Memory() => GC.GetTotalMemory(forceFullCollection: true);

    static void Say(string what, TimeSpan time) =>
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what}: {time.TotalMilliseconds:0} ms"));

    static void Say(string what, List<TimeSpan> times)
    {
        times.Sort();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{what}: median {times[times.Count / 2].TotalMilliseconds:0.0} ms, 99th percentile {times[times.Count * 99 / 100].TotalMilliseconds:0.0} ms, most {times[^1].TotalMilliseconds:0.0} ms"));
    }
}

using System.Net;
using System.Text.Json.Nodes;
using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Observability;
using Sluice.Pipeline;

namespace Sluice.Bench;

/// <summary>Matching must not depend on the number of routes: 10,000 routes in about the time of 10.</summary>
[MemoryDiagnoser]
public class RouterBenchmark
{
    Exchange _exact = null!, _prefix = null!, _parameter = null!, _host = null!, _miss = null!;
    Router _router = null!;

    [Params(10, 1_000, 10_000)]
    public int Routes { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        var services = new PluginServices(TimeProvider.System, NullLoggerFactory.Instance, new GatewayMetrics(NullLogger.Instance));
        var documents = DocumentSet.Of(Enumerable.Range(0, Routes).Select(i => (i % 4) switch
        {
            0 => Route(i, $$""" "uri":"/api/v{{i % 7}}/service{{i}}/items" """),
            1 => Route(i, $$""" "uri":"/api/v{{i % 7}}/service{{i}}/*" """),
            2 => Route(i, $$""" "uri":"/users/s{{i}}/:name/files/*path" """),
            _ => Route(i, $$""" "uri":"/*","host":"app{{i}}.example.com" """),
        }));
        var (snapshot, problems) = new SnapshotCompiler(services, []).Compile(SettingsReader.Parse("/", "", null, _ => null).Settings!,
            documents, null);
        _router = snapshot?.Router ?? throw new InvalidOperationException(string.Join('\n', problems));
        var (i, last) = (Routes / 2 / 4 * 4, Routes - 1);
        _exact = Of(snapshot, services, $"/api/v{i % 7}/service{i}/items");
        _prefix = Of(snapshot, services, $"/api/v{(i + 1) % 7}/service{i + 1}/a/b");
        _parameter = Of(snapshot, services, $"/users/s{i + 2}/jack/files/a/b");
        _host = Of(snapshot, services, "/x", $"app{last / 4 * 4 - 1}.example.com");
        _miss = Of(snapshot, services, "/nothing/here");
    }

    static Document Route(int id, string json)
    {
        var value =
            JsonNode.Parse($$"""{"id":"r{{id}}",{{json}},"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:80":1} } }""")!.AsObject();
        return new(ResourceKind.Routes, $"r{id}", value, 1, 1, "bench");
    }

    static Exchange Of(Snapshot snapshot, PluginServices services, string path, string host = "other.example.com")
    {
        var http = new DefaultHttpContext();
        http.Request.Method = "GET";
        http.Request.Host = new HostString(host);
        http.Connection.RemoteIpAddress = IPAddress.Loopback;
        return new Exchange(http, snapshot, services, 0) { Uri = path };
    }

    Route? Match(Exchange exchange) => _router.Match(exchange, exchange.Host);

    [Benchmark(Baseline = true)]
    public object? Exact() => Match(_exact);

    [Benchmark]
    public object? Prefix() => Match(_prefix);

    [Benchmark]
    public object? Parameter() => Match(_parameter);

    [Benchmark]
    public object? Host() => Match(_host);

    [Benchmark]
    public object? Miss() => Match(_miss);
}

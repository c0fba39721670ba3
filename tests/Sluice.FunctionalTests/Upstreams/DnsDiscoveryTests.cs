using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.FunctionalTests.Origins;
using Sluice.Model.Settings;
using Sluice.Upstreams.Discovery;

namespace Sluice.FunctionalTests.Upstreams;

public sealed class DnsDiscoveryTests : IDisposable
{
    readonly DnsServer _dns = new();
    readonly ManualClock _clock = new();

    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _dns.Dispose();

    DnsDiscovery Discovery(params string[] order) => new(
        new DnsDiscoverySettings([_dns.EndPoint], "/etc/resolv.conf", order.Length > 0 ? order : ["last", "SRV", "A", "AAAA", "CNAME"],
            TimeSpan.FromSeconds(5), null),
        _clock, NullLogger<DnsDiscovery>.Instance);

    static async Task<string> NodesAsync(DnsDiscovery discovery, string service) =>
        string.Join(' ', (await discovery.NodesAsync(service, Cancellation))
        .Select(node => $"{node.Host}:{node.Port} w{node.Weight} p{node.Priority}"));

    [Fact]
    public async Task All_addresses_are_nodes()
    {
        _dns.Addresses("four.test", "10.0.0.2", "10.0.0.1");
        _dns.Addresses("six.test", "2001:db8::1");
        await using var discovery = Discovery();
        Assert.Equal("10.0.0.1: w1 p0 10.0.0.2: w1 p0", await NodesAsync(discovery, "four.test"));
        Assert.Equal("10.0.0.1:8080 w1 p0 10.0.0.2:8080 w1 p0", await NodesAsync(discovery, "four.test:8080"));
        Assert.Equal("2001:db8::1: w1 p0", await NodesAsync(discovery, "six.test"));
    }

    [Fact]
    public async Task SRV_records_tell_ports_weights_and_priorities()
    {
        _dns.Services("srv.test", (10, 60, 1980, "a.test"), (20, 20, 1981, "b.test"), (20, 0, 0, "a.test"));
        _dns.Addresses("a.test", "1.1.1.1");
        _dns.Addresses("b.test", "1.1.1.2", "1.1.1.3");
        await using var discovery = Discovery();
        // two addresses of one target share its weight; a weight of 0 is a small chance; port 0 is the scheme's
        Assert.Equal("1.1.1.1: w1 p-20 1.1.1.1:1980 w60 p-10 1.1.1.2:1981 w10 p-20 1.1.1.3:1981 w10 p-20",
            await NodesAsync(discovery, "srv.test"));
        Assert.StartsWith("1.1.1.1:99 ", await NodesAsync(discovery, "srv.test:99"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Records_hold_as_long_as_their_TTL_and_equal_ones_are_the_same_nodes()
    {
        _dns.Ttl = 30;
        _dns.Addresses("a.test", "10.0.0.1");
        await using var discovery = Discovery();
        var first = await discovery.NodesAsync("a.test", Cancellation);
        var queries = _dns.Queries;
        _clock.Advance(TimeSpan.FromSeconds(29));
        Assert.Same(first, await discovery.NodesAsync("a.test", Cancellation));
        Assert.Equal(queries, _dns.Queries);
        _clock.Advance(TimeSpan.FromSeconds(2));
        Assert.Same(first, await discovery.NodesAsync("a.test", Cancellation));
        // "last": the type that had records is asked for first
        Assert.Equal(queries + 1, _dns.Queries);
        _dns.Addresses("a.test", "10.0.0.9");
        _clock.Advance(TimeSpan.FromSeconds(31));
        Assert.Equal("10.0.0.9: w1 p0", await NodesAsync(discovery, "a.test"));
    }

    [Fact]
    public async Task Old_nodes_serve_on_while_the_server_fails()
    {
        _dns.Addresses("a.test", "10.0.0.1");
        await using var discovery = Discovery("A");
        await NodesAsync(discovery, "a.test");
        _dns.Fails = true;
        _clock.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal("10.0.0.1: w1 p0", await NodesAsync(discovery, "a.test"));
        var failure = await Assert.ThrowsAsync<DiscoveryException>(async () => await discovery.NodesAsync("b.test", Cancellation));
        Assert.Contains("dns: b.test: ", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_name_that_is_gone_has_no_nodes()
    {
        await using var discovery = Discovery();
        var failure = await Assert.ThrowsAsync<DiscoveryException>(async () => await discovery.NodesAsync("gone.test", Cancellation));
        Assert.Equal("dns: gone.test: no such name, or one without records", failure.Message);
    }

    [Fact]
    public async Task Requests_go_to_the_nodes_that_DNS_names_at_the_time()
    {
        await using var a = await WebOrigin.StartAsync("a");
        await using var b = await WebOrigin.StartAsync("b");
        _dns.Addresses("node.test", "127.0.0.1");
        _dns.Services("api.test", (1, 1, a.Port, "node.test"));
        await using var gateway = await TestGateway.StartAsync($"discovery:\n  dns: {{servers: [\"{_dns.EndPoint}\"]}}");
        await gateway.PutAsync("/routes/1",
            """{"uri":"/*","upstream":{"type":"roundrobin","discovery_type":"dns","service_name":"api.test"} }""");
        Assert.Equal("a", await gateway.Client.GetStringAsync(gateway.Url("/"), Cancellation));

        _dns.Services("api.test", (1, 1, b.Port, "node.test"));
        await Eventually.TrueAsync(
            () => gateway.Client.GetStringAsync(gateway.Url("/"), Cancellation).GetAwaiter().GetResult() == "b",
            "the new node is not asked");
        var dump = await gateway.ControlAsync("/v1/discovery/dns/dump");
        Assert.Equal(b.Port, (int)dump["services"]!["api.test"]![0]!["port"]!);
        Assert.Equal(_dns.EndPoint.ToString(), (string)dump["config"]!["servers"]![0]!);

        await gateway.PutAsync("/routes/2", """{"uri":"/gone","upstream":{"discovery_type":"dns","service_name":"gone.test"} }""");
        using var gone = await gateway.Client.GetAsync(gateway.Url("/gone"), Cancellation);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, gone.StatusCode);
        await gateway.ErrorLogSaysAsync("dns: gone.test: no such name");
    }

    [Fact]
    public async Task A_kind_of_discovery_that_is_not_there_is_refused()
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/upstreams/1", """{"discovery_type":"nacos","service_name":"x"}""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Equal("invalid configuration: discovery_type \"nacos\" is not supported by this version of Sluice: use dns or consul",
            (string)body!["error_msg"]!);
    }
}

using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>traffic-split sends requests to upstreams of its own, which are upstreams like all others.</summary>
public sealed class TrafficSplitTests
{
    [Fact]
    public async Task A_request_goes_to_the_upstream_whose_turn_it_is_and_on_to_its_next_node()
    {
        int first = 0, second = 0;
        await using var one = EchoOrigin.Start(() => Interlocked.Increment(ref first));
        await using var other = EchoOrigin.Start(() => Interlocked.Increment(ref second));
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", one.Port, $$$"""
            "plugins":{"traffic-split":{"rules":[{"weighted_upstreams":[{"upstream":{"nodes":{"127.0.0.1:1":1,"127.0.0.1:{{{other.Port}}}":1},"retries":1},"weight":2},{"weight":1}]}]}}
            """);
        for (var i = 0; i < 6; i++)
        {
            using var response = await gateway.Client.GetAsync(gateway.Url("/"), TestContext.Current.CancellationToken);
            Assert.Equal(200, (int)response.StatusCode);
        }
        Assert.Equal((2, 4), (first, second));
    }

    [Fact]
    public async Task An_upstream_in_a_plugin_has_its_health_shown_once_a_request_has_gone_there()
    {
        await using var origin = EchoOrigin.Start(() => { });
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port, $$$"""
            "plugins":{"traffic-split":{"rules":[{"weighted_upstreams":[{"upstream":{"nodes":{"127.0.0.1:{{{origin.Port}}}":1},"checks":{"active":{"type":"tcp"} } } }]}]}}
            """);
        Assert.Empty((await gateway.ControlAsync("/v1/healthcheck")).AsArray());
        using var response = await gateway.Client.GetAsync(gateway.Url("/"), TestContext.Current.CancellationToken);
        Assert.Equal(200, (int)response.StatusCode);
        var made = Assert.Single((await gateway.ControlAsync("/v1/healthcheck")).AsArray())!;
        Assert.StartsWith("/apisix/routes/r1#", (string)made["name"]!, StringComparison.Ordinal);
        Assert.Equal(("tcp", origin.Port), ((string)made["type"]!, (int)Assert.Single(made["nodes"]!.AsArray())!["port"]!));
        await gateway.RouteAsync("r1", "/*", origin.Port);
        await Eventually.HoldsAsync(async () => (await gateway.ControlAsync("/v1/healthcheck")).AsArray().Count == 0,
            "it ends with the plugin");
    }
}

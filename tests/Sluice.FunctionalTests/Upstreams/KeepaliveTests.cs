using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Upstreams;

/// <summary>Connections to upstreams are kept between requests, whatever is reloaded meanwhile.</summary>
public sealed class KeepaliveTests
{
    [Theory]
    [InlineData("nothing")]
    [InlineData("reload")]
    [InlineData("changed nginx.conf")]
    [InlineData("changed config.yaml")]
    [InlineData("broken config.yaml")]
    [InlineData("another route")]
    [InlineData("the route itself")]
    [InlineData("global rule")]
    public async Task Requests_after_a_change_share_a_connection_as_those_before_it(string change)
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);
        await AskAsync(gateway, 3);
        Assert.Equal(1, origin.Accepted);

        for (var round = 0; round < 3; round++)
        {
            switch (change)
            {
                case "reload":
                    await gateway.ReloadAsync();
                    break;
                case "changed nginx.conf":
                    gateway.Write("conf/nginx.conf", $"http {{ proxy_buffering off; server {{ server_name s{round}.test; }} }}");
                    await gateway.ReloadAsync();
                    break;
                case "changed config.yaml":
                    gateway.Write("conf/config.yaml", TestGateway.Config($"nginx_config: {{http: {{keepalive_timeout: {60 + round}s}}}}"));
                    await gateway.ReloadAsync();
                    break;
                case "broken config.yaml":
                    gateway.Write("conf/config.yaml", "apisix: [nonsense");
                    Assert.NotEmpty(await gateway.Gateway.ReloadAsync());
                    break;
                case "another route":
                    await gateway.RouteAsync($"other{round}", $"/other{round}", origin.Port);
                    break;
                case "the route itself":
                    await gateway.RouteAsync("r1", "/*", origin.Port, $$""" "labels":{"round":"{{round}}"} """);
                    break;
                case "global rule":
                    await gateway.PutAsync("/global_rules/1", $$"""{"plugins":{"request-id":{"header_name":"X-Id-{{round}}"} } }""");
                    break;
            }
            // the first one after a change may need a connection of its own, the others not
            await AskAsync(gateway, 1);
            var accepted = origin.Accepted;
            await AskAsync(gateway, 3);
            Assert.Equal(accepted, origin.Accepted);
        }
    }

    /// <summary>One after the other on one connection: on one event loop.</summary>
    static async Task AskAsync(TestGateway gateway, int requests)
    {
        for (var i = 0; i < requests; i++)
        {
            using var response = await gateway.Client.GetAsync(gateway.Url("/"), TestContext.Current.CancellationToken);
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        }
    }
}

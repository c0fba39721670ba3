using Microsoft.AspNetCore.Server.Kestrel.Core;
using Sluice.Hosting;
using Sluice.Model.Settings;

namespace Sluice.Tests.Hosting;

public class GatewayLimitsTests
{
    [Theory]
    [InlineData("", "", 60, 60)]
    [InlineData("nginx_config: {http: {keepalive_timeout: 5s, client_header_timeout: 7s}}", "", 5, 7)]
    [InlineData("nginx_config: {http: {keepalive_timeout: 5s}}", "http { keepalive_timeout 75s; client_header_timeout 10s; }", 75, 10)]
    public void Timeouts_of_connections_come_from_the_http_level(string config, string nginx, int keepalive, int head)
    {
        var limits = LimitsOf(config, nginx);
        Assert.Equal((TimeSpan.FromSeconds(keepalive), TimeSpan.FromSeconds(head)),
            (limits.KeepAliveTimeout, limits.RequestHeadersTimeout));
    }

    [Fact]
    public void Zero_keeps_no_connection_and_waits_for_any_head()
    {
        var limits = LimitsOf("", "http { keepalive_timeout 0; client_header_timeout 0; }");
        Assert.Equal((TimeSpan.FromTicks(1), TimeSpan.MaxValue), (limits.KeepAliveTimeout, limits.RequestHeadersTimeout));
    }

    static KestrelServerLimits LimitsOf(string config, string nginx)
    {
        var (settings, problems) = SettingsReader.Parse("/", config, nginx, _ => null);
        Assert.Empty(problems);
        var limits = new KestrelServerLimits();
        Addresses.Limit(limits, settings!, new(System.Net.IPAddress.Loopback, 9080));
        return limits;
    }
}

using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>APISIX's example does here what it does there.</summary>
public sealed class ExamplePluginTests
{
    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Each_phase_is_in_the_log_and_the_request_goes_where_the_plugin_says()
    {
        await using var origin = await WebOrigin.StartAsync("there");
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("1", "/*", 1, $$"""
            "plugins":{"example-plugin":{"i":11,"ip":"127.0.0.1","port":{{origin.Port}} } }
            """);
        Assert.Equal("there", await gateway.Client.GetStringAsync(gateway.Url("/"), Cancel));
        foreach (var phase in (string[])["rewrite phase, conf: ", "access phase, conf: ", "header_filter phase, conf: ",
            "body_filter phase, eof: true, conf: ", "log phase, conf: "])
        {
            await gateway.ErrorLogSaysAsync($$"""plugin {{phase}}{"i":11,"ip":"127.0.0.1","port":{{origin.Port}}}""");
        }
    }

    [Fact]
    public async Task The_Control_API_says_hello()
    {
        await using var gateway = await TestGateway.StartAsync();
        var hello = $"http://{gateway.Gateway.ControlEndpoint}/v1/plugin/example-plugin/hello";
        Assert.Equal("world\n", await gateway.Client.GetStringAsync(hello, Cancel));
        Assert.Equal("{\"msg\":\"world\"}\n", await gateway.Client.GetStringAsync($"{hello}?json", Cancel));
    }

    [Fact]
    public async Task Metadata_are_checked()
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/plugin_metadata/example-plugin", """{"skey":"val"}""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains("property \"ikey\" is required", (string)body!["error_msg"]!, StringComparison.Ordinal);
        await gateway.PutAsync("/plugin_metadata/example-plugin", """{"ikey":1,"skey":"val"}""");
    }
}

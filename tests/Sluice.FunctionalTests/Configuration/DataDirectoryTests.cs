using System.Net;
using Sluice.Hosting;

namespace Sluice.FunctionalTests.Configuration;

public class DataDirectoryTests
{
    [Fact]
    public async Task The_store_is_where_data_dir_says_and_one_gateway_uses_it()
    {
        await using var gateway = await TestGateway.StartAsync("sluice: {data_dir: elsewhere/store}");
        await gateway.RouteAsync("r1", "/*", 9);
        Assert.True(File.Exists(Path.Combine(gateway.Prefix, "elsewhere", "store", "sluice.db")));
        Assert.False(Path.Exists(Path.Combine(gateway.Prefix, "data")));
        Assert.Equal(HttpStatusCode.OK, (await gateway.AdminAsync(HttpMethod.Get, "/routes/r1")).Status);

        var other = Directory.CreateTempSubdirectory("sluice-test-").FullName;
        TestGateway.Write(other, "conf/config.yaml",
            TestGateway.Config($"sluice: {{data_dir: {Path.Combine(gateway.Prefix, "elsewhere", "store")}}}"));
        var refused = await Assert.ThrowsAsync<GatewayStartException>(() => Gateway.StartAsync(new GatewayOptions(other)));
        Assert.Contains(
            $"already runs on prefix {gateway.Prefix} with the same data directory {Path.Combine(gateway.Prefix, "elsewhere", "store")}",
            refused.Message, StringComparison.Ordinal);
        Assert.Contains($"(pid {Environment.ProcessId})", refused.Message, StringComparison.Ordinal);
        Directory.Delete(other, recursive: true);
    }
}

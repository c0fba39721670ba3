using System.Net;
using Sluice.FunctionalTests.Configuration;

namespace Sluice.FunctionalTests.Admin;

/// <summary><c>?ttl=</c> with the embedded store.</summary>
public sealed class ExpiryTests
{
    [Fact]
    public async Task A_resource_ends_when_its_time_is_over_also_after_a_restart_and_stays_when_written_again_without()
    {
        var first = await TestGateway.StartAsync();
        first.KeepsPrefix = true;
        foreach (var id in new[] { "short", "kept", "long" })
        {
            var (status, _) = await first.AdminAsync(HttpMethod.Put, $"/routes/{id}?ttl={(id == "long" ? "1000" : "1")}",
                EtcdGateway.Route($"/{id}", "/x"));
            Assert.Equal(HttpStatusCode.Created, status);
        }
        await first.PutAsync("/routes/kept", EtcdGateway.Route("/kept", "/x"));
        await EtcdGateway.LeadsAsync(first, "/short", "404");
        await first.AdminAsync(HttpMethod.Put, "/routes/next?ttl=1", EtcdGateway.Route("/next", "/x"));
        await first.DisposeAsync();
        await using var second = await TestGateway.RunAsync(first.Prefix, TestGateway.Config());
        await EtcdGateway.LeadsAsync(second, "/next", "404");
        Assert.Equal("/x", await EtcdGateway.WhereAsync(second, "/kept"));
        Assert.Equal("/x", await EtcdGateway.WhereAsync(second, "/long"));
        Assert.Equal(HttpStatusCode.NotFound, (await second.AdminAsync(HttpMethod.Get, "/routes/next")).Status);
    }

    [Theory]
    [InlineData("abc", "invalid argument ttl: should be a number")]
    [InlineData("0", "invalid argument ttl: should be a number of seconds above 0")]
    public async Task A_wrong_time_is_refused(string ttl, string error)
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, $"/routes/r1?ttl={ttl}", EtcdGateway.Route("/r1", "/x"));
        Assert.Equal((HttpStatusCode.BadRequest, error), (status, (string?)body!["error_msg"]));
    }
}

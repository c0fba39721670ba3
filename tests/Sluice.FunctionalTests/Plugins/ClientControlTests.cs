using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>client-control's limit is the one that counts, whether it is less or more than the nginx block's.</summary>
public sealed class ClientControlTests
{
    [Theory]
    [InlineData(""" "name":"r" """, 11, 413)]
    [InlineData(""" "plugins":{"client-control":{"max_body_size":20}} """, 11, 200)]
    [InlineData(""" "plugins":{"client-control":{"max_body_size":20}} """, 21, 413)]
    [InlineData(""" "plugins":{"client-control":{"max_body_size":5}} """, 6, 413)]
    [InlineData(""" "plugins":{"client-control":{"max_body_size":0}} """, 100, 200)]
    public async Task The_plugins_limit_counts(string plugins, int length, int status)
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync(nginx: "http { client_max_body_size 10; }");
        await gateway.RouteAsync("r1", "/*", origin.Port, plugins);
        foreach (var chunked in (bool[])[false, true])
        {
            using var request = new HttpRequestMessage(HttpMethod.Post,
                gateway.Url("/")) { Content = new StringContent(new string('x', length)) };
            request.Headers.TransferEncodingChunked = chunked;
            using var response = await gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
            Assert.Equal((chunked, status), (chunked, (int)response.StatusCode));
        }
    }
}

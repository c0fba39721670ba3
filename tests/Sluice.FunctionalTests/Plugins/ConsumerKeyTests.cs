using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>Keys of consumers that are nearly right.</summary>
public sealed class ConsumerKeyTests : IAsyncLifetime
{
    const string Key = "consumers-key";
    readonly ScriptedOrigin _origin = EchoOrigin.Start();
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync()
    {
        _gateway = await TestGateway.StartAsync();
        await _gateway.PutAsync("/consumers", $$"""{"username":"jack","plugins":{"key-auth":{"key":"{{Key}}"} } }""");
        await _gateway.RouteAsync("r1", "/*", _origin.Port, """ "plugins":{"key-auth":{}} """);
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    [Theory]
    [InlineData(Key, true)]
    [InlineData("consumers-ke", false)]
    [InlineData("onsumers-key", false)]
    [InlineData("c", false)]
    [InlineData("consumers-keyx", false)]
    [InlineData("consumers-keyconsumers-key", false)]
    [InlineData("CONSUMERS-KEY", false)]
    [InlineData("consumers_key", false)]
    [InlineData("jack", false)]
    [InlineData("", false)]
    public async Task Only_the_whole_key_lets_in(string key, bool admitted)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/"));
        request.Headers.Add("apikey", key);
        using var response = await _gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal(admitted ? HttpStatusCode.OK : HttpStatusCode.Unauthorized, response.StatusCode);
    }
}

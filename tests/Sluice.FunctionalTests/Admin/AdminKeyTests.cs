using System.Net;
using System.Text.Json.Nodes;

namespace Sluice.FunctionalTests.Admin;

/// <summary>Who may do what through the Admin API: keys that are nearly right, and the role that may only read.</summary>
public sealed class AdminKeyTests : IAsyncLifetime
{
    const string ViewerKey = "a-viewers-key";
    const string Route = """{"uri":"/x","upstream":{"nodes":{"127.0.0.1:1":1}}}""";
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync()
    {
        _gateway = await TestGateway.RunAsync(Directory.CreateTempSubdirectory("sluice-test-").FullName, TestGateway.Config().Replace(
            "role: admin}", $"role: admin}}\n      - {{name: viewer, key: {ViewerKey}, role: viewer}}", StringComparison.Ordinal));
        await _gateway.PutAsync("/routes/r1", Route);
    }

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    public static TheoryData<string> NearMisses =>
    [
        TestGateway.AdminKey[..^1],
        TestGateway.AdminKey[1..],
        TestGateway.AdminKey[..1],
        TestGateway.AdminKey + "x",
        "x" + TestGateway.AdminKey,
        TestGateway.AdminKey + TestGateway.AdminKey,
        TestGateway.AdminKey + "," + TestGateway.AdminKey,
        TestGateway.AdminKey + "%00",
        TestGateway.AdminKey.ToUpperInvariant(),
        ViewerKey[..^1],
        "",
        "*",
    ];

    [Theory]
    [MemberData(nameof(NearMisses))]
    public async Task A_key_that_is_nearly_right_is_wrong(string key)
    {
        foreach (var method in (HttpMethod[])[HttpMethod.Get, HttpMethod.Delete])
        {
            var (status, body) = await _gateway.AdminAsync(method, "/routes/r1", key: key);
            Assert.Equal((HttpStatusCode.Unauthorized, "wrong apikey"), (status, (string?)body!["description"]));
        }
        Assert.Equal(HttpStatusCode.OK, (await _gateway.AdminAsync(HttpMethod.Get, "/routes/r1")).Status);
    }

    [Theory]
    [InlineData("/routes")]
    [InlineData("/routes/r1")]
    [InlineData("/plugins/list")]
    [InlineData("/plugins/limit-count")]
    [InlineData("/schema/route")]
    public async Task A_viewer_may_read(string path) =>
        Assert.Equal(HttpStatusCode.OK, (await _gateway.AdminAsync(HttpMethod.Get, path, key: ViewerKey)).Status);

    [Theory]
    [InlineData("PUT", "/routes/r1", Route)]
    [InlineData("PUT", "/routes/r2", Route)]
    [InlineData("POST", "/routes", Route)]
    [InlineData("PATCH", "/routes/r1", """{"uri":"/y"}""")]
    [InlineData("PATCH", "/routes/r1/uri", "\"/y\"")]
    [InlineData("DELETE", "/routes/r1", null)]
    [InlineData("DELETE", "/routes/r1?force=true", null)]
    [InlineData("PUT", "/consumers", """{"username":"jack"}""")]
    [InlineData("PUT", "/plugin_metadata/batch-requests", """{"max_body_size":50}""")]
    [InlineData("PUT", "/plugins/reload", null)]
    [InlineData("POST", "/schema/validate/routes", Route)]
    [InlineData("PUT", "/configs", "{}")]
    public async Task A_viewer_may_change_nothing(string method, string path, string? json)
    {
        var before = await StoredAsync();
        var (status, body) = await _gateway.AdminAsync(new HttpMethod(method), path, json, ViewerKey);
        Assert.Equal((HttpStatusCode.Unauthorized, "invalid method for role viewer"), (status, (string?)body!["description"]));
        Assert.Equal(before, await StoredAsync());
    }

    [Theory]
    [InlineData("query")]
    [InlineData("cookie")]
    [InlineData("both")]
    public async Task A_viewers_key_is_a_viewers_wherever_it_stands(string where)
    {
        using var request = new HttpRequestMessage(HttpMethod.Delete,
            $"http://{_gateway.Gateway.AdminEndpoint}/apisix/admin/routes/r1{(where == "cookie" ? "" : "?api_key=" + ViewerKey)}");
        if (where == "cookie")
        {
            request.Headers.Add("Cookie", "x_api_key=" + ViewerKey);
        }
        if (where == "both")
        {
            // the argument is the key that counts
            request.Headers.Add("X-API-KEY", TestGateway.AdminKey);
        }
        using var response = await _gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.Unauthorized, response.StatusCode);
        Assert.Contains("invalid method for role viewer", await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
            StringComparison.Ordinal);
    }

    async Task<string> StoredAsync()
    {
        List<JsonNode?> stored = [];
        foreach (var kind in (string[])["/routes", "/consumers", "/plugin_metadata"])
        {
            stored.Add((await _gateway.AdminAsync(HttpMethod.Get, kind)).Body);
        }
        return string.Concat(stored.Select(list => list?.ToJsonString()));
    }
}

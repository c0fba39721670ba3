using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Requests;

/// <summary>Settings of APISIX that change how a request is seen: who sent it, which path it has, what the answer says of the
/// server.</summary>
public class RequestTests
{
    static async Task<(HttpStatusCode Status, string Body, HttpResponseMessage Response)> GetAsync(TestGateway gateway, string path,
        params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get,
            new Uri(gateway.Url("/").GetLeftPart(UriPartial.Authority) + path,
                new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }));
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        var response = await gateway.Client.SendAsync(request);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(), response);
    }

    [Fact]
    public async Task A_trusted_proxy_names_the_client_to_plugins_and_upstream()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync(
            "nginx_config: {http: {real_ip_header: X-Forwarded-For, real_ip_recursive: \"on\"}}");
        await gateway.RouteAsync("r1", "/*", origin.Port, """ "plugins":{"ip-restriction":{"whitelist":["192.0.2.0/24"]}} """);

        var (status, echo, _) = await GetAsync(gateway, "/", ("X-Forwarded-For", "192.0.2.9"));
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Contains("X-Real-IP: 192.0.2.9\r\n", echo, StringComparison.Ordinal);
        Assert.Contains("X-Forwarded-For: 192.0.2.9, 127.0.0.1\r\n", echo, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.Forbidden, (await GetAsync(gateway, "/", ("X-Forwarded-For", "192.0.2.9, 198.51.100.1"))).Status);
        Assert.Equal(HttpStatusCode.Forbidden, (await GetAsync(gateway, "/")).Status);
    }

    [Fact]
    public async Task Scheme_host_and_port_of_an_untrusted_peer_are_the_gateways_own()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);

        var (_, echo, _) = await GetAsync(gateway, "/", ("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "1"),
            ("X-Forwarded-Host", "evil.test"));
        Assert.Contains("X-Forwarded-Proto: http\r\n", echo, StringComparison.Ordinal);
        Assert.Contains($"X-Forwarded-Port: {gateway.EndPoint.Port}\r\n", echo, StringComparison.Ordinal);
        Assert.DoesNotContain("evil.test", echo, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Paths_are_matched_by_the_settings_and_reach_the_upstream_as_sent()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        gateway.Write("conf/config.yaml",
            TestGateway.Config().Replace("apisix:\n",
                "apisix:\n  delete_uri_tail_slash: true\n  normalize_uri_like_servlet: true\n  match_uri_encoded_slash: true\n",
                StringComparison.Ordinal));
        await gateway.ReloadAsync();
        await gateway.RouteAsync("r1", "/a/b", origin.Port);
        await gateway.RouteAsync("r2", "/blog/:name", origin.Port);

        Assert.StartsWith("GET /a/b/ HTTP/1.1\r\n", (await GetAsync(gateway, "/a/b/")).Body, StringComparison.Ordinal);
        Assert.StartsWith("GET /a;v=1/b?x=/ HTTP/1.1\r\n", (await GetAsync(gateway, "/a;v=1/b?x=/")).Body, StringComparison.Ordinal);
        Assert.StartsWith("GET /blog/cat%2Fdog HTTP/1.1\r\n", (await GetAsync(gateway, "/blog/cat%2Fdog")).Body, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.NotFound, (await GetAsync(gateway, "/blog/cat/dog")).Status);
        Assert.Equal(HttpStatusCode.BadRequest, (await GetAsync(gateway, "/a/..;/b")).Status);
    }

    [Theory]
    [InlineData("true", "Sluice/")]
    [InlineData("false", "Sluice")]
    public async Task The_Server_header_tells_the_version_only_with_enable_server_tokens(string tokens, string expected)
    {
        await using var gateway = await TestGateway.StartAsync();
        gateway.Write("conf/config.yaml",
            TestGateway.Config().Replace("apisix:\n", $"apisix:\n  enable_server_tokens: {tokens}\n", StringComparison.Ordinal));
        await gateway.ReloadAsync();

        var server = (await GetAsync(gateway, "/")).Response.Headers.Server.ToString();
        Assert.True(expected.EndsWith('/') ? server.StartsWith(expected, StringComparison.Ordinal) : server == expected, server);
    }

    [Fact]
    public async Task Headers_with_underscores_are_dropped_where_the_configuration_says_so()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync("nginx_config: {http: {underscores_in_headers: \"off\"}}");
        await gateway.RouteAsync("r1", "/*", origin.Port);
        var (_, echo, _) = await GetAsync(gateway, "/", ("x_one", "1"), ("x-two", "2"));
        Assert.Contains("x-two: 2", echo, StringComparison.Ordinal);
        Assert.DoesNotContain("x_one", echo, StringComparison.Ordinal);
    }

    [Fact]
    public async Task After_log_rotation_lines_go_into_new_files()
    {
        await using var gateway = await TestGateway.StartAsync();
        var access = Path.Combine(gateway.Prefix, "logs", "access.log");
        await GetAsync(gateway, "/before");
        await Eventually.TrueAsync(() => File.Exists(access) && File.ReadAllText(access).Contains("/before", StringComparison.Ordinal),
            "no line before the rotation");
        File.Move(access, access + ".1");
        File.Move(Path.Combine(gateway.Prefix, "logs", "error.log"), Path.Combine(gateway.Prefix, "logs", "error.log.1"));

        gateway.Gateway.ReopenLogs();
        await Eventually.TrueAsync(() => File.Exists(access) && File.Exists(Path.Combine(gateway.Prefix, "logs", "error.log")),
            "the files were not opened again");
        await GetAsync(gateway, "/after");

        await Eventually.TrueAsync(() => File.ReadAllText(access).Contains("/after", StringComparison.Ordinal),
            "no line after the rotation");
        Assert.DoesNotContain("/after", await File.ReadAllTextAsync(access + ".1", TestContext.Current.CancellationToken),
            StringComparison.Ordinal);
    }
}

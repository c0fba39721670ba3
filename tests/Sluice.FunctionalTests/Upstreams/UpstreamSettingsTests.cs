using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Upstreams;

/// <summary>Settings of conf/config.yaml that are about upstreams.</summary>
public class UpstreamSettingsTests
{
    [Theory]
    [InlineData("", "HTTP/1.1 200 OK", null)]
    [InlineData("", "HTTP/1.1 503 Busy", "503")]
    [InlineData("  show_upstream_status_in_response_header: true", "HTTP/1.1 200 OK", "200")]
    public async Task The_upstreams_status_shows_on_5xx_or_when_asked_for(string setting, string answer, string? shown)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(answer + "\r\nContent-Length: 0\r\n\r\n");
        });
        await using var gateway = await TestGateway.StartAsync();
        gateway.Write("conf/config.yaml", TestGateway.Config().Replace("apisix:\n", $"apisix:\n{setting}\n", StringComparison.Ordinal));
        await gateway.ReloadAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);

        using var response = await gateway.Client.GetAsync(gateway.Url("/"));
        Assert.Equal(shown, response.Headers.TryGetValues("X-APISIX-Upstream-Status", out var values) ? values.Single() : null);
    }

    [Theory]
    [InlineData("true", "app.test")]
    [InlineData("false", "")]
    public async Task The_server_name_is_sent_unless_told_otherwise(string setting, string expected)
    {
        using var certificate = ScriptedOrigin.SelfSigned("app.test");
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var asked = ServerNameAsync(listener, certificate);
        await using var gateway = await TestGateway.StartAsync($"nginx_config: {{http: {{proxy_ssl_server_name: {setting}}}}}");
        await gateway.PutAsync("/routes/r1",
            $$"""{"uri":"/*","upstream":{"scheme":"https","nodes":{"127.0.0.1:{{((IPEndPoint)listener.LocalEndpoint).Port}}":1} } }""");

        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url("/")) { Headers = { Host = "app.test" } };
        using var response = await gateway.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.NoContent, response.StatusCode);
        Assert.Equal(expected, await asked);
    }

    static async Task<string> ServerNameAsync(TcpListener listener, X509Certificate2 certificate)
    {
        using var client = await listener.AcceptTcpClientAsync();
        await using var tls = new SslStream(client.GetStream());
        var name = "";
        await tls.AuthenticateAsServerAsync((_, hello, _, _) =>
        {
            name = hello.ServerName;
            return ValueTask.FromResult(new SslServerAuthenticationOptions { ServerCertificate = certificate });
        }, null);
        using var reader = new StreamReader(tls, leaveOpen: true);
        while (await reader.ReadLineAsync() is { Length: > 0 })
        {
        }
        await tls.WriteAsync(Encoding.ASCII.GetBytes("HTTP/1.1 204 No Content\r\n\r\n"));
        return name;
    }
}

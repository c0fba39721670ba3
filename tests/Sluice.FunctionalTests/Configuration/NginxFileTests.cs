using System.Net;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>What stands in nearly every nginx file, and does here what it does there.</summary>
public sealed class NginxFileTests(NginxFileTests.Fixture fixture) : IClassFixture<NginxFileTests.Fixture>
{
    public sealed class Fixture : IAsyncLifetime
    {
        ScriptedOrigin _origin = null!;

        public TestGateway Gateway { get; private set; } = null!;

        public int OriginPort => _origin.Port;

        public async ValueTask InitializeAsync()
        {
            _origin = EchoOrigin.Start();
            Gateway = await TestGateway.StartAsync(
                """
                nginx_config:
                  http:
                    access_log_format: '$status|$request_uri|\"$http_user_agent\"|$tenant'
                    access_log_format_escape: json
                """, Nginx);
            await Gateway.RouteAsync("r1", "/*", _origin.Port);
        }

        public async ValueTask DisposeAsync()
        {
            await Gateway.DisposeAsync();
            await _origin.DisposeAsync();
        }
    }

    const string Nginx = """
        http {
            large_client_header_buffers 8 512k;
            map $http_upgrade $connection_upgrade { default upgrade; '' close; }
            map $host $tenant { hostnames; default none; *.tenants.test $http_x_tenant; ~^t\d+\. numbered; }
            server {
                server_name app.test;
                location /old/ { return 301 https://$host$request_uri; }
                location / {
                    add_header X-Uri "$request_uri" always;
                    proxy_set_header X-Original-URI $request_uri;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_set_header X-Tenant $tenant;
                }
            }
            server {
                server_name ws.test;
                location /written { proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; }
                location / { proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; }
            }
            server { server_name one.tenants.test t7.test; proxy_set_header X-Tenant $tenant; }
        }
        """;

    Task<RawAnswer> AskAsync(string target, string more = "", string host = "app.test") =>
        RawClient.AskAsync(fixture.Gateway.EndPoint, $"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");

    [Theory]
    [InlineData("/old/a%20b?q=1")]
    [InlineData("/old/%E2%82%AC")]
    [InlineData("/old/a%3Fb")]
    [InlineData("/old/a%2Fb")]
    [InlineData("/old/%25zz")]
    [InlineData("/old//x/../y")]
    public async Task A_redirect_to_https_keeps_the_target_as_it_came(string target)
    {
        var answer = await AskAsync(target);
        Assert.Equal(301, answer.Status);
        Assert.Contains($"\r\nLocation: https://app.test{target}\r\n", answer.Head, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Headers_in_both_directions_and_the_log_have_the_target_as_it_came()
    {
        const string target = "/x//%E2%82%AC/a%2Fb?q=%zz";
        var answer = await AskAsync(target, "User-Agent: a\r\n");
        Assert.Contains($"\r\nX-Uri: {target}\r\n", answer.Head, StringComparison.OrdinalIgnoreCase);
        Assert.Contains($"\r\nX-Original-URI: {target}\r\n", answer.Body, StringComparison.OrdinalIgnoreCase);
        await LogSaysAsync($"200|{target}|\"a\"|none\n");
    }

    [Fact]
    public async Task The_access_log_has_the_bytes_of_headers_as_they_came()
    {
        await AskAsync("/ua", $"User-Agent: {Encoding.Latin1.GetString(Encoding.UTF8.GetBytes("é 中"))}\r\n");
        await LogSaysAsync("200|/ua|\"é 中\"|none\n");
    }

    async Task LogSaysAsync(string line)
    {
        var file = Path.Combine(fixture.Gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.ReadAllText(file).Contains(line, StringComparison.Ordinal), () => $"no {line}");
    }

    [Theory]
    [InlineData("/t/%e4", "/t/%E4")]
    [InlineData("/t/%c3%a4", "/t/%C3%A4")]
    [InlineData("/t/%ff%fe%80x", "/t/%FF%FE%80x")]
    public async Task A_rewrite_of_headers_leaves_the_bytes_of_a_path_alone(string sent, string forwarded)
    {
        await fixture.Gateway.RouteAsync("rewritten", "/t/*", fixture.OriginPort,
            """ "plugins":{"proxy-rewrite":{"headers":{"set":{"X-Set":"é $http_x_in","X-Uri":"$uri"}}}} """);
        var answer = await AskAsync(sent, "X-In: \x00e4\r\n");
        Assert.StartsWith($"GET {forwarded} HTTP/1.1\r\n", answer.Body, StringComparison.Ordinal);
        Assert.Contains("\r\nX-Set: \x00c3\x00a9 \x00e4\r\n", answer.Body, StringComparison.OrdinalIgnoreCase);
        Assert.Contains($"\r\nX-Uri: {Encoding.Latin1.GetString(System.Web.HttpUtility.UrlDecodeToBytes(sent))}\r\n", answer.Body,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "127.0.0.1")]
    [InlineData("X-Forwarded-For: 192.0.2.9\r\n", "192.0.2.9, 127.0.0.1")]
    [InlineData("X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.8\r\n", "192.0.2.9, 192.0.2.8, 127.0.0.1")]
    public async Task The_client_is_appended_to_X_Forwarded_For(string sent, string forwarded)
    {
        var answer = await AskAsync("/x", sent);
        Assert.Contains($"\r\nX-Forwarded-For: {forwarded}\r\n", answer.Body, StringComparison.OrdinalIgnoreCase);
    }

    [Theory]
    [InlineData("one.tenants.test", "X-Tenant: one\r\n", "one")]
    [InlineData("t7.test", "", "numbered")]
    [InlineData("app.test", "", "none")]
    public async Task A_map_makes_a_variable(string host, string sent, string tenant)
    {
        var answer = await AskAsync("/x", sent, host);
        Assert.Contains($"\r\nX-Tenant: {tenant}\r\n", answer.Body, StringComparison.OrdinalIgnoreCase);
    }

    [Theory]
    [InlineData("/written")]
    [InlineData("/mapped")]
    public async Task The_WebSocket_lines_let_an_upgrade_pass(string path)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            Assert.Contains("\r\nUpgrade: websocket\r\n", head, StringComparison.OrdinalIgnoreCase);
            await connection.SendAsync("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
            await connection.ExpectAsync("ping");
            await connection.SendAsync("pong");
            await connection.ReadEndAsync();
        });
        await fixture.Gateway.RouteAsync("ws" + path[1..], path, origin.Port);
        using var client = await RawClient.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync($"GET {path} HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        await client.UntilAsync("\r\n\r\n");
        await client.SendAsync("ping");
        await client.UntilAsync("pong");
    }

    [Fact]
    public async Task Where_the_lines_are_not_there_an_upgrade_does_not_pass()
    {
        var answer = await AskAsync("/x", "Connection: Upgrade\r\nUpgrade: websocket\r\n");
        Assert.DoesNotContain("Upgrade:", answer.Body, StringComparison.OrdinalIgnoreCase);
    }

    [Theory]
    [InlineData(33_000, 10)]
    [InlineData(400_000, 10)]
    [InlineData(10, 60_000)]
    public async Task Large_heads_pass_up_to_large_client_header_buffers(int header, int query)
    {
        var answer = await AskAsync($"/x?{new string('q', query)}", $"X-Big: {new string('h', header)}\r\n");
        Assert.Equal(200, answer.Status);
        Assert.Contains($"X-Big: {new string('h', header)}\r\n", answer.Body, StringComparison.Ordinal);
        Assert.StartsWith($"GET /x?{new string('q', query)} ", answer.Body, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(600_000, 10, 431)]
    [InlineData(10, 600_000, 414)]
    public async Task Larger_ones_are_refused(int header, int query, int status) =>
        Assert.Equal(status, (await AskAsync($"/x?{new string('q', query)}", $"X-Big: {new string('h', header)}\r\n")).Status);

    [Fact]
    public async Task Large_heads_pass_over_HTTP2_too()
    {
        using var client = new HttpClient { DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };
        using var request = new HttpRequestMessage(HttpMethod.Get, fixture.Gateway.Url($"/x?{new string('q', 30_000)}"))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        request.Headers.Add("X-Big", new string('h', 100_000));
        using var answer = await client.SendAsync(request);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Contains(new string('h', 100_000), await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }
}

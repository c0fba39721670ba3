using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>Which server and location a request falls under, and what it inherits: read off the answers of a running gateway.</summary>
public sealed class NginxBlockTests(NginxBlockTests.Fixture fixture) : IClassFixture<NginxBlockTests.Fixture>
{
    public sealed class Fixture : IAsyncLifetime
    {
        ScriptedOrigin _origin = null!;

        public TestGateway Gateway { get; private set; } = null!;

        public async ValueTask InitializeAsync()
        {
            _origin = EchoOrigin.Start();
            Gateway = await TestGateway.StartAsync("sluice: {debug_headers: true}", Nginx);
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
          proxy_buffering on;
          add_header X-Block http;
          proxy_set_header X-Seen http;

          server { server_name exact.example.com; add_header X-Block exact; proxy_buffering off; }
          server { server_name *.example.com; add_header X-Block leading; }
          server { server_name *.deep.example.com; add_header X-Block deep; }
          server { server_name www.*; add_header X-Block trailing; }
          server { server_name .dotted.org; add_header X-Block dotted; }
          server { server_name ~^r\d+\.net$; add_header X-Block regex; }
          server { server_name ~\.net$; add_header X-Block second-regex; }

          server {
            server_name locations.test;
            add_header X-Block server;
            proxy_set_header X-Seen server;
            proxy_buffering off;

            location / { add_header X-Block root; }
            location = /exact { add_header X-Block exact; proxy_buffering on; }
            location /long { add_header X-Block long; }
            location /long/er { add_header X-Block longer; }
            location ^~ /final { add_header X-Block final; }
            location ~ \.sse$ { add_header X-Block pattern; proxy_buffering on; }
            location ~* \.SSE$ { add_header X-Block any-case; }
            location /inherits { proxy_set_header X-Seen location; }
          }
        }
        """;

    [Theory]
    [InlineData("exact.example.com", "exact", "off")]
    [InlineData("EXACT.example.com:8080", "exact", "off")]
    [InlineData("exact.example.com.", "exact", "off")]
    [InlineData("other.example.com", "leading", "on")]
    [InlineData("a.b.example.com", "leading", "on")]
    [InlineData("a.deep.example.com", "deep", "on")]
    [InlineData("example.com", "http", "on")]
    [InlineData("www.anything.de", "trailing", "on")]
    [InlineData("www.example.com", "leading", "on")]
    [InlineData("dotted.org", "dotted", "on")]
    [InlineData("sub.dotted.org", "dotted", "on")]
    [InlineData("r42.net", "regex", "on")]
    [InlineData("x.net", "second-regex", "on")]
    [InlineData("nobody.knows", "http", "on")]
    public async Task The_server_block_is_chosen_by_name(string host, string block, string buffering) =>
        Assert.Equal((block, buffering), await AskAsync(host, "/"));

    [Theory]
    [InlineData("/", "root", "off")]
    [InlineData("/exact", "exact", "on")]
    [InlineData("/exact/not", "root", "off")]
    [InlineData("/long", "long", "off")]
    [InlineData("/longish", "long", "off")]
    [InlineData("/long/er/x", "longer", "off")]
    [InlineData("/long/a.sse", "pattern", "on")]
    [InlineData("/long/a.Sse", "any-case", "off")]
    [InlineData("/final/a.sse", "final", "off")]
    [InlineData("/x/../final/%61.sse", "final", "off")]
    [InlineData("/inherits", "server", "off")]
    public async Task The_location_is_chosen_by_path(string path, string block, string buffering) =>
        Assert.Equal((block, buffering), await AskAsync("locations.test", path));

    [Theory]
    [InlineData("nobody.knows", "/", "http")]
    [InlineData("exact.example.com", "/", "http")]
    [InlineData("locations.test", "/", "server")]
    [InlineData("locations.test", "/exact", "server")]
    [InlineData("locations.test", "/inherits", "location")]
    public async Task What_a_block_does_not_say_it_inherits(string host, string path, string seen)
    {
        var (connection, head) = await RawConnection.AskAsync(
            fixture.Gateway.EndPoint, $"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        using (connection)
        {
            Assert.StartsWith("HTTP/1.1 200", head, StringComparison.Ordinal);
            var (echo, _) = await connection.ReadRestAsync();
            Assert.Contains($"X-Seen: {seen}\r\n", echo, StringComparison.Ordinal);
        }
    }

    async Task<(string Block, string Buffering)> AskAsync(string host, string path)
    {
        var (connection, head) = await RawConnection.AskAsync(fixture.Gateway.EndPoint,
            $"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        connection.Dispose();
        var headers = head.Split("\r\n");
        string Header(string name) =>
            headers.Single(line => line.StartsWith($"{name}: ", StringComparison.OrdinalIgnoreCase))[(name.Length + 2)..];
        return (Header("X-Block"), Header("X-Sluice-Buffering").Split(';')[0]);
    }
}

using System.Net;
using Sluice.FunctionalTests.Origins;
using Sluice.Hosting;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>The article's nginx text, character for character as it is printed, does what the article says it does.</summary>
public class ArticleTextTests
{
    const string Http = """
        http {
            proxy_buffering off;# 禁用代理缓冲
            proxy_buffer_size 1k;# 设置缓冲区大小为 1KB
            proxy_buffers 4 1k;    # 设置缓冲区数量和大小
        }
        """;

    const string InHttp = """
        proxy_buffering off;# 禁用代理缓冲
        proxy_buffer_size 1k;# 设置缓冲区大小为 1KB
        proxy_buffers 4 1k;    # 设置缓冲区数量和大小
        """;

    const string Server = """
        server {
            listen 80;
            server_name app1.example.com;
           
            # 覆盖全局配置:关闭本server所有请求的代理缓冲
            proxy_buffering off;# ✅ 生效层级:当前server
            }
        """;

    const string Chunked = """
        http {
            chunked_transfer_encoding on;# 启用分块传输编码
        }
        """;

    const string Debug = "\nsluice: {debug_headers: true}\n";

    public static TheoryData<string, string?, string> A1Cases() => new()
    {
        { "conf/nginx.conf", Http, "" },
        { "conf/nginx.conf with the fourth step", Http + "\n" + Chunked, "" },
        { "http_configuration_snippet", null,
            "nginx_config:\n  http_configuration_snippet: |\n    " + InHttp.ReplaceLineEndings("\n    ") },
    };

    [Theory]
    [MemberData(nameof(A1Cases))]
    public async Task A1_turns_buffering_off_for_everything_in_pieces_of_at_most_1_KiB(string place, string? nginx, string config)
    {
        Assert.NotEmpty(place);
        var everything = new string('x', 40_000);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            // an answer without framing, so that the chunks to the client are the gateway's own and show its pieces
            await connection.SendAsync($"HTTP/1.1 200 OK\r\n\r\n{everything}");
        });
        await using var gateway = await TestGateway.StartAsync(config + Debug, nginx);
        await gateway.RouteAsync("r1", "/*", origin.Port);

        var (client, head) = await RawConnection.GetAsync(gateway.EndPoint, "/text");
        using (client)
        {
            Assert.Contains("X-Sluice-Buffering: off; ", head, StringComparison.Ordinal);
            var received = 0;
            while (await client.ReadChunkAsync() is { Length: > 0 } piece)
            {
                Assert.InRange(piece.Length, 1, 1024);
                received += piece.Length;
            }
            Assert.Equal(everything.Length, received);
        }
    }

    [Theory]
    [InlineData("conf/nginx.conf")]
    [InlineData("http_configuration_snippet")]
    public async Task A2_turns_buffering_off_for_one_domain(string place)
    {
        // port 80 is not the test's to take
        var address = RawConnection.FreeAddress();
        var server = Server.Replace("listen 80;", $"listen {address};", StringComparison.Ordinal);
        await using var origin = EchoOrigin.Start();
        await using var gateway = place == "conf/nginx.conf"
            ? await TestGateway.StartAsync(Debug, $"http {{\n{server}\n}}")
            : await TestGateway.StartAsync(Debug + "nginx_config:\n  http_configuration_snippet: |\n    "
                + server.ReplaceLineEndings("\n    "));
        await gateway.RouteAsync("r1", "/*", origin.Port);

        Assert.StartsWith("off; proxy_buffering off in server app1.example.com",
            await BufferingAsync(gateway, address, "app1.example.com"));
        // the only server of its address is the default one there, as in nginx
        Assert.StartsWith("off; proxy_buffering off in server app1.example.com",
            await BufferingAsync(gateway, address, "app2.example.com"));
        Assert.StartsWith("on; ", await BufferingAsync(gateway, gateway.EndPoint, "app1.example.com"));
    }

    [Fact]
    public async Task A2_after_a_reload_too()
    {
        var server = Server.Replace("listen 80;", "", StringComparison.Ordinal);
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync(Debug);
        await gateway.RouteAsync("r1", "/*", origin.Port);
        Assert.StartsWith("on; ", await BufferingAsync(gateway, gateway.EndPoint, "app1.example.com"));

        gateway.Write("conf/nginx.conf", $"http {{\n{server}\n}}");
        await gateway.ReloadAsync();

        Assert.StartsWith("off; ", await BufferingAsync(gateway, gateway.EndPoint, "app1.example.com"));
        Assert.StartsWith("on; ", await BufferingAsync(gateway, gateway.EndPoint, "app2.example.com"));
    }

    [Theory]
    [InlineData("http {\n  proxy_buffering off;\n  proxy_bufering on;\n}", "conf/nginx.conf:3: unknown directive \"proxy_bufering\"")]
    [InlineData("http {\n  proxy_buffering maybe;\n}", "conf/nginx.conf:2: ")]
    public async Task A_mistake_stops_the_start_with_file_and_line(string nginx, string expected)
    {
        var error = await Assert.ThrowsAsync<GatewayStartException>(() => TestGateway.StartAsync(nginx: nginx));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    static async Task<string> BufferingAsync(TestGateway gateway, IPEndPoint at, string host)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"http://{at}/x") { Headers = { Host = host } };
        using var response = await gateway.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        return response.Headers.GetValues("X-Sluice-Buffering").Single();
    }
}

using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace Sluice.FunctionalTests.Lua;

/// <summary>The article's step 5: a Lua module that relays a raw TCP backend byte by byte.</summary>
public class ArticleScriptTests
{
    /// <summary>As printed, with the space back that the web page lost, and the backend's address.</summary>
    static string Script(int port) =>
        $$"""
        local core = require("apisix.core")
        local ngx = ngx

        local function 逐字转发()
            -- 设置响应头
            ngx.header["Content-Type"] = "text/event-stream"
            ngx.header["Cache-Control"] = "no-cache"
            ngx.header["Connection"] = "keep-alive"

            -- 连接后端服务
            local sock = ngx.socket.tcp()
            local ok, err = sock:connect("127.0.0.1", {{port}})
            if not ok then
              core.log.error("failed to connect to backend: ", err)
              return ngx.exit(500)
            end

            -- 逐字读取并转发
            while true do
              local byte, err = sock:receive(1)-- 每次读取 1 字节
              if not byte then
                    break
              end
              ngx.print(byte)-- 逐字转发
              ngx.flush(true)-- 立即刷新缓冲区
            end

            -- 关闭连接
            sock:close()
        end

        return 逐字转发
        """;

    static async Task<TestGateway> StartAsync(int port)
    {
        var gateway = await TestGateway.StartAsync();
        gateway.Write("lua/sse_stream.lua", Script(port));
        // the article's own call; "local function NAME = …" is no Lua, and is taken for what it means
        await gateway.PutAsync("/routes/sse", JsonSerializer.Serialize(new
        {
            uri = "/your-sse-endpoint",
            plugins = new Dictionary<string, object>
            {
                ["serverless-pre-function"] = new { phase = "access",
                    functions = new[] { "local function 逐字转发 = require('sse_stream') 逐字转发()" } },
            },
            upstream = new { type = "roundrobin", nodes = new Dictionary<string, int> { ["127.0.0.1:1"] = 1 } },
        }));
        return gateway;
    }

    static TcpListener Backend(out int port)
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        port = ((IPEndPoint)listener.LocalEndpoint).Port;
        return listener;
    }

    [Fact]
    public async Task A_backend_that_sends_a_byte_every_20_ms_arrives_at_curl_byte_by_byte()
    {
        using var backend = Backend(out var port);
        await using var gateway = await StartAsync(port);
        const string text = "data: 逐\n\ndata: 2\n\n";
        var sent = new List<long>();
        var sending = Task.Run(async () =>
        {
            for (var request = 0; request < 2; request++)
            {
                using var client = await backend.AcceptTcpClientAsync(TestContext.Current.CancellationToken);
                client.NoDelay = true;
                foreach (var b in Encoding.UTF8.GetBytes(text))
                {
                    lock (sent)
                    {
                        sent.Add(Stopwatch.GetTimestamp());
                    }
                    await client.GetStream().WriteAsync(new[] { b }, TestContext.Current.CancellationToken);
                    await Task.Delay(20, TestContext.Current.CancellationToken);
                }
            }
        }, TestContext.Current.CancellationToken);
        using var curl = Process.Start(
            new ProcessStartInfo("curl", ["-sN", gateway.Url("/your-sse-endpoint").ToString()]) { RedirectStandardOutput = true })!;
        var buffer = new byte[64];
        var pieces = 0;
        var received = new MemoryStream();
        while (await curl.StandardOutput.BaseStream.ReadAsync(buffer, TestContext.Current.CancellationToken) is > 0 and var count)
        {
            received.Write(buffer, 0, count);
            pieces++;
            lock (sent)
            {
                // nothing comes that was not sent, and nothing waits for what comes later
                Assert.True(received.Length <= sent.Count);
            }
        }
        Assert.Equal(text, Encoding.UTF8.GetString(received.ToArray()));
        Assert.True(pieces > received.Length / 2, $"{received.Length} bytes came in {pieces} pieces");

        // every request is a request
        Assert.Equal(text, await gateway.Client.GetStringAsync(gateway.Url("/your-sse-endpoint"), TestContext.Current.CancellationToken));
        await sending;
    }

    [Fact]
    public async Task A_backend_that_is_down_is_a_500_and_a_line_in_the_log()
    {
        Backend(out var port).Dispose();
        await using var gateway = await StartAsync(port);
        using var response = await gateway.Client.GetAsync(gateway.Url("/your-sse-endpoint"), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.InternalServerError, response.StatusCode);
        await gateway.ErrorLogSaysAsync("failed to connect to backend: connection refused");
    }

    [Fact]
    public async Task A_client_that_leaves_closes_the_connection_to_the_backend()
    {
        using var backend = Backend(out var port);
        await using var gateway = await StartAsync(port);
        using var response = gateway.Client.GetAsync(gateway.Url("/your-sse-endpoint"), HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken);
        using var client = await backend.AcceptTcpClientAsync(TestContext.Current.CancellationToken);
        await client.GetStream().WriteAsync("x"u8.ToArray(), TestContext.Current.CancellationToken);
        (await response).Dispose();
        Assert.Equal(0, await client.GetStream().ReadAsync(new byte[1], TestContext.Current.CancellationToken));
    }
}

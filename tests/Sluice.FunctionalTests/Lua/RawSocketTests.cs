using System.Net;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text;

namespace Sluice.FunctionalTests.Lua;

/// <summary><c>ngx.req.socket(true)</c>: a script has the client's connection. What it says to each call is compared with nginx in
/// <see cref="LuaConformanceTests"/>.</summary>
public sealed class RawSocketTests() : LuaGatewayTests("nginx_config: {http: {access_log_format: '$uri $status $body_bytes_sent'}}")
{
    /// <summary>As lua-resty-websocket serves it: its own 101, then frames.</summary>
    const string WebSocketEcho =
        """
        local key = ngx.req.get_headers()["sec-websocket-key"] .. "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        ngx.status, ngx.header.upgrade, ngx.header.sec_websocket_accept, ngx.header.content_type = 101, "websocket", ngx.encode_base64(ngx.sha1_bin(key)), nil
        assert(ngx.send_headers()) assert(ngx.flush(true))
        local bit, s = require("bit"), assert(ngx.req.socket(true))
        while true do
          local first, second = assert(s:receive(2)):byte(1, 2)
          local mask, data, out = { assert(s:receive(4)):byte(1, 4) }, s:receive(second - 128), {}
          for i = 1, #data do out[i] = string.char(bit.bxor(data:byte(i), mask[(i - 1) % 4 + 1])) end
          assert(s:send({ string.char(first, #data), out }))
          if first == 136 then return end
        end
        """;

    async Task<NetworkStream> ConnectAsync(string text)
    {
        var client = new TcpClient { NoDelay = true };
        await client.ConnectAsync(Gateway.EndPoint, TestContext.Current.CancellationToken);
        var stream = new NetworkStream(client.Client, ownsSocket: true);
        await SendAsync(stream, text);
        return stream;
    }

    static ValueTask SendAsync(NetworkStream stream, string text) =>
        stream.WriteAsync(Encoding.Latin1.GetBytes(text), TestContext.Current.CancellationToken);

    static Task<string> RestAsync(NetworkStream stream) =>
        new StreamReader(stream, Encoding.Latin1).ReadToEndAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(30));

    [Fact]
    public async Task Client_and_script_talk_as_they_like()
    {
        await FunctionAsync("talk",
            "local s = assert(ngx.req.socket(true)) s:send('HELLO\\n') while true do local line, err, part = s:receive() "
            + "if not line then return s:send('END ' .. err .. ' ' .. part) end s:send(line:upper() .. '\\n') end");
        await using var client = await ConnectAsync("GET /talk HTTP/1.1\r\nHost: a\r\n\r\none\n");
        using var lines = new StreamReader(client, Encoding.Latin1, leaveOpen: true);
        Assert.Equal("HELLO", await lines.ReadLineAsync(TestContext.Current.CancellationToken));
        Assert.Equal("ONE", await lines.ReadLineAsync(TestContext.Current.CancellationToken));
        await SendAsync(client, "GET / HTTP/1.1\n");
        Assert.Equal("GET / HTTP/1.1", await lines.ReadLineAsync(TestContext.Current.CancellationToken));
        await SendAsync(client, "last");
        // the script may still answer who has said all
        client.Socket.Shutdown(SocketShutdown.Send);
        Assert.Equal("END closed last", await lines.ReadToEndAsync(TestContext.Current.CancellationToken));
        var log = Path.Combine(Gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(log) && File.ReadLines(log).Contains("/talk 200 40"), "not in the access log");
    }

    [Fact]
    public async Task A_script_can_serve_a_WebSocket()
    {
        await FunctionAsync("ws", WebSocketEcho.Replace('\n', ' '));
        using var client = new ClientWebSocket();
        await client.ConnectAsync(new UriBuilder(Gateway.Url("/ws")) { Scheme = "ws" }.Uri, TestContext.Current.CancellationToken);
        var buffer = new byte[100];
        foreach (var text in new[] { "one", "", "third message" })
        {
            await client.SendAsync(Encoding.ASCII.GetBytes(text), WebSocketMessageType.Text, true, TestContext.Current.CancellationToken);
            var received = await client.ReceiveAsync(buffer, TestContext.Current.CancellationToken);
            Assert.Equal((text, WebSocketMessageType.Text), (Encoding.ASCII.GetString(buffer, 0, received.Count), received.MessageType));
        }
        await client.CloseAsync(WebSocketCloseStatus.NormalClosure, "bye", TestContext.Current.CancellationToken);
        Assert.Equal(WebSocketState.Closed, client.State);
    }

    [Fact]
    public async Task A_client_that_resets_its_connection_is_noticed_by_the_next_read()
    {
        await FunctionAsync("gone",
            "local s = assert(ngx.req.socket(true)) s:send('up') local _, err = s:receive() ngx.log(ngx.WARN, 'the client: ', err) "
                + "ngx.log(ngx.WARN, 'then: ', select(2, s:send('x')) or 'sent')");
        var client = await ConnectAsync("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n");
        await client.ReadExactlyAsync(new byte[2], TestContext.Current.CancellationToken);
        client.Socket.LingerState = new(true, 0);
        await client.DisposeAsync();
        await Gateway.ErrorLogSaysAsync("the client: ");
        await Gateway.ErrorLogSaysAsync("then: ");
    }

    [Theory]
    [InlineData("ngx.req.socket(true)")]
    [InlineData("ngx.req.socket(true) error('trouble')")]
    [InlineData("ngx.req.socket(true) ngx.exit(404)")]
    public async Task The_connection_ends_with_the_script(string code)
    {
        await FunctionAsync("end", code);
        await using var client = await ConnectAsync("GET /end HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal("", await RestAsync(client));
    }

    [Fact]
    public async Task HTTP2_has_no_connection_to_give()
    {
        await FunctionAsync("two", "ngx.print(select(2, ngx.req.socket(true)))");
        using var request = new HttpRequestMessage(HttpMethod.Get, Gateway.Url("/two")) { Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        using var answer = await Gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal("http v2 not supported yet", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_body_that_is_being_read_stands_in_the_way()
    {
        await FunctionAsync("busy",
            "local t = ngx.thread.spawn(function() ngx.req.read_body() end) ngx.sleep(0) ngx.say(select(2, ngx.req.socket(true))) "
                + "ngx.flush(true) ngx.thread.wait(t) "
            + "ngx.req.socket(true):send('raw')");
        await using var client = await ConnectAsync("POST /busy HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
        using var lines = new StreamReader(client, Encoding.Latin1, leaveOpen: true);
        string? line;
        while ((line = await lines.ReadLineAsync(
            TestContext.Current.CancellationToken)) != "pending request body reading in some other thread")
        {
            Assert.NotNull(line);
        }
        await SendAsync(client, "abc");
        Assert.EndsWith("raw", await lines.ReadToEndAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_client_that_says_nothing_is_not_waited_for_longer_than_the_script_wants()
    {
        await FunctionAsync("late", "local s = assert(ngx.req.socket(true)) s:settimeout(50) s:send(tostring(select(2, s:receive())))");
        await using var client = await ConnectAsync("GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal("timeout", await RestAsync(client));
    }

    [Fact]
    public async Task The_gateways_stop_ends_a_script_that_has_the_connection()
    {
        await FunctionAsync("held",
            "local s = assert(ngx.req.socket(true)) s:send('here\\n') ngx.log(ngx.WARN, 'it ends: ', select(2, s:receive()))");
        await using var client = await ConnectAsync("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
        await client.ReadExactlyAsync(new byte[5], TestContext.Current.CancellationToken);
        await Gateway.RestartAsync().WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        await Gateway.ErrorLogSaysAsync("it ends: ");
        var rest = "";
        try
        {
            rest = await RestAsync(client);
        }
        catch (IOException)
        {
            // cut
        }
        Assert.Equal("", rest);
    }
}

using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;

namespace Sluice.FunctionalTests.Lua;

/// <summary><c>ngx.req.socket()</c>: a script reads the request's body while the client sends it.</summary>
public sealed class RequestSocketTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync();

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    Task RouteAsync(string id, string code, int port = 1) =>
        _gateway.RouteAsync(id, $"/{id}", port, "\"plugins\":" + JsonSerializer.Serialize(new Dictionary<string, object>
    {
        ["serverless-pre-function"] = new { phase = "access", functions = new[] { $"return function() {code} end" } },
    }));

    /// <summary>A client that sends its body as slowly as the test wants.</summary>
    async Task<Client> ConnectAsync(string path, string framing)
    {
        var client = new TcpClient { NoDelay = true };
        await client.ConnectAsync(_gateway.EndPoint, TestContext.Current.CancellationToken);
        var opened = new Client(client, client.GetStream());
        await opened.SendAsync($"POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        return opened;
    }

    sealed class Client(TcpClient tcp, NetworkStream stream) : IDisposable
    {
        string _received = "";

        public ValueTask SendAsync(string text) => stream.WriteAsync(Encoding.Latin1.GetBytes(text), TestContext.Current.CancellationToken);

        /// <summary>What comes up to the end of this text.</summary>
        public async Task<string> ReceiveAsync(string last)
        {
            var buffer = new byte[4096];
            while (!_received.Contains(last, StringComparison.Ordinal))
            {
                var count = await stream.ReadAsync(buffer, TestContext.Current.CancellationToken).AsTask()
                    .WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
                Assert.True(count > 0, $"the end came after: {_received}");
                _received += Encoding.Latin1.GetString(buffer, 0, count);
            }
            var end = _received.IndexOf(last, StringComparison.Ordinal) + last.Length;
            var taken = _received[..end];
            _received = _received[end..];
            return taken;
        }

        public void Dispose() => tcp.Dispose();
    }

    /// <summary>The client sends no more before it has been told of what it sent.</summary>
    [Theory]
    [InlineData("Content-Length: 11", "hello ", "world", "")]
    [InlineData("Transfer-Encoding: chunked", "6\r\nhello \r\n", "5\r\nworld\r\n", "0\r\n\r\n")]
    public async Task Pieces_come_while_the_client_still_sends(string framing, string first, string second, string end)
    {
        await RouteAsync("up", "local s = ngx.req.socket() while true do local piece, err = s:receiveany(100) "
            + "ngx.say(piece or err, '.') ngx.flush(true) if not piece then return end end");
        using var client = await ConnectAsync("/up", framing);
        await client.SendAsync(first);
        await client.ReceiveAsync("hello .");
        await client.SendAsync(second);
        await client.ReceiveAsync("world.");
        await client.SendAsync(end);
        await client.ReceiveAsync("closed.\n\r\n0\r\n\r\n");
    }

    [Fact]
    public async Task It_reads_bytes_lines_and_up_to_patterns_and_waits_as_long_as_it_was_told()
    {
        await RouteAsync("all",
            "local s = assert(ngx.req.socket()) local function tell(...) local t = {...} for i = 1, select('#', ...) do t[i] = "
                + "tostring(t[i]) end ngx.say(table.concat(t, ' ')) end "
            + "tell(s:receive(3)) tell(s:receive('*l')) tell(s:receive()) tell(s:receiveuntil('--')()) s:settimeout(20) "
                + "tell(s:receive(2)) ngx.flush(true) s:settimeouts(1000, 1000, 20000) "
            + "tell(s:receive(4)) tell(s:receive(10)) tell(s:receive(1)) tell(s.send, s.connect)");
        using var client = await ConnectAsync("/all", "Content-Length: 31");
        await client.SendAsync("abcdef\r\nsecond line\nuntil--x");
        Assert.Contains("abc\ndef\nsecond line\nuntil\nnil timeout x\n", await client.ReceiveAsync("timeout x\n"),
            StringComparison.Ordinal);
        await client.SendAsync("yz1");
        var rest = await client.ReceiveAsync("0\r\n\r\n");
        Assert.Contains("nil closed yz1\nnil closed\nnil closed\nnil nil\n", rest, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("POST", "ngx.req.read_body() ngx.print(select(2, ngx.req.socket()))", "request body already exists")]
    [InlineData("POST", "ngx.req.socket() ngx.print(select(2, ngx.req.socket()))", "request body already exists")]
    [InlineData("POST", "ngx.req.socket() ngx.req.read_body() ngx.print(tostring(ngx.req.get_body_data()))", "nil")]
    [InlineData("GET", "ngx.print(select(2, ngx.req.socket()))", "no body")]
    [InlineData("POST", "ngx.req.socket() ngx.print(select(2, ngx.req.socket(true)))", "pending request body reading in some other thread")]
    [InlineData("POST", "ngx.print('x') local _, err = ngx.req.socket(true) ngx.print(err)", "xpending data to write")]
    public async Task A_body_is_read_in_one_way(string method, string code, string expected)
    {
        await RouteAsync("one", code);
        using var request = new HttpRequestMessage(new(method), _gateway.Url("/one"));
        request.Content = method == "POST" ? new StringContent("the body") : null;
        using var answer = await _gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal(expected, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task What_the_script_leaves_of_the_body_goes_to_the_upstream()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        await using var origin = builder.Build();
        origin.Urls.Add("http://127.0.0.1:0");
        origin.Run(static async http => await http.Request.Body.CopyToAsync(http.Response.Body));
        await origin.StartAsync(TestContext.Current.CancellationToken);
        await RouteAsync("left", "ngx.req.set_header('X-First', ngx.req.socket():receive('*l'))", new Uri(origin.Urls.First()).Port);
        var body = "first\n" + new string('x', 300_000);
        using var answer = await _gateway.Client.PostAsync(_gateway.Url("/left"), new StringContent(body),
            TestContext.Current.CancellationToken);
        Assert.Equal(body[6..], await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    /// <summary>The connection is fit for the next request when the script has read all.</summary>
    [Fact]
    public async Task A_connection_serves_the_next_request_after_the_body_was_read()
    {
        await RouteAsync("sum",
            "local s, sum = ngx.req.socket(), 0 while true do local piece = s:receiveany(8192) if not piece then break end sum = sum + "
                + "#piece end ngx.print(sum)");
        foreach (var size in new[] { 10, 200_000, 1 })
        {
            using var answer = await _gateway.Client.PostAsync(_gateway.Url("/sum"), new ByteArrayContent(new byte[size]),
                TestContext.Current.CancellationToken);
            Assert.Equal($"{size}", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }
    }
}

using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Lua;

/// <summary><c>resty.http</c> against real servers.</summary>
public sealed class RestyHttpTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync();

    public ValueTask DisposeAsync() => _gateway.DisposeAsync();

    async Task<string> RunAsync(int port, string code)
    {
        await _gateway.PutAsync("/routes/h", JsonSerializer.Serialize(new
        {
            uri = "/h",
            plugins = new Dictionary<string, object>
            {
                ["serverless-pre-function"] = new
                {
                    functions = new[]
                    {
                        "return function() local http, port = require('resty.http'), " + port
                            + " local url = 'http://127.0.0.1:' .. port local function p(...) local out = {} for i = 1, select('#', ...) "
                                + "do out[i] = tostring((select(i, ...))) end ngx.say(table.concat(out, ' ')) end "
                            + code + " ngx.exit(200) end",
                    },
                },
            },
            upstream = new { nodes = new Dictionary<string, int> { ["127.0.0.1:1"] = 1 } },
        }));
        using var answer = await _gateway.Client.GetAsync(_gateway.Url("/h"), TestContext.Current.CancellationToken);
        var body = await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True((int)answer.StatusCode == 200, $"{answer.StatusCode}\n{_gateway.ErrorLog}");
        return body.TrimEnd('\n');
    }

    static Task<WebOrigin> WebAsync() => WebOrigin.StartAsync(async context =>
    {
        using var reader = new StreamReader(context.Request.Body);
        var body = await reader.ReadToEndAsync();
        context.Response.Headers["X-Twice"] = new[] { "a", "b" };
        context.Response.StatusCode = context.Request.Path == "/none" ? 404 : 200;
        await context.Response.WriteAsync(
            $"{context.Request.Method} {context.Request.Path}{context.Request.QueryString} {context.Request.Headers.Host == $"127.0.0.1:{context.Connection.LocalPort}"} {context.Request.Headers["X-A"]} {context.Request.Headers.ContentLength}{context.Request.Headers.TransferEncoding} [{body}]");
    });

    [Theory]
    [InlineData(
        "local res = http.new():request_uri(url .. '/p?x=1') p(res.status, res.reason, res.body, res.headers['x-twice'][2], res.has_body)",
        "200 OK GET /p?x=1 True   [] b true")]
    [InlineData(
        "local res = http.new():request_uri(url, {method = 'POST', path = '/q', query = {y = 2}, body = 'hello', headers = {['X-A'] = "
            + "'a'}}) p(res.status, res.body)", "200 POST /q?y=2 True a 5 [hello]")]
    [InlineData("local res = http.new():request_uri(url .. '/none') p(res.status, res.reason)", "404 Not Found")]
    [InlineData("local res = http.new():request_uri(url .. '/', {method = 'HEAD'}) p(res.status, res.has_body, #res.body)", "200 false 0")]
    [InlineData(
        "local parts, i = {'one', 'two'}, 0 local res = http.new():request_uri(url, {method = 'PUT', body = function() i = i + 1 return "
            + "parts[i] end}) p(res.body)", "PUT / True  chunked [onetwo]")]
    [InlineData(
        "local c = http.new() c:connect({scheme = 'http', host = '127.0.0.1', port = port}) local res = c:request({path = '/r'}) "
            + "p(res.status, res:read_body()) p(c:set_keepalive(1000, 5)) c:connect({scheme = 'http', host = '127.0.0.1', port = port}) "
                + "p(c:get_reused_times())",
        "200 GET /r True   []\n1\n1")]
    [InlineData("local c = http.new() c:set_timeouts(1000, 1000, 1000) p(c:connect('127.0.0.1', port)) p(c:request({path = '/a b'}))",
        "1\nnil bad request line")]
    [InlineData("p(http.new():request_uri(url, {headers = {['X-A'] = 'a\\r\\nX-B: b'}}))", "nil bad header X-A")]
    [InlineData("local m = http:parse_uri('https://example.org/a?b=c') p(m[1], m[2], m[3], m[4], m[5]) p(http:parse_uri('nonsense'))",
        "https example.org 443 /a b=c\nnil bad uri: nonsense")]
    [InlineData("p(http.new():request_uri('http://127.0.0.1:1/'))", "nil connection refused")]
    public async Task Requests_and_answers_are_what_lua_resty_http_makes_of_them(string code, string expected)
    {
        await using var origin = await WebAsync();
        Assert.Equal(expected, await RunAsync(origin.Port, code));
    }

    [Fact]
    public async Task A_body_is_read_piece_by_piece_as_it_comes()
    {
        var seen = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
            // goes on only when the script has the first piece: it asks for it with a request of its own
            await seen.Task;
            await connection.SendAsync("5;x=y\r\ntwo22\r\n0\r\nTrailer: x\r\n\r\n");
        });
        await using var signal = await WebOrigin.StartAsync(context =>
        {
            seen.TrySetResult();
            return context.Response.WriteAsync("ok");
        });
        Assert.Equal("one\ntwo\n22\nnil", await RunAsync(origin.Port,
            $$"""
            local c = http.new()
            c:connect({scheme = 'http', host = '127.0.0.1', port = port})
            local res = c:request({path = '/'})
            p(res.body_reader(8192))
            http.new():request_uri('http://127.0.0.1:{{signal.Port}}/')
            p(res.body_reader(3))
            p(res.body_reader(8192))
            p(res.body_reader(8192))
            c:close()
            """));
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "nil closed")]
    [InlineData("HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end")]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "nil unable to read chunksize")]
    [InlineData("nonsense\r\n\r\n", "nil couldn't parse HTTP version from response status line: nonsense")]
    [InlineData("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "ok")]
    public async Task What_a_server_breaks_off_or_gets_wrong_is_an_error(string bytes, string expected)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(bytes);
        });
        Assert.Equal(expected,
            await RunAsync(origin.Port, "local res, err = http.new():request_uri(url) if res then p(res.body) else p(nil, err) end"));
    }

    [Fact]
    public async Task A_silent_server_is_a_timeout()
    {
        var end = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await end.Task;
        });
        Assert.Equal("nil timeout", await RunAsync(origin.Port, "local c = http.new() c:set_timeout(50) p(c:request_uri(url))"));
        end.SetResult();
    }

    [Fact]
    public async Task Https_is_verified_unless_told_not_to()
    {
        using var certificate = ScriptedOrigin.SelfSigned("localhost");
        await using var origin = await WebOrigin.StartAsync(
            context => context.Response.WriteAsync(context.Request.Scheme),
            https: new HttpsConnectionAdapterOptions { ServerCertificate = certificate });
        Assert.Equal("200 https\nnil", await RunAsync(origin.Port,
            """
            local res = http.new():request_uri('https://localhost:' .. port .. '/', {ssl_verify = false})
            p(res.status, res.body)
            local no, err = http.new():request_uri('https://localhost:' .. port .. '/')
            p(no)
            assert(#err > 0)
            """));
    }
}

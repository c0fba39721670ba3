using System.Net;
using System.Text.Json;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Lua;

/// <summary>The phase event_filter: called once per event, whatever the pieces were.</summary>
public sealed class EventFilterTests : IAsyncLifetime
{
    const string Stream = "event: a\nid: 1\ndata: one\n\n: note\n\nretry: 5\ndata: two\ndata: more\n\nevent: c\ndata: three\n\n";

    TestGateway _gateway = null!;
    ScriptedOrigin _origin = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            var (type, body) = head.Contains("/lines", StringComparison.Ordinal)
                ? ("application/x-ndjson", "{\"a\":1}\r\n\n{\"a\":2}\n{\"a\":3}") : ("text/event-stream", Stream);
            await connection.SendAsync(
                $"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
            foreach (var piece in body.Chunk(7))
            {
                await connection.SendAsync($"{piece.Length:x}\r\n{new string(piece)}\r\n");
            }
            await connection.SendAsync("0\r\n\r\n");
            await connection.ReadEndAsync();
        });
        _gateway = await TestGateway.StartAsync(
            "plugins: [serverless-pre-function, serverless-post-function, marks, sse]\nnginx_config: {http: {access_log_format: "
                + "'$uri|$sluice_stream_end|$sluice_events|$sluice_stream_mode'}}");
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    Task RouteAsync(string path, params string[] functions) => _gateway.RouteAsync("r", path, _origin.Port,
        "\"plugins\":" + JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["serverless-post-function"] = new { phase = "event_filter",
                functions = functions.Select(code => $"return function(conf, ctx, event) {code} end") },
        }));

    Task<string> GetAsync(string path) => _gateway.Client.GetStringAsync(_gateway.Url(path), Cancel);

    [Theory]
    [InlineData("", Stream)]
    [InlineData("event.data = 'not returned'", Stream)]
    [InlineData("if event.name == 'a' then return false end", ": note\n\nretry: 5\ndata: two\ndata: more\n\nevent: c\ndata: three\n\n")]
    [InlineData("if event.name == 'message' then return event.data:upper() end",
        "event: a\nid: 1\ndata: one\n\n: note\n\nretry: 5\ndata: TWO\ndata: MORE\n\nevent: c\ndata: three\n\n")]
    [InlineData("return { name = 'n' .. event.n, id = event.id, data = #event.raw }",
        "id: 1\nevent: n1\ndata: 26\n\n: note\n\nretry: 5\nevent: n2\ndata: 31\n\nevent: n3\ndata: 22\n\n")]
    [InlineData("event.id = event.n .. 'x\\ny' return event",
        "id: 1x\nevent: a\ndata: one\n\n: note\n\nid: 2x\nretry: 5\ndata: two\ndata: more\n\nid: 3x\nevent: c\ndata: three\n\n")]
    [InlineData("if event.n == 2 then require('apisix.core').stream.finish() return false end", "event: a\nid: 1\ndata: one\n\n: note\n\n")]
    [InlineData("return ctx.var.sluice_stream_id:find('^%x+%-%w+$') and ctx.var.sluice_stream_kind or 'no id'",
        "id: 1\nevent: a\ndata: sse\n\n: note\n\nretry: 5\ndata: sse\n\nevent: c\ndata: sse\n\n")]
    public async Task A_function_sees_each_event_and_says_what_becomes_of_it(string code, string expected)
    {
        await RouteAsync("/events", code);
        Assert.Equal(expected, await GetAsync("/events"));
    }

    [Fact]
    public async Task Functions_see_what_those_before_them_have_made()
    {
        await RouteAsync("/events", "if event.n == 2 then return false end return event.data .. '1'", "return event.data .. event.name");
        Assert.Equal("id: 1\nevent: a\ndata: one1a\n\n: note\n\nevent: c\ndata: three1c\n\n", await GetAsync("/events"));
    }

    [Fact]
    public async Task Lines_are_events_too()
    {
        await RouteAsync("/lines",
            "local line = require('cjson').decode(event.data) if line.a == 2 then return false end return event.data .. "
                + "tostring(event.name)");
        Assert.Equal("{\"a\":1}nil\n\n{\"a\":3}nil\n", await GetAsync("/lines"));
    }

    [Fact]
    public async Task A_stream_that_is_finished_ends_properly_and_for_that_reason()
    {
        await RouteAsync("/events", "if event.n == 1 then require('apisix.core').stream.finish('max_events') end");
        Assert.Equal("event: a\nid: 1\ndata: one\n\n", await GetAsync("/events"));
        await Eventually.TrueAsync(() => AccessLog().Contains("/events|max_events|1|events\n", StringComparison.Ordinal), AccessLog);
    }

    string AccessLog() => File.Exists(Path.Combine(_gateway.Prefix, "logs", "access.log"))
        ? File.ReadAllText(Path.Combine(_gateway.Prefix, "logs", "access.log")) : "";

    [Theory]
    [InlineData("ngx.sleep(0)", "API disabled in the context of event_filter")]
    [InlineData("coroutine.yield()", "attempt to yield in event_filter")]
    [InlineData("return true", "event_filter must return nil, false, a text or an event, not a boolean")]
    [InlineData("return {}", "event_filter must return an event whose data is a text, not a nil")]
    [InlineData("ngx.exit(403)", "API disabled in the context of event_filter")]
    public async Task What_it_may_not_do_breaks_the_stream_off_and_is_logged_once(string code, string error)
    {
        await RouteAsync("/events", code);
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => GetAsync("/events"));
        await _gateway.ErrorLogSaysAsync(error);
        Assert.Single(File.ReadAllLines(Path.Combine(_gateway.Prefix, "logs", "error.log")),
            line => line.Contains("failed to run event_filter: ", StringComparison.Ordinal));
        await Eventually.TrueAsync(() => AccessLog().Contains("/events|body_filter_failed|", StringComparison.Ordinal), AccessLog);
    }

    [Fact]
    public async Task Only_an_event_can_be_the_last()
    {
        await _gateway.RouteAsync("r", "/events", _origin.Port,
            "\"plugins\":{\"serverless-pre-function\":{\"functions\":[\"return function() require('apisix.core').stream.finish() end\"]}}");
        using var answer = await _gateway.Client.GetAsync(_gateway.Url("/events"), Cancel);
        Assert.Equal(HttpStatusCode.InternalServerError, answer.StatusCode);
        await _gateway.ErrorLogSaysAsync("API disabled in the context of access_by_lua*");
    }

    [Fact]
    public async Task A_plugin_and_a_routes_script_have_the_phase()
    {
        _gateway.Write("lua/apisix/plugins/marks.lua", """
            local _M = { version = 0.1, priority = 900, name = "marks", schema = { type = "object" } }
            function _M.event_filter(conf, ctx, event)
              return conf.mark .. event.data
            end
            return _M
            """);
        await LuaPluginTests.ReloadAsync(_gateway);
        await _gateway.RouteAsync("r", "/events", _origin.Port,
            "\"plugins\":{\"marks\":{\"mark\":\"!\"},\"sse\":{\"filter\":{\"include_events\":[\"c\"]}}}");
        Assert.Equal(": note\n\nevent: c\ndata: !three\n\n", await GetAsync("/events"));
        using var plugins = JsonDocument.Parse((await _gateway.ControlAsync("/v1/plugins")).ToJsonString());
        Assert.Contains("event_filter", plugins.RootElement.GetRawText(), StringComparison.Ordinal);

        await _gateway.PutAsync("/routes/s", JsonSerializer.Serialize(new
        {
            uri = "/scripted", script = "return { event_filter = function(ctx, event) if event.n ~= 2 then return false end end }",
            upstream = new { nodes = new Dictionary<string, int> { [$"127.0.0.1:{_origin.Port}"] = 1 } },
        }));
        Assert.Equal(": note\n\nretry: 5\ndata: two\ndata: more\n\n", await GetAsync("/scripted"));
    }
}

using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Lua;

/// <summary>Serverless functions through a whole gateway.</summary>
public class ServerlessTests : IAsyncLifetime
{
    TestGateway _gateway = null!;

    public async ValueTask InitializeAsync() => _gateway = await TestGateway.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    Task RouteAsync(string id, string phase, params string[] functions) => _gateway.PutAsync($"/routes/{id}", JsonSerializer.Serialize(new
    {
        uri = $"/{id}",
        plugins = new Dictionary<string, object> { ["serverless-pre-function"] = new { phase, functions } },
        upstream = new { nodes = new Dictionary<string, int> { ["127.0.0.1:1"] = 1 } },
    }));

    async Task<(int Status, string Body)> GetAsync(string path)
    {
        using var response = await _gateway.Client.GetAsync(_gateway.Url(path), TestContext.Current.CancellationToken);
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    /// <summary>The upstream knows its body; two values would be none.</summary>
    [Fact]
    public async Task A_Content_Type_that_a_script_set_gives_way_to_the_upstreams()
    {
        await using var origin = EchoOrigin.Start();
        await _gateway.RouteAsync("typed", "/typed", origin.Port,
            """ "plugins":{"serverless-pre-function":{"phase":"access","functions":["return function() ngx.header.content_type = 'text/html' end"]}} """);
        using var response = await _gateway.Client.GetAsync(_gateway.Url("/typed"), TestContext.Current.CancellationToken);
        Assert.Equal(["text/plain"], response.Content.Headers.GetValues("Content-Type"));
    }

    /// <summary>As OpenResty's LuaJIT, which is built with Lua 5.2's syntax; the line of an error stays the one that was written.</summary>
    [Fact]
    public async Task Empty_statements_are_taken_and_lines_stay()
    {
        await RouteAsync("empty", "access",
            "return function();\n  if true then; ngx.print('a');;\n  ngx.print(';;') end\n  error('here') end");
        Assert.Equal(500, (await GetAsync("/empty")).Status);
        await _gateway.ErrorLogSaysAsync(":4: here");
        Assert.Equal(";;b", await SayAsync("ngx.print(loadstring(\"local a = ';;';; return a\")(), 'b')"));
    }

    [Theory]
    [InlineData(
        "local u = require('net.url').parse('https://me:pw@Ex.org:8443/a%20b?x=1&y[k]=2#f') ngx.print(u.scheme, u.host, u.port, u.path, "
            + "u.query.x, u.query.y.k, u.user, u.fragment)",
        "httpsex.org8443/a%20b12mef")]
    [InlineData("ngx.print(require('net.url').parse('@%23$%25%5E&').path)", "@%23$%25%5E&")]
    [InlineData(
        "local u = require('net.url').parse('http://a.b:80/p') u.query.q = 'x y' ngx.print(tostring(u), ' ', tostring(u:resolve('../c')))",
        "http://a.b/p?q=x%20y http://a.b/c")]
    [InlineData("ngx.print(require('net.url').parse('a=1').path, tostring(require('net.url').parse('/x').host))", "a=1nil")]
    [InlineData("ngx.print(ctx.curr_req_matched._path, ctx.curr_req_matched._host)", "/saynil")]
    [InlineData("ngx.print(ctx.matched_route.value.uri, ctx.matched_route.value.id, tostring(ctx.matched_route == ctx.matched_route))",
        "/saysaytrue")]
    public async Task Modules_and_facts_that_plugins_of_APISIX_use_are_there(string code, string said) =>
        Assert.Equal(said, await SayAsync(code));

    /// <summary>As in APISIX, where all plugins up to the upstream run in one handler of nginx's.</summary>
    [Fact]
    public async Task What_one_plugin_prints_does_not_keep_the_next_from_running()
    {
        await _gateway.PutAsync("/routes/both", JsonSerializer.Serialize(new
        {
            uri = "/both",
            plugins = new Dictionary<string, object>
            {
                ["serverless-pre-function"] = new { phase = "rewrite", functions = new[] { "return function() ngx.say('first') end" } },
                ["serverless-post-function"] = new { phase = "access", functions = new[] { "return function() ngx.say('second') end" } },
            },
            upstream = new { nodes = new Dictionary<string, int> { ["127.0.0.1:1"] = 1 } },
        }));
        Assert.Equal((200, "first\nsecond\n"), await GetAsync("/both"));
    }

    [Fact]
    public async Task An_answer_after_something_was_printed_adds_its_body()
    {
        await _gateway.PutAsync("/routes/then", JsonSerializer.Serialize(new
        {
            uri = "/then",
            plugins = new Dictionary<string, object>
            {
                ["serverless-pre-function"] = new { phase = "rewrite", functions = new[] { "return function() ngx.say('first') end" } },
                ["key-auth"] = new { },
            },
            upstream = new { nodes = new Dictionary<string, int> { ["127.0.0.1:1"] = 1 } },
        }));
        var (status, body) = await GetAsync("/then");
        Assert.Equal(200, status);
        Assert.StartsWith("first\n{\"message\":\"Missing API key", body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_text_that_returns_no_function_is_refused_in_the_words_of_APISIX()
    {
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/routes/none",
            """{"uri":"/none","plugins":{"serverless-pre-function":{"functions":["local a = 123;"]}},"upstream":{"nodes":{"127.0.0.1:1":1}}}""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains("only accept Lua function, the input code type is nil", body!.ToJsonString(), StringComparison.Ordinal);
    }

    async Task<string> SayAsync(string code)
    {
        await RouteAsync("say", "access", "return function(conf, ctx) " + code + " end");
        var (status, body) = await GetAsync("/say?a=1&b=x%20y&a=2");
        if (status != 200)
        {
            await _gateway.ErrorLogSaysAsync("runtime error");
        }
        Assert.True(status == 200, $"{status} {body}\n{_gateway.ErrorLog}");
        return body;
    }

    [Theory]
    [InlineData("ngx.say('a', 1, true, nil, {'b', {2}})", "a1truenilb2\n")]
    [InlineData("ngx.print(ngx.var.uri, ' ', ngx.var.arg_b, ' ', ctx.var.request_method, ' ', tostring(ngx.var.nothing))",
        "/say x%20y GET nil")]
    [InlineData("local a = ngx.req.get_uri_args() ngx.print(a.a[1], a.a[2], a.b)", "12x y")]
    [InlineData("ngx.print(ngx.req.get_method(), ngx.req.http_version(), ngx.get_phase())", "GET1.1access")]
    [InlineData("ngx.req.set_header('X-A', 'q') ngx.print(ngx.req.get_headers()['x_a'], ngx.var.http_x_a)", "qq")]
    [InlineData("ngx.print(ngx.escape_uri('a b/é'), ngx.unescape_uri('a%20b+c'))", "a%20b%2F%C3%A9a b c")]
    [InlineData("ngx.print(ngx.encode_base64('hi!'), ngx.decode_base64('aGkh'), ngx.md5('a'), ngx.crc32_long('a'))",
        "aGkhhi!0cc175b9c0f1b6a831c399e2697726613904355907")]
    [InlineData("ngx.print(ngx.encode_args({a = 'x y'}), ngx.decode_args('q=1&z').q)", "a=x%20y1")]
    [InlineData("local m = ngx.re.match('hello 42', '([a-z]+) (?<n>[0-9]+)', 'jo') ngx.print(m[0], m[1], m.n)", "hello 42hello42")]
    [InlineData("ngx.print((ngx.re.gsub('a1b2', '[0-9]', '<$0>', 'jo')), ' ', (ngx.re.sub('aa', 'a', function(m) return m[0] .. '!' end)))",
        "a<1>b<2> a!a")]
    [InlineData(
        "local from, to = ngx.re.find('xaby', 'ab') ngx.print(from, to) for m in ngx.re.gmatch('a,b', '[a-z]') do ngx.print(m[0]) end",
        "23ab")]
    [InlineData("local c = require('cjson') ngx.print(c.encode({1, 'x', {a = c.null}}), c.decode('{\"q\":[1,2]}').q[2])",
        "[1,\"x\",{\"a\":null}]2")]
    [InlineData("local v, e = require('cjson.safe').decode('{') ngx.print(tostring(v), ' ', e)",
        "nil Expected object key string but found T_END at character 2")]
    [InlineData(
        "local d = ngx.shared.d d:set('k', 1) ngx.print((d:incr('k', 2)), (d:get('k')), tostring(d:get('q')), tostring(d:add('k', 1)), "
            + "(d:incr('n', 1, 5)))", "33nilfalse6")]
    [InlineData("local d = ngx.shared.l ngx.print(d:lpush('q', 'a'), d:rpush('q', 'b'), d:lpop('q'), d:llen('q'))", "12a1")]
    [InlineData(
        "local co = coroutine.wrap(function() ngx.sleep(0.001) coroutine.yield('in') ngx.flush(true) return 'out' end) ngx.print(co(), "
            + "co())", "inout")]
    [InlineData(
        "local t = ngx.thread.spawn(function(x) ngx.sleep(0.001) return x end, 'th') local ok, r = ngx.thread.wait(t) "
            + "ngx.print(tostring(ok), r)", "trueth")]
    [InlineData(
        "local t = ngx.thread.spawn(function() return {5}, nil, print end) local ok, r, n, f = ngx.thread.wait(t) "
            + "ngx.print(tostring(ok), r[1], tostring(n), type(f))", "true5nilfunction")]
    [InlineData(
        "local l = require('resty.lrucache').new(2) l:set('a', 1) l:set('b', 2) l:set('c', 3) ngx.print(tostring(l:get('a')), (l:get('c')))", "nil3")]
    [InlineData(
        "local core = require('apisix.core') ngx.print(core.json.encode({a = 1}), core.string.has_prefix('abc', 'ab'), "
            + "core.table.nkeys({1, 2}))", "{\"a\":1}true2")]
    [InlineData("ngx.print(pcall(require, 'no.such'))", null)]
    [InlineData(
        "local m = require('apisix.core').ip.create_ip_matcher({'10.1.2.3/8', '::1', '1.2.3.4'}) ngx.print(m:match('10.9.9.9'), "
            + "m:match('11.0.0.1'), m:match('::1'), m:match('1.2.3.4'), m:match('x'))", "truefalsetruetruefalse")]
    [InlineData("ngx.print(require('apisix.core').ip.create_ip_matcher({'1.2.3.4/33'}))", "nilinvalid ip address: 1.2.3.4/33")]
    [InlineData("ngx.print(tostring(os.execute), tostring(io.popen), tostring(package.loadlib), tostring(pcall(require, 'ffi')))",
        "nilnilnilfalse")]
    [InlineData("local ok, e = pcall(ngx.sleep, -1) ngx.print(tostring(ok))", "false")]
    [InlineData("ngx.status = 200 ngx.print(ngx.now() > 1e9, ngx.time() > 1e9, #ngx.localtime(), ngx.http_time(0))",
        "truetrue19Thu, 01 Jan 1970 00:00:00 GMT")]
    [InlineData("ngx.print(require('resty.string').to_hex(require('resty.sha256'):new():final()):sub(1, 8))", "e3b0c442")]
    public async Task Lua_finds_what_it_knows_from_OpenResty(string code, string? expected)
    {
        var body = await SayAsync(code);
        if (expected is not null)
        {
            Assert.Equal(expected, body);
        }
    }

    [Fact]
    public async Task The_sandbox_can_be_opened_and_the_memory_of_a_state_set()
    {
        await _gateway.DisposeAsync();
        _gateway = await TestGateway.StartAsync("sluice: {lua: {sandbox: false, memory_limit: 16}}");
        Assert.Equal("functionfunctiontable", await SayAsync("ngx.print(type(os.execute), type(io.popen), type(require('ffi')))"));
        await RouteAsync("large", "access", "return function() local s = ('x'):rep(20e6) end");
        Assert.Equal(500, (await GetAsync("/large")).Status);
        await _gateway.ErrorLogSaysAsync("not enough memory");
    }

    [Fact]
    public async Task Functions_answer_by_exit_by_return_values_and_by_printing()
    {
        await RouteAsync("exit", "rewrite", "return function() ngx.header['X-A'] = 'b' ngx.exit(403) end");
        await RouteAsync("returned", "access", "return function() return 418, {message = 'tea'} end");
        await RouteAsync("printed", "before_proxy", "return function() ngx.status = 201 ngx.say('made') ngx.exit(ngx.HTTP_OK) end");
        Assert.Equal(403, (await GetAsync("/exit")).Status);
        Assert.Equal((418, "{\"message\":\"tea\"}\n"), await GetAsync("/returned"));
        Assert.Equal((201, "made\n"), await GetAsync("/printed"));
    }

    [Fact]
    public async Task Eof_ends_the_answer_while_the_script_goes_on()
    {
        await RouteAsync("eof", "access", "return function() ngx.say('all') ngx.eof() local d = ngx.shared.eof "
            + "while not d:get('go') do ngx.sleep(0.005) end d:set('then', select(2, ngx.say('more')) .. ', ' .. select(2, ngx.eof())) end");
        await RouteAsync("go", "access", "return function() ngx.shared.eof:set('go', 1) ngx.print(ngx.shared.eof:get('then')) end");
        // a client of its own: its connection takes no other request before the script has ended
        using var client = new HttpClient();
        Assert.Equal("all\n", await client.GetStringAsync(_gateway.Url("/eof"), TestContext.Current.CancellationToken));
        await Eventually.HoldsAsync(async () => (await GetAsync("/go")).Body == "seen eof, seen eof", "the script did not go on");
    }

    /// <summary>Each subrequest waits until both are there.</summary>
    [Fact]
    public async Task Subrequests_of_capture_multi_run_at_once()
    {
        await RouteAsync("meet", "access", "return function() local d = ngx.shared.meet d:incr('n', 1, 0) "
            + "while d:get('n') < 2 do ngx.sleep(0.002) end ngx.status = 201 ngx.print(ngx.var.arg_q) end");
        Assert.Equal("201a201b",
            await SayAsync(
                "local a, b = ngx.location.capture_multi({{'/meet?q=a'}, {'/meet', {args = {q = 'b'}}}}) ngx.print(a.status, a.body, "
                    + "b.status, b.body)"));
    }

    [Fact]
    public async Task Timers_are_counted_while_they_wait_and_while_they_run()
    {
        await RouteAsync("start", "access", "return function() ngx.timer.at(1000, function() end) "
            + "ngx.timer.at(0, function() while not ngx.shared.timers:get('go') do ngx.sleep(0.002) end end) end");
        await RouteAsync("count", "access", "return function() ngx.print(ngx.timer.running_count(), ' ', ngx.timer.pending_count()) end");
        await RouteAsync("release", "access", "return function() ngx.shared.timers:set('go', 1) end");
        Assert.Equal("0 0", (await GetAsync("/count")).Body);
        await GetAsync("/start");
        await Eventually.HoldsAsync(async () => (await GetAsync("/count")).Body == "1 1", "one runs, one waits");
        await GetAsync("/release");
        await Eventually.HoldsAsync(async () => (await GetAsync("/count")).Body == "0 1", "one waits");
    }

    [Fact]
    public async Task Light_threads_that_print_and_flush_at_once_lose_and_mix_nothing()
    {
        var body = await SayAsync("local all = {} for i = 1, 8 do all[i] = ngx.thread.spawn(function() for j = 1, 100 do "
            + "ngx.say(i, '-', j) if j % 3 == 0 then ngx.sleep(0) end ngx.flush(j % 2 == 0) end end) end for i = 1, 8 do "
                + "ngx.thread.wait(all[i]) end");
        var lines = body.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(Enumerable.Range(1, 8).SelectMany(i => Enumerable.Range(1, 100).Select(j => $"{i}-{j}")).Order(), lines.Order());
    }

    [Fact]
    public async Task Closures_keep_their_state_and_functions_run_in_their_order()
    {
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync("count", "access", "local n = 0 return function() n = n + 1 ngx.ctx.n = n end",
            "return function() ngx.print(ngx.ctx.n > 0) end");
        Assert.Equal((200, "true"), await GetAsync("/count"));
    }

    [Fact]
    public async Task What_is_no_Lua_is_refused_with_LuaJITs_words()
    {
        foreach (var (functions, error) in new[]
        {
            ("\"syntax error here\"", "failed to loadstring: [string \"syntax error here\"]:1: '=' expected near 'error'"),
            ("\"return 5\"", "only accept Lua function, the input code type is number"),
        })
        {
            var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/routes/bad",
                $$"""{"uri":"/bad","plugins":{"serverless-pre-function":{"functions":[{{functions}}]} },"upstream":{"nodes":{"127.0.0.1:1":1} } }""");
            Assert.True(status == HttpStatusCode.BadRequest, _gateway.ErrorLog);
            Assert.Equal("failed to check the configuration of plugin serverless-pre-function err: " + error, (string?)body!["error_msg"]);
        }
    }

    [Theory]
    [InlineData("while true do end", "stopped: it ran for")]
    [InlineData("while true do pcall(function() while true do end end) end", "stopped: it ran for")]
    [InlineData("local s = ('x'):rep(1e9)", "not enough memory")]
    [InlineData("local t = {} for i = 1, 1e9 do t[i] = {i} end", "")]
    [InlineData("local function f() return f() + 1 end f()", "stack overflow")]
    [InlineData("error({})", "error object is a table")]
    [InlineData("nothing.x = 1", "attempt to index global 'nothing'")]
    [InlineData("local s = ('a'):rep(100000) s:find('.-.-.-.-b')", "takes too long")]
    [InlineData("coroutine.wrap(function() error('inner') end)()", "inner")]
    public async Task A_script_that_runs_away_is_stopped_and_the_gateway_goes_on(string code, string logged)
    {
        await RouteAsync("away", "access", "return function() " + code + " end");
        Assert.Equal(500, (await GetAsync("/away")).Status);
        await _gateway.ErrorLogSaysAsync(logged);
        await _gateway.ErrorLogSaysAsync("route away, plugin serverless-pre-function");
        Assert.Equal("on", await SayAsync("ngx.print('on')"));
    }

    [Fact]
    public async Task A_body_that_a_script_has_read_still_goes_to_the_upstream()
    {
        var builder = Microsoft.AspNetCore.Builder.WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        await using var origin = builder.Build();
        origin.Urls.Add("http://127.0.0.1:0");
        origin.Run(async http => await http.Request.Body.CopyToAsync(http.Response.Body));
        await origin.StartAsync(TestContext.Current.CancellationToken);
        await _gateway.RouteAsync("body", "/body", new Uri(origin.Urls.First()).Port,
            "\"plugins\":" + JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["serverless-pre-function"] = new
            {
                functions = new[] { "return function() ngx.req.read_body() local b = ngx.req.get_body_data() if ngx.var.arg_new then "
                    + "ngx.req.set_body_data('<' .. b .. '>') end ngx.req.set_header('X-L', #b) end" },
            },
        }));
        foreach (var (query, expected) in new[] { ("", "the body"), ("?new=1", "<the body>") })
        {
            using var content = new StringContent("the body");
            using var answer = await _gateway.Client.PostAsync(_gateway.Url("/body" + query), content,
                TestContext.Current.CancellationToken);
            Assert.Equal(expected, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }
    }

    [Theory]
    [InlineData(16 * 1024, "16384 nil ")]
    [InlineData(16 * 1024 + 1, "nil 16385 request body in temp file not supported")]
    [InlineData(1_000_000, "nil 1000000 request body in temp file not supported")]
    public async Task A_body_beyond_client_body_buffer_size_is_in_a_file_as_long_as_the_request_lives(int size, string expected)
    {
        await using var origin = EchoOrigin.Start();
        await RouteAsync("kept", "access",
            "return function() ngx.req.read_body() local data, name, size = ngx.req.get_body_data(), ngx.req.get_body_file() "
            + "if name then local f = io.open(name) size = #f:read('*a') f:close() end ngx.shared.kept:set('name', name or '') "
            + "assert(#require('apisix.core').request.get_body() == tonumber(ngx.var.arg_size)) "
            + "ngx.print(tostring(data and #data), ' ', tostring(size), ' ', select(2, ngx.req.get_post_args()) or '') end");
        await RouteAsync("name", "access", "return function() ngx.print(ngx.shared.kept:get('name')) end");
        using var answer = await _gateway.Client.PostAsync(_gateway.Url($"/kept?size={size}"), new ByteArrayContent(new byte[size]),
            TestContext.Current.CancellationToken);
        Assert.Equal(expected, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        var (_, file) = await GetAsync("/name");
        await Eventually.TrueAsync(() => !File.Exists(file), "the file is still there");
    }

    [Fact]
    public async Task Exec_goes_to_another_route_and_not_in_circles()
    {
        await RouteAsync("from", "access", "return function() return ngx.exec('/to', 'q=1') end");
        await RouteAsync("to", "rewrite", "return function() ngx.print(ngx.var.uri, ngx.var.arg_q, ngx.var.route_id) end");
        await RouteAsync("circle", "rewrite", "return function() return ngx.exec('/circle') end");
        Assert.Equal((200, "/to1to"), await GetAsync("/from"));
        Assert.Equal(500, (await GetAsync("/circle")).Status);
        await _gateway.ErrorLogSaysAsync("rewrite or internal redirection cycle while processing \"/circle\"");
    }

    [Fact]
    public async Task A_subrequest_has_the_variables_that_it_is_given()
    {
        await RouteAsync("sub", "access",
            "return function() ngx.req.read_body() ngx.print(tostring(ngx.var.mine), ' ', tostring(ngx.var.given), ' ', "
                + "ngx.req.get_body_data() or '-') ngx.var.mine = 'sub' end");
        Assert.Equal("nil nil -|m nil -|m 1 -|main|m nil -|sub",
            await SayAsync("ngx.var.mine = 'm' local c = ngx.location.capture local out = {} "
            + "for _, o in ipairs {{}, {copy_all_vars = true}, {copy_all_vars = true, vars = {given = 1}}} do out[#out + 1] = c('/sub', "
                + "o).body end "
            + "out[#out + 1] = ngx.var.mine == 'm' and 'main' or ngx.var.mine out[#out + 1] = c('/sub', {share_all_vars = true}).body "
                + "out[#out + 1] = ngx.var.mine ngx.print(table.concat(out, '|'))"));
    }

    /// <summary>What functions get as <c>ctx</c> is each request's own.</summary>
    [Fact]
    public async Task A_subrequest_may_have_the_requests_ngx_ctx()
    {
        await RouteAsync("sub", "access",
            "return function(conf, ctx) ngx.print(ngx.ctx.word, ' ', tostring(ctx.word), ' ', ctx.var.uri) ngx.ctx.word, ctx.word = "
                + "'changed', 'inner' end");
        Assert.Equal("shared nil /sub changed true /say", await SayAsync("ngx.ctx.word, ctx.word = 'shared', 'outer' "
            + "ngx.print(ngx.location.capture('/sub', {ctx = ngx.ctx}).body, ' ', ngx.ctx.word, ' ', ngx.ctx.api_ctx == ctx and ctx.word "
                + "== 'outer', ' ', ngx.var.uri)"));
    }

    [Fact]
    public async Task A_subrequest_that_may_have_a_body_gets_the_requests()
    {
        await RouteAsync("sub", "access", "return function() ngx.req.read_body() ngx.print(ngx.req.get_body_data() or '-') end");
        await RouteAsync("say", "access",
            "return function() ngx.req.read_body() local c = ngx.location.capture for _, o in ipairs {{}, {method = ngx.HTTP_POST}, "
            + "{method = ngx.HTTP_PUT, body = 'other'}, {method = ngx.HTTP_PATCH, always_forward_body = true}} do ngx.say(c('/sub', "
                + "o).body) end end");
        using var answer = await _gateway.Client.PostAsync(_gateway.Url("/say"), new StringContent("the body"),
            TestContext.Current.CancellationToken);
        Assert.Equal("-\nthe body\nother\nthe body\n", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("header_filter", "ngx.sleep(0)", "API disabled in the context of header_filter_by_lua*")]
    [InlineData("body_filter", "ngx.socket.tcp()", "API disabled in the context of body_filter_by_lua*")]
    [InlineData("log", "ngx.say('x')", "API disabled in the context of log_by_lua*")]
    public async Task What_a_phase_cannot_do_is_said_in_OpenRestys_words(string phase, string code, string logged)
    {
        await RouteAsync("phase", phase, "return function() " + code + " end");
        try
        {
            await GetAsync("/phase");
        }
        catch (HttpRequestException)
        {
            // a body that a filter failed on is cut off
        }
        await _gateway.ErrorLogSaysAsync(logged);
    }

    [Fact]
    public async Task Threads_and_timers_end_with_their_request_and_say_what_went_wrong()
    {
        await RouteAsync("threads", "access",
            "return function() ngx.thread.spawn(function() ngx.sleep(60) end) ngx.timer.at(0, function() error('late') end) "
                + "ngx.exit(204) end");
        Assert.Equal(204, (await GetAsync("/threads")).Status);
        await _gateway.ErrorLogSaysAsync("late");
    }

    [Fact]
    public async Task A_thousand_scripts_wait_at_once()
    {
        await RouteAsync("wait", "access", "return function() ngx.sleep(0.2) ngx.print('ok') end");
        var answers = await Task.WhenAll(Enumerable.Range(0, 1000).Select(_ => GetAsync("/wait")));
        Assert.All(answers, answer => Assert.Equal((200, "ok"), answer));
    }
}

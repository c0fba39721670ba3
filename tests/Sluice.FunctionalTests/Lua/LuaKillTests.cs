using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace Sluice.FunctionalTests.Lua;

/// <summary>Plugins in Lua that go wrong, wherever they can: the log says where, and everybody else goes on.</summary>
public sealed class LuaKillTests() : LuaGatewayTests("plugins: [broken, fine, serverless-pre-function]", ("broken", Broken))
{
    const string Broken =
        """
        local core = require("apisix.core")
        local _M = { version = 0.1, priority = 1, name = "broken", schema = { type = "object", properties = { phase = { type = "string" }, how = { type = "string" } } } }
        local ways = {
          error = function() error("trouble") end,
          forever = function() while true do end end,
          memory = function() local s = ("x"):rep(1e9) end,
        }
        for _, phase in ipairs { "rewrite", "access", "before_proxy", "header_filter", "body_filter", "log" } do
          _M[phase] = function(conf, ctx)
            if conf.phase == phase then
              ways[conf.how]()
            end
          end
        end
        function _M.check_schema(conf)
          if conf.phase == "check" then
            ways[conf.how]()
          end
          return core.schema.check(_M.schema, conf)
        end
        return _M
        """;

    /// <summary>0: the connection was cut.</summary>
    async Task<int> GetAsync(string path)
    {
        try
        {
            using var answer = await Gateway.Client.GetAsync(Gateway.Url(path), TestContext.Current.CancellationToken);
            return (int)answer.StatusCode;
        }
        catch (HttpRequestException)
        {
            return 0;
        }
    }

    [Theory]
    [InlineData("rewrite", 500)]
    [InlineData("access", 500)]
    [InlineData("before_proxy", 500)]
    [InlineData("header_filter", 200)]
    [InlineData("body_filter", 0)]
    [InlineData("log", 200)]
    public async Task An_error_in_a_phase_concerns_its_request_only(string phase, int status)
    {
        await Gateway.RouteAsync("ok", "/ok", Origin, "\"plugins\":{\"broken\":{}}");
        foreach (var (how, logged) in new[] { ("error", "trouble"), ("memory", "not enough memory"), ("forever", "stopped: it ran for") })
        {
            await Gateway.RouteAsync(how, "/" + how, Origin, $$"""  "plugins":{"broken":{"phase":"{{phase}}","how":"{{how}}"} }  """);
            var answered = await GetAsync("/" + how);
            Assert.True(answered == status || (phase == "body_filter" && answered == 500),
                $"{phase} {how}: {answered}\n{Gateway.ErrorLog}");
            await Gateway.ErrorLogSaysAsync(logged);
            await Gateway.ErrorLogSaysAsync($"in {phase}, route {how}, plugin broken");
            Assert.Equal(200, await GetAsync("/ok"));
        }
    }

    [Theory]
    [InlineData("error", "trouble")]
    [InlineData("forever", "stopped: it ran for")]
    [InlineData("memory", "not enough memory")]
    public async Task An_error_in_check_schema_is_the_answer_of_the_Admin_API(string how, string said)
    {
        var (status, body) = await Gateway.AdminAsync(HttpMethod.Put, "/routes/r",
            $$"""{"uri":"/r","plugins":{"broken":{"phase":"check","how":"{{how}}"} },"upstream":{"nodes":{"127.0.0.1:1":1} } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(said, (string?)body!["error_msg"], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("error('no start')", "no start")]
    [InlineData("while true do end", "stopped: it ran for")]
    public async Task A_plugin_whose_init_fails_is_not_there(string init, string logged)
    {
        await PluginAsync("fine", "local _M = { version = 1, priority = 1, name = 'fine' } function _M.init() " + init + " end return _M");
        await Gateway.ErrorLogSaysAsync("failed to load plugin [fine] err: ");
        await Gateway.ErrorLogSaysAsync(logged);
        var (_, body) = await Gateway.AdminAsync(HttpMethod.Put, "/routes/r",
            """{"uri":"/r","plugins":{"fine":{}},"upstream":{"nodes":{"127.0.0.1:1":1}}}""");
        Assert.Equal("unknown plugin [fine]", (string?)body!["error_msg"]);
        await Gateway.RouteAsync("ok", "/ok", Origin, "\"plugins\":{\"broken\":{}}");
        Assert.Equal(200, await GetAsync("/ok"));
    }

    [Fact]
    public async Task A_destroy_that_fails_holds_up_no_reload()
    {
        const string Phase = "function _M.access() return 200, _M.word end return _M";
        await PluginAsync("fine",
            "local _M = { version = 1, priority = 1, name = 'fine', word = 'old' } function _M.destroy() error('no end') end " + Phase);
        await Gateway.RouteAsync("f", "/f", Origin, "\"plugins\":{\"fine\":{}}");
        Assert.Equal("old", await Gateway.Client.GetStringAsync(Gateway.Url("/f"), TestContext.Current.CancellationToken));
        await PluginAsync("fine",
            "local _M = { version = 1, priority = 1, name = 'fine', word = 'new' } function _M.destroy() while true do end end " + Phase);
        Assert.True("new" == await Gateway.Client.GetStringAsync(Gateway.Url("/f"), TestContext.Current.CancellationToken),
            Gateway.ErrorLog);
        await PluginAsync("fine", "local _M = { version = 1, priority = 1, name = 'fine', word = 'newer' } " + Phase);
        Assert.Equal("newer", await Gateway.Client.GetStringAsync(Gateway.Url("/f"), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Timers_that_go_wrong_are_stopped_and_others_run()
    {
        await FunctionAsync("t", "ngx.timer.at(0, function() error('late trouble') end) ngx.timer.at(0, function() while true do end end) "
            + "ngx.timer.at(0, function() local s = ('x'):rep(1e9) end) ngx.timer.at(0.01, function() ngx.shared.t:set('ran', true) end) "
                + "ngx.exit(204)");
        await FunctionAsync("ran", "ngx.exit(ngx.shared.t:get('ran') and 200 or 404)");
        Assert.Equal(204, await GetAsync("/t"));
        foreach (var logged in new[] { "late trouble", "stopped: it ran for", "not enough memory" })
        {
            await Gateway.ErrorLogSaysAsync(logged);
        }
        await Eventually.HoldsAsync(async () => await GetAsync("/ran") == 200, "the last timer did not run");
    }

    /// <summary>Nothing would come any more if one of them were not stopped.</summary>
    [Fact]
    public async Task A_stream_goes_on_beside_scripts_that_run_away()
    {
        await FunctionAsync("clock", "for i = 1, 30 do ngx.say(ngx.now()) ngx.flush(true) ngx.sleep(0.02) end");
        await FunctionAsync("forever", "while true do end");
        await FunctionAsync("regex", "local m, err = ngx.re.match(('a'):rep(5000), [[(a+)+\\1b]]) ngx.print(tostring(m), ' ', err)");
        using var answer = await Gateway.Client.GetAsync(Gateway.Url("/clock"), HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken);
        using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken));
        var away = Enumerable.Range(0, 4).Select(_ => GetAsync("/forever")).ToArray();
        var regex = GetStringAsync("/regex");
        var count = 0;
        while (await lines.ReadLineAsync(TestContext.Current.CancellationToken) is { } line)
        {
            var sent = double.Parse(line, System.Globalization.CultureInfo.InvariantCulture);
            Assert.InRange(TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds() - (sent * 1000), -1000, 10_000);
            count++;
        }
        Assert.Equal(30, count);
        Assert.All(await Task.WhenAll(away), status => Assert.Equal(500, status));
        Assert.Equal("nil pcre_exec() failed: -8", await regex);
        await Gateway.ErrorLogSaysAsync(", in access, route forever, plugin serverless-pre-function");
    }

    [Fact]
    public async Task A_script_that_prints_for_ever_ends_with_its_client_and_holds_up_nobody()
    {
        await FunctionAsync("flood", "while true do ngx.print(('x'):rep(100000)) end");
        await FunctionAsync("ok", "ngx.print('ok')");
        for (var client = 0; client < Connections; client++)
        {
            using var answer = await Gateway.Client.GetAsync(Gateway.Url("/flood"), HttpCompletionOption.ResponseHeadersRead,
                TestContext.Current.CancellationToken);
            var body = await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken);
            await body.ReadExactlyAsync(new byte[10_000_000], TestContext.Current.CancellationToken);
            await AllAnswerAsync("/ok", "ok");
        }
        await Eventually.TrueAsync(() => Logged("GET /flood ") == Connections, "a script goes on without its client");
        await AllAnswerAsync("/ok", "ok");
    }

    [Fact]
    public async Task A_script_whose_waits_end_at_once_holds_up_nobody()
    {
        await FunctionAsync("busy",
            "local s = require('ngx.semaphore').new(0) repeat s:post() s:wait(1) until ngx.shared.b:get('stop') ngx.print('stopped')");
        await FunctionAsync("ok", "ngx.print('ok')");
        await FunctionAsync("stop", "ngx.shared.b:set('stop', true)");
        var busy = Gateway.Client.GetStringAsync(Gateway.Url("/busy"), TestContext.Current.CancellationToken);
        await AllAnswerAsync("/ok", "ok");
        Assert.False(busy.IsCompleted);
        await Gateway.Client.GetAsync(Gateway.Url("/stop"), TestContext.Current.CancellationToken);
        Assert.Equal("stopped", await busy);
    }

    [Fact]
    public async Task A_script_that_asks_for_itself_is_stopped_by_the_number_of_its_subrequests()
    {
        await FunctionAsync("self", "ngx.location.capture('/self')");
        await FunctionAsync("selves", "ngx.location.capture_multi({ { '/selves' }, { '/selves' } })");
        await FunctionAsync("ok", "ngx.print('ok')");
        await GetAsync("/self");
        await Gateway.ErrorLogSaysAsync("lua subrequests cycle while processing \"/self\"");
        await Gateway.ErrorLogSaysAsync("failed to issue subrequest: -1");
        using var leave = new CancellationTokenSource();
        var endless = Gateway.Client.GetAsync(Gateway.Url("/selves"), leave.Token);
        await AllAnswerAsync("/ok", "ok");
        await leave.CancelAsync();
        // it may have come to its end before
        await Record.ExceptionAsync(() => endless);
        await Eventually.TrueAsync(() => Logged("GET /selves ") > 0, "they go on without their client");
    }

    [Theory]
    [InlineData("ngx.exit(1000)", "bad status: 1000")]
    [InlineData("ngx.status = 1000", "bad status: 1000")]
    [InlineData("ngx.status = 100", "bad status: 100")]
    [InlineData("setfenv(0, {})", "bad argument #1 to 'setfenv'")]
    public async Task What_no_answer_can_be_made_of_is_an_error(string code, string logged)
    {
        await FunctionAsync("f", code);
        Assert.Equal(500, await GetAsync("/f"));
        await Gateway.ErrorLogSaysAsync(logged);
    }

    [Fact]
    public async Task A_script_cannot_say_that_an_answer_is_framed_as_it_is_not()
    {
        await Gateway.RouteAsync("f", "/f", Origin, "\"plugins\":" + JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["serverless-pre-function"] = new
            {
                phase = "header_filter",
                functions = new[] { "return function() ngx.header['Transfer-Encoding'] = 'chunked' ngx.header['Content-Length'] = 3 end" },
            },
        }));
        using var client = new HttpClient();
        for (var i = 0; i < 2; i++)
        {
            Assert.Contains("GET /f", await client.GetStringAsync(Gateway.Url("/f"), TestContext.Current.CancellationToken),
                StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_line_that_a_script_logs_has_its_bounds()
    {
        await FunctionAsync("f", "ngx.log(ngx.ERR, ('x'):rep(1000000)) ngx.exit(204)");
        Assert.Equal(204, await GetAsync("/f"));
        await Gateway.ErrorLogSaysAsync("xxx…, route f");
        Assert.True(Gateway.ErrorLog.Length < 100_000);
    }

    int Logged(string request) => File.ReadLines(Path.Combine(Gateway.Prefix, "logs", "access.log"))
        .Count(line => line.Contains(request, StringComparison.Ordinal));

    const int Connections = 8;

    /// <summary>Over connections of their own, so that every event loop has some.</summary>
    async Task AllAnswerAsync(string path, string expected)
    {
        for (var i = 0; i < Connections; i++)
        {
            using var client = new HttpClient();
            Assert.Equal(expected, await client.GetStringAsync(Gateway.Url(path), TestContext.Current.CancellationToken));
        }
    }

    /// <summary>The server answers nobody before all are there.</summary>
    [Fact]
    public async Task A_thousand_scripts_wait_on_sockets_at_once()
    {
        const int Scripts = 1000;
        using var server = new TcpListener(IPAddress.Loopback, 0);
        server.Start(Scripts);
        ConcurrentBag<Socket> waiting = [];
        var serving = Task.Run(async () =>
        {
            while (waiting.Count < Scripts)
            {
                waiting.Add(await server.AcceptSocketAsync(TestContext.Current.CancellationToken));
            }
            foreach (var one in waiting)
            {
                await one.SendAsync("done\n"u8.ToArray(), TestContext.Current.CancellationToken);
                one.Dispose();
            }
        });
        await FunctionAsync("w",
            $"local s = ngx.socket.tcp() s:settimeout(20000) assert(s:connect('127.0.0.1', {((IPEndPoint)server.LocalEndpoint).Port})) ngx.print((s:receive())) s:close()");
        var answers = await Task.WhenAll(Enumerable.Range(0, Scripts)
            .Select(_ => Gateway.Client.GetStringAsync(Gateway.Url("/w"), TestContext.Current.CancellationToken)));
        await serving;
        Assert.All(answers, answer => Assert.Equal("done", answer));
    }
}

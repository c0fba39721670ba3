using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model;

namespace Sluice.FunctionalTests.Lua;

/// <summary>What lives longer than a request: plugins' <c>init</c> and <c>destroy</c>, the instance's id, its configuration.</summary>
public sealed class LuaLifeTests() : LuaGatewayTests(
    """
      counted: {step: 2, key: mine} # still under plugin_attr
    plugins: [counted, serverless-pre-function]
    discovery: {consul: {servers: ["http://127.0.0.1:1"], token: hidden-token}}
    my_section: {name: x, token: hidden-token}
    """, ("counted", Counted))
{
    const string Counted =
        """
        local plugin = require("apisix.plugin")
        local _M = { version = 0.1, priority = 1, name = "counted", schema = { type = "object" } }
        local dict = ngx.shared.counted
        function _M.init() dict:incr("init" .. ngx.worker.id(), 1, 0) end
        function _M.destroy()
          dict:incr("destroy" .. ngx.worker.id(), 1, 0)
          ngx.log(ngx.WARN, "counted ends in state ", ngx.worker.id())
        end
        function _M.access()
          local id = ngx.worker.id()
          return 200, id .. " " .. dict:get("init" .. id) .. " " .. (dict:get("destroy" .. id) or 0) .. " " .. plugin.plugin_attr("counted").step
        end
        return _M
        """;

    [Fact]
    public async Task Each_state_begins_a_plugin_once_and_ends_it_once_for_a_reload()
    {
        await Gateway.RouteAsync("r", "/r", Origin, "\"plugins\":{\"counted\":{}}");
        var seen = await CountsAsync();
        Assert.All(seen.Values, counts => Assert.Equal(counts.Init, counts.Destroyed + 1));
        foreach (var reload in new[] { () => LuaPluginTests.ReloadAsync(Gateway), Gateway.ReloadAsync })
        {
            await reload();
            var now = await CountsAsync();
            Assert.All(now, counts => Assert.Equal(counts.Value.Init, counts.Value.Destroyed + 1));
            // a state in which the plugin was begins it anew once
            Assert.All(now.Where(counts => seen.ContainsKey(counts.Key)),
                counts => Assert.Equal(seen[counts.Key].Init + 1, counts.Value.Init));
            seen = now;
        }
    }

    [Fact]
    public async Task Requests_do_not_notice_that_plugins_are_read_anew()
    {
        await Gateway.RouteAsync("r", "/r", Origin, "\"plugins\":{\"counted\":{}}");
        using var done = new CancellationTokenSource();
        var asking = Enumerable.Range(0, 4).Select(async _ =>
        {
            var answers = 0;
            for (; !done.IsCancellationRequested; answers++)
            {
                Assert.Matches("^\\d+ \\d+ \\d+ 2$", await GetStringAsync("/r"));
            }
            return answers;
        }).ToArray();
        for (var i = 0; i < 20; i++)
        {
            await LuaPluginTests.ReloadAsync(Gateway);
        }
        await done.CancelAsync();
        Assert.All(await Task.WhenAll(asking), answers => Assert.True(answers > 0));
    }

    /// <summary>An auth plugin with a slip in it must not leave routes without any.</summary>
    [Theory]
    [InlineData("this is no lua", "counted.lua:1: '=' expected near 'is'")]
    [InlineData("return { version = 1, priority = 1, name = 'counted', init = function() error('not today') end }",
        "init of plugin [counted]: ")]
    [InlineData("return { version = 1, priority = 1, name = 'counted', init = function() while true do end end }", "stopped: it ran for")]
    public async Task A_reload_that_would_lose_a_plugin_changes_nothing(string file, string said)
    {
        await Gateway.RouteAsync("r", "/r", Origin, "\"plugins\":{\"counted\":{}}");
        var seen = await CountsAsync();
        Gateway.Write("lua/apisix/plugins/counted.lua", file);
        var (status, body) = await Gateway.AdminAsync(HttpMethod.Put, "/plugins/reload");
        Assert.Equal(HttpStatusCode.InternalServerError, status);
        Assert.Contains("plugin counted: ", (string?)body!["error_msg"], StringComparison.Ordinal);
        Assert.Contains(said, (string?)body["error_msg"], StringComparison.Ordinal);
        Assert.Contains(said, Assert.Single(await Gateway.Gateway.ReloadAsync(), problem => problem.Severity == Severity.Error).ToString(),
            StringComparison.Ordinal);
        Assert.Equal(seen, (await CountsAsync()).Where(counts => seen.ContainsKey(counts.Key)).ToDictionary());
        await PluginAsync("counted", Counted);
        Assert.All(await CountsAsync(), counts => Assert.Equal(counts.Value.Init, counts.Value.Destroyed + 1));
    }

    [Fact]
    public async Task Plugins_are_told_when_the_gateway_stops()
    {
        await Gateway.RestartAsync();
        await Gateway.ErrorLogSaysAsync("counted ends in state 0");
    }

    async Task<Dictionary<int, (int Init, int Destroyed)>> CountsAsync()
    {
        Dictionary<int, (int, int)> seen = [];
        for (var i = 0; i < 4 * Environment.ProcessorCount; i++)
        {
            var counts = (await GetStringAsync("/r")).Split(' ').Select(int.Parse).ToArray();
            Assert.Equal(2, counts[3]);
            seen[counts[0]] = (counts[1], counts[2]);
        }
        return seen;
    }

    [Fact]
    public async Task The_instance_keeps_its_id()
    {
        const string Code = "ngx.print(require('apisix.core').id.get())";
        await FunctionAsync("id", Code);
        var id = await GetStringAsync("/id");
        Assert.True(Guid.TryParse(id, out _));
        Assert.Equal(id,
            await File.ReadAllTextAsync(Path.Combine(Gateway.Prefix, "conf/apisix.uid"), TestContext.Current.CancellationToken));
        await Gateway.RestartAsync();
        Assert.Equal(id, await GetStringAsync("/id"));
        Gateway.Write("conf/apisix.uid", "chosen\n");
        await Gateway.RestartAsync();
        Assert.Equal("chosen", await GetStringAsync("/id"));
    }

    [Fact]
    public async Task Scripts_see_the_configuration_with_its_defaults_and_without_secrets()
    {
        await FunctionAsync("conf", "ngx.print(require('apisix.core').json.encode(require('apisix.core').config.local_conf()))");
        var text = await GetStringAsync("/conf");
        var shown = JsonNode.Parse(text)!;
        Assert.Equal("embedded", (string?)shown["deployment"]!["role_traditional"]!["config_provider"]);
        Assert.Equal("60s", (string?)shown["nginx_config"]!["http"]!["keepalive_timeout"]);
        Assert.Equal("admin", (string?)shown["deployment"]!["admin"]!["admin_key"]![0]!["name"]);
        Assert.Equal("http://127.0.0.1:1", (string?)shown["discovery"]!["consul"]!["servers"]![0]);
        Assert.Equal("mine", (string?)shown["plugin_attr"]!["counted"]!["key"]);
        Assert.Equal("x", (string?)shown["my_section"]!["name"]);
        Assert.DoesNotContain("hidden-token", text, StringComparison.Ordinal);
        Assert.DoesNotContain(TestGateway.AdminKey, text, StringComparison.Ordinal);
        Assert.DoesNotContain("qeddd145sfvddff3", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_error_behind_the_end_of_an_answer_leaves_the_connection_alone()
    {
        await FunctionAsync("late", "ngx.print('whole') ngx.eof() ngx.sleep(0) error('late trouble')");
        await FunctionAsync("next", "ngx.print('next') ngx.exit(200)");
        using var client = new TcpClient();
        await client.ConnectAsync(Gateway.EndPoint, TestContext.Current.CancellationToken);
        var stream = client.GetStream();
        await stream.WriteAsync(
            "GET /late HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"u8.ToArray(),
            TestContext.Current.CancellationToken);
        var answers = await new StreamReader(stream, Encoding.Latin1).ReadToEndAsync(TestContext.Current.CancellationToken);
        Assert.Contains("whole", answers, StringComparison.Ordinal);
        Assert.EndsWith("next", answers, StringComparison.Ordinal);
        await Gateway.ErrorLogSaysAsync("late trouble");
    }

    [Fact]
    public async Task Timers_end_with_their_state()
    {
        await FunctionAsync("wait",
            "ngx.timer.at(3600, function(premature, what) ngx.log(ngx.WARN, what, ' came prematurely: ', premature) end, "
                + "ngx.var.arg_what) ngx.exit(204)");
        await FunctionAsync("loop", """
            ngx.timer.at(0, function()
              while not ngx.worker.exiting() do ngx.sleep(0.01) end
              ngx.log(ngx.WARN, 'the loop ends: ', select(2, ngx.timer.at(1, function() end)))
            end) ngx.exit(204)
            """);
        await Gateway.Client.GetAsync(Gateway.Url("/wait?what=one"), TestContext.Current.CancellationToken);
        await Gateway.Client.GetAsync(Gateway.Url("/loop"), TestContext.Current.CancellationToken);
        Assert.DoesNotContain("prematurely", Gateway.ErrorLog, StringComparison.Ordinal);
        await LuaPluginTests.ReloadAsync(Gateway);
        await Gateway.ErrorLogSaysAsync("one came prematurely: true");
        await Gateway.ErrorLogSaysAsync("the loop ends: process exiting");
        await Gateway.Client.GetAsync(Gateway.Url("/wait?what=two"), TestContext.Current.CancellationToken);
        await Gateway.RestartAsync();
        await Gateway.ErrorLogSaysAsync("two came prematurely: true");
    }

    [Fact]
    public async Task A_timer_of_the_core_runs_again_and_again_until_it_is_cancelled()
    {
        await FunctionAsync("start", """
            local core, runs, timer = require("apisix.core"), ngx.shared.runs
            timer = core.timer.new("mine", function()
              if runs:incr("n", 1, 0) == 3 then timer.cancel() end
              error("not well")
            end, { each_ttl = 60, sleep_fail = 0.001, check_interval = 0.01 })
            ngx.print(timer.name, " ", select(2, core.timer.new()), " ", select(2, core.timer.new("x")))
            """);
        await FunctionAsync("runs", "ngx.print(ngx.shared.runs:get('n') or 0)");
        Assert.Equal("mine missing argument: name missing argument: callback_fun", await GetStringAsync("/start"));
        await Eventually.HoldsAsync(async () => await GetStringAsync("/runs") == "3", "it does not run");
        await Gateway.ErrorLogSaysAsync("failed to run the timer: mine err: ");
        Assert.Equal("3", await GetStringAsync("/runs"));
    }

    [Fact]
    public async Task A_script_talks_over_a_unix_socket()
    {
        var path = Path.Combine(Gateway.Prefix, "echo.sock");
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen();
        await FunctionAsync("unix",
            $"local s = ngx.socket.tcp() assert(s:connect('unix:{path}')) s:send('ping\\n') ngx.print((s:receive()))");
        var answer = GetStringAsync("/unix");
        using (var connection = await listener.AcceptAsync(TestContext.Current.CancellationToken))
        {
            var asked = new byte[5];
            await new NetworkStream(connection).ReadExactlyAsync(asked, TestContext.Current.CancellationToken);
            await connection.SendAsync(Encoding.Latin1.GetBytes("pong to " + Encoding.Latin1.GetString(asked)),
                TestContext.Current.CancellationToken);
        }
        Assert.Equal("pong to ping", await answer);
    }
}

using System.Net;
using System.Text;
using System.Text.Json;

namespace Sluice.FunctionalTests.Lua;

/// <summary>Custom plugins in Lua, filter_func and script of routes.</summary>
public class LuaPluginTests
{
    const string Plugins = "plugins: [shout, greeter, serverless-pre-function, proxy-buffering]";

    /// <summary>The plugin of apache/apisix#11977 in short: it rewrites each piece.</summary>
    const string Shout =
        """
        local core = require("apisix.core")
        local plugin = require("apisix.plugin")
        local schema = { type = "object", properties = { mark = { type = "string", default = "!" }, n = { type = "integer", minimum = 1 } } }
        local _M = { version = 0.1, priority = 1234, name = "shout", schema = schema,
          metadata_schema = { type = "object", properties = { tail = { type = "string" } } } }

        function _M.check_schema(conf)
          if conf.mark == "?" then
            return false, "no questions"
          end
          return core.schema.check(schema, conf)
        end

        function _M.header_filter(conf, ctx)
          core.response.clear_header_as_body_modified()
          core.response.set_header("X-Shout", conf.mark)
        end

        function _M.body_filter(conf, ctx)
          ctx.last = (ctx.last or 0) + (ngx.arg[2] and 1 or 0)
          if ngx.arg[1] ~= "" then
            ngx.arg[1] = ngx.arg[1]:upper() .. conf.mark
          end
          if ngx.arg[2] then
            local metadata = plugin.plugin_metadata("shout")
            ngx.arg[1] = (ngx.arg[1] or "") .. (metadata and metadata.value.tail or "") .. "last=" .. ctx.last
          end
        end

        return _M
        """;

    static string Greeter(string word) =>
        $$"""
        local _M = { version = 0.2, priority = 10, name = "greeter", schema = { type = "object" } }
        function _M.access(conf, ctx)
          return 200, "{{word}}"
        end
        return _M
        """;

    static async Task<TestGateway> StartAsync()
    {
        var gateway = await TestGateway.StartAsync(Plugins);
        gateway.Write("lua/apisix/plugins/shout.lua", Shout);
        gateway.Write("lua/apisix/plugins/greeter.lua", Greeter("hello"));
        await ReloadAsync(gateway);
        return gateway;
    }

    internal static async Task ReloadAsync(TestGateway gateway)
    {
        using var request = new HttpRequestMessage(HttpMethod.Put, $"http://{gateway.Gateway.AdminEndpoint}/apisix/admin/plugins/reload");
        request.Headers.Add("X-API-KEY", TestGateway.AdminKey);
        using var response = await gateway.Client.SendAsync(request);
        Assert.Equal("done", (await response.Content.ReadAsStringAsync()).Trim());
    }

    [Fact]
    public async Task Each_piece_goes_through_a_body_filter_and_leaves_at_once()
    {
        using var origin = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0);
        origin.Start();
        await using var gateway = await StartAsync();
        await gateway.RouteAsync("r", "/r", ((IPEndPoint)origin.LocalEndpoint).Port, "\"plugins\":{\"shout\":{}}");
        await gateway.PutAsync("/plugin_metadata/shout", "{\"tail\":\" tail \"}");
        var answering = gateway.Client.GetAsync(gateway.Url("/r"), HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken);
        using var upstream = await origin.AcceptTcpClientAsync(TestContext.Current.CancellationToken);
        var stream = upstream.GetStream();
        await stream.WriteAsync("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\none"u8.ToArray(),
            TestContext.Current.CancellationToken);
        using var answer = await answering;
        Assert.Equal("!", answer.Headers.GetValues("X-Shout").Single());
        await using var body = await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken);
        Assert.Equal("ONE!", await ReadAsync(body, 4));
        await stream.WriteAsync("two"u8.ToArray(), TestContext.Current.CancellationToken);
        Assert.Equal("TWO!", await ReadAsync(body, 4));
        upstream.Close();
        Assert.Equal(" tail last=1", await new StreamReader(body).ReadToEndAsync(TestContext.Current.CancellationToken));
    }

    static async Task<string> ReadAsync(Stream body, int count)
    {
        var buffer = new byte[count];
        await body.ReadExactlyAsync(buffer, TestContext.Current.CancellationToken);
        return Encoding.UTF8.GetString(buffer);
    }

    [Fact]
    public async Task The_plugins_own_schema_and_check_decide_what_is_accepted()
    {
        await using var gateway = await StartAsync();
        foreach (var (config, error) in new[]
        {
            ("{\"n\":0}", "property \"n\" validation failed: expected 0 to be at least 1"),
            ("{\"mark\":\"?\"}", "no questions"),
        })
        {
            var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r",
                $$"""{"uri":"/r","plugins":{"shout":{{config}}},"upstream":{"nodes":{"127.0.0.1:1":1} } }""");
            Assert.Equal(HttpStatusCode.BadRequest, status);
            Assert.Equal("failed to check the configuration of plugin shout err: " + error, (string?)body!["error_msg"]);
        }
        var (_, shown) = await gateway.AdminAsync(HttpMethod.Get, "/plugins/shout");
        Assert.Equal("!", (string?)shown!["properties"]!["mark"]!["default"]);
    }

    [Fact]
    public async Task Plugins_are_read_anew_on_reload()
    {
        await using var gateway = await StartAsync();
        await gateway.RouteAsync("r", "/r", 1, "\"plugins\":{\"greeter\":{}}");
        Assert.Equal("hello", await gateway.Client.GetStringAsync(gateway.Url("/r"), TestContext.Current.CancellationToken));
        gateway.Write("lua/apisix/plugins/greeter.lua", Greeter("good day"));
        await ReloadAsync(gateway);
        Assert.Equal("good day", await gateway.Client.GetStringAsync(gateway.Url("/r"), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_plugin_that_does_not_load_is_in_the_log_and_unknown()
    {
        await using var gateway = await StartAsync();
        gateway.Write("lua/apisix/plugins/greeter.lua", "return { version = 1 ");
        await gateway.RestartAsync();
        await gateway.ErrorLogSaysAsync("failed to load plugin [greeter] err: error loading module 'apisix.plugins.greeter'");
        var (_, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r",
            """{"uri":"/r","plugins":{"greeter":{} },"upstream":{"nodes":{"127.0.0.1:1":1} } }""");
        Assert.Equal("unknown plugin [greeter]", (string?)body!["error_msg"]);
    }

    [Fact]
    public async Task Filter_func_decides_whether_the_route_is_meant()
    {
        await using var gateway = await StartAsync();
        await gateway.PutAsync("/routes/one", JsonSerializer.Serialize(new
        {
            uri = "/f", priority = 1, filter_func = "function(vars) return vars['arg_v'] == '1' end",
            plugins = new Dictionary<string, object> { ["serverless-pre-function"] =
                new { functions = new[] { "return function() ngx.say('one') end" } } },
            upstream = new { nodes = new Dictionary<string, int> { ["127.0.0.1:1"] = 1 } },
        }));
        Assert.Equal("one\n", await gateway.Client.GetStringAsync(gateway.Url("/f?v=1"), TestContext.Current.CancellationToken));
        using var other = await gateway.Client.GetAsync(gateway.Url("/f?v=2"), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.NotFound, other.StatusCode);
    }

    [Fact]
    public async Task A_routes_script_runs_its_phases_instead_of_plugins()
    {
        await using var gateway = await StartAsync();
        await gateway.PutAsync("/routes/s", JsonSerializer.Serialize(new
        {
            uri = "/s",
            script = "local _M = {} function _M.access(ctx) ngx.header['X-S'] = ctx.var.uri ngx.say('script') end return _M",
            upstream = new { nodes = new Dictionary<string, int> { ["127.0.0.1:1"] = 1 } },
        }));
        using var answer = await gateway.Client.GetAsync(gateway.Url("/s"), TestContext.Current.CancellationToken);
        Assert.Equal("script\n", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        Assert.Equal("/s", answer.Headers.GetValues("X-S").Single());
    }
}

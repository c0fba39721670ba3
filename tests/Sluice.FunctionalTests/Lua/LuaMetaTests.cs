using System.Net;
using System.Text.Json;

namespace Sluice.FunctionalTests.Lua;

/// <summary><c>_meta</c> of plugins in Lua, and <c>_meta.pre_function</c> of all.</summary>
public sealed class LuaMetaTests()
    : LuaGatewayTests("plugins: [one, two, proxy-rewrite, response-rewrite]", ("one", Plugin("one", 20)), ("two", Plugin("two", 10)))
{
    static string Plugin(string name, int priority) =>
        $$"""
        local _M = { version = 0.1, priority = {{priority}}, name = "{{name}}", schema = { type = "object", properties = { word = { type = "string" } } } }
        function _M.access(conf, ctx)
          ctx.order = (ctx.order or "") .. _M.name .. (conf.word or "")
          if ctx.var.arg_refuse == _M.name then
            return 403, { message = "refused" }
          end
        end
        function _M.header_filter(conf, ctx)
          ngx.header["X-Order"] = ctx.order
          ngx.header["X-Before"] = ctx.before
        end
        function _M.body_filter(conf, ctx)
          if ngx.arg[2] then
            ngx.arg[1] = (ngx.arg[1] or "") .. "before=" .. tostring(ctx.before)
          end
        end
        return _M
        """;

    async Task<(int Status, string Body, string? Order, string? Before)> GetAsync(object plugins, string query = "")
    {
        await Gateway.RouteAsync("m", "/m", Origin, "\"plugins\":" + JsonSerializer.Serialize(plugins));
        using var answer = await Gateway.Client.GetAsync(Gateway.Url("/m" + query), TestContext.Current.CancellationToken);
        return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), Header("X-Order"),
            Header("X-Before"));

        string? Header(string name) => answer.Headers.TryGetValues(name, out var values) ? values.Single() : null;
    }

    static object Meta(object meta, string? word = null) => new { _meta = meta, word = word ?? "" };

    [Fact]
    public async Task Priority_filter_disable_and_error_response_count_for_plugins_in_Lua()
    {
        Assert.Equal("onetwo", (await GetAsync(new { one = new { }, two = new { } })).Order);
        Assert.Equal("twoone", (await GetAsync(new { one = Meta(new { priority = 5 }), two = new { } })).Order);
        Assert.Equal("two", (await GetAsync(new { one = Meta(new { disable = true }), two = new { } })).Order);
        var filtered = new { one = Meta(new { filter = new[] { new[] { "arg_who", "==", "me" } } }), two = new { } };
        Assert.Equal("two", (await GetAsync(filtered)).Order);
        Assert.Equal("onetwo", (await GetAsync(filtered, "?who=me")).Order);
        var refused = await GetAsync(new { one = Meta(new { error_response = new { error = "no" } }) }, "?refuse=one");
        Assert.Equal(403, refused.Status);
        Assert.StartsWith("{\"error\":\"no\"}", refused.Body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_pre_function_runs_before_each_phase_and_shares_the_configuration()
    {
        var answer =
            await GetAsync(
                new { one = Meta(
                    new { pre_function = "return function(conf, ctx) ctx.before = (ctx.before or 0) + 1 conf.word = '!' end" }) });
        Assert.Equal((200, "one!", "2"), (answer.Status, answer.Order, answer.Before));
        Assert.Contains("before=", answer.Body, StringComparison.Ordinal);
        Assert.DoesNotContain("before=2", answer.Body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_pre_function_of_a_built_in_plugin_runs_before_it()
    {
        Dictionary<string, object> plugins = new()
        {
            ["proxy-rewrite"] = new { uri = "/elsewhere",
                _meta = new { pre_function = "return function(conf, ctx) ngx.req.set_header('X-Seen', ctx.var.uri .. ' ' .. conf.uri) "
                    + "return 500 end" } },
            ["response-rewrite"] = new { headers = new { set = new Dictionary<string, string> { ["X-Order"] = "later" } },
                _meta = new { pre_function = "return function(conf, ctx) ngx.header['X-Before'] = ngx.get_phase() end" } },
        };
        var answer = await GetAsync(plugins);
        Assert.Equal((200, "later", "header_filter"), (answer.Status, answer.Order, answer.Before));
        Assert.Contains("GET /elsewhere", answer.Body, StringComparison.Ordinal);
        Assert.Contains("X-Seen: /m /elsewhere", answer.Body, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task A_pre_function_that_fails_is_a_line_in_the_log_and_nothing_more()
    {
        Dictionary<string, object> plugins = new()
        {
            ["one"] = new { _meta = new { pre_function = "return function() error('first trouble') end" } },
            ["proxy-rewrite"] = new { uri = "/elsewhere", _meta = new { pre_function = "return function() error('second trouble') end" } },
        };
        var answer = await GetAsync(plugins);
        Assert.Equal((200, "one"), (answer.Status, answer.Order));
        Assert.Contains("GET /elsewhere", answer.Body, StringComparison.Ordinal);
        await Gateway.ErrorLogSaysAsync("first trouble");
        await Gateway.ErrorLogSaysAsync("second trouble");
    }

    [Theory]
    [InlineData("one")]
    [InlineData("proxy-rewrite")]
    public async Task A_pre_function_that_is_no_Lua_is_refused(string plugin)
    {
        var (status, body) = await Gateway.AdminAsync(HttpMethod.Put, "/routes/bad",
            $$$"""{"uri":"/bad","plugins":{"{{{plugin}}}":{"_meta":{"pre_function":"not lua"} } },"upstream":{"nodes":{"127.0.0.1:1":1} } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.StartsWith($"failed to load _meta.pre_function in plugin {plugin}: ", (string?)body!["error_msg"], StringComparison.Ordinal);
    }
}

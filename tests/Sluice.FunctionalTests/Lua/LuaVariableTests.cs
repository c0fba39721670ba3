using System.Net;

namespace Sluice.FunctionalTests.Lua;

/// <summary>Variables as scripts read them: APISIX's own, those of the connection, and those that scripts register.</summary>
public sealed class LuaVariableTests() : LuaGatewayTests(
    "plugins: [tell, tags, key-auth, proxy-rewrite, serverless-pre-function]\nnginx_config: {http: {access_log_format: '$uri|$team'}}",
    ("tell", Tell), ("tags", Tags))
{
    const string Tell =
        """
        local core = require("apisix.core")
        local _M = { version = 0.1, priority = 1, name = "tell", schema = { type = "object" } }
        local function all(ctx, names)
          local out = {}
          for name in names:gmatch("[%w_]+") do
            out[#out + 1] = name .. "=" .. tostring(ctx.var[name])
          end
          return table.concat(out, " ")
        end
        function _M.header_filter(conf, ctx)
          ngx.header["X-Vars"] = all(ctx, ctx.var.http_x_names)
        end
        function _M.log(conf, ctx)
          core.log.warn("at the end: ", all(ctx, ctx.var.http_x_names))
        end
        return _M
        """;

    const string Tags =
        """
        local core = require("apisix.core")
        local _M = { version = 0.1, priority = 2, name = "tags", schema = { type = "object" } }
        local asked, changing = 0, 0
        function _M.init()
          core.ctx.register_var("team", function(ctx)
            asked = asked + 1
            return ctx.var.http_x_team and ctx.var.http_x_team .. "!"
          end)
          core.ctx.register_var("changing", function()
            changing = changing + 1
            return changing
          end, { no_cacheable = true })
          core.ctx.register_var("broken_var", function() error("no value") end)
        end
        function _M.access(conf, ctx)
          local before = asked
          local first, second = ctx.var.changing, ctx.var.changing
          return 200, table.concat({ ctx.var.team, ctx.var.team, asked - before, second - first, tostring(ngx.var.team) }, " ")
        end
        return _M
        """;

    async Task<(int Status, string Body, string? Vars)> AskAsync(string path, Version? version = null, HttpContent? body = null,
        params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(body is null ? HttpMethod.Get : HttpMethod.Post, Gateway.Url(path))
        {
            Version = version ?? HttpVersion.Version11, VersionPolicy = HttpVersionPolicy.RequestVersionExact, Content = body,
        };
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }
        using var answer = await Gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
            answer.Headers.TryGetValues("X-Vars", out var values) ? values.Single() : null);
    }

    [Fact]
    public async Task Scripts_read_APISIXs_variables()
    {
        await Gateway.PutAsync("/consumer_groups/g", """{"plugins":{}}""");
        await Gateway.PutAsync("/consumers/jack", """{"username":"jack","group_id":"g","plugins":{"key-auth":{"key":"one"}}}""");
        await Gateway.PutAsync("/services/s",
            $$"""{"name":"orders","plugins":{"key-auth":{} },"upstream":{"nodes":{"127.0.0.1:{{Origin}}":1} } }""");
        await Gateway.PutAsync("/routes/r",
            """{"name":"first","uri":"/v/:what","service_id":"s","plugins":{"tell":{},"proxy-rewrite":{"uri":"/up"}}}""");
        var (status, _, vars) = await AskAsync("/v/x?q=a%20b&q=c", headers: [("apikey", "one"), ("X-Names",
            "route_id route_name service_id service_name consumer_name consumer_group_id balancer_ip balancer_port upstream_addr "
                + "upstream_status upstream_scheme "
            + "upstream_uri matched_uri uri_param_what arg_q post_arg_x method nothing")]);
        Assert.True(status == 200, Gateway.ErrorLog);
        var expected =
            $"route_id=r route_name=first service_id=s service_name=orders consumer_name=jack consumer_group_id=g balancer_ip=127.0.0.1 balancer_port={Origin} "
            + $"upstream_addr=127.0.0.1:{Origin} upstream_status=200 upstream_scheme=http upstream_uri=/up?q=a%20b&q=c matched_uri=/v/:what uri_param_what=x arg_q=a b post_arg_x=nil method=GET nothing=nil";
        Assert.Equal(expected, vars);
        await Gateway.ErrorLogSaysAsync("at the end: " + expected);

        (_, _, vars) = await AskAsync("/v/x", headers: [("apikey", "one"), ("X-Names", "request_id apisix_request_id")]);
        Assert.Matches("^request_id=([0-9a-f]{32}) apisix_request_id=\\1$", vars);
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_connection_has_a_number_and_counts_its_requests(string version)
    {
        await FunctionAsync("c", "ngx.say(ngx.var.connection, ' ', ngx.var.connection_requests)");
        var first = await AskAsync("/c", new Version(version));
        var second = await AskAsync("/c", new Version(version));
        var parts = first.Body.Trim().Split(' ');
        Assert.True(long.Parse(parts[0], System.Globalization.CultureInfo.InvariantCulture) > 0);
        Assert.Equal($"{parts[0]} 1\n{parts[0]} 2\n", first.Body + second.Body);
        await FunctionAsync("outer", "ngx.say(ngx.var.connection, ' ', ngx.location.capture('/c').body)");
        Assert.Equal($"{parts[0]} {parts[0]} 3\n\n", (await AskAsync("/outer", new Version(version))).Body);
    }

    /// <summary>That of HTTP/1 is compared with nginx's in <see cref="LuaConformanceTests"/>; that of HTTP/2 is the length of the headers
    /// as they are now.</summary>
    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task The_length_of_a_request_is_what_the_client_has_sent(string version)
    {
        await FunctionAsync("l",
            "local before = ngx.var.request_length ngx.req.read_body() ngx.req.set_body_data('is longer') ngx.say(tonumber(before) > 20 "
                + "and 'head', ' ', ngx.var.request_length - before)");
        using var body = new StringContent("12345");
        Assert.Equal("head 5\n", (await AskAsync("/l", new Version(version), body)).Body);
    }

    [Fact]
    public async Task A_registered_variable_counts_wherever_variables_are_read()
    {
        await Gateway.PutAsync("/routes/team", $$$"""
            {"uri":"/t","vars":[["team","==","red!"]],"plugins":{"proxy-rewrite":{"uri":"/to/$team","headers":{"set":{"X-Seen":"${team}-${broken_var}"} } } },
             "upstream":{"nodes":{"127.0.0.1:{{{Origin}}}":1} } }
            """);
        await Gateway.RouteAsync("own", "/own", Origin, "\"plugins\":{\"tags\":{}}");
        // whichever state a request comes to
        for (var i = 0; i < 2 * Environment.ProcessorCount; i++)
        {
            Assert.Equal(404, (await AskAsync("/t")).Status);
            var (status, seen, _) = await AskAsync("/t", headers: ("X-Team", "red"));
            Assert.True(status == 200, Gateway.ErrorLog);
            Assert.Contains("GET /to/red! ", seen, StringComparison.Ordinal);
            Assert.Contains("X-Seen: red!-\r\n", seen, StringComparison.OrdinalIgnoreCase);
        }
        var log = Path.Combine(Gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(log) && File.ReadLines(log).Intersect(["/to/red!|red!", "/t|-"]).Count() == 2,
            "not in the access log");
        await Gateway.ErrorLogSaysAsync("failed to get a registered variable: ");
        await Gateway.ErrorLogSaysAsync("no value");
        // kept for the request unless it is said to change, and none of nginx's
        Assert.Equal("red! red! 1 1 nil", (await AskAsync("/own", headers: ("X-Team", "red"))).Body);
    }
}

using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Sluice.FunctionalTests.Lua;

/// <summary>What <c>apisix.core</c> does, function by function, against apisix/core/*.lua.</summary>
public sealed class LuaCoreTests(LuaCoreTests.Running running) : IClassFixture<LuaCoreTests.Running>
{
    [Theory]
    // json
    [InlineData("p(core.json.encode({a = {1, 'x', true}}))", """{"a":[1,"x",true]}""")]
    [InlineData("p(core.json.encode({f = print, t = setmetatable({}, core.json.array_mt)}, true):match('function') ~= nil)", "true")]
    [InlineData("local t = {} t.me = t p(core.json.encode(t, true):match('^{\"me\":\"table: 0x') ~= nil)", "true")]
    [InlineData("local t = core.json.decode('{\"a\":[],\"b\":null}') p(core.json.encode(t.a), t.b == ngx.null)", "[] true")]
    [InlineData("p(core.json.decode('{'))", "nil Expected object key string but found T_END at character 2")]
    [InlineData("p(core.json.stably_encode({b = 1, a = {d = 1, c = {2, 1}}}))", """{"a":{"c":[2,1],"d":1},"b":1}""")]
    [InlineData(
        "p(tostring(core.json.delay_encode({a = 1})), tostring(core.json.delay_encode({a = print}, true)):match('builtin') or 'function')",
        """{"a":1} function""")]
    // cjson as OpenResty has it, which is not installed here
    [InlineData(
        "local j = require('cjson') p(j.encode({setmetatable({}, j.empty_array_mt), setmetatable({1}, j.empty_array_mt), "
            + "setmetatable({}, j.array_mt), setmetatable({a = 1}, j.array_mt), j.empty_array, {}}))",
        "[[],[1],[],[],[],{}]")]
    [InlineData(
        "local j = require('cjson').new() p(j.encode('a/b'), j.encode_escape_forward_slash(false), j.encode('a/b'), "
            + "require('cjson').encode('/'), require('cjson.safe').encode('/'))",
        "\"a\\/b\" false \"a/b\" \"\\/\" \"/\"")]
    [InlineData(
        "local j = require('cjson').new() p(j.encode_empty_table_as_object(), j.encode_empty_table_as_object(false), j.encode({a = {}}), "
            + "require('cjson').encode({}))", """true false {"a":[]} {}""")]
    [InlineData(
        "local j = require('cjson').new() p(j.encode(j.decode('[]')), j.decode_array_with_array_mt(true), j.encode(j.decode('[]')), "
            + "j.encode(j.decode('{}')))", "{} true [] {}")]
    [InlineData(
        "local j = require('cjson').new() p(j.encode_invalid_numbers(true), j.encode({1/0, -1/0, 0/0}), j.encode_number_precision(16), "
            + "j.encode(0.1), select(2, pcall(j.encode_number_precision, 17)))",
        "true [Infinity,-Infinity,NaN] 16 0.1 bad argument #1 to 'encode_number_precision' (expected integer between 1 and 16)")]
    [InlineData("p(select(2, pcall(require('cjson').encode, {{0/0}})), select(2, require('cjson.safe').encode(1/0)))",
        "Cannot serialise number: must not be NaN or Infinity Cannot serialise number: must not be NaN or Infinity")]
    [InlineData("local t = {} t.t = t p(select(2, require('cjson.safe').encode(t)))", "Cannot serialise, excessive depth (1001)")]
    [InlineData(
        "local j = require('cjson.safe').new() j.encode_max_depth(1e9) j.decode_max_depth(1e9) local t = {} t.t = t p(select(2, "
            + "j.encode(t)), select(2, j.decode(('['):rep(1e5))))",
        "Cannot serialise, excessive depth (4001) Found too many nested data structures (4001) at character 4001")]
    // table
    [InlineData("local t = {1} p(core.table.insert_tail(t, 2, 3), #t, core.table.concat(t, ','))", "3 3 1,2,3")]
    [InlineData("local t = {9, 9, 9} core.table.set(t, 1, 2) p(core.table.concat(t, ','))", "1,2,9")]
    [InlineData("p(core.table.array_find({'a', 'b'}, 'b'), core.table.array_find({}, 1))", "2 nil")]
    [InlineData("p(core.table.try_read_attr({a = {b = 7}}, 'a', 'b'), core.table.try_read_attr({a = 1}, 'a', 'b', 'c'))", "7 nil")]
    [InlineData(
        "local a = {x = {1}} local b, c = core.table.deepcopy(a), core.table.deepcopy(a, {shallows = {'self.x'}}) p(b.x == a.x, b.x[1], "
            + "c.x == a.x)", "false 1 true")]
    [InlineData("local a = {x = {1}} local b = core.table.clone(a) p(b == a, b.x == a.x)", "false true")]
    [InlineData("p(core.json.stably_encode(core.table.merge({a = {b = 1, l = {1, 2}}, z = 1}, {a = {c = 2, l = {3}}, z = ngx.null})))",
        """{"a":{"b":1,"c":2,"l":[3]}}""")]
    [InlineData("local t = {a = {b = 1}} local code, err, new = core.table.patch(t, 'a/b', 2) p(code, err, new.a.b)", "nil nil 2")]
    [InlineData("p(core.table.patch({a = 1}, 'a/b', 2))", "400 invalid sub-path: /a")]
    [InlineData(
        "p(core.json.encode(core.table.pick({a = 1, b = 2}, {a = true})), core.table.deep_eq({a = {1}}, {a = {1}}), "
            + "core.table.deep_eq({1}, {1, 2}))", """{"a":1} true false""")]
    [InlineData(
        "local t = core.table.new(4, 0) t[1] = 1 core.table.clear(t) p(#t, core.table.nkeys({1, a = 2}), core.table.isarray({1, 2}), "
            + "core.table.isarray({a = 1}), core.table.maxn({1}))", "0 2 true false 1")]
    [InlineData("local t = core.tablepool.fetch('x', 0, 4) p(next(t)) core.tablepool.release('x', t)", "nil")]
    // string
    [InlineData("p(core.string.find('a.b', 'x'), core.string.upper('x'), core.string.find('a.b', '.'))", "nil X 2 2")]
    [InlineData(
        "p(core.string.has_prefix('abc', 'ab'), core.string.has_prefix('a', 'ab'), core.string.has_suffix('abc', 'bc'), "
            + "core.string.has_suffix('abc', ''))", "true false true true")]
    [InlineData("p(select(2, pcall(core.string.has_prefix, nil, 'a')):match('unexpected type: s:nil, prefix:string'))",
        "unexpected type: s:nil, prefix:string")]
    [InlineData("p(core.string.rfind_char('a:b:c', ':'), core.string.rfind_char('a:b:c', ':', 3), core.string.rfind_char('abc', ':'))",
        "4 2 nil")]
    [InlineData("p(core.string.compress_script('  local a,  b\\n    return a'))", "local a,b\nreturn a")]
    // request
    [InlineData("p(core.request.header(ctx, 'X-One'), core.request.header(ctx, 'x_none'), core.request.headers(ctx)['x-one'])",
        "first nil first")]
    [InlineData(
        "core.request.set_header(ctx, 'X-New', 'v') core.request.add_header(ctx, 'X-New', 'w') p(core.request.header(ctx, 'X-New'), "
            + "ctx.var.http_x_new)", "v v, w")]
    [InlineData(
        "core.request.set_header('X-Old', 'v') core.request.set_header(ctx, 'X-One', nil) p(core.request.header(ctx, 'X-Old'), "
            + "core.request.header(ctx, 'X-One'))", "v nil")]
    [InlineData("p(select(2, pcall(core.request.set_header, ctx, 1, 'x')):match('invalid header name.*'))",
        "invalid header name \"1\": got number, expected string")]
    [InlineData("p(core.request.get_ip(ctx), core.request.get_remote_client_ip(ctx), core.request.get_remote_client_port(ctx) > 0)",
        "127.0.0.1 127.0.0.1 true")]
    [InlineData(
        "local a = core.request.get_uri_args(ctx) p(a.a, a.b) core.request.set_uri_args(ctx, {c = 3}) "
            + "p(core.request.get_uri_args(ctx).c, ctx.var.args)", "1 x y\n3 c=3")]
    [InlineData(
        "p(core.request.get_method(), core.request.get_scheme(ctx), core.request.get_host(ctx):match('^[%d.]+'), "
            + "core.request.get_port(ctx) > 0, core.request.get_http_version())", "POST http 127.0.0.1 true 1.1")]
    [InlineData("p(core.request.get_body(nil, ctx)) p(core.request.get_body(3, ctx)) p(core.request.get_json_request_body_table().k)",
        "{\"k\":\"v\"}\nnil request size 9 is greater than the maximum size 3 allowed\nv")]
    [InlineData(
        "p(core.request.get_request_body_table(ctx).k) p(core.request.get_request_body_table(ctx, 'application/x-www-form-urlencoded'))",
        "v\nnil request body type mismatch: cached type is application/json, expected application/x-www-form-urlencoded")]
    [InlineData("core.request.set_header(ctx, 'Content-Type', 'text/x') p(core.request.get_request_body_table(ctx))",
        "nil unsupported content-type: text/x, supported types are: application/json, application/x-www-form-urlencoded, "
            + "multipart/form-data")]
    [InlineData(
        "core.request.set_header(ctx, 'Content-Type', 'application/x-www-form-urlencoded') ngx.req.read_body() "
            + "ngx.req.set_body_data('a=1&b=x+y') local t = core.request.get_request_body_table(ctx) p(t.a, t.b, ctx.var.post_arg_b)",
            "1 x y x y")]
    [InlineData(
        "core.request.set_header(ctx, 'Content-Type', 'multipart/form-data; boundary=\"B 1\"') ngx.req.read_body() "
            + "ngx.req.set_body_data('pre\\r\\n--B 1\\r\\nContent-Disposition: form-data; name=\"a\"\\r\\n\\r\\none\\r\\n--B "
                + "1\\r\\ncontent-disposition: form-data; filename=\"f\"; name=\"b\"\\r\\nContent-Type: "
                    + "text/plain\\r\\n\\r\\n\\r\\n--\\r\\n\\r\\n--B 1--\\r\\n') local t = core.request.get_request_body_table(ctx) "
                        + "p(t.a, #t.b, core.table.nkeys(t))", "one 6 2")]
    [InlineData(
        "core.request.set_header(ctx, 'Content-Type', 'multipart/form-data; boundary=B') ngx.req.read_body() "
            + "ngx.req.set_body_data('--B\\r\\nContent-Disposition: form-data; name=a\\r\\n\\r\\none') "
                + "p(core.request.get_request_body_table(ctx))", "nil failed to parse multipart form data")]
    [InlineData(
        "ngx.req.read_body() ngx.req.set_body_data('{\"a\":{\"b\":[1,{\"c\":7}],\"d\":\"x\"}}') p(ctx.var['post_arg.a.d'], "
            + "#ctx.var['post_arg.a.b'], ctx.var['post_arg.a.none'], ctx.var['post_arg.a.d.e'], ctx.var['post_arg.no'])",
            "x 2 nil nil nil")]
    [InlineData("ngx.req.read_body() ngx.req.set_body_data('a=1&b=2') p(core.request.get_post_args(ctx).b)", "2")]
    [InlineData(
        "ngx.req.read_body() ngx.req.set_body_data('{') p(core.request.get_json_request_body_table() == nil, select(2, "
            + "core.request.get_json_request_body_table()).message)",
            "true could not parse JSON request body: Expected object key string but found T_END at character 2")]
    // response
    [InlineData(
        "core.response.set_header('X-A', 1, 'X-B', 'b') core.response.set_header({['X-C'] = 'c'}) core.response.add_header('X-A', 2) "
            + "core.response.set_header('X-B', nil) local h = ngx.resp.get_headers() p(core.json.encode(h['x-a']), h['x-b'], h['x-c'])",
            """["1","2"] nil c""")]
    [InlineData("return core.response.exit(201, {a = 1}, 'tail')", "{\"a\":1}\ntail", 201)]
    [InlineData("core.response.say('x', {1})", "x[1]\n")]
    [InlineData(
        "p(core.response.get_response_source(ctx), core.response.get_upstream_status(ctx)) core.response.set_response_source(ctx, "
            + "'upstream') p(core.response.get_response_source(ctx))", "apisix nil\nupstream")]
    // ctx
    [InlineData(
        "core.ctx.register_var('twice', function(ctx) return (ctx.n or 0) * 2 end) ctx.n = 21 p(ctx.var.twice, ctx.var.uri, "
            + "ctx.route_id, ctx.conf_type)", "42 /core core route")]
    // utils
    [InlineData("p(core.table.concat(core.utils.split_uri('/a/b'), '|'))", "|a|b")]
    [InlineData(
        "for _, a in ipairs({'h', 'h:80', '1.2.3.4:5', '[::1]', '[::1]:80', '2001:db8::68', '::ffff:192.0.2.1'}) do "
            + "p(core.utils.parse_addr(a)) end",
        "h nil\nh 80\n1.2.3.4 5\n[::1] nil\n[::1] 80\n2001:db8::68\n::ffff:192.0.2.1")]
    [InlineData("p(core.utils.resolve_var('$a-${ b }-${c ?? d}-$none-\\\\$a', {a = 1, b = 'x$y'}))", "1-x$y-d--\\$a nil 3")]
    [InlineData("p((core.utils.resolve_var('$a', {a = 'x y'}, ngx.escape_uri)))", "x%20y")]
    [InlineData("p(core.utils.resolve_var_with_captures('/${2}/$1', {'a', 'b'}))", "/b/a nil")]
    [InlineData("p(core.utils.uri_safe_encode('/a b?c=d#e%ü/'))", "/a%20b%3Fc=d%23e%25%C3%BC/")]
    [InlineData(
        "p(core.utils.validate_header_field('X-A'), core.utils.validate_header_field('X:A'), core.utils.validate_header_value('a b'), "
            + "core.utils.validate_header_value('a\\nb'))", "true false true false")]
    [InlineData(
        "p(core.utils.parse_ipv4('1.2.3.4'), core.utils.parse_ipv4('::1'), core.utils.parse_ipv6('::1'), core.utils.parse_ipv6('x'))",
        "true false true false")]
    [InlineData("p(#core.utils.gethostname() > 0, core.utils.get_seed_from_urandom() > 0, #core.utils.uuid())", "true true 36")]
    // schema
    [InlineData(
        "local s = {type = 'object', properties = {n = {type = 'integer', minimum = 1}, d = {type = 'string', default = 'x'}}} local c = "
            + "{n = 1} p(core.schema.check(s, c), c.d) p(core.schema.check(s, {n = 0}))",
        "true x\nfalse property \"n\" validation failed: expected 0 to be at least 1")]
    [InlineData("p(core.schema.TYPE_CONSUMER, core.schema.TYPE_METADATA, (core.schema.valid({type = 'object'})))", "1 2 true")]
    // lrucache
    [InlineData(
        "local n = 0 local lru = core.lrucache.new({ttl = 300, count = 2}) local function make(x) n = n + 1 return {x .. n} end "
            + "p(lru('k', 1, make, 'a')[1], lru('k', 1, make, 'b')[1], lru('k', 2, make, 'c')[1])", "a1 a1 c2")]
    [InlineData(
        "local gone local lru = core.lrucache.new({release = function(v) gone = v end}) lru('k', 1, function() return 'old' end) "
            + "lru('k', 2, function() return 'new' end) p(gone, lru('e', 1, function() return nil, 'why' end))", "old nil why")]
    [InlineData(
        "p(core.lrucache.plugin_ctx_id(ctx, 'x'):match('^route#core#x#%d+$') ~= nil, core.lrucache.plugin_ctx(core.lrucache.new({type = "
            + "'plugin'}), ctx, nil, function() return 5 end))", "true 5 nil")]
    // the rest
    [InlineData("local before = ngx.now() core.sleep(0.02) ngx.update_time() p(ngx.now() - before > 0.015)", "true")]
    [InlineData(
        "p(core.resolver.parse_domain('127.0.0.1'), core.config.local_conf().apisix ~= nil, core.version.VERSION, core.id.get() == "
            + "core.id.get())", "127.0.0.1 true 3.18.0 true")]
    [InlineData(
        "local m = core.ip.create_ip_matcher({'10.0.0.0/8', '::1'}) p(m:match('10.1.1.1'), m:match('11.1.1.1'), m:match('::1')) "
            + "p(core.ip.create_ip_matcher({'nonsense'}))", "true false true\nnil invalid ip address: nonsense")]
    public async Task Core_does_what_APISIX_documents(string code, string expected, int status = 200)
    {
        var (answered, body) = await running.RunAsync(code);
        Assert.True(expected == body.TrimEnd('\n') || expected == body, $"{answered} {body}\n{running.Log}");
        Assert.Equal(status, answered);
    }

    [Fact]
    public async Task Log_writes_at_its_level_with_the_place()
    {
        await running.RunAsync("core.log.error('broken ', 1, ' ', core.json.delay_encode({a = 1})) core.log.warn('hm') p(1)");
        await running.Gateway.ErrorLogSaysAsync("broken 1 {\"a\":1}");
        await running.Gateway.ErrorLogSaysAsync("hm");
    }

    [Fact]
    public async Task A_timer_runs_again_and_again_and_outlives_its_errors()
    {
        await running.RunAsync(
            "ngx.shared.timer:set('n', 0) require('apisix.core').timer.new('beat', function() if ngx.shared.timer:incr('n', 1) == 1 then "
                + "error('first') end end, {each_ttl = 0, sleep_succ = 0, sleep_fail = 0, check_interval = 0.02}) p(1)");
        await running.Gateway.ErrorLogSaysAsync("failed to run the timer: beat err: ");
        await Eventually.HoldsAsync(async () =>
            int.Parse((await running.RunAsync("p(ngx.shared.timer:get('n'))")).Body, CultureInfo.InvariantCulture) >= 3,
            "the timer stands still");
    }

    /// <summary>One gateway for all cases.</summary>
    public sealed class Running : IAsyncLifetime
    {
        public TestGateway Gateway { get; private set; } = null!;

        public string Log => Gateway.ErrorLog;

        public async ValueTask InitializeAsync()
        {
            Gateway = await TestGateway.StartAsync();
            await Gateway.PutAsync("/routes/core", JsonSerializer.Serialize(new
            {
                uri = "/core",
                plugins = new Dictionary<string, object>
                {
                    ["serverless-pre-function"] = new
                    {
                        functions = new[]
                        {
                            """
                            return function(conf, ctx)
                              local core = require("apisix.core")
                              local code = ngx.unescape_uri(core.request.header(ctx, "X-Code"))
                              local function p(...)
                                local out = {}
                                for i = 1, select("#", ...) do out[i] = tostring((select(i, ...))) end
                                ngx.say(table.concat(out, " "))
                              end
                              return assert(loadstring("local core, ctx, p = ... " .. code))(core, ctx, p)
                            end
                            """,
                        },
                    },
                },
                upstream = new { nodes = new Dictionary<string, int> { ["127.0.0.1:1"] = 1 } },
            }));
        }

        public async Task<(int Status, string Body)> RunAsync(string code)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, Gateway.Url("/core?a=1&b=x%20y"))
            {
                Content = new StringContent("""{"k":"v"}""", Encoding.UTF8, "application/json"),
            };
            request.Headers.Add("X-Code", Uri.EscapeDataString(code));
            request.Headers.Add("X-One", "first");
            using var answer = await Gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
            return ((int)answer.StatusCode, await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }

        public ValueTask DisposeAsync() => Gateway.DisposeAsync();
    }
}

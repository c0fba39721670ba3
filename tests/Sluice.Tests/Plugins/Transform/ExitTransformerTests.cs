using System.Text.Json;

namespace Sluice.Tests.Plugins.Transform;

public class ExitTransformerTests
{
    [Theory]
    [InlineData("return (function(code) if code == then return 405 end end)(...)", "unexpected symbol")]
    [InlineData("return (", "unexpected symbol")]
    public void Bad_Lua_is_refused(string function, string error) =>
        Assert.Contains(error, PluginTest.Check("exit-transformer", Config(function)), StringComparison.Ordinal);

    [Fact]
    public async Task A_status_alone_has_its_own_page()
    {
        var result = await RefusedAsync("if code == 401 then return 405 end return code, body, header");
        Assert.Equal(405, result.Status);
        Assert.Contains("<h1>405 Not Allowed</h1>", result.Body, StringComparison.Ordinal);
        Assert.StartsWith("text/html", result.Answered("Content-Type"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("return 402, body, header", 402, "{\"message\":\"Missing API key in request\"}\n")]
    [InlineData("return 502, 'Modified', header", 502, "Modified")]
    [InlineData("body.code = 7 body.message = nil return code, body, header", 401, "{\"code\":7}\n")]
    [InlineData("return code, type(body) .. ' ' .. type(header), header", 401, "table table")]
    [InlineData("return nil, body, header", 401, "{\"message\":\"Missing API key in request\"}\n")]
    [InlineData("return code() end return code, body, header", 401, "{\"message\":\"Missing API key in request\"}\n")]
    [InlineData("return 99, 'x', header", 401, "{\"message\":\"Missing API key in request\"}\n")]
    [InlineData("while true do end", 401, "{\"message\":\"Missing API key in request\"}\n")]
    public async Task Functions_change_what_a_plugin_answers(string function, int status, string body)
    {
        var result = await RefusedAsync(function.Contains(" end return", StringComparison.Ordinal) ? $"if code == 401 then {function}"
            : function);
        Assert.Equal((status, body), (result.Status, result.Body));
    }

    [Fact]
    public async Task They_set_headers_and_cannot_split_them()
    {
        var result = await RefusedAsync(
            "return code, 'x', {['X-A'] = 'a', ['X-B'] = {'1', '2'}, ['Content-Type'] = 'application/x', ['Content-Length'] = '99', "
                + "['X-C'] = 'a\\r\\nX-D: b'}");
        Assert.Equal(("a", "1 | 2", "application/x", null),
            (result.Answered("X-A"), result.Answered("X-B"), result.Answered("Content-Type"), result.Answered("X-D")));
        Assert.Equal("1", result.Answered("Content-Length"));
        Assert.DoesNotContain('\n', result.Answered("X-C")!);
    }

    [Fact]
    public async Task They_run_in_order_each_with_what_the_one_before_has_made()
    {
        var result = await RefusedAsync("return 402, 'a', header", "error('no')", "return code + 1, body .. 'b', header");
        Assert.Equal((403, "ab"), (result.Status, result.Body));
    }

    [Fact]
    public async Task They_see_the_request()
    {
        var result = await RefusedAsync("return 200, require('apisix.core').request.headers()['X-Who'] .. ngx.var.uri, header");
        Assert.Equal((200, "me/"), (result.Status, result.Body));
    }

    [Fact]
    public async Task An_upstreams_answer_is_not_theirs()
    {
        var test = new PluginTest($$"""{"exit-transformer":{{Config(Wrap("return 500, 'x', header"))}}}""");
        var result = await test.SendAsync("GET", "/", PluginTest.Upstream.Text("as it is") with { Status = 404 });
        Assert.Equal((404, "as it is"), (result.Status, result.Body));
    }

    static Task<PluginTest.Result> RefusedAsync(params string[] functions) =>
        new PluginTest($$"""{"exit-transformer":{{Config([.. functions.Select(Wrap)])}},"key-auth":{} }""").GetAsync("/", ("X-Who", "me"));

    static string Wrap(string function) => $"return (function(code, body, header) {function} end)(...)";

    static string Config(params string[] functions) => $$"""{"functions":{{JsonSerializer.Serialize(functions)}}}""";
}

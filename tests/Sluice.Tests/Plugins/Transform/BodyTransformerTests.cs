using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Sluice.Tests.Plugins.Transform;

public class BodyTransformerTests
{
    [Theory]
    [InlineData("{}", "object matches none of the required")]
    [InlineData("""{"request":{}}""", """property "request" validation failed: property "template" is required""")]
    [InlineData("""{"request":{"template":"","input_format":"yaml"}}""",
        """property "request" validation failed: property "input_format" validation failed: matches none of the enum values""")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.StartsWith(error, PluginTest.Check("body-transformer", config) ?? "", StringComparison.Ordinal);

    [Theory]
    [InlineData("""{"foo":"{{name .. " world"}}","bar":{{age+10}}}""", """{"foo":"hello world","bar":30}""")]
    [InlineData("""{*_escape_json(quote)*}""", "\"a \\\"b\\\" </x>\"")]
    [InlineData("{{quote}}", "a &quot;b&quot; &lt;&#47;x&gt;")]
    [InlineData("{*_escape_xml(quote)*}", "a &quot;b&quot; &lt;/x&gt;")]
    [InlineData("{* quote *}|{*nobody*}|{{nothing}}", "a \"b\" </x>||")]
    [InlineData("{% for i, x in ipairs(list) do %}\n{*x*},{% end %}\nend", "1,2,end")]
    [InlineData("{# nothing #}a{-raw-}{{name}}{-raw-}b\\{{name}}", "a{{name}}b{{name}}")]
    [InlineData("{-part-}[{*name*}]{-part-}{*blocks.part*}{*blocks.part*}", "[hello][hello]")]
    [InlineData("{*string.upper(_ctx.var.arg_q)*} {*context.age*} {*#_body*}", "X 20 200")]
    [InlineData("{ \"a\": {} } { { }", "{ \"a\": {} } { { }")]
    [InlineData("e3tuYW1lfX0=", "hello")]
    public async Task Templates_are_filled_with_what_a_body_holds(string template, string expected) =>
        Assert.Equal(expected,
            await RequestAsync(template,
                """{"name":"hello","age":20,"quote":"a \"b\" </x>","list":[1,2],"nothing":null,"_escape_json":"mine","_body":"mine"}""".PadRight(200), "application/json"));

    [Theory]
    [InlineData("name=hello&age=20&age=30", "application/x-www-form-urlencoded", "{*name*} {*age[2]*}", "hello 30")]
    [InlineData(
        "--B\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nLarry\r\n--B\nContent-Disposition: form-data; name=\"age\"; "
            + "filename=\"x\"\n\n10\n\n--B--", "multipart/form-data; boundary=B",
        "{*name*}|{*age*}", "Larry|10\n")]
    [InlineData(
        "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n2\r\n--B--",
        "multipart/related; boundary=\"B\"",
        "{*a[1]*}{*a[2]*}{% _multipart:delete('a') _multipart:set_simple('s', 'x') %}{*_multipart:tostring()*}",
        "12--B\r\nContent-Disposition: form-data; name=\"s\"\r\n\r\nx\r\n--B--\r\n")]
    [InlineData("no multipart", "multipart/form-data; boundary=B", "[{*foo*}]", "[]")]
    [InlineData("<s:E xmlns:s='u'><s:B><n:c xmlns:n='v'>Spain</n:c><e/><f lang='en'>text</f><i>1</i><i>2</i></s:B></s:E>", "text/xml",
        "{*E.B.c[1]*}|{*E.B.e*}|{*E.B.f[1]*} {*E.B.f._attr.lang*}|{*E.B.i[1]*}{*E.B.i[2]*}|{*E._attr.s*}", "Spain||text en|12|u")]
    [InlineData("<a><![CDATA[ <x> & ]]></a>", "text/xml; charset=utf-8", "{*a*}", "<x> &")]
    [InlineData("any text", null, "{*string.gsub(_body, 'any ', '')*}", "text")]
    public async Task A_body_is_read_by_its_type(string body, string? type, string template, string expected) =>
        Assert.Equal(expected, await RequestAsync(template, body, type));

    [Fact]
    public async Task The_arguments_of_a_GET_are_its_body() =>
        Assert.Equal("x", await RequestAsync("{*q*}", "", "application/json", "GET"));

    [Theory]
    [InlineData("""{"name":"x"}""", "text/xml", "a", 400, "request body decode: Error Parsing XML")]
    [InlineData("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "text/xml", "a", 400, "request body decode: Error Parsing XML")]
    [InlineData("<a", "application/json", "a", 400, "request body decode: ")]
    [InlineData("1", "application/json", "a", 400, "request body decode: ")]
    [InlineData("{}", "application/json", "{{", 200, null)]
    [InlineData("{}", "application/json", "{% if %}", 503, "request template compile: template:")]
    [InlineData("{}", "application/json", "{(other)}", 503, "request template compile: a template includes no other")]
    [InlineData("""{"name":"x"}""", "application/json", "{{name()}}", 503, "attempt to call global 'name' (a string value)")]
    [InlineData("{}", "application/json", "{% while true do end %}", 503, "request template rendering: ")]
    [InlineData("{}", "application/json", "{% ngx.sleep(1) %}", 503, "request template rendering: ")]
    public async Task What_cannot_be_made_is_answered_with_the_reason(string body, string type, string template, int status,
        string? message)
    {
        var result = await Test("request", template).SendAsync("POST", "/", null, ("Content-Type", type), (":body", body));
        Assert.Equal(status, result.Status);
        Assert.Contains(message ?? "",
            message is null ? "" : JsonDocument.Parse(result.Body).RootElement.GetProperty("message").GetString(),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_body_over_the_limit_is_answered_413() =>
        Assert.Equal(413, (await new PluginTest("""{"body-transformer":{"request":{"template":"a"},"max_req_body_size":3}}""")
            .SendAsync("POST", "/", null, ("Content-Type", "application/json"), (":body", "{   }"))).Status);

    [Theory]
    [InlineData("""{"a":"b"}""", "application/json", "{*a*}{*_ctx.var.status*}", "b200")]
    [InlineData("<a>b</a>", "text/xml", "{*a*}", "b")]
    [InlineData("<a>b</a>", "application/json", "{*a*}", "<a>b</a>")]
    [InlineData("""{"a":"b"}""", "application/json", "{*a.b.c*}", """{"a":"b"}""")]
    public async Task Responses_are_transformed_and_stay_when_that_fails(string body, string type, string template, string expected)
    {
        var result = await Test("response", template)
            .SendAsync("GET", "/", new PluginTest.Upstream(200, ("Content-Type", type), ("ETag", "x"), ("Content-Length", "5"))
        {
            Pieces = [.. body.Chunk(2).Select(piece => Encoding.UTF8.GetBytes(piece))],
        });
        Assert.Equal((200, expected, null), (result.Status, result.Body, result.Answered("ETag")));
    }

    [Fact]
    public async Task A_compressed_response_stays_as_it_is()
    {
        var result = await Test("response", "new")
            .SendAsync("GET", "/", PluginTest.Upstream.Text("old") with { Headers = [("Content-Encoding", "gzip"), ("ETag", "x")] });
        Assert.Equal(("old", "gzip", "x"), (result.Body, result.Answered("Content-Encoding"), result.Answered("ETag")));
    }

    [Fact]
    public async Task A_request_that_was_refused_before_can_be_transformed()
    {
        var result = await new PluginTest(
            """{"key-auth":{},"body-transformer":{"request":{"template":"a"},"response":{"template":"[{*_body*}]","input_format":"plain"}}}""").GetAsync("/");
        Assert.Equal((401, "[{\"message\":\"Missing API key in request\"}\n]"), (result.Status, result.Body));
    }

    static PluginTest Test(string side, string template) =>
        new($$"""{"body-transformer":{"{{side}}":{"template":{{JsonSerializer.Serialize(template)}} } } }""");

    static async Task<string> RequestAsync(string template, string body, string? type, string method = "POST")
    {
        var sent = "";
        var upstream = new PluginTest.Upstream { Read = async exchange =>
            sent = Encoding.UTF8.GetString((await exchange.Body.ReadAsync(1000)).Span) };
        (string, string)[] headers = [(":body", body), .. type is null ? [] : new[] { ("Content-Type", type) }];
        var result = await Test("request", template).SendAsync(method, "/?q=x", upstream, headers);
        Assert.Equal((StatusCodes.Status200OK, ""), (result.Status, result.Body));
        Assert.Equal(Encoding.UTF8.GetByteCount(sent), result.Exchange.Request.ContentLength);
        return sent;
    }
}

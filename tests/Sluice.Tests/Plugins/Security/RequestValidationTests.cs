using System.Text;
using Microsoft.AspNetCore.Http;
using Sluice.Pipeline;

namespace Sluice.Tests.Plugins.Security;

public class RequestValidationTests
{
    const string Schema =
        """{"body_schema":{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"size":{"type":"integer","default":1},"tags":{"type":"array"}}}}""";

    [Theory]
    [InlineData("{}", """object matches none of the required: ["header_schema"] or ["body_schema"]""")]
    [InlineData("""{"body_schema":{"type":"object","properties":{"a":{"type":"test"}}}}""", "invalid JSON type: test")]
    [InlineData("""{"header_schema":{"type":"object","properties":{"a":{"type":"test"}}}}""", "invalid JSON type: test")]
    [InlineData("""{"body_schema":{"type":"object","properties":{"a":{"enum":"b"}}}}""", "table expected, got string")]
    [InlineData("""{"header_schema":{"type":"object","required":"a"}}""", "table expected, got string")]
    public void Wrong_configurations_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("request-validation", config));

    [Theory]
    [InlineData("""{"name":"a"}""", "application/json", 200, "")]
    [InlineData("{}", "application/json", 400, """property "name" is required""")]
    [InlineData("""{"name":1}""", null, 400, """property "name" validation failed: wrong type: expected string, got number""")]
    [InlineData("name=a&tags=1&tags=2", "application/x-www-form-urlencoded; charset=utf-8", 200, "")]
    [InlineData("size=a", "Application/X-www-form-urlencoded", 400, """property "name" is required""")]
    public async Task The_body_decides(string body, string? type, int status, string answer)
    {
        var result = await Test(Schema)
            .SendAsync("POST", "/", null, type is null ? [(":body", body)] : [(":body", body), ("Content-Type", type)]);
        Assert.Equal((status, answer), (result.Status, result.Body));
    }

    [Fact]
    public async Task The_upstream_gets_the_body_as_it_was_understood()
    {
        var result = await Test(Schema).SendAsync("POST", "/", null, (":body", """{"name":"a", "name":"b"}"""));
        Assert.Equal("""{"name":"b","size":1}""", Encoding.UTF8.GetString(result.Exchange.Body.Known!.Value.Span));
    }

    [Fact]
    public async Task Headers_are_checked_first_and_by_their_names_in_lower_case()
    {
        var test =
            Test(
                """{"header_schema":{"type":"object","required":["x-a"],"properties":{"x-a":{"type":"string","pattern":"^[0-9]+$"}}},"body_schema":{"type":"object"}}""");
        Assert.Equal((400, """property "x-a" is required"""), await AskAsync(test, (":body", "1")));
        Assert.Equal(200, (await AskAsync(test, (":body", "{}"), ("X-A", "1"))).Status);
        Assert.Equal(400, (await AskAsync(test, (":body", "{}"), ("X-A", "x"))).Status);
        Assert.Equal(400, (await AskAsync(test, (":body", "{}"), ("X-A", "1"), ("X-A", "2"))).Status);
    }

    [Fact]
    public async Task Message_and_status_are_the_configured_ones() => Assert.Equal(
        (422, "no"),
        await AskAsync(Test("""{"body_schema":{"type":"object"},"rejected_code":422,"rejected_msg":"no"}"""), (":body", "[1]")));

    [Theory]
    [InlineData("")]
    [InlineData("12345678901")]
    public async Task No_body_and_one_that_is_too_large_are_refused(string body)
    {
        var (status, answer) = await AskAsync(Test("""{"body_schema":{"type":"string"},"max_req_body_size":10}"""), (":body", body));
        Assert.Equal(400, status);
        Assert.Contains("400 Bad Request", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"body_schema":{}}""", "request-validation")]
    [InlineData("""{"header_schema":{}}""", null)]
    public void It_says_that_it_needs_the_whole_body_when_it_does(string config, string? by)
    {
        var exchange = new Exchange(new DefaultHttpContext(), Test(config).Snapshot, Test(config).Services, 0);
        exchange.Chain = exchange.Snapshot.Routes["r1"].Chain;
        Assert.Equal(by is not null,
            BufferingRules.ExplainRequest(exchange, false).Winner.Text.Contains("request-validation", StringComparison.Ordinal));
    }

    static async Task<(int Status, string Body)> AskAsync(PluginTest test, params (string, string)[] headers)
    {
        var result = await test.SendAsync("POST", "/", null, headers);
        return (result.Status, result.Body);
    }

    static PluginTest Test(string config) => new($$$"""{"request-validation":{{{config}}}}""");
}

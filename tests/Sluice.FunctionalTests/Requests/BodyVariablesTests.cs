using System.Net;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Requests;

/// <summary>Routes whose conditions look into the request's body.</summary>
public sealed class BodyVariablesTests
{
    static async Task<(TestGateway Gateway, ScriptedOrigin Origin)> StartAsync(string vars)
    {
        var origin = EchoOrigin.Start();
        var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/hello", origin.Port, $"\"vars\":{vars}");
        return (gateway, origin);
    }

    static async Task<(HttpStatusCode Status, string Echo)> PostAsync(TestGateway gateway, string body, string? type)
    {
        using var content = new ByteArrayContent(Encoding.UTF8.GetBytes(body));
        if (type is not null)
        {
            content.Headers.TryAddWithoutValidation("Content-Type", type);
        }
        using var response = await gateway.Client.PostAsync(gateway.Url("/hello"), content, TestContext.Current.CancellationToken);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("""[["post_arg.model","==","openai"]]""", """{"model":"openai"}""", "application/json", true)]
    [InlineData("""[["post_arg.model","==","openai"]]""", """{"model":"other"}""", "application/json", false)]
    [InlineData("""[["post_arg.model","==","openai"]]""", "model=openai&b=%20", "application/x-www-form-urlencoded", true)]
    [InlineData("""[["post_arg_model","==","openai"]]""", "a=1&model=openai", "application/x-www-form-urlencoded", true)]
    [InlineData("""[["post_arg.model","==","openai"]]""",
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nopenai\r\n--b--\r\n", "multipart/form-data; boundary=b", true)]
    [InlineData("""[["post_arg.model","==","openai"]]""", """{"model":"openai"}""", null, false)]
    [InlineData("""[["post_arg.model","==","openai"]]""", """{"model":""", "application/json", false)]
    [InlineData("""[["post_arg.messages[*].content[*].type","has","image_url"]]""",
        """{"messages":[{"content":[{"type":"text"},{"type":"image_url"}]}]}""", "application/json", true)]
    [InlineData("""[["post_arg.messages[*].content[*].type","has","image_url"]]""", """{"messages":[{"content":[{"type":"text"}]}]}""",
        "application/json", false)]
    [InlineData("""[["graphql_operation","==","query"],["graphql_name","==","repo"],["graphql_root_fields","has","owner"]]""",
        "query repo { owner { name } other: name }", "application/graphql", true)]
    [InlineData("""[["graphql_root_fields","has","owner"]]""", """{"query":"{ owner { name } }"}""", "application/json", true)]
    [InlineData("""[["graphql_root_fields","has","owner"]]""", """{"query":"{ repo { owner } }"}""", "application/json", false)]
    [InlineData("""[["graphql_operation","==","mutation"]]""", "query { a }", "application/graphql", false)]
    [InlineData("""[["graphql_operation","==","query"]]""", "no graphql {", "application/graphql", false)]
    public async Task A_route_may_ask_for_what_is_in_the_body(string vars, string body, string? type, bool matches)
    {
        var (gateway, origin) = await StartAsync(vars);
        await using var stops = gateway;
        await using var stopsToo = origin;
        var (status, echo) = await PostAsync(gateway, body, type);
        Assert.Equal(matches ? HttpStatusCode.OK : HttpStatusCode.NotFound, status);
        if (matches)
        {
            Assert.EndsWith("\r\n\r\n" + body, echo, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_large_body_is_looked_into_and_reaches_the_upstream_whole_and_one_beyond_the_limit_has_no_variables()
    {
        var (gateway, origin) = await StartAsync("""[["post_arg.model","==","openai"]]""");
        await using var stops = gateway;
        await using var stopsToo = origin;
        var large = $$"""{"pad":"{{new string('x', 900_000)}}","model":"openai"}""";
        var (status, echo) = await PostAsync(gateway, large, "application/json");
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.EndsWith(large, echo, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.NotFound,
            (await PostAsync(gateway, $$"""{"pad":"{{new string('x', 1_100_000)}}","model":"openai"}""", "application/json")).Status);
    }

    [Fact]
    public async Task A_path_that_is_none_is_refused()
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r1",
            """{"uri":"/","plugins":{},"vars":[[["post_arg.messages[.content[*].type","has","image_url"]]]}""");
        Assert.Equal(400, (int)status);
        Assert.StartsWith("failed to validate the 'vars' expression: invalid expression", (string)body!["error_msg"]!,
            StringComparison.Ordinal);
    }
}

using System.Text;
using System.Text.Json.Nodes;

namespace Sluice.Tests.Plugins.Transform;

public class DegraphqlTests
{
    const string Plain = """{"query":"query($name: String!) { user(name: $name) { id } }","variables":["name"]}""";

    [Theory]
    [InlineData("{}", """property "query" is required""")]
    [InlineData("""{"query":"query A { a } query B { b }"}""",
        "operation_name is required if multiple operations are present in the query")]
    public void Wrong_configurations_are_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("degraphql", config));

    [Fact]
    public void What_is_no_query_is_refused() =>
        Assert.Equal("failed to parse query: Syntax error near line 1", PluginTest.Check("degraphql", """{"query":"AAA { }"}"""));

    [Fact]
    public async Task A_get_asks_with_its_arguments()
    {
        var result = await Test(Plain).GetAsync("/graphql?name=j%20ck&other=1");
        Assert.Equal(
            "/graphql?query=" + Uri.EscapeDataString("query($name: String!) { user(name: $name) { id } }") + "&variables="
            + Uri.EscapeDataString("""{"name":"j ck"}"""), result.Target);
    }

    [Fact]
    public async Task A_rewritten_path_stays()
    {
        var result = await new PluginTest(
            """{"proxy-rewrite":{"uri":"/graphql"},"degraphql":{"query":"{ a }","operation_name":"x"}}""").GetAsync("/user?a=1");
        Assert.Equal("/graphql?query=%7B%20a%20%7D&operationName=x", result.Target);
    }

    [Fact]
    public async Task A_post_asks_with_the_members_of_its_body()
    {
        var result = await Test(Plain).SendAsync("POST", "/graphql", null, (":body", """{"name":{"a":[1]},"other":1}"""));
        var body = JsonNode.Parse(Encoding.UTF8.GetString(result.Exchange.Body.Known!.Value.Span))!;
        Assert.Equal(("""{"name":{"a":[1]}}""", "application/json"), (body["variables"]!.ToJsonString(), result.Sent("Content-Type")));
        Assert.StartsWith("query($name", (string)body["query"]!, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("PUT", "{}", 405)]
    [InlineData("POST", "", 400)]
    [InlineData("POST", "[1]", 400)]
    [InlineData("POST", "{", 400)]
    [InlineData("POST", """{"name":"12345678901234567890"}""", 503)]
    public async Task Other_requests_are_refused(string method, string body, int status) => Assert.Equal(
        status,
        (await new PluginTest("""{"degraphql":{"query":"{ a }","variables":["name"],"max_req_body_size":20}}""").SendAsync(method, "/",
            null, (":body", body))).Status);

    static PluginTest Test(string config) => new($$$"""{"degraphql":{{{config}}}}""");
}

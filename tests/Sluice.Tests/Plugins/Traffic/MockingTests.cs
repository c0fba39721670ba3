using System.Text.Json.Nodes;

namespace Sluice.Tests.Plugins.Traffic;

public class MockingTests
{
    [Theory]
    [InlineData("{}", "object matches none of the required: [\"response_example\"] or [\"response_schema\"]")]
    [InlineData("""{"response_example":"x","content_type":"image/png"}""", "unsupported content type!")]
    [InlineData("""{"response_example":"x","response_status":99}""",
        """property "response_status" validation failed: expected 99 to be at least 100""")]
    public void Wrong_configurations_are_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("mocking", config));

    [Fact]
    public async Task An_example_is_answered_with_its_variables_and_headers()
    {
        var result =
            await Test(
                """{"response_example":"remote_addr:$remote_addr,$unknown_one.","content_type":"text/plain","response_status":201,"response_headers":{"X-A":"$arg_a","X-N":3}}""")
            .GetAsync("/?a=b");
        Assert.Equal((201, "remote_addr:192.0.2.1,.", "text/plain", "APISIX/3.18.0", "b", "3"),
            (result.Status, result.Body, result.Answered("Content-Type"), result.Answered("x-mock-by"), result.Answered("X-A"),
                result.Answered("X-N")));
        Assert.False(result.Proxied);
    }

    [Fact]
    public async Task Without_the_mock_header_there_is_none() =>
        Assert.Null((await Test("""{"response_example":"x","with_mock_header":false}""").GetAsync("/")).Answered("x-mock-by"));

    [Fact]
    public async Task A_schema_gives_its_examples()
    {
        var result = await Test("""
            {"response_schema":{"type":"object","properties":{"i":{"type":"integer","example":1.9},"n":{"type":"number","example":2.5},
              "s":{"type":"string","example":"x"},"b":{"type":"boolean","example":false},"o":{"type":"object","properties":{}}}}}
            """).GetAsync("/");
        Assert.Equal("""{"i":1,"n":2.5,"s":"x","b":false,"o":{}}""", result.Body);
    }

    [Fact]
    public async Task A_schema_gives_random_values_of_its_types()
    {
        var made = JsonNode.Parse((await Test("""
            {"response_schema":{"properties":{"i":{"type":"integer"},"a":{"type":"array","items":{"type":"string"}}}}}
            """).GetAsync("/")).Body)!;
        Assert.InRange((int)made["i"]!, 1, 10000);
        Assert.InRange(made["a"]!.AsArray().Count, 1, 3);
        Assert.All(made["a"]!.AsArray(), item => Assert.InRange(((string)item!).Length, 1, 10));
    }

    [Fact]
    public async Task A_schema_can_give_xml() => Assert.Equal(
        "<data>\n  <a>1 &lt; 2</a>\n</data>",
        (await Test("""{"content_type":"text/xml","response_schema":{"properties":{"a":{"type":"string","example":"1 < 2"}}}}""")
            .GetAsync("/")).Body);

    [Fact]
    public async Task The_answer_can_be_held_up()
    {
        var test = Test("""{"response_example":"x","delay":2}""");
        var asked = test.GetAsync("/");
        test.Time.Advance(TimeSpan.FromSeconds(1));
        Assert.False(asked.IsCompleted);
        test.Time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal("x", (await asked).Body);
    }

    static PluginTest Test(string config) => new($$$"""{"mocking":{{{config}}}}""");
}

using System.Text.Json.Nodes;
using Sluice.Model.Expressions;

namespace Sluice.Tests.Model.Expressions;

public class JsonPathTests
{
    const string Body =
        """{"model":"m","messages":[{"content":[{"type":"text"},{"type":"image_url"}]},{"content":[{"type":"audio"}]}],"a b":{"c":1},"deep":{"x":{"type":"inner"}}}""";

    [Theory]
    [InlineData("model", "m")]
    [InlineData("messages[*].content[*].type", "text,image_url,audio")]
    [InlineData("messages[0].content[1].type", "image_url")]
    [InlineData("messages[9].content", "")]
    [InlineData("['a b'].c", "1")]
    [InlineData("deep.*.type", "inner")]
    [InlineData("deep..type", "inner")]
    [InlineData("missing.name", "")]
    [InlineData("model.name", "")]
    public void Paths_lead_to_values(string path, string found) =>
        Assert.Equal(found, string.Join(',', JsonPath.Parse(path).Find(JsonNode.Parse(Body)).Select(node => node!.ToString())));

    [Theory]
    [InlineData("messages[.content[*].type")]
    [InlineData("")]
    [InlineData("a..")]
    [InlineData("a[x]")]
    [InlineData("a]")]
    [InlineData("a[0]b")]
    public void What_is_no_path_is_named(string path) =>
        Assert.StartsWith("invalid expression near ", Assert.Throws<FormatException>(() => JsonPath.Parse(path)).Message,
            StringComparison.Ordinal);
}

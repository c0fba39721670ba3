using System.Runtime.CompilerServices;
using System.Text.Encodings.Web;
using System.Text.Json;
using Sluice.Model;
using Sluice.Sources;

namespace Sluice.Tests.Sources;

/// <summary>A case is a file in <c>apisix.yaml/</c>: what the user wrote, a line <c>---</c>, what it comes to.</summary>
public class YamlResourcesTests
{
    static readonly JsonSerializerOptions Readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static TheoryData<string> Cases =>
        [.. Directory.GetFiles(Folder(), "*.txt").Select(file => Path.GetFileNameWithoutExtension(file)).Order()];

    [Fact]
    public void A_plugin_with_nothing_behind_it_has_no_settings()
    {
        var document = Assert.Single(YamlResources.Parse("routes:\n- uri: /a\n  plugins:\n    key-auth:\n#END\n",
            YamlSource.Name).Documents);
        Assert.Equal("""{"key-auth":{}}""", document.Value["plugins"]!.ToJsonString());
    }

    [Fact]
    public void The_same_may_be_JSON_which_needs_no_end_mark()
    {
        var resources = YamlResources.Parse(
            "{\n\t\"routes\": [\n\t\t{\"uri\": \"/a\", \"desc\": \"a\\u00e9\\/\", \"plugins\": {\"key-auth\": null}}\n\t]\n}",
            YamlSource.JsonName);
        Assert.Empty(resources.Problems);
        var document = Assert.Single(resources.Documents);
        Assert.Equal(("a\u00e9/", "conf/apisix.json:3 (routes[0])"), ((string?)document.Value["desc"], document.Place));
        Assert.Equal("""{"key-auth":{}}""", document.Value["plugins"]!.ToJsonString());
        var half = YamlResources.Parse("{\"routes\": [", YamlSource.JsonName);
        Assert.True(half.HasErrors && !half.IsComplete);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_file_comes_to_the_resources_and_problems_of_its_golden_file(string name)
    {
        var parts = File.ReadAllText(Path.Combine(Folder(), name + ".txt")).Split("\n---\n");
        var resources = YamlResources.Parse(parts[0] + "\n", YamlSource.Name, variable => variable == "PORT" ? "1980" : null);
        var lines = (resources.IsComplete ? [] : new[] { "incomplete" })
            .Concat(resources.Documents.Select(document =>
                $"{document.Place} {document.Kind.Segment()}/{document.Id} {document.Value.ToJsonString(Readable)}"))
            .Concat(resources.Problems.Select(problem => $"{problem.Severity} {problem}"));
        Assert.Equal(parts[1].TrimEnd('\n'), string.Join('\n', lines));
    }

    [Fact]
    public void Documents_can_be_put_into_another_tree()
    {
        var document = Assert.Single(YamlResources.Parse("routes:\n- uri: /a\n#END\n", YamlSource.Name).Documents);
        Assert.Null(document.Value.Parent);
    }

    [Theory]
    [InlineData("#END")]
    [InlineData("#END\r\n\r\n  \n")]
    [InlineData("routes: []\r\n#END\r\n")]
    [InlineData("routes: []\n  #END")]
    public void End_may_be_followed_by_blank_lines(string text) => Assert.Empty(YamlResources.Parse(text, YamlSource.Name).Problems);

    static string Folder([CallerFilePath] string file = "") => Path.Combine(Path.GetDirectoryName(file)!, "apisix.yaml");
}

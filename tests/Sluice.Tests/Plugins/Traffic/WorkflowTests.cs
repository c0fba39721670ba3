namespace Sluice.Tests.Plugins.Traffic;

public class WorkflowTests
{
    [Theory]
    [InlineData("""{"rules":[{"case":[["uri","==","/"]]}]}""",
        """property "rules" validation failed: failed to validate item 1: property "actions" is required""")]
    [InlineData("""{"rules":[{"actions":[["fake",{}]]}]}""", "unsupported action: fake")]
    [InlineData("""{"rules":[{"actions":[["return",{}]]}]}""", """failed to validate the 'return' action: property "code" is required""")]
    [InlineData("""{"rules":[{"actions":[["limit-count",{"count":1,"time_window":1,"group":"g"}]]}]}""",
        "failed to validate the 'limit-count' action: group is not supported")]
    [InlineData("""{"rules":[{"case":[["uri","?","/"]],"actions":[["return",{"code":403}]]}]}""",
        "failed to validate the 'case' expression: invalid operator '?'")]
    public void Wrong_configurations_are_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("workflow", config));

    [Fact]
    public void A_limits_own_words_say_what_is_wrong_with_it() => Assert.StartsWith(
        "failed to validate the 'limit-count' action: property \"count\" validation failed: ",
        PluginTest.Check("workflow", """{"rules":[{"actions":[["limit-count",{"count":0,"time_window":1}]]}]}"""),
        StringComparison.Ordinal);

    [Fact]
    public async Task The_first_rule_whose_case_holds_decides()
    {
        var test =
            Test(
                """{"rules":[{"case":[["uri","==","/a"]],"actions":[["return",{"code":403}]]},{"case":["OR",["uri","==","/a"],["uri","==","/b"]],"actions":[["return",{"code":404}],["return",{"code":405}]]}]}""");
        var first = await test.GetAsync("/a");
        Assert.Equal((403, "{\"error_msg\":\"rejected by workflow\"}\n"), (first.Status, first.Body));
        Assert.Equal((404, 200), ((await test.GetAsync("/b")).Status, (await test.GetAsync("/c")).Status));
    }

    [Fact]
    public async Task Each_rule_counts_for_itself()
    {
        var test = Test("""
            {"rules":[{"case":[["uri","==","/a"]],"actions":[["limit-count",{"count":1,"time_window":60,"rejected_code":429}]]},
              {"case":[["uri","==","/b"]],"actions":[["limit-count",{"count":1,"time_window":60,"rejected_code":429}]]}]}
            """);
        Assert.Equal(Of(200, 200, 429, 429, 200), await AskAllAsync(test, "/a", "/b", "/a", "/b", "/c"));
    }

    [Fact]
    public async Task The_routes_own_plugin_of_that_name_is_skipped()
    {
        var test = new PluginTest("""
            {"limit-count":{"count":1,"time_window":60,"rejected_code":503},
             "workflow":{"rules":[{"case":[["uri","==","/a"]],"actions":[["limit-count",{"count":3,"time_window":60,"rejected_code":429}]]}]}}
            """);
        Assert.Equal(Of(200, 200, 200, 429), await AskAllAsync(test, "/a", "/a", "/a", "/a"));
        Assert.Equal(Of(200, 503), await AskAllAsync(test, "/b", "/b"));
    }

    [Fact]
    public async Task A_place_of_limit_conn_is_given_back()
    {
        var test = Test("""{"rules":[{"actions":[["limit-conn",{"conn":1,"burst":0,"default_conn_delay":0.1,"key":"remote_addr"}]]}]}""");
        Assert.Equal(Of(200, 200, 200), await AskAllAsync(test, "/", "/", "/"));
    }

    static int[] Of(params int[] statuses) => statuses;

    static async Task<int[]> AskAllAsync(PluginTest test, params string[] targets)
    {
        List<int> statuses = [];
        foreach (var target in targets)
        {
            statuses.Add((await test.GetAsync(target)).Status);
        }
        return [.. statuses];
    }

    static PluginTest Test(string config) => new($$$"""{"workflow":{{{config}}}}""");
}

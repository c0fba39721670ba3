using Sluice.Plugins.Ai;

namespace Sluice.Tests.Plugins.Ai;

/// <summary>Configurations of the plugins that send requests to models.</summary>
public class AiProxyTests
{
    [Theory]
    [InlineData("""{"provider":"other","auth":{}}""", """property "provider" validation failed: matches none of the enum values""")]
    [InlineData("""{"provider":"openai"}""", """property "auth" is required""")]
    [InlineData("""{"provider":"bedrock","auth":{}}""", "ai provider: bedrock is not supported.")]
    [InlineData("""{"provider":"vertex-ai","auth":{}}""",
        "vertex-ai requires either provider_conf (project_id + region) or override.endpoint")]
    [InlineData("""{"provider":"azure-openai","auth":{}}""", "azure-openai requires override.endpoint")]
    [InlineData("""{"provider":"openai","auth":{},"override":{"endpoint":"ftp://a"}}""", "invalid endpoint")]
    [InlineData("""{"provider":"openai","auth":{"gcp":{}}}""", "auth.gcp is not supported yet: use auth.header or auth.query")]
    public void What_cannot_be_is_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("ai-proxy", config));

    const string One = """{"name":"a","provider":"openai","auth":{},"weight":1}""";

    [Theory]
    [InlineData($$"""{"instances":[{{One}},{{One}}]}""", "duplicate instance name 'a' at instances[1] and instances[2]")]
    [InlineData("""{"instances":[{"name":"v","provider":"vertex-ai","auth":{},"weight":1}]}""",
        "instance 'v': vertex-ai requires either provider_conf (project_id + region) or override.endpoint")]
    [InlineData($$"""{"instances":[{{One}}],"balancer":{"algorithm":"chash"} }""",
        "must configure `hash_key` when balancer `hash_on` is not set to cookie")]
    [InlineData($$"""{"instances":[{{One}}],"balancer":{"algorithm":"semantic"} }""",
        "balancer algorithm semantic is not supported yet: use roundrobin or chash")]
    public void Instances_that_cannot_be_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("ai-proxy-multi", config));

    [Theory]
    [InlineData("""{"limit":1,"time_window":1,"limit_strategy":"expression"}""",
        "cost_expr is required when limit_strategy is 'expression'")]
    [InlineData("""{"limit":1,"time_window":1,"limit_strategy":"expression","cost_expr":"invalid $$$"}""",
        "invalid cost_expr: unexpected symbol near '$'")]
    [InlineData("""{"limit":1,"time_window":1,"rejected_code":199}""",
        """property "rejected_code" validation failed: expected 199 to be at least 200""")]
    public void Limits_that_cannot_be_are_refused(string config, string error) =>
        Assert.Equal(error, PluginTest.Check("ai-rate-limiting", config));

    [Theory]
    [InlineData("input_tokens + output_tokens * 4", 50)]
    [InlineData("(input_tokens - 4) * 1.25 + 2 ^ 3 ^ 1 % 5", 11)]
    [InlineData("-input_tokens", 0)]
    [InlineData("math.max(input_tokens, 3, 40) / 3", 13)]
    [InlineData("floor(1.9) + ceil(1.1) + abs(-2)", 5)]
    [InlineData("other", 0)]
    [InlineData("1 / 0", null)]
    public void A_cost_is_what_Lua_makes_of_it(string text, int? cost) =>
        Assert.Equal(cost, CostExpression.Parse(text).Of(new Dictionary<string, double> { ["input_tokens"] = 10, ["output_tokens"] = 10 }));

    [Theory]
    [InlineData("1 +")]
    [InlineData("(1")]
    [InlineData("a b")]
    [InlineData("os.exit(1)")]
    [InlineData("a.b")]
    [InlineData("")]
    public void What_is_no_arithmetic_is_refused(string text) => Assert.Throws<FormatException>(() => CostExpression.Parse(text));
}

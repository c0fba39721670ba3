using System.Text.Json;

namespace Sluice.Tests.Plugins.Security;

public class AclTests
{
    [Theory]
    [InlineData("{}", "object matches none of the required")]
    [InlineData("""{"allow_labels":{}}""", "property \"allow_labels\" validation failed: expect object to have at least 1 properties")]
    [InlineData("""{"allow_labels":{"team":["a"]},"external_user_label_field":"$.a["}""", "invalid external_user_label_field: ")]
    [InlineData("""{"allow_labels":{"team":["a"]},"external_user_label_field_parser":"segmented_text"}""", "allOf 1 failed: ")]
    [InlineData("""{"allow_labels":{"team":["a"]},"external_user_label_field_separator":"("}""",
        "invalid external_user_label_field_separator: ")]
    public void Lists_of_labels_are_needed(string config, string error) =>
        Assert.StartsWith(error, PluginTest.Check("acl", config) ?? "", StringComparison.Ordinal);

    [Theory]
    [InlineData("""{"allow_labels":{"team":["web","ops"]}}""", "ops", 200)]
    [InlineData("""{"allow_labels":{"team":["web"]}}""", "ops", 403)]
    [InlineData("""{"deny_labels":{"team":["ops"]}}""", "ops", 403)]
    [InlineData("""{"deny_labels":{"team":["web"]}}""", "ops", 200)]
    [InlineData("""{"allow_labels":{"team":["ops"]},"deny_labels":{"team":["qa"]}}""", "ops,qa", 403)]
    [InlineData("""{"allow_labels":{"team":["qa"]}}""", "ops,qa", 200)]
    [InlineData("""{"allow_labels":{"team":["ops,qa"]}}""", "ops,qa", 403)]
    [InlineData("""{"allow_labels":{"team":["qa"]}}""", """["ops","qa"]""", 200)]
    [InlineData("""{"allow_labels":{"team":["qa"]}}""", """["qa""", 403)]
    [InlineData("""{"allow_labels":{"org":["qa"]}}""", "qa", 403)]
    [InlineData("""{"allow_labels":{"org":["x"],"team":["qa"]}}""", "qa", 200)]
    public async Task A_consumers_labels_decide(string config, string label, int status)
    {
        var test = new PluginTest(
            $$$"""{"key-auth":{},"acl":{{{config}}}}""",
            PluginTest.Consumer("jack", """{"key-auth":{"key":"k1"}}""", $$""", "labels":{"team":{{JsonSerializer.Serialize(label)}}}"""));
        var result = await test.GetAsync("/", ("apikey", "k1"));
        Assert.Equal(status, result.Status);
        Assert.Equal(status == 200 ? "" : "{\"message\":\"The consumer is forbidden.\"}\n", result.Body);
    }

    [Fact]
    public async Task Who_has_no_labels_is_not_allowed_and_not_denied()
    {
        var consumer = PluginTest.Consumer("jack", """{"key-auth":{"key":"k1"}}""");
        Assert.Equal(403,
            (await new PluginTest("""{"key-auth":{},"acl":{"allow_labels":{"team":["a"]}}}""", consumer).GetAsync("/",
                ("apikey", "k1"))).Status);
        Assert.Equal(200,
            (await new PluginTest("""{"key-auth":{},"acl":{"deny_labels":{"team":["a"]}}}""", consumer).GetAsync("/",
                ("apikey", "k1"))).Status);
    }

    [Fact]
    public async Task Nobody_is_asked_to_authenticate()
    {
        var result = await new PluginTest("""{"acl":{"deny_labels":{"team":["a"]}}}""").GetAsync("/");
        Assert.Equal((401, "{\"message\":\"Missing authentication.\"}\n"), (result.Status, result.Body));
    }

    [Theory]
    [InlineData("{groups = {'a', 'b'}}", "", "groups", 200)]
    [InlineData("{groups = {'b'}}", "", "groups", 403)]
    [InlineData("{orgs = {x = {team = 'b|a'}}}",
        ""","external_user_label_field":"$.orgs..team","external_user_label_field_key":"t","external_user_label_field_parser":"segmented_text","external_user_label_field_separator":"\\|" """, "t", 200)]
    [InlineData("{orgs = {x = {team = 'b|a'}, y = {team = 'c'}}}",
        ""","external_user_label_field":"$.orgs..team","external_user_label_field_key":"t","external_user_label_field_parser":"segmented_text","external_user_label_field_separator":"\\|" """, "t", 200)]
    [InlineData("{team = 'a'}", ""","external_user_label_field":"team","external_user_label_field_parser":"json" """, "team", 403)]
    [InlineData("{team = '[\"a\"]'}", ""","external_user_label_field":"team","external_user_label_field_parser":"json" """, "team", 200)]
    [InlineData("{team = 'a'}", ""","external_user_label_field":"team","external_user_label_field_parser":"table" """, "team", 403)]
    public async Task A_user_that_a_script_has_found_has_labels_too(string user, string more, string label, int status)
    {
        var function = JsonSerializer.Serialize($"return function(conf, ctx) ctx.external_user = {user} end");
        var test = new PluginTest(
            $$$"""{"serverless-pre-function":{"phase":"access","functions":[{{{function}}}]},"acl":{"allow_labels":{"{{{label}}}":["a"]}{{{more}}}}}""");
        Assert.Equal(status, (await test.GetAsync("/")).Status);
    }
}

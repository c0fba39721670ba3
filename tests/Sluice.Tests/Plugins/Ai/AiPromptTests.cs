using System.Text;

namespace Sluice.Tests.Plugins.Ai;

/// <summary>The plugins that read and change prompts.</summary>
public class AiPromptTests
{
    [Theory]
    [InlineData("ai-prompt-guard", """{"deny_patterns":["(abc"]}""", "invalid deny_pattern: (abc")]
    [InlineData("ai-prompt-guard", """{"allow_patterns":["[a"]}""", "invalid allow_pattern: [a")]
    [InlineData("ai-prompt-decorator", "{}", "object matches none of the required")]
    [InlineData("ai-prompt-template", """{"templates":[{"name":"a","template":{"messages":[{"role":"user","content":"{{ a + 1 }}"}]}}]}""",
        "template \"a\": a place is written {{name}}")]
    public void Wrong_configurations_are_refused(string plugin, string config, string error) =>
        Assert.StartsWith(error, PluginTest.Check(plugin, config), StringComparison.Ordinal);

    [Theory]
    [InlineData("/chat", """{"messages":[{"role":"user","content":"b"}]}""",
        """{"messages":[{"role":"system","content":"a"},{"role":"user","content":"b"},{"role":"user","content":"c"}]}""")]
    [InlineData("/v1/messages", """{"system":"s","messages":[]}""",
        """{"system":"s","messages":[{"role":"system","content":"a"},{"role":"user","content":"c"}]}""")]
    [InlineData("/v1/responses", """{"input":"b","instructions":"i"}""", """{"input":"b\nc","instructions":"a\ni"}""")]
    [InlineData("/v1/responses", """{"input":[]}""", """{"input":[{"type":"message","role":"user","content":"c"}],"instructions":"a"}""")]
    [InlineData("/model/m/converse", """{"messages":[]}""",
        """{"messages":[{"role":"user","content":[{"text":"c"}]}],"system":[{"text":"a"}]}""")]
    [InlineData("/v1/embeddings", """{"input":"b"}""", """{"input":"b"}""")]
    [InlineData("/chat", "{}", """{"messages":[{"role":"system","content":"a"},{"role":"user","content":"c"}]}""")]
    public async Task Messages_are_put_where_the_protocol_has_them(string path, string body, string upstream)
    {
        const string Plugin =
            """{"ai-prompt-decorator":{"prepend":[{"role":"system","content":"a"}],"append":[{"role":"user","content":"c"}]}}""";
        Assert.Equal((200, upstream), await SeenAsync(Plugin, path, body));
    }

    [Theory]
    [InlineData("", """{"message":"could not get body: request body is empty"}""")]
    [InlineData("{}x", """{"message":"could not parse JSON request body: Expected the end but found invalid token at character 3"}""")]
    [InlineData("[1]", """{"message":"could not parse JSON request body: expected an object"}""")]
    [InlineData("""{"messages":"0123456789012345678901234567890123456789"}""",
        """{"message":"could not get body: request size 55 is greater than the maximum size 50 allowed"}""")]
    public async Task A_body_that_is_no_JSON_object_is_refused(string body, string answer)
    {
        const string Decorator = """{"ai-prompt-decorator":{"append":[{"role":"user","content":"c"}],"max_req_body_size":50}}""";
        Assert.Equal((400, answer + "\n"), await AskAsync(Decorator, "/", body));
    }

    const string Template = """
        {"ai-prompt-template":{"templates":[{"name":"code","template":{"model":"m","messages":[{"role":"system","content":"You are a {{ language }} programmer."},{"role":"user","content":"{*a.b*} {{a.c}}{{gone}} {{ _ctx.var.uri }}"}]}}]}}
        """;

    [Fact]
    public async Task A_template_is_filled_with_what_the_client_sends() => Assert.Equal(
        (200,
            """{"model":"m","messages":[{"role":"system","content":"You are a <\"Lua\"> programmer."},{"role":"user","content":"line\nline 1 /x"}]}"""),
        await SeenAsync(Template, "/x", """{"template_name":"code","language":"<\"Lua\">","a":{"b":"line\nline","c":1}}"""));

    [Theory]
    [InlineData("{}", "template name is missing in request.")]
    [InlineData("""{"template_name":"other"}""", "template: other not configured.")]
    public async Task A_template_that_is_not_there_is_named(string body, string message) =>
        Assert.Equal((400, $$"""{"message":"{{message}}"}""" + "\n"), await AskAsync(Template, "/", body));

    const string NotAllowed = """{"message":"Request doesn't match allow patterns"}""";
    const string Prohibited = """{"message":"Request contains prohibited content"}""";

    [Theory]
    [InlineData("""{"messages":[{"role":"user","content":"good"}]}""", "", 200, "")]
    [InlineData("""{"messages":[{"role":"user","content":"other"}]}""", "", 400, NotAllowed)]
    [InlineData("""{"messages":[{"role":"user","content":"good but bad"}]}""", "", 400, Prohibited)]
    [InlineData("""{"messages":[{"role":"user","content":"bad"},{"role":"user","content":"good"}]}""", "", 200, "")]
    [InlineData("""{"messages":[{"role":"user","content":"bad"},{"role":"user","content":"good"}]}""",
        ""","match_all_conversation_history":true""", 400, Prohibited)]
    [InlineData("""{"messages":[{"role":"system","content":"good bad"}]}""", ""","match_all_roles":true""", 400, Prohibited)]
    [InlineData(
        """{"messages":[{"role":"user","content":[{"type":"text","text":"good"},{"type":"text","text":"bad"},{"type":"image_url","image_url":{"url":"x"}}]}]}""", "", 400, Prohibited)]
    [InlineData("""{"messages":[{"role":"user","content":[{"type":"text","text":"good"},{"type":"other","text":"bad"}]}]}""", "", 200, "")]
    public async Task The_guard_looks_at_what_is_asked(string body, string more, int status, string answer)
    {
        var guard = $$$"""{"ai-prompt-guard":{"allow_patterns":["good"],"deny_patterns":["\\bbad\\b"]{{{more}}}}}""";
        Assert.Equal((status, answer), Trim(await AskAsync(guard, "/chat", body)));
    }

    [Theory]
    [InlineData("/v1/responses", """{"input":"good","instructions":"bad"}""", 400)]
    [InlineData("/v1/responses",
        """{"input":[{"role":"user","content":[{"type":"input_text","text":"bad"}]},{"role":"user","content":"good"}]}""", 400)]
    [InlineData("/v1/responses", """{"input":[{"type":"function_call_output","output":"bad"}]}""", 400)]
    [InlineData("/v1/messages", """{"system":[{"type":"text","text":"bad"}],"messages":[{"role":"user","content":"good"}]}""", 400)]
    [InlineData("/model/m/converse", """{"system":[{"text":"bad"}],"messages":[{"role":"user","content":[{"text":"good"}]}]}""", 400)]
    [InlineData("/v1/embeddings", """{"input":"bad"}""", 400)]
    [InlineData("/v1/messages", """{"messages":[{"role":"user","content":"good"}]}""", 200)]
    public async Task The_guard_knows_all_protocols(string path, string body, int status) => Assert.Equal(
        status,
        (await AskAsync("""{"ai-prompt-guard":{"deny_patterns":["bad"],"match_all_roles":true,"match_all_conversation_history":true}}""",
            path, body)).Status);

    [Theory]
    [InlineData("""{"name":"bad"}""", "skip", 200, "")]
    [InlineData("""{"name":"bad"}""", "warn", 200, "")]
    [InlineData("""{"name":"bad"}""", "error", 400, """{"message":"Request format not recognized by ai-prompt-guard"}""")]
    [InlineData("a=bad", "skip", 200, "")]
    [InlineData("a=bad", "error", 400, """{"message":"Expected value but found invalid token at character 1"}""")]
    [InlineData("", "skip", 400, """{"message":"Empty request body"}""")]
    public async Task What_is_no_prompt_passes_unless_fail_mode_says_error(string body, string mode, int status, string answer) =>
        Assert.Equal((status, answer),
            Trim(await AskAsync($$$"""{"ai-prompt-guard":{"deny_patterns":["bad"],"fail_mode":"{{{mode}}}"}}""", "/", body)));

    static (int, string) Trim((int Status, string Body) answer) => (answer.Status, answer.Body.TrimEnd('\n'));

    static async Task<(int Status, string Body)> AskAsync(string plugins, string path, string body)
    {
        var result = await new PluginTest(plugins).SendAsync("POST", path, null, body.Length == 0 ? [] : [(":body", body)]);
        return (result.Status, result.Body);
    }

    /// <summary>What the upstream gets.</summary>
    static async Task<(int, string)> SeenAsync(string plugins, string path, string body)
    {
        var result = await new PluginTest(plugins).SendAsync("POST", path, null, (":body", body));
        return (result.Status, Encoding.UTF8.GetString(result.Exchange.Body.Known!.Value.Span));
    }
}

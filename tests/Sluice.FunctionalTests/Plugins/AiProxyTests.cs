using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>ai-proxy between clients and a provider.</summary>
public sealed class AiProxyTests
{
    const string Sluice = "ai-proxy: {profile: sluice}";

    static Task RouteAsync(TestGateway gateway, string provider, string endpoint, string more = "", string plugins = "") =>
        gateway.PutAsync(
        "/routes/r1",
        $$$"""{"uri":"/*","plugins":{"ai-proxy":{"provider":"{{{provider}}}","auth":{"header":{"Authorization":"Bearer of-the-gateway"}},"override":{"endpoint":"{{{endpoint}}}"}{{{more}}}}{{{plugins}}} } }""");

    static string ProviderOf(string path) => path.EndsWith("/messages", StringComparison.Ordinal) ? "anthropic" : "openai";

    static string Prompt(string path, string model, bool stream = true) => path.EndsWith("/responses", StringComparison.Ordinal)
        ? $$"""{"model":"{{model}}","input":"hi","stream":{{(stream ? "true" : "false")}}}"""
        : $$"""{"model":"{{model}}","messages":[{"role":"user","content":"hi"}],"stream":{{(stream ? "true" : "false")}}}""";

    static async Task<(int Status, string Body)> AskAsync(TestGateway gateway, string path, string body, string type = "application/json")
    {
        using var response = await gateway.Client.PostAsync(gateway.Url(path), new StringContent(body, Encoding.UTF8, type));
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync());
    }

    static async Task<HttpResponseMessage> OpenAsync(TestGateway gateway, string path, string body)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post,
            gateway.Url(path)) { Content = new StringContent(body, Encoding.UTF8, "application/json") };
        return await gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }

    [Theory]
    [InlineData("/v1/chat/completions")]
    [InlineData("/v1/responses")]
    [InlineData("/v1/messages")]
    public async Task Each_event_of_a_stream_is_with_the_client_before_the_next_is_sent(string path)
    {
        const string Model = "mock/tokens=4,gated";
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, ProviderOf(path), provider.Endpoint);
        provider.Next();
        using var response = await OpenAsync(gateway, path, Prompt(path, Model));
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.ToString());
        await using var stream = await response.Content.ReadAsStreamAsync();
        foreach (var expected in MockProvider.EventsOf(path, Model))
        {
            var bytes = new byte[Encoding.UTF8.GetByteCount(expected)];
            await stream.ReadExactlyAsync(bytes);
            Assert.Equal(expected, Encoding.UTF8.GetString(bytes));
            provider.Next();
        }
        Assert.Equal(0, await stream.ReadAsync(new byte[1]));
    }

    [Theory]
    [InlineData("/v1/chat/completions", "10 3 13 4 0 1")]
    [InlineData("/v1/responses", "10 3 13 4 0 1")]
    [InlineData("/v1/messages", "10 3 13 4 2 0")]
    public async Task Tokens_are_known_of_streams_and_of_whole_answers_in_whatever_pieces_they_come(string path, string tokens)
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, ProviderOf(path), provider.Endpoint, plugins: $$$"""
            ,"file-logger":{"path":"{{{gateway.Prefix}}}/entries.log","log_format":{"a":"$llm_prompt_tokens","b":"$llm_completion_tokens","c":"$llm_total_tokens","d":"$llm_cache_read_input_tokens",
            "e":"$llm_cache_creation_input_tokens","f":"$llm_reasoning_tokens","g":"$request_llm_model","h":"$llm_model","i":"$request_type","j":"$llm_stream",
            "k":"$upstream_addr","l":"$upstream_status","m":"$upstream_uri","n":"$balancer_ip"} }
            """);
        await AskAsync(gateway, path, Prompt(path, "mock/tokens=3"));
        await AskAsync(gateway, path, Prompt(path, "mock/tokens=3,bytes"));
        await AskAsync(gateway, path, Prompt(path, "mock/tokens=3", stream: false));
        var file = Path.Combine(gateway.Prefix, "entries.log");
        await Eventually.TrueAsync(() => File.Exists(file) && File.ReadAllLines(file).Length == 3, "three entries are expected");
        var entries = (await File.ReadAllLinesAsync(file)).Select(line => JsonNode.Parse(line)!).ToArray();
        Assert.All(entries, entry => Assert.Equal(tokens, Of(entry, "abcdef")));
        Assert.Equal("mock/tokens=3 mock/tokens=3 ai_stream true", Of(entries[0], "ghij"));
        Assert.Equal("mock/tokens=3 mock/tokens=3 ai_chat false", Of(entries[2], "ghij"));
        Assert.Equal($"127.0.0.1:{provider.Port} 200 {path} ai-proxy-{ProviderOf(path)}", Of(entries[0], "klmn"));

        static string Of(JsonNode entry, string names) => string.Join(' ', names.Select(name => entry[name.ToString()]));
    }

    [Fact]
    public async Task The_provider_is_asked_as_the_configuration_says()
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/r1", $$$"""
            {"uri":"/*","plugins":{"ai-proxy":{"provider":"openai","auth":{"header":{"Authorization":"Bearer of-the-gateway"},"query":{"key":"a b"}},"options":{"model":"gpt","temperature":1},
            "override":{"endpoint":"{{{provider.Endpoint}}}/own/path?version=2","llm_options":{"max_tokens":7},"request_body":{"openai-chat":{"metadata":{"a":1,"b":2},"seed":3} } } } } }
            """);
        using var request = new HttpRequestMessage(HttpMethod.Post, gateway.Url("/ask?mine=1"))
        {
            Content = new StringContent("""{"messages":[],"model":"other","max_tokens":100,"seed":4,"metadata":{"b":5},"stream":true}""",
                Encoding.UTF8, "application/json"),
        };
        request.Headers.Add("Authorization", "Bearer of-the-client");
        request.Headers.Add("X-Own", "1");
        request.Headers.Add("Accept-Encoding", "gzip");
        using var response = await gateway.Client.SendAsync(request);
        var seen = provider.Last;
        Assert.Equal(("POST", "/own/path?key=a%20b&version=2"), (seen.Method, seen.Target));
        Assert.Equal(
            """{"max_completion_tokens":7,"messages":[],"metadata":{"a":1,"b":5},"model":"gpt","seed":4,"stream":true,"stream_options":{"include_usage":true},"temperature":1}""", seen.Text);
        Assert.Equal(("Bearer of-the-gateway", "1", "application/json", $"127.0.0.1:{provider.Port}"),
            (seen.Headers["Authorization"], seen.Headers["X-Own"], seen.Headers["Content-Type"], seen.Headers["Host"]));
        Assert.Empty(
            seen.Headers.Keys.Intersect(["Accept-Encoding", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
                "X-Forwarded-Port"], StringComparer.OrdinalIgnoreCase));
    }

    [Fact]
    public async Task What_nobody_changes_reaches_the_provider_byte_for_byte()
    {
        const string Body = """{ "z" : 1.0, "input":"\u00e4", "model": "m" }""";
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, "openai", provider.Endpoint);
        await AskAsync(gateway, "/v1/responses", Body);
        Assert.Equal(("/v1/responses", Body), (provider.Last.Target, provider.Last.Text));
        await AskAsync(gateway, "/v1/other?a=b", """{"any":"thing"}""");
        Assert.Equal(("POST", "/v1/other?a=b", """{"any":"thing"}"""), (provider.Last.Method, provider.Last.Target, provider.Last.Text));
    }

    [Theory]
    [InlineData("/v1/messages", """{"messages":[]}""", 400,
        "provider openai does not support anthropic-messages protocol (supported: openai-chat, openai-responses, openai-embeddings)")]
    [InlineData("/v1/chat", "{}", 400, "no matching AI protocol for the request")]
    [InlineData("/v1/chat", "", 400, "{\"message\":\"could not get body: request body is empty\"}\n")]
    [InlineData("/v1/chat", "{}\"a\"", 400,
        "{\"message\":\"could not parse JSON request body: Expected the end but found T_STRING at character 3\"}\n")]
    [InlineData("/v1/chat", """{"messages":[],"more":"0123456789012345678901234567890123456789"}""", 413,
        "{\"message\":\"could not get body: request size 65 is greater than the maximum size 60 allowed\"}\n")]
    public async Task A_request_that_cannot_be_sent_is_refused(string path, string body, int status, string answer)
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, "openai", provider.Endpoint, ""","max_req_body_size":60""");
        Assert.Equal((status, answer), await AskAsync(gateway, path, body));
        Assert.Empty(provider.Requests);
    }

    [Fact]
    public async Task A_body_that_is_not_said_to_be_JSON_is_refused()
    {
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, "openai", "http://127.0.0.1:1");
        Assert.Equal((400, "unsupported content-type: text/plain; charset=utf-8, only application/json is supported"),
            await AskAsync(gateway, "/", "{}", "text/plain"));
    }

    [Theory]
    [InlineData("", 500, false)]
    [InlineData(Sluice, 502, true)]
    public async Task The_profile_says_what_clients_see_of_errors(string config, int unreachable, bool headers)
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync(pluginAttr: config);
        await RouteAsync(gateway, "openai", "http://127.0.0.1:1");
        Assert.Equal(unreachable, (await AskAsync(gateway, "/v1/chat/completions", Prompt("", "m"))).Status);
        await RouteAsync(gateway, "openai", provider.Endpoint);
        using var response = await OpenAsync(gateway, "/v1/chat/completions", Prompt("", "mock/status=429"));
        Assert.Equal(HttpStatusCode.TooManyRequests, response.StatusCode);
        Assert.Equal("""{"error":{"message":"the mock refuses","type":"mock_error","param":null,"code":"mock"}}""",
            await response.Content.ReadAsStringAsync());
        Assert.Equal("application/json", response.Content.Headers.ContentType?.ToString());
        Assert.Equal(headers, response.Headers.Contains("Retry-After"));
        Assert.Equal(headers, response.Headers.Contains("X-Request-Id"));
        Assert.False(response.Headers.Contains("X-Internal"));
    }

    [Theory]
    [InlineData("", false, true)]
    [InlineData(Sluice, false, false)]
    [InlineData(Sluice, true, true)]
    public async Task The_chunk_with_the_usage_is_the_clients_only_if_it_asked_for_it(string config, bool asks, bool gets)
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync(pluginAttr: config);
        await RouteAsync(gateway, "openai", provider.Endpoint);
        var options = asks ? ""","stream_options":{"include_usage":true,"include_obfuscation":false}""" : "";
        var (_, body) = await AskAsync(gateway, "/v1/chat/completions",
            $$"""{"model":"mock/tokens=2","messages":[],"stream":true{{options}}}""");
        Assert.Equal(gets, body.Contains("\"choices\":[],", StringComparison.Ordinal));
        Assert.EndsWith("data: [DONE]\n\n", body, StringComparison.Ordinal);
        Assert.Equal(config.Length > 0 && asks, provider.Last.Body["stream_options"]!["include_obfuscation"] is not null);
    }

    [Fact]
    public async Task A_client_that_leaves_takes_the_providers_connection_with_it()
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, "openai", provider.Endpoint);
        provider.Next();
        using (var response = await OpenAsync(gateway, "/v1/chat/completions", Prompt("", "mock/tokens=9,gated")))
        {
            await using var stream = await response.Content.ReadAsStreamAsync();
            Assert.NotEqual(0, await stream.ReadAsync(new byte[16]));
        }
        await provider.Gone.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task A_stream_over_its_limit_ends_without_its_last_event_and_a_body_over_it_is_refused()
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, "openai", provider.Endpoint, ""","max_response_bytes":300""");
        var (status, body) = await AskAsync(gateway, "/v1/chat/completions", Prompt("", "mock/tokens=50"));
        Assert.Equal(200, status);
        Assert.StartsWith("data: ", body, StringComparison.Ordinal);
        Assert.DoesNotContain("[DONE]", body, StringComparison.Ordinal);
        await gateway.ErrorLogSaysAsync("aborting AI stream: max_response_bytes exceeded; bytes=");
    }

    [Fact]
    public async Task A_stream_that_the_provider_breaks_off_never_looks_whole()
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, "openai", provider.Endpoint);
        provider.Next();
        using var response = await OpenAsync(gateway, "/v1/chat/completions", Prompt("", "mock/tokens=9,gated,cut=1"));
        Assert.Equal(200, (int)response.StatusCode);
        await using var stream = await response.Content.ReadAsStreamAsync();
        provider.Next();
        await Assert.ThrowsAnyAsync<IOException>(async () => await new StreamReader(stream).ReadToEndAsync());
    }

    [Fact]
    public async Task Loggers_have_a_summary_and_what_was_said_only_when_asked()
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        var file = Path.Combine(gateway.Prefix, "entries.log");
        await RouteAsync(gateway, "openai", provider.Endpoint, ""","logging":{"summaries":true,"payloads":true}""",
            $$$""","file-logger":{"path":"{{{file}}}"}""");
        await AskAsync(gateway, "/v1/chat/completions", Prompt("", "mock/tokens=2,tool"));
        await Eventually.TrueAsync(() => File.Exists(file) && File.ReadAllLines(file).Length == 1, "an entry is expected");
        var entry = JsonNode.Parse(await File.ReadAllTextAsync(file))!;
        Assert.Equal((12, "true", "true"),
            ((int)entry["llm_summary"]!["total_tokens"]!, (string?)entry["llm_summary"]!["stream"],
                (string?)entry["llm_summary"]!["has_tool_calls"]));
        Assert.Equal(("hi", "wörd1 wörd2 "),
            ((string?)entry["llm_request"]!["messages"]![0]!["content"], (string?)entry["llm_response_text"]!["content"]));
        Assert.DoesNotContain("of-the-gateway", entry.ToJsonString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("openai",
        """{"whole":{"text":"wörd1 wörd2 ","finish":"stop","tokens":12},"stream":{"text":"wörd1 wörd2 ","finish":"stop","tokens":null,"empty":0,"tool":null},"responses":{"text":"wörd1 wörd2 ","final":"wörd1 wörd2 ","tokens":12},"embeddings":{"vector":[0.5,0.25],"tokens":10}}""")]
    [InlineData("anthropic",
        """{"whole":{"text":"wörd1 wörd2 ","finish":"end_turn","tokens":2},"stream":{"text":"wörd1 wörd2 ","finish":"end_turn","tokens":2,"blocks":["text"]}}""")]
    public async Task The_official_SDKs_understand_every_answer(string sdk, string result)
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync(pluginAttr: Sluice);
        await RouteAsync(gateway, sdk, provider.Endpoint);
        Assert.Equal(result, await SdkAsync(sdk, gateway, "mock/tokens=2"));
        Assert.All(provider.Requests, seen => Assert.Equal("Bearer of-the-gateway", seen.Headers["Authorization"]));
    }

    [Theory]
    [InlineData("openai", "RateLimitError")]
    [InlineData("anthropic", "RateLimitError")]
    public async Task The_official_SDKs_understand_a_providers_refusal(string sdk, string error)
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync(pluginAttr: Sluice);
        await RouteAsync(gateway, sdk, provider.Endpoint);
        var results = JsonNode.Parse(await SdkAsync(sdk, gateway, "mock/status=429"))!.AsObject();
        Assert.All(results, one => Assert.Equal((error, 429), ((string?)one.Value!["error"], (int)one.Value!["status"]!)));
    }

    static async Task<string> SdkAsync(string sdk, TestGateway gateway, string model)
    {
        _ = NodeOrigin.Module("openai/package.json");
        using var process = Process.Start(
            new ProcessStartInfo("node",
                [NodeOrigin.Script("ai-client.mjs"), sdk, $"http://{gateway.EndPoint}", model]) { RedirectStandardOutput = true })!;
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return output.TrimEnd('\n');
    }
}

using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>Plugins that ask a service about a request (ai-request-rewrite, ai-rag), and what metrics know of models.</summary>
public sealed class AiServiceTests
{
    static async Task<(int Status, string Body)> PostAsync(TestGateway gateway, string body)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post,
            gateway.Url("/v1/chat/completions")) { Content = new StringContent(body, Encoding.UTF8, "application/json") };
        request.Headers.Add("Authorization", "Bearer of-the-client");
        using var response = await gateway.Client.SendAsync(request);
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync());
    }

    static async Task<WebOrigin> EchoAsync() => await WebOrigin.StartAsync(async context =>
    {
        using var reader = new StreamReader(context.Request.Body);
        await context.Response.WriteAsync("echo " + await reader.ReadToEndAsync());
    });

    static string Rewrite(string model, string endpoint) => $$"""
        "plugins":{"ai-request-rewrite":{"prompt":"shout","provider":"openai","auth":{"header":{"Authorization":"Bearer of-the-gateway"} },"options":{"model":"{{model}}"},"override":{"endpoint":"{{endpoint}}"} } }
        """;

    [Fact]
    public async Task A_model_rewrites_the_body_and_learns_nothing_else()
    {
        await using var provider = await MockProvider.StartAsync();
        await using var origin = await EchoAsync();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port, Rewrite("mock/tokens=2", $"{provider.Endpoint}/own?version=1"));
        Assert.Equal((200, "echo wörd1 wörd2 "), await PostAsync(gateway, "hello"));
        Assert.Equal(
            """{"messages":[{"content":"shout","role":"system"},{"content":"hello","role":"user"}],"model":"mock/tokens=2","stream":false}""", provider.Last.Text);
        Assert.Equal(("/own?version=1", "Bearer of-the-gateway"), (provider.Last.Target, provider.Last.Headers["Authorization"]));
        Assert.Equal(400, (await PostAsync(gateway, "")).Status);
    }

    [Theory]
    [InlineData("mock/status=500")]
    [InlineData("mock/status=401")]
    public async Task A_model_that_fails_fails_the_request(string model)
    {
        await using var provider = await MockProvider.StartAsync();
        await using var origin = await EchoAsync();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port, Rewrite(model, provider.Endpoint));
        Assert.Equal(500, (await PostAsync(gateway, "hello")).Status);
        await gateway.ErrorLogSaysAsync("LLM service returned error status: ");
    }

    [Theory]
    [InlineData("""{"ai_rag":{"embeddings":{"input":"who"},"vector_search":{"fields":"v"}},"messages":[]}""", 200,
        """echo {"messages":[{"role":"user","content":"found [0.5,0.25] in v"}]}""")]
    [InlineData("""{"ai_rag":{"embeddings":{"input":"refused"},"vector_search":{"fields":"v"}},"messages":[]}""", 403, "no")]
    [InlineData("""{"ai_rag":{"embeddings":{"input":1},"vector_search":{"fields":"v"}},"messages":[]}""", 400, null)]
    [InlineData("""{"messages":[]}""", 400, null)]
    public async Task What_a_search_finds_is_added_to_the_prompt(string body, int status, string? answer)
    {
        await using var service = await WebOrigin.StartAsync(async context =>
        {
            Assert.Equal("key", context.Request.Headers["api-key"]);
            using var reader = new StreamReader(context.Request.Body);
            var asked = JsonNode.Parse(await reader.ReadToEndAsync())!;
            if (context.Request.Path == "/embed")
            {
                context.Response.StatusCode = (string?)asked["input"] == "refused" ? 403 : 200;
                await context.Response.WriteAsync(context.Response.StatusCode == 200 ? """{"data":[{"embedding":[0.5,0.25]}]}""" : "no");
                return;
            }
            var query = asked["vectorQueries"]![0]!;
            await context.Response.WriteAsync($"found {query["vector"]!.ToJsonString()} in {query["fields"]}");
        });
        await using var origin = await EchoAsync();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port, $$$"""
            "plugins":{"ai-rag":{"embeddings_provider":{"azure_openai":{"endpoint":"http://127.0.0.1:{{{service.Port}}}/embed","api_key":"key"} },
            "vector_search_provider":{"azure_ai_search":{"endpoint":"http://127.0.0.1:{{{service.Port}}}/search","api_key":"key"} } } }
            """);
        var got = await PostAsync(gateway, body);
        Assert.Equal(status, got.Status);
        Assert.Equal(answer ?? got.Body, got.Body);
    }

    [Fact]
    public async Task Metrics_know_models_their_tokens_and_times()
    {
        await using var provider = await MockProvider.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/r1", $$$"""
            {"uri":"/*","plugins":{"prometheus":{},"ai-proxy":{"provider":"openai","auth":{},"options":{"model":"mock/tokens=3"},"override":{"endpoint":"{{{provider.Endpoint}}}"} } } }
            """);
        Assert.Equal(200, (await PostAsync(gateway, """{"model":"asked","messages":[],"stream":true}""")).Status);
        Assert.Equal(200, (await PostAsync(gateway, """{"model":"asked","messages":[]}""")).Status);
        const string Stream = "node=\"ai-proxy-openai\",request_type=\"ai_stream\",request_llm_model=\"asked\",llm_model=\"mock/tokens=3\"";
        foreach (var line in (string[])[
            $"apisix_llm_prompt_tokens{{route_id=\"r1\",service_id=\"\",consumer=\"\",{Stream}}} 10",
            $"apisix_llm_completion_tokens{{route_id=\"r1\",service_id=\"\",consumer=\"\",{Stream}}} 3",
            $"apisix_llm_latency_count{{type=\"ttft\",route_id=\"r1\",service_id=\"\",consumer=\"\",{Stream}}} 1",
            $"apisix_llm_latency_count{{type=\"total\",route_id=\"r1\",service_id=\"\",consumer=\"\",{Stream.Replace("ai_stream", "ai_chat", StringComparison.Ordinal)}}} 1",
            $"apisix_llm_completion_tokens_dist_sum{{route_id=\"r1\",service_id=\"\",consumer=\"\",{Stream}}} 3",
            $"apisix_http_status{{code=\"200\",route=\"r1\",matched_uri=\"/*\",matched_host=\"\",service=\"\",consumer=\"\",{Stream},response_source=\"upstream\"}} 1",
        ])
        {
            await Eventually.HoldsAsync(async () => (await MetricsAsync(gateway)).Contains(line + "\n", StringComparison.Ordinal),
                $"no {line}");
        }
    }

    static Task<string> MetricsAsync(TestGateway gateway) =>
        gateway.Client.GetStringAsync(new Uri($"http://{gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics"));
}

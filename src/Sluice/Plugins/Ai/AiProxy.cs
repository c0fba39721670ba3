using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Ai;
using Sluice.Pipeline;

namespace Sluice.Plugins.Ai;

/// <summary>Sends requests to a provider of language models.</summary>
internal sealed class AiProxy : ModelPlugin, IPlugin<AiProxy, JsonObject>
{
    public static PluginInfo Info { get; } = new(
        Name: "ai-proxy",
        Priority: 1040,
        Schema: $$"""
            {
              "type": "object",
              "required": ["provider", "auth"],
              "properties": {
                {{AiInstance.Schema}},
                {{AiSettings.Schema}}
              }
            }
            """,
        Summary: """
            Sends requests to a provider of language models, instead of to the route's upstream: a route with it needs none. What the client speaks is seen by its request (chat completions, responses, embeddings, Anthropic's
            messages; anything else with a JSON object goes on as it is); the provider must speak it too. Keys stand in the configuration, and clients never see them. Streams pass byte for byte, each piece as it comes;
            tokens are read as they pass and are there as variables (`$llm_prompt_tokens`, `$llm_completion_tokens`, `$llm_time_to_first_token`, …).
            **It needs the whole request body**: the provider is asked when it is complete.
            """)
    {
        Version = "0.5",
        Attributes = ["profile", "http_client"],
        Example = """
            ```json
            {"ai-proxy": {"provider": "openai", "auth": {"header": {"Authorization": "$env://OPENAI_AUTHORIZATION"}}, "options": {"model": "gpt-4o"}}}
            ```

            Any client of OpenAI's that is pointed at the route gets its answers from gpt-4o, and needs no key. The variable `OPENAI_AUTHORIZATION` of the gateway's environment is `Bearer` and the key.
            """,
    };

    readonly AiInstance _instance;

    AiProxy(JsonObject config, AiSettings settings, PluginContext context)
        : base(settings, context.Services.Loggers.CreateLogger<AiProxy>()) =>
        _instance = new($"ai-proxy-{(string?)config["provider"]}", config, settings, context);

    public static JsonTypeInfo<JsonObject> ConfigType => AiProxyJson.Default.JsonObject;

    public static AiProxy Create(JsonObject config, PluginContext context) => new(config, AiSettings.Of(context), context);

    public override async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var (call, refusal) = await AiCall.ReadAsync(exchange, Settings, Logger);
        if (call is null)
        {
            return refusal;
        }
        call.Target = _instance;
        Forward(exchange, call);
        return null;
    }
}

[JsonSerializable(typeof(JsonObject))]
sealed partial class AiProxyJson : JsonSerializerContext;

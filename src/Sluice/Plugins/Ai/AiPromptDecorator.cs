using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Ai.Protocols;
using Sluice.Pipeline;

namespace Sluice.Plugins.Ai;

/// <summary>Puts messages before and behind what the client asks a model.</summary>
internal sealed class AiPromptDecorator(AiPromptDecorator.Config config) : IPlugin<AiPromptDecorator, AiPromptDecorator.Config>, IRewrite,
    INeedsRequestBody
{
    const string Messages = """
        { "type": "array", "items": { "type": "object", "required": ["role", "content"], "properties": { "role": { "type": "string", "enum": ["system", "user", "assistant"] }, "content": { "type": "string", "minLength": 1 } } } }
        """;

    public static PluginInfo Info { get; } = new(
        Name: "ai-prompt-decorator",
        Priority: 1070,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                {{PromptBody.LimitSchema}},
                "prepend": {{Messages}},
                "append": {{Messages}}
              },
              "anyOf": [ { "required": ["prepend"] }, { "required": ["append"] }, { "required": ["append", "prepend"] } ]
            }
            """,
        Summary: """
            Puts messages before and behind what the client asks a model. They are put where the request's protocol has them: into `messages` (chat completions, Anthropic's messages), into `instructions` and
            `input` (responses), into `system` and `messages` (Bedrock's converse); requests for embeddings stay as they are. **It needs the whole request body**: the upstream waits until it is complete.
            """)
    {
        Example = """
            ```json
            {"ai-prompt-decorator": {"prepend": [{"role": "system", "content": "Answer briefly."}]}}
            ```

            The model gets the client's messages, and before them the system's.
            """,
    };

    public sealed record Message(string Role, string Content);

    public sealed record Config(Message[]? Prepend = null, Message[]? Append = null, int MaxReqBodySize = 64 * 1024 * 1024);

    readonly AiMessage[] _prepend = Of(config.Prepend);
    readonly AiMessage[] _append = Of(config.Append);

    static AiMessage[] Of(Message[]? messages) => [.. (messages ?? []).Select(message => new AiMessage(message.Role, message.Content))];

    public static JsonTypeInfo<Config> ConfigType => AiPromptDecoratorJson.Default.Config;

    public static AiPromptDecorator Create(Config config, PluginContext context) => new(config);

    public int MaxRequestBodyBytes => config.MaxReqBodySize;

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var (body, refusal) = await PromptBody.ReadAsync(exchange, config.MaxReqBodySize);
        if (body is null)
        {
            return refusal;
        }
        var protocol = AiProtocols.Detect(exchange.Uri, body) ?? AiProtocols.Chat;
        protocol.Prepend(body, _prepend);
        protocol.Append(body, _append);
        PromptBody.Replace(exchange, body);
        return null;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(AiPromptDecorator.Config))]
sealed partial class AiPromptDecoratorJson : JsonSerializerContext;

namespace Sluice.Ai.Providers;

/// <summary>Whoever speaks as OpenAI does.</summary>
internal static class OpenAiCompatible
{
    public static AiProvider Provider { get; } = new(
        "openai-compatible",
        null,
        new("openai-chat", "/v1/chat/completions"),
        new("openai-responses", "/v1/responses", "max_output_tokens"),
        new("openai-embeddings", "/v1/embeddings", null));
}

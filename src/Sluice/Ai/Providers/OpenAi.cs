namespace Sluice.Ai.Providers;

/// <summary>OpenAI.</summary>
internal static class OpenAi
{
    public static AiProvider Provider { get; } = new(
        "openai",
        "api.openai.com",
        new("openai-chat", "/v1/chat/completions", "max_completion_tokens") { Instead = "max_tokens" },
        new("openai-responses", "/v1/responses", "max_output_tokens"),
        new("openai-embeddings", "/v1/embeddings", null));
}

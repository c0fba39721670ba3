namespace Sluice.Ai.Providers;

/// <summary>OpenRouter.</summary>
internal static class OpenRouter
{
    public static AiProvider Provider { get; } = new("openrouter", "openrouter.ai",
        new AiSpeech("openai-chat", "/api/v1/chat/completions"));
}

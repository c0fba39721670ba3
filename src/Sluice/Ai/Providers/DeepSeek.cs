namespace Sluice.Ai.Providers;

/// <summary>DeepSeek.</summary>
internal static class DeepSeek
{
    public static AiProvider Provider { get; } = new("deepseek", "api.deepseek.com", new AiSpeech("openai-chat", "/chat/completions"));
}

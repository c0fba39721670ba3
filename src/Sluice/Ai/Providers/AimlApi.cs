namespace Sluice.Ai.Providers;

/// <summary>AI/ML API.</summary>
internal static class AimlApi
{
    public static AiProvider Provider { get; } = new("aimlapi", "api.aimlapi.com", new AiSpeech("openai-chat", "/chat/completions"));
}

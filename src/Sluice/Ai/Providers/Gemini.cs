namespace Sluice.Ai.Providers;

/// <summary>Google's Gemini, as it speaks to clients of OpenAI.</summary>
internal static class Gemini
{
    public static AiProvider Provider { get; } = new(
        "gemini", "generativelanguage.googleapis.com",
        new AiSpeech("openai-chat", "/v1beta/openai/chat/completions", "max_completion_tokens"));
}

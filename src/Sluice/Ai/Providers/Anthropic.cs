namespace Sluice.Ai.Providers;

/// <summary>Anthropic.</summary>
internal static class Anthropic
{
    public static AiProvider Provider { get; } = new(
        "anthropic", "api.anthropic.com", new("openai-chat", "/v1/chat/completions"), new("anthropic-messages", "/v1/messages"));
}

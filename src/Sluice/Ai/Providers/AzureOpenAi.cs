namespace Sluice.Ai.Providers;

/// <summary>OpenAI's models on Azure: the path names the deployment.</summary>
internal static class AzureOpenAi
{
    public static AiProvider Provider { get; } = new("azure-openai", null, new AiSpeech("openai-chat", "/completions"))
    {
        RemovesModel = true,
    };
}

namespace Sluice.Ai.Providers;

/// <summary>The providers that there are. A new one is a file and a line here.</summary>
internal static class AiProviders
{
    public static IReadOnlyList<AiProvider> All { get; } =
    [
        OpenAi.Provider, DeepSeek.Provider, AimlApi.Provider, Anthropic.Provider, OpenAiCompatible.Provider, AzureOpenAi.Provider,
        OpenRouter.Provider, Gemini.Provider,
        VertexAi.Provider,
    ];

    public static AiProvider? Find(string name) => All.FirstOrDefault(provider => provider.Name == name);
}

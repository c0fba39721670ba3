namespace Sluice.Ai.Providers;

/// <summary>Google's Vertex AI.</summary>
internal static class VertexAi
{
    public static AiProvider Provider { get; } = new(
        "vertex-ai",
        null,
        new AiSpeech(
            "openai-chat",
            static (place, _) => place is { Project: { } project, Region: { } region }
            ? $"/v1beta1/projects/{project}/locations/{region}/endpoints/openapi/chat/completions" : null,
            "max_completion_tokens"))
    {
        HostOf = static place => place.Region is { } region ? $"{region}-aiplatform.googleapis.com" : null,
    };
}

using System.Text.Json.Nodes;

namespace Sluice.Ai.Protocols;

/// <summary>The protocols that there are. A new one is a file and a line here.</summary>
internal static class AiProtocols
{
    /// <summary>In the order in which they are tried: the first that matches is a request's.</summary>
    public static IReadOnlyList<AiProtocol> All { get; } =
        [new BedrockConverse(), new AnthropicMessages(), new OpenAiResponses(), Chat = new OpenAiChat(), new OpenAiEmbeddings(),
            new Passthrough()];

    /// <summary>The one that stands for all where none matches.</summary>
    public static AiProtocol Chat { get; }

    /// <summary>Whose request this is; null when it is none.</summary>
    public static AiProtocol? Detect(string path, JsonObject body)
    {
        foreach (var protocol in All)
        {
            if (protocol.Matches(path, body))
            {
                return protocol;
            }
        }
        return null;
    }
}

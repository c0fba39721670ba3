using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Pipeline;

namespace Sluice.Ai.Protocols;

/// <summary>OpenAI's embeddings.</summary>
internal sealed class OpenAiEmbeddings : AiProtocol
{
    public override string Name => "openai-embeddings";

    public override bool Matches(string path, JsonObject body) => body["input"] is not null;

    public override bool WantsStream(JsonObject body) => false;

    public override IEnumerable<AiMessage> Messages(JsonObject body) => StringOf(body["input"]) is { } input ? [new("user", input)] : [];

    public override string? EndUser(JsonObject body) => null;

    public override JsonNode? Content(JsonObject body) => body["input"];

    public override void See(JsonElement response, AiFacts facts)
    {
        if (Member(response, "usage") is { ValueKind: JsonValueKind.Object } usage)
        {
            facts.AddUsage(new() { Prompt = Count(usage, "prompt_tokens"), Total = Count(usage, "total_tokens"), Raw = Numbers(usage) });
        }
    }
}

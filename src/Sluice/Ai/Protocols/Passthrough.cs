using System.Text.Json.Nodes;

namespace Sluice.Ai.Protocols;

/// <summary>Any other request that has a JSON object: it goes on as it is.</summary>
internal sealed class Passthrough : AiProtocol
{
    public override string Name => "passthrough";

    public override bool Matches(string path, JsonObject body) => body.Count > 0;

    public override string? EndUser(JsonObject body) => null;

    public override JsonNode? Content(JsonObject body) => null;
}

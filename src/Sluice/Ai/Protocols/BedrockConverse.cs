using System.Text.Json.Nodes;

namespace Sluice.Ai.Protocols;

/// <summary>Converse of Amazon Bedrock.</summary>
internal sealed class BedrockConverse : AiProtocol
{
    public override string Name => "bedrock-converse";

    public override bool Matches(string path, JsonObject body) =>
        path.EndsWith("/converse", StringComparison.Ordinal) && body["messages"] is JsonArray or JsonObject;

    public override IEnumerable<AiMessage> Messages(JsonObject body)
    {
        if (TextOf(body["system"]) is { } system)
        {
            yield return new("system", system);
        }
        foreach (var message in MessagesOf(body["messages"]))
        {
            yield return message;
        }
    }

    public override void Prepend(JsonObject body, IReadOnlyList<AiMessage> messages) => Put(body, messages, first: true);

    public override void Append(JsonObject body, IReadOnlyList<AiMessage> messages) => Put(body, messages, first: false);

    /// <summary>What the system says has a list of its own.</summary>
    static void Put(JsonObject body, IReadOnlyList<AiMessage> messages, bool first)
    {
        var places = new Dictionary<string, int>();
        foreach (var message in messages)
        {
            var name = message.Role == "system" ? "system" : "messages";
            if (body[name] is not JsonArray list)
            {
                body[name] = list = [];
            }
            var place = first ? places.GetValueOrDefault(name) : list.Count;
            places[name] = place + 1;
            var text = new JsonObject { ["text"] = message.Content };
            list.Insert(place, name == "system" ? text : new JsonObject { ["role"] = message.Role, ["content"] = new JsonArray(text) });
        }
    }
}

using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Ai.Protocols;

/// <summary>A protocol of requests to language models. All that is known of a dialect is in its class: one file per protocol, nothing else
/// names its fields.</summary>
internal abstract class AiProtocol
{
    /// <summary>The name that configurations and messages use.</summary>
    public abstract string Name { get; }

    /// <summary>A request is of this protocol.</summary>
    /// <param name="path">The request's path, without its query.</param>
    public abstract bool Matches(string path, JsonObject body);

    /// <summary>The answer is asked for as a stream.</summary>
    public virtual bool WantsStream(JsonObject body) => body["stream"] is JsonValue value && value.TryGetValue(out bool wants) && wants;

    /// <summary>What is said, in order; instructions come first, as the system's.</summary>
    public virtual IEnumerable<AiMessage> Messages(JsonObject body) => [];

    /// <summary>Puts messages before all others.</summary>
    public virtual void Prepend(JsonObject body, IReadOnlyList<AiMessage> messages)
    {
    }

    /// <summary>Puts messages behind all others.</summary>
    public virtual void Append(JsonObject body, IReadOnlyList<AiMessage> messages)
    {
    }

    /// <summary>Says in a request's body what the gateway needs; true: it was changed.</summary>
    public virtual bool Prepare(JsonObject body) => false;

    /// <summary>Who the client says that its user is.</summary>
    public virtual string? EndUser(JsonObject body) => StringOf(body["safety_identifier"]) ?? StringOf(body["user"]);

    /// <summary>What the client asks, for logs that shall have it.</summary>
    public virtual JsonNode? Content(JsonObject body) => body["messages"];

    /// <summary>Takes an event of a response for what it tells. Called for each: what tells nothing is not parsed.</summary>
    public virtual void See(SseEvent e, AiFacts facts)
    {
    }

    /// <summary>Takes a whole response for what it tells.</summary>
    public virtual void See(JsonElement response, AiFacts facts)
    {
    }

    /// <summary>The event is the last one of a complete stream.</summary>
    public virtual bool IsEnd(SseEvent e) => false;

    /// <summary>An object's member that is an object or a list; default when it is none.</summary>
    protected static JsonElement Member(JsonElement parent, string name) =>
        parent.ValueKind == JsonValueKind.Object && parent.TryGetProperty(name, out var value)
        && value.ValueKind is JsonValueKind.Object or JsonValueKind.Array ? value : default;

    /// <summary>The elements of a list; none when it is no list.</summary>
    protected static IEnumerable<JsonElement> Items(JsonElement list)
    {
        if (list.ValueKind == JsonValueKind.Array)
        {
            foreach (var item in list.EnumerateArray())
            {
                yield return item;
            }
        }
    }

    /// <summary>A member that is a text; null when it is none.</summary>
    protected static string? Text(JsonElement parent, string name) =>
        parent.ValueKind == JsonValueKind.Object && parent.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String
        ? value.GetString() : null;

    /// <summary>A member that is a number; 0 when it is none.</summary>
    protected static long Count(JsonElement parent, string name) =>
        parent.ValueKind == JsonValueKind.Object && parent.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number
        && value.TryGetDouble(out var number) && number is >= 0 and < 1e15 ? (long)number : 0;

    /// <summary>The numbers of an object, by their names.</summary>
    protected static Dictionary<string, double> Numbers(JsonElement usage)
    {
        var numbers = new Dictionary<string, double>();
        foreach (var member in usage.EnumerateObject())
        {
            if (member.Value.ValueKind == JsonValueKind.Number && member.Value.TryGetDouble(out var number))
            {
                numbers[member.Name] = number;
            }
        }
        return numbers;
    }

    /// <summary>An event's data, parsed; null when it is no JSON.</summary>
    protected static JsonDocument? Parse(SseEvent e)
    {
        try
        {
            var reader = new Utf8JsonReader(e.Data);
            return JsonDocument.ParseValue(ref reader);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>A text of the response is added, where somebody wants it.</summary>
    protected static void AddText(AiFacts facts, string? text, bool isPart = false)
    {
        if (text is { Length: > 0 } && facts.Text is { Length: < MostText } all)
        {
            if (isPart && all.Length > 0)
            {
                all.Append(' ');
            }
            all.Append(text);
        }
    }

    /// <summary>Longer texts are cut.</summary>
    const int MostText = 1024 * 1024;

    /// <summary>The text of what is a string, or the parts of a list that have one, joined with a space; null when there is none.</summary>
    /// <param name="types">The types of the parts that count; none: all.</param>
    protected static string? TextOf(JsonNode? content, params ReadOnlySpan<string> types)
    {
        if (StringOf(content) is { } text)
        {
            return text;
        }
        if (content is not JsonArray parts)
        {
            return null;
        }
        List<string> texts = [];
        foreach (var part in parts)
        {
            if (part is JsonObject members && StringOf(members["text"]) is { } piece
                && (types.IsEmpty || (StringOf(members["type"]) is { } type && types.Contains(type))))
            {
                texts.Add(piece);
            }
        }
        return texts.Count == 0 ? null : string.Join(' ', texts);
    }

    /// <summary>A string's text; null for everything else.</summary>
    protected static string? StringOf(JsonNode? node) => node is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    /// <summary>The messages of a list of objects with a role and a content.</summary>
    protected static IEnumerable<AiMessage> MessagesOf(JsonNode? list, params string[] types)
    {
        foreach (var message in (list as JsonArray ?? []).OfType<JsonObject>())
        {
            if (TextOf(message["content"], types) is { } text)
            {
                yield return new(StringOf(message["role"]) ?? "", text);
            }
        }
    }

    /// <summary>Puts messages as objects with a role and a content into the list <c>messages</c>, which is made when there is
    /// none.</summary>
    protected static void Insert(JsonObject body, IReadOnlyList<AiMessage> messages, bool first)
    {
        if (messages.Count == 0)
        {
            return;
        }
        if (body["messages"] is not JsonArray list)
        {
            body["messages"] = list = [];
        }
        for (var i = 0; i < messages.Count; i++)
        {
            list.Insert(first ? i : list.Count, new JsonObject { ["role"] = messages[i].Role, ["content"] = messages[i].Content });
        }
    }
}

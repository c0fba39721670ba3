using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Ai.Protocols;

/// <summary>OpenAI's responses.</summary>
internal sealed class OpenAiResponses : AiProtocol
{
    public override string Name => "openai-responses";

    public override bool Matches(string path, JsonObject body) =>
        path.EndsWith("/v1/responses", StringComparison.Ordinal) && body["input"] is not null;

    public override IEnumerable<AiMessage> Messages(JsonObject body)
    {
        if (StringOf(body["instructions"]) is { } instructions)
        {
            yield return new("system", instructions);
        }
        if (StringOf(body["input"]) is { } input)
        {
            yield return new("user", input);
        }
        foreach (var item in body["input"] as JsonArray ?? [])
        {
            if (TextOfItem(item) is { } text)
            {
                yield return new(StringOf((item as JsonObject)?["role"]) ?? "user", text);
            }
        }
    }

    /// <summary>A text, a message, a piece of text, or the result of a tool.</summary>
    static string? TextOfItem(JsonNode? item) => item is not JsonObject members ? StringOf(item)
        : members["content"] is { } content ? TextOf(content)
        : StringOf(members["text"]) ?? TextOf(members["output"]);

    public override void Prepend(JsonObject body, IReadOnlyList<AiMessage> messages)
    {
        if (messages.Count > 0)
        {
            var text = Join(messages);
            body["instructions"] = StringOf(body["instructions"]) is { } before ? $"{text}\n{before}" : text;
        }
    }

    public override void Append(JsonObject body, IReadOnlyList<AiMessage> messages)
    {
        if (messages.Count == 0)
        {
            return;
        }
        var text = Join(messages);
        if (body["input"] is JsonArray items)
        {
            items.Add((JsonNode)new JsonObject { ["type"] = "message", ["role"] = "user", ["content"] = text });
            return;
        }
        body["input"] = StringOf(body["input"]) is { } before ? $"{before}\n{text}" : text;
    }

    static string Join(IReadOnlyList<AiMessage> messages) => string.Join('\n', messages.Select(message => message.Content));

    public override JsonNode? Content(JsonObject body) => body["input"];

    public override bool IsEnd(SseEvent e) =>
        e.Name.SequenceEqual("response.completed"u8) || e.Name.SequenceEqual("response.failed"u8)
        || e.Name.SequenceEqual("response.incomplete"u8) || e.Name.SequenceEqual("error"u8);

    public override void See(SseEvent e, AiFacts facts)
    {
        var isText = e.Name.SequenceEqual("response.output_text.delta"u8);
        if (!(isText && facts.Text is not null) && !e.Name.SequenceEqual("response.completed"u8))
        {
            return;
        }
        using var document = Parse(e);
        if (document is null)
        {
            return;
        }
        if (isText)
        {
            AddText(facts, Text(document.RootElement, "delta"));
            return;
        }
        var response = Member(document.RootElement, "response");
        AddUsage(response, facts);
        AddCalls(response, facts);
    }

    public override void See(JsonElement response, AiFacts facts)
    {
        foreach (var part in Items(Member(response, "output")).Where(item => Text(item, "type") == "message")
            .SelectMany(item => Items(Member(item, "content"))))
        {
            AddText(facts, Text(part, "type") == "output_text" ? Text(part, "text") : null, isPart: true);
        }
        AddUsage(response, facts);
        AddCalls(response, facts);
    }

    static void AddCalls(JsonElement response, AiFacts facts) =>
        facts.HasToolCalls |= Items(Member(response, "output")).Any(item => Text(item, "type") == "function_call");

    static void AddUsage(JsonElement response, AiFacts facts)
    {
        if (Member(response, "usage") is not { ValueKind: JsonValueKind.Object } usage)
        {
            return;
        }
        var (prompt, completion) = (Count(usage, "input_tokens"), Count(usage, "output_tokens"));
        facts.AddUsage(new()
        {
            Prompt = prompt,
            Completion = completion,
            Total = Count(usage, "total_tokens") is > 0 and var total ? total : prompt + completion,
            CacheRead = Count(Member(usage, "input_tokens_details"), "cached_tokens"),
            Reasoning = Count(Member(usage, "output_tokens_details"), "reasoning_tokens"),
            Raw = Numbers(usage),
        });
    }
}

using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Ai.Protocols;

/// <summary>Anthropic's messages.</summary>
internal sealed class AnthropicMessages : AiProtocol
{
    public override string Name => "anthropic-messages";

    public override bool Matches(string path, JsonObject body) => path.EndsWith("/v1/messages", StringComparison.Ordinal);

    public override IEnumerable<AiMessage> Messages(JsonObject body)
    {
        // APISIX sees a system prompt only when it is a string; a guard that looks away from a list of blocks is none
        if (TextOf(body["system"], "text") is { } system)
        {
            yield return new("system", system);
        }
        foreach (var message in MessagesOf(body["messages"], "text"))
        {
            yield return message;
        }
    }

    public override void Prepend(JsonObject body, IReadOnlyList<AiMessage> messages) => Insert(body, messages, first: true);

    public override void Append(JsonObject body, IReadOnlyList<AiMessage> messages) => Insert(body, messages, first: false);

    public override string? EndUser(JsonObject body) => StringOf((body["metadata"] as JsonObject)?["user_id"]);

    public override bool IsEnd(SseEvent e) => e.Name.SequenceEqual("message_stop"u8) || e.Name.SequenceEqual("error"u8);

    public override void See(SseEvent e, AiFacts facts)
    {
        var isText = e.Name.SequenceEqual("content_block_delta"u8);
        var isBlock = e.Name.SequenceEqual("content_block_start"u8);
        if (!(isText && facts.Text is not null) && !isBlock && !e.Name.SequenceEqual("message_start"u8)
            && !e.Name.SequenceEqual("message_delta"u8))
        {
            return;
        }
        using var document = Parse(e);
        if (document is null)
        {
            return;
        }
        var root = document.RootElement;
        if (isText)
        {
            var delta = Member(root, "delta");
            AddText(facts, Text(delta, "type") == "text_delta" ? Text(delta, "text") : null);
        }
        else if (isBlock)
        {
            facts.HasToolCalls |= Text(Member(root, "content_block"), "type") == "tool_use";
        }
        else
        {
            AddUsage(Member(root, "message") is { ValueKind: JsonValueKind.Object } message ? message : root, facts);
        }
    }

    public override void See(JsonElement response, AiFacts facts)
    {
        foreach (var block in Items(Member(response, "content")))
        {
            AddText(facts, Text(block, "type") == "text" ? Text(block, "text") : null, isPart: true);
            facts.HasToolCalls |= Text(block, "type") == "tool_use";
        }
        AddUsage(response, facts);
    }

    static void AddUsage(JsonElement message, AiFacts facts)
    {
        if (Member(message, "usage") is { ValueKind: JsonValueKind.Object } usage)
        {
            var (prompt, completion) = (Count(usage, "input_tokens"), Count(usage, "output_tokens"));
            facts.AddUsage(new()
            {
                Prompt = prompt,
                Completion = completion,
                Total = prompt + completion,
                CacheRead = Count(usage, "cache_read_input_tokens"),
                CacheCreation = Count(usage, "cache_creation_input_tokens"),
                Raw = Numbers(usage),
            });
        }
    }
}

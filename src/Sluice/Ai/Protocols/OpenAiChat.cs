using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Pipeline;
using Sluice.Relay;

namespace Sluice.Ai.Protocols;

/// <summary>OpenAI's chat completions, which most providers speak.</summary>
internal sealed class OpenAiChat : AiProtocol
{
    public override string Name => "openai-chat";

    public override bool Matches(string path, JsonObject body) => body["messages"] is JsonArray or JsonObject;

    public override IEnumerable<AiMessage> Messages(JsonObject body) => MessagesOf(body["messages"], "text");

    public override void Prepend(JsonObject body, IReadOnlyList<AiMessage> messages) => Insert(body, messages, first: true);

    public override void Append(JsonObject body, IReadOnlyList<AiMessage> messages) => Insert(body, messages, first: false);

    public override bool Prepare(JsonObject body)
    {
        if (!WantsStream(body))
        {
            return false;
        }
        body["stream_options"] = new JsonObject { ["include_usage"] = true };
        return true;
    }

    public override bool IsEnd(SseEvent e) => e.Data.SequenceEqual("[DONE]"u8);

    public override void See(SseEvent e, AiFacts facts)
    {
        // of most events only the text is of interest, and mostly to nobody
        if (facts.Text is null && e.Raw.IndexOf("\"usage\""u8) < 0 && (facts.HasToolCalls || e.Raw.IndexOf("\"tool_calls\""u8) < 0))
        {
            return;
        }
        using var document = Parse(e);
        if (document is null)
        {
            return;
        }
        foreach (var choice in Items(Member(document.RootElement, "choices")))
        {
            var delta = Member(choice, "delta");
            AddText(facts, Text(delta, "content"));
            facts.HasToolCalls |= Items(Member(delta, "tool_calls")).Any();
        }
        AddUsage(document.RootElement, facts);
    }

    public override void See(JsonElement response, AiFacts facts)
    {
        foreach (var choice in Items(Member(response, "choices")))
        {
            var message = Member(choice, "message");
            AddText(facts, Text(message, "content"), isPart: true);
            facts.HasToolCalls |= Items(Member(message, "tool_calls")).Any();
        }
        AddUsage(response, facts);
    }

    static void AddUsage(JsonElement root, AiFacts facts)
    {
        if (Member(root, "usage") is not { ValueKind: JsonValueKind.Object } usage)
        {
            return;
        }
        var (prompt, completion) = (Count(usage, "prompt_tokens"), Count(usage, "completion_tokens"));
        var (input, output) = (Member(usage, "prompt_tokens_details"), Member(usage, "completion_tokens_details"));
        facts.AddUsage(new()
        {
            Prompt = prompt,
            Completion = completion,
            Total = Count(usage, "total_tokens") is > 0 and var total ? total : prompt + completion,
            CacheRead = Count(input, "cached_tokens") is > 0 and var cached ? cached : Count(usage, "prompt_cache_hit_tokens"),
            CacheCreation = Count(input, "cache_creation_input_tokens"),
            Reasoning = Count(output, "reasoning_tokens"),
            Raw = Numbers(usage),
        });
    }

    /// <summary>The chunk that tells the usage and nothing else.</summary>
    public static bool IsUsageChunk(SseEvent e)
    {
        if (e.Raw.IndexOf("\"usage\""u8) < 0)
        {
            return false;
        }
        using var document = Parse(e);
        return document is not null && Member(document.RootElement, "usage").ValueKind == JsonValueKind.Object
            && Member(document.RootElement, "choices") is { ValueKind: JsonValueKind.Array } choices && choices.GetArrayLength() == 0;
    }
}

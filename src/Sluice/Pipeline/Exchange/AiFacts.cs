using System.Text;
using System.Text.Json.Nodes;
using Sluice.Observability;

namespace Sluice.Pipeline;

/// <summary>What is known of an exchange with a language model, for variables, logs and metrics.</summary>
internal class AiFacts
{
    /// <summary>The instance that is asked: what is counted by it has this name.</summary>
    public string? Instance { get; set; }

    /// <summary>The client wants a stream.</summary>
    public bool IsStream { get; set; }

    public string RequestType => IsStream ? "ai_stream" : "ai_chat";

    /// <summary>The model that the client names.</summary>
    public string? RequestModel { get; set; }

    /// <summary>The model that is asked.</summary>
    public string? Model { get; set; }

    public string? EndUser { get; set; }

    public int Tools { get; set; }

    public bool HasToolCalls { get; set; }

    /// <summary>When the provider was asked; 0: it was not.</summary>
    public long AskedTimestamp { get; set; }

    /// <summary>Milliseconds to the first piece of the response.</summary>
    public long FirstTokenMs { get; set; }

    /// <summary>Milliseconds to the response's end.</summary>
    public long? ResponseMs { get; set; }

    /// <summary>Null: the provider has told none.</summary>
    public AiUsage? Usage { get; set; }

    /// <summary>What the client's messages are, for logs that shall have them.</summary>
    public JsonNode? RequestContent { get; set; }

    /// <summary>The text of the response; null: nobody wants it.</summary>
    public StringBuilder? Text { get; set; }

    /// <summary>Entries of loggers have a summary.</summary>
    public bool LogsSummaries { get; init; }

    /// <summary>Entries of loggers have what was asked and answered.</summary>
    public bool LogsPayloads { get; init; }

    /// <summary>A usage that comes later fills up what came before: only numbers above zero count.</summary>
    public void AddUsage(AiUsage usage)
    {
        if (Usage is null)
        {
            Usage = usage;
        }
        else
        {
            Usage.Add(usage);
        }
    }

    /// <summary>Metrics' labels of an exchange that is none with a model, or is.</summary>
    public static TrafficLabels Labels(Exchange exchange) => exchange.Ai is { } facts
        ? new(exchange.Consumer?.Username ?? "", facts.Instance ?? "", facts.RequestType, Short(facts.RequestModel), Short(facts.Model))
        : new(exchange.Consumer?.Username ?? "", exchange.Upstream.NodeIp ?? "");

    /// <summary>Clients name models: a long name is cut.</summary>
    static string Short(string? model) => model is null ? "" : model.Length <= LongestLabel ? model : model[..LongestLabel];

    const int LongestLabel = 128;

    /// <summary>Adds to a logger's entry what it shall have.</summary>
    public void AddTo(JsonObject entry)
    {
        if (LogsSummaries)
        {
            entry["llm_summary"] = new JsonObject
            {
                ["request_model"] = RequestModel ?? "",
                ["model"] = Model ?? "",
                ["duration"] = FirstTokenMs,
                ["prompt_tokens"] = Usage?.Prompt ?? 0,
                ["completion_tokens"] = Usage?.Completion ?? 0,
                ["total_tokens"] = Usage?.Total ?? 0,
                ["upstream_response_time"] = ResponseMs ?? 0,
                ["stream"] = Variable("llm_stream", this),
                ["tool_count"] = Tools,
                ["has_tool_calls"] = HasToolCalls ? "true" : "false",
                ["end_user_id"] = EndUser ?? "",
                ["cache_read_input_tokens"] = Usage?.CacheRead ?? 0,
                ["cache_creation_input_tokens"] = Usage?.CacheCreation ?? 0,
                ["reasoning_tokens"] = Usage?.Reasoning ?? 0,
                ["content_risk_level"] = "",
            };
        }
        if (LogsPayloads)
        {
            entry["llm_request"] = new JsonObject { ["messages"] = RequestContent?.DeepClone(), ["stream"] = IsStream };
            entry["llm_response_text"] = new JsonObject { ["content"] = Text?.ToString() ?? "" };
        }
    }

    /// <summary>The value of a variable; null: there is none of this name.</summary>
    /// <param name="facts">Null: the exchange has nothing to do with models.</param>
    public static string? Variable(string name, AiFacts? facts) => name switch
    {
        "request_type" => facts?.RequestType ?? "traditional_http",
        "request_llm_model" => facts?.RequestModel ?? "",
        "llm_model" => facts?.Model ?? "",
        "llm_time_to_first_token" => Number(facts?.FirstTokenMs),
        "llm_prompt_tokens" => Number(facts?.Usage?.Prompt),
        "llm_completion_tokens" => Number(facts?.Usage?.Completion),
        "llm_total_tokens" => Number(facts?.Usage?.Total),
        "llm_cache_read_input_tokens" => Number(facts?.Usage?.CacheRead),
        "llm_cache_creation_input_tokens" => Number(facts?.Usage?.CacheCreation),
        "llm_reasoning_tokens" => Number(facts?.Usage?.Reasoning),
        "llm_tool_count" => Number(facts?.Tools),
        "llm_stream" => facts is { IsStream: true, AskedTimestamp: not 0 } ? "true" : "false",
        "llm_has_tool_calls" => facts?.HasToolCalls == true ? "true" : "false",
        "llm_end_user_id" => facts?.EndUser ?? "",
        "llm_content_risk_level" => "",
        "llm_response_text" => facts?.Text?.ToString() ?? "",
        _ => null,
    };

    static string Number(long? number) => Exchange.Number(number ?? 0);
}

/// <summary>Tokens of an exchange with a language model.</summary>
internal sealed record AiUsage
{
    public long Prompt { get; set; }

    public long Completion { get; set; }

    public long Total { get; set; }

    public long CacheRead { get; set; }

    public long CacheCreation { get; set; }

    public long Reasoning { get; set; }

    /// <summary>The numbers as the provider has named them.</summary>
    public Dictionary<string, double> Raw { get; init; } = [];

    public void Add(AiUsage later)
    {
        Prompt = Later(Prompt, later.Prompt);
        Completion = Later(Completion, later.Completion);
        CacheRead = Later(CacheRead, later.CacheRead);
        CacheCreation = Later(CacheCreation, later.CacheCreation);
        Reasoning = Later(Reasoning, later.Reasoning);
        Total = Math.Max(Later(Total, later.Total), Prompt + Completion);
        foreach (var (name, value) in later.Raw)
        {
            if (value > 0)
            {
                Raw[name] = value;
            }
        }

        static long Later(long before, long now) => now > 0 ? now : before;
    }
}

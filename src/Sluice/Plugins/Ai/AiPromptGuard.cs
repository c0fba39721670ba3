using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Ai.Protocols;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Ai;

/// <summary>Lets only prompts pass that match patterns, or do not.</summary>
internal sealed partial class AiPromptGuard : IPlugin<AiPromptGuard, AiPromptGuard.Config>, IAccess, INeedsRequestBody
{
    public static PluginInfo Info { get; } = new(
        Name: "ai-prompt-guard",
        Priority: 1072,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                {{PromptBody.LimitSchema}},
                "match_all_roles": { "type": "boolean", "default": false, "description": "look at what others than the user say, too" },
                "match_all_conversation_history": { "type": "boolean", "default": false, "description": "look at all messages, not at the last one only" },
                "allow_patterns": { "type": "array", "items": { "type": "string" }, "default": [], "description": "regular expressions (PCRE); if there are some, one must match" },
                "deny_patterns": { "type": "array", "items": { "type": "string" }, "default": [], "description": "none of these may match" },
                "fail_mode": { "type": "string", "enum": ["skip", "warn", "error"], "default": "skip", "description": "a request that is of no protocol for models passes, passes with a warning, or is refused" }
              }
            }
            """,
        Summary: """
            Lets only prompts pass that match patterns, or do not. It looks at the text of the last message (of all with `match_all_conversation_history`; of responses always at all) that the user wrote. **It needs the
            whole request body**: the upstream waits until it is complete.
            """)
    {
        Example = """
            ```json
            {"ai-prompt-guard": {"deny_patterns": ["(?i)ignore (all )?previous instructions"]}}
            ```

            A prompt that says so is answered `400 {"message":"Request contains prohibited content"}`.
            """,
    };

    public sealed record Config(
        string[]? AllowPatterns = null, string[]? DenyPatterns = null, bool MatchAllRoles = false, bool MatchAllConversationHistory = false,
        string FailMode = "skip", int MaxReqBodySize = 64 * 1024 * 1024);

    const int LongestReason = 256;

    readonly Config _config;
    readonly Pattern[] _allowed;
    readonly Pattern[] _denied;
    readonly ILogger _logger;

    AiPromptGuard(Config config, PluginContext context)
    {
        _config = config;
        _allowed = Parse(config.AllowPatterns, "allow_pattern");
        _denied = Parse(config.DenyPatterns, "deny_pattern");
        _logger = context.Services.Loggers.CreateLogger<AiPromptGuard>();
    }

    static Pattern[] Parse(string[]? patterns, string name) => [.. (patterns ?? []).Select(pattern =>
    {
        try
        {
            return Pattern.Parse(pattern);
        }
        catch (FormatException e)
        {
            throw new ConfigException($"invalid {name}: {pattern} ({e.Message})");
        }
    })];

    public static JsonTypeInfo<Config> ConfigType => AiPromptGuardJson.Default.Config;

    public static AiPromptGuard Create(Config config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes => _config.MaxReqBodySize;

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        ReadOnlyMemory<byte> bytes = default;
        try
        {
            bytes = await exchange.Body.ReadAsync(_config.MaxReqBodySize);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            exchange.Response.Headers.Connection = "close";
        }
        if (bytes.IsEmpty)
        {
            LogEmpty();
            return Answer.Message(400, "Empty request body");
        }
        JsonNode? parsed;
        try
        {
            parsed = CjsonReader.Parse(bytes.Span);
        }
        catch (JsonTextException e)
        {
            return Unsupported($"request body is not valid JSON: {e.Message}", e.Message);
        }
        return parsed is JsonObject body && AiProtocols.Detect(exchange.Uri, body) is { } protocol and not Passthrough
            ? Check(Selected(protocol, body))
            : Unsupported("request body does not match any supported AI protocol", "Request format not recognized by ai-prompt-guard");
    }

    List<AiMessage> Selected(AiProtocol protocol, JsonObject body)
    {
        List<AiMessage> messages = [.. protocol.Messages(body)];
        if (!_config.MatchAllConversationHistory && protocol is not OpenAiResponses && messages.Count > 1)
        {
            messages.RemoveRange(0, messages.Count - 1);
        }
        if (!_config.MatchAllRoles)
        {
            messages.RemoveAll(static message => message.Role != "user");
        }
        return messages;
    }

    Answer? Check(List<AiMessage> messages)
    {
        if (messages.Count == 0)
        {
            return new(200);
        }
        var text = string.Join(' ', messages.Select(message => message.Content));
        if (_allowed.Length > 0 && !Array.Exists(_allowed, pattern => pattern.Finds(text)))
        {
            return Answer.Message(400, "Request doesn't match allow patterns");
        }
        return Array.Exists(_denied, pattern => pattern.Finds(text)) ? Answer.Message(400, "Request contains prohibited content") : null;
    }

    Answer? Unsupported(string reason, string message)
    {
        if (_config.FailMode == "error")
        {
            return Answer.Message(400, message);
        }
        reason = string.Concat((reason.Length > LongestReason ? reason[..LongestReason] : reason).Select(letter => char.IsControl(letter)
            ? ' ' : letter));
        if (_config.FailMode == "warn")
        {
            LogWarned(reason);
        }
        else
        {
            LogSkipped(reason);
        }
        return null;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Empty request body")]
    partial void LogEmpty();

    [LoggerMessage(Level = LogLevel.Information, Message = "ai-prompt-guard skipped: {Reason}")]
    partial void LogSkipped(string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "ai-prompt-guard skipped: {Reason}")]
    partial void LogWarned(string reason);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(AiPromptGuard.Config))]
sealed partial class AiPromptGuardJson : JsonSerializerContext;

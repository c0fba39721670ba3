using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Ai;
using Sluice.Ai.Protocols;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Ai;

/// <summary>Lets a language model rewrite requests' bodies.</summary>
internal sealed partial class AiRequestRewrite : IPlugin<AiRequestRewrite, JsonObject>, IAccess, INeedsRequestBody
{
    public static PluginInfo Info { get; } = new(
        Name: "ai-request-rewrite",
        Priority: 1073,
        Schema: $$"""
            {
              "type": "object",
              "required": ["prompt", "provider", "auth"],
              "properties": {
                {{PromptBody.LimitSchema}},
                "prompt": { "type": "string", "description": "what the model is to do with the body" },
                "provider": {
                  "type": "string",
                  "enum": ["openai", "deepseek", "aimlapi", "anthropic", "openai-compatible", "azure-openai", "openrouter", "gemini", "vertex-ai", "bedrock"]
                },
                "auth": {
                  "type": "object",
                  "properties": {
                    "header": { "type": "object", "patternProperties": { "^[a-zA-Z0-9._-]+$": { "type": "string" } } },
                    "query": { "type": "object", "patternProperties": { "^[a-zA-Z0-9._-]+$": { "type": "string" } } }
                  },
                  "additionalProperties": false
                },
                "options": { "type": "object", "properties": { "model": { "type": "string" } }, "additionalProperties": true, "description": "properties of the request to the model" },
                "timeout": { "type": "integer", "minimum": 1, "maximum": 60000, "default": 30000, "description": "milliseconds for all of the call" },
                "keepalive": { "type": "boolean", "default": true },
                "keepalive_pool": { "type": "integer", "minimum": 1, "default": 30 },
                "ssl_verify": { "type": "boolean", "default": true },
                "override": { "type": "object", "properties": { "endpoint": { "type": "string", "description": "where the provider is" } } }
              }
            }
            """,
        Summary: """
            Lets a language model rewrite requests' bodies: it gets `prompt` and the body, and its text is the body that goes on. Nothing else of the request is told to it. When it fails, the request is answered 500.
            **It needs the whole request body**, and the model's whole answer: the upstream waits for both.
            """)
    {
        Example = """
            ```json
            {"ai-request-rewrite": {"prompt": "Replace names of persons in this JSON by ***.", "provider": "openai", "auth": {"header": {"Authorization": "$env://OPENAI_AUTHORIZATION"}}, "options": {"model": "gpt-4o-mini"}}}
            ```

            The upstream gets the body as the model has written it.
            """,
    };

    const int MostBytes = 16 * 1024 * 1024;

    readonly string _prompt;
    readonly AiInstance _instance;
    readonly OutgoingOptions _options;
    readonly OutgoingHttp _http;
    readonly ILogger _logger;

    AiRequestRewrite(JsonObject config, PluginContext context)
    {
        if ((string?)config["provider"] == "openai-compatible" && config["override"]?["endpoint"] is null)
        {
            throw new ConfigException("override.endpoint is required for openai-compatible provider");
        }
        var settings = AiSettings.Of(context);
        _prompt = (string)config["prompt"]!;
        _instance = new("ai-request-rewrite", config, settings, context);
        MaxRequestBodyBytes = settings.MaxReqBodySize;
        _options = new()
        {
            Timeout = TimeSpan.FromMilliseconds(settings.Timeout),
            ConnectTimeout = TimeSpan.FromMilliseconds(settings.Timeout),
            MaxResponseBytes = MostBytes,
            Tls = settings.SslVerify ? OutgoingTls.Verified : OutgoingTls.Unverified,
            KeepAlive = settings.Keepalive,
        };
        _http = context.Services.Http;
        _logger = context.Services.Loggers.CreateLogger<AiRequestRewrite>();
    }

    public static JsonTypeInfo<JsonObject> ConfigType => AiRequestRewriteJson.Default.JsonObject;

    public static AiRequestRewrite Create(JsonObject config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes { get; }

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        ReadOnlyMemory<byte> body = default;
        try
        {
            body = await exchange.Body.ReadAsync(MaxRequestBodyBytes);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            exchange.Response.Headers.Connection = "close";
            LogNoBody(e.Message);
        }
        if (body.IsEmpty)
        {
            LogNoBody("missing request body");
            return Answer.Bare(400);
        }
        if (await AskAsync(Encoding.UTF8.GetString(body.Span), exchange.ClientGone) is not { } text)
        {
            return Answer.Bare(500);
        }
        exchange.Body.Replace(Encoding.UTF8.GetBytes(text));
        return null;
    }

    /// <summary>What the model makes of the body; null when it fails.</summary>
    async Task<string?> AskAsync(string body, CancellationToken cancellation)
    {
        var prompt = new JsonObject
        {
            ["messages"] = new JsonArray(Message("system", _prompt), Message("user", body)),
            ["stream"] = false,
        };
        var speech = _instance.Provider.In(AiProtocols.Chat.Name);
        _instance.Change(prompt, speech, AiProtocols.Chat);
        if (_instance.TargetOf(speech, _instance.ModelOf(prompt), null) is not { } target)
        {
            LogFailed("the provider's path is not known");
            return null;
        }
        try
        {
            using var request = OutgoingHttp.Request("POST", _instance.Origin + target, AiCall.Sorted(prompt), "application/json",
                _instance.Headers);
            using var response = await _http.SendAsync(request, _options, cancellation);
            if (response.Status != 200)
            {
                LogStatus(response.Status);
                return null;
            }
            using var answer = JsonDocument.Parse(response.Body);
            var facts = new AiFacts { Text = new() };
            AiProtocols.Chat.See(answer.RootElement, facts);
            if (facts.Text.Length == 0
                && !(answer.RootElement.ValueKind == JsonValueKind.Object && answer.RootElement.TryGetProperty("choices", out _)))
            {
                LogFailed("there is no text in the response");
                return null;
            }
            return facts.Text.ToString();
        }
        catch (Exception e) when (e is OutgoingException or JsonException)
        {
            LogFailed(e.Message);
            return null;
        }

        static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "failed to get request body: {Error}")]
    partial void LogNoBody(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to request LLM: {Error}")]
    partial void LogFailed(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "LLM service returned error status: {Status}")]
    partial void LogStatus(int status);
}

[JsonSerializable(typeof(JsonObject))]
sealed partial class AiRequestRewriteJson : JsonSerializerContext;

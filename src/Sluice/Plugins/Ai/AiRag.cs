using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Sluice.Ai.Protocols;
using Sluice.Model.Json;
using Sluice.Net;
using Sluice.Pipeline;

namespace Sluice.Plugins.Ai;

/// <summary>Adds what a vector search finds to a prompt.</summary>
internal sealed partial class AiRag : IPlugin<AiRag, AiRag.Config>, IAccess, INeedsRequestBody
{
    const string Service =
        """{ "type": "object", "required": ["endpoint", "api_key"], "properties": { "endpoint": { "type": "string" }, "api_key": { "type": "string" } } }""";

    public static PluginInfo Info { get; } = new(
        Name: "ai-rag",
        Priority: 1060,
        Schema: $$"""
            {
              "type": "object",
              "required": ["embeddings_provider", "vector_search_provider"],
              "properties": {
                "ssl_verify": { "type": "boolean", "default": true },
                "embeddings_provider": { "type": "object", "required": ["azure_openai"], "maxProperties": 1, "properties": { "azure_openai": {{Service}} } },
                "vector_search_provider": { "type": "object", "required": ["azure_ai_search"], "maxProperties": 1, "properties": { "azure_ai_search": {{Service}} } }
              },
              "encrypt_fields": ["embeddings_provider.azure_openai.api_key", "vector_search_provider.azure_ai_search.api_key"]
            }
            """,
        Summary: """
            Adds what a vector search finds to a prompt, as a message of the user. The request says in `ai_rag` what is searched: `embeddings.input` is made a vector by Azure OpenAI, with which Azure AI Search looks into
            `vector_search.fields`; `ai_rag` is taken out. **It needs the whole request body**: the upstream waits for it and for both services.
            """)
    {
        Example = """
            ```json
            {"ai-rag": {
              "embeddings_provider": {"azure_openai": {"endpoint": "https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT/embeddings?api-version=2023-05-15", "api_key": "$env://EMBEDDINGS_KEY"}},
              "vector_search_provider": {"azure_ai_search": {"endpoint": "https://NAME.search.windows.net/indexes/INDEX/docs/search?api-version=2024-07-01", "api_key": "$env://SEARCH_KEY"}}}}
            ```

            `{"ai_rag": {"embeddings": {"input": "who signs?"}, "vector_search": {"fields": "contentVector"}}, "messages": […]}` reaches the model with the search's answer as the last message.
            """,
    };

    public sealed record ServiceConfig(string Endpoint, string ApiKey);

    public sealed record EmbeddingsConfig(ServiceConfig AzureOpenai);

    public sealed record SearchConfig(ServiceConfig AzureAiSearch);

    public sealed record Config(EmbeddingsConfig EmbeddingsProvider, SearchConfig VectorSearchProvider, bool SslVerify = true);

    const int MostBytes = 16 * 1024 * 1024;

    readonly Config _config;
    readonly OutgoingHttp _http;
    readonly OutgoingOptions _options;
    readonly ILogger _logger;

    AiRag(Config config, PluginContext context)
    {
        _config = config;
        _http = context.Services.Http;
        _options = new() { MaxResponseBytes = MostBytes, Tls = config.SslVerify ? OutgoingTls.Verified : OutgoingTls.Unverified };
        _logger = context.Services.Loggers.CreateLogger<AiRag>();
        foreach (var service in (ServiceConfig[])[config.EmbeddingsProvider.AzureOpenai, config.VectorSearchProvider.AzureAiSearch])
        {
            if (!Uri.TryCreate(service.Endpoint, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https"))
            {
                throw new ConfigException($"endpoint \"{service.Endpoint}\" is no http or https URL");
            }
        }
    }

    public static JsonTypeInfo<Config> ConfigType => AiRagJson.Default.Config;

    public static AiRag Create(Config config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes => 64 * 1024 * 1024;

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var (body, refusal) = await PromptBody.ReadAsync(exchange, MaxRequestBodyBytes);
        if (body is null)
        {
            return refusal;
        }
        var rag = body["ai_rag"] as JsonObject;
        if (rag?["embeddings"] is not JsonObject embeddings || !IsText(embeddings["input"]) || rag["vector_search"] is not JsonObject search
            || !IsText(search["fields"]))
        {
            LogWrongBody();
            return Answer.Bare(400);
        }
        var (found, failure) = await AskAsync(_config.EmbeddingsProvider.AzureOpenai, embeddings, "could not get embeddings",
            exchange.ClientGone);
        if (found is null)
        {
            return failure;
        }
        if (VectorOf(found) is not { } vector)
        {
            LogFailed("could not get embeddings", "there is no vector in the response");
            return Answer.Text(500, found);
        }
        var query = new JsonObject
        {
            ["vectorQueries"] = new JsonArray(
                new JsonObject { ["kind"] = "vector", ["vector"] = vector, ["fields"] = (string)search["fields"]! }),
        };
        (found, failure) = await AskAsync(_config.VectorSearchProvider.AzureAiSearch, query, "could not get vector_search result",
            exchange.ClientGone);
        if (found is null)
        {
            return failure;
        }
        body.Remove("ai_rag");
        (AiProtocols.Detect(exchange.Uri, body) ?? AiProtocols.Chat).Append(body, [new("user", found)]);
        PromptBody.Replace(exchange, body);
        return null;
    }

    static bool IsText(JsonNode? node) => node is JsonValue value && value.TryGetValue(out string? _);

    /// <summary>The first vector of a response; null when there is none.</summary>
    static JsonNode? VectorOf(string response)
    {
        try
        {
            return CjsonReader.Parse(Encoding.UTF8.GetBytes(response)) is JsonObject answer
                && answer["data"] is JsonArray { Count: > 0 } list && list[0] is JsonObject first
                ? (first["embedding"] as JsonArray)?.DeepClone() : null;
        }
        catch (JsonTextException)
        {
            return null;
        }
    }

    async Task<(string? Text, Answer? Failure)> AskAsync(ServiceConfig service, JsonObject body, string failed,
        CancellationToken cancellation)
    {
        try
        {
            using var request = OutgoingHttp.Request(
                "POST", service.Endpoint, Encoding.UTF8.GetBytes(JsonBytes.Text(body)), "application/json",
                [KeyValuePair.Create("api-key", service.ApiKey)]);
            using var response = await _http.SendAsync(request, _options, cancellation);
            if (response.Status == 200)
            {
                return (response.Text, null);
            }
            LogFailed(failed, response.Text);
            return (null, Answer.Text(response.Status, response.Text));
        }
        catch (OutgoingException e)
        {
            LogFailed(failed, e.Message);
            return (null, Answer.Text(500, e.Message));
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "request body must have \"ai_rag\" with embeddings.input and vector_search.fields")]
    partial void LogWrongBody();

    [LoggerMessage(Level = LogLevel.Error, Message = "{What}: {Error}")]
    partial void LogFailed(string what, string error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(AiRag.Config))]
sealed partial class AiRagJson : JsonSerializerContext;

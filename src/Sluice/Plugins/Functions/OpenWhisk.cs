using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sluice.Model.Json;
using Sluice.Net;
using Sluice.Pipeline;
using Sluice.Plugins.Auth;

namespace Sluice.Plugins.Functions;

/// <summary>Answers requests with an action of OpenWhisk.</summary>
internal sealed partial class OpenWhisk : IPlugin<OpenWhisk, OpenWhisk.Config>, IAccess, INeedsRequestBody
{
    const string Name = """ "type": "string", "maxLength": 256, "pattern": "\\A([\\w]|[\\w][\\w@ .-]*[\\w@.-]+)\\z" """;

    public static PluginInfo Info { get; } = new(
        Name: "openwhisk",
        Priority: -1901,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "max_req_body_size": { "type": "integer", "minimum": 1, "default": 67108864, "description": "bytes; larger bodies are answered 413" },
                "api_host": { "type": "string", "description": "address of OpenWhisk's API: https://openwhisk.example" },
                "service_token": { "type": "string", "description": "user:password, sent as Authorization: Basic" },
                "namespace": { {{Name}}, "description": "namespace of the action" },
                "package": { {{Name}}, "description": "package of the action, if it is in one" },
                "action": { {{Name}}, "description": "name of the action" },
                "result": { "type": "boolean", "default": true, "description": "only what the action returns, without what OpenWhisk says of its run" },
                {{AuthService.Schema}}
              },
              "required": ["api_host", "service_token", "namespace", "action"],
              "encrypt_fields": ["service_token"]
            }
            """,
        Summary: """
            Answers requests with an action of OpenWhisk, which gets the request's body (JSON) as its parameters and is waited for. What it returns is the body of the answer; an object with `statusCode`, `headers`, `body` says them
            all. An OpenWhisk that cannot be reached, does not answer in time or not in JSON is a 503.
            """)
    {
        Warnings = static (config, _) => AuthService.Warnings("openwhisk", config, "api_host"),
        Example = """
            ```json
            {"openwhisk": {"api_host": "https://openwhisk.example", "service_token": "$env://WHISK_TOKEN", "namespace": "guest", "action": "hello"}}
            ```
            """,
    };

    public sealed record Config(
        string ApiHost, string ServiceToken, string Namespace, string Action, string? Package = null, bool Result = true,
        int MaxReqBodySize = 64 << 20, bool SslVerify = true,
        long Timeout = 3000, bool Keepalive = true, long KeepaliveTimeout = 60000);

    const int MaxAnswer = 64 << 20;

    readonly string _url;
    readonly KeyValuePair<string, string>[] _headers;
    readonly OutgoingHttp _http;
    readonly OutgoingOptions _options;
    readonly ILogger _logger;

    OpenWhisk(Config config, PluginContext context)
    {
        AuthService.CheckUrl("api_host", config.ApiHost);
        var package = config.Package is { } name ? Uri.EscapeDataString(name) + "/" : "";
        _url = string.Create(CultureInfo.InvariantCulture,
            $"{config.ApiHost}/api/v1/namespaces/{Uri.EscapeDataString(config.Namespace)}/actions/{package}{Uri.EscapeDataString(config.Action)}")
            + string.Create(CultureInfo.InvariantCulture,
                $"?blocking=true&result={(config.Result ? "true" : "false")}&timeout={config.Timeout}");
        _headers = [new("Authorization", $"Basic {Convert.ToBase64String(Encoding.UTF8.GetBytes(config.ServiceToken))}")];
        (MaxRequestBodyBytes, _http, _logger) = (config.MaxReqBodySize, context.Services.Http,
            context.Services.Loggers.CreateLogger<OpenWhisk>());
        _options = AuthService.Options(config.SslVerify, config.Timeout, config.Keepalive,
            config.KeepaliveTimeout) with { MaxResponseBytes = MaxAnswer };
    }

    public static JsonTypeInfo<Config> ConfigType => OpenWhiskJson.Default.Config;

    public static OpenWhisk Create(Config config, PluginContext context) => new(config, context);

    public int MaxRequestBodyBytes { get; }

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        ReadOnlyMemory<byte> body;
        try
        {
            body = await exchange.Body.ReadAsync(MaxRequestBodyBytes);
        }
        catch (BadHttpRequestException e) when (e.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            LogBody(e.Message);
            throw;
        }
        try
        {
            using var request = OutgoingHttp.Request("POST", _url, body, "application/json", _headers);
            using var response = await _http.SendAsync(request, _options, exchange.ClientGone);
            return AnswerOf(response);
        }
        catch (OutgoingException e)
        {
            LogFailure(e.Message);
            return Answer.Bare(503);
        }
    }

    Answer AnswerOf(OutgoingResponse response)
    {
        if (response.Body.IsEmpty && response.Status is 202 or 204)
        {
            return new(response.Status);
        }
        JsonNode? result;
        try
        {
            result = CjsonReader.Parse(response.Body.Span);
        }
        catch (JsonTextException e)
        {
            LogAnswer(e.Message);
            return Answer.Bare(503);
        }
        if (result is not JsonObject said)
        {
            return new(response.Status, response.Body.ToArray(), Answer.PlainText);
        }
        var status = said["statusCode"] is JsonValue code && code.GetValueKind() == JsonValueKind.Number ? (int)LuaText.ToDouble(code)
            : response.Status;
        if (status is < 200 or > 599)
        {
            LogAnswer($"statusCode {status} is none of an answer");
            return Answer.Bare(503);
        }
        var answer = said["body"] switch
        {
            null => new Answer(status, response.Body.ToArray(), Answer.PlainText),
            JsonValue text when text.TryGetValue(out string? written) => Answer.Text(status, written!),
            var other =>
                new Answer(status, Encoding.UTF8.GetBytes(JsonBytes.Text(other) + (other is JsonValue ? "" : "\n")), Answer.PlainText),
        };
        foreach (var (name, value) in said["headers"] as JsonObject ?? [])
        {
            foreach (var one in value is JsonArray several ? several : [value?.DeepClone()])
            {
                if (one is JsonValue)
                {
                    answer = AuthService.With(answer, name, one.ToString());
                }
            }
        }
        return answer;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to get request body: {Error}")]
    partial void LogBody(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to process openwhisk action, err: {Error}")]
    partial void LogFailure(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to parse openwhisk response data: {Error}")]
    partial void LogAnswer(string error);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(OpenWhisk.Config))]
sealed partial class OpenWhiskJson : JsonSerializerContext;

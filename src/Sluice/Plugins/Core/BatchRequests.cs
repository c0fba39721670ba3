using System.Buffers;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.WebUtilities;
using Sluice.Model.Json;
using Sluice.Model.Schema;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Core;

/// <summary>An API that takes several requests in one and answers with all their answers.</summary>
internal sealed class BatchRequests : IPlugin<BatchRequests, BatchRequests.Config>, IPluginApi
{
    const int DefaultMaxBody = 1024 * 1024;
    const int DefaultMaxRequests = 1000;

    public static PluginInfo Info { get; } = new(
        Name: "batch-requests",
        Priority: 4010,
        Schema: """{ "type": "object", "additionalProperties": false }""",
        Summary: """
            Offers `POST /apisix/batch-requests`: several requests in one JSON body, run one after the other through the gateway, and their answers in one
            JSON array. It is reached through a route with the plugin `public-api`. The requests get the headers of the outer one (except
            `content-*`) and those in `headers`, unless they have their own. A request that takes longer than `timeout` (milliseconds, 30 s) or whose answer is larger
            than 10 MiB gets status 504. A batch within a batch is refused.
            """)
    {
        MetadataSchema = """
            {
              "type": "object",
              "properties": {
                "max_body_size": { "type": "integer", "exclusiveMinimum": 0, "default": 1048576, "description": "the largest batch in bytes" },
                "max_pipeline_items": { "type": "integer", "exclusiveMinimum": 0, "default": 1000, "description": "how many requests a batch may have" }
              },
              "additionalProperties": false
            }
            """,
        Scope = "global",
        Apis = [new("POST", "/apisix/batch-requests", RunAsync, UriAttribute: "uri")],
        Example = """
            The route `{"uri": "/apisix/batch-requests", "plugins": {"public-api": {}}}`, then

            ```json
            {"headers": {"apikey": "auth-one"}, "timeout": 500, "pipeline": [
              {"method": "GET", "path": "/one", "query": {"page": 1}},
              {"method": "POST", "path": "/two", "body": "text"}
            ]}
            ```

            is answered `[{"status":200,"reason":"OK","headers":{…},"body":"…"},{"status":200,…}]`.
            """,
    };

    static readonly JsonSchema BatchSchema = JsonSchema.Compile(JsonNode.Parse(
        """
        {
          "type": "object",
          "properties": {
            "query": { "type": "object" },
            "headers": { "type": "object" },
            "timeout": { "type": "integer", "default": 30000, "minimum": 1, "maximum": 3600000 },
            "pipeline": {
              "type": "array",
              "minItems": 1,
              "items": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                  "version": { "type": "number", "enum": [1.0, 1.1], "default": 1.1 },
                  "method": { "type": "string", "enum": ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"], "default": "GET" },
                  "path": { "type": "string", "minLength": 1 },
                  "query": { "type": "object" },
                  "headers": { "type": "object" },
                  "body": { "type": "string" },
                  "ssl_verify": { "type": "boolean", "default": false }
                },
                "required": ["path"]
              }
            }
          },
          "anyOf": [ { "required": ["pipeline"] } ]
        }
        """)!);

    public sealed record Config;

    public static JsonTypeInfo<Config> ConfigType => BatchRequestsJson.Default.Config;

    public static BatchRequests Create(Config config, PluginContext context) => new();

    static async ValueTask<Answer> RunAsync(Exchange exchange)
    {
        if (InnerRequest.Is(exchange))
        {
            return Answer.ErrorMessage(400, "a batch cannot contain a batch");
        }
        var metadata = exchange.Snapshot.Documents.Find(Model.ResourceKind.PluginMetadata, Info.Name)?.Value;
        var max = metadata?["max_body_size"] is { } size ? (int)LuaText.ToDouble(size) : DefaultMaxBody;
        var (text, length) = await ReadAsync(exchange.Request, max);
        if (text is null)
        {
            return Answer.ErrorMessage(413, $"request size {length} is greater than the maximum size {max} allowed");
        }
        if (text.Length == 0)
        {
            return Answer.ErrorMessage(400, "no request body, you should give at least one pipeline setting");
        }
        JsonNode? parsed;
        try
        {
            parsed = CjsonReader.Parse(text);
        }
        catch (JsonTextException e)
        {
            return Answer.ErrorMessage(400, $"invalid request body: {Encoding.UTF8.GetString(text)}, err: {e.Message}");
        }
        if (BatchSchema.Validate(parsed) is { } error)
        {
            return Answer.ErrorMessage(400, $"bad request body: {error}");
        }
        var (requests, maxRequests) = (parsed!["pipeline"]!.AsArray().Count,
            metadata?["max_pipeline_items"] is { } items ? (int)LuaText.ToDouble(items) : DefaultMaxRequests);
        return requests > maxRequests
            ? Answer.ErrorMessage(400, $"too many pipeline requests, {requests} exceeds the maximum of {maxRequests}")
            : await RunAsync(exchange, parsed.AsObject());
    }

    /// <summary>The body; null, and how long it is as far as that is known, when it is larger.</summary>
    static async ValueTask<(byte[]? Body, long Length)> ReadAsync(HttpRequest request, int max)
    {
        if (request.ContentLength > max)
        {
            return (null, request.ContentLength.Value);
        }
        while (true)
        {
            var read = await request.BodyReader.ReadAsync();
            if (read.Buffer.Length > max)
            {
                var length = read.Buffer.Length;
                request.BodyReader.AdvanceTo(read.Buffer.End);
                return (null, length);
            }
            if (read.IsCompleted)
            {
                var body = read.Buffer.ToArray();
                request.BodyReader.AdvanceTo(read.Buffer.End);
                return (body, body.Length);
            }
            request.BodyReader.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    static async ValueTask<Answer> RunAsync(Exchange exchange, JsonObject batch)
    {
        JsonArray answers = [];
        var timeout = TimeSpan.FromMilliseconds(LuaText.ToDouble(batch["timeout"]!));
        foreach (var item in batch["pipeline"]!.AsArray())
        {
            if (InnerOf(exchange, batch, item!.AsObject()) is not { } inner)
            {
                answers.Add((JsonNode)new JsonObject { ["status"] = 400, ["reason"] = "Bad Request" });
                continue;
            }
            answers.Add((JsonNode)(await inner.RunAsync(exchange, timeout) is { } answer
                ? AsJson(answer)
                : new JsonObject { ["status"] = 504, ["reason"] = "upstream timeout" }));
            if (exchange.Http.RequestAborted.IsCancellationRequested)
            {
                break;
            }
        }
        return Answer.Json(200, answers, "application/json");
    }

    static JsonObject AsJson(InnerAnswer answer)
    {
        JsonObject headers = [];
        foreach (var (name, values) in answer.Headers)
        {
            headers[name] = values.Count == 1 ? values[0] : new JsonArray([.. values.Select(value => (JsonNode?)value)]);
        }
        var json = new JsonObject { ["status"] = answer.Status, ["reason"] = StatusText.Of(answer.Status), ["headers"] = headers };
        if (answer.Body.Length > 0)
        {
            json["body"] = Encoding.UTF8.GetString(answer.Body.Span);
        }
        return json;
    }

    /// <summary>Null when path or headers cannot stand in a request.</summary>
    static InnerRequest? InnerOf(Exchange exchange, JsonObject batch, JsonObject item)
    {
        var headers = new HeaderDictionary();
        foreach (var (name, value) in (item["headers"] as JsonObject ?? []).Concat(batch["headers"] as JsonObject ?? []))
        {
            if (!HeaderName.IsToken(name) || ValueText(value).AsSpan().ContainsAny("\r\n\0"))
            {
                return null;
            }
            headers.TryAdd(name, ValueText(value));
        }
        foreach (var (name, value) in exchange.Request.Headers)
        {
            if (!name.StartsWith("content-", StringComparison.OrdinalIgnoreCase) && !HopByHop.ContainsOfRequest(name))
            {
                headers.TryAdd(name, value);
            }
        }
        var body = Encoding.UTF8.GetBytes((string?)item["body"] ?? "");
        headers.Remove("Transfer-Encoding");
        headers.ContentLength = body.Length > 0 ? body.Length : null;
        var path = (string?)item["path"] ?? "/";
        return path.Any(c => c <= ' ' || c == 0x7f || c > 0x7e)
            ? null
            : new((string)item["method"]!, Target(path, item["query"] as JsonObject, batch["query"] as JsonObject), headers, body);
    }

    static string Target(string path, JsonObject? own, JsonObject? common)
    {
        var arguments = (own ?? []).Concat((common ?? []).Where(pair => own?.ContainsKey(pair.Key) != true))
            .SelectMany(pair => pair.Value is JsonArray several ? several.Select(value => Argument(pair.Key, value))
                : [Argument(pair.Key, pair.Value)]);
        var query = string.Join('&', arguments);
        return query.Length == 0 ? path : $"{path}{(path.Contains('?', StringComparison.Ordinal) ? '&' : '?')}{query}";
    }

    static string Argument(string name, JsonNode? value) =>
        value?.GetValueKind() == JsonValueKind.True ? WebUtility.UrlEncode(name)
        : $"{WebUtility.UrlEncode(name)}={WebUtility.UrlEncode(ValueText(value))}";

    static string ValueText(JsonNode? value) => value switch
    {
        null => "",
        JsonValue text when text.TryGetValue(out string? plain) => plain,
        JsonValue number when number.GetValueKind() == JsonValueKind.Number => LuaText.Number(LuaText.ToDouble(number)),
        _ => value.ToJsonString(),
    };
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(BatchRequests.Config))]
sealed partial class BatchRequestsJson : JsonSerializerContext;

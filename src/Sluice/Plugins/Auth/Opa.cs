using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Net;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Auth;

/// <summary>Asks an Open Policy Agent whether a request may pass.</summary>
sealed partial class Opa : IPlugin<Opa, Opa.Config>, IAccess
{
    public static PluginInfo Info { get; } = new(
        Name: "opa",
        Priority: 2001,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "host": { "type": "string", "description": "address of the Open Policy Agent" },
                "policy": { "type": "string", "description": "path of the policy, below /v1/data/" },
                {{AuthService.Schema}},
                "send_headers_upstream": { "type": "array", "minItems": 1, "items": { "type": "string" }, "description": "headers of the decision that the upstream gets; the client's own are removed" },
                "with_route": { "type": "boolean", "default": false, "description": "the policy sees the route" },
                "with_service": { "type": "boolean", "default": false, "description": "the policy sees the service" },
                "with_consumer": { "type": "boolean", "default": false, "description": "the policy sees the consumer, its credentials included" }
              },
              "required": ["host", "policy"]
            }
            """,
        Summary: """
            Asks an Open Policy Agent whether a request may pass. The policy's `input` has `request` (scheme, method, host, port, path, headers, query), `var` (addresses and the
            time) and what `with_…` adds; its result `{"allow": true}` lets the request pass, and anything else does not: `status_code`, `headers` and `reason` of the result are the answer then.
            The request's body is never read. The call ends when the client leaves.
            """)
    {
        Warnings = static (config, _) => AuthService.Warnings("opa", config, "host"),
        Example = """
            ```json
            {"opa": {"host": "https://opa.internal:8181", "policy": "example"}}
            ```

            asks `POST https://opa.internal:8181/v1/data/example`. While the agent cannot be asked the answer is 403; 503 when it gives no decision.
            """,
    };

    public sealed record Config(
        string Host, string Policy, bool SslVerify = true, long Timeout = 3000, bool Keepalive = true, long KeepaliveTimeout = 60000,
        string[]? SendHeadersUpstream = null, bool WithRoute = false, bool WithService = false, bool WithConsumer = false);

    readonly Config _config;
    readonly OutgoingHttp _http;
    readonly OutgoingOptions _options;
    readonly TimeProvider _time;
    readonly ILogger _logger;
    readonly string _endpoint;

    Opa(Config config, PluginContext context)
    {
        _endpoint = $"{config.Host}/v1/data/{config.Policy}";
        AuthService.CheckUrl("host", config.Host);
        AuthService.CheckUrl("policy", _endpoint);
        (_config, _http, _time) = (config, context.Services.Http, context.Services.Time);
        _options = AuthService.Options(config.SslVerify, config.Timeout, config.Keepalive, config.KeepaliveTimeout);
        _logger = context.Services.Loggers.CreateLogger<Opa>();
    }

    public static JsonTypeInfo<Config> ConfigType => OpaJson.Default.Config;

    public static Opa Create(Config config, PluginContext context) => new(config, context);

    public async ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        OutgoingResponse response;
        try
        {
            var input = JsonBytes.Write(writer => new JsonObject { ["input"] = Input(exchange) }.WriteTo(writer));
            using var request = OutgoingHttp.Request("POST", _endpoint, input, "application/json");
            response = await _http.SendAsync(request, _options, exchange.ClientGone);
        }
        catch (OutgoingException e)
        {
            LogFailure(e.Message);
            return Answer.Bare(403);
        }
        using (response)
        {
            return Decide(exchange, response);
        }
    }

    JsonObject Input(Exchange exchange)
    {
        var input = new JsonObject
        {
            ["type"] = "http",
            ["request"] = new JsonObject
            {
                ["scheme"] = exchange.Get("scheme"),
                ["method"] = exchange.Request.Method,
                ["host"] = exchange.Get("host"),
                ["port"] = exchange.Http.Connection.LocalPort,
                ["path"] = exchange.Uri,
                ["headers"] = Headers(exchange),
                ["query"] = Query(exchange.Args),
            },
            ["var"] = new JsonObject
            {
                ["server_addr"] = exchange.Get("server_addr"),
                ["server_port"] = exchange.Get("server_port"),
                ["remote_addr"] = exchange.Get("remote_addr"),
                ["remote_port"] = exchange.Get("remote_port"),
                ["timestamp"] = _time.GetUtcNow().ToUnixTimeSeconds(),
            },
        };
        Add("route", _config.WithRoute ? Stored(exchange, ResourceKind.Routes, exchange.Route?.Id) : null);
        Add("service", _config.WithService ? Stored(exchange, ResourceKind.Services, exchange.Route?.Service?.Id) : null);
        Add("consumer", _config.WithConsumer ? new ScriptConsumers(exchange).Attached : null);
        return input;

        void Add(string name, JsonNode? value)
        {
            if (value is not null)
            {
                input[name] = value;
            }
        }
    }

    static JsonObject Headers(Exchange exchange)
    {
        var headers = new JsonObject();
        foreach (var (name, values) in exchange.Request.Headers)
        {
            headers[name.ToLowerInvariant()] = values.Count == 1 ? Text(values[0])
                : new JsonArray([.. values.Select(value => (JsonNode?)Text(value))]);
        }
        return headers;

        static string Text(string? wire) => Encoding.UTF8.GetString(Encoding.Latin1.GetBytes(wire ?? ""));
    }

    /// <summary>As APISIX shows arguments: a list when there are several of a name, true when there is no value.</summary>
    static JsonObject Query(string args)
    {
        var query = new JsonObject();
        foreach (var pair in args.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            var name = WebUtility.UrlDecode(equals < 0 ? pair : pair[..equals]);
            JsonNode value = equals < 0 ? JsonValue.Create(true) : JsonValue.Create(WebUtility.UrlDecode(pair[(equals + 1)..]));
            switch (query[name])
            {
                case null:
                    query[name] = value;
                    break;
                case JsonArray several:
                    several.Add(value);
                    break;
                case var first:
                    query.Remove(name);
                    query[name] = new JsonArray(first, value);
                    break;
            }
        }
        return query;
    }

    static JsonObject? Stored(Exchange exchange, ResourceKind kind, string? id)
    {
        if (id is null || exchange.Snapshot.Documents.Find(kind, id) is not { } document)
        {
            return null;
        }
        var stored = document.Value.DeepClone().AsObject();
        stored.Remove("upstream");
        stored["id"] = id;
        return stored;
    }

    Answer? Decide(Exchange exchange, OutgoingResponse response)
    {
        JsonNode? parsed;
        try
        {
            parsed = CjsonReader.Parse(response.Body.Span);
        }
        catch (JsonTextException e)
        {
            LogInvalid(response.Text, e.Message);
            return Answer.Bare(503);
        }
        if (parsed is not JsonObject data || data["result"] is not JsonObject result)
        {
            LogNoDecision(response.Text);
            return Answer.Bare(503);
        }
        var headers = result["headers"] as JsonObject;
        if (result["allow"] is not JsonValue allow || LuaText.Kind(allow) != JsonValueKind.True)
        {
            return Refusal(result, headers);
        }
        foreach (var name in _config.SendHeadersUpstream ?? [])
        {
            AuthService.Tell(exchange, name, headers is null ? default : Values(headers[name]));
        }
        return null;
    }

    static Answer Refusal(JsonObject result, JsonObject? headers)
    {
        var status = result["status_code"] is JsonValue code && LuaText.Kind(code) == JsonValueKind.Number
            && LuaText.ToDouble(code) is >= 200 and <= 599 and var number ? (int)number : 403;
        var answer = result["reason"] switch
        {
            JsonValue value when LuaText.Kind(value) == JsonValueKind.String => Answer.Text(status, (string)value!),
            JsonValue value when LuaText.Kind(value) == JsonValueKind.Number =>
                Answer.Text(status, LuaText.Number(LuaText.ToDouble(value))),
            { } reason and not JsonValue => Answer.Text(status, JsonBytes.Text(reason)),
            _ => Answer.Bare(status),
        };
        foreach (var (name, value) in headers ?? [])
        {
            foreach (var one in Values(value))
            {
                answer = AuthService.With(answer, name, one!);
            }
        }
        return answer;
    }

    /// <summary>What a decision says of a header: a text, a number, or a list of them.</summary>
    static StringValues Values(JsonNode? value) => value switch
    {
        JsonArray several => new StringValues([.. several.OfType<JsonValue>().Select(Text)]),
        JsonValue one => Text(one),
        _ => default,
    };

    static string Text(JsonValue value) =>
        LuaText.Kind(value) == JsonValueKind.Number ? LuaText.Number(LuaText.ToDouble(value)) : ByteText.ToWire(value.ToString());

    [LoggerMessage(Level = LogLevel.Error, Message = "failed to process OPA decision, err: {Error}")]
    partial void LogFailure(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "invalid response body: {Body} err: {Error}")]
    partial void LogInvalid(string body, string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "invalid OPA decision format: {Body} err: `result` field does not exist")]
    partial void LogNoDecision(string body);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Opa.Config))]
sealed partial class OpaJson : JsonSerializerContext;

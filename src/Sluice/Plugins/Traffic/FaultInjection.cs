using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Model.Json;
using Sluice.Net.Http;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Delays requests or answers them with an error, so that clients can be tried against it.</summary>
internal sealed class FaultInjection : IPlugin<FaultInjection, FaultInjection.Config>, IRewrite
{
    const string When = """
        "percentage": { "type": "integer", "minimum": 0, "maximum": 100, "description": "of how many requests in a hundred; absent: of all" },
        "vars": { "type": "array", "maxItems": 20, "items": { "type": "array" }, "description": "of requests for which one of these expressions holds" }
        """;

    public static PluginInfo Info { get; } = new(
        Name: "fault-injection",
        Priority: 11000,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "abort": {
                  "type": "object",
                  "properties": {
                    "http_status": { "type": "integer", "minimum": 200, "description": "what the request is answered with" },
                    "body": { "type": "string", "minLength": 0, "description": "may hold variables" },
                    "headers": {
                      "type": "object",
                      "minProperties": 1,
                      "patternProperties": { "^[^:]+$": { "oneOf": [ { "type": "string" }, { "type": "number" } ] } },
                      "description": "headers of the answer; texts may hold variables"
                    },
                    {{When}}
                  },
                  "required": ["http_status"]
                },
                "delay": {
                  "type": "object",
                  "properties": {
                    "duration": { "type": "number", "minimum": 0, "description": "seconds" },
                    {{When}}
                  },
                  "required": ["duration"]
                }
              },
              "minProperties": 1
            }
            """,
        Summary: "Holds requests up (`delay`), or answers them without asking the upstream (`abort`), or both, so that one can see how "
            + "clients take it. It runs before nearly all other plugins.")
    {
        Example = """
            ```json
            {"fault-injection": {"delay": {"duration": 2, "percentage": 10}, "abort": {"http_status": 503, "body": "try later", "vars": [[["arg_fail", "==", "1"]]]}}}
            ```
            """,
    };

    public sealed record Config(AbortConfig? Abort = null, DelayConfig? Delay = null);

    public sealed record AbortConfig(int HttpStatus, string? Body = null, JsonObject? Headers = null, int? Percentage = null,
        [property: JsonConverter(typeof(RulesConverter))] Expression[]? Vars = null);

    public sealed record DelayConfig(double Duration, int? Percentage = null, [property: JsonConverter(typeof(RulesConverter))]
    Expression[]? Vars = null);

    /// <summary>Conditions of which one is enough.</summary>
    internal sealed class RulesConverter : ParsedConverter<Expression[]>
    {
        protected override Expression[] Parse(JsonNode value) => [.. value.AsArray().Select(rule => Expression.Compile(rule!.AsArray()))];
    }

    readonly Config _config;

    FaultInjection(Config config) => _config = config;

    public static JsonTypeInfo<Config> ConfigType => FaultInjectionJson.Default.Config;

    public static FaultInjection Create(Config config, PluginContext context) => new(config);

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        // both are decided before the delay: what the client sees does not change while it waits
        var abort = _config.Abort is { } wanted && Hits(exchange, wanted.Percentage, wanted.Vars) ? wanted : null;
        if (_config.Delay is { Duration: > 0 } delay && Hits(exchange, delay.Percentage, delay.Vars))
        {
            await Task.Delay(TimeSpan.FromSeconds(Math.Min(delay.Duration, int.MaxValue / 1000)), exchange.Services.Time,
                exchange.ClientGone);
        }
        if (abort is null)
        {
            return null;
        }
        var answer = abort.Body is { } body ? Answer.Text(abort.HttpStatus, Template.Expand(body, exchange))
            : Answer.Bare(abort.HttpStatus);
        foreach (var (name, value) in abort.Headers ?? [])
        {
            var text = LuaText.Type(value) == "string" ? Template.ExpandHeader((string)value!, exchange)
                : LuaText.Number(LuaText.ToDouble(value!));
            answer = HeaderName.Is(name, "Content-Type") ? answer with { ContentType = text } : answer.With(name, text);
        }
        return answer;
    }

    static bool Hits(Exchange exchange, int? percentage, Expression[]? when) =>
        (when is null || Array.Exists(when, rule => rule.Matches(exchange)))
        && (percentage is not { } share || Random.Shared.Next(100) < share);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(FaultInjection.Config))]
sealed partial class FaultInjectionJson : JsonSerializerContext;

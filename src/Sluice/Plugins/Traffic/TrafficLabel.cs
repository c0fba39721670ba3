using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Marks requests with headers, by what they are and by weight.</summary>
internal sealed class TrafficLabel : IPlugin<TrafficLabel, TrafficLabel.Config>, IAccess
{
    public static PluginInfo Info { get; } = new(
        Name: "traffic-label",
        Priority: 967,
        Schema: """
            {
              "type": "object",
              "properties": {
                "rules": {
                  "type": "array",
                  "minItems": 1,
                  "items": {
                    "type": "object",
                    "properties": {
                      "match": {
                        "type": "array",
                        "minItems": 1,
                        "description": "the rule is for requests for which this expression holds; absent: for all",
                        "items": { "anyOf": [ { "type": "array" }, { "type": "string" } ] }
                      },
                      "actions": {
                        "type": "array",
                        "minItems": 1,
                        "description": "they take turns by their weights",
                        "items": {
                          "type": "object",
                          "properties": {
                            "set_headers": { "type": "object", "minProperties": 1, "description": "headers for the upstream; values may hold variables" },
                            "weight": { "type": "integer", "default": 1, "minimum": 1 }
                          }
                        }
                      }
                    },
                    "required": ["actions"]
                  }
                }
              },
              "required": ["rules"]
            }
            """,
        Summary: """
            Marks requests with headers for the upstream and for plugins that run later (`traffic-split`), by what they are and by weight. Of the rules that match, the first whose turn has
            headers sets them, and the others are not looked at; a turn with nothing but a weight leaves the request to the next rule.
            """)
    {
        Example = """
            ```json
            {"traffic-label": {"rules": [{"match": [["arg_beta", "==", "1"]], "actions": [{"set_headers": {"X-Release": "new"}, "weight": 3}, {"weight": 7}]}]}}
            ```
            """,
    };

    public sealed record Config(RuleConfig[] Rules);

    public sealed record RuleConfig([property: JsonConverter(typeof(ActionsConverter))]
    ActionConfig[] Actions, [property: JsonConverter(typeof(MatchConverter))] Expression? Match = null);

    public sealed record ActionConfig(int Weight, HeaderChanges? SetHeaders);

    internal sealed class MatchConverter : VarsConverter
    {
        protected override string Describe(JsonNode value, string problem) =>
            $"failed to validate the 'match' expression: {value.ToJsonString(Readable)} err: {problem}";
    }

    internal sealed class ActionsConverter : ParsedConverter<ActionConfig[]>
    {
        protected override ActionConfig[] Parse(JsonNode value) => [.. value.AsArray().Select(action => Parse(action!.AsObject()))];

        static ActionConfig Parse(JsonObject action)
        {
            HeaderChanges? headers = null;
            foreach (var (name, value) in action.Where(one => one.Key != "weight"))
            {
                if (name != "set_headers")
                {
                    throw new FormatException($"not supported action: {name}");
                }
                try
                {
                    headers = value is JsonObject set ? HeaderChanges.Parse(set) : null;
                }
                catch (FormatException e)
                {
                    throw new FormatException($"failed to validate the 'set_headers' action: {e.Message}", e);
                }
            }
            return new(action["weight"] is { } weight ? (int)weight.GetValue<double>() : 1, headers);
        }
    }

    /// <param name="Headers">By turn; null: the turn does nothing.</param>
    sealed record Rule(Expression? When, HeaderChanges?[] Headers, WeightedTurns Turns);

    readonly Rule[] _rules;

    TrafficLabel(Config config, PluginContext context)
    {
        // whose turn it is survives a change of the route
        var turns = context.Share($"traffic-label/{context.Scope}/{context.ConfigHash}", () => (WeightedTurns[])
            [.. config.Rules.Select(rule => new WeightedTurns([.. rule.Actions.Select(action => action.Weight)]))]);
        _rules = [.. config.Rules.Select((rule, index) => new Rule(
            rule.Match,
            [.. rule.Actions.Select(action => action.SetHeaders)],
            turns[index]))];
    }

    public static JsonTypeInfo<Config> ConfigType => TrafficLabelJson.Default.Config;

    static readonly JsonSerializerOptions Readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static TrafficLabel Create(Config config, PluginContext context) => new(config, context);

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        foreach (var rule in _rules)
        {
            if (rule.When?.Matches(exchange) != false && rule.Headers[rule.Turns.Next()] is { } headers)
            {
                headers.Apply(exchange.Request.Headers, template => Template.ExpandHeader(template, exchange));
                break;
            }
        }
        return default;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(TrafficLabel.Config))]
sealed partial class TrafficLabelJson : JsonSerializerContext;

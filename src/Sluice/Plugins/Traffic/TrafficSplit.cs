using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model;
using Sluice.Model.Expressions;
using Sluice.Model.Schema;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Sends shares of a route's requests to other upstreams.</summary>
internal sealed class TrafficSplit : IPlugin<TrafficSplit, TrafficSplit.Config>, IAccess
{
    public static PluginInfo Info { get; } = new(
        Name: "traffic-split",
        Priority: 966,
        Schema: $$"""
            {
              "type": "object",
              "properties": {
                "rules": {
                  "type": "array",
                  "description": "the first one that matches decides",
                  "items": {
                    "type": "object",
                    "properties": {
                      "match": {
                        "type": "array",
                        "description": "the rule is for requests for which one of these holds; absent: for all",
                        "items": { "type": "object", "properties": { "vars": { "type": "array" } } }
                      },
                      "weighted_upstreams": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 20,
                        "default": [ { "weight": 1 } ],
                        "items": {
                          "type": "object",
                          "properties": {
                            "upstream_id": { "anyOf": [ { "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-_.]+$" }, { "type": "integer", "minimum": 1 } ] },
                            "upstream": {{ResourceSchemas.UpstreamText}},
                            "weight": { "description": "how many of the requests, as against the other weights", "type": "integer", "default": 1, "minimum": 0 }
                          }
                        }
                      }
                    }
                  }
                }
              }
            }
            """,
        Summary: """
            Sends shares of a route's requests to other upstreams: for canary releases, blue-green deployments, tests on some users. Of the rules the first that matches
            decides, and its upstreams take turns exactly by their weights; an item without an upstream is the route's own. Upstreams that are written here are upstreams like all others, with health checks,
            retries, TLS and connections of their own (APISIX leaves those out).
            """)
    {
        Example = """
            ```json
            {"traffic-split": {"rules": [
              {"match": [{"vars": [["http_x_release", "==", "new"]]}], "weighted_upstreams": [{"upstream_id": "new"}]},
              {"weighted_upstreams": [{"upstream_id": "new", "weight": 1}, {"weight": 9}]}
            ]}}
            ```

            Who asks for it gets the new release, and one in ten of the others.
            """,
    };

    public sealed record Config(RuleConfig[]? Rules = null);

    public sealed record RuleConfig(MatchConfig[]? Match = null, WeightedConfig[]? WeightedUpstreams = null);

    public sealed record MatchConfig(Expression? Vars = null);

    public sealed record WeightedConfig(JsonNode? UpstreamId = null, JsonObject? Upstream = null, int Weight = 1);

    /// <param name="Targets">Where requests go; null: to the route's own upstream.</param>
    sealed record Rule(Expression?[]? When, ForwardTo?[] Targets, WeightedTurns Turns);

    readonly Rule[] _rules;

    TrafficSplit(Config config, PluginContext context)
    {
        // whose turn it is survives a change of the route
        var turns = context.Share($"traffic-split/{context.Scope}/{context.ConfigHash}", () => (WeightedTurns[])
            [.. (config.Rules ?? []).Select(rule => new WeightedTurns([.. Weighted(rule).Select(one => one.Weight)]))]);
        _rules = [.. (config.Rules ?? []).Select((rule, index) => new Rule(
            rule.Match is { Length: > 0 } match ? [.. match.Select(one => one.Vars)] : null,
            [.. Weighted(rule).Select(one => Target(one, context))],
            turns[index]))];
    }

    static ForwardTo? Target(WeightedConfig one, PluginContext context) =>
        one.UpstreamId is { } id ? new ForwardTo.Named(id.ToString()) : one.Upstream is { } own ? context.Upstreams.Make(own) : null;

    public static JsonTypeInfo<Config> ConfigType => TrafficSplitJson.Default.Config;

    public static TrafficSplit Create(Config config, PluginContext context) => new(config, context);

    static WeightedConfig[] Weighted(RuleConfig rule) => rule.WeightedUpstreams ?? [new()];

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        var (rule, refusal) = Find(exchange);
        return exchange.WantsBody ? AfterBodyAsync(exchange) : new(Choose(exchange, rule, refusal));
    }

    /// <summary>Conditions on the body (<c>post_arg_…</c>) are looked at again once it is there.</summary>
    async ValueTask<Answer?> AfterBodyAsync(Exchange exchange)
    {
        await exchange.ReadBodyVariablesAsync();
        var (rule, refusal) = Find(exchange);
        return Choose(exchange, rule, refusal);
    }

    (Rule? Rule, Answer? Refusal) Find(Exchange exchange)
    {
        foreach (var rule in _rules)
        {
            foreach (var target in rule.Targets)
            {
                if (target is ForwardTo.Named named && named.Find(exchange) is null)
                {
                    return (null, Answer.Text(500, $"failed to fetch upstream info by upstream id: {named.Id}"));
                }
            }
            if (rule.When is null || Array.Exists(rule.When, one => one?.Matches(exchange) != false))
            {
                return (rule, null);
            }
        }
        return default;
    }

    static Answer? Choose(Exchange exchange, Rule? rule, Answer? refusal)
    {
        if (rule is not null)
        {
            exchange.ForwardTo = rule.Turns.Next() is >= 0 and var turn ? rule.Targets[turn] : null;
        }
        return refusal;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(TrafficSplit.Config))]
sealed partial class TrafficSplitJson : JsonSerializerContext;

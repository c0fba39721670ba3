using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sluice.Model.Expressions;
using Sluice.Model.Schema;
using Sluice.Pipeline;

namespace Sluice.Plugins.Traffic;

/// <summary>Refuses or limits requests by what they are.</summary>
internal sealed class Workflow : IPlugin<Workflow, Workflow.Config>, IAccess, ILog
{
    /// <summary>Plugins that can be actions.</summary>
    static readonly string[] Limits = ["limit-count", "limit-conn"];

    static readonly JsonSchema ReturnSchema = JsonSchema.Compile(JsonNode.Parse(
        """{ "type": "object", "properties": { "code": { "type": "integer", "minimum": 100, "maximum": 599 } }, "required": ["code"] }""")!);

    public static PluginInfo Info { get; } = new(
        Name: "workflow",
        Priority: 1006,
        Schema: """
            {
              "type": "object",
              "properties": {
                "rules": {
                  "type": "array",
                  "description": "the first whose case holds decides",
                  "items": {
                    "type": "object",
                    "properties": {
                      "case": { "type": "array", "minItems": 1, "items": { "anyOf": [ { "type": "array" }, { "type": "string" } ] }, "description": "an expression; absent: always" },
                      "actions": { "type": "array", "items": { "type": "array", "minItems": 1 }, "description": "[name, configuration]; the first one runs" }
                    },
                    "required": ["actions"]
                  }
                }
              },
              "required": ["rules"]
            }
            """,
        Summary: """
            Runs an action for requests of a kind: `return` answers with a status, `limit-count` and `limit-conn` are those plugins, with counts of their own for each rule. The first rule whose `case` holds
            decides, and what the route has of the same limiting plugin does not run for that request.
            """)
    {
        Example = """
            ```json
            {"workflow": {"rules": [
              {"case": [["uri", "==", "/admin"]], "actions": [["return", {"code": 403}]]},
              {"case": [["arg_free", "==", "1"]], "actions": [["limit-count", {"count": 5, "time_window": 60, "rejected_code": 429}]]}
            ]}}
            ```

            `GET /admin` is answered `403 {"error_msg":"rejected by workflow"}`.
            """,
    };

    public sealed record Config(RuleConfig[] Rules);

    public sealed record RuleConfig(JsonArray[] Actions, [property: JsonConverter(typeof(CaseConverter))] Expression? Case = null);

    internal sealed class CaseConverter : VarsConverter
    {
        protected override string Property => "case";
    }

    /// <param name="Code">Of <c>return</c>; null: the plugin runs.</param>
    sealed record Rule(Expression? When, int? Code, PluginUse? Plugin);

    readonly Rule[] _rules;

    Workflow(Config config, PluginContext context) => _rules = [.. config.Rules.Select((rule, index) => Compile(rule, index, context))];

    public static JsonTypeInfo<Config> ConfigType => WorkflowJson.Default.Config;

    public static Workflow Create(Config config, PluginContext context) => new(config, context);

    static Rule Compile(RuleConfig rule, int index, PluginContext context)
    {
        var when = rule.Case;
        Rule? first = null;
        foreach (var action in rule.Actions)
        {
            var (name, inner) = Read(action);
            if (name == "return")
            {
                first ??= new(when, (int)inner["code"]!.GetValue<double>(), null);
                continue;
            }
            try
            {
                // as in APISIX: each rule counts for itself
                var plugin = context.Plugins.Make(name, inner, $"workflow rule {index + 1}");
                first ??= new(when, null, plugin);
            }
            catch (ConfigException e)
            {
                throw new ConfigException($"failed to validate the '{name}' action: {e.Message}");
            }
        }
        return first ?? new(when, null, null);
    }

    static (string Name, JsonObject Config) Read(JsonArray action)
    {
        var name = action[0]?.ToString();
        if (name != "return" && !Limits.Contains(name))
        {
            throw new ConfigException($"unsupported action: {name}");
        }
        if (action.ElementAtOrDefault(1) is not JsonObject config)
        {
            throw new ConfigException($"failed to validate the '{name}' action: expected [\"{name}\", {{…}}]");
        }
        var inner = config.DeepClone().AsObject();
        return (name == "return" ? ReturnSchema.Validate(inner) : inner.ContainsKey("group") ? "group is not supported" : null) is { } error
            ? throw new ConfigException($"failed to validate the '{name}' action: {error}") : (name!, inner);
    }

    public ValueTask<Answer?> AccessAsync(Exchange exchange)
    {
        foreach (var rule in _rules)
        {
            if (rule.When?.Matches(exchange) == false)
            {
                continue;
            }
            if (rule.Code is { } code)
            {
                return new(Answer.ErrorMessage(code, "rejected by workflow"));
            }
            if (rule.Plugin is not { } use)
            {
                return default;
            }
            exchange.Skip(use.Descriptor.Name);
            exchange.Items[this] = use;
            return use.Plugin is IAccess access ? access.AccessAsync(exchange) : default;
        }
        return default;
    }

    public void Log(Exchange exchange)
    {
        if (exchange.Find(this) is PluginUse { Plugin: ILog log })
        {
            log.Log(exchange);
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Workflow.Config))]
sealed partial class WorkflowJson : JsonSerializerContext;

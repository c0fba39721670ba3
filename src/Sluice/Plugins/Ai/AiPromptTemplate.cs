using System.Text;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins.Ai;

/// <summary>Fills the prompt that a client names with what it sends.</summary>
internal sealed partial class AiPromptTemplate : IPlugin<AiPromptTemplate, AiPromptTemplate.Config>, IRewrite, INeedsRequestBody
{
    public static PluginInfo Info { get; } = new(
        Name: "ai-prompt-template",
        Priority: 1071,
        Schema: $$"""
            {
              "type": "object",
              "required": ["templates"],
              "properties": {
                {{PromptBody.LimitSchema}},
                "templates": {
                  "type": "array",
                  "minItems": 1,
                  "items": {
                    "type": "object",
                    "required": ["name", "template"],
                    "properties": {
                      "name": { "type": "string", "minLength": 1, "description": "what the client says as `template_name`; of two with one name the first counts" },
                      "template": {
                        "type": "object",
                        "description": "the body that the model gets",
                        "properties": {
                          "model": { "type": "string", "minLength": 1 },
                          "messages": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                              "type": "object",
                              "required": ["role", "content"],
                              "properties": { "role": { "type": "string", "enum": ["system", "user", "assistant"] }, "content": { "type": "string", "minLength": 1 } }
                            }
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
            Fills the prompt that a client names with what it sends. `{{name}}` in a text of the template stands for that property of the request's body, `{{user.name}}` for one inside of another, `{{_ctx.var.NAME}}` for a
            variable; what is not there is empty. **It needs the whole request body**: the upstream waits until it is complete.
            """)
    {
        Example = """
            ```json
            {"ai-prompt-template": {"templates": [{"name": "code", "template": {"model": "gpt-4", "messages": [{"role": "user", "content": "Write a {{language}} program that {{task}}."}]}}]}}
            ```

            `{"template_name": "code", "language": "Lua", "task": "counts"}` asks the model to write a Lua program that counts.
            """,
    };

    public sealed record Template(string Name, [property: JsonPropertyName("template")] JsonObject Body);

    public sealed record Config(Template[] Templates, int MaxReqBodySize = 64 * 1024 * 1024);

    readonly Config _config;
    readonly Dictionary<string, JsonObject> _templates = new(StringComparer.Ordinal);

    AiPromptTemplate(Config config)
    {
        _config = config;
        foreach (var (name, body) in config.Templates)
        {
            _templates.TryAdd(name, body);
            if (Refusal(body) is { } error)
            {
                throw new ConfigException($"template \"{name}\": {error}");
            }
        }
    }

    public static JsonTypeInfo<Config> ConfigType => AiPromptTemplateJson.Default.Config;

    public static AiPromptTemplate Create(Config config, PluginContext context) => new(config);

    public int MaxRequestBodyBytes => _config.MaxReqBodySize;

    /// <summary>A place in a text, escaped (<c>{{x}}</c>) or not (<c>{*x*}</c>): it is JSON either way.</summary>
    [GeneratedRegex(@"\{\{\s*(?<path>[A-Za-z_]\w*(?:\.\w+)*)\s*\}\}|\{\*\s*(?<path>[A-Za-z_]\w*(?:\.\w+)*)\s*\*\}",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Place { get; }

    static string? Refusal(JsonNode? node) => node switch
    {
        JsonObject members => members.Select(member => Refusal(member.Value)).FirstOrDefault(error => error is not null),
        JsonArray items => items.Select(Refusal).FirstOrDefault(error => error is not null),
        JsonValue value when value.TryGetValue(out string? text) && Place.Replace(text, "") is var rest
            && (rest.Contains("{{", StringComparison.Ordinal) || rest.Contains("{%", StringComparison.Ordinal)) =>
            "a place is written {{name}} or {{name.name}}: other expressions are not possible",
        _ => null,
    };

    public async ValueTask<Answer?> RewriteAsync(Exchange exchange)
    {
        var (body, refusal) = await PromptBody.ReadAsync(exchange, _config.MaxReqBodySize);
        if (body is null)
        {
            return refusal;
        }
        if (body["template_name"] is not { } named)
        {
            return Answer.Message(400, "template name is missing in request.");
        }
        var name = TextOf(named);
        if (!_templates.TryGetValue(name, out var template))
        {
            return Answer.Message(400, $"template: {name} not configured.");
        }
        PromptBody.Replace(exchange, (JsonObject)Fill(template, body, exchange)!);
        return null;
    }

    static JsonNode? Fill(JsonNode? template, JsonObject body, Exchange exchange) => template switch
    {
        JsonObject members => new JsonObject(members.Select(member => KeyValuePair.Create(member.Key, Fill(member.Value, body, exchange)))),
        JsonArray items => new JsonArray([.. items.Select(item => Fill(item, body, exchange))]),
        JsonValue value when value.TryGetValue(out string? text) =>
            Place.Replace(text, place => Value(place.Groups["path"].Value, body, exchange)),
        _ => template?.DeepClone(),
    };

    const string Variables = "_ctx.var.";

    static string Value(string path, JsonObject body, Exchange exchange)
    {
        if (path.StartsWith(Variables, StringComparison.Ordinal))
        {
            return exchange.Get(path[Variables.Length..]) ?? "";
        }
        JsonNode? node = body;
        foreach (var name in path.Split('.'))
        {
            node = (node as JsonObject)?[name];
        }
        return TextOf(node);
    }

    static string TextOf(JsonNode? node) => node switch
    {
        null => "",
        JsonValue value when value.TryGetValue(out string? text) => text,
        _ => JsonBytes.Text(node),
    };
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(AiPromptTemplate.Config))]
sealed partial class AiPromptTemplateJson : JsonSerializerContext;

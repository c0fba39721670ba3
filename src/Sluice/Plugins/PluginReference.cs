using System.Text;
using System.Text.Json.Nodes;
using Sluice.Model.Json;
using Sluice.Pipeline;

namespace Sluice.Plugins;

/// <summary>Writes the plugin reference (<c>docs/plugins/</c>) from the plugins themselves: what they say of themselves, and their
/// schemas.</summary>
internal static class PluginReference
{
    const string Generated = "<!-- Generated from the plugin's source; SLUICE_WRITE_DOCS=1 ./test writes it anew. -->";

    /// <summary>The pages, by file name.</summary>
    public static IReadOnlyDictionary<string, string> Pages(IReadOnlyCollection<PluginDescriptor> plugins)
    {
        var ordered = plugins.OrderByDescending(plugin => plugin.Info.Priority).ToArray();
        Dictionary<string, string> pages = new() { ["README.md"] = Index(ordered) };
        foreach (var plugin in ordered)
        {
            pages[$"{plugin.Name}.md"] = Page(plugin);
        }
        return pages;
    }

    static string Index(PluginDescriptor[] plugins)
    {
        var page = new StringBuilder();
        page.Append(
            $$"""
            # Plugins

            {{Generated}}

            A plugin is configured in `plugins` of a route, service, plugin config, consumer, consumer group or global rule. Where several of
            them have the same plugin, the consumer's counts, then the consumer group's, the route's, the plugin config's, the service's; global rules run
            beside them. Plugins run in the order of their priorities, in each phase. Names, priorities, schemas and answers are Apache APISIX's.

            Every plugin's configuration may have `_meta`:

            | Property | Type | Meaning |
            |---|---|---|
            | `_meta.disable` | boolean | the plugin is as if it were not there |
            | `_meta.priority` | integer | instead of the plugin's own |
            | `_meta.filter` | array | the plugin runs only for requests that match; the operators are those of a route's `vars` |
            | `_meta.error_response` | string or object | body of the plugin's answers instead of its own |

            | Plugin | Priority | Phases | |
            |---|---|---|---|

            """);
        foreach (var plugin in plugins)
        {
            page.Append(
                $"| [`{plugin.Name}`]({plugin.Name}.md) | {plugin.Info.Priority} | {string.Join(", ", plugin.Phases)} | {FirstSentence(plugin.Info.Summary)} |\n");
        }
        return page.ToString();
    }

    static string Page(PluginDescriptor plugin)
    {
        var info = plugin.Info;
        var page = new StringBuilder();
        page.Append($"# {info.Name}\n\n{Generated}\n\n{info.Summary.Trim()}\n\n");
        page.Append($"Priority {info.Priority}. Phases: {string.Join(", ", plugin.Phases)}.\n");
        AppendSchema(page, "Configuration", JsonNode.Parse(info.Schema)!.AsObject());
        AppendSchema(page, "In a consumer", Parse(info.ConsumerSchema));
        AppendSchema(page, "Metadata (`/apisix/admin/plugin_metadata/" + info.Name + "`)", Parse(info.MetadataSchema));
        if (info.Example.Length > 0)
        {
            page.Append($"\n## Example\n\n{info.Example.Trim()}\n");
        }
        return page.ToString();
    }

    static JsonObject? Parse(string? schema) => schema is null ? null : JsonNode.Parse(schema)!.AsObject();

    static void AppendSchema(StringBuilder page, string title, JsonObject? schema)
    {
        if (schema is null)
        {
            return;
        }
        page.Append($"\n## {title}\n\n| Property | Type | Default | Valid values | Description |\n|---|---|---|---|---|\n");
        AppendProperties(page, schema, "");
        var alternatives = ((schema["oneOf"] ?? schema["anyOf"]) as JsonArray)?.OfType<JsonObject>()
            .Select(one => string.Join(" and ", Required(one).Select(name => $"`{name}`"))).Where(text => text.Length > 0).ToArray() ?? [];
        if (alternatives.Length > 0)
        {
            page.Append(
                $"\nRequired: {string.Join(", or ", alternatives)}{(schema["oneOf"] is null ? "" : ", and not more than one of these")}.\n");
        }
        if (schema["additionalProperties"]?.GetValueKind() == System.Text.Json.JsonValueKind.False)
        {
            page.Append("\nOther properties are refused.\n");
        }
        AppendConditions(page, schema);
    }

    /// <summary>Properties that there are only when another one has a certain value.</summary>
    static void AppendConditions(StringBuilder page, JsonObject schema)
    {
        if (schema["then"] is JsonObject then && schema["if"]?["properties"] is JsonObject when)
        {
            var condition = when.Select(property =>
                $"`{property.Key}` {string.Join(" or ", (property.Value!["enum"] as JsonArray ?? []).Select(value => $"`{value}`"))}");
            page.Append(
                $"\nWith {string.Join(", ", condition)}:\n\n| Property | Type | Default | Valid values | Description |\n|---|---|---|---|---|\n");
            AppendProperties(page, then, "");
            if (schema["else"] is JsonObject other)
            {
                AppendConditions(page, other);
            }
        }
    }

    static void AppendProperties(StringBuilder page, JsonObject schema, string prefix)
    {
        var required = Required(schema).ToHashSet();
        foreach (var (name, value) in schema["properties"] as JsonObject ?? [])
        {
            var property = value!.AsObject();
            var valid = Constraints(property);
            if (required.Contains(name))
            {
                valid = valid.Length > 0 ? $"required; {valid}" : "required";
            }
            page.Append(
                $"| `{prefix}{name}` | {TypeOf(property)} | {Code(property["default"])} | {valid} | {Cell(property["description"]?.ToString() ?? "")} |\n");
            AppendProperties(page, property, $"{prefix}{name}.");
            if (property["items"] is JsonObject items)
            {
                AppendProperties(page, items, $"{prefix}{name}[].");
            }
            foreach (var form in ((property["oneOf"] ?? property["anyOf"]) as JsonArray ?? []).OfType<JsonObject>())
            {
                AppendProperties(page, form, $"{prefix}{name}.");
            }
        }
    }

    static IEnumerable<string> Required(JsonObject schema) => (schema["required"] as JsonArray)?.Select(name => name!.ToString()) ?? [];

    static string TypeOf(JsonObject schema)
    {
        if (schema["title"] is { } title)
        {
            return title.ToString();
        }
        var type = schema["type"]?.ToString();
        if (type == "array" && schema["items"] is JsonObject items)
        {
            return $"array of {TypeOf(items)}";
        }
        return type ?? string.Join(" or ",
            ((schema["oneOf"] ?? schema["anyOf"]) as JsonArray ?? []).OfType<JsonObject>().Select(TypeOf).Where(text => text.Length > 0)
            .Distinct());
    }

    static string Constraints(JsonObject schema)
    {
        List<string> parts = [];
        if (schema["enum"] is JsonArray values)
        {
            parts.Add(string.Join(", ", values.Select(Code)));
        }
        Add("minimum", value => $"at least {value}");
        Add("maximum", value => $"at most {value}");
        Add("exclusiveMinimum", value => $"over {value}");
        Add("minLength", value => $"at least {value} {(value == "1" ? "character" : "characters")}");
        Add("maxLength", value => $"at most {value} characters");
        Add("minItems", value => $"at least {value}");
        Add("maxItems", value => $"at most {value}");
        Add("uniqueItems", _ => "all different");
        Add("pattern", value => $"matches `{value.Replace("|", "\\|", StringComparison.Ordinal)}`");
        if (schema["type"] is null && (schema["oneOf"] ?? schema["anyOf"]) is JsonArray forms)
        {
            parts.AddRange(forms.OfType<JsonObject>().Select(Constraints).Where(text => text.Length > 0).Distinct());
        }
        return string.Join("; ", parts);

        void Add(string word, Func<string, string> text)
        {
            if (schema[word] is JsonValue value)
            {
                parts.Add(text(LuaText.Type(value) == "number" ? LuaText.Number(LuaText.ToDouble(value)) : value.ToString()));
            }
        }
    }

    static string Code(JsonNode? value) => value is null ? "" : $"`{Cell(value.ToJsonString())}`";

    static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal).Replace('\n', ' ');

    static string FirstSentence(string text)
    {
        var line = string.Join(' ', text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries));
        var end = line.IndexOf(". ", StringComparison.Ordinal);
        return Cell(end < 0 ? line : line[..(end + 1)]);
    }
}

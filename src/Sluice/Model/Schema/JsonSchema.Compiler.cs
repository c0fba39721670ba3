using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sluice.Model.Json;

namespace Sluice.Model.Schema;

internal sealed partial class JsonSchema
{
    /// <summary>Turns schema nodes into <see cref="JsonSchema"/>s, each node once, so that a <c>$ref</c> may point to where it
    /// stands.</summary>
    sealed class Compiler(JsonNode root)
    {
        const int MaxReferences = 32;

        static readonly HashSet<string> Types = ["object", "array", "table", "integer", "number", "string", "boolean", "null", "function"];

        readonly Dictionary<JsonNode, JsonSchema> compiled = new(ReferenceEqualityComparer.Instance);

        public JsonSchema Compile(JsonNode? node)
        {
            var target = Resolve(node);
            if (compiled.TryGetValue(target, out var schema))
            {
                return schema;
            }
            schema = new JsonSchema();
            compiled.Add(target, schema);
            if (target is JsonObject keywords)
            {
                Fill(schema, keywords);
            }
            else
            {
                schema.constant = target.GetValueKind() switch
                {
                    JsonValueKind.True => true,
                    JsonValueKind.False => false,
                    _ => throw new ArgumentException($"a schema must be an object or a boolean: {target.ToJsonString()}"),
                };
            }
            return schema;
        }

        JsonNode Resolve(JsonNode? node)
        {
            for (var i = 0; i < MaxReferences; i++)
            {
                if (node is not JsonObject keywords || keywords["$ref"] is not { } reference)
                {
                    return node ?? throw new ArgumentException("a schema must not be null");
                }
                node = Find(reference.GetValue<string>());
            }
            throw new ArgumentException($"a $ref that leads nowhere: {node?.ToJsonString()}");
        }

        JsonNode? Find(string reference)
        {
            if (!reference.StartsWith('#'))
            {
                throw new ArgumentException($"only references into the same schema are known: {reference}");
            }
            JsonNode? node = root;
            foreach (var part in reference.TrimStart('#').Split('/').Skip(1))
            {
                var name = Uri.UnescapeDataString(part).Replace("~1", "/", StringComparison.Ordinal)
                    .Replace("~0", "~", StringComparison.Ordinal);
                node = node is JsonArray list ? list[int.Parse(name, System.Globalization.CultureInfo.InvariantCulture)] : node?[name];
            }
            return node ?? throw new ArgumentException($"nothing at {reference}");
        }

        void Fill(JsonSchema schema, JsonObject keywords)
        {
            FillType(schema, keywords["type"]);
            FillObject(schema, keywords);
            FillArray(schema, keywords);
            FillScalars(schema, keywords);
            schema.allOf = CompileAll(keywords["allOf"]);
            schema.anyOf = CompileAll(keywords["anyOf"]);
            schema.oneOf = CompileAll(keywords["oneOf"]);
            schema.anyOfRequired = AnyOfRequired(keywords["anyOf"]);
            schema.condition = Optional(keywords["if"]);
            schema.thenSchema = Optional(keywords["then"]);
            schema.elseSchema = Optional(keywords["else"]);
            schema.not = Optional(keywords["not"]);
        }

        static void FillType(JsonSchema schema, JsonNode? type)
        {
            schema.typeIsList = type is JsonArray;
            schema.types = type is null ? [] : type is JsonArray list ? Strings(list) : [type.GetValue<string>()];
            if (Array.Find(schema.types, name => !Types.Contains(name)) is { } unknown)
            {
                throw new ArgumentException($"invalid JSON type: {unknown}");
            }
        }

        void FillObject(JsonSchema schema, JsonObject keywords)
        {
            var properties = keywords["properties"] as JsonObject ?? [];
            var required = keywords["required"] is JsonArray names ? Strings(names) : null;
            var dependencies = keywords["dependencies"] as JsonObject ?? [];
            var additional = keywords["additionalProperties"];

            schema.properties = [.. properties.Select(property => new Property(
                property.Key,
                Compile(property.Value),
                required?.Contains(property.Key) ?? false,
                (property.Value as JsonObject)?["default"]?.DeepClone(),
                dependencies.TryGetPropertyValue(property.Key, out var dependency) ? CompileDependency(property.Key, dependency) : null))];
            schema.fillsDefaults = schema.types is ["object"] && Array.Exists(schema.properties, property => property.Default is not null);
            schema.otherRequired = required?.Where(name => !properties.ContainsKey(name)).ToArray() ?? [];
            schema.mustBeEmpty = required is [];
            schema.otherDependencies = [.. dependencies.Where(d => !properties.ContainsKey(d.Key))
                .Select(d => CompileDependency(d.Key, d.Value))];
            schema.patternProperties = [.. (keywords["patternProperties"] as JsonObject ?? []).Select(pattern =>
                new PatternProperty(Pattern(pattern.Key), $"\"{pattern.Key}\"", Compile(pattern.Value)))];
            if (additional is not null && additional.GetValueKind() != JsonValueKind.True)
            {
                schema.knownProperties = [.. properties.Select(property => property.Key)];
                schema.additionalProperties = additional is JsonObject ? Compile(additional) : null;
            }
            schema.minProperties = (int?)Number(keywords["minProperties"]);
            schema.maxProperties = (int?)Number(keywords["maxProperties"]);
            schema.describesObject = schema.properties.Length + schema.patternProperties.Length + schema.otherDependencies.Length > 0
                || (schema.minProperties ?? schema.maxProperties) is not null || required is not null || schema.knownProperties is not null;
        }

        Dependency CompileDependency(string name, JsonNode? node) =>
            node is JsonArray { Count: > 0 } list ? new(name, Strings(list), null)
            : new(name, [], node is JsonArray ? null : Compile(node));

        void FillArray(JsonSchema schema, JsonObject keywords)
        {
            var additional = keywords["additionalItems"];
            schema.tuple = keywords["items"] is JsonArray list ? [.. list.Select(Compile)] : [];
            schema.items = keywords["items"] is JsonArray ? null : Optional(keywords["items"]);
            schema.additionalItems = additional is JsonObject ? Compile(additional) : null;
            schema.forbidAdditionalItems = additional?.GetValueKind() == JsonValueKind.False;
            schema.contains = Optional(keywords["contains"]);
            schema.minItems = (int?)Number(keywords["minItems"]);
            schema.maxItems = (int?)Number(keywords["maxItems"]);
            schema.uniqueItems = keywords["uniqueItems"]?.GetValueKind() == JsonValueKind.True;
            schema.describesArray = schema.tuple.Length > 0 || schema.items is not null || (schema.minItems ?? schema.maxItems) is not null
                || schema.uniqueItems;
        }

        static void FillScalars(JsonSchema schema, JsonObject keywords)
        {
            schema.minLength = (int?)Number(keywords["minLength"]);
            schema.maxLength = (int?)Number(keywords["maxLength"]);
            schema.pattern = keywords["pattern"] is { } pattern
                ? new RegexWithText(Pattern(pattern.GetValue<string>()), LuaText.Quote(pattern.GetValue<string>()))
                : null;
            schema.format = keywords["format"]?.GetValue<string>();
            schema.minimum = Number(keywords["minimum"]);
            schema.maximum = Number(keywords["maximum"]);
            schema.exclusiveMinimum = Number(keywords["exclusiveMinimum"]);
            schema.exclusiveMaximum = Number(keywords["exclusiveMaximum"]);
            schema.multipleOf = Number(keywords["multipleOf"]);
            schema.allowed = keywords["enum"] is JsonArray allowed ? [.. allowed.Select(value => value?.DeepClone())] : null;
            schema.hasConst = keywords.TryGetPropertyValue("const", out var constant);
            schema.constValue = constant?.DeepClone();
        }

        // a final $ means the very end, as in JSON Schema's own dialect: PCRE's would let an id end in a line break
        static Regex Pattern(string pattern) => Pcre.Compile(
            pattern.EndsWith('$') && !pattern.EndsWith("\\$", StringComparison.Ordinal) ? pattern[..^1] + "\\z" : pattern);

        JsonSchema? Optional(JsonNode? node) => node is null ? null : Compile(node);

        JsonSchema[] CompileAll(JsonNode? nodes) => nodes is JsonArray list ? [.. list.Select(Compile)] : [];

        static string AnyOfRequired(JsonNode? anyOf)
        {
            var lists = (anyOf as JsonArray ?? []).Select(schema => schema is JsonObject keywords ? keywords["required"] : null)
                .OfType<JsonArray>().Select(required => required.ToJsonString()).ToArray();
            return lists.Length == 0 ? "" : ": " + string.Join(" or ", lists);
        }

        static string[] Strings(JsonArray list) => [.. list.Select(name => name!.GetValue<string>())];

        static double? Number(JsonNode? node) => node is null ? null : LuaText.ToDouble(node);
    }
}

using System.Globalization;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Sluice.Model.Json;

namespace Sluice.Model.Schema;

/// <summary>
/// A compiled JSON schema in the dialect of APISIX's validator (api7/jsonschema), with its messages and its view of the world:
/// an empty array is an empty object, <c>integer</c> is a number without fraction, defaults are filled into the validated value.
/// Properties are checked in the order of the schema, so the first message is always the same.
/// </summary>
[JsonConverter(typeof(JsonSchemaConverter))]
internal sealed partial class JsonSchema
{
    readonly record struct Property(string Name, JsonSchema Schema, bool Required, JsonNode? Default, Dependency? Dependency);

    readonly record struct PatternProperty(Regex Pattern, string Quoted, JsonSchema Schema);

    readonly record struct RegexWithText(Regex Regex, string Quoted);

    sealed record Dependency(string Name, string[] Required, JsonSchema? Schema);

    const int MaxSchemaDepth = 1000;

    // a schema that is just true or false
    bool? constant;

    string[] types = [];
    bool typeIsList;

    bool describesObject;
    Property[] properties = [];
    bool fillsDefaults;
    string[] otherRequired = []; // required, but not in properties
    bool mustBeEmpty;            // "required": []
    Dependency[] otherDependencies = [];
    PatternProperty[] patternProperties = [];
    HashSet<string>? knownProperties; // set: the others are forbidden, or checked by additionalProperties
    JsonSchema? additionalProperties;
    int? minProperties, maxProperties;

    bool describesArray;
    JsonSchema? items;
    JsonSchema[] tuple = [];
    JsonSchema? additionalItems;
    bool forbidAdditionalItems;
    JsonSchema? contains;
    int? minItems, maxItems;
    bool uniqueItems;

    int? minLength, maxLength;
    RegexWithText? pattern;
    string? format;

    double? minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf;

    JsonNode?[]? allowed;
    bool hasConst;
    JsonNode? constValue;

    JsonSchema[] allOf = [], anyOf = [], oneOf = [];
    string anyOfRequired = "";
    JsonSchema? condition, thenSchema, elseSchema, not;

    JsonSchema()
    {
    }

    /// <exception cref="ArgumentException">The schema itself is wrong.</exception>
    public static JsonSchema Compile(JsonNode schema)
    {
        // a copy of its own, made at once: parts of it are read by many threads
        var copy = CjsonReader.Parse(Encoding.UTF8.GetBytes(schema.ToJsonString()), MaxSchemaDepth);
        return new Compiler(copy!).Compile(copy);
    }

    /// <summary>Checks the value and fills defaults into it.</summary>
    /// <returns>Null, or the first thing that is wrong, in APISIX's words.</returns>
    public string? Validate(JsonNode? value)
    {
        try
        {
            return Check(value);
        }
        catch (InsufficientExecutionStackException)
        {
            return "value is nested too deeply";
        }
    }

    string? Check(JsonNode? value)
    {
        if (constant is { } always)
        {
            return always ? null : "expect false always";
        }
        RuntimeHelpers.EnsureSufficientExecutionStack();
        return CheckType(value)
            ?? (describesObject ? CheckObject(value) : null)
            ?? (describesArray ? CheckArray(value) : null)
            ?? CheckString(value)
            ?? CheckNumber(value)
            ?? CheckEnum(value)
            ?? CheckCombinations(value)
            ?? CheckFormat(value)
            ?? (hasConst && !LuaEquality.Instance.Equals(constValue, value) ? "failed to check const value" : null)
            ?? CheckContains(value);
    }

    string? CheckType(JsonNode? value)
    {
        if (types.Length == 0)
        {
            return null;
        }
        foreach (var type in types)
        {
            if (IsOfType(value, type))
            {
                return null;
            }
        }
        return $"wrong type: expected {(typeIsList ? "one of " : "")}{string.Join(", ", types)}, got {LuaText.Type(value)}";
    }

    static bool IsOfType(JsonNode? value, string type) => type switch
    {
        "object" => value is JsonObject or JsonArray { Count: 0 },
        "array" => value is JsonArray or JsonObject { Count: 0 },
        "table" => value is JsonObject or JsonArray,
        "integer" => LuaText.Kind(value) == JsonValueKind.Number && LuaText.ToDouble(value!) % 1 == 0,
        _ => LuaText.Type(value) == (type == "null" ? "userdata" : type),
    };

    string? CheckObject(JsonNode? value)
    {
        if (value is not (JsonObject or JsonArray { Count: 0 }))
        {
            return mustBeEmpty ? "the input data should be an empty table" : null;
        }
        var map = value as JsonObject ?? [];
        var notEmpty = map.Count > 0;
        return CheckProperties(map) ?? CheckRequiredAndDependencies(map) ?? CheckOtherProperties(map) ?? CheckPropertyCount(map)
            ?? (mustBeEmpty && notEmpty ? "the input data should be an empty table" : null);
    }

    string? CheckProperties(JsonObject map)
    {
        foreach (var property in properties)
        {
            if (map.TryGetPropertyValue(property.Name, out var value))
            {
                if (value is JsonArray { Count: 0 } && property.Schema.fillsDefaults)
                {
                    map[property.Name] = value = new JsonObject(); // an empty table is both, but defaults need an object
                }
                if (property.Schema.Check(value) is { } error)
                {
                    return $"property \"{property.Name}\" validation failed: {error}";
                }
                if (property.Dependency is { } dependency && CheckDependency(map, dependency) is { } missing)
                {
                    return missing;
                }
            }
            else if (property.Required)
            {
                return $"property \"{property.Name}\" is required";
            }
            else if (property.Default is { } initial)
            {
                map[property.Name] = initial.DeepClone();
            }
        }
        return null;
    }

    string? CheckRequiredAndDependencies(JsonObject map)
    {
        foreach (var name in otherRequired)
        {
            if (!map.ContainsKey(name))
            {
                return $"property \"{name}\" is required";
            }
        }
        foreach (var dependency in otherDependencies)
        {
            if (map.ContainsKey(dependency.Name) && CheckDependency(map, dependency) is { } error)
            {
                return error;
            }
        }
        return null;
    }

    static string? CheckDependency(JsonObject map, Dependency dependency)
    {
        foreach (var name in dependency.Required)
        {
            if (!map.ContainsKey(name))
            {
                return $"property \"{name}\" is required when \"{dependency.Name}\" is set";
            }
        }
        return dependency.Schema?.Check(map) is { } error
            ? $"failed to validate dependent schema for \"{dependency.Name}\": {error}"
            : null;
    }

    string? CheckOtherProperties(JsonObject map)
    {
        if (patternProperties.Length == 0 && knownProperties is null)
        {
            return null;
        }
        foreach (var (name, value) in map)
        {
            var matched = false;
            foreach (var (regex, quoted, schema) in patternProperties)
            {
                if (!regex.Finds(name))
                {
                    continue;
                }
                if (schema.Check(value) is { } error)
                {
                    return $"failed to validate {name} (matching {quoted}): {error}";
                }
                matched = true;
            }
            if (knownProperties is null || matched || knownProperties.Contains(name))
            {
                continue;
            }
            if (additionalProperties is null)
            {
                return "additional properties forbidden, found " + name;
            }
            if (additionalProperties.Check(value) is { } wrong)
            {
                return $"failed to validate additional property {name}: {wrong}";
            }
        }
        return null;
    }

    string? CheckPropertyCount(JsonObject map) =>
        map.Count < minProperties ? $"expect object to have at least {minProperties} properties"
        : map.Count > maxProperties ? $"expect object to have at most {maxProperties} properties"
        : null;

    string? CheckArray(JsonNode? value)
    {
        if (value is JsonObject { Count: 0 })
        {
            return minItems > 0 ? $"expect array to have at least {minItems} items" : null;
        }
        if (value is not JsonArray list)
        {
            return null;
        }
        if (list.Count < minItems)
        {
            return $"expect array to have at least {minItems} items";
        }
        if (list.Count > maxItems)
        {
            return $"expect array to have at most {maxItems} items";
        }
        return CheckItems(list) ?? (uniqueItems ? CheckUnique(list) : null);
    }

    string? CheckItems(JsonArray list)
    {
        for (var i = 0; i < list.Count; i++)
        {
            var inTuple = i < tuple.Length;
            var schema = inTuple ? tuple[i] : tuple.Length > 0 ? additionalItems : items;
            if (!inTuple && tuple.Length > 0 && forbidAdditionalItems)
            {
                return "found unexpected extra items in array";
            }
            if (schema?.Check(list[i]) is { } error)
            {
                return $"failed to validate {(tuple.Length > 0 && !inTuple ? "additional " : "")}item {i + 1}: {error}";
            }
        }
        return null;
    }

    static string? CheckUnique(JsonArray list) =>
        (Duplicate(list, tables: false) ?? Duplicate(list, tables: true)) is not { } pair
            ? null
            : $"expected unique items but items {pair.First} and {pair.Second} are equal";

    static (int First, int Second)? Duplicate(JsonArray list, bool tables)
    {
        (int First, int Second)? found = null;
        var seen = new Dictionary<Key, int>();
        for (var i = 0; i < list.Count; i++)
        {
            if (list[i] is JsonObject or JsonArray != tables || seen.TryAdd(new Key(list[i]), i))
            {
                continue;
            }
            var first = seen[new Key(list[i])];
            if (found is null || first + 1 < found.Value.First)
            {
                found = (first + 1, i + 1);
            }
            if (!tables)
            {
                break;
            }
        }
        return found;
    }

    readonly record struct Key(JsonNode? Node)
    {
        public bool Equals(Key other) => LuaEquality.Instance.Equals(Node, other.Node);

        public override int GetHashCode() => LuaEquality.Instance.GetHashCode(Node);
    }

    string? CheckContains(JsonNode? value)
    {
        if (contains is null || value is not JsonArray list)
        {
            return contains is not null && value is JsonObject { Count: 0 } ? "check contains: empty array is invalid" : null;
        }
        return list.Count == 0 ? "check contains: empty array is invalid"
            : list.Any(item => contains.Check(item) is null) ? null
            : "failed to check contains";
    }

    string? CheckString(JsonNode? value)
    {
        if ((minLength ?? maxLength) is null && pattern is null || LuaText.Kind(value) != JsonValueKind.String)
        {
            return null;
        }
        var text = value!.GetValue<string>();
        if ((minLength ?? maxLength) is not null)
        {
            var length = text.Length - text.AsSpan().CountAny(LowSurrogates); // characters, not UTF-16 units
            if (length < minLength)
            {
                return $"string too short, expected at least {minLength}, got {length}";
            }
            if (length > maxLength)
            {
                return $"string too long, expected at most {maxLength}, got {length}";
            }
        }
        return pattern is { } regex && !regex.Regex.Finds(text)
            ? $"failed to match pattern {regex.Quoted} with {LuaText.Quote(text)}"
            : null;
    }

    static readonly System.Buffers.SearchValues<char> LowSurrogates =
        System.Buffers.SearchValues.Create([.. Enumerable.Range(0xdc00, 0x400).Select(c => (char)c)]);

    string? CheckNumber(JsonNode? value)
    {
        if ((minimum ?? maximum ?? exclusiveMinimum ?? exclusiveMaximum ?? multipleOf) is null
            || LuaText.Kind(value) != JsonValueKind.Number)
        {
            return null;
        }
        var number = LuaText.ToDouble(value!);
        return number < minimum ? Range("at least", minimum.Value)
            : number <= exclusiveMinimum ? Range("greater than", exclusiveMinimum.Value)
            : number > maximum ? Range("at most", maximum.Value)
            : number >= exclusiveMaximum ? Range("smaller than", exclusiveMaximum.Value)
            : multipleOf is { } factor && !IsMultiple(number, factor) ? Range("a multiple of", factor)
            : null;

        string Range(string relation, double limit) =>
            $"expected {LuaText.Number(number)} to be {relation} {LuaText.Number(limit)}";
    }

    static bool IsMultiple(double number, double factor) =>
        factor % 1 == 0 ? number % factor == 0 : Math.Truncate(number / factor) == number / factor;

    string? CheckEnum(JsonNode? value)
    {
        if (allowed is null)
        {
            return null;
        }
        foreach (var candidate in allowed)
        {
            if (LuaEquality.Instance.Equals(candidate, value))
            {
                return null;
            }
        }
        return "matches none of the enum values";
    }

    string? CheckCombinations(JsonNode? value)
    {
        for (var i = 0; i < allOf.Length; i++)
        {
            if (allOf[i].Check(value) is { } error)
            {
                return string.Create(CultureInfo.InvariantCulture, $"allOf {i + 1} failed: {error}");
            }
        }
        if (anyOf.Length > 0 && !Array.Exists(anyOf, schema => schema.Check(value) is null))
        {
            return "object matches none of the required" + anyOfRequired;
        }
        return (oneOf.Length > 0 ? CheckOneOf(value) : null)
            ?? CheckCondition(value)
            ?? (not is not null && not.Check(value) is null ? "value wasn't supposed to match schema" : null);
    }

    string? CheckOneOf(JsonNode? value)
    {
        var matched = 0;
        for (var i = 1; i <= oneOf.Length; i++)
        {
            if (oneOf[i - 1].Check(value) is not null)
            {
                continue;
            }
            if (matched > 0)
            {
                return $"value should match only one schema, but matches both schemas {matched} and {i}";
            }
            matched = i;
        }
        return matched == 0 ? "value should match only one schema, but matches none" : null;
    }

    string? CheckCondition(JsonNode? value)
    {
        if (condition is null)
        {
            return null;
        }
        return condition.Check(value) is null
            ? thenSchema?.Check(value) is null ? null : "then clause did not match"
            : elseSchema?.Check(value) is null ? null : "else clause did not match";
    }

    string? CheckFormat(JsonNode? value)
    {
        if (format is null || LuaText.Kind(value) != JsonValueKind.String)
        {
            return null;
        }
        var text = value!.GetValue<string>();
        return format switch
        {
            "email" => Email().IsMatch(text) ? null : "expect valid email address but got: " + text,
            "ipv4" => IsAddress(text, AddressFamily.InterNetwork) ? null : "expect valid ipv4 address but got: " + text,
            "ipv6" => IsAddress(text, AddressFamily.InterNetworkV6) ? null : "expect valid ipv6 address but got: " + text,
            "hostname" => Hostname().IsMatch(text) ? null : "expect valid ipv4 address but got: " + text, // sic
            _ => null,
        };
    }

    static bool IsAddress(string text, AddressFamily family) =>
        Cidr.TryParseAddress(text, out var address) && address.AddressFamily == family;

    [GeneratedRegex("""^[A-Za-z0-9_\-.]+@[A-Za-z0-9_\-.]+\.[A-Za-z]{2,4}$""", RegexOptions.NonBacktracking)]
    private static partial Regex Email();

    [GeneratedRegex("""^[a-zA-Z0-9\-.]+$""", RegexOptions.NonBacktracking)]
    private static partial Regex Hostname();
}

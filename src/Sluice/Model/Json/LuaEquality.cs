using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sluice.Model.Json;

/// <summary>
/// Deep equality of JSON values as Lua has it: numbers by value (1 = 1.0), key order does not matter, an empty array is an empty object.
/// </summary>
internal sealed class LuaEquality : IEqualityComparer<JsonNode?>
{
    const int HashedDepth = 4;

    public static LuaEquality Instance { get; } = new();

    public bool Equals(JsonNode? x, JsonNode? y)
    {
        RuntimeHelpers.EnsureSufficientExecutionStack();
        if (x is JsonValue && y is JsonValue)
        {
            return ScalarsEqual(x, y);
        }
        return (x, y) switch
        {
            (null, null) => true,
            (JsonObject a, JsonObject b) => ObjectsEqual(a, b),
            (JsonArray a, JsonArray b) => ArraysEqual(a, b),
            (JsonObject { Count: 0 }, JsonArray { Count: 0 }) or (JsonArray { Count: 0 }, JsonObject { Count: 0 }) => true,
            _ => false,
        };
    }

    public int GetHashCode(JsonNode? obj) => Hash(obj, HashedDepth);

    static bool ScalarsEqual(JsonNode x, JsonNode y)
    {
        var kind = x.GetValueKind();
        return kind == y.GetValueKind() && kind switch
        {
            JsonValueKind.Number => LuaText.ToDouble(x) == LuaText.ToDouble(y),
            JsonValueKind.String => x.GetValue<string>() == y.GetValue<string>(),
            _ => true,
        };
    }

    bool ObjectsEqual(JsonObject a, JsonObject b)
    {
        if (a.Count != b.Count)
        {
            return false;
        }
        foreach (var (key, value) in a)
        {
            if (!b.TryGetPropertyValue(key, out var other) || !Equals(value, other))
            {
                return false;
            }
        }
        return true;
    }

    bool ArraysEqual(JsonArray a, JsonArray b)
    {
        if (a.Count != b.Count)
        {
            return false;
        }
        for (var i = 0; i < a.Count; i++)
        {
            if (!Equals(a[i], b[i]))
            {
                return false;
            }
        }
        return true;
    }

    static int Hash(JsonNode? node, int depth)
    {
        switch (node)
        {
            case null:
                return 0;
            case JsonObject { Count: 0 } or JsonArray { Count: 0 }:
                return 1;
            case JsonObject map:
                var sum = map.Count;
                foreach (var (key, value) in depth == 0 ? [] : map)
                {
                    sum += HashCode.Combine(key, Hash(value, depth - 1)); // the same in any order
                }
                return sum;
            case JsonArray list:
                var hash = new HashCode();
                hash.Add(list.Count);
                foreach (var item in depth == 0 ? [] : list)
                {
                    hash.Add(Hash(item, depth - 1));
                }
                return hash.ToHashCode();
            default:
                return node.GetValueKind() switch
                {
                    JsonValueKind.Number => LuaText.ToDouble(node).GetHashCode(),
                    JsonValueKind.String => node.GetValue<string>().GetHashCode(StringComparison.Ordinal),
                    var kind => (int)kind,
                };
        }
    }
}

using System.Text.Json.Nodes;

namespace Sluice.Admin.Resources;

/// <summary>What PATCH does to a stored value.</summary>
static class ResourcePatch
{
    const int LongestPath = 32;

    /// <summary>Objects are merged, null deletes, everything else (arrays, too) replaces.</summary>
    public static void Merge(JsonObject target, JsonObject patch)
    {
        foreach (var (name, value) in patch)
        {
            switch (value)
            {
                case null:
                    target.Remove(name);
                    break;
                case JsonObject part:
                    if (target[name] is not JsonObject known)
                    {
                        target[name] = known = [];
                    }
                    Merge(known, part);
                    break;
                default:
                    target[name] = value.DeepClone();
                    break;
            }
        }
    }

    /// <summary>Replaces the value at a path (<c>upstream</c>, <c>nodes</c>); what is missing on the way is made; null deletes.</summary>
    /// <returns>What is wrong with the path, or null.</returns>
    public static string? Replace(JsonObject target, IReadOnlyList<string> path, JsonNode? value)
    {
        if (path.Count > LongestPath)
        {
            return $"invalid sub-path: more than {LongestPath} parts";
        }
        for (var i = 0; i < path.Count - 1; i++)
        {
            if (target[path[i]] is null)
            {
                target[path[i]] = new JsonObject();
            }
            if (target[path[i]] is not JsonObject next)
            {
                return $"invalid sub-path: /{string.Join('/', path.Take(i + 1))}";
            }
            target = next;
        }
        if (value is null)
        {
            target.Remove(path[^1]);
        }
        else
        {
            target[path[^1]] = value.DeepClone();
        }
        return null;
    }
}

using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sluice.Pipeline.References;

/// <summary>
/// A text that stands for another: <c>$secret://MANAGER/ID/KEY/PROPERTY</c> in a secret manager, <c>$env://NAME</c> or
/// <c>$env://NAME/PROPERTY</c> in the environment.
/// </summary>
internal static class SecretReference
{
    const string Secret = "$secret://", Env = "$env://";

    public static bool Is(string? text) => text is ['$', ..] && (IsSecret(text) || IsEnvironment(text));

    public static bool IsSecret(string text) => text.StartsWith(Secret, StringComparison.Ordinal);

    public static bool IsEnvironment(string text) => text.StartsWith(Env, StringComparison.OrdinalIgnoreCase);

    /// <summary>The references anywhere in a value.</summary>
    public static IEnumerable<string> In(JsonNode? node) => node switch
    {
        JsonObject map => map.SelectMany(pair => In(pair.Value)),
        JsonArray list => list.SelectMany(In),
        JsonValue value when value.TryGetValue(out string? text) && Is(text) => [text],
        _ => [],
    };

    /// <summary>A copy with the references replaced; null leaves one as it is.</summary>
    public static JsonNode? Replace(JsonNode? node, Func<string, string?> value)
    {
        switch (node)
        {
            case JsonObject map:
                var copy = new JsonObject();
                foreach (var (name, inner) in map)
                {
                    copy[name] = Replace(inner, value);
                }
                return copy;
            case JsonArray list:
                return new JsonArray([.. list.Select(inner => Replace(inner, value))]);
            case JsonValue leaf when leaf.TryGetValue(out string? text) && Is(text) && value(text) is { } found:
                return JsonValue.Create(found);
            default:
                return node?.DeepClone();
        }
    }

    /// <summary>Manager, id of its resource, and what to ask it for.</summary>
    /// <exception cref="SecretException">The reference is not complete.</exception>
    public static (string Manager, string Id, string Key) Parse(string reference)
    {
        var parts = reference[Secret.Length..].Split('/', 3);
        return parts switch
        {
            [{ Length: > 0 }, { Length: > 0 }, { Length: > 0 }] => (parts[0], parts[1], parts[2]),
            [_] => throw new SecretException($"{reference}: error format: no secret manager"),
            [_, _] => throw new SecretException($"{reference}: error format: no secret conf id"),
            _ => throw new SecretException($"{reference}: error format: no secret key id"),
        };
    }

    /// <exception cref="SecretException">The variable is not set, or its JSON has no such property.</exception>
    public static string Environment(string reference, Func<string, string?> environment)
    {
        var path = reference[Env.Length..];
        var slash = path.IndexOf('/', StringComparison.Ordinal);
        var name = slash < 0 ? path : path[..slash];
        var value = environment(name) ?? throw new SecretException($"{reference}: the environment variable {name} is not set");
        return slash < 0 ? value : Property(reference, value, path[(slash + 1)..]);
    }

    /// <summary>A property of a secret that is a JSON object.</summary>
    internal static string Property(string reference, string json, string name)
    {
        JsonNode? parsed;
        try
        {
            parsed = JsonNode.Parse(json);
        }
        catch (JsonException)
        {
            // what it says instead is a secret
            throw new SecretException($"{reference}: the secret is not JSON, so there is no property \"{name}\" in it");
        }
        return Property(reference, parsed as JsonObject, name);
    }

    internal static string Property(string reference, JsonObject? secret, string name) => secret?[name] switch
    {
        null => throw new SecretException($"{reference}: the secret has no property \"{name}\""),
        JsonValue text when text.TryGetValue(out string? plain) => plain,
        var other => other.ToJsonString(),
    };
}

/// <summary>A reference leads nowhere. The message names it and never a secret.</summary>
internal sealed class SecretException(string message, Exception? inner = null) : Exception(message, inner);

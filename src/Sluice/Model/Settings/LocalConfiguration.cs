using System.Text.Json.Nodes;

namespace Sluice.Model.Settings;

/// <summary>
/// The whole of <c>conf/config.yaml</c> with its defaults, as <c>core.config.local_conf()</c> shows it to scripts: without keys, tokens and
/// passwords, which APISIX shows too. What a script prints of it for debugging is nothing that opens the Admin API.
/// </summary>
static class LocalConfiguration
{
    /// <summary>What is called so in places that nobody here knows is a secret as well. <c>plugin_attr</c> is the plugins' own.</summary>
    static readonly string[] SecretNames = ["key", "admin_key", "keyring", "key_encrypt_salt", "password", "token", "secret"];

    public static JsonObject Of(JsonNode? given, SettingsValues values)
    {
        var whole = given?.DeepClone() as JsonObject ?? [];
        foreach (var key in SettingsKeys.All)
        {
            if (key.HasEffect && !key.Path.Contains("[]", StringComparison.Ordinal) && values.Get(key.Path) is { } value)
            {
                AddMissing(whole, key.Path.Split('.'), value);
            }
        }
        Hide(whole, "");
        return whole;
    }

    static void AddMissing(JsonObject into, ReadOnlySpan<string> path, JsonNode value)
    {
        foreach (var name in path[..^1])
        {
            if (into[name] is not JsonObject inner)
            {
                into[name] = inner = [];
            }
            into = inner;
        }
        if (into[path[^1]] is null)
        {
            into[path[^1]] = value.DeepClone();
        }
    }

    static void Hide(JsonNode? node, string path)
    {
        switch (node)
        {
            case JsonArray list:
                foreach (var item in list)
                {
                    Hide(item, $"{path}[]");
                }
                break;
            case JsonObject section when path != "plugin_attr":
                foreach (var (name, value) in section.ToArray())
                {
                    var at = path.Length == 0 ? name : $"{path}.{name}";
                    if (SettingsKeys.ByPath.TryGetValue(at, out var known) && known.HasEffect ? known.IsSecret : SecretNames.Contains(name))
                    {
                        section.Remove(name);
                        continue;
                    }
                    Hide(value, at);
                }
                break;
        }
    }
}

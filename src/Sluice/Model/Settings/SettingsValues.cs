using System.Globalization;
using System.Text.Json.Nodes;
using Sluice.Model.Yaml;

namespace Sluice.Model.Settings;

/// <summary>The values of <c>conf/config.yaml</c>, checked key by key; a key that is absent or null has its default.</summary>
sealed class SettingsValues
{
    readonly Dictionary<string, JsonNode> _given = [];
    readonly YamlDocumentTree _tree;
    readonly List<Problem> _problems;

    public SettingsValues(YamlDocumentTree tree, List<Problem> problems)
    {
        _tree = tree;
        _problems = problems;
        switch (tree.Root)
        {
            case null:
                break;
            case JsonObject root:
                CheckSection(root, "", "");
                break;
            default:
                Error("", $"wrong type: expected a mapping, got {SettingType.Describe(tree.Root)}");
                break;
        }
    }

    /// <summary>The file and the defaults, without secrets.</summary>
    public JsonObject Whole() => LocalConfiguration.Of(_tree.Root, this);

    public string Place(string path) => _tree.Place(path);

    /// <summary>The line only where the key, or what it is part of, stands in the file.</summary>
    public string PlaceOrKey(string path) =>
        _given.Keys.Any(key => key.StartsWith(path, StringComparison.Ordinal)
            || (path.StartsWith(key, StringComparison.Ordinal) && path[key.Length] is '.' or '['))
            ? Place(path) : $"conf/config.yaml ({path})";

    public void Error(string path, string message) => _problems.Add(Problem.Error(Place(path), message));

    public void Warn(string path, string message) => _problems.Add(Problem.Warning(Place(path), message));

    public bool IsGiven(string path) => _given.ContainsKey(path);

    /// <summary>The value as given or by default; null when there is neither.</summary>
    public JsonNode? Get(string path) =>
        _given.TryGetValue(path, out var node) ? node : Default(path);

    static JsonNode? Default(string path) =>
        SettingsKeys.ByPath[path].Default is { Length: > 0 } text ? YamlReader.Parse(text, path).Root : null;

    public string Text(string path) => Get(path) is { } node ? TextOf(node) : "";

    public string TextOf(JsonNode node) => _tree.TextFromEnvironment(node) ?? SettingType.Scalar(node);

    public bool Flag(string path) => Get(path) is { } node && IsOn(node);

    public int Whole(string path) => int.Parse(Text(path), CultureInfo.InvariantCulture);

    public TimeSpan? Seconds(string path) => Get(path) is { } node ? TimeSpan.FromSeconds(node.GetValue<double>()) : null;

    public TimeSpan Time(string path) => Nginx.NginxUnits.TryParseTime(Text(path), out var time) ? time : default;

    public IEnumerable<JsonNode> List(string path) => Get(path) is JsonArray list ? list.OfType<JsonNode>() : [];

    /// <summary>A list, null when it is neither given nor has a default.</summary>
    public IReadOnlyList<string>? Texts(string path) => Get(path) is JsonArray ? [.. List(path).Select(TextOf)] : null;

    public static bool IsOn(JsonNode node) =>
        node.GetValueKind() == System.Text.Json.JsonValueKind.True || SettingType.Scalar(node) == "on";

    // --- checks

    void CheckSection(JsonObject section, string keys, string path)
    {
        foreach (var (name, value) in section)
        {
            var key = keys.Length == 0 ? name : $"{keys}.{name}";
            var place = YamlPath.Append(path, name);
            if (SettingsKeys.ByPath.TryGetValue(key, out var known))
            {
                CheckValue(known, value, place);
            }
            else if (!SettingsKeys.Children.ContainsKey(key))
            {
                Warn(place,
                    $"unknown key \"{name}\"{Suggestion.For(name, SettingsKeys.Children[keys].Where(other => !section.ContainsKey(other)))}");
            }
            else if (value is JsonObject inner)
            {
                CheckSection(inner, key, place);
            }
            else if (value is not null)
            {
                Error(place, $"wrong type: expected a mapping, got {SettingType.Describe(value)}");
            }
        }
    }

    void CheckValue(SettingsKey key, JsonNode? value, string path)
    {
        if (!key.HasEffect)
        {
            Warn(path, $"\"{key.Name}\" has no effect here: {key.Effect}");
            return;
        }
        if (value is null)
        {
            if (key.Type.MayBeNull)
            {
                _given[key.Path] = new JsonArray();
            }
            return;
        }
        if (!Accepts(key.Type, value))
        {
            Error(path, Wrong(key.Type, value));
            return;
        }
        if (value is JsonArray list)
        {
            CheckItems(key, list, path);
        }
        if (!key.Path.Contains("[]", StringComparison.Ordinal))
        {
            _given[key.Path] = key.Type.MayBeNull && value is not JsonArray ? new JsonArray(value.DeepClone()) : value;
        }
    }

    void CheckItems(SettingsKey key, JsonArray list, string path)
    {
        for (var i = 0; i < list.Count; i++)
        {
            var place = YamlPath.Append(path, i);
            if (key.Type == SettingType.Listen && list[i] is { } port && SettingType.Port.Accepts(port))
            {
                continue;
            }
            if (key.Type.Item is { } type)
            {
                if (list[i] is not { } item || !Accepts(type, item))
                {
                    Error(place, Wrong(type, list[i]));
                }
            }
            else if (list[i] is JsonObject section)
            {
                CheckSection(section, key.Path + "[]", place);
            }
            else
            {
                Error(place, Wrong(key.Type == SettingType.Listen ? SettingType.Port : SettingType.Object, list[i]));
            }
        }
    }

    // Digits from the environment are a string where one is wanted.
    bool Accepts(SettingType type, JsonNode value) =>
        type.Accepts(value) || ((type == SettingType.Text || type == SettingType.Snippet) && _tree.TextFromEnvironment(value) is not null);

    static string Wrong(SettingType type, JsonNode? value) =>
        $"wrong type: expected {type.Expected}, got {(value is null ? "nothing" : type.IsSecret ? "something else" : SettingType.Describe(value))}";
}

using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model;
using Sluice.Model.Json;
using Sluice.Model.Yaml;

namespace Sluice.Sources;

/// <summary>A resource as a user wrote it: neither validated nor with defaults.</summary>
/// <param name="Id">As written, or made from the position; for consumers the username.</param>
/// <param name="Place"><c>conf/apisix.yaml:12 (routes[0])</c>.</param>
internal sealed record RawDocument(ResourceKind Kind, string Id, JsonObject Value, string Place)
{
    /// <summary>The place of what an error names: the line of the property, where the document was written in lines.</summary>
    public Func<string, string>? Locate { get; init; }

    /// <summary>The place of one of its plugins; null where nobody knows it.</summary>
    public Func<string, string>? PlaceOfPlugin { get; init; }
}

/// <summary>What an apisix.yaml says. With an error among the problems it must not be applied.</summary>
/// <param name="IsComplete">False: there is no <c>#END</c>, so somebody is still writing the file (that is an error among the problems,
/// too).</param>
internal sealed record YamlResources(IReadOnlyList<RawDocument> Documents, IReadOnlyList<Problem> Problems, bool IsComplete = true)
{
    const string EndMark = "#END";

    static readonly string[] PluginLists = ["plugins", "stream_plugins"];

    static readonly string[] KnownKeys = [.. ResourceKinds.All.Where(kind => kind.OwnerKind() is null).Select(kind => kind.Segment()),
        .. PluginLists];

    public bool HasErrors => Problems.Any(problem => problem.Severity == Severity.Error);

    public static YamlResources Failed(string place, string message, bool isComplete = true) =>
        new([], [Problem.Error(place, message)], isComplete);

    /// <param name="file">The name in places: <c>conf/apisix.yaml</c>; one that ends in <c>.json</c> is JSON, which needs no <c>#END</c>:
    /// half of it is none.</param>
    /// <param name="environment">Values for <c>${{NAME}}</c> and <c>${{NAME:=default}}</c>.</param>
    public static YamlResources Parse(string text, string file, Func<string, string?>? environment = null)
    {
        if (file.EndsWith(".json", StringComparison.Ordinal))
        {
            try
            {
                CjsonReader.Parse(Encoding.UTF8.GetBytes(text));
            }
            catch (JsonTextException e)
            {
                return Failed(file, e.Message, isComplete: false);
            }
            // JSON is YAML, but for tabs between its words
            text = text.Replace('\t', ' ');
        }
        else if (!EndsComplete(text, out var lastLine))
        {
            return Failed($"{file}:{lastLine}", $"the last line must be {EndMark}: without it the file counts as half written",
                isComplete: false);
        }
        try
        {
            var reading = new Reading(YamlReader.Parse(text, file, environment));
            reading.ReadAll();
            return new YamlResources(reading.Documents, reading.Problems);
        }
        catch (YamlTextException e)
        {
            return new YamlResources([], [e.ToProblem()]);
        }
    }

    static bool EndsComplete(string text, out int lastLine)
    {
        var trimmed = text.AsSpan().TrimEnd();
        lastLine = trimmed.Count('\n') + 1;
        return trimmed[(trimmed.LastIndexOf('\n') + 1)..].TrimStart().SequenceEqual(EndMark);
    }

    sealed class Reading(YamlDocumentTree tree)
    {
        readonly Dictionary<(ResourceKind Kind, string Id), string> _places = [];

        public List<RawDocument> Documents { get; } = [];

        public List<Problem> Problems { get; } = [.. tree.Problems];

        public void ReadAll()
        {
            switch (tree.Root)
            {
                case null:
                    break;
                case JsonObject sections:
                    foreach (var (key, section) in sections)
                    {
                        ReadSection(key, section);
                    }
                    break;
                default:
                    Error("", $"expected a mapping (routes:, services:, …), got {Describe(tree.Root)}");
                    break;
            }
        }

        void ReadSection(string key, JsonNode? section)
        {
            var path = YamlPath.Append("", key);
            if (key == "credentials")
            {
                Error(path, "credentials stand among the consumers, with an id like \"jack/credentials/1\"");
            }
            else if (ResourceKinds.TryParse(key, out var kind))
            {
                ReadList(kind, section, path);
            }
            else if (PluginLists.Contains(key))
            {
                Warn(path, $"the list of enabled plugins belongs in conf/config.yaml ({key}); here it has no effect");
            }
            else if (key.EndsWith("_conf_version", StringComparison.Ordinal))
            {
                Warn(path, "versions have no effect in a file");
            }
            else
            {
                Error(path, $"unknown key \"{key}\"{Suggestion.For(key, KnownKeys)}");
            }
        }

        void ReadList(ResourceKind kind, JsonNode? section, string path)
        {
            if (section is null)
            {
                return;
            }
            if (section is not JsonArray list)
            {
                Error(path, $"expected a list (each {kind.Singular()} begins with \"- \"), got {Describe(section)}");
                return;
            }
            JsonNode?[] items = [.. list];
            list.Clear(); // a node can be put elsewhere only when it has no parent
            for (var i = 0; i < items.Length; i++)
            {
                var itemPath = YamlPath.Append(path, i);
                if (items[i] is JsonObject value)
                {
                    ReadItem(kind, value, i, itemPath);
                }
                else
                {
                    Error(itemPath, $"expected a mapping, got {Describe(items[i])}");
                }
            }
        }

        void ReadItem(ResourceKind kind, JsonObject value, int index, string path)
        {
            if (kind == ResourceKind.Consumers && IsCredential(value))
            {
                kind = ResourceKind.Credentials;
            }
            if (value["plugins"] is JsonObject plugins)
            {
                // "key-auth:" with nothing behind it
                foreach (var name in plugins.Where(plugin => plugin.Value is null).Select(plugin => plugin.Key).ToArray())
                {
                    plugins[name] = new JsonObject();
                }
            }
            if (IdOf(kind, value, index, path) is not { } id)
            {
                return;
            }
            var place = tree.Place(path);
            if (_places.TryGetValue((kind, id), out var first))
            {
                Problems.Add(Problem.Error(place, $"{kind.Singular()} \"{id}\" is there twice, first at {first}"));
                return;
            }
            _places.Add((kind, id), place);
            Documents.Add(new RawDocument(kind, id, value, place)
            {
                Locate = error => ErrorPath.Of(error) is { Length: > 0 } inner ? tree.Place(path + inner) : place,
                PlaceOfPlugin = name => tree.Place(YamlPath.Append(YamlPath.Append(path, "plugins"), name)),
            });
        }

        /// <summary>Null: there is none, and a problem says so.</summary>
        string? IdOf(ResourceKind kind, JsonObject value, int index, string path)
        {
            var name = kind == ResourceKind.Consumers ? "username" : "id";
            var id = value[name];
            if (id is null)
            {
                switch (kind)
                {
                    case ResourceKind.Consumers:
                        Error(path, "property \"username\" is required");
                        return null;
                    case ResourceKind.PluginMetadata:
                        Error(path, "property \"id\" is required: the plugin's name");
                        return null;
                }
            }
            var text = id is null ? $"arr_{index + 1}" : TextOf(id);
            if (string.IsNullOrEmpty(text))
            {
                Error(YamlPath.Append(path, name), $"expected a text or a whole number, got {Describe(id)}");
                return null;
            }
            if (kind == ResourceKind.Credentials && !ResourceKinds.IsCredential(text))
            {
                Error(YamlPath.Append(path, name), $"expected an id like \"jack/credentials/1\", got {Describe(id)}");
                return null;
            }
            if (kind is not ResourceKind.Consumers)
            {
                value["id"] = kind == ResourceKind.Credentials ? ResourceKinds.CredentialOf(text).Id : text;
            }
            return text;
        }

        string? TextOf(JsonNode id) => id.GetValueKind() switch
        {
            JsonValueKind.String => id.GetValue<string>(),
            JsonValueKind.Number when id.ToJsonString() is var number && !number.AsSpan().ContainsAny(".eE") =>
                tree.TextFromEnvironment(id) ?? number,
            _ => null,
        };

        static bool IsCredential(JsonObject value) =>
            value["username"] is null && value["id"] is JsonValue id && id.TryGetValue<string>(out var text)
            && text.Contains("/credentials/", StringComparison.Ordinal);

        void Error(string path, string message) => Problems.Add(Problem.Error(tree.Place(path), message));

        void Warn(string path, string message) => Problems.Add(Problem.Warning(tree.Place(path), message));

        static string Describe(JsonNode? node) => node?.GetValueKind() switch
        {
            null or JsonValueKind.Null => "nothing",
            JsonValueKind.Object => "a mapping",
            JsonValueKind.Array => "a list",
            JsonValueKind.String when node.GetValue<string>().Length == 0 => "an empty text",
            JsonValueKind.String => "text",
            JsonValueKind.Number => $"the number {node.ToJsonString()}",
            _ => node.ToJsonString(),
        };
    }
}

using System.Globalization;
using System.Text.Json.Nodes;

namespace Sluice.Model.Yaml;

/// <summary>A YAML document as JSON, and where each of its nodes was written.</summary>
internal sealed class YamlDocumentTree
{
    readonly YamlNode? _root;
    readonly Dictionary<JsonNode, YamlNode> _origins;

    internal YamlDocumentTree(
        string file, JsonNode? root, YamlNode? origin, Dictionary<JsonNode, YamlNode> origins, IReadOnlyList<Problem> problems)
    {
        File = file;
        Root = root;
        _root = origin;
        _origins = origins;
        Problems = problems;
    }

    public string File { get; }

    /// <summary>Null when the document is empty or says <c>null</c>.</summary>
    public JsonNode? Root { get; }

    /// <summary>Environment variables that are named without a default and are not set.</summary>
    public IReadOnlyList<Problem> Problems { get; }

    /// <summary>
    /// The line (from 1) of a path like <c>routes[0].upstream.nodes</c>: of the key for a value in a mapping, of the item for one in a
    /// list. A path that leads outside the document gives the line of its last existing ancestor.
    /// </summary>
    public int LineOf(string path)
    {
        var node = _root;
        var line = node?.Line ?? 1;
        for (var at = 0; node is not null && YamlPath.TryNext(path, ref at, out var segment);)
        {
            node = node.Find(segment, ref line);
        }
        return line;
    }

    /// <summary>The line (from 1) of a node of <see cref="Root"/>, 0 when it is none of this document's.</summary>
    public int LineOf(JsonNode node) => _origins.TryGetValue(node, out var origin) ? origin.Line : 0;

    /// <summary><c>conf/apisix.yaml:12 (routes[0].uri)</c>, for a <see cref="Problem"/>.</summary>
    public string Place(string path) => path.Length == 0 ? $"{File}:{LineOf(path)}" : $"{File}:{LineOf(path)} ({path})";

    /// <summary>The text of a scalar whose value comes from the environment, null for all others: an all-digits password is still
    /// one.</summary>
    public string? TextFromEnvironment(JsonNode node) =>
        _origins.TryGetValue(node, out var origin) && origin is YamlScalar { Substituted: { } text } ? text : null;
}

/// <summary>Paths of YAML nodes: <c>a.b[0].c</c>, and <c>a["x.y"]</c> for keys that would be misread.</summary>
internal static class YamlPath
{
    public static string Append(string path, string key) =>
        key.Length == 0 || key.AsSpan().ContainsAny(".[]\"") ? $"{path}[\"{key}\"]" : path.Length == 0 ? key : $"{path}.{key}";

    public static string Append(string path, int index) => string.Create(CultureInfo.InvariantCulture, $"{path}[{index}]");

    /// <summary>Takes the next segment: a key, or <c>[0]</c> for an index.</summary>
    internal static bool TryNext(string path, ref int at, out string segment)
    {
        segment = "";
        if (at < path.Length && path[at] == '.')
        {
            at++;
        }
        if (at >= path.Length)
        {
            return false;
        }
        var quoted = path.AsSpan(at).StartsWith("[\"");
        var end = quoted ? path.IndexOf("\"]", at + 2, StringComparison.Ordinal)
            : path[at] == '[' ? path.IndexOf(']', at) + 1
            : path.AsSpan(at).IndexOfAny('.', '[') is >= 0 and var length ? at + length
            : path.Length;
        if (end <= at)
        {
            end = path.Length;
        }
        segment = quoted ? path[(at + 2)..end] : path[at..end];
        at = quoted ? Math.Min(end + 2, path.Length) : end;
        return true;
    }
}

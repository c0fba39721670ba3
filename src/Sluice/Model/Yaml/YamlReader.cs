using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace Sluice.Model.Yaml;

/// <summary>
/// Reads one YAML 1.2 document (core schema, plus <c>&lt;&lt;</c> merge keys) as JSON nodes. Whatever the text holds, the outcome is a tree
/// or a <see cref="YamlTextException"/>.
/// </summary>
internal sealed partial class YamlReader
{
    const int MaxDepth = 100;

    /// <summary>Nodes that aliases and merge keys may add to those that are written: an alias bomb stops here.</summary>
    const int MaxAliasedNodes = 100_000;

    readonly string _file;
    readonly Func<string, string?>? _environment;
    readonly Dictionary<AnchorName, YamlNode?> _anchors = [];
    readonly Dictionary<JsonNode, YamlNode> _origins = new(ReferenceEqualityComparer.Instance);
    readonly List<Problem> _problems = [];
    int _aliased;

    YamlReader(string file, Func<string, string?>? environment)
    {
        _file = file;
        _environment = environment;
    }

    /// <param name="file">The name that errors carry: <c>conf/apisix.yaml</c>.</param>
    /// <param name="environment">Puts <c>${{NAME}}</c> and <c>${{NAME:=default}}</c> into scalars and keys before their type is decided;
    /// null: does not.</param>
    /// <exception cref="YamlTextException">Not well-formed, two equal keys in one mapping, more than one document, or nested too
    /// deeply.</exception>
    public static YamlDocumentTree Parse(string text, string file, Func<string, string?>? environment = null)
    {
        if (text.StartsWith('\uFEFF'))
        {
            text = text[1..];
        }
        RefuseControlCharacters(text, file);
        return new YamlReader(file, environment).Read(text);
    }

    // The parser takes a NUL for the end of the text: what comes after it would be lost without a word.
    static void RefuseControlCharacters(string text, string file)
    {
        var at = text.AsSpan().IndexOfAny(ControlCharacters);
        if (at < 0)
        {
            return;
        }
        var before = text.AsSpan(0, at);
        var line = before.Count('\n') + 1;
        throw new YamlTextException(file, line, at - before.LastIndexOf('\n'), $"control character U+{(int)text[at]:X4} is not allowed");
    }

    static readonly System.Buffers.SearchValues<char> ControlCharacters = System.Buffers.SearchValues.Create(
        [.. Enumerable.Range(0, 0x20).Select(code => (char)code).Where(c => c is not ('\t' or '\n' or '\r')), '\x7F', '\uFFFE', '\uFFFF']);

    YamlDocumentTree Read(string text)
    {
        var parser = new Parser(new StringReader(text));
        YamlNode? root = null;
        try
        {
            parser.MoveNext();
            parser.MoveNext();
            if (parser.Current is DocumentStart)
            {
                parser.MoveNext();
                root = ReadNode(parser, 1);
                parser.MoveNext();
                if (parser.MoveNext() && parser.Current is DocumentStart second)
                {
                    throw Wrong(second.Start, "there is more than one document");
                }
            }
        }
        catch (YamlException e)
        {
            throw Wrong(Blame(e, text), OneLine(e.Message));
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException or IndexOutOfRangeException or FormatException
            or OverflowException or KeyNotFoundException or NullReferenceException)
        {
            throw Wrong(parser.Current?.End ?? new Mark(0, 1, 1), "not YAML: " + OneLine(e.Message));
        }
        var json = root is null ? null : Build(root, "", 1, viaAlias: false);
        return new(_file, json, root, _origins, _problems);
    }

    // The library blames the start of what it was reading. That is right for an end that is missing; a tab is told where it stands,
    // everything else where reading stopped.
    static Mark Blame(YamlException e, string text)
    {
        if (e.Message.Contains("end of", StringComparison.Ordinal))
        {
            return e.Start;
        }
        if (!e.Message.Contains("tab as indent", StringComparison.Ordinal))
        {
            return e.End;
        }
        var line = e.Start.Line;
        foreach (var candidate in text.Split('\n').Skip((int)line - 1))
        {
            if (candidate.AsSpan().TrimStart(' ') is ['\t', ..])
            {
                return new Mark(0, line, candidate.IndexOf('\t', StringComparison.Ordinal) + 1);
            }
            line++;
        }
        return e.End;
    }

    YamlTextException Wrong(Mark at, string message) => new(_file, (int)at.Line, (int)at.Column, message);

    YamlTextException Wrong(YamlNode at, string message) => new(_file, at.Line, at.Column, message);

    static string OneLine(string message) => message.ReplaceLineEndings(" ").Trim().TrimEnd('.');

    // --- events to nodes; leaves the parser on the node's last event

    YamlNode ReadNode(Parser parser, int depth)
    {
        var current = parser.Current ?? throw Wrong(new Mark(0, 1, 1), "the text ends too early");
        if (depth > MaxDepth)
        {
            throw Wrong(current.Start, $"nested more than {MaxDepth} levels deep");
        }
        switch (current)
        {
            case Scalar scalar:
                return Anchored(scalar, new YamlScalar(scalar.Start, scalar.Value, scalar.Style == ScalarStyle.Plain, TagOf(scalar)));
            case AnchorAlias alias:
                return _anchors.TryGetValue(alias.Value, out var target)
                    ? new YamlAlias(alias.Start, alias.Value.Value,
                        target ?? throw Wrong(alias.Start, $"alias *{alias.Value} stands inside its own anchor"))
                    : throw Wrong(alias.Start, $"alias *{alias.Value} has no anchor &{alias.Value} before it");
            case SequenceStart start:
                return ReadList(parser, start, depth);
            case MappingStart start:
                return ReadMap(parser, start, depth);
            default:
                throw Wrong(current.Start, "a value is expected here");
        }
    }

    YamlList ReadList(Parser parser, SequenceStart start, int depth)
    {
        ExpectTag(start, "tag:yaml.org,2002:seq");
        Open(start);
        var list = new YamlList(start.Start);
        while (parser.MoveNext() && parser.Current is not SequenceEnd)
        {
            list.Items.Add(ReadNode(parser, depth + 1));
        }
        return Anchored(start, list);
    }

    YamlMap ReadMap(Parser parser, MappingStart start, int depth)
    {
        ExpectTag(start, "tag:yaml.org,2002:map");
        Open(start);
        var map = new YamlMap(start.Start);
        while (parser.MoveNext() && parser.Current is not MappingEnd)
        {
            var key = ReadNode(parser, depth + 1);
            if (key is YamlAlias { Target: YamlScalar aliased })
            {
                key = aliased;
            }
            parser.MoveNext();
            map.Entries.Add((key as YamlScalar ?? throw Wrong(key, "a key must be a scalar"), ReadNode(parser, depth + 1)));
        }
        return Anchored(start, map);
    }

    void Open(NodeEvent start)
    {
        if (!start.Anchor.IsEmpty)
        {
            _anchors[start.Anchor] = null;
        }
    }

    T Anchored<T>(NodeEvent start, T node)
        where T : YamlNode
    {
        if (!start.Anchor.IsEmpty)
        {
            _anchors[start.Anchor] = node;
        }
        return node;
    }

    void ExpectTag(NodeEvent start, string tag)
    {
        if (!start.Tag.IsEmpty && !start.Tag.IsNonSpecific && start.Tag.Value != tag)
        {
            throw Wrong(start.Start, $"tag {start.Tag.Value} is not supported");
        }
    }

    static string? TagOf(Scalar scalar) => scalar.Tag.IsEmpty ? null : scalar.Tag.IsNonSpecific ? "!" : scalar.Tag.Value;

    // --- nodes to JSON

    JsonNode? Build(YamlNode node, string path, int depth, bool viaAlias)
    {
        if (viaAlias)
        {
            CountAliased(node);
        }
        if (depth > MaxDepth)
        {
            throw Wrong(node, $"nested more than {MaxDepth} levels deep");
        }
        switch (node)
        {
            case YamlAlias alias:
                return Build(alias.Target, path, depth, viaAlias: true);
            case YamlScalar scalar:
                return Known(BuildScalar(scalar, path), scalar);
            case YamlList list:
                var array = new JsonArray();
                for (var i = 0; i < list.Items.Count; i++)
                {
                    array.Add(Build(list.Items[i], YamlPath.Append(path, i), depth + 1, viaAlias));
                }
                return Known(array, list);
            case YamlMap map:
                var result = new JsonObject();
                foreach (var (name, _, value) in Merge(map, path, depth))
                {
                    result.Add(name, Build(value, YamlPath.Append(path, name), depth + 1, viaAlias));
                }
                return Known(result, map);
            default:
                throw new InvalidOperationException(node.GetType().Name);
        }
    }

    void CountAliased(YamlNode node)
    {
        if (++_aliased > MaxAliasedNodes)
        {
            throw Wrong(node, $"aliases make the document more than {MaxAliasedNodes} nodes larger");
        }
    }

    JsonNode? Known(JsonNode? json, YamlNode origin)
    {
        if (json is not null)
        {
            _origins.Add(json, origin);
        }
        return json;
    }

    // Own keys win over merged ones, an earlier merged mapping over a later one.
    List<(string Name, YamlScalar Key, YamlNode Value)> Merge(YamlMap map, string path, int depth)
    {
        if (map.Merged is { } done)
        {
            return done;
        }
        if (depth > MaxDepth)
        {
            throw Wrong(map, $"nested more than {MaxDepth} levels deep");
        }
        var merged = new List<(string Name, YamlScalar Key, YamlNode Value)>(map.Entries.Count);
        var seen = new Dictionary<string, YamlScalar>(map.Entries.Count);
        foreach (var (key, value) in map.Entries.Where(entry => !IsMerge(entry.Key)))
        {
            var name = Substitute(key, path);
            if (!seen.TryAdd(name, key))
            {
                throw Wrong(key, $"duplicate key \"{name}\", first on line {seen[name].Line}");
            }
            merged.Add((name, key, value));
        }
        foreach (var (key, value) in map.Entries.Where(entry => IsMerge(entry.Key)))
        {
            foreach (var entry in Sources(key, value).SelectMany(source => Merge(source, path, depth + 1)))
            {
                CountAliased(key);
                if (seen.TryAdd(entry.Name, entry.Key))
                {
                    merged.Add(entry);
                }
            }
        }
        return map.Merged = merged;
    }

    static bool IsMerge(YamlScalar key) => key is { Plain: true, Text: "<<" };

    IEnumerable<YamlMap> Sources(YamlScalar key, YamlNode value) => Resolved(value) switch
    {
        YamlMap one => [one],
        YamlList many => many.Items.Select(item => Resolved(item) as YamlMap ?? throw Wrong(item, "<< takes mappings")),
        _ => throw Wrong(key, "<< takes a mapping or a list of mappings"),
    };

    static YamlNode Resolved(YamlNode node) => node is YamlAlias alias ? alias.Target : node;

    JsonValue? BuildScalar(YamlScalar scalar, string path)
    {
        var text = Substitute(scalar, path);
        try
        {
            return scalar.Tag switch
            {
                "!" or "tag:yaml.org,2002:str" => JsonValue.Create(text),
                null when !scalar.Plain && scalar.Substituted is null => JsonValue.Create(text),
                null when text.Length == 0 && scalar.Substituted is not null => JsonValue.Create(""),
                null => CoreSchema(text),
                "tag:yaml.org,2002:null" when IsNull(text) => null,
                "tag:yaml.org,2002:float" when Number().IsMatch(text) => FromDouble(text),
                "tag:yaml.org,2002:bool" or "tag:yaml.org,2002:int"
                    when CoreSchema(text) is JsonValue value && value.GetValueKind() is not System.Text.Json.JsonValueKind.String => value,
                var tag => throw new FormatException($"tag {tag} does not fit \"{Shorten(text)}\""),
            };
        }
        catch (FormatException e)
        {
            throw Wrong(scalar, e.Message);
        }
    }

    static string Shorten(string text) => OneLine(text.Length > 40 ? text[..40] + "…" : text);

    static bool IsNull(string text) => text is "" or "~" or "null" or "Null" or "NULL";

    static JsonValue? CoreSchema(string text) => text switch
    {
        _ when IsNull(text) => null,
        "true" or "True" or "TRUE" => JsonValue.Create(true),
        "false" or "False" or "FALSE" => JsonValue.Create(false),
        _ when text.Length > 400 || !(char.IsAsciiDigit(text[0]) || text[0] is '+' or '-' or '.') => JsonValue.Create(text),
        _ when Radix(text) is { } value => FromText(value.ToString(CultureInfo.InvariantCulture)),
        _ when !Number().IsMatch(text) => NotFinite().IsMatch(text)
            ? throw new FormatException($"{text} has no place in JSON; quote it if it is meant as text")
            : JsonValue.Create(text),
        _ when long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var whole) =>
            FromText(whole.ToString(CultureInfo.InvariantCulture)),
        _ => FromDouble(text),
    };

    static long? Radix(string text)
    {
        try
        {
            return Hex().IsMatch(text) ? Convert.ToInt64(text, 16) : Octal().IsMatch(text) ? Convert.ToInt64(text[2..], 8) : null;
        }
        catch (OverflowException)
        {
            throw new FormatException($"number {Shorten(text)} is out of range");
        }
    }

    static JsonValue FromDouble(string text)
    {
        var value = double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture);
        return double.IsFinite(value)
            ? FromText(value.ToString("R", CultureInfo.InvariantCulture))
            : throw new FormatException($"number {Shorten(text)} is out of range");
    }

    // Parsed, not created: such a value answers GetValue<int>, <long> and <double> alike, as one that came in as JSON does.
    static JsonValue FromText(string number) => JsonNode.Parse(number)!.AsValue();

    string Substitute(YamlScalar scalar, string path)
    {
        if (_environment is null || scalar.Substituted is not null || !scalar.Text.Contains("${{", StringComparison.Ordinal))
        {
            return scalar.Substituted ?? scalar.Text;
        }
        var found = false;
        var text = Variable().Replace(scalar.Text, match =>
        {
            found = true;
            var name = match.Groups["name"].Value;
            if (_environment(name) is { } value)
            {
                return value;
            }
            if (!match.Groups["default"].Success)
            {
                var place = path.Length == 0 ? "" : $" ({path})";
                _problems.Add(Problem.Error($"{_file}:{scalar.Line}{place}",
                    $"environment variable \"{name}\" is not set and has no default: ${{{{{name}:=…}}}}"));
            }
            return match.Groups["default"].Value;
        });
        if (found)
        {
            scalar.Substituted = text;
        }
        return text;
    }

    [GeneratedRegex(@"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\z")]
    private static partial Regex Number();

    [GeneratedRegex(@"^0x[0-9a-fA-F]+\z")]
    private static partial Regex Hex();

    [GeneratedRegex(@"^0o[0-7]+\z")]
    private static partial Regex Octal();

    [GeneratedRegex(@"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\z")]
    private static partial Regex NotFinite();

    [GeneratedRegex(@"\$\{\{\s*(?<name>[A-Za-z_][A-Za-z0-9_]*)(\s*:=\s*(?<default>.*?))?\s*\}\}")]
    private static partial Regex Variable();
}

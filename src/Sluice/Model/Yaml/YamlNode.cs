using System.Globalization;
using YamlDotNet.Core;

namespace Sluice.Model.Yaml;

/// <summary>What the parser's events say, before aliases and merge keys are resolved.</summary>
abstract class YamlNode(Mark start)
{
    public int Line { get; protected set; } = (int)start.Line;

    public int Column { get; } = (int)start.Column;

    /// <summary>The child that a path segment names; <paramref name="line"/> becomes its line when there is one.</summary>
    public virtual YamlNode? Find(string segment, ref int line) => null;
}

sealed class YamlScalar(Mark start, string text, bool plain, string? tag) : YamlNode(start)
{
    public string Text => text;

    public bool Plain => plain;

    public string? Tag => tag;

    /// <summary>The text after environment variables were put in, null when it names none.</summary>
    public string? Substituted { get; set; }
}

sealed class YamlAlias(Mark start, string name, YamlNode target) : YamlNode(start)
{
    public string Name => name;

    public YamlNode Target => target;

    public override YamlNode? Find(string segment, ref int line) => Target.Find(segment, ref line);
}

sealed class YamlList(Mark start) : YamlNode(start)
{
    public List<YamlNode> Items { get; } = [];

    public override YamlNode? Find(string segment, ref int line)
    {
        if (segment is not ['[', .. var digits, ']'] ||
            !int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var index) || index >= Items.Count)
        {
            return null;
        }
        line = Items[index].Line;
        return Items[index];
    }
}

sealed class YamlMap(Mark start) : YamlNode(start)
{
    public List<(YamlScalar Key, YamlNode Value)> Entries { get; } = [];

    /// <summary>Its entries with those of its <c>&lt;&lt;</c> keys, set when it was resolved.</summary>
    public List<(string Name, YamlScalar Key, YamlNode Value)>? Merged { get; set; }

    public override YamlNode? Find(string segment, ref int line)
    {
        foreach (var (name, key, value) in Merged ?? [])
        {
            if (name == segment)
            {
                line = key.Line;
                return value;
            }
        }
        return null;
    }
}

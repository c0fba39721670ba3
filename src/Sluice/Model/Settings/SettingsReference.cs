using System.Text;

namespace Sluice.Model.Settings;

/// <summary>What is generated from <see cref="SettingsKeys"/>: the reference page and the commented default configuration.</summary>
internal static class SettingsReference
{
    /// <summary>The page of all keys of <c>conf/config.yaml</c>.</summary>
    public static string Markdown()
    {
        var text = new StringBuilder("""
            # conf/config.yaml

            Generated from the program (`SettingsKeys.cs`). The keys are APISIX's; those under `sluice` are Sluice's own. A key that is absent or
            empty has its default. `${{NAME}}` and `${{NAME:=default}}` stand for environment variables, anywhere in a value or key. An unknown key
            is a warning, a value of the wrong type an error, both with file, line and path.

            """).AppendLine();
        foreach (var (section, keys) in SettingsKeys.All.Where(key => key.HasEffect).GroupBy(SectionOf)
            .Select(group => (group.Key, group.ToList())))
        {
            text.AppendLine($"## {(section.Length == 0 ? "Top level" : $"`{section}`")}").AppendLine();
            if (SettingsKeys.Sections.FirstOrDefault(known => known.Path == section).Doc is { } doc)
            {
                text.AppendLine(doc).AppendLine();
            }
            text.AppendLine("| key | type | default | meaning |").AppendLine("|---|---|---|---|");
            foreach (var key in keys)
            {
                var name = section.Length == 0 ? key.Path : key.Path[(section.Length + 1)..];
                text.AppendLine(
                    $"| `{name}` | {Cell(key.Type.Name)} | {(key.Default.Length == 0 ? "" : $"`{Cell(key.Default)}`")} | {Cell(key.Doc)}{(key.Shipped is { } shipped ? $" `sluice init` writes `{Cell(shipped)}`." : "")} |");
            }
            text.AppendLine();
        }
        text.AppendLine("## Keys of APISIX without effect").AppendLine()
            .AppendLine("They are known, and a warning says why they do nothing here.").AppendLine()
            .AppendLine("| key | why |").AppendLine("|---|---|");
        foreach (var key in SettingsKeys.All.Where(key => !key.HasEffect))
        {
            text.AppendLine($"| `{key.Path}` | {Cell(key.Effect!)} |");
        }
        return text.Replace("\r\n", "\n").ToString();
    }

    // keys of a list's items stand with the list
    static string SectionOf(SettingsKey key)
    {
        var list = key.Path.IndexOf("[]", StringComparison.Ordinal);
        var path = list < 0 ? key.Path : key.Path[..list];
        return path.LastIndexOf('.') is >= 0 and var dot ? path[..dot] : "";
    }

    static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);

    /// <summary>A <c>conf/config.yaml</c> that says all defaults, each with what it means.</summary>
    public static string DefaultConfigYaml()
    {
        var text = new StringBuilder("""
            # Sluice: conf/config.yaml. All values are the defaults, but for those that say so; keys are APISIX's, those under "sluice" Sluice's own.
            # ${{NAME}} and ${{NAME:=default}} stand for environment variables. "sluice test" checks this file, "sluice reload" applies it.

            """);
        WriteSection(text, "", 0);
        return text.Replace("\r\n", "\n").ToString();
    }

    static void WriteSection(StringBuilder text, string section, int depth)
    {
        var indent = new string(' ', depth * 2);
        foreach (var name in SettingsKeys.Children[section])
        {
            var path = section.Length == 0 ? name : $"{section}.{name}";
            if (SettingsKeys.ByPath.TryGetValue(path, out var key))
            {
                WriteKey(text, key, name, indent);
            }
            else if (SettingsKeys.All.Any(inner => inner.HasEffect && inner.Path.StartsWith(path + ".", StringComparison.Ordinal)))
            {
                var doc = SettingsKeys.Sections.First(known => known.Path == path).Doc;
                text.Append(depth == 0 ? "\n" : "").Append($"{indent}# {doc}\n{indent}{name}:\n");
                WriteSection(text, path, depth + 1);
            }
        }
    }

    static void WriteKey(StringBuilder text, SettingsKey key, string name, string indent)
    {
        if (!key.HasEffect)
        {
            return;
        }
        text.Append($"{indent}# {key.Doc}\n");
        if (key.Default.Length > 0)
        {
            text.Append($"{indent}{name}: {key.Default}\n");
        }
        else if (key.Shipped is { } shipped)
        {
            text.Append($"{indent}# Not the default: without this line nothing is added to a stream.\n{indent}{name}: {shipped}\n");
        }
        else if (key.Type == SettingType.Snippet)
        {
            text.Append($"{indent}# {name}: |\n{indent}#   {key.Example}\n");
        }
        else
        {
            text.Append($"{indent}# {name}: {key.Example}\n");
        }
    }
}

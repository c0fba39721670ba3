using System.Text.RegularExpressions;

namespace Sluice.Tests.Architecture;

/// <summary>
/// Folders form a ladder: each may use only what stands above it in this list. Program.cs knows all. Net/Http, HTTP's own words, stands on
/// a rung of its own.
/// </summary>
public class FolderLadderTests
{
    static readonly string[] Ladder =
    [
        "Net.Http", "Observability", "Model", "Net", "Api", "Relay", "Upstreams", "Scripting", "Pipeline", "Ai", "Plugins", "Sources",
        "Admin", "Hosting", "Cli",
    ];

    static readonly string Source = Path.Combine(Repository.Root, "src", "Sluice");

    [Fact]
    public void Using_goes_only_down_the_ladder()
    {
        List<string> climbs = [];
        foreach (var file in Directory.EnumerateFiles(Source, "*.cs", SearchOption.AllDirectories))
        {
            var folder = RungOf(Path.GetDirectoryName(Path.GetRelativePath(Source, file))!.Replace(Path.DirectorySeparatorChar, '.'));
            if (folder is "bin" or "obj" || !Ladder.Contains(folder))
            {
                continue;
            }
            foreach (Match match in Regex.Matches(File.ReadAllText(file), @"\bSluice\.([\w.]+)"))
            {
                var used = RungOf(match.Groups[1].Value);
                if (Array.IndexOf(Ladder, used) > Array.IndexOf(Ladder, folder))
                {
                    climbs.Add($"{Path.GetRelativePath(Source, file)} uses {used}");
                }
            }
        }
        Assert.Empty(climbs);
    }

    static string RungOf(string path) =>
        path == "Net.Http" || path.StartsWith("Net.Http.", StringComparison.Ordinal) ? "Net.Http" : path.Split('.')[0];

    [Fact]
    public void Every_folder_has_its_place_on_the_ladder() => Assert.Empty(
        Directory.EnumerateDirectories(Source).Select(path => Path.GetFileName(path)!).Except([.. Ladder, "bin", "obj"]));

    /// <summary>
    /// Which sub-folders of Pipeline each of them may name. The first five are one rung: an exchange has its route, its chain and its
    /// snapshot. What is not in a line is a climb; lines get shorter, not longer.
    /// </summary>
    static readonly Dictionary<string, string[]> Pipeline = new()
    {
        ["Exchange"] = ["Plugging", "Routing", "Configuration", "Responses", "Live", "Lua", "Tls"],
        ["Plugging"] = ["Exchange", "Routing", "Responses", "Live", "References", "Lua", "TcpUdp"],
        ["Routing"] = ["Exchange", "Plugging", "References"],
        ["Configuration"] = ["Plugging", "Routing", "Responses", "References", "Lua", "Tls", "TcpUdp"],
        ["Responses"] = ["Exchange", "Live", "Plugging", "Routing", "Configuration"],
        ["References"] = ["Exchange", "Plugging", "Configuration", "Responses", "TcpUdp"],
        ["Tls"] = ["Exchange", "Configuration", "Responses", "References"],
        ["TcpUdp"] = ["Exchange", "Plugging", "Routing", "Configuration"],
        ["Lua"] = ["Exchange", "Plugging", "Routing", "Configuration", "Responses"],
        ["Forwarding"] = ["Exchange", "Plugging", "Routing", "Configuration", "Responses", "Live"],
        ["Live"] = ["Exchange", "Routing", "Responses", "Plugging"],
    };

    [Fact]
    public void Folders_of_the_pipeline_name_only_what_they_may()
    {
        var root = Path.Combine(Source, "Pipeline");
        var folders = Directory.EnumerateDirectories(root).Select(path => Path.GetFileName(path)!).ToArray();
        Assert.Empty(folders.Except(Pipeline.Keys));
        var files = folders.SelectMany(folder => Directory.EnumerateFiles(Path.Combine(root, folder), "*.cs", SearchOption.AllDirectories)
            .Select(file => (Folder: folder, File: file, Text: Regex.Replace(File.ReadAllText(file), "//.*", "")))).ToArray();
        var declared = files.SelectMany(file => Regex.Matches(
                file.Text,
                @"^(?:(?:public|internal|static|sealed|abstract|partial|readonly) )*(?:class|record struct|record|struct|interface|enum) (\w+)", RegexOptions.Multiline)
            .Select(match => (Type: match.Groups[1].Value, file.Folder))).DistinctBy(type => type.Type)
            .ToDictionary(type => type.Type, type => type.Folder);
        var climbs = files.SelectMany(file => Regex.Matches(file.Text, @"(?<![\w.])\w+").Select(match => match.Value).Distinct()
            .Where(word => declared.TryGetValue(word, out var folder) && folder != file.Folder && !Pipeline[file.Folder].Contains(folder))
            .Select(word => $"{Path.GetRelativePath(Source, file.File)} names {word} of {declared[word]}"));
        Assert.Empty(climbs);
    }

    [Fact]
    public void Plugins_never_name_each_other()
    {
        var plugins = Directory.EnumerateFiles(Path.Combine(Source, "Plugins"), "*.cs", SearchOption.AllDirectories)
            .Where(file => Regex.IsMatch(File.ReadAllText(file), @"\bIPlugin<"))
            .ToDictionary(file => Path.GetFileNameWithoutExtension(file));
        var naming = plugins.SelectMany(plugin => plugins.Keys.Where(other => other != plugin.Key
                && Regex.IsMatch(File.ReadAllText(plugin.Value), $@"\b{other}\.(?!cs)"))
            .Select(other => $"{plugin.Key} names {other}"));
        Assert.Empty(naming);
    }

    [Fact]
    public void Unit_tests_stand_in_the_folder_of_what_they_test()
    {
        var tests = Path.Combine(Repository.Root, "tests", "Sluice.Tests");
        var folders = Files(Source).ToLookup(file => Path.GetFileNameWithoutExtension(file),
            file => Path.GetRelativePath(Source, Path.GetDirectoryName(file)!));
        var astray = from file in Files(tests).Where(file => file.EndsWith("Tests.cs", StringComparison.Ordinal))
                     let tested = folders[Path.GetFileNameWithoutExtension(file)[..^"Tests".Length]]
                     let folder = Path.GetRelativePath(tests, Path.GetDirectoryName(file)!)
                     where tested.Any() && !tested.Contains(folder)
                     select $"{Path.GetRelativePath(tests, file)} belongs into {string.Join(" or ", tested)}";
        Assert.Empty(astray);
    }

    static IEnumerable<string> Files(string root) => Directory.EnumerateFiles(root, "*.cs", SearchOption.AllDirectories)
        .Where(file => Path.GetRelativePath(root, file).Split(Path.DirectorySeparatorChar)[0] is not ("bin" or "obj"));
}

using System.Text.RegularExpressions;

namespace Sluice.Tests.Architecture;

/// <summary>Folders form a ladder: each may use only what stands above it in this list. Program.cs knows all.</summary>
public class FolderLadderTests
{
    static readonly string[] Ladder =
    [
        "Observability", "Model", "Net", "Relay", "Upstreams", "Scripting", "Pipeline", "Plugins", "Sources", "Admin", "Hosting", "Cli",
    ];

    static readonly string Source = Path.Combine(Repository.Root, "src", "Sluice");

    [Fact]
    public void Using_goes_only_down_the_ladder()
    {
        List<string> climbs = [];
        foreach (var file in Directory.EnumerateFiles(Source, "*.cs", SearchOption.AllDirectories))
        {
            var folder = Path.GetRelativePath(Source, file).Split(Path.DirectorySeparatorChar)[0];
            if (folder is "bin" or "obj" || !Ladder.Contains(folder))
            {
                continue;
            }
            foreach (Match match in Regex.Matches(File.ReadAllText(file), @"\bSluice\.(\w+)"))
            {
                var used = match.Groups[1].Value;
                if (Array.IndexOf(Ladder, used) > Array.IndexOf(Ladder, folder))
                {
                    climbs.Add($"{Path.GetRelativePath(Source, file)} uses {used}");
                }
            }
        }
        Assert.Empty(climbs);
    }

    [Fact]
    public void Every_folder_has_its_place_on_the_ladder() => Assert.Empty(
        Directory.EnumerateDirectories(Source).Select(path => Path.GetFileName(path)!).Except([.. Ladder, "bin", "obj"]));

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
}

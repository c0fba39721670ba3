using System.Runtime.CompilerServices;

namespace Sluice.Tests.Model;

/// <summary>
/// A case is a file: sections <c>=== name</c> are the input, what stands under <c>---</c> is what must come out.
/// With SLUICE_UPDATE_GOLDEN=1 the outcome is written into the file instead of compared: read the diff.
/// </summary>
sealed record GoldenCase(string Path, IReadOnlyDictionary<string, string> Sections, string Input, string Expected)
{
    public static string Directory([CallerFilePath] string file = "") =>
        System.IO.Path.Combine(System.IO.Path.GetDirectoryName(file)!, "Cases");

    public static TheoryData<string> Names(string directory) =>
        [.. System.IO.Directory.GetFiles(directory, "*.txt").Select(path => System.IO.Path.GetFileNameWithoutExtension(path))
            .Order(StringComparer.Ordinal)];

    public static GoldenCase Read(string directory, string name)
    {
        var path = System.IO.Path.Combine(directory, name + ".txt");
        var text = File.ReadAllText(path);
        text = text.Length == 0 ? "\n" : text;
        var split = text.IndexOf("\n---\n", StringComparison.Ordinal);
        var input = split < 0 ? text : text[..(split + 1)];
        var sections = new Dictionary<string, string>();
        foreach (var section in ("\n" + input).Split("\n=== ").Skip(1))
        {
            var end = section.IndexOf('\n', StringComparison.Ordinal);
            sections.Add(section[..end].Trim(), section[(end + 1)..]);
        }
        return new(path, sections, input, split < 0 ? "" : text[(split + 5)..]);
    }

    public string? this[string section] => Sections.GetValueOrDefault(section);

    public void Compare(IEnumerable<string> outcome)
    {
        var actual = string.Concat(outcome.Select(line => line + "\n"));
        if (Environment.GetEnvironmentVariable("SLUICE_UPDATE_GOLDEN") == "1")
        {
            File.WriteAllText(Path, Input.TrimEnd('\n') + "\n---\n" + actual);
            return;
        }
        Assert.Equal(Expected, actual);
    }
}

using System.Text.RegularExpressions;

namespace Sluice.Tests.Architecture;

public partial class LineLengthTests
{
    const int Most = 140;

    [GeneratedRegex("\\$?@?\"(?:[^\"\\\\]|\\\\.)*\"")]
    private static partial Regex Text();

    /// <summary>Texts (schemas, messages, what is expected of them) are as long as they are; the code around them is not.</summary>
    [Fact]
    public void Code_ends_before_column_140()
    {
        List<string> longer = [];
        foreach (var file in new[] { "src", "tests", "bench" }.SelectMany(folder => Files(Path.Combine(Repository.Root, folder))))
        {
            var isText = false;
            var number = 0;
            foreach (var line in File.ReadLines(file))
            {
                number++;
                var wasText = isText;
                var marks = Regex.Count(line, "\"\"\"");
                isText ^= marks % 2 == 1;
                if (line.Length > Most && !wasText && marks == 0 && Text().Replace(line, "\"\"").Length > Most)
                {
                    longer.Add($"{Path.GetRelativePath(Repository.Root, file)}:{number}");
                }
            }
        }
        Assert.Empty(longer);
    }

    static IEnumerable<string> Files(string root) => Directory.EnumerateFiles(root, "*.cs", SearchOption.AllDirectories)
        .Where(file => !file.Split(Path.DirectorySeparatorChar).Any(static part => part is "bin" or "obj" or "node_modules"));
}

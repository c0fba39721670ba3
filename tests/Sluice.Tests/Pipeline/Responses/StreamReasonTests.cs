using System.Text.RegularExpressions;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline.Responses;

public sealed partial class StreamReasonTests
{
    /// <summary>What can end a stream is a closed set, and users find all of it in one table.</summary>
    [Fact]
    public void The_table_of_reasons_in_the_documentation_is_the_one_of_the_code()
    {
        var page = File.ReadAllText(Path.Combine(Repository.Root, "docs", "concepts", "streams.md"));
        var table = page[page.IndexOf("| reason |", StringComparison.Ordinal)..];
        table = table[..table.IndexOf("\n\n", StringComparison.Ordinal)];
        var rows = table.Split('\n').Skip(2).Select(static row => row.Split('|')).ToArray();
        Assert.Equal(StreamReason.Names.Order(), rows.SelectMany(static row => Names(row[1])).Order());
        foreach (var row in rows)
        {
            foreach (var reason in Names(row[1]).Select(StreamReason.Of))
            {
                Assert.True(row[2].Trim() is "" or "499 in the log" || row[2].Trim() == $"{reason.Status}", row[1]);
                Assert.True(row[4].Trim().Length == 0 || row[4].Trim() == $"{reason.Grpc}", row[1]);
                Assert.Equal(reason.IsError, row[3].Contains("error", StringComparison.Ordinal)
                    || (reason.IsError && row[3].Contains("abort", StringComparison.Ordinal)));
            }
        }
    }

    static IEnumerable<string> Names(string cell) => Name().Matches(cell).Select(static match => match.Groups[1].Value);

    [GeneratedRegex("`([a-z_]+)`")]
    private static partial Regex Name();
}

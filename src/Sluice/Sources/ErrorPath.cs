using System.Text;
using System.Text.RegularExpressions;

namespace Sluice.Sources;

/// <summary>Which property of a document an error names, so that the place of the error can be its line.</summary>
static partial class ErrorPath
{
    /// <summary>The path (<c>.plugins["limit-count"].count</c>) that the nested words of a schema's error lead to; empty when it names
    /// none.</summary>
    public static string Of(string error)
    {
        var path = new StringBuilder();
        for (var match = Step().Match(error); match.Success; match = match.NextMatch())
        {
            if (match.Groups["plugin"] is { Success: true } plugin)
            {
                Append("plugins");
                Append(plugin.Value);
            }
            else if (match.Groups["item"] is { Success: true } item)
            {
                path.Append('[').Append(int.Parse(item.ValueSpan, System.Globalization.CultureInfo.InvariantCulture) - 1).Append(']');
            }
            else
            {
                Append(match.Groups["property"].Value);
            }
        }
        return path.ToString();

        void Append(string name) => _ = name.AsSpan().ContainsAny(".[]") ? path.Append("[\"").Append(name).Append("\"]")
            : path.Append('.').Append(name);
    }

    // each step stands where the one before it ended; what follows the last is the error itself
    [GeneratedRegex(
        """\G(?:invalid configuration: )?(?:property "(?<property>[^"]+)" validation failed: |failed to validate item (?<item>\d+): |failed to check the configuration of plugin (?<plugin>\S+) err: |additional properties forbidden, found (?<property>\S+)$)""")]
    private static partial Regex Step();
}

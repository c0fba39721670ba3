using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Sluice.Load;

/// <summary>Ratios to nginx of the same round, because only they mean something on a machine that others use too.</summary>
static class Report
{
    public const string Reference = "nginx";

    static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static string Markdown(IReadOnlyCollection<Result> results, string machine)
    {
        var text = new StringBuilder();
        text.AppendLine(machine).AppendLine();
        text.AppendLine("Cost = CPU-µs of the gateway per event or request, bytes per stream for C. Ratio = cost / nginx's of the same round: median (min–max).").AppendLine();
        text.AppendLine("| scenario | gateway | cost | ratio to nginx | operations/s | p50 µs | p99 µs | wrong |");
        text.AppendLine("|---|---|---|---|---|---|---|---|");
        foreach (var scenario in Scenario.All)
        {
            foreach (var gateway in results.Where(result => result.Scenario == scenario.Name).GroupBy(result => result.Gateway))
            {
                double[] ratios = [.. gateway
                    .Select(result => result.Cost / (results.FirstOrDefault(other => other.Scenario == result.Scenario && other.Round == result.Round && other.Gateway == Reference)?.Cost ?? double.NaN))
                    .Where(double.IsFinite).Order()];
                var ratio = ratios.Length == 0 || gateway.Key == "none" ? "" : Text($"{Middle(ratios):F2} ({ratios[0]:F2}–{ratios[^1]:F2})");
                text.AppendLine(Text($"| {scenario.Name}: {scenario.Title} | {gateway.Key} | {Middle(gateway.Select(result => result.Cost)):F1} | {ratio} | ")
                    + Text($"{Middle(gateway.Select(result => result.PerSecond)):F0} | {Middle(gateway.Select(result => result.P50Us)):F0} | {Middle(gateway.Select(result => result.P99Us)):F0} | {gateway.Sum(result => result.Wrong)} |"));
            }
        }
        return text.ToString();
    }

    static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    static double Middle(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[sorted.Length / 2] + sorted[(sorted.Length - 1) / 2]) / 2;
    }

    public static void Json(IReadOnlyCollection<Result> results, string machine, string file) =>
        File.WriteAllText(file, JsonSerializer.Serialize(new { machine, results }, Indented));
}

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
        text.AppendLine(
            "Cost = CPU-µs of the gateway per event or request, bytes per stream for C. Ratio = cost / nginx's of the same round: median "
                + "(min–max).").AppendLine();
        text.AppendLine("| scenario | gateway | cost | ratio to nginx | operations/s | p50 µs | p99 µs | wrong |");
        text.AppendLine("|---|---|---|---|---|---|---|---|");
        foreach (var (scenario, gateway) in Groups(results))
        {
            double[] ratios = [.. gateway.Select(result => result.Cost / CostOf(results, result.Scenario, Reference, result.Round))
                .Where(double.IsFinite).Order()];
            var ratio = ratios.Length == 0 || gateway.Key == "none" ? "" : Text($"{Middle(ratios):F2} ({ratios[0]:F2}–{ratios[^1]:F2})");
            text.AppendLine(
                Text(
                    $"| {scenario.Name}: {scenario.Title} | {gateway.Key} | {Middle(gateway.Select(result => result.Cost)):F1} | {ratio} | ")
                + Text(
                    $"{Middle(gateway.Select(result => result.PerSecond)):F0} | {Middle(gateway.Select(result => result.P50Us)):F0} | {Middle(gateway.Select(result => result.P99Us)):F0} | {gateway.Sum(result => result.Wrong)} |"));
        }
        return text.Append(Differences(results)).ToString();
    }

    /// <summary>What a scenario costs more than the one beside it, round by round: the noise of a minute hits both.</summary>
    static StringBuilder Differences(IReadOnlyCollection<Result> results)
    {
        var text = new StringBuilder();
        foreach (var (scenario, gateway) in Groups(results)
            .Where(group => group.Scenario.Beside is not null && group.Gateway.Key != "none"))
        {
            double[] more = [.. gateway.Select(result => result.Cost - CostOf(results, scenario.Beside!, gateway.Key, result.Round))
                .Where(double.IsFinite).Order()];
            if (more.Length > 0)
            {
                text.AppendLine(
                    Text(
                        $"| {scenario.Name} − {scenario.Beside} | {gateway.Key} | {Middle(more):F1} | {Quantile(more, 0.25):F1}–{Quantile(more, 0.75):F1} | {more[0]:F1}–{more[^1]:F1} |"));
            }
        }
        return text.Length == 0 ? text : text.Insert(0, """

            What it costs more, CPU-µs, of the same round:

            | | gateway | median | middle half | all |
            |---|---|---|---|---|

            """);
    }

    static IEnumerable<(Scenario Scenario, IGrouping<string, Result> Gateway)> Groups(IReadOnlyCollection<Result> results) =>
        Scenario.All.SelectMany(scenario => results.Where(result => result.Scenario == scenario.Name).GroupBy(result => result.Gateway)
            .Select(gateway => (scenario, gateway)));

    /// <summary>NaN: it was not measured.</summary>
    static double CostOf(IReadOnlyCollection<Result> results, string scenario, string gateway, int round) =>
        results.FirstOrDefault(other => other.Scenario == scenario && other.Gateway == gateway && other.Round == round)?.Cost ?? double.NaN;

    static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    static double Middle(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return Quantile(sorted, 0.5);
    }

    static double Quantile(double[] sorted, double part)
    {
        var at = part * (sorted.Length - 1);
        var below = sorted[(int)at];
        return below + ((sorted[(int)Math.Ceiling(at)] - below) * (at - (int)at));
    }

    public static void Json(IReadOnlyCollection<Result> results, string machine, string file) =>
        File.WriteAllText(file, JsonSerializer.Serialize(new { machine, results }, Indented));
}

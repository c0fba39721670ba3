using Sluice.Model;

namespace Sluice.Cli;

/// <summary>Where a command speaks to.</summary>
sealed record Terminal(TextWriter Out, TextWriter Error, TimeProvider Time, Func<string, string?> Environment)
{
    public static Terminal OfProcess() => new(Console.Out, Console.Error, TimeProvider.System, System.Environment.GetEnvironmentVariable);

    public void Say(string line) => Out.WriteLine(line);

    /// <returns>1, the exit code of a command that failed.</returns>
    public int Fail(string line)
    {
        Error.WriteLine("sluice: " + line);
        return 1;
    }

    /// <returns>Whether there was no error among them.</returns>
    public bool Report(IReadOnlyList<Problem> problems)
    {
        foreach (var problem in problems)
        {
            Error.WriteLine(Line(problem));
        }
        return !problems.Any(problem => problem.Severity == Severity.Error);
    }

    public static string Line(Problem problem) => problem.Severity == Severity.Error ? $"error: {problem}" : $"warning: {problem}";
}

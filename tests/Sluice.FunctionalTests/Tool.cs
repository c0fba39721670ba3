using System.Diagnostics;

namespace Sluice.FunctionalTests;

/// <summary>A command-line tool, run to its end.</summary>
static class Tool
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    public static Task<(int ExitCode, string Output)> RunAsync(string tool, params string[] arguments) => RunAsync(tool, "", arguments);

    /// <returns>What it wrote to standard output and standard error.</returns>
    public static async Task<(int ExitCode, string Output)> RunAsync(string tool, string input, string[] arguments)
    {
        var start = new ProcessStartInfo(tool) { RedirectStandardInput = true, RedirectStandardOutput = true,
            RedirectStandardError = true };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }
        using var process = Process.Start(start)!;
        using var patience = new CancellationTokenSource(Patience);
        var output = process.StandardOutput.ReadToEndAsync(patience.Token);
        var error = process.StandardError.ReadToEndAsync(patience.Token);
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        try
        {
            await process.WaitForExitAsync(patience.Token);
            return (process.ExitCode, await output + await error);
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            throw;
        }
    }
}

using System.Diagnostics;
using Sluice.Net;

namespace Sluice.Cli;

/// <summary><c>sluice start</c>: the same program once more, as a session of its own.</summary>
static class Daemon
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    public static async Task<int> StartAsync(Instance instance, Terminal terminal)
    {
        if (!instance.IsConfigured)
        {
            return terminal.Fail(instance.NotConfigured);
        }
        if (instance.RunningPid() is { } pid)
        {
            return terminal.Fail($"already running on {instance.Prefix} (pid {pid})");
        }

        using var child = Process.Start(Program(instance))!;
        child.StandardInput.Close();
        using var patience = new CancellationTokenSource(Patience, terminal.Time);
        try
        {
            return await OutcomeAsync(child, terminal, patience.Token) switch
            {
                null => await CrashAsync(child, instance, terminal),
                "" => 0,
                var status => await AnswersAsync(status, patience.Token) ? 0
                    : terminal.Fail($"started, but http://{status}/status is no success"),
            };
        }
        catch (OperationCanceledException)
        {
            child.Kill();
            return terminal.Fail(
                $"did not answer within {Patience.TotalSeconds} s; what it said is in {instance.ConsoleFile} and logs/error.log");
        }
    }

    /// <returns>The status endpoint of the started gateway (empty: it has none), or null when it ended.</returns>
    static async Task<string?> OutcomeAsync(Process child, Terminal terminal, CancellationToken cancellation)
    {
        while (await child.StandardError.ReadLineAsync(cancellation) is { } line)
        {
            switch (line.Split(' ', 2))
            {
                case ["ready", var status]:
                    return status;
                case ["out", var text]:
                    terminal.Say(text);
                    break;
                case ["err", var text]:
                    terminal.Error.WriteLine(text);
                    break;
                default:
                    terminal.Error.WriteLine(line);
                    break;
            }
        }
        return null;
    }

    static async Task<int> CrashAsync(Process child, Instance instance, Terminal terminal)
    {
        await child.WaitForExitAsync();
        // An orderly failure has said why.
        return child.ExitCode == 1 ? 1 : terminal.Fail($"ended with exit code {child.ExitCode} while starting; see {instance.ConsoleFile}");
    }

    static async Task<bool> AnswersAsync(string status, CancellationToken cancellation)
    {
        using var http = new OutgoingHttp(TimeProvider.System);
        return (await http.SendAsync(OutgoingHttp.Request("GET", $"http://{status}/status"), new() { Timeout = Timeout.InfiniteTimeSpan },
            cancellation)).IsSuccess;
    }

    static ProcessStartInfo Program(Instance instance)
    {
        var executable = Environment.ProcessPath!;
        var program = new ProcessStartInfo(executable)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // `dotnet Sluice.dll`, or a launcher of its own (a .NET tool)
        if (Path.GetFileNameWithoutExtension(executable) == "dotnet")
        {
            program.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "Sluice.dll"));
        }
        foreach (var argument in (string[])["run", "--daemon", "--prefix", instance.Prefix])
        {
            program.ArgumentList.Add(argument);
        }
        return program;
    }
}

using System.Diagnostics;

namespace Sluice.FunctionalTests.Processes;

/// <summary><c>./sluice</c> in a repository of one source file, with a <c>dotnet</c> that only notes what it is asked for.</summary>
public sealed class LauncherTests : IDisposable
{
    readonly string _home = Directory.CreateTempSubdirectory("sluice-launcher-").FullName;

    public LauncherTests()
    {
        Directory.CreateDirectory(At("src/Sluice"));
        Directory.CreateDirectory(At("tools"));
        File.Copy(Path.Combine(Repository(AppContext.BaseDirectory), "sluice"), At("sluice"));
        File.WriteAllText(At("global.json"), "{}");
        File.WriteAllText(At("Directory.Build.props"), "<Project/>");
        File.WriteAllText(At("src/Sluice/One.cs"), "");
        File.WriteAllText(At("tools/dotnet"),
            $$"""
            #!/bin/sh
            echo "$*" >>{{At("calls")}}
            [ "$1" = --list-sdks ] && echo '10.0.100 [/sdk]'
            while [ $# -gt 1 ]; do
              if [ "$1" = -o ]; then : >"$2/Sluice.dll"; fi
              shift
            done
            exit 0

            """);
        File.SetUnixFileMode(At("tools/dotnet"), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    public void Dispose() => Directory.Delete(_home, recursive: true);

    static string Repository(string folder) =>
        File.Exists(Path.Combine(folder, "Sluice.slnx")) ? folder : Repository(Path.GetDirectoryName(folder)!);

    string At(string path) => Path.Combine(_home, path);

    string[] Calls => File.Exists(At("calls")) ? File.ReadAllLines(At("calls")) : [];

    async Task<(int ExitCode, string Error)> RunAsync(params string[] arguments)
    {
        var start = new ProcessStartInfo("bash", [At("sluice"), .. arguments]) { RedirectStandardError = true,
            RedirectStandardInput = true };
        start.Environment["PATH"] = $"{At("tools")}:{Environment.GetEnvironmentVariable("PATH")}";
        start.Environment["SLUICE_LUAJIT"] = "there";
        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, error);
    }

    [Fact]
    public async Task The_first_command_builds_without_analyzers_and_the_second_does_not_build()
    {
        var (exitCode, error) = await RunAsync("test", "-p", "x");
        Assert.True(exitCode == 0, error);
        Assert.Contains("building", error, StringComparison.Ordinal);
        Assert.Contains("-p:RunAnalyzers=false", Calls.Single(call => call.StartsWith("publish", StringComparison.Ordinal)),
            StringComparison.Ordinal);
        Assert.Equal($"{At("out/Sluice.dll")} test -p x", Calls[^1]);

        Assert.Equal((0, ""), await RunAsync("test"));
        Assert.Single(Calls, call => call.StartsWith("publish", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("status")]
    [InlineData("-p", "x", "reload")]
    [InlineData("reopen", "-p", "x")]
    [InlineData("stop")]
    [InlineData("--prefix=x", "quit")]
    [InlineData("[suggest]", "st")]
    public async Task A_command_that_only_talks_to_what_runs_never_builds(params string[] arguments)
    {
        var (exitCode, error) = await RunAsync(arguments);
        Assert.Equal((1, "sluice: nothing was built here yet, so nothing that was started from here runs\n"), (exitCode, error));

        await RunAsync("version");
        File.SetLastWriteTimeUtc(At("src/Sluice/One.cs"), File.GetLastWriteTimeUtc(At("out/.built")).AddSeconds(1));
        Assert.Equal((0, ""), await RunAsync(arguments));
        Assert.Equal($"{At("out/Sluice.dll")} {string.Join(' ', arguments)}", Calls[^1]);
        Assert.Single(Calls, call => call.StartsWith("publish", StringComparison.Ordinal));
        await RunAsync("version");
        Assert.Equal(2, Calls.Count(call => call.StartsWith("publish", StringComparison.Ordinal)));
    }
}

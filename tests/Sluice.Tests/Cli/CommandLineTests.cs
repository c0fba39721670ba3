using Sluice.Cli;

namespace Sluice.Tests.Cli;

public sealed class CommandLineTests : IDisposable
{
    readonly string _directory = Directory.CreateTempSubdirectory("sluice-commands-").FullName;
    readonly StringWriter _output = new();
    readonly StringWriter _error = new();
    readonly Dictionary<string, string> _environment = [];

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    Task<int> RunAsync(params string[] arguments) =>
        CommandLine.RunAsync(arguments, new Terminal(_output, _error, TimeProvider.System, _environment.GetValueOrDefault));

    [Theory]
    [InlineData("version")]
    [InlineData("--version")]
    public async Task Version_is_one_line(string command)
    {
        Assert.Equal(0, await RunAsync(command));
        Assert.Matches(@"^sluice \d+\.\d+\.\d+\n$", _output.ToString());
    }

    [Theory]
    [InlineData]
    [InlineData("help")]
    [InlineData("--help")]
    public async Task Help_names_every_command(params string[] arguments)
    {
        Assert.Equal(0, await RunAsync(arguments));
        Assert.All((string[])["run", "start", "stop", "quit", "restart", "reload", "test", "init", "version", "demo", "help", "--prefix"],
            word => Assert.Contains(word, _output.ToString(), StringComparison.Ordinal));
        Assert.Contains("sluice [command]", _output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Help_of_a_command_is_its_own()
    {
        Assert.Equal(0, await RunAsync("help", "demo"));
        Assert.Contains("--port", _output.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("bogus")]
    [InlineData("start", "--bogus")]
    [InlineData("demo", "--port", "nine")]
    public async Task Unknown_words_are_refused_by_name(params string[] arguments)
    {
        Assert.Equal(1, await RunAsync(arguments));
        Assert.Contains(arguments[^1], _error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("-p", "DIR", "stop")]
    [InlineData("stop", "-p", "DIR")]
    [InlineData("stop", "--prefix", "DIR")]
    [InlineData("stop", "--prefix=DIR")]
    public async Task Prefix_goes_before_or_after_the_command(params string[] arguments)
    {
        Assert.Equal(1, await RunAsync([.. arguments.Select(argument => argument.Replace("DIR", _directory, StringComparison.Ordinal))]));
        Assert.Equal($"sluice: not running on {_directory}\n", _error.ToString());
    }

    [Fact]
    public async Task Prefix_comes_from_the_environment_unless_it_is_given()
    {
        _environment["SLUICE_PREFIX"] = _directory;
        await RunAsync("stop");
        await RunAsync("stop", "-p", Path.Combine(_directory, "other"));

        Assert.Equal($"sluice: not running on {_directory}\nsluice: not running on {_directory}/other\n", _error.ToString());
    }

    [Fact]
    public async Task Prefix_is_the_current_directory_when_nobody_says_otherwise()
    {
        await RunAsync("stop");

        Assert.Equal($"sluice: not running on {Environment.CurrentDirectory}\n", _error.ToString());
    }

    [Fact]
    public async Task Init_writes_what_only_its_owner_may_read_and_leaves_what_is_there()
    {
        Assert.Equal(0, await RunAsync("init", "-p", _directory));
        var files = Directory.GetFiles(Path.Combine(_directory, "conf"));
        Assert.Equal(["apisix.yaml", "config.yaml"], files.Select(Path.GetFileName).Order());
        Assert.All(files, file => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file)));

        await File.WriteAllTextAsync(files[0], "mine", TestContext.Current.CancellationToken);
        Assert.Equal(1, await RunAsync("init", "-p", _directory));
        Assert.Equal("mine", await File.ReadAllTextAsync(files[0], TestContext.Current.CancellationToken));
    }
}

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
    [InlineData("-v")]
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
    public async Task Help_ends_with_examples_and_exit_codes()
    {
        Assert.Equal(0, await RunAsync("-h"));
        Assert.Contains("sluice status -p ~/gateway", _output.ToString(), StringComparison.Ordinal);
        Assert.Contains("3  status: not running", _output.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("sluice: unknown command \"strat\"; did you mean \"start\"? (sluice help)", "strat")]
    [InlineData("sluice: unknown option \"--prot\"; did you mean \"--port\"? (sluice help demo)", "demo", "--prot", "1")]
    [InlineData("sluice: stop takes no \"now\" (sluice help stop)", "stop", "now")]
    [InlineData("sluice: unknown command \"strat\"; did you mean \"start\"? (sluice help)", "help", "strat")]
    public async Task A_typing_error_is_answered_in_one_line(string line, params string[] arguments)
    {
        Assert.Equal(1, await RunAsync(arguments));
        Assert.Equal(line + "\n", _error.ToString());
        Assert.Equal("", _output.ToString());
    }

    [Theory]
    [InlineData("sta", "start\nstatus\n")]
    [InlineData("-p x rel", "reload\n")]
    [InlineData("demo --p", "--port\n--prefix\n")]
    [InlineData("help init", "init\ninit_etcd\n")]
    [InlineData("stop ", "")]
    public async Task Words_are_completed(string line, string words)
    {
        Assert.Equal(0, await RunAsync("[suggest]", line));
        Assert.Equal(words, _output.ToString());
    }

    [Fact]
    public async Task Status_of_what_does_not_run_has_an_exit_code_of_its_own()
    {
        Assert.Equal(3, await RunAsync("status", "-p", _directory));
        Assert.Equal($"sluice: not running on {_directory}\n", _error.ToString());
    }

    [Fact]
    public async Task An_error_in_apisix_yaml_names_the_line_of_the_property()
    {
        Directory.CreateDirectory(Path.Combine(_directory, "conf"));
        await File.WriteAllTextAsync(Path.Combine(_directory, "conf/config.yaml"),
            "deployment:\n  role: data_plane\n  role_data_plane: {config_provider: yaml}\n", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(Path.Combine(_directory, "conf/apisix.yaml"),
            "routes:\n  - id: r\n    uri: /r\n    plugins:\n      limit-count:\n        count: 1\n        time_window: soon\n    "
                + "upstream:\n      nodes: {\"127.0.0.1:1\": 1}\n"
            + "  - id: s\n    uri: /s\n    upstream:\n      type: roundrobin\n      nodes:\n        - host: h\n          port: eighty\n  "
                + "        weight: 1\n#END\n", TestContext.Current.CancellationToken);
        Assert.Equal(1, await RunAsync("test", "-p", _directory));
        Assert.Contains("conf/apisix.yaml:7 (routes[0].plugins.limit-count.time_window): ", _error.ToString(), StringComparison.Ordinal);
        Assert.Contains("conf/apisix.yaml:14 (routes[1].upstream.nodes): ", _error.ToString(), StringComparison.Ordinal);
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

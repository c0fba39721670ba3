using System.Globalization;
using Sluice.Cli;
using Sluice.Model;

namespace Sluice.Tests.Cli;

public sealed class InstanceTests : IDisposable
{
    readonly Instance _instance = new(Directory.CreateTempSubdirectory("sluice-instance-").FullName);

    public void Dispose() => Directory.Delete(_instance.Prefix, recursive: true);

    [Fact]
    public void Nothing_runs_in_an_empty_directory() => Assert.Null(_instance.RunningPid());

    [Fact]
    public async Task Pid_file_names_the_process_that_holds_it()
    {
        using (await _instance.ClaimAsync(TimeProvider.System))
        {
            Assert.Equal(Environment.ProcessId, _instance.RunningPid());
        }

        Assert.Null(_instance.RunningPid());
        Assert.False(File.Exists(_instance.PidFile));
    }

    [Fact]
    public async Task Prefix_is_claimed_once()
    {
        using var first = await _instance.ClaimAsync(TimeProvider.System);

        Assert.Null(await _instance.ClaimAsync(TimeProvider.System));
        Assert.Equal(Environment.ProcessId, _instance.RunningPid());
    }

    [Theory]
    [InlineData("1")]
    [InlineData("no number")]
    [InlineData("")]
    public async Task Pid_file_left_behind_means_nothing(string content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_instance.PidFile)!);
        await File.WriteAllTextAsync(_instance.PidFile, content, TestContext.Current.CancellationToken);

        Assert.Null(_instance.RunningPid());
        using var claim = await _instance.ClaimAsync(TimeProvider.System);
        Assert.NotNull(claim);
        Assert.Equal(Environment.ProcessId, _instance.RunningPid());
    }

    [Fact]
    public void Pid_given_to_another_program_is_not_a_running_gateway()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_instance.PidFile)!);
        File.WriteAllText(_instance.PidFile, Environment.ProcessId.ToString(CultureInfo.InvariantCulture));

        Assert.Null(_instance.RunningPid());
    }

    [Fact]
    public void State_comes_back_as_it_was_written()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_instance.PidFile)!);
        var state = new InstanceState(
            7, ["127.0.0.1:9080"], "127.0.0.1:9180", null, "127.0.0.1:7085", null, 3, [Problem.Error("conf/config.yaml:1", "wrong type")]);

        _instance.WriteState(state);

        Assert.Equivalent(state, _instance.ReadState(), strict: true);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    public void A_broken_state_file_is_read_as_absent(string content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_instance.PidFile)!);
        File.WriteAllText(Path.Combine(_instance.Prefix, "logs", "sluice.state"), content);

        Assert.Null(_instance.ReadState());
    }

    [Theory]
    [InlineData("config.yaml")]
    [InlineData("nginx.conf")]
    [InlineData("apisix.yaml")]
    public void Any_configuration_file_makes_an_instance(string file)
    {
        Assert.False(_instance.IsConfigured);
        Directory.CreateDirectory(Path.Combine(_instance.Prefix, "conf"));
        File.WriteAllText(Path.Combine(_instance.Prefix, "conf", file), "");
        Assert.True(_instance.IsConfigured);
    }
}

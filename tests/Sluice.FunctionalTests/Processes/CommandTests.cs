using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Sluice.Cli;

namespace Sluice.FunctionalTests.Processes;

public sealed class CommandTests : IAsyncDisposable
{
    readonly CommandFixture _sluice = new();

    public ValueTask DisposeAsync() => _sluice.DisposeAsync();

    [Fact]
    public async Task Start_returns_when_the_gateway_answers_and_stop_when_it_is_gone()
    {
        var started = await _sluice.SucceedAsync("start");

        Assert.Contains($"127.0.0.1:{_sluice.ProxyPort}", started.Output, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
        var pid = _sluice.Instance.RunningPid();
        Assert.Equal($"{pid}\n", await ReadLockedAsync("logs/sluice.pid"));

        await _sluice.SucceedAsync("stop");
        Assert.False(File.Exists(_sluice.PathOf("logs/sluice.pid")));
        await Assert.ThrowsAsync<HttpRequestException>(() => _sluice.StatusOfAsync("/clock"));
    }

    [Fact]
    public async Task Start_says_which_port_is_in_use()
    {
        using var holder = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        holder.Bind(new IPEndPoint(IPAddress.Loopback, _sluice.ProxyPort));
        holder.Listen();

        var outcome = await _sluice.RunAsync("start");

        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains($"{_sluice.ProxyPort}", outcome.Error, StringComparison.Ordinal);
        Assert.Contains("in use", outcome.Error, StringComparison.Ordinal);
        Assert.Null(_sluice.Instance.RunningPid());
    }

    [Fact]
    public async Task A_reload_outlives_a_state_file_that_cannot_be_written_and_a_log_directory_that_was_moved_away()
    {
        await _sluice.SucceedAsync("start");
        var pid = _sluice.Instance.RunningPid()!.Value;
        Directory.CreateDirectory(_sluice.PathOf("logs/sluice.state.new"));
        Native.Signal(pid, Native.Hangup);
        var log = _sluice.PathOf("logs/error.log");
        await Eventually.TrueAsync(() => File.ReadAllText(log).Contains("logs/sluice.state cannot be written", StringComparison.Ordinal),
            () => File.ReadAllText(log), seconds: 30);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));

        Directory.Delete(_sluice.PathOf("logs/sluice.state.new"));
        Directory.Move(_sluice.PathOf("logs"), _sluice.PathOf("old-logs"));
        Native.Signal(pid, Native.Hangup);
        await Eventually.TrueAsync(() => _sluice.Instance.ReadState() is { Reloads: 2 }, () => "no state was written", seconds: 30);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
        Native.Signal(pid, Native.Terminate);
        await Eventually.TrueAsync(() => !Directory.Exists($"/proc/{pid}")
            || File.ReadAllText($"/proc/{pid}/stat").Contains(") Z", StringComparison.Ordinal), () => "it does not end", seconds: 30);
    }

    [Theory]
    [InlineData("start")]
    [InlineData("run")]
    public async Task Logs_that_are_a_file_are_a_clear_error(string command)
    {
        await File.WriteAllTextAsync(_sluice.PathOf("logs"), "", TestContext.Current.CancellationToken);
        var outcome = await _sluice.RunAsync(command);
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains($"{_sluice.PathOf("logs")} is a file", outcome.Error);
        Assert.DoesNotContain("   at ", outcome.Error);
    }

    [Theory]
    [InlineData("192.0.2.1:8123", "annot assign requested address")]
    [InlineData("127.0.0.1:{held}", "address already in use")]
    public async Task Restart_tries_the_addresses_first_and_names_the_line_that_asks_for_one(string listen, string reason)
    {
        using var holder = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        var held = CommandFixture.FreePort();
        holder.Bind(new IPEndPoint(IPAddress.Loopback, held));
        holder.Listen();
        await _sluice.SucceedAsync("start");
        var pid = _sluice.Instance.RunningPid();
        await File.WriteAllTextAsync(_sluice.PathOf("conf/nginx.conf"),
            $"http {{\n  server {{\n    listen {listen.Replace("{held}", $"{held}", StringComparison.Ordinal)};\n  }}\n}}\n",
            TestContext.Current.CancellationToken);

        var outcome = await _sluice.RunAsync("restart");
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("conf/nginx.conf:3: ", outcome.Error);
        Assert.Contains(reason, outcome.Error);
        Assert.Equal(pid, _sluice.Instance.RunningPid());
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));

        File.Delete(_sluice.PathOf("conf/nginx.conf"));
        await _sluice.SucceedAsync("restart");
        Assert.NotEqual(pid, _sluice.Instance.RunningPid());
    }

    [Fact]
    public async Task An_address_of_its_own_that_is_in_use_is_told_with_the_key_that_asks_for_it()
    {
        using var holder = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        holder.Bind(new IPEndPoint(IPAddress.Loopback, _sluice.MetricsPort));
        holder.Listen();
        var outcome = await _sluice.RunAsync("start");
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("plugin_attr.prometheus.export_addr", outcome.Error);
        Assert.Contains("address already in use", outcome.Error);
    }

    [Fact]
    public async Task Without_LuaJIT_only_what_has_Lua_in_it_is_refused_with_the_package_to_install()
    {
        _sluice.Environment["SLUICE_LUAJIT"] = "libluajit-that-is-not-there.so";
        await _sluice.SucceedAsync("start");
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
        await _sluice.SucceedAsync("stop");

        await File.WriteAllTextAsync(_sluice.PathOf("conf/apisix.yaml"),
            """
            routes:
              - {id: r, uri: /*, plugins: {serverless-pre-function: {functions: ["return function() end"]}}, upstream: {nodes: {"127.0.0.1:1": 1}}}
            #END

            """, TestContext.Current.CancellationToken);
        var outcome = await _sluice.RunAsync("test");

        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("Lua needs LuaJIT, which is not installed: apt-get install libluajit-5.1-2", outcome.Error,
            StringComparison.Ordinal);

        _sluice.Environment["SLUICE_LUAJIT"] = "libluajit-5.1.so.2";
        await _sluice.SucceedAsync("test");
    }

    [Theory]
    [InlineData("start")]
    [InlineData("run")]
    public async Task Second_instance_on_a_prefix_is_refused(string command)
    {
        await _sluice.SucceedAsync("start");

        var second = await _sluice.RunAsync(command);

        Assert.Equal(1, second.ExitCode);
        Assert.Contains($"already running on {_sluice.Prefix} (pid {_sluice.Instance.RunningPid()})", second.Error,
            StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
    }

    [Theory]
    [InlineData("start")]
    [InlineData("run")]
    [InlineData("test")]
    public async Task Broken_configuration_is_refused_with_its_place(string command)
    {
        _sluice.WriteConfig(nodeListen: "nine");
        await File.WriteAllTextAsync(_sluice.PathOf("conf/nginx.conf"), "http {\n  proxy_bufering off;\n}\n",
            TestContext.Current.CancellationToken);

        var outcome = await _sluice.RunAsync(command);

        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("conf/config.yaml:2", outcome.Error, StringComparison.Ordinal);
        Assert.Contains("conf/nginx.conf:2", outcome.Error, StringComparison.Ordinal);
        Assert.Contains("proxy_bufering", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Test_shows_warnings_and_succeeds()
    {
        _sluice.WriteConfig("not_a_key: 1");

        var outcome = await _sluice.RunAsync("test");

        Assert.Equal(0, outcome.ExitCode);
        Assert.Contains("warning: ", outcome.Error, StringComparison.Ordinal);
        Assert.Contains("not_a_key", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Commands_in_a_directory_without_configuration_point_to_init()
    {
        var empty = Directory.CreateDirectory(_sluice.PathOf("empty")).FullName;

        foreach (var command in (string[])["start", "run", "test"])
        {
            var outcome = await _sluice.RunAsync(command, "-p", empty);
            Assert.Equal(1, outcome.ExitCode);
            Assert.Contains($"sluice init -p {empty}", outcome.Error, StringComparison.Ordinal);
        }
        Assert.Empty(Directory.GetFileSystemEntries(empty));
    }

    [Fact]
    public async Task Init_writes_a_good_private_configuration_and_never_overwrites()
    {
        var place = _sluice.PathOf("new");
        var config = Path.Combine(place, "conf", "config.yaml");

        await _sluice.SucceedAsync("init", "--prefix", place);
        await _sluice.SucceedAsync("test", "--prefix", place);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(config));

        await File.WriteAllTextAsync(config, "# mine\n", TestContext.Current.CancellationToken);
        var again = await _sluice.RunAsync("init", "--prefix", place);
        Assert.Contains($"{config} exists", again.Error, StringComparison.Ordinal);
        Assert.Equal("# mine\n", await File.ReadAllTextAsync(config, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Reopen_lets_the_gateway_write_into_new_log_files()
    {
        await _sluice.SucceedAsync("start");
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock?1"));
        var log = _sluice.PathOf("logs/access.log");
        await Eventually.TrueAsync(() => File.Exists(log) && File.ReadAllText(log).Contains("/clock?1", StringComparison.Ordinal),
            "no access log");
        File.Move(log, log + ".1");

        await _sluice.SucceedAsync("reopen");

        await Eventually.TrueAsync(() => File.Exists(log), "the log was not opened again");
    }

    [Fact]
    public async Task Reload_opens_a_new_port_in_the_same_process()
    {
        await _sluice.SucceedAsync("start");
        var pid = _sluice.Instance.RunningPid();
        var second = CommandFixture.FreePort();

        _sluice.WriteConfig(nodeListen: $"[{{ip: 127.0.0.1, port: {_sluice.ProxyPort}}}, {{ip: 127.0.0.1, port: {second}}}]");
        await _sluice.SucceedAsync("reload");

        Assert.Equal(pid, _sluice.Instance.RunningPid());
        using var answer = await _sluice.Client.GetAsync($"http://127.0.0.1:{second}/clock", TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
    }

    [Fact]
    public async Task Reload_of_a_broken_configuration_says_so_and_changes_nothing()
    {
        await _sluice.SucceedAsync("start");
        _sluice.WriteConfig(nodeListen: "nine");

        var outcome = await _sluice.RunAsync("reload");

        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("conf/config.yaml:2", outcome.Error, StringComparison.Ordinal);
        Assert.Contains("the running configuration stays", outcome.Error, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
    }

    /// <summary>A configuration that reads well and cannot be applied: only the running gateway finds out.</summary>
    [Fact]
    public async Task Reload_that_the_gateway_cannot_apply_fails_the_command()
    {
        await _sluice.SucceedAsync("start");
        using var holder = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        holder.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        holder.Listen();
        var taken = ((IPEndPoint)holder.LocalEndPoint!).Port;

        _sluice.WriteConfig(nodeListen: $"[{{ip: 127.0.0.1, port: {_sluice.ProxyPort}}}, {{ip: 127.0.0.1, port: {taken}}}]");
        var outcome = await _sluice.RunAsync("reload");

        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains($"{taken}", outcome.Error, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
    }

    [Theory]
    [InlineData("stop")]
    [InlineData("quit")]
    [InlineData("reload")]
    public async Task Commands_for_a_running_gateway_fail_when_none_runs(string command)
    {
        var outcome = await _sluice.RunAsync(command);

        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("not running", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Restart_makes_a_new_process_unless_the_configuration_is_broken()
    {
        await _sluice.SucceedAsync("start");
        var first = _sluice.Instance.RunningPid();

        await _sluice.SucceedAsync("restart");
        var second = _sluice.Instance.RunningPid();
        Assert.NotNull(second);
        Assert.NotEqual(first, second);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));

        _sluice.WriteConfig(nodeListen: "nine");
        var refused = await _sluice.RunAsync("restart");
        Assert.Equal(1, refused.ExitCode);
        Assert.Equal(second, _sluice.Instance.RunningPid());
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
    }

    [Fact]
    public async Task Start_after_a_crash_is_not_held_up_by_the_old_pid_file()
    {
        await _sluice.SucceedAsync("start");
        var pid = _sluice.Instance.RunningPid()!.Value;
        Assert.True(Native.Signal(pid, Native.Kill));
        await UntilAsync(() => _sluice.Instance.RunningPid() is null);
        Assert.True(File.Exists(_sluice.PathOf("logs/sluice.pid")));

        await _sluice.SucceedAsync("start");

        Assert.NotEqual(pid, _sluice.Instance.RunningPid());
    }

    [Fact]
    public async Task Quit_waits_for_an_open_stream()
    {
        await _sluice.SucceedAsync("start");
        using var stream = await OpenStreamAsync("/events/chunked?n=10&interval_ms=100");

        var quit = _sluice.RunAsync("quit");
        var events = await CountEventsAsync(stream);

        Assert.Equal(10, events);
        Assert.Equal(0, (await quit).ExitCode);
        Assert.Null(_sluice.Instance.RunningPid());
    }

    [Fact]
    public async Task Stop_cuts_an_open_stream_visibly()
    {
        await _sluice.SucceedAsync("start");
        using var stream = await OpenStreamAsync("/events/chunked?n=1000&interval_ms=100");

        var stop = _sluice.RunAsync("stop");

        await Assert.ThrowsAnyAsync<Exception>(() => CountEventsAsync(stream));
        Assert.Equal(0, (await stop).ExitCode);
    }

    [Fact]
    public async Task Stop_during_a_graceful_quit_is_quick()
    {
        await _sluice.SucceedAsync("start");
        using var stream = await OpenStreamAsync("/events/chunked?n=1000&interval_ms=100");

        await _sluice.SucceedAsync("quit", "--no-wait");
        Assert.NotNull(_sluice.Instance.RunningPid());
        await _sluice.SucceedAsync("stop");

        Assert.Null(_sluice.Instance.RunningPid());
    }

    [Theory]
    [InlineData(Native.Terminate)]
    [InlineData(Native.Quit)]
    [InlineData(Native.Interrupt)]
    public async Task Run_stays_in_the_foreground_until_a_signal(int signal)
    {
        using var run = _sluice.Launch("run");
        Assert.Contains("proxy on", await run.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken),
            StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, await _sluice.StatusOfAsync("/clock"));
        Assert.Equal(run.Id, _sluice.Instance.RunningPid());

        Native.Signal(run.Id, signal);
        await run.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(0, run.ExitCode);
        Assert.Null(_sluice.Instance.RunningPid());
    }

    /// <summary>As a script's background process has it, or nohup.</summary>
    [Theory]
    [InlineData(Native.Quit)]
    [InlineData(Native.Interrupt)]
    public async Task Signals_that_the_process_was_born_ignoring_steer_it_all_the_same(int signal)
    {
        using var run = _sluice.LaunchDeaf("run");
        Assert.Contains("proxy on", await run.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken),
            StringComparison.Ordinal);

        await _sluice.SucceedAsync("reload");
        Native.Signal(run.Id, signal);
        await run.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(0, run.ExitCode);
    }

    [Fact]
    public async Task Start_leaves_a_session_of_its_own_with_its_output_in_a_file()
    {
        await _sluice.SucceedAsync("start");
        var pid = _sluice.Instance.RunningPid()!.Value;

        Assert.Equal("/dev/null", File.ResolveLinkTarget($"/proc/{pid}/fd/0", false)!.FullName);
        Assert.Equal(_sluice.PathOf("logs/console.log"), File.ResolveLinkTarget($"/proc/{pid}/fd/1", false)!.FullName);
        var stat = await File.ReadAllTextAsync($"/proc/{pid}/stat", TestContext.Current.CancellationToken);
        var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        Assert.Equal($"{pid}", fields[3]); // session
    }

    /// <summary>What a script starts in the background is born ignoring SIGINT.</summary>
    [Fact]
    public async Task Demo_ends_on_SIGINT_in_the_background_of_a_script()
    {
        using var demo = _sluice.LaunchDeaf("demo", "-p", _sluice.PathOf("demo"), "--port", $"{_sluice.ProxyPort}");
        while (await demo.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken) is { } line
            && !line.Contains("Ctrl-C", StringComparison.Ordinal))
        {
        }
        Assert.True(Native.Signal(demo.Id, Native.Interrupt));
        await demo.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, demo.ExitCode);
    }

    [Fact]
    public async Task Status_tells_where_the_gateway_listens()
    {
        await _sluice.SucceedAsync("start");
        var status = await _sluice.SucceedAsync("status");
        Assert.Contains($"proxy:       127.0.0.1:{_sluice.ProxyPort}\n", status.Output, StringComparison.Ordinal);
        Assert.Contains($"(pid {_sluice.Instance.RunningPid()})", status.Output, StringComparison.Ordinal);
        await _sluice.SucceedAsync("stop");
        Assert.Equal(3, (await _sluice.RunAsync("status")).ExitCode);
    }

    [Fact]
    public async Task Demo_streams_event_by_event()
    {
        var outcome = await _sluice.SucceedAsync("demo", "--check");

        Assert.Equal(8, outcome.Output.Split("buffering o").Length - 1);
    }

    async Task<StreamReader> OpenStreamAsync(string path)
    {
        var answer = await _sluice.Client.GetAsync(_sluice.Url(path), HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken);
        var reader = new StreamReader(await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken));
        Assert.Equal("id: 1", await reader.ReadLineAsync(TestContext.Current.CancellationToken));
        return reader;
    }

    /// <returns>With the first one, which <see cref="OpenStreamAsync"/> saw.</returns>
    static async Task<int> CountEventsAsync(StreamReader reader)
    {
        var count = 1;
        while (await reader.ReadLineAsync(TestContext.Current.CancellationToken) is { } line)
        {
            count += line.StartsWith("id:", StringComparison.Ordinal) ? 1 : 0;
        }
        return count;
    }

    async Task<string> ReadLockedAsync(string file)
    {
        using var cat = Process.Start(new ProcessStartInfo("cat", _sluice.PathOf(file)) { RedirectStandardOutput = true })!;
        return await cat.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
    }

    static async Task UntilAsync(Func<bool> condition)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (!condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, patience.Token);
        }
    }
}

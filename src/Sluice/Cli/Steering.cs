using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Hosting;
using Sluice.Model;
using Sluice.Model.Settings;
using Sluice.Sources;
using Sluice.Sources.Etcd;

namespace Sluice.Cli;

/// <summary>What the command line does to an instance from outside.</summary>
static class Steering
{
    static readonly TimeSpan StopPatience = TimeSpan.FromSeconds(10), ReloadPatience = TimeSpan.FromSeconds(30);

    public static async Task<int> StopAsync(Instance instance, Terminal terminal)
    {
        if (instance.RunningPid() is not { } pid)
        {
            return NotRunning(instance, terminal);
        }
        if (!Native.Signal(pid, Native.Terminate))
        {
            return terminal.Fail($"may not signal pid {pid}");
        }
        if (await EndedAsync(instance, pid, terminal, StopPatience))
        {
            return 0;
        }
        Native.Signal(pid, Native.Kill);
        return await EndedAsync(instance, pid, terminal, StopPatience)
            ? terminal.Fail($"pid {pid} did not stop within {StopPatience.TotalSeconds} s and was killed")
            : terminal.Fail($"pid {pid} does not end");
    }

    public static async Task<int> QuitAsync(Instance instance, Terminal terminal, bool wait)
    {
        if (instance.RunningPid() is not { } pid)
        {
            return NotRunning(instance, terminal);
        }
        if (!Native.Signal(pid, Native.Quit))
        {
            return terminal.Fail($"may not signal pid {pid}");
        }
        if (wait)
        {
            // the gateway itself ends what is left after shutdown_timeout
            await EndedAsync(instance, pid, terminal, Timeout.InfiniteTimeSpan);
        }
        return 0;
    }

    public static async Task<int> RestartAsync(Instance instance, Terminal terminal)
    {
        if (await TestAsync(instance, terminal, beforeStart: true) != 0)
        {
            return terminal.Fail("not restarted");
        }
        if (instance.RunningPid() is not null)
        {
            await StopAsync(instance, terminal);
        }
        return await Daemon.StartAsync(instance, terminal);
    }

    public static async Task<int> ReloadAsync(Instance instance, Terminal terminal)
    {
        if (instance.RunningPid() is not { } pid)
        {
            return NotRunning(instance, terminal);
        }
        var problems = await StartCheck.ConfigurationAsync(Options(instance, terminal));
        if (problems.Any(problem => problem.Severity == Severity.Error))
        {
            terminal.Report(problems);
            return terminal.Fail("not reloaded; the running configuration stays");
        }

        if (instance.ReadState() is not { } before || before.Pid != pid)
        {
            return terminal.Fail($"pid {pid} is still starting or stopping");
        }
        if (!Native.Signal(pid, Native.Hangup))
        {
            return terminal.Fail($"may not signal pid {pid}");
        }
        InstanceState? after = null;
        var answered = await UntilAsync(terminal.Time, ReloadPatience, () =>
            ((after = instance.ReadState()) is { } now && now.Pid == pid && now.Reloads > before.Reloads) || instance.RunningPid() != pid);
        if (!answered || instance.RunningPid() != pid || after is null)
        {
            return terminal.Fail(answered ? $"pid {pid} ended"
                : $"pid {pid} did not say within {ReloadPatience.TotalSeconds} s how the reload went: logs/error.log does, also when {instance.Prefix}/logs/sluice.state cannot be written");
        }
        return terminal.Report(after.ReloadProblems) ? 0 : terminal.Fail("not reloaded; the running configuration stays");
    }

    const int NotRunningCode = 3;

    /// <summary>Where the gateway listens, how its last reload went, whether it is ready.</summary>
    public static async Task<int> StatusAsync(Instance instance, Terminal terminal)
    {
        if (instance.RunningPid() is not { } pid)
        {
            NotRunning(instance, terminal);
            return NotRunningCode;
        }
        if (instance.ReadState() is not { } state || state.Pid != pid)
        {
            return terminal.Fail($"pid {pid} is still starting or stopping");
        }
        terminal.Say($"running on {instance.Prefix} (pid {pid})");
        terminal.Say($"proxy:       {string.Join(", ", state.Proxy)}");
        foreach (var (name, endpoint) in new[] { ("Admin API", state.Admin), ("Control API", state.Control), ("metrics", state.Metrics),
            ("status", state.Status) })
        {
            if (endpoint is not null)
            {
                terminal.Say($"{name + ":",-13}{endpoint}");
            }
        }
        terminal.Say($"reloads:     {state.Reloads}");
        var reloaded = terminal.Report(state.ReloadProblems);
        var reason = state.Status is { } status ? await NotReadyAsync(status, terminal.Time) : null;
        return reason is not null ? terminal.Fail("not ready: " + reason)
            : reloaded ? 0 : terminal.Fail("the last reload failed; the configuration before it runs on");
    }

    /// <returns>Why the gateway is not ready; null when it is.</returns>
    static async Task<string?> NotReadyAsync(string endpoint, TimeProvider time)
    {
        using var client = new HttpClient(new SocketsHttpHandler { UseProxy = false });
        using var late = new CancellationTokenSource(TimeSpan.FromSeconds(5), time);
        try
        {
            using var response = await client.GetAsync(new Uri($"http://{endpoint}/status/ready"), late.Token);
            return response.IsSuccessStatusCode ? null : (await response.Content.ReadAsStringAsync(late.Token)).Trim();
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
        {
            return $"{endpoint} does not answer";
        }
    }

    /// <summary>After log rotation: the gateway opens its logs by their names again.</summary>
    public static int Reopen(Instance instance, Terminal terminal)
    {
        if (instance.RunningPid() is not { } pid)
        {
            return NotRunning(instance, terminal);
        }
        return Native.Signal(pid, Native.User1) ? 0 : terminal.Fail($"may not signal pid {pid}");
    }

    static GatewayOptions Options(Instance instance, Terminal terminal) =>
        new(instance.Prefix) { Time = terminal.Time, Environment = terminal.Environment };

    /// <summary>All that can be known of a start without one, addresses and logs included.</summary>
    public static async Task<int> TestAsync(Instance instance, Terminal terminal, bool beforeStart = false)
    {
        if (!instance.IsConfigured)
        {
            return terminal.Fail(instance.NotConfigured);
        }
        var problems = await StartCheck.StartAsync(Options(instance, terminal), instance.RunningPid(),
            beforeStart ? Severity.Error : Severity.Warning);
        if (!terminal.Report(problems))
        {
            return terminal.Fail($"the configuration in {instance.Prefix} has errors: "
                + problems.Count(problem => problem.Severity == Severity.Error));
        }
        if (!beforeStart)
        {
            terminal.Say($"the configuration in {instance.Prefix} is good");
        }
        return 0;
    }

    public static int Initialise(Instance instance, Terminal terminal)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(instance.ConfigFile)!);
        var written = Write(instance.ConfigFile, DefaultFiles.Config, terminal)
            | Write(instance.ResourceFile, DefaultFiles.Resources, terminal);
        return written ? 0 : terminal.Fail("nothing to write");
    }

    /// <summary>Writes the directories' marks into the etcd of conf/config.yaml; harmless when they are there.</summary>
    public static async Task<int> InitialiseEtcdAsync(Instance instance, Terminal terminal)
    {
        var (settings, problems) = SettingsReader.Load(instance.Prefix, terminal.Environment);
        if (!terminal.Report(problems))
        {
            return 1;
        }
        if (settings!.Etcd is not { } etcd)
        {
            return terminal.Fail("config_provider is not etcd: there is nothing to prepare");
        }
        using var store = new EtcdStore(etcd, terminal.Time, NullLogger<EtcdStore>.Instance);
        for (var retries = etcd.StartupRetry; ; retries--)
        {
            try
            {
                await store.InitialiseAsync();
                terminal.Say($"prepared {etcd.Prefix} in etcd at {string.Join(", ", etcd.Hosts.Select(host => host.Authority))}");
                return 0;
            }
            catch (EtcdUnavailableException) when (retries > 0)
            {
                await Task.Delay(TimeSpan.FromSeconds(1), terminal.Time);
            }
            catch (StoreException e)
            {
                return terminal.Fail(e.Message);
            }
        }
    }

    static bool Write(string path, string text, Terminal terminal)
    {
        try
        {
            using var writer = new StreamWriter(path, DefaultFiles.Private(FileMode.CreateNew));
            writer.Write(text);
        }
        catch (IOException) when (File.Exists(path))
        {
            terminal.Error.WriteLine($"{path} exists and was left as it is");
            return false;
        }
        terminal.Say($"wrote {path}");
        return true;
    }

    static int NotRunning(Instance instance, Terminal terminal) => terminal.Fail($"not running on {instance.Prefix}");

    /// <summary>Until the pid file is let go and the process is gone (or a zombie, which only its parent can remove).</summary>
    static Task<bool> EndedAsync(Instance instance, int pid, Terminal terminal, TimeSpan patience) =>
        UntilAsync(terminal.Time, patience, () => instance.RunningPid() != pid && IsGone(pid));

    static bool IsGone(int pid)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{pid}/stat");
            return stat[(stat.LastIndexOf(')') + 1)..].TrimStart().StartsWith('Z');
        }
        catch (IOException)
        {
            return true;
        }
    }

    static async Task<bool> UntilAsync(TimeProvider time, TimeSpan patience, Func<bool> condition)
    {
        var start = time.GetTimestamp();
        while (!condition())
        {
            if (patience != Timeout.InfiniteTimeSpan && time.GetElapsedTime(start) > patience)
            {
                return false;
            }
            await Task.Delay(TimeSpan.FromMilliseconds(5), time);
        }
        return true;
    }
}

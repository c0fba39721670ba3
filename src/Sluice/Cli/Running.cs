using System.Net;
using System.Runtime.InteropServices;
using System.Threading.Channels;
using Sluice.Hosting;
using Sluice.Model;

namespace Sluice.Cli;

/// <summary><c>sluice run</c>: a gateway in this process, steered by signals.</summary>
static class Running
{
    public static async Task<int> RunAsync(Instance instance, Terminal terminal, bool daemon)
    {
        if (!daemon)
        {
            return await RunAsync(instance, terminal, new Announcement(terminal));
        }
        if (instance.IsConfigured && instance.PrepareLogs() is { } reason)
        {
            return terminal.Fail(reason);
        }
        Directory.CreateDirectory(Path.GetDirectoryName(instance.ConsoleFile)!);
        await using var parent = Native.Detach(instance.ConsoleFile);
        // .NET's writers still hold what the standard handles were
        Console.SetOut(new StreamWriter(Console.OpenStandardOutput()) { AutoFlush = true });
        Console.SetError(new StreamWriter(Console.OpenStandardError()) { AutoFlush = true });
        return await RunAsync(instance, terminal with { Out = Console.Out, Error = Console.Error }, new Announcement(parent));
    }

    static async Task<int> RunAsync(Instance instance, Terminal terminal, Announcement announcement)
    {
        if (!instance.IsConfigured)
        {
            return announcement.Fail(instance.NotConfigured);
        }
        if (instance.PrepareLogs() is { } reason)
        {
            return announcement.Fail(reason);
        }
        IDisposable? claimed;
        try
        {
            claimed = await instance.ClaimAsync(terminal.Time);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return announcement.Fail($"{instance.PidFile} cannot be written: {e.Message}");
        }
        using var claim = claimed;
        if (claim is null)
        {
            return announcement.Fail($"already running on {instance.Prefix} (pid {instance.RunningPid()})");
        }

        using var signals = new Signals();
        Gateway gateway;
        try
        {
            gateway = await Gateway.StartAsync(
                new GatewayOptions(instance.Prefix) { Time = terminal.Time, Environment = terminal.Environment,
                    ErrorLogCopy = announcement.ErrorLogCopy },
                signals.StopDuringStart);
        }
        catch (GatewayStartException e)
        {
            return announcement.Fail(e.Problems);
        }
        catch (OperationCanceledException) when (signals.StopDuringStart.IsCancellationRequested)
        {
            return announcement.Fail("stopped while starting");
        }
        catch (Exception e)
        {
            terminal.Error.WriteLine(e);
            return announcement.Fail($"the start failed: {e.Message}");
        }
        await using (gateway)
        {
            var state = StateOf(gateway);
            Tell(instance, state, gateway, terminal);
            announcement.Started(state, gateway.GeneratedAdminKey);
            await SteerAsync(gateway, signals, reload: async () =>
            {
                IReadOnlyList<Problem> problems = await ReloadAsync(gateway);
                state = StateOf(gateway) with { Reloads = state.Reloads + 1, ReloadProblems = [.. problems] };
                Tell(instance, state, gateway, terminal);
            });
        }
        instance.RemoveState();
        return 0;
    }

    /// <summary>Tells the command line and whoever watches; what cannot be told stops nothing.</summary>
    static void Tell(Instance instance, InstanceState state, Gateway gateway, Terminal terminal)
    {
        if (instance.WriteState(state) is { } reason)
        {
            gateway.LogSideFile("logs/sluice.state", reason);
        }
        try
        {
            terminal.Report(state.ReloadProblems);
        }
        catch (IOException)
        {
            // console.log is on a full disk; the error log was told as well
        }
    }

    /// <summary>Returns when the gateway has stopped: quickly after SIGTERM or SIGINT, after its streams after SIGQUIT.</summary>
    static async Task SteerAsync(Gateway gateway, Signals signals, Func<Task> reload)
    {
        Task? stopped = null;
        var quick = false;
        while (true)
        {
            var next = signals.NextAsync();
            if (stopped is not null && await Task.WhenAny(stopped, next) == stopped)
            {
                await stopped;
                return;
            }
            switch (await next)
            {
                case PosixSignal.SIGHUP when stopped is null:
                    await reload();
                    break;
                case (PosixSignal)Native.User1:
                    gateway.ReopenLogs();
                    break;
                case PosixSignal.SIGQUIT when stopped is null:
                    stopped = gateway.StopAsync(graceful: true);
                    break;
                case PosixSignal.SIGTERM or PosixSignal.SIGINT when !quick:
                    quick = true;
                    stopped = Task.WhenAll(stopped ?? Task.CompletedTask, gateway.StopAsync(graceful: false));
                    break;
                case PosixSignal.SIGTERM or PosixSignal.SIGINT:
                    Environment.Exit(1);
                    break;
            }
        }
    }

    static async Task<IReadOnlyList<Problem>> ReloadAsync(Gateway gateway)
    {
        try
        {
            return await gateway.ReloadAsync();
        }
        catch (Exception e)
        {
            return [Problem.Error("reload", e.Message)];
        }
    }

    static InstanceState StateOf(Gateway gateway) => new(
        Environment.ProcessId, [.. gateway.ProxyEndpoints.Select(endpoint => endpoint.ToString())],
        gateway.AdminEndpoint?.ToString(), gateway.ControlEndpoint?.ToString(), gateway.StatusEndpoint?.ToString(),
        gateway.MetricsEndpoint?.ToString(), Reloads: 0, ReloadProblems: []);

    /// <summary>Signals in the order in which they came.</summary>
    sealed class Signals : IDisposable
    {
        // Full: sixteen signals wait already; one more of them says nothing new.
        readonly Channel<PosixSignal> _pending = Channel.CreateBounded<PosixSignal>(
            new BoundedChannelOptions(16) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true });
        readonly CancellationTokenSource _stop = new();
        readonly PosixSignalRegistration[] _registrations;
        Task<PosixSignal>? _next;

        public Signals()
        {
            Native.Heed([Native.Terminate, Native.Interrupt, Native.Quit, Native.Hangup, Native.User1]);
            _registrations =
            [
                .. new[] { PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGQUIT, PosixSignal.SIGHUP, (PosixSignal)Native.User1 }
                    .Select(signal => PosixSignalRegistration.Create(signal, Receive)),
            ];
        }

        /// <summary>Only the start listens to it: afterwards a stop is an orderly one.</summary>
        public CancellationToken StopDuringStart => _stop.Token;

        /// <summary>The same task until a signal has come.</summary>
        public Task<PosixSignal> NextAsync()
        {
            if (_next is null or { IsCompleted: true })
            {
                _next = _pending.Reader.ReadAsync().AsTask();
            }
            return _next;
        }

        public void Dispose()
        {
            foreach (var registration in _registrations)
            {
                registration.Dispose();
            }
            _stop.Dispose();
        }

        void Receive(PosixSignalContext context)
        {
            context.Cancel = true;
            _pending.Writer.TryWrite(context.Signal);
            if (context.Signal is not (PosixSignal.SIGHUP or (PosixSignal)Native.User1))
            {
                _stop.Cancel();
            }
        }
    }
}

/// <summary>
/// How a start went: told to the terminal, or, line by line, to the process that started this daemon
/// (<c>out …</c>, <c>err …</c>, at last <c>ready URL</c>).
/// </summary>
sealed class Announcement
{
    readonly Terminal? _terminal;
    readonly Stream? _parent;

    public Announcement(Terminal terminal) => _terminal = terminal;

    public Announcement(Stream parent) => _parent = parent;

    /// <summary>In the foreground people watch.</summary>
    public string? ErrorLogCopy => _terminal is null ? null : "/dev/stderr";

    public int Fail(string message)
    {
        Write("err", "sluice: " + message);
        return 1;
    }

    public int Fail(IReadOnlyList<Problem> problems)
    {
        foreach (var problem in problems)
        {
            Write("err", Terminal.Line(problem));
        }
        return 1;
    }

    public void Started(InstanceState state, string? generatedAdminKey)
    {
        Write("out", $"sluice {CommandLine.Version} (pid {state.Pid}): proxy on {string.Join(", ", state.Proxy)}"
            + (state.Admin is null ? "" : $"; Admin API on {state.Admin}"));
        if (generatedAdminKey is not null)
        {
            Write("out", $"admin key, made now and not shown again: {generatedAdminKey}");
        }
        if (_parent is not null)
        {
            Write("ready", state.Status ?? "");
            _parent.Dispose();
        }
    }

    void Write(string kind, string text)
    {
        if (_parent is null)
        {
            (kind == "err" ? _terminal!.Error : _terminal!.Out).WriteLine(text);
            return;
        }
        try
        {
            _parent.Write(System.Text.Encoding.UTF8.GetBytes($"{kind} {text.ReplaceLineEndings(" ")}\n"));
        }
        catch (IOException)
        {
            // whoever started this daemon no longer waits
        }
    }
}

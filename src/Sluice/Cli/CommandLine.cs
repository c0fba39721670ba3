using System.CommandLine;
using System.CommandLine.Help;
using System.Reflection;
using Sluice.Cli.Demo;

namespace Sluice.Cli;

/// <summary>The commands of <c>sluice</c>: what they are called, what they take, what they do.</summary>
static class CommandLine
{
    public static string Version { get; } =
        typeof(CommandLine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "?";

    public static Task<int> RunAsync(string[] args) => RunAsync(args, Terminal.OfProcess());

    public static Task<int> RunAsync(string[] args, Terminal terminal) =>
        Build(terminal).Parse(Usual(args)).InvokeAsync(new InvocationConfiguration
        {
            Output = terminal.Out,
            Error = terminal.Error,
            // signals are the gateway's own: quick, graceful, reload
            ProcessTerminationTimeout = null,
        });

    /// <summary>What people type at a program they do not know yet.</summary>
    static string[] Usual(string[] args) => args switch
    {
        [] => ["help"],
        ["--version" or "-V"] => ["version"],
        _ => args,
    };

    internal static Command Build(Terminal terminal)
    {
        var prefix = new Option<string?>("--prefix", "-p")
        {
            Description = "The instance: the directory that holds conf/, logs/, data/ and lua/. Default: $SLUICE_PREFIX, else the current directory",
            HelpName = "DIR",
            Recursive = true,
        };
        var daemon = new Option<bool>("--daemon") { Hidden = true };
        var noWait = new Option<bool>("--no-wait") { Description = "Return at once instead of when the last stream has ended" };
        var port = new Option<int?>("--port") { Description = "The proxy's port. Default: 9080, or the next free one", HelpName = "PORT" };
        var check = new Option<bool>("--check", "--once") { Description = "Start, watch streams arrive event by event, stop" };
        var topic = new Argument<string?>("command") { Arity = ArgumentArity.ZeroOrOne };

        Instance InstanceOf(ParseResult parsed) =>
            new(parsed.GetValue(prefix) ?? (terminal.Environment("SLUICE_PREFIX") is { Length: > 0 } directory ? directory : "."));
        Command Of(string name, string description, Func<Instance, Task<int>> run)
        {
            var command = new Command(name, description);
            command.SetAction((parsed, _) => run(InstanceOf(parsed)));
            return command;
        }

        var run = new Command("run", "Run in the foreground. SIGTERM, SIGINT: quick stop; SIGQUIT: graceful; SIGHUP: reload; SIGUSR1: reopen logs") { daemon };
        run.SetAction((parsed, _) => Running.RunAsync(InstanceOf(parsed), terminal, parsed.GetValue(daemon)));

        var quit = new Command("quit", "Stop when open requests and streams have ended, at most shutdown_timeout") { noWait };
        quit.SetAction((parsed, _) => Steering.QuitAsync(InstanceOf(parsed), terminal, wait: !parsed.GetValue(noWait)));

        var demo = new Command("demo", "Start a gateway, a sample upstream and a page that shows streams arriving") { port, check };
        demo.SetAction((parsed, cancellation) => DemoRun.RunAsync(
            terminal, parsed.GetValue(prefix) is null ? null : InstanceOf(parsed), parsed.GetValue(port), parsed.GetValue(check),
            cancellation));

        var version = new Command("version", "Print the version");
        version.SetAction(_ => terminal.Say($"sluice {Version}"));

        Command root = new("sluice", "Sluice, a streaming API gateway that speaks Apache APISIX's language")
        {
            prefix,
            new HelpOption(),
            run,
            Of("start", "Start in the background; returns when the gateway answers", instance => Daemon.StartAsync(instance, terminal)),
            Of("stop", "Stop at once", instance => Steering.StopAsync(instance, terminal)),
            quit,
            Of("restart", "Stop and start; a configuration with errors leaves the old gateway running",
                instance => Steering.RestartAsync(instance, terminal)),
            Of("reload", "Apply a changed configuration without dropping a connection", instance => Steering.ReloadAsync(instance, terminal)),
            Of("reopen", "Open the log files again, after log rotation moved them away", instance => Task.FromResult(Steering.Reopen(instance, terminal))),
            Of("test", "Check the configuration; every error with its place", instance => Task.FromResult(Steering.Test(instance, terminal))),
            Of("init", "Write a commented default configuration", instance => Task.FromResult(Steering.Initialise(instance, terminal))),
            Of("init_etcd", "Prepare etcd's key space, where config_provider is etcd", instance => Steering.InitialiseEtcdAsync(instance, terminal)),
            demo,
            version,
        };
        var help = new Command("help", "Show help for a command") { topic };
        help.SetAction((parsed, cancellation) => root
            .Parse(parsed.GetValue(topic) is { } name ? [name, "--help"] : ["--help"])
            .InvokeAsync(parsed.InvocationConfiguration, cancellation));
        root.Add(help);
        return root;
    }
}

using System.CommandLine;
using System.CommandLine.Help;
using System.Reflection;
using Sluice.Cli.Demo;
using Sluice.Cli.Doctor;
using Sluice.Model;

namespace Sluice.Cli;

/// <summary>The commands of <c>sluice</c>: what they are called, what they take, what they do.</summary>
static class CommandLine
{
    public static string Version { get; } =
        typeof(CommandLine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "?";

    public static Task<int> RunAsync(string[] args) => RunAsync(args, Terminal.OfProcess());

    public static Task<int> RunAsync(string[] args, Terminal terminal)
    {
        var root = Build(terminal);
        if (args is [var directive, ..] && directive.StartsWith("[suggest", StringComparison.Ordinal))
        {
            return Task.FromResult(Complete(root, args.ElementAtOrDefault(1) ?? "", terminal));
        }
        var parsed = root.Parse(WithoutShortcuts(args));
        return parsed.Errors.Count > 0 ? Task.FromResult(Refuse(parsed, terminal)) : parsed.InvokeAsync(new InvocationConfiguration
        {
            Output = terminal.Out,
            Error = terminal.Error,
            // signals are the gateway's own: quick, graceful, reload
            ProcessTerminationTimeout = null,
        });
    }

    /// <summary>What people type at a program they do not know yet.</summary>
    static string[] WithoutShortcuts(string[] args) => args switch
    {
        [] or ["--help" or "-h" or "-?"] => ["help"],
        ["--version" or "-V" or "-v"] => ["version"],
        _ => args,
    };

    /// <summary>One line for a typing error, with what was probably meant.</summary>
    static int Refuse(ParseResult parsed, Terminal terminal)
    {
        var command = parsed.CommandResult.Command;
        var isRoot = command is { Name: "sluice" };
        var help = isRoot ? "sluice help" : $"sluice help {command.Name}";
        return (parsed.UnmatchedTokens is [var first, ..] ? first : null) switch
        {
            null => terminal.Fail($"{parsed.Errors[0].Message} ({help})"),
            ['-', ..] option => terminal.Fail($"unknown option \"{option}\"{Suggestion.For(option, OptionsOf(parsed))} ({help})"),
            var word when isRoot => terminal.Fail($"unknown command \"{word}\"{Suggestion.For(word, CommandsOf(command))} ({help})"),
            var word => terminal.Fail($"{command.Name} takes no \"{word}\" ({help})"),
        };
    }

    static IEnumerable<string> CommandsOf(Command command) =>
        command.Subcommands.Where(static one => !one.Hidden).Select(static one => one.Name);

    static IEnumerable<string> OptionsOf(ParseResult parsed) =>
        parsed.CommandResult.Command.Options.Concat(parsed.RootCommandResult.Command.Options).Where(static option => !option.Hidden)
        .Select(static option => option.Name);

    /// <summary>What can stand where a line ends (without the program's name): one word a line.</summary>
    static int Complete(Command root, string line, Terminal terminal)
    {
        var last = line.AsSpan()[(line.LastIndexOf(' ') + 1)..].ToString();
        var parsed = root.Parse(line[..^last.Length]);
        var command = parsed.CommandResult.Command;
        var words = command.Name == "help" ? CommandsOf(root)
            : last.StartsWith('-') ? command.Options.Concat(root.Options).Where(static option => !option.Hidden)
            .SelectMany(static option => option.Aliases.Prepend(option.Name))
            : CommandsOf(command);
        foreach (var word in words.Where(word => word.StartsWith(last, StringComparison.Ordinal) && word is not ['/', ..] and not "-?")
            .Distinct().Order(StringComparer.Ordinal))
        {
            terminal.Say(word);
        }
        return 0;
    }

    const string BashCompletion =
        """
        # in ~/.bashrc: eval "$(sluice completion)"; zsh: autoload -U bashcompinit && bashcompinit before it
        _sluice() {
          local line=${COMP_LINE:0:COMP_POINT} IFS=$'\n'
          COMPREPLY=($("${COMP_WORDS[0]}" '[suggest]' "${line#* }" 2>/dev/null))
        }
        complete -o default -F _sluice sluice ./sluice
        """;

    /// <summary>What stands below the list of commands.</summary>
    const string Examples =
        """
        Examples:
          sluice demo                       watch streams arrive, in a browser
          sluice init -p ~/gateway          an instance of your own, then:
          sluice start -p ~/gateway
          sluice status -p ~/gateway        where it listens, whether it is well
          sluice test -p ~/gateway          errors of the configuration, with file and line
          sluice reload -p ~/gateway        apply a change; no stream ends

        Exit codes:
          0  done
          1  not done; standard error says why
          2  doctor: warnings
          3  status: not running; doctor: errors
        """;

    internal static Command Build(Terminal terminal)
    {
        var prefix = new Option<string?>("--prefix", "-p")
        {
            Description =
                "The instance: the directory that holds conf/, logs/, data/ and lua/. Default: $SLUICE_PREFIX, else the current directory",
            HelpName = "DIR",
            Recursive = true,
        };
        var daemon = new Option<bool>("--daemon") { Hidden = true };
        var noWait = new Option<bool>("--no-wait") { Description = "Return at once instead of when the last stream has ended" };
        var port =
            new Option<int?>("--port") { Description =
                "The proxy's port, and with it all others beside it. Default: 9080, or the next free one", HelpName = "PORT" };
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

        var run = new Command("run",
            "Run in the foreground. SIGTERM, SIGINT: quick stop; SIGQUIT: graceful; SIGHUP: reload; SIGUSR1: reopen logs") { daemon };
        run.SetAction((parsed, _) => Running.RunAsync(InstanceOf(parsed), terminal, parsed.GetValue(daemon)));

        var quit = new Command("quit", "Stop when open requests and streams have ended, at most shutdown_timeout") { noWait };
        quit.SetAction((parsed, _) => Steering.QuitAsync(InstanceOf(parsed), terminal, wait: !parsed.GetValue(noWait)));

        var demo = new Command("demo", "Start a gateway, a sample upstream and a page that shows streams arriving") { port, check };
        demo.SetAction((parsed, cancellation) => DemoRun.RunAsync(
            terminal, parsed.GetValue(prefix) is null ? null : InstanceOf(parsed), parsed.GetValue(port), parsed.GetValue(check),
            cancellation));

        var doctor = DoctorCommand.Make(InstanceOf, terminal);

        var completion = new Command("completion", "Print the completion of commands and options for bash and zsh");
        completion.SetAction(_ => terminal.Say(BashCompletion));

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
            Of("status", "Say whether the gateway runs and is ready, and where it listens; exit code 3 when it does not run",
                instance => Steering.StatusAsync(instance, terminal)),
            Of("reload", "Apply a changed configuration without dropping a connection",
                instance => Steering.ReloadAsync(instance, terminal)),
            Of("reopen", "Open the log files again, after log rotation moved them away",
                instance => Task.FromResult(Steering.Reopen(instance, terminal))),
            Of("test", "Check the configuration; every error with its place", instance => Steering.TestAsync(instance, terminal)),
            Of("init", "Write a commented default configuration", instance => Task.FromResult(Steering.Initialise(instance, terminal))),
            Of("init_etcd", "Prepare etcd's key space, where config_provider is etcd",
                instance => Steering.InitialiseEtcdAsync(instance, terminal)),
            doctor,
            demo,
            completion,
            version,
        };
        var help = new Command("help", "Show help for a command") { topic };
        help.SetAction(async (parsed, cancellation) =>
        {
            var name = parsed.GetValue(topic);
            if (name is not null && !root.Subcommands.Any(command => command.Name == name))
            {
                return terminal.Fail($"unknown command \"{name}\"{Suggestion.For(name, CommandsOf(root))} (sluice help)");
            }
            var code = await root.Parse(name is null ? ["--help"] : [name, "--help"])
                .InvokeAsync(parsed.InvocationConfiguration, cancellation);
            if (name is null)
            {
                terminal.Say(Examples);
            }
            return code;
        });
        root.Add(help);
        return root;
    }
}

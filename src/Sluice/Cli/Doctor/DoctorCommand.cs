using System.CommandLine;
using System.Text.Json;
using Sluice.Model;

namespace Sluice.Cli.Doctor;

/// <summary>What <c>sluice doctor</c> takes.</summary>
static class DoctorCommand
{
    static readonly string[] s_probes = ["sse", "ndjson", "post", "websocket"];

    public static Command Make(Func<ParseResult, Instance> instanceOf, Terminal terminal)
    {
        var targets = new Argument<string[]>("targets") { Arity = ArgumentArity.ZeroOrMore, HelpName = "ROUTE|URL",
            Description = "Routes by id or name, paths, URLs. Default: what the configuration of all routes says" };
        var direct = new Option<string?>("--direct") { HelpName = "URL",
            Description = "What the node is asked, where plugins ask it for something else than clients do" };
        var through = new Option<string?>("--through") { HelpName = "URL",
            Description = "Where clients come in, with everything that stands in front of the gateway" };
        var header = new Option<string[]>("--header") { HelpName = "'K: V'", Description = "Sent on every leg" };
        var method = new Option<string?>("--method") { HelpName = "M" };
        var body = new Option<string?>("--body") { HelpName = "FILE", Description = "The request's body" };
        var probe = new Option<string>("--probe") { HelpName = string.Join('|', s_probes), DefaultValueFactory = static _ => "sse",
            Description = "What kind of stream is asked for" };
        var events = new Option<int>("--events") { HelpName = "N", DefaultValueFactory = static _ => 10,
            Description = "So many are read on each leg" };
        var silence = new Option<string>("--silence") { HelpName = "TIME", DefaultValueFactory = static _ => "90s",
            Description = "So long a stream may be silent before it is left" };
        var configOnly = new Option<bool>("--config-only") { Description = "Send nothing; only read the configuration" };
        var json = new Option<bool>("--json");
        var strict = new Option<bool>("--strict") { Description = "Exit code 3 for warnings, too" };
        var command = new Command("doctor",
            "Say which hop buffers, compresses, downgrades or cuts streams, and what in the configuration will hurt")
        {
            targets, direct, through, header, method, body, probe, events, silence, configOnly, json, strict,
        };
        command.SetAction(async (parsed, cancellation) =>
        {
            if (!s_probes.Contains(parsed.GetValue(probe)))
            {
                return terminal.Fail($"--probe {parsed.GetValue(probe)}: expected one of {string.Join(", ", s_probes)}");
            }
            if (parsed.GetValue(events) is < 2 or > 10_000)
            {
                return terminal.Fail("--events: expected a number from 2 to 10000");
            }
            TimeSpan patience;
            try
            {
                patience = Duration.Parse(parsed.GetValue(silence)!).Time;
            }
            catch (JsonException e)
            {
                return terminal.Fail($"--silence: {e.Message}");
            }
            return await DoctorRun.RunAsync(
                instanceOf(parsed), new(
                    parsed.GetValue(targets) ?? [], parsed.GetValue(direct), parsed.GetValue(through), parsed.GetValue(header) ?? [],
                    parsed.GetValue(method), parsed.GetValue(body),
                    parsed.GetValue(probe)!, parsed.GetValue(events), patience, parsed.GetValue(configOnly), parsed.GetValue(json),
                    parsed.GetValue(strict)),
                terminal, cancellation);
        });
        return command;
    }
}

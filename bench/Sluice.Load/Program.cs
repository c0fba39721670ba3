// Compares Sluice with nginx, HAProxy, YARP and no proxy at all. See docs/performance.md; started by bench/compare.
using System.Globalization;
using System.Runtime.InteropServices;
using Sluice.Load;

var root = Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../../../.."));
if (args is ["soak", .. var soak])
{
    return await Soak.RunAsync(soak, root);
}
var options = new Options(args);
var directory = Directory.CreateTempSubdirectory("sluice-bench-").FullName;
using var origin = new Origin();
var gateways = new Gateways(root, directory, origin.Port);
List<Result> results = [];
string[] cpus = [.. File.ReadLines("/proc/cpuinfo").Where(line => line.StartsWith("model name", StringComparison.Ordinal))
    .Select(line => line.Split(':')[1].Trim())];
var machine = string.Create(CultureInfo.InvariantCulture,
    $"{cpus.Length} cores ({cpus.FirstOrDefault()}), {RuntimeInformation.OSDescription}, .NET {Environment.Version}, {options.Rounds} rounds of {options.Seconds} s, warmed up for {options.Warmup} s.");
Console.WriteLine(machine);
Scenario[] scenarios = [.. Scenario.All.Where(scenario => options.Scenarios.Contains(scenario.Name))];
// all gateways are up all the time and measured in turns, so that each round's figures are of the same minute of a machine that others use
// too; memory alone is that of a process that has done nothing else
List<RunningGateway> up = [];
try
{
    if (!Array.TrueForAll(scenarios, scenario => scenario.IsMemory))
    {
        foreach (var name in options.Gateways)
        {
            up.Add(gateways.Start(name));
        }
    }
    foreach (var scenario in scenarios.Where(scenario => !scenario.IsMemory))
    {
        up.ForEach(gateway => Measurement.WarmUp(scenario, gateway, options));
    }
    for (var round = 1; round <= options.Rounds; round++)
    {
        // what is compared comes one after the other, and each round in another order: what one leaves behind must not always hit the same
        foreach (var compared in scenarios.GroupBy(scenario => scenario.Beside ?? scenario.Name).Shuffle())
        {
            foreach (var (scenario, name) in compared.SelectMany(scenario => options.Gateways.Select(name => (scenario, name))).Shuffle())
            {
                using var fresh = scenario.IsMemory ? gateways.Start(name) : null;
                if (Measurement.Run(scenario, fresh ?? up.Find(gateway => gateway.Name == name)!, round, options) is not { } result)
                {
                    continue;
                }
                results.Add(result);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{round} {result.Scenario,-9} {result.Gateway,-8} {result.Cost,9:F1} {(scenario.IsMemory ? "bytes/stream" : "µs/" + scenario.Operation),-13} {result.PerSecond,9:F0}/s p50 {result.P50Us,8:F0} p99 {result.P99Us,8:F0} wrong {result.Wrong} {result.FirstWrong}"));
            }
        }
    }
}
finally
{
    // whatever happened: nobody else would end them
    up.ForEach(gateway => gateway.Dispose());
    Directory.Delete(directory, recursive: true);
}
var markdown = Report.Markdown(results, machine);
Console.WriteLine();
Console.WriteLine(markdown);
if (options.MarkdownFile is { } file)
{
    File.WriteAllText(file, markdown);
}
if (options.JsonFile is { } json)
{
    Report.Json(results, machine, json);
}
return results.Exists(result => result.Wrong > 0) ? 1 : 0;

/// <summary>What is on the command line: <c>--rounds 3 --seconds 8 --warmup 12 --scenarios A,D --gateways nginx,sluice --json FILE
/// --markdown FILE</c>.</summary>
sealed class Options
{
    public Options(string[] args)
    {
        for (var i = 0; i < args.Length; i += 2)
        {
            var value = i + 1 < args.Length ? args[i + 1] : throw new ArgumentException($"{args[i]} needs a value");
            switch (args[i])
            {
                case "--rounds": Rounds = int.Parse(value, CultureInfo.InvariantCulture); break;
                case "--seconds": Seconds = int.Parse(value, CultureInfo.InvariantCulture); break;
                case "--warmup": Warmup = int.Parse(value, CultureInfo.InvariantCulture); break;
                case "--scenarios": Scenarios = Known(value == "lua" ? "A2,A2-lua,D,D-lua" : value,
                    [.. Scenario.All.Select(scenario => scenario.Name)]); break;
                case "--gateways": Gateways = Known(value, Sluice.Load.Gateways.All); break;
                case "--json": JsonFile = value; break;
                case "--markdown": MarkdownFile = value; break;
                default: throw new ArgumentException($"unknown option {args[i]}");
            }
        }
    }

    static string[] Known(string list, string[] known)
    {
        string[] names = list.Split(',');
        return names.Except(known).FirstOrDefault() is { } wrong
            ? throw new ArgumentException($"there is no {wrong}; there are {string.Join(", ", known)}") : names;
    }

    public int Rounds { get; } = 6;

    public int Seconds { get; } = 4;

    /// <summary>For each gateway and scenario, once.</summary>
    public int Warmup { get; } = 12;

    public string[] Scenarios { get; } = [.. Scenario.All.Select(scenario => scenario.Name)];

    public string[] Gateways { get; } = Sluice.Load.Gateways.All;

    public string? JsonFile { get; }

    public string? MarkdownFile { get; }
}

/// <summary>One scenario through one gateway.</summary>
static class Measurement
{
    /// <summary>From the last stream's beginning until it is measured, and from a measurement's end to the next.</summary>
    static readonly TimeSpan Pause = TimeSpan.FromSeconds(1.5);

    /// <summary>Code is compiled while it runs.</summary>
    public static void WarmUp(Scenario scenario, RunningGateway gateway, Options options)
    {
        if (gateway.Port(scenario.Door) is { } port)
        {
            using var end = new CancellationTokenSource();
            Begin(scenario, port, new Tally(), end.Token);
            Thread.Sleep(TimeSpan.FromSeconds(options.Warmup));
            end.Cancel();
            Thread.Sleep(Pause);
        }
    }

    /// <summary>Null: the gateway does not do this.</summary>
    public static Result? Run(Scenario scenario, RunningGateway gateway, int round, Options options)
    {
        if (gateway.Port(scenario.Door) is not { } port)
        {
            return null;
        }
        var tally = new Tally();
        using var end = new CancellationTokenSource();
        if (scenario.IsMemory)
        {
            // as many streams before: what a process needs once, its code above all, is not memory of a stream
            Begin(scenario, port, tally, end.Token);
            Thread.Sleep(TimeSpan.FromSeconds(options.Warmup));
        }
        var memory = gateway.Pid == 0 ? 0 : Measured.Memory(gateway.Pid);
        Begin(scenario, port, tally, end.Token);
        Thread.Sleep(Pause);
        tally.Clear();
        var cpu = gateway.Pid == 0 ? 0 : Measured.Cpu(gateway.Pid);
        var began = System.Diagnostics.Stopwatch.GetTimestamp();
        Thread.Sleep(TimeSpan.FromSeconds(options.Seconds));
        var seconds = System.Diagnostics.Stopwatch.GetElapsedTime(began).TotalSeconds;
        var operations = Math.Max(1, tally.Operations);
        var cost = gateway.Pid == 0 ? 0
            : scenario.IsMemory ? (Measured.Memory(gateway.Pid) - memory) / (double)scenario.Streams
            : (Measured.Cpu(gateway.Pid) - cpu) * 1e6 / operations;
        var result = new Result(scenario.Name, gateway.Name, round, cost, operations / seconds, tally.Quantile(0.5), tally.Quantile(0.99),
            tally.Wrong, tally.FirstWrong);
        end.Cancel();
        Thread.Sleep(Pause);
        return result;
    }

    /// <summary>Returns when all streams have begun.</summary>
    static void Begin(Scenario scenario, int port, Tally tally, CancellationToken end)
    {
        var running = new CountdownEvent(Math.Max(scenario.Streams, 1));
        scenario.Load(port, tally, () => { if (!running.IsSet) { running.Signal(); } }, end);
        if (scenario.Streams > 0 && !running.Wait(TimeSpan.FromSeconds(60), end))
        {
            tally.Error($"{running.CurrentCount} of {scenario.Streams} streams did not begin");
        }
    }
}

using System.Diagnostics;
using Sluice.Mutate;

// Puts faults into a checkout, one at a time, and says which of them no unit test notices. Called by tests/mutate, in a checkout of its
// own. usage: Sluice.Mutate CHECKOUT [--max N] [--seed N] FILE-OR-FOLDER…   (below src/Sluice)

var (max, seed) = (int.MaxValue, 1);
List<string> paths = [];
var home = Path.GetFullPath(args[0]);
for (var i = 1; i < args.Length; i++)
{
    switch (args[i])
    {
        case "--max":
            max = int.Parse(args[++i]);
            break;
        case "--seed":
            seed = int.Parse(args[++i]);
            break;
        case ['-', ..]:
            return Fail($"mutate: no such option: {args[i]}");
        default:
            paths.Add(args[i].TrimEnd('/'));
            break;
    }
}

var files = paths.SelectMany(FilesOf).Distinct().Order(StringComparer.Ordinal).ToList();
if (files.Count == 0)
{
    return Fail("mutate: name files or folders below src/Sluice");
}
var faults = files.SelectMany(file => FaultFinder.Of(file, File.ReadAllText(Path.Combine(home, file)))).ToArray();
new Random(seed).Shuffle(faults);
Console.WriteLine(
    $"{faults.Length} faults in {files.Count} files{(max < faults.Length ? $"; {max} of them are tried, by chance (--seed {seed})" : "")}");

var tests = Path.Combine(home, "tests/Sluice.Tests/bin/Release/net10.0");
if (!Build("tests/Sluice.Tests/Sluice.Tests.csproj", restores: true) || !Passes("*"))
{
    return Fail("mutate: without a fault the tests do not build or are red");
}

var (caught, survived, invalid) = (0, new List<Fault>(), 0);
foreach (var fault in faults)
{
    if (caught + survived.Count >= max)
    {
        break;
    }
    var path = Path.Combine(home, fault.File);
    var source = File.ReadAllText(path);
    try
    {
        File.WriteAllText(path, source[..fault.Span.Start] + fault.New + source[fault.Span.End..]);
        if (!Build("src/Sluice/Sluice.csproj", restores: false))
        {
            invalid++;
            continue;
        }
        File.Copy(Path.Combine(home, "src/Sluice/bin/Release/net10.0/Sluice.dll"), Path.Combine(tests, "Sluice.dll"), overwrite: true);
        if (!Passes(Near(fault.File)) || !Passes("*"))
        {
            caught++;
        }
        else
        {
            survived.Add(fault);
            Console.WriteLine($"not noticed: {fault}");
        }
    }
    finally
    {
        File.WriteAllText(path, source);
    }
}
Console.WriteLine($"{caught} of {caught + survived.Count} faults were noticed ({invalid} did not compile)");
return 0;

IEnumerable<string> FilesOf(string path)
{
    var full = Path.Combine(home, path);
    var found = Directory.Exists(full) ? Directory.EnumerateFiles(full, "*.cs", SearchOption.AllDirectories) : File.Exists(full) ? [full]
        : [];
    return found.Select(file => Path.GetRelativePath(home, file))
        .Where(file => !file.Contains("/obj/", StringComparison.Ordinal) && !file.Contains("/bin/", StringComparison.Ordinal));
}

// the unit tests of src/Sluice/Net/Http are in Sluice.Tests.Net.Http
string Near(string file) => $"Sluice.Tests.{string.Join('.', file.Split('/')[2..^1])}.*";

bool Build(string project, bool restores) =>
    Run(TimeSpan.FromMinutes(10),
        ["build", project, "-c", "Release", "-v", "q", "-nologo", "-p:RunAnalyzers=false", "-p:TreatWarningsAsErrors=false",
            "-p:UseSharedCompilation=true",
        .. restores ? Array.Empty<string>() : ["--no-restore"]]) == 0;

// a run that does not end is a failure that was noticed
bool Passes(string classes) =>
    Run(TimeSpan.FromMinutes(2), [Path.Combine(tests, "Sluice.Tests.dll"), "-noColor", "-noLogo", "-stopOnFail", "-class", classes]) == 0;

int Run(TimeSpan patience, string[] arguments)
{
    var start = new ProcessStartInfo("dotnet", arguments) { WorkingDirectory = home, RedirectStandardOutput = true,
        RedirectStandardError = true };
    using var process = Process.Start(start)!;
    process.OutputDataReceived += static (_, _) => { };
    process.ErrorDataReceived += static (_, _) => { };
    process.BeginOutputReadLine();
    process.BeginErrorReadLine();
    if (!process.WaitForExit(patience))
    {
        process.Kill(entireProcessTree: true);
        return -1;
    }
    return process.ExitCode;
}

static int Fail(string message)
{
    Console.Error.WriteLine(message);
    return 1;
}

using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Sluice.Cli;
using Sluice.Cli.Demo;

namespace Sluice.FunctionalTests.Processes;

/// <summary>An instance in a directory of its own and the real command line, each command a process.</summary>
public sealed class CommandFixture : IAsyncDisposable
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    readonly List<Process> _started = [];

    public CommandFixture()
    {
        Directory.CreateDirectory(Path.Combine(Prefix, "conf"));
        WriteConfig();
        WriteRoutes();
    }

    public string Prefix { get; } = Directory.CreateTempSubdirectory("sluice-cli-").FullName;

    internal SampleUpstream Upstream { get; } = SampleUpstream.Start(TimeProvider.System);

    internal Instance Instance => new(Prefix);

    public HttpClient Client { get; } = new();

    /// <summary>What commands find in their environment besides the tests' own.</summary>
    public Dictionary<string, string> Environment { get; } = [];

    public int ProxyPort { get; } = FreePort();

    int ControlPort { get; } = FreePort();

    int StatusPort { get; } = FreePort();

    public int MetricsPort { get; } = FreePort();

    public string Url(string path) => $"http://127.0.0.1:{ProxyPort}{path}";

    public string PathOf(string file) => Path.Combine(Prefix, file);

    public void WriteConfig(string more = "", string? nodeListen = null) => File.WriteAllText(PathOf("conf/config.yaml"),
        $$"""
        apisix:
          node_listen: {{nodeListen ?? $"[{{ip: 127.0.0.1, port: {ProxyPort}}}]"}}
          control: {ip: 127.0.0.1, port: {{ControlPort}} }
          status: {ip: 127.0.0.1, port: {{StatusPort}} }
        deployment:
          role: data_plane
          role_data_plane: {config_provider: yaml}
        plugin_attr:
          prometheus:
            export_addr: {ip: 127.0.0.1, port: {{MetricsPort}} }
        {{more}}

        """);

    void WriteRoutes() => WriteRoutes(("/*", Upstream.Endpoint.Port));

    public void WriteRoutes(params (string Uri, int Port)[] routes) => File.WriteAllText(PathOf("conf/apisix.yaml"),
        $$"""
        routes:
        {{string.Join('\n', routes.Select((route, id) => $$"""  - {id: r{{id}}, uri: {{route.Uri}}, upstream: {type: roundrobin, nodes: {"127.0.0.1:{{route.Port}}": 1} } }"""))}}
        #END

        """);

    /// <summary>Runs a command to its end, which includes that nobody keeps its output open.</summary>
    public async Task<Outcome> RunAsync(params string[] arguments)
    {
        using var process = Launch(arguments);
        using var patience = new CancellationTokenSource(Patience);
        var output = process.StandardOutput.ReadToEndAsync(patience.Token);
        var error = process.StandardError.ReadToEndAsync(patience.Token);
        await process.WaitForExitAsync(patience.Token);
        return new Outcome(process.ExitCode, await output, await error);
    }

    public async Task<Outcome> SucceedAsync(params string[] arguments)
    {
        var outcome = await RunAsync(arguments);
        Assert.True(outcome.ExitCode == 0, $"sluice {string.Join(' ', arguments)}: {outcome}\n{Log()}");
        return outcome;
    }

    /// <summary>A command that runs on; ended with the fixture.</summary>
    public Process Launch(params string[] arguments) => Start("dotnet", [Program, .. arguments]);

    /// <summary>The same, born ignoring every signal.</summary>
    public Process LaunchDeaf(params string[] arguments) =>
        Start("sh", ["-c", "trap '' HUP INT QUIT TERM USR1; exec \"$@\"", "sh", "dotnet", Program, .. arguments]);

    /// <summary>The same, with few file descriptors.</summary>
    public Process LaunchWith(int descriptors, params string[] arguments) =>
        Start("sh", ["-c", $"ulimit -n {descriptors}; exec \"$@\"", "sh", "dotnet", Program, .. arguments]);

    static string Program => Path.Combine(AppContext.BaseDirectory, "Sluice.dll");

    Process Start(string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Prefix,
        };
        start.Environment.Remove("SLUICE_PREFIX");
        start.Environment.Remove("SLUICE_HOME");
        foreach (var (name, value) in Environment)
        {
            start.Environment[name] = value;
        }
        var process = Process.Start(start)!;
        process.StandardInput.Close();
        _started.Add(process);
        return process;
    }

    public async Task<HttpStatusCode> StatusOfAsync(string path)
    {
        using var answer = await Client.GetAsync(Url(path));
        return answer.StatusCode;
    }

    static readonly HashSet<int> GivenOut = [];

    /// <summary>
    /// No port twice, and none from the range out of which the kernel gives ports to whoever asks for any (the other tests): it may be
    /// somebody's before the process that it is meant for listens on it.
    /// </summary>
    public static int FreePort()
    {
        while (true)
        {
            var port = Random.Shared.Next(10_000, FirstOfTheKernels);
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                socket.Bind(new IPEndPoint(IPAddress.Loopback, port));
            }
            catch (SocketException)
            {
                continue;
            }
            lock (GivenOut)
            {
                if (GivenOut.Add(port))
                {
                    return port;
                }
            }
        }
    }

    static int FirstOfTheKernels { get; } = File.Exists("/proc/sys/net/ipv4/ip_local_port_range")
        ? Math.Max(10_100,
            int.Parse(File.ReadAllText("/proc/sys/net/ipv4/ip_local_port_range").Split('\t')[0],
                System.Globalization.CultureInfo.InvariantCulture))
        : 32_768;

    string Log() => File.Exists(PathOf("logs/error.log")) ? File.ReadAllText(PathOf("logs/error.log")) : "";

    public async ValueTask DisposeAsync()
    {
        if (Instance.RunningPid() is { } pid)
        {
            Native.Signal(pid, Native.Kill);
        }
        foreach (var process in _started)
        {
            try
            {
                process.Kill();
            }
            catch (InvalidOperationException)
            {
                // ended, as it should
            }
            process.Dispose();
        }
        Client.Dispose();
        await Upstream.DisposeAsync();
        Directory.Delete(Prefix, recursive: true);
    }
}

public sealed record Outcome(int ExitCode, string Output, string Error);

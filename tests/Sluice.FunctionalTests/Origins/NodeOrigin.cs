using System.Diagnostics;
using System.Globalization;

namespace Sluice.FunctionalTests.Origins;

/// <summary>A server of tests/node, which prints its port and ends with its standard input.</summary>
sealed class NodeOrigin : IAsyncDisposable
{
    readonly Process _process;

    NodeOrigin(Process process, int port) => (_process, Port) = (process, port);

    public int Port { get; }

    static string Directory { get; } = Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../../../node"));

    /// <summary>A file of an installed package.</summary>
    public static string Module(string path)
    {
        var file = Path.Combine(Directory, "node_modules", path);
        Assert.True(File.Exists(file), $"no {file}: run npm ci in tests/node, as ./test does");
        return file;
    }

    /// <summary>A program of tests/node.</summary>
    public static string Script(string name) => Path.Combine(Directory, name);

    public static async Task<NodeOrigin> StartAsync(string script)
    {
        _ = Module("socket.io/package.json");
        var process = Process.Start(new ProcessStartInfo("node", [Path.Combine(Directory, script)]) { RedirectStandardInput = true,
            RedirectStandardOutput = true })!;
        var port = await process.StandardOutput.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(30));
        return new(process, int.Parse(port ?? throw new InvalidOperationException($"{script} ended"), CultureInfo.InvariantCulture));
    }

    public async ValueTask DisposeAsync()
    {
        _process.StandardInput.Close();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}

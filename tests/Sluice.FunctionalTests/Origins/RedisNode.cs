using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Sluice.FunctionalTests.Processes;
using StackExchange.Redis;

namespace Sluice.FunctionalTests.Origins;

/// <summary>Debian's redis-server on a port of its own that others can be told: a node of a cluster, a master, a sentinel.</summary>
public sealed class RedisNode : IAsyncDisposable
{
    readonly string _directory;
    readonly Process _process;
    readonly ConnectionMultiplexer _own;

    RedisNode(int port, string directory, Process process, ConnectionMultiplexer own)
    {
        (Port, _directory, _process, _own) = (port, directory, process, own);
    }

    public int Port { get; }

    /// <param name="settings">Lines of its configuration.</param>
    public static async Task<RedisNode> StartAsync(bool sentinel = false, params string[] settings)
    {
        // somebody else may take the port that is free now: then there is another one
        for (var attempt = 0; ; attempt++)
        {
            var (port, bus) = (CommandFixture.FreePort(), CommandFixture.FreePort());
            var directory = Directory.CreateTempSubdirectory("sluice-redis-").FullName;
            await File.WriteAllLinesAsync(
                Path.Combine(directory, "redis.conf"),
                ["bind 127.0.0.1", $"port {port}", .. sentinel ? (string[])[] : [$"cluster-port {bus}", "save \"\""], .. settings]);
            var start = new ProcessStartInfo("redis-server", ["redis.conf", .. sentinel ? (string[])["--sentinel"] : []])
            {
                WorkingDirectory = directory,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            var process = Process.Start(start)!;
            process.OutputDataReceived += static (_, _) => { };
            process.ErrorDataReceived += static (_, _) => { };
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            var options = new ConfigurationOptions { EndPoints = { { "127.0.0.1", port } }, AllowAdmin = true, AbortOnConnectFail = false,
                CommandMap = sentinel ? CommandMap.Sentinel : CommandMap.Default };
            options.Password = settings.FirstOrDefault(
                line => line.StartsWith("requirepass ", StringComparison.Ordinal))?["requirepass ".Length..];
            var own = await ConnectionMultiplexer.ConnectAsync(options);
            await Eventually.TrueAsync(() => own.IsConnected || process.HasExited, "redis-server did not start", seconds: 30);
            if (!process.HasExited || attempt == 3)
            {
                return new(port, directory, process, own);
            }
            await own.DisposeAsync();
            process.Dispose();
            Directory.Delete(directory, recursive: true);
        }
    }

    public Task<RedisResult> AskAsync(string command, params object[] arguments) =>
        _own.GetServer("127.0.0.1", Port).ExecuteAsync(command, arguments);

    public async ValueTask DisposeAsync()
    {
        await _own.DisposeAsync();
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}

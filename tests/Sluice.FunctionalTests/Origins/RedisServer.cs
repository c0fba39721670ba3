using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using StackExchange.Redis;

namespace Sluice.FunctionalTests.Origins;

/// <summary>Debian's redis-server in a directory of its own, listening on a unix socket only, behind a port that stays the same when it is
/// killed and started again.</summary>
public sealed class RedisServer : IAsyncDisposable
{
    readonly string _directory = Directory.CreateTempSubdirectory("sluice-redis-").FullName;
    readonly TcpListener _proxy = new(IPAddress.Loopback, 0);
    readonly ConcurrentDictionary<Socket, bool> _connections = [];
    readonly X509Certificate2? _certificate;
    readonly string[] _settings;
    Process? _process;
    ConnectionMultiplexer? _own;

    RedisServer(X509Certificate2? certificate, string[] settings)
    {
        _certificate = certificate;
        _settings = settings;
        _proxy.Start();
        Port = ((IPEndPoint)_proxy.LocalEndpoint).Port;
        _ = AcceptAsync();
    }

    public int Port { get; }

    /// <summary>The end of a limit plugin's configuration.</summary>
    public string Policy => $"""
        "policy":"redis","redis_host":"127.0.0.1","redis_port":{Port},"redis_timeout":10000
        """;

    string SocketPath => Path.Combine(_directory, "redis.sock");

    public static Task<RedisServer> StartAsync(params string[] settings) => StartAsync(null, settings);

    /// <param name="certificate">The port speaks TLS with it.</param>
    public static async Task<RedisServer> StartAsync(X509Certificate2? certificate, params string[] settings)
    {
        var server = new RedisServer(certificate, settings);
        await server.RunAsync();
        return server;
    }

    /// <summary>Starts it, after <see cref="KillAsync"/> without the data it had.</summary>
    public async Task RunAsync()
    {
        File.Delete(SocketPath);
        var start = new ProcessStartInfo("redis-server") { WorkingDirectory = _directory, RedirectStandardOutput = true,
            RedirectStandardError = true };
        foreach (var argument in (string[])["--port", "0", "--unixsocket", SocketPath, "--save", "", "--appendonly", "no", .. _settings])
        {
            start.ArgumentList.Add(argument);
        }
        _process = Process.Start(start)!;
        _process.OutputDataReceived += static (_, _) => { };
        _process.ErrorDataReceived += static (_, _) => { };
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        await Eventually.TrueAsync(() => File.Exists(SocketPath), "redis-server did not start", seconds: 30);
    }

    public async Task KillAsync()
    {
        _process!.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
        _process = null;
        foreach (var connection in _connections.Keys)
        {
            connection.Dispose();
        }
    }

    /// <summary>Asks it past the port.</summary>
    public async Task<RedisResult> AskAsync(string command, params object[] arguments)
    {
        _own ??= await ConnectionMultiplexer.ConnectAsync(
            new ConfigurationOptions { EndPoints = { new UnixDomainSocketEndPoint(SocketPath) }, AllowAdmin = true });
        return await _own.GetDatabase().ExecuteAsync(command, arguments);
    }

    public async Task<string> OnlyKeyAsync() => Assert.Single((string[])(await AskAsync("KEYS", "*"))!);

    async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await _proxy.AcceptSocketAsync());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // stopped
        }
    }

    async Task ServeAsync(Socket socket)
    {
        socket.NoDelay = true;
        _connections[socket] = true;
        try
        {
            await using var plain = new NetworkStream(socket, ownsSocket: true);
            Stream client = plain;
            if (_certificate is not null)
            {
                var secure = new SslStream(plain);
                await secure.AuthenticateAsServerAsync(_certificate);
                client = secure;
            }
            var server = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await server.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath));
            await using var stream = new NetworkStream(server, ownsSocket: true);
            await Task.WhenAny(client.CopyToAsync(stream), stream.CopyToAsync(client));
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException or AuthenticationException)
        {
            // one side is gone
        }
        finally
        {
            _connections.TryRemove(socket, out _);
            socket.Dispose();
        }
    }

    public async ValueTask DisposeAsync()
    {
        _proxy.Stop();
        if (_own is not null)
        {
            await _own.DisposeAsync();
        }
        if (_process is not null)
        {
            await KillAsync();
        }
        Directory.Delete(_directory, recursive: true);
    }
}

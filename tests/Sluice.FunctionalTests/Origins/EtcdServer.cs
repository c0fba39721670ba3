using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Model.Settings;
using Sluice.Sources.Etcd;

namespace Sluice.FunctionalTests.Origins;

/// <summary>
/// Debian's etcd in a directory of its own, listening on unix sockets only, with a proxy in front of it: kill it, start it again with its
/// data, refuse connections, or let everything disappear in between as a broken network does.
/// </summary>
public sealed class EtcdServer : IAsyncDisposable
{
    readonly string _directory = Directory.CreateTempSubdirectory("sluice-etcd-").FullName;
    readonly TcpListener _proxy = new(IPAddress.Loopback, 0);
    readonly ConcurrentDictionary<Socket, bool> _connections = [];
    readonly HttpClient _client;
    readonly X509Certificate2? _certificate;
    Process? _process;
    volatile bool _frozen;

    EtcdServer(X509Certificate2? certificate)
    {
        _certificate = certificate;
        _client = new HttpClient(new SocketsHttpHandler { ConnectCallback = async (_, cancel) => await ConnectAsync(cancel) });
        _proxy.Start();
        Port = ((IPEndPoint)_proxy.LocalEndpoint).Port;
        _ = AcceptAsync(_proxy);
    }

    public int Port { get; }

    public string Url => $"{(_certificate is null ? "http" : "https")}://127.0.0.1:{Port}";

    string SocketPath => Path.Combine(_directory, "localhost:1");

    /// <param name="certificate">The proxy speaks TLS with it and wants a client certificate.</param>
    public static async Task<EtcdServer> StartAsync(X509Certificate2? certificate = null)
    {
        var server = new EtcdServer(certificate);
        await server.RunAsync();
        return server;
    }

    /// <summary>Starts it, after <see cref="KillAsync"/> with the data it had.</summary>
    public async Task RunAsync()
    {
        File.Delete(SocketPath);
        File.Delete(Path.Combine(_directory, "localhost:2"));
        var start = new ProcessStartInfo("etcd") { WorkingDirectory = _directory, RedirectStandardError = true,
            RedirectStandardOutput = true };
        foreach (var argument in (string[])[
            "--name=t", "--data-dir=data", "--listen-client-urls=unix://localhost:1", "--advertise-client-urls=unix://localhost:1",
            "--listen-peer-urls=unix://localhost:2", "--initial-advertise-peer-urls=unix://localhost:2",
            "--initial-cluster=t=unix://localhost:2", "--unsafe-no-fsync",
            // alone, it need not wait long for others
            "--heartbeat-interval=10", "--election-timeout=100"])
        {
            start.ArgumentList.Add(argument);
        }
        _process = Process.Start(start)!;
        var log = new StringBuilder();
        _process.OutputDataReceived += (_, line) => log.AppendLine(line.Data);
        _process.ErrorDataReceived += (_, line) => log.AppendLine(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        var watch = Stopwatch.StartNew();
        while (!await IsHealthyAsync())
        {
            Assert.False(_process.HasExited || watch.Elapsed.TotalSeconds > 60, $"etcd did not start:\n{log}");
            await Task.Delay(20);
        }
    }

    public async Task KillAsync()
    {
        _process!.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
        _process = null;
        Cut();
    }

    /// <summary>Makes a snapshot of everything, while it is stopped for a moment.</summary>
    public async Task SaveAsync()
    {
        await KillAsync();
        Copy("data", "saved");
        await RunAsync();
    }

    /// <summary>Goes back to the snapshot; what came after it never was.</summary>
    public async Task RestoreAsync()
    {
        await KillAsync();
        Directory.Delete(Path.Combine(_directory, "data"), recursive: true);
        Copy("saved", "data");
        await RunAsync();
    }

    void Copy(string from, string to)
    {
        foreach (var file in Directory.GetFiles(Path.Combine(_directory, from), "*", SearchOption.AllDirectories))
        {
            var target = Path.Combine(_directory, to, Path.GetRelativePath(Path.Combine(_directory, from), file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }
    }

    /// <summary>A broken network: connections stay open, nothing comes through.</summary>
    public void Freeze() => _frozen = true;

    public void Thaw()
    {
        _frozen = false;
        Cut();
    }

    void Cut()
    {
        foreach (var connection in _connections.Keys)
        {
            connection.Dispose();
        }
    }

    internal EtcdStore Store(string prefix = "/apisix") => new(Settings(prefix), TimeProvider.System, NullLogger<EtcdStore>.Instance);

    internal EtcdSettings Settings(string prefix = "/apisix") =>
        new([new Uri(Url)], prefix, null, null, TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(50), 2, null, true, null, null);

    /// <summary>etcd's JSON gateway, past the proxy.</summary>
    public async Task<JsonNode> CallAsync(string path, string json)
    {
        using var response = await _client.PostAsync(new Uri($"http://etcd/v3/{path}"), new StringContent(json));
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        return JsonNode.Parse(text)!;
    }

    /// <summary>As somebody else writes, past all checks.</summary>
    public Task<JsonNode> PutAsync(string key, string value) =>
        CallAsync("kv/put", $$"""{"key":"{{Base64(key)}}","value":"{{Base64(value)}}"}""");

    public Task<JsonNode> DeleteAsync(string key) => CallAsync("kv/deleterange", $$"""{"key":"{{Base64(key)}}"}""");

    public async Task<string?> GetAsync(string key)
    {
        var answer = await CallAsync("kv/range", $$"""{"key":"{{Base64(key)}}"}""");
        return answer["kvs"] is JsonArray { Count: 1 } found
            ? Encoding.UTF8.GetString(Convert.FromBase64String((string)found[0]!["value"]!)) : null;
    }

    /// <summary>Forgets the history up to now.</summary>
    public async Task CompactAsync()
    {
        var revision = (string?)(await CallAsync("kv/range", $$"""{"key":"{{Base64("/")}}"}"""))["header"]!["revision"];
        await CallAsync("kv/compaction", $$"""{"revision":"{{revision}}","physical":true}""");
    }

    static string Base64(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));

    async Task<bool> IsHealthyAsync()
    {
        try
        {
            return (await _client.GetStringAsync("http://etcd/health")).Contains("true", StringComparison.Ordinal);
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    async Task<Stream> ConnectAsync(CancellationToken cancel)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath), cancel);
        return new NetworkStream(socket, ownsSocket: true);
    }

    async Task AcceptAsync(TcpListener listener)
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await listener.AcceptSocketAsync());
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
            await using Stream client = await SecureAsync(new NetworkStream(socket, ownsSocket: true));
            await using var server = await ConnectAsync(default);
            await Task.WhenAny(CopyAsync(client, server), CopyAsync(server, client));
        }
        catch (Exception e)
            when (e is IOException or SocketException or ObjectDisposedException or System.Security.Authentication.AuthenticationException)
        {
            // one side is gone
        }
        finally
        {
            _connections.TryRemove(socket, out _);
            socket.Dispose();
        }
    }

    async Task<Stream> SecureAsync(NetworkStream stream)
    {
        if (_certificate is null)
        {
            return stream;
        }
        var secure = new SslStream(stream);
        await secure.AuthenticateAsServerAsync(new SslServerAuthenticationOptions
        {
            ServerCertificate = _certificate,
            ClientCertificateRequired = true,
            RemoteCertificateValidationCallback = (_, certificate, _, _) => certificate is not null,
            ApplicationProtocols = [SslApplicationProtocol.Http2],
        });
        return secure;
    }

    async Task CopyAsync(Stream from, Stream to)
    {
        try
        {
            var buffer = new byte[65536];
            while (await from.ReadAsync(buffer) is > 0 and var count)
            {
                while (_frozen)
                {
                    await Task.Delay(20);
                }
                await to.WriteAsync(buffer.AsMemory(0, count));
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or SocketException)
        {
            // the other direction is told by the disposal
        }
    }

    public async ValueTask DisposeAsync()
    {
        _proxy.Stop();
        Cut();
        if (_process is not null)
        {
            await KillAsync();
        }
        _client.Dispose();
        if (Directory.Exists(_directory))
        {
            Directory.Delete(_directory, recursive: true);
        }
    }
}

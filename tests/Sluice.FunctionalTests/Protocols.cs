using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests;

/// <summary>What a client speaks to the gateway.</summary>
public enum Protocol
{
    Http1,

    /// <summary>HTTP/2 without TLS, with prior knowledge.</summary>
    H2c,
    TlsHttp1,

    /// <summary>HTTP/2 by ALPN.</summary>
    TlsHttp2,
}

/// <summary>A gateway that speaks every protocol, shared by the tests of a class; each test makes routes of its own.</summary>
public class ProtocolsGateway : IAsyncLifetime
{
    readonly Dictionary<Protocol, HttpClient> _clients = [];
    int _routes;

    public TestGateway Gateway { get; private set; } = null!;

    /// <summary>An <c>nginx.conf</c> for the gateway.</summary>
    protected virtual string? Nginx => null;

    /// <summary>The gateway's clock; null for the system's.</summary>
    protected virtual TimeProvider? Time => null;

    /// <summary>One client for each protocol, with connections of its own.</summary>
    public HttpClient Client(Protocol protocol) => _clients[protocol];

    public Uri Url(Protocol protocol, string path) => protocol is Protocol.Http1 or Protocol.H2c
        ? Gateway.Url(path)
        : new Uri($"https://{Gateway.Gateway.ProxyEndpoints.Single(endpoint => endpoint.Port != Gateway.EndPoint.Port)}{path}");

    /// <summary>A route to a node on 127.0.0.1; returns its path.</summary>
    public async Task<string> RouteAsync(int port, string? more = null, string scheme = "http")
    {
        var id = $"r{Interlocked.Increment(ref _routes)}";
        await Gateway.PutAsync($"/routes/{id}",
            $$"""{"uri":"/{{id}}/*",{{(more is null ? "" : more + ",")}}"upstream":{"type":"roundrobin","scheme":"{{scheme}}","nodes":{"127.0.0.1:{{port}}":1} } }""");
        return $"/{id}/stream";
    }

    public Task<HttpResponseMessage> SendAsync(Protocol protocol, string path, HttpMethod? method = null,
        CancellationToken cancel = default) => Client(protocol).SendAsync(
        new HttpRequestMessage(method ?? HttpMethod.Get, Url(protocol, path))
        {
            Version = protocol is Protocol.H2c or Protocol.TlsHttp2 ? HttpVersion.Version20 : HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        },
        HttpCompletionOption.ResponseHeadersRead, cancel);

    public async ValueTask InitializeAsync()
    {
        Gateway = await StartAsync(Nginx, Time);
        foreach (var protocol in Enum.GetValues<Protocol>())
        {
            var handler = new SocketsHttpHandler { UseCookies = false, UseProxy = false, AllowAutoRedirect = false,
                ResponseDrainTimeout = TimeSpan.Zero };
            handler.SslOptions.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
            _clients[protocol] = new HttpClient(handler) { Timeout = TimeSpan.FromSeconds(30) };
        }
    }

    static async Task<TestGateway> StartAsync(string? nginx, TimeProvider? time)
    {
        var directory = Directory.CreateTempSubdirectory("sluice-cert-");
        try
        {
            using var certificate = ScriptedOrigin.SelfSigned("localhost");
            var (chain, key) = (Path.Combine(directory.FullName, "cert.pem"), Path.Combine(directory.FullName, "key.pem"));
            await File.WriteAllTextAsync(chain, certificate.ExportCertificatePem());
            await File.WriteAllTextAsync(key, certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
            return await TestGateway.StartAsync(nginx: nginx, time: time, apisix: $$"""
                ssl:
                  listen: [{ip: 127.0.0.1, port: 0, enable_http2: true}]
                  ssl_cert: {{chain}}
                  ssl_cert_key: {{key}}
                """);
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var client in _clients.Values)
        {
            client.Dispose();
        }
        await Gateway.DisposeAsync();
    }
}

/// <summary>A client on the bare socket, for what a proper client never does or never shows: pieces, framing, how a connection
/// ends.</summary>
public static class RawConnection
{
    /// <summary>An address to listen on that nobody else has: the loopback network has many.</summary>
    public static IPEndPoint FreeAddress()
    {
        var address = new IPAddress([127, (byte)Random.Shared.Next(2, 250), (byte)Random.Shared.Next(1, 250),
            (byte)Random.Shared.Next(1, 250)]);
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(address, 0));
        return (IPEndPoint)socket.LocalEndPoint!;
    }

    /// <summary>The connection in the hands of the test; close it by disposing.</summary>
    public static async Task<OriginConnection> ConnectAsync(IPEndPoint gateway, int? receiveBuffer = null)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        if (receiveBuffer is { } bytes)
        {
            socket.ReceiveBufferSize = bytes;
        }
        await socket.ConnectAsync(gateway);
        return new OriginConnection(socket, 1, CancellationToken.None);
    }

    /// <summary>Connects, sends a request and returns the connection with the answer's head.</summary>
    public static async Task<(OriginConnection Connection, string Head)> AskAsync(IPEndPoint gateway, string request)
    {
        var connection = await ConnectAsync(gateway);
        await connection.SendAsync(request);
        return (connection, await connection.ReadHeadAsync());
    }

    public static Task<(OriginConnection Connection, string Head)> GetAsync(IPEndPoint gateway, string path, string headers = "") =>
        AskAsync(gateway, $"GET {path} HTTP/1.1\r\nHost: {gateway}\r\n{headers}\r\n");

    /// <summary>Everything until the other side ends, and whether it ended with RST.</summary>
    public static async Task<(string Text, bool Reset)> ReadRestAsync(this OriginConnection connection)
    {
        var text = new StringBuilder();
        try
        {
            while (true)
            {
                text.Append(await connection.ReadAsync(1)).Append(connection.TakeAll());
            }
        }
        catch (EndOfStreamException)
        {
            return (text.ToString(), false);
        }
        catch (IOException)
        {
            return (text.ToString(), true);
        }
    }

    /// <summary>One HTTP chunk; empty at the end (trailers are left unread).</summary>
    public static async Task<string> ReadChunkAsync(this OriginConnection connection)
    {
        var size = await connection.ReadUntilAsync("\r\n");
        var length = Convert.ToInt32(size[..^2].Split(';')[0], 16);
        if (length == 0)
        {
            return "";
        }
        var data = await connection.ReadAsync(length);
        await connection.ExpectAsync("\r\n");
        return data;
    }
}

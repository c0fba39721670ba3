using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.FunctionalTests.Origins;
using Sluice.FunctionalTests.Processes;
using Sluice.Net.Epoll;

namespace Sluice.FunctionalTests.Tls;

/// <summary>HTTPS by ssl resources, seen by openssl and curl.</summary>
public sealed class TlsTests : IDisposable
{
    readonly TestAuthority _ca = new();

    public void Dispose() => _ca.Dispose();

    /// <summary>A gateway that opens HTTPS with its first certificate.</summary>
    static Task<TestGateway> StartAsync(string ssl = "", string more = "") =>
        TestGateway.StartAsync(more, ssl: $"{{listen: [{{ip: 127.0.0.1, port: 0}}]{(ssl.Length > 0 ? ", " + ssl : "")}}}");

    async Task<IPEndPoint> PutAsync(TestGateway gateway, string id, string[] names, (string, string)[] pairs, JsonObject? more = null)
    {
        await gateway.PutAsync($"/ssls/{id}", TestAuthority.Ssl(names, pairs, more));
        return await TlsEndpointAsync(gateway);
    }

    static async Task<IPEndPoint> TlsEndpointAsync(TestGateway gateway)
    {
        await Eventually.TrueAsync(() => gateway.Gateway.TlsEndpoints.Count > 0, () => $"HTTPS was not opened:\n{gateway.ErrorLog}");
        return gateway.Gateway.TlsEndpoints[0];
    }

    static async Task<string> HandshakeAsync(IPEndPoint gateway, string? name, params string[] more) =>
        (await Tool.RunAsync("openssl",
            ["s_client", "-connect", $"{gateway}", .. name is null ? (string[])["-noservername"] : ["-servername", name], .. more])).Output;

    Task<(int ExitCode, string Output)> CurlAsync(IPEndPoint gateway, string host, string path, params string[] more) =>
        Tool.RunAsync("curl",
            ["-sS", "--max-time", "20", "--cacert", _ca.CaFile, "--resolve", $"{host}:{gateway.Port}:127.0.0.1",
                $"https://{host}:{gateway.Port}{path}", .. more]);

    [Fact]
    public async Task Each_name_gets_its_certificate_and_an_unknown_one_none()
    {
        await using var gateway = await StartAsync("fallback_sni: a.test");
        Assert.Empty(gateway.Gateway.TlsEndpoints);
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")]);
        await PutAsync(gateway, "2", ["*.wild.test"], [_ca.Issue("*.wild.test")]);

        Assert.Contains("subject=CN = a.test", await HandshakeAsync(tls, "A.TEST"), StringComparison.Ordinal);
        Assert.Contains("subject=CN = *.wild.test", await HandshakeAsync(tls, "x.wild.test"), StringComparison.Ordinal);
        Assert.Contains("subject=CN = a.test", await HandshakeAsync(tls, null), StringComparison.Ordinal);
        Assert.Contains("subject=CN = a.test", await HandshakeAsync(tls, "a.test."), StringComparison.Ordinal);
        foreach (var unknown in (string[])["y.x.wild.test", "wild.test", "b.test"])
        {
            Assert.Contains("unrecognized name", await HandshakeAsync(tls, unknown), StringComparison.Ordinal);
            await gateway.ErrorLogSaysAsync($"failed to find any SSL certificate by SNI: \"{unknown}\"");
        }
    }

    [Fact]
    public async Task A_handshake_leaves_the_loop_whose_streams_would_wait_for_its_signature()
    {
        await using var gateway = await StartAsync();
        await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")]);
        using var loop = new EventLoop(0, NullLogger.Instance);
        var began = new TaskCompletionSource<EventLoop?>(TaskCreationOptions.RunContinuationsAsynchronously);
        var middleware = gateway.Gateway.Tls.Use(_ =>
        {
            began.SetResult(EventLoop.Current);
            return Task.CompletedTask;
        });
        var (input, output) = (new Pipe(), new Pipe());
        await input.Writer.WriteAsync(await HelloAsync("a.test"));
        await using var connection = new DefaultConnectionContext("1") { Transport = new Both(input.Reader, output.Writer) };

        var arrived = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        loop.Post(async _ =>
        {
            arrived.SetResult(loop.IsCurrent);
            await middleware(connection);
        }, null);

        Assert.True(await arrived.Task.WaitAsync(Patience));
        Assert.Null(await began.Task.WaitAsync(Patience));
    }

    sealed record Both(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    /// <summary>What a client says first.</summary>
    static async Task<byte[]> HelloAsync(string name)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        using var client = new TcpClient();
        await client.ConnectAsync((IPEndPoint)listener.LocalEndpoint);
        using var server = await listener.AcceptSocketAsync();
        await using var stream = new SslStream(client.GetStream());
        var handshake = stream.AuthenticateAsClientAsync(name);
        var hello = new byte[4096];
        var length = await server.ReceiveAsync(hello);
        server.Close();
        await Assert.ThrowsAnyAsync<Exception>(() => handshake);
        return hello[..length];
    }

    [Fact]
    public async Task A_client_gets_the_kind_of_certificate_that_it_can_check()
    {
        await using var gateway = await StartAsync();
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test", rsa: true), _ca.Issue("a.test")]);

        Assert.DoesNotContain("OU = RSA", await HandshakeAsync(tls, "a.test"), StringComparison.Ordinal);
        Assert.Contains("OU = RSA", await HandshakeAsync(tls, "a.test", "-sigalgs", "RSA+SHA256:RSA-PSS+SHA256"), StringComparison.Ordinal);
        Assert.Contains("OU = RSA", await HandshakeAsync(tls, "a.test", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"),
            StringComparison.Ordinal);
        Assert.DoesNotContain("OU = RSA", await HandshakeAsync(tls, "a.test", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_certificate_for_a_star_is_for_every_name_that_has_no_other()
    {
        await using var gateway = await StartAsync();
        await PutAsync(gateway, "any", ["*"], [_ca.Issue("any.test")]);
        var tls = await PutAsync(gateway, "own", ["*.own.test"], [_ca.Issue("*.own.test")]);
        Assert.Contains("CN = any.test", await HandshakeAsync(tls, "else.test"), StringComparison.Ordinal);
        Assert.Contains("CN = *.own.test", await HandshakeAsync(tls, "a.own.test"), StringComparison.Ordinal);
        Assert.Contains("CN = any.test", await HandshakeAsync(tls, "own.test"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Curl_gets_answers_over_HTTP_2_and_the_upstream_is_told_of_https()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")]);

        var (_, http2) = await CurlAsync(tls, "a.test", "/x", "-w", "%{http_version}");
        Assert.EndsWith("\r\n\r\n2", http2, StringComparison.Ordinal);
        Assert.Contains("X-Forwarded-Proto: https", http2, StringComparison.Ordinal);
        Assert.EndsWith("\r\n\r\n1.1", (await CurlAsync(tls, "a.test", "/x", "--http1.1", "-w", "%{http_version}")).Output,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_changed_certificate_is_there_with_the_next_handshake_and_open_connections_stay()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test", rsa: true)]);
        await using var open = await ConnectAsync(tls, "a.test");
        await AskAsync(open);

        await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")]);

        await AskAsync(open);
        await using var next = await ConnectAsync(tls, "a.test");
        Assert.Contains("OU=RSA", open.RemoteCertificate!.Subject, StringComparison.Ordinal);
        Assert.Equal("CN=a.test", next.RemoteCertificate!.Subject);
    }

    static async Task<SslStream> ConnectAsync(IPEndPoint gateway, string name)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(gateway);
        var stream = new SslStream(new NetworkStream(socket, ownsSocket: true), false, (_, certificate, _, _) => certificate is not null);
        await stream.AuthenticateAsClientAsync(name);
        return stream;
    }

    static async Task AskAsync(SslStream connection)
    {
        await connection.WriteAsync(Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        var answer = new byte[4096];
        var text = "";
        while (!text.Contains("X-Forwarded-Port", StringComparison.Ordinal))
        {
            var count = await connection.ReadAsync(answer);
            Assert.NotEqual(0, count);
            text += Encoding.ASCII.GetString(answer, 0, count);
        }
        Assert.StartsWith("HTTP/1.1 200 OK\r\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Versions_and_ciphers_are_those_of_the_name()
    {
        await using var gateway = await StartAsync("ssl_ciphers: ECDHE-ECDSA-AES256-GCM-SHA384");
        var tls = await PutAsync(gateway, "1", ["new.test"], [_ca.Issue("new.test")],
            new JsonObject { ["ssl_protocols"] = new JsonArray("TLSv1.3") });
        await PutAsync(gateway, "2", ["old.test"], [_ca.Issue("old.test")],
            new JsonObject { ["ssl_protocols"] = new JsonArray("TLSv1.2") });

        Assert.Contains("TLSv1.3", await HandshakeAsync(tls, "new.test"), StringComparison.Ordinal);
        Assert.Contains("alert protocol version", await HandshakeAsync(tls, "new.test", "-tls1_2"), StringComparison.Ordinal);
        Assert.Contains("Cipher is ECDHE-ECDSA-AES256-GCM-SHA384", await HandshakeAsync(tls, "old.test"), StringComparison.Ordinal);
        Assert.Contains("Cipher is (NONE)", await HandshakeAsync(tls, "old.test", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task Only_clients_with_a_certificate_of_the_CA_get_in()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(
            more: "nginx_config: {http: {access_log_format: '$uri $ssl_client_verify $ssl_client_s_dn'}}");
        await gateway.RouteAsync("r1", "/*", origin.Port);
        using var stranger = new TestAuthority("Test CA");
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")],
            new JsonObject { ["client"] = new JsonObject { ["ca"] = _ca.Pem } });
        await PutAsync(gateway, "2", ["b.test"], [_ca.Issue("b.test")]);
        var (good, goodKey) = _ca.IssueFiles("jack", client: true);
        var (bad, badKey) = stranger.IssueFiles("mallory", client: true);

        Assert.Equal(0, (await CurlAsync(tls, "a.test", "/jack", "--cert", good, "--key", goodKey)).ExitCode);
        Assert.NotEqual(0, (await CurlAsync(tls, "a.test", "/none")).ExitCode);
        await gateway.ErrorLogSaysAsync("client certificate for \"a.test\" refused: client certificate was not present");
        Assert.NotEqual(0, (await CurlAsync(tls, "a.test", "/bad", "--cert", bad, "--key", badKey)).ExitCode);
        Assert.Contains("400 Bad Request", (await CurlAsync(tls, "b.test", "/other", "-H", "Host: a.test")).Output,
            StringComparison.Ordinal);
        Assert.Contains("400 Bad Request", (await CurlAsync(tls, "b.test", "/other", "-H", "Host: a.test.")).Output,
            StringComparison.Ordinal);
        await Eventually.TrueAsync(() => File.ReadAllText(Path.Combine(gateway.Prefix, "logs", "access.log"))
            .Contains("/jack SUCCESS CN=jack", StringComparison.Ordinal), "no line of jack");
    }

    [Theory]
    [InlineData("a.test", "a.test", "-tls1_2")]
    [InlineData("a.test", "a.test", "-tls1_3")]
    [InlineData("a.test", "c.test", "-tls1_2")]
    [InlineData("a.test", "c.test", "-tls1_3")]
    [InlineData("b.test", "a.test", "-tls1_2")]
    [InlineData("b.test", "a.test", "-tls1_3")]
    public async Task A_session_resumed_is_no_way_around_the_client_certificate(string of, string at, string version)
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);
        using var another = new TestAuthority("Another CA");
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")],
            new JsonObject { ["client"] = new JsonObject { ["ca"] = _ca.Pem } });
        await PutAsync(gateway, "2", ["b.test"], [_ca.Issue("b.test")]);
        await PutAsync(gateway, "3", ["c.test"], [_ca.Issue("c.test")],
            new JsonObject { ["client"] = new JsonObject { ["ca"] = another.Pem } });
        var (certificate, key) = _ca.IssueFiles("jack", client: true);
        var session = Path.Combine(_ca.Directory, "session.pem");
        Task<string> AskAsync(string name, params string[] more) => AskByOpenSslAsync(tls, name, [version, .. more]);

        Assert.Contains("HTTP/1.1 200 OK", await AskAsync(of, "-cert", certificate, "-key", key, "-sess_out", session),
            StringComparison.Ordinal);

        Assert.DoesNotContain("HTTP/1.1 200 OK", await AskAsync(at, File.Exists(session) ? ["-sess_in", session] : []),
            StringComparison.Ordinal);
    }

    static async Task<string> AskByOpenSslAsync(IPEndPoint gateway, string name, params string[] more) =>
        (await Tool.RunAsync("openssl", $"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n",
            ["s_client", "-ign_eof", "-connect", $"{gateway}", "-servername", name, .. more])).Output;

    [Fact]
    public async Task Some_paths_need_no_client_certificate()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")],
            new JsonObject { ["client"] = new JsonObject { ["ca"] = _ca.Pem, ["skip_mtls_uri_regex"] = new JsonArray("^/open/.*") } });
        var (good, key) = _ca.IssueFiles("jack", client: true);

        Assert.EndsWith("200", (await CurlAsync(tls, "a.test", "/open/x", "-w", "%{http_code}")).Output, StringComparison.Ordinal);
        Assert.EndsWith("400", (await CurlAsync(tls, "a.test", "/closed", "-w", "%{http_code}")).Output, StringComparison.Ordinal);
        Assert.EndsWith("200", (await CurlAsync(tls, "a.test", "/closed", "-w", "%{http_code}", "--cert", good, "--key", key)).Output,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task Keys_are_stored_encrypted_and_work_after_a_restart()
    {
        await using var gateway = await TestGateway.StartAsync(apisix: "data_encryption: {keyring: [0123456789abcdef]}",
            ssl: TestGateway.Https);
        var (certificate, key) = _ca.Issue("a.test");
        await PutAsync(gateway, "1", ["a.test"], [(certificate, key)]);
        var stored = Directory.GetFiles(Path.Combine(gateway.Prefix, "data"), "*.db*")
            .Select(file => Encoding.Latin1.GetString(ReadShared(file)));
        Assert.DoesNotContain(stored, text => text.Contains("PRIVATE KEY", StringComparison.Ordinal)
            || text.Contains(key.Split('\n')[1], StringComparison.Ordinal));

        await gateway.RestartAsync();

        Assert.Contains("subject=CN = a.test", await HandshakeAsync(await TlsEndpointAsync(gateway), "a.test"), StringComparison.Ordinal);
    }

    static byte[] ReadShared(string file)
    {
        using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using var copy = new MemoryStream();
        stream.CopyTo(copy);
        return copy.ToArray();
    }

    [Fact]
    public async Task The_OCSP_answer_is_stapled_where_the_resource_asks_for_it()
    {
        await File.WriteAllTextAsync(Path.Combine(_ca.Directory, "index.txt"), "V\t491231235959Z\t\t0101\tunknown\t/CN=a.test\n",
            TestContext.Current.CancellationToken);
        var port = Processes.CommandFixture.FreePort();
        using var responder = System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo("openssl",
            ["ocsp", "-port", $"{port}", "-index", Path.Combine(_ca.Directory, "index.txt"), "-CA", _ca.CaFile, "-rkey", _ca.WriteRootKey(),
                "-rsigner", _ca.CaFile, "-ndays", "1"])
        { RedirectStandardOutput = true, RedirectStandardError = true })!;
        try
        {
            await using var gateway = await StartAsync();
            var (certificate, key) = _ca.Issue("a.test", ocsp: $"http://127.0.0.1:{port}/");
            var tls = await PutAsync(gateway, "1", ["a.test"], [($"{certificate}\n{_ca.Pem}", key)],
                new JsonObject { ["ocsp_stapling"] = new JsonObject { ["enabled"] = true } });
            var answer = "";
            for (var i = 0; i < 100 && !answer.Contains("Cert Status: good", StringComparison.Ordinal); i++)
            {
                answer = await HandshakeAsync(tls, "a.test", "-status");
            }
            Assert.Contains("Cert Status: good", answer, StringComparison.Ordinal);
        }
        finally
        {
            responder.Kill();
        }
    }

    [Fact]
    public async Task Where_HTTP_3_cannot_be_spoken_the_log_says_so_and_the_others_are_served()
    {
        await using var gateway = await TestGateway.StartAsync(ssl: "{listen: [{ip: 127.0.0.1, port: 0, enable_http3: true}]}");
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")]);
        if (!System.Net.Quic.QuicListener.IsSupported)
        {
            await gateway.ErrorLogSaysAsync("HTTP/3 cannot be spoken here: this machine has no libmsquic");
        }
        Assert.EndsWith("404", (await CurlAsync(tls, "a.test", "/x", "-w", "%{http_code}")).Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("cert", "failed to parse cert: ")]
    [InlineData("key", "failed to parse key: it is not the key of this certificate")]
    [InlineData("no PEM", "failed to decrypt previous encrypted key")]
    [InlineData("client", "failed to validate client_cert: ")]
    [InlineData("certs", "mismatched number of certs and keys")]
    public async Task A_bad_resource_is_refused_with_what_is_wrong(string what, string error)
    {
        await using var gateway = await StartAsync();
        var (certificate, key) = _ca.Issue("a.test");
        var broken = certificate.Replace("MII", "AAA", StringComparison.Ordinal);
        var ssl = JsonNode.Parse(TestAuthority.Ssl(["a.test"],
            [(what == "cert" ? broken : certificate,
                what == "key" ? _ca.Issue("b.test").Key : what == "no PEM" ? new string('A', 200) : key)]))!.AsObject();
        if (what == "client")
        {
            ssl["client"] = new JsonObject { ["ca"] = broken };
        }
        if (what == "certs")
        {
            ssl["certs"] = new JsonArray(certificate);
        }
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/ssls/1", ssl.ToJsonString());
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.StartsWith(error, (string?)body!["error_msg"], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Rubbish_instead_of_a_handshake_ends_the_connection()
    {
        await using var gateway = await StartAsync();
        var tls = await PutAsync(gateway, "1", ["a.test"], [_ca.Issue("a.test")]);
        using var client = new TcpClient();
        await client.ConnectAsync(tls, TestContext.Current.CancellationToken);
        await client.GetStream().WriteAsync("GET / HTTP/1.1\r\n\r\n"u8.ToArray(), TestContext.Current.CancellationToken);
        Assert.Equal(0, await client.GetStream().ReadAsync(new byte[10], TestContext.Current.CancellationToken));
    }
}

using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Lua;

/// <summary>The same scripts (<c>conformance.lua</c>) in nginx's Lua module and in Sluice: status, headers and body must be the
/// same.</summary>
public sealed partial class LuaConformanceTests(LuaConformanceTests.Both both) : IClassFixture<LuaConformanceTests.Both>
{
    public static TheoryData<string> Cases =>
        [.. CaseName().Matches(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Lua", "conformance.lua")))
            .Select(match => match.Groups[1].Value)];

    [GeneratedRegex(@"^cases\.(\w+) =", RegexOptions.Multiline)]
    private static partial Regex CaseName();

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Sluice_answers_as_nginx_does(string name)
    {
        var nginx = await both.AskNginxAsync(name);
        var sluice = await both.AskSluiceAsync(name);
        Assert.True(nginx == sluice,
            $"nginx and Sluice differ:\n{Difference(nginx.Split('\n'), sluice.Split('\n'))}\n{string.Join('\n', both.Log.Split('\n').TakeLast(3))}");
        Assert.False(nginx.StartsWith("500", StringComparison.Ordinal), nginx);
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(0, true)]
    [InlineData(30, true)]
    [InlineData(100_000, false)]
    [InlineData(100_000, true)]
    public async Task Bodies_are_read_as_in_nginx(int length, bool chunked)
    {
        var body = "a=1&b=" + new string('x', length);
        var nginx = await both.AskNginxAsync("body", length == 0 ? "" : body, chunked);
        Assert.Equal(nginx, await both.AskSluiceAsync("body", length == 0 ? "" : body, chunked));
        Assert.StartsWith("200", nginx, StringComparison.Ordinal);
    }

    static string Difference(string[] nginx, string[] sluice) =>
        string.Join('\n', Enumerable.Range(0, Math.Max(nginx.Length, sluice.Length))
        .Where(line => nginx.ElementAtOrDefault(line) != sluice.ElementAtOrDefault(line))
        .Select(
            line =>
            $"{line + 1}: {nginx.ElementAtOrDefault(line)}\n{new string(' ', $"{line + 1}: ".Length)}{sluice.ElementAtOrDefault(line)}"));

    [GeneratedRegex(@"\[(\w+)\] \d+#\d+: (?:\*\d+ )?(\[lua\] conformance.*?)(?:, client: .*|, route .*|, context: .*)?$",
        RegexOptions.Multiline)]
    private static partial Regex ScriptLine();

    [Fact]
    public async Task Scripts_write_to_the_error_log_as_in_nginx()
    {
        Assert.Equal(await both.AskNginxAsync("logs"), await both.AskSluiceAsync("logs"));
        await Eventually.TrueAsync(() => Lines(both.NginxLog).Length >= 9 && Lines(both.Log).Length >= 9, "not all is logged");
        var nginx = Lines(both.NginxLog);
        Assert.Equal(9, nginx.Length);
        // the function is called by its name in Sluice
        Assert.Equal(nginx, Lines(both.Log.Replace(" func():", "", StringComparison.Ordinal)));

        static string[] Lines(string log) => [.. ScriptLine().Matches(log).Select(line => $"[{line.Groups[1]}] {line.Groups[2]}")];
    }

    [GeneratedRegex(@"\[error\] \d+#\d+: (?:\*\d+ )?([^/]*: )\S*(conformance.lua:\d+: .*?)\\nstack traceback:(\\ncoroutine 0:)?(.*)")]
    private static partial Regex FailureLine();

    [GeneratedRegex(@"\n(?!\d{4}/)")]
    private static partial Regex InnerLineEnd();

    [Theory]
    [InlineData("fails", "in access")]
    [InlineData("fails_threads", "in a timer", "in a thread")]
    [InlineData("fails_header_filter", "in header_filter")]
    [InlineData("fails_body_filter", "in body_filter")]
    [InlineData("fails_log", "in log")]
    public async Task Errors_of_scripts_are_logged_in_nginxs_words(string name, params string[] said)
    {
        foreach (var ask in new Func<string, Task<string>>[] { both.AskNginxAsync, both.AskSluiceAsync })
        {
            await Record.ExceptionAsync(() => ask(name)); // its answer may break off
        }
        // other cases say the same words in other lines
        await Eventually.TrueAsync(() => said.All(text => IsIn(both.Log, text) && IsIn(both.NginxLog, text)), "nothing is logged");
        Assert.Equal(Lines(both.NginxLog), Lines(both.Log));

        bool IsIn(string log, string text) => Lines(log).Any(line => line.Contains(text, StringComparison.Ordinal));

        // nginx has entries of several lines; how often a body filter runs is its own business
        string[] Lines(string log) => [.. FailureLine().Matches(InnerLineEnd().Replace(log, @"\n"))
            .Select(
                line =>
                $"{line.Groups[1]}{line.Groups[2]}{line.Groups[3]} {line.Groups[4].Value.Contains("'deep'", StringComparison.Ordinal)}")
            .Where(line => said.Any(text => line.Contains(text, StringComparison.Ordinal))).Distinct().Order()];
    }

    /// <summary>One nginx and one gateway for all cases, and servers that send back what they get.</summary>
    public sealed class Both : IAsyncLifetime
    {
        /// <summary>Headers that say how an answer is sent, not what.</summary>
        static readonly HashSet<string> Framing = new(StringComparer.OrdinalIgnoreCase) { "Server", "Date", "Connection",
            "Transfer-Encoding", "Content-Length" };

        /// <summary>Cases after whose answers nginx closes the connection without having said so.</summary>
        static readonly HashSet<string> Closing = ["eof_then_fails", "raw_behind_head"];

        readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sluice-nginx-lua-");
        readonly TcpListener _tcp = new(IPAddress.Loopback, 0);
        readonly TcpListener _tls = new(IPAddress.Loopback, 0);
        readonly UdpClient _udp = new(new IPEndPoint(IPAddress.Loopback, 0));
        HttpClient _client = null!;
        TestGateway _gateway = null!;
        Process _nginx = null!;

        static readonly string[] FilterPhases = ["header_filter", "body_filter", "log"];

        string Socket => Path.Combine(_directory.FullName, "nginx.sock");

        public async ValueTask InitializeAsync()
        {
            _tcp.Start();
            _tls.Start();
            _ = EchoAsync();
            _ = EchoTlsAsync();
            _ = EchoDatagramsAsync();
            var cases = await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "Lua", "conformance.lua"));
            await StartNginxAsync(cases);
            _gateway = await TestGateway.StartAsync("nginx_config: {error_log_level: notice}");
            _gateway.Write("lua/conformance.lua", cases);
            await _gateway.RouteAsync("cases", "/*", 1, "\"plugins\":" + JsonSerializer.Serialize(new Dictionary<string, object>
            {
                ["serverless-pre-function"] =
                    new { functions = new[] { "return function() return require('conformance')[ngx.var.uri:sub(2)]() end" } },
            }));
            await _gateway.RouteAsync("phases", "/phases", 1, "\"script\":" + JsonSerializer.Serialize(
                """
                local cases = require('conformance')
                return {
                  access = function() return cases.phases() end, header_filter = function() cases.probe('header_filter') end,
                  body_filter = function() cases.probe('body_filter') end, log = function() cases.probe('log') end,
                }
                """));
            foreach (var phase in FilterPhases)
            {
                await _gateway.RouteAsync($"fails-{phase}", $"/fails_{phase}", 1,
                    $$"""
                    "plugins": {
                      "serverless-pre-function": {"phase": "access", "functions": ["return require('conformance').say"]},
                      "serverless-post-function": {"phase": "{{phase}}", "functions": ["return require('conformance').fails_later('{{phase}}')"]}
                    }
                    """);
            }
            // what the phases of this one note is what other cases tell
            Assert.Equal(await AskNginxAsync("phases"), await AskSluiceAsync("phases"));
        }

        async Task StartNginxAsync(string cases)
        {
            var home = _directory.FullName;
            await File.WriteAllTextAsync(Path.Combine(home, "conformance.lua"), cases);
            await File.WriteAllTextAsync(Path.Combine(home, "nginx.conf"),
                $$"""
                load_module /usr/lib/nginx/modules/ndk_http_module.so;
                load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
                daemon off; master_process off; pid {{home}}/pid; error_log {{home}}/error.log notice;
                events {}
                http {
                  access_log off; default_type "text/plain; charset=utf-8"; lua_package_path "{{home}}/?.lua;;"; lua_shared_dict d 1m; lua_shared_dict p 1m;
                  client_body_temp_path {{home}}/a; proxy_temp_path {{home}}/b; fastcgi_temp_path {{home}}/c; uwsgi_temp_path {{home}}/d; scgi_temp_path {{home}}/e;
                  server {
                    listen unix:{{Socket}};
                    set $custom "";
                    # subrequests have no access phase
                    location = /inner { content_by_lua_block { return require('conformance').inner() } }
                    location = /phases {
                      access_by_lua_block { return require('conformance').phases() }
                      header_filter_by_lua_block { require('conformance').probe('header_filter') }
                      body_filter_by_lua_block { require('conformance').probe('body_filter') }
                      log_by_lua_block { require('conformance').probe('log') }
                      content_by_lua_block { return ngx.exit(418) }
                    }
                    {{string.Concat(FilterPhases.Select(phase => $$"""
                    location = /fails_{{phase}} {
                      content_by_lua_block { require('conformance').say() }
                      {{phase}}_by_lua_block { require('conformance').fails_later('{{phase}}')() }
                    }

                    """))}}
                    location / {
                      access_by_lua_block { return require('conformance')[ngx.var.uri:sub(2)]() }
                      content_by_lua_block { return ngx.exit(418) }
                    }
                  }
                }
                """);
            _nginx = Process.Start(new ProcessStartInfo("nginx",
                ["-c", Path.Combine(home, "nginx.conf"), "-p", home, "-e", Path.Combine(home, "error.log")]))!;
            await Eventually.TrueAsync(() => File.Exists(Socket) || _nginx.HasExited, "nginx does not start");
            Assert.False(_nginx.HasExited, "nginx does not start");
            _client = new HttpClient(new SocketsHttpHandler
            {
                AllowAutoRedirect = false,
                ConnectCallback = async (_, cancellation) =>
                {
                    var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(Socket), cancellation);
                    return new NetworkStream(socket, ownsSocket: true);
                },
            });
        }

        /// <summary>Sends back what comes, up to the word "quit".</summary>
        async Task EchoAsync()
        {
            while (true)
            {
                _ = EchoAsync(await _tcp.AcceptTcpClientAsync());
            }
        }

        async Task EchoTlsAsync()
        {
            using var key = RSA.Create(2048);
            using var made = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
                .CreateSelfSigned(DateTimeOffset.UnixEpoch.AddYears(50), DateTimeOffset.UnixEpoch.AddYears(100));
            using var certificate = X509CertificateLoader.LoadPkcs12(made.Export(X509ContentType.Pfx), null);
            while (true)
            {
                var client = await _tls.AcceptTcpClientAsync();
                var tls = new SslStream(client.GetStream());
                _ = HandshakeAsync();

                async Task HandshakeAsync()
                {
                    await tls.AuthenticateAsServerAsync(certificate);
                    await EchoAsync(client, tls);
                }
            }
        }

        static Task EchoAsync(TcpClient client) => EchoAsync(client, client.GetStream());

        static async Task EchoAsync(TcpClient client, Stream stream)
        {
            using (client)
            {
                var buffer = new byte[4096];
                while (await stream.ReadAsync(buffer) is > 0 and var count)
                {
                    var quit = buffer.AsSpan(0, count).IndexOf("quit"u8);
                    await stream.WriteAsync(buffer.AsMemory(0, quit < 0 ? count : quit));
                    if (quit >= 0)
                    {
                        return;
                    }
                }
            }
        }

        async Task EchoDatagramsAsync()
        {
            while (true)
            {
                var datagram = await _udp.ReceiveAsync();
                await _udp.SendAsync(datagram.Buffer, datagram.RemoteEndPoint);
            }
        }

        public string Log => _gateway.ErrorLog;

        public string NginxLog => File.ReadAllText(Path.Combine(_directory.FullName, "error.log"));

        const string Form = "a=1&b=x%20y&a=2";

        public Task<string> AskNginxAsync(string name) => AskNginxAsync(name, Form, chunked: false);

        public Task<string> AskNginxAsync(string name, string body, bool chunked) =>
            AskAsync(_client, new Uri("http://localhost/"), name, body, chunked);

        public Task<string> AskSluiceAsync(string name) => AskSluiceAsync(name, Form, chunked: false);

        public Task<string> AskSluiceAsync(string name, string body, bool chunked) =>
            AskAsync(_gateway.Client, _gateway.Url("/"), name, body, chunked);

        async Task<string> AskAsync(HttpClient client, Uri server, string name, string body, bool chunked)
        {
            var query =
                $"x=1&y=a%20b&x=2&e&tcp={((IPEndPoint)_tcp.LocalEndpoint).Port}&udp={((IPEndPoint)_udp.Client.LocalEndPoint!).Port}&tls={((IPEndPoint)_tls.LocalEndpoint).Port}";
            using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(server, $"/{name}?{query}"))
            {
                Content = new StringContent(body, Encoding.Latin1, "application/x-www-form-urlencoded"),
            };
            request.Headers.Host = "localhost";
            request.Headers.Add("X-Test", "one");
            request.Headers.TransferEncodingChunked = chunked ? true : null;
            request.Headers.ConnectionClose = Closing.Contains(name);
            using var answer = await client.SendAsync(request, TestContext.Current.CancellationToken);
            var text = new StringBuilder().Append((int)answer.StatusCode).Append('\n');
            foreach (var (header, values) in answer.Headers.Concat(answer.Content.Headers)
                .Where(pair => !Framing.Contains(pair.Key) && ((int)answer.StatusCode < 300 || pair.Key != "Content-Type"))
                .OrderBy(pair => pair.Key, StringComparer.Ordinal))
            {
                text.Append(header).Append(": ").AppendJoin(" | ", values).Append('\n');
            }
            // what nginx's own error pages say is not the module's
            var answered = await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken);
            return text.Append('\n').Append((int)answer.StatusCode >= 300 ? "" : Encoding.Latin1.GetString(answered)).ToString();
        }

        public async ValueTask DisposeAsync()
        {
            _client.Dispose();
            await _gateway.DisposeAsync();
            _nginx.Kill();
            await _nginx.WaitForExitAsync();
            _nginx.Dispose();
            _tcp.Dispose();
            _tls.Dispose();
            _udp.Dispose();
            _directory.Delete(recursive: true);
        }
    }
}

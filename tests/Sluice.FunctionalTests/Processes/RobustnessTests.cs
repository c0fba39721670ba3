using System.Net;
using System.Text.RegularExpressions;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Origins;
using Sluice.Hosting;
using Sluice.Model;

namespace Sluice.FunctionalTests.Processes;

/// <summary>Bad input, full disks and taken ports: a clear error with its place, and what runs goes on running.</summary>
public sealed class RobustnessTests
{
    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    static async Task<string> RefusalAsync(string prefix)
    {
        var error = await Assert.ThrowsAsync<GatewayStartException>(() => Gateway.StartAsync(new GatewayOptions(prefix)));
        return error.Message;
    }

    static async Task<string> RefusalOfAsync(string config, string? nginx = null, string? yaml = null)
    {
        using var prefix = new TemporaryPrefix();
        TestGateway.Write(prefix.Path, "conf/config.yaml", config);
        if (nginx is not null)
        {
            TestGateway.Write(prefix.Path, "conf/nginx.conf", nginx);
        }
        if (yaml is not null)
        {
            TestGateway.Write(prefix.Path, "conf/apisix.yaml", yaml);
        }
        return await RefusalAsync(prefix.Path);
    }

    [Theory]
    [InlineData("apisix: {node_listen: [", "conf/config.yaml:2")]
    [InlineData("apisix:\n\tnode_listen: 1", "conf/config.yaml:2")]
    [InlineData("apisix:\n  node_listen: nine", "apisix.node_listen")]
    [InlineData("apisix:\n  node_listen: 99999", "apisix.node_listen")]
    [InlineData("apisix: [1]", "apisix")]
    [InlineData("a: *nothing", "conf/config.yaml:1")]
    [InlineData("deployment:\n  admin:\n    allow_admin: [\"300.0.0.0/8\"]", "allow_admin")]
    public async Task A_configuration_that_cannot_be_read_is_refused_with_its_place(string config, string place) =>
        Assert.Contains(place, await RefusalOfAsync(config), StringComparison.Ordinal);

    [Theory]
    [InlineData("http {\n  proxy_bufering off;\n}", "conf/nginx.conf:2")]
    [InlineData("http {\n  proxy_buffering maybe;\n}", "conf/nginx.conf:2")]
    [InlineData("http {\n  proxy_buffer_size 1x;\n}", "conf/nginx.conf:2")]
    [InlineData("http {\n  server {\n", "conf/nginx.conf")]
    [InlineData("http { server { location ~ ( { } } }", "conf/nginx.conf:1")]
    [InlineData("\0", "conf/nginx.conf:1")]
    public async Task An_nginx_text_that_cannot_be_read_is_refused_with_its_place(string nginx, string place) =>
        Assert.Contains(place, await RefusalOfAsync(TestGateway.Config(), nginx), StringComparison.Ordinal);

    [Fact]
    public async Task Deep_nesting_is_refused_and_nothing_overflows()
    {
        Assert.Contains("conf/config.yaml", await RefusalOfAsync("a: " + new string('[', 100_000)), StringComparison.Ordinal);
        Assert.Contains("conf/apisix.yaml",
            await RefusalOfAsync(TestGateway.Config(standalone: true), yaml: "routes: " + new string('{', 100_000) + "\n#END\n"),
            StringComparison.Ordinal);
        Assert.Contains("conf/nginx.conf", await RefusalOfAsync(TestGateway.Config(), string.Concat(Enumerable.Repeat("http { ", 20_000))),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_error_of_apisix_yaml_is_told_at_once()
    {
        var refusal = await RefusalOfAsync(TestGateway.Config(standalone: true), yaml: """
            routes:
              - id: 1
                uri: 5
              - id: 2
                uri: /b
                plugins: {nonexistent: {}}
            #END
            """);
        Assert.Contains("wrong type: expected string, got number", refusal, StringComparison.Ordinal);
        Assert.Contains("unknown plugin [nonexistent]", refusal, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_taken_port_is_named_with_its_holder()
    {
        using var holder = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        holder.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        holder.Listen();
        var port = ((IPEndPoint)holder.LocalEndPoint!).Port;
        var refusal = await RefusalOfAsync(TestGateway.Config()
            .Replace("{ip: 127.0.0.1, port: 0, enable_http2: true}", $"{{ip: 127.0.0.1, port: {port}}}", StringComparison.Ordinal));
        Assert.Contains($"127.0.0.1:{port}: address already in use by ", refusal, StringComparison.Ordinal);
        Assert.Contains($"(pid {Environment.ProcessId})", refusal, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_directory_that_cannot_be_made_is_a_clear_error()
    {
        using var prefix = new TemporaryPrefix();
        TestGateway.Write(prefix.Path, "conf/config.yaml", TestGateway.Config());
        await File.WriteAllTextAsync(Path.Combine(prefix.Path, "logs"), "in the way", Cancel);
        Assert.Contains(Path.Combine(prefix.Path, "logs"), await RefusalAsync(prefix.Path), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_second_instance_on_the_prefix_is_refused_and_the_first_goes_on(bool standalone)
    {
        await using var gateway = await TestGateway.StartAsync(apisixYaml: standalone ? "routes: []\n#END\n" : null);
        var refusal = await RefusalAsync(gateway.Prefix);
        Assert.Contains($"(pid {Environment.ProcessId})", refusal, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.NotFound, (await gateway.Client.GetAsync(gateway.Url("/"), Cancel)).StatusCode);
    }

    [Fact]
    public async Task A_damaged_store_stops_the_start_and_says_what_to_do()
    {
        using var prefix = new TemporaryPrefix();
        TestGateway.Write(prefix.Path, "conf/config.yaml", TestGateway.Config());
        await using (var gateway = await Gateway.StartAsync(new GatewayOptions(prefix.Path), Cancel))
        {
        }
        await File.WriteAllTextAsync(prefix.Store, "this is no database", Cancel);
        var refusal = await RefusalAsync(prefix.Path);
        Assert.Contains(prefix.Store, refusal, StringComparison.Ordinal);
        Assert.Contains(".recover", refusal, StringComparison.Ordinal);
        Assert.Equal("this is no database", await File.ReadAllTextAsync(prefix.Store, Cancel));
    }

    [Fact]
    public async Task A_broken_edit_of_apisix_yaml_keeps_what_runs_and_logs_every_error()
    {
        await using var gateway = await TestGateway.StartAsync(apisixYaml: Yaml("/one"));
        gateway.Write("conf/apisix.yaml", "routes:\n  - {id: 1, uri: 5}\n  - {id: 2, uri: /b, plugins: {nonexistent: {}}}\n#END\n");
        await gateway.ErrorLogSaysAsync("unknown plugin [nonexistent]");
        await gateway.ErrorLogSaysAsync("wrong type: expected string, got number");
        Assert.Equal(HttpStatusCode.Found, await StatusAsync(gateway, "/one"));
        gateway.Write("conf/apisix.yaml", Yaml("/two"));
        for (var watch = System.Diagnostics.Stopwatch.StartNew(); await StatusAsync(gateway, "/two") != HttpStatusCode.Found;)
        {
            Assert.True(watch.Elapsed.TotalSeconds < 30, gateway.ErrorLog);
        }

        static string Yaml(string uri) =>
            $"routes:\n  - {{id: 1, uri: {uri}, plugins: {{redirect: {{uri: /found, ret_code: 302}}}}}}\n#END\n";
    }

    static async Task<HttpStatusCode> StatusAsync(TestGateway gateway, string path)
    {
        using var answer = await gateway.Client.GetAsync(gateway.Url(path), Cancel);
        return answer.StatusCode;
    }

    [Fact]
    public async Task A_reload_with_errors_changes_nothing_and_unknown_keys_are_warnings()
    {
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/r", """{"uri":"/r","plugins":{"redirect":{"uri":"/x"}}}""");
        gateway.Write("conf/config.yaml",
            TestGateway.Config("nginx_config: {error_log_level: 5x, http: {keepalive_timeout: soon}}\napisix_typo: 1"));
        var problems = await gateway.Gateway.ReloadAsync();
        Assert.Contains(problems, problem => problem.Severity == Severity.Error
            && problem.ToString().Contains("keepalive_timeout", StringComparison.Ordinal));
        Assert.Contains(problems, problem => problem.Severity == Severity.Warning
            && problem.ToString().Contains("apisix_typo", StringComparison.Ordinal));
        await gateway.ErrorLogSaysAsync("the old one keeps running");
        Assert.Equal(HttpStatusCode.Found, await StatusAsync(gateway, "/r"));
        Assert.Equal(HttpStatusCode.OK, (await gateway.AdminAsync(HttpMethod.Get, "/routes")).Status);
    }

    [Fact]
    public async Task Without_a_key_the_first_start_makes_one_and_only_its_owner_can_read_it()
    {
        using var prefix = new TemporaryPrefix();
        TestGateway.Write(prefix.Path, "conf/config.yaml", """
            apisix:
              node_listen: [{ip: 127.0.0.1, port: 0}]
              control: {ip: 127.0.0.1, port: 0}
              status: {ip: 127.0.0.1, port: 0}
            deployment:
              admin:
                admin_listen: {port: 0}
            plugin_attr:
              prometheus: {export_addr: {ip: 127.0.0.1, port: 0}}

            """);
        string key;
        await using (var gateway = await Gateway.StartAsync(new GatewayOptions(prefix.Path), Cancel))
        {
            key = gateway.GeneratedAdminKey!;
            Assert.Matches("^[0-9a-f]{32}$", key);
            Assert.Equal(IPAddress.Loopback, gateway.AdminEndpoint!.Address);
            Assert.Equal(HttpStatusCode.OK, await StatusAsync(gateway, key));
            Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync(gateway, "edd1c9f034335f136f87ad84b625c8f1"));
        }
        var config = Path.Combine(prefix.Path, "conf", "config.yaml");
        Assert.Contains(key, await File.ReadAllTextAsync(config, Cancel), StringComparison.Ordinal);
        if (!OperatingSystem.IsWindows())
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(config));
        }
        Assert.DoesNotContain(key, await File.ReadAllTextAsync(Path.Combine(prefix.Path, "logs", "error.log"), Cancel),
            StringComparison.Ordinal);
        await using var again = await Gateway.StartAsync(new GatewayOptions(prefix.Path), Cancel);
        Assert.Null(again.GeneratedAdminKey);
        Assert.Equal(HttpStatusCode.OK, await StatusAsync(again, key));

        static async Task<HttpStatusCode> StatusAsync(Gateway gateway, string key)
        {
            using var client = new HttpClient();
            client.DefaultRequestHeaders.Add("X-API-KEY", key);
            using var answer = await client.GetAsync($"http://{gateway.AdminEndpoint}/apisix/admin/routes", Cancel);
            return answer.StatusCode;
        }
    }

    [Fact]
    public async Task Allow_admin_shuts_out_other_addresses_whatever_their_key()
    {
        await using var gateway = await TestGateway.StartAsync();
        gateway.Write("conf/config.yaml",
            TestGateway.Config().Replace("    admin_key:", "    allow_admin: [\"192.0.2.0/24\"]\n    admin_key:",
                StringComparison.Ordinal));
        await gateway.ReloadAsync();
        using var request = new HttpRequestMessage(HttpMethod.Get, $"http://{gateway.Gateway.AdminEndpoint}/apisix/admin/routes");
        request.Headers.Add("X-API-KEY", TestGateway.AdminKey);
        using var answer = await gateway.Client.SendAsync(request, Cancel);
        Assert.Equal(HttpStatusCode.Forbidden, answer.StatusCode);
        gateway.Write("conf/config.yaml",
            TestGateway.Config().Replace("    admin_key:", "    allow_admin: [\"127.0.0.0/8\"]\n    admin_key:", StringComparison.Ordinal));
        await gateway.ReloadAsync();
        Assert.Equal(HttpStatusCode.OK, (await gateway.AdminAsync(HttpMethod.Get, "/routes")).Status);
    }

    [Fact]
    public async Task On_a_full_disk_a_request_that_is_buffered_is_streamed_instead()
    {
        string? got = null;
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            got = head.Contains("chunked", StringComparison.OrdinalIgnoreCase) ? await connection.ReadUntilAsync("\r\n0\r\n\r\n")
                : await connection.ReadAsync(Size);
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        await using var gateway = await TestGateway.StartAsync(nginx: "http { client_body_buffer_size 4k; }");
        await gateway.RouteAsync("large", "/large", origin.Port);
        // nobody can make a file where a file is
        var directory = Path.Combine(gateway.Prefix, "data", "tmp");
        Directory.Delete(directory, recursive: true);
        await File.WriteAllTextAsync(directory, "", Cancel);

        var body = string.Concat(Enumerable.Range(0, Size / 10).Select(number => $"{number:000000000}\n"));
        foreach (var chunked in new[] { false, true })
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, gateway.Url("/large")) { Content = new StringContent(body) };
            request.Headers.TransferEncodingChunked = chunked;
            using var answer = await gateway.Client.SendAsync(request, Cancel);
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
            Assert.Equal(body, chunked ? string.Concat(Regex.Split(got![..^7], @"(?:^|\r\n)[0-9a-f]+\r\n")) : got);
        }
        await gateway.ErrorLogSaysAsync("the request's body is streamed instead of buffered: cannot create a temporary file");
    }

    const int Size = 400_000;
}

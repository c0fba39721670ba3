using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>http-logger, file-logger, tcp-logger, udp-logger, syslog.</summary>
public class LoggerTests
{
    static Task RouteAsync(TestGateway gateway, int port, string plugin, string config) =>
        gateway.PutAsync("/routes/r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:{{port}}":1} },"plugins":{"{{plugin}}":{{config}} } }""");

    [Fact]
    public async Task Entries_are_posted_with_both_bodies_which_pass_untouched()
    {
        ConcurrentQueue<string> posts = [];
        await using var collector = await WebOrigin.StartAsync(async context =>
        {
            using var reader = new StreamReader(context.Request.Body);
            posts.Enqueue($"{context.Request.Headers.Authorization} {context.Request.ContentType} {await reader.ReadToEndAsync()}");
        });
        await using var origin = await WebOrigin.StartAsync(async context =>
        {
            using var reader = new StreamReader(context.Request.Body);
            await context.Response.WriteAsync("echo " + await reader.ReadToEndAsync());
        });
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, origin.Port, "http-logger",
            $$"""{"uri":"http://127.0.0.1:{{collector.Port}}/logs?x=1","auth_header":"me","batch_max_size":1,"include_req_body":true,"include_resp_body":true,"max_req_body_bytes":4}""");
        using var response = await gateway.Client.PostAsync(gateway.Url("/a"), new StringContent("hello"));
        Assert.Equal("echo hello", await response.Content.ReadAsStringAsync());
        await Eventually.TrueAsync(() => !posts.IsEmpty, "nothing was posted");
        Assert.True(posts.TryDequeue(out var post));
        Assert.StartsWith("me application/json {", post, StringComparison.Ordinal);
        var entry = JsonNode.Parse(post["me application/json ".Length..])!;
        Assert.Equal(("hell", "echo hello", "r1"),
            ((string?)entry["request"]!["body"], (string?)entry["response"]!["body"], (string?)entry["route_id"]));
    }

    [Fact]
    public async Task A_streams_entry_comes_when_it_has_ended_and_a_dead_collector_holds_nothing_up()
    {
        using var dead = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        dead.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var end = new TaskCompletionSource();
        await using var origin = await WebOrigin.StartAsync(async context =>
        {
            context.Response.ContentType = "text/event-stream";
            await context.Response.WriteAsync("data: 1\n\n");
            await context.Response.Body.FlushAsync();
            await end.Task;
        });
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, origin.Port, "file-logger", $$"""{"path":"{{gateway.Prefix}}/entries.log","include_resp_body":true}""");
        await gateway.PutAsync("/global_rules/1",
            $$"""{"plugins":{"tcp-logger":{"host":"127.0.0.1","port":{{((IPEndPoint)dead.LocalEndPoint!).Port}},"batch_max_size":1} } }""");
        var file = Path.Combine(gateway.Prefix, "entries.log");
        using var response = await gateway.Client.GetAsync(gateway.Url("/events"), HttpCompletionOption.ResponseHeadersRead);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        Assert.Equal("data: 1", await reader.ReadLineAsync());
        Assert.False(File.Exists(file));
        end.SetResult();
        await reader.ReadToEndAsync();
        await Eventually.TrueAsync(() => File.Exists(file) && File.ReadAllText(file).EndsWith('\n'), "no entry was written");
        var entry = JsonNode.Parse(await File.ReadAllTextAsync(file))!;
        Assert.Equal("data: 1\n\n", (string?)entry["response"]!["body"]);
        await gateway.ErrorLogSaysAsync("Batch Processor[tcp logger] exceeded the max_retry_count[0] dropping the entries");
    }

    [Theory]
    [InlineData("udp-logger", "{")]
    [InlineData("syslog", "<46>1 ")]
    public async Task Entries_go_as_datagrams(string plugin, string begin)
    {
        using var collector = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        var more = plugin == "syslog" ? ",\"sock_type\":\"udp\"" : "";
        await RouteAsync(gateway, origin.Port, plugin,
            $$"""{"host":"127.0.0.1","port":{{((IPEndPoint)collector.Client.LocalEndPoint!).Port}},"batch_max_size":1 {{more}} }""");
        using var response = await gateway.Client.GetAsync(gateway.Url("/a"));
        var text = Encoding.UTF8.GetString((await collector.ReceiveAsync().WaitAsync(TimeSpan.FromSeconds(30))).Buffer);
        Assert.StartsWith(begin, text, StringComparison.Ordinal);
        Assert.Equal("r1", (string?)JsonNode.Parse(text[text.IndexOf('{', StringComparison.Ordinal)..])!["route_id"]);
    }

    [Fact]
    public async Task A_batch_goes_over_one_tcp_connection_when_the_gateway_stops_at_the_latest()
    {
        using var collector = new TcpListener(IPAddress.Loopback, 0);
        collector.Start();
        await using var origin = EchoOrigin.Start();
        var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, origin.Port, "tcp-logger",
            $$"""{"host":"127.0.0.1","port":{{((IPEndPoint)collector.LocalEndpoint).Port}},"inactive_timeout":1000}""");
        for (var i = 0; i < 3; i++)
        {
            using var response = await gateway.Client.GetAsync(gateway.Url("/a"));
        }
        var accepting = collector.AcceptTcpClientAsync();
        await gateway.DisposeAsync();
        using var connection = await accepting.WaitAsync(TimeSpan.FromSeconds(30));
        using var reader = new StreamReader(connection.GetStream());
        Assert.Equal(3, JsonNode.Parse(await reader.ReadToEndAsync())!.AsArray().Count);
    }

    [Fact]
    public async Task A_node_is_logged_as_the_configuration_names_it()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/r1", $$"""
            {"uri":"/*","upstream":{"nodes":{"localhost:{{origin.Port}}":1} },
             "plugins":{"file-logger":{"path":"{{gateway.Prefix}}/entries.log","log_format_extra":{"node":"$upstream_unresolved_host","ip":"$balancer_ip"} } } }
            """);
        using var response = await gateway.Client.GetAsync(gateway.Url("/a"));
        var file = Path.Combine(gateway.Prefix, "entries.log");
        await Eventually.TrueAsync(() => File.Exists(file) && File.ReadAllText(file).EndsWith('\n'), "no entry was written");
        var entry = JsonNode.Parse(await File.ReadAllTextAsync(file))!;
        Assert.Equal(("localhost", "127.0.0.1", "GET"),
            ((string?)entry["node"], (string?)entry["ip"], (string?)entry["request"]!["method"]));
    }
}

using System.Net;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Bodies;

/// <summary>Which rule decides about buffering: told by the answer's debug header and by the Control API, and both say the same.</summary>
public class BufferingPrecedenceTests
{
    const string Debug = "sluice: {debug_headers: true}";
    const string Nginx = """
        http {
          proxy_buffering on;
          server {
            server_name s.test;
            proxy_buffering off;
            location /loc/ { proxy_buffering on; }
            location /deaf/ { proxy_ignore_headers X-Accel-Buffering; }
          }
        }
        """;

    /// <summary>Answers with the X-Accel-Buffering of the query: <c>?accel=no</c>.</summary>
    static ScriptedOrigin Origin() => ScriptedOrigin.Start(async connection =>
    {
        while (true)
        {
            var target = (await connection.ReadHeadAsync()).Split(' ')[1];
            var accel = target.Contains("accel=", StringComparison.Ordinal) ? $"X-Accel-Buffering: {target.Split("accel=")[1]}\r\n" : "";
            await connection.SendAsync(
                $"HTTP/1.1 200 OK\r\nContent-Type: {(target.Contains("sse", StringComparison.Ordinal) ? "text/event-stream" : "text/plain")}\r\n{accel}Content-Length: 1\r\n\r\nx");
        }
    });

    static string Off(string plugin = "proxy-buffering") => plugin == "proxy-buffering"
        ? """ "plugins":{"proxy-buffering":{"disable_proxy_buffering":true}} """
        : """ "plugins":{"proxy-rewrite":{"disable_buffering":true}} """;

    static string On(string plugin = "proxy-buffering") => Off(plugin).Replace("true", "false", StringComparison.Ordinal);

    [Fact]
    public async Task The_most_special_rule_decides_about_buffering()
    {
        await using var origin = Origin();
        await using var gateway = await TestGateway.StartAsync(Debug, Nginx);
        await gateway.RouteAsync("plain", "/*", origin.Port);
        await gateway.RouteAsync("off", "/loc/plugin", origin.Port, Off());
        await gateway.RouteAsync("on", "/plugin", origin.Port, On("proxy-rewrite"));

        // upstream's header > plugins > location > server > http
        await IsAsync(gateway, "s.test", "/loc/plugin?accel=yes", "upstream header on", "plugin off", "location on", "server off",
            "http on", "default on");
        await IsAsync(gateway, "s.test", "/loc/plugin", "plugin off", "location on", "server off", "http on", "default on");
        await IsAsync(gateway, "s.test", "/loc/plain", "location on", "server off", "http on", "default on");
        await IsAsync(gateway, "s.test", "/plain", "server off", "http on", "default on");
        await IsAsync(gateway, "other.test", "/plain", "http on", "default on");
        await IsAsync(gateway, "other.test", "/plain?accel=no", "upstream header off", "http on", "default on");
        await IsAsync(gateway, "other.test", "/plain?accel=nonsense", "http on", "default on");
        await IsAsync(gateway, "s.test", "/plugin?accel=NO", "upstream header off", "plugin on", "server off", "http on", "default on");
        await IsAsync(gateway, "s.test", "/plugin", "plugin on", "server off", "http on", "default on");
        // proxy_ignore_headers
        await IsAsync(gateway, "s.test", "/deaf/x?accel=yes", "server off", "http on", "default on");
        // the kind of answer matters only to the default
        await IsAsync(gateway, "other.test", "/sse", "http on", "default off");
    }

    [Fact]
    public async Task Without_any_rule_streams_pass_and_the_rest_is_buffered()
    {
        await using var origin = Origin();
        await using var gateway = await TestGateway.StartAsync(Debug);
        await gateway.RouteAsync("plain", "/*", origin.Port);
        await IsAsync(gateway, "x.test", "/plain", "default on");
        await IsAsync(gateway, "x.test", "/sse", "default off");
    }

    [Theory]
    [InlineData("proxy-buffering", true)]
    [InlineData("proxy-buffering", false)]
    [InlineData("proxy-rewrite", true)]
    [InlineData("proxy-rewrite", false)]
    public async Task A_plugin_decides_wherever_it_is_configured(string plugin, bool off)
    {
        var plugins = off ? Off(plugin) : On(plugin);
        var word = off ? "off" : "on";
        await using var origin = Origin();
        await using var gateway = await TestGateway.StartAsync(Debug, $"http {{ proxy_buffering {(off ? "on" : "off")}; }}");
        var upstream = $$"""{"type":"roundrobin","nodes":{"127.0.0.1:{{origin.Port}}":1} }""";
        await gateway.PutAsync("/services/s1", $$"""{"upstream":{{upstream}},{{plugins}} }""");
        await gateway.PutAsync("/plugin_configs/p1", $$"""{ {{plugins}} }""");
        await gateway.PutAsync("/routes/route", $$"""{"uri":"/route","upstream":{{upstream}},{{plugins}} }""");
        await gateway.PutAsync("/routes/service", """{"uri":"/service","service_id":"s1"}""");
        await gateway.PutAsync("/routes/plugin_config", $$"""{"uri":"/plugin_config","plugin_config_id":"p1","upstream":{{upstream}} }""");
        await gateway.PutAsync("/routes/none", $$"""{"uri":"/none","upstream":{{upstream}} }""");

        foreach (var (path, place) in ((string, string)[])[("/route", "route route"), ("/service", "service s1"),
            ("/plugin_config", "plugin_config p1")])
        {
            Assert.Equal($"{word}; {plugin} ({place})", await AskAsync(gateway, "x.test", path));
        }
        Assert.StartsWith(off ? "on; proxy_buffering" : "off; proxy_buffering", await AskAsync(gateway, "x.test", "/none"),
            StringComparison.Ordinal);

        await gateway.PutAsync("/global_rules/g1", $$"""{ {{plugins}} }""");
        Assert.Equal($"{word}; {plugin} (global_rule g1)", await AskAsync(gateway, "x.test", "/none"));
    }

    [Fact]
    public async Task A_consumer_has_a_rule_of_its_own()
    {
        await using var origin = Origin();
        await using var gateway = await TestGateway.StartAsync(Debug);
        await gateway.PutAsync("/consumers/jack",
            """{"username":"jack","plugins":{"key-auth":{"key":"jacks"},"proxy-buffering":{"disable_proxy_buffering":true}}}""");
        await gateway.PutAsync("/consumers/jill", """{"username":"jill","plugins":{"key-auth":{"key":"jills"}}}""");
        await gateway.RouteAsync("r1", "/a", origin.Port,
            """ "plugins":{"key-auth":{},"proxy-buffering":{"disable_proxy_buffering":false}} """);

        Assert.Equal("off; proxy-buffering (consumer jack)", await AskAsync(gateway, "x.test", "/a", ("apikey", "jacks")));
        Assert.Equal("on; proxy-buffering (route r1)", await AskAsync(gateway, "x.test", "/a", ("apikey", "jills")));
        var told = await gateway.ControlAsync("/v1/buffering?uri=/a&consumer=jack");
        Assert.Equal(["plugin off"], Levels(told).Take(1));
        Assert.Equal("consumer jack", (string?)told["response"]!["rule"]!["place"]);
    }

    [Fact]
    public async Task Two_plugins_of_a_route_that_contradict_each_other_are_refused_by_name()
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r1", """
            {"uri":"/a","plugins":{"proxy-buffering":{"disable_proxy_buffering":true},"proxy-rewrite":{"disable_buffering":false}},
             "upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}}
            """);
        Assert.Equal(HttpStatusCode.BadRequest, status);
        var error = (string?)body!["error_msg"];
        Assert.Contains("proxy-buffering", error, StringComparison.Ordinal);
        Assert.Contains("proxy-rewrite", error, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.NotFound, (await gateway.AdminAsync(HttpMethod.Get, "/routes/r1")).Status);
        // both saying the same is no contradiction
        await gateway.RouteAsync("r1", "/a", 1,
            """ "plugins":{"proxy-buffering":{"disable_proxy_buffering":true},"proxy-rewrite":{"disable_buffering":true}} """);
    }

    [Fact]
    public async Task The_deciding_rule_reaches_the_client_only_with_debug_headers()
    {
        await using var origin = Origin();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port);
        using var response = await gateway.Client.GetAsync(gateway.Url("/x?accel=no"));
        Assert.Equal("x", await response.Content.ReadAsStringAsync());
        Assert.DoesNotContain(response.Headers, header => header.Key.StartsWith("X-Accel", StringComparison.OrdinalIgnoreCase));
        Assert.DoesNotContain(response.Headers, header => header.Key.StartsWith("X-Sluice", StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>What the answer says, and that the Control API says the same, with the rules that were overridden.</summary>
    static async Task IsAsync(TestGateway gateway, string host, string target, params string[] rules)
    {
        var said = await AskAsync(gateway, host, target);
        var path = target.Split('?')[0];
        var accel = target.Contains("accel=", StringComparison.Ordinal) ? $"&x_accel_buffering={target.Split("accel=")[1]}" : "";
        var type = target.Contains("sse", StringComparison.Ordinal) ? "text/event-stream" : "text/plain";
        var told = await gateway.ControlAsync($"/v1/buffering?host={host}&uri={path}&method=GET{accel}&content_type={type}");

        Assert.Equal(rules, Levels(told));
        var rule = told["response"]!["rule"]!;
        Assert.Equal($"{rule["buffering"]}; {rule["text"]} ({rule["place"]})", said);
    }

    static IEnumerable<string> Levels(JsonNode told) =>
        told["response"]!["overridden"]!.AsArray().Prepend(told["response"]!["rule"])
        .Select(rule => $"{rule!["level"]} {rule["buffering"]}");

    static async Task<string> AskAsync(TestGateway gateway, string host, string target, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url(target)) { Headers = { Host = host } };
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }
        using var response = await gateway.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.DoesNotContain(response.Headers, header => header.Key.StartsWith("X-Accel", StringComparison.OrdinalIgnoreCase));
        return response.Headers.GetValues("X-Sluice-Buffering").Single();
    }
}

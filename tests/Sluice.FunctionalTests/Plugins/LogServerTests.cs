using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>The loggers that speak the HTTP of a log server: what comes in there is what its documented API takes.</summary>
public partial class LogServerTests
{
    sealed record Post(string Method, string Path, IHeaderDictionary Headers, string Body);

    /// <summary>A log server that keeps what it is sent.</summary>
    sealed class Collector : IAsyncDisposable
    {
        readonly ConcurrentQueue<Post> _posts = [];
        WebOrigin? _origin;

        public int Port => _origin!.Port;

        public static async Task<Collector> StartAsync(Func<Post, HttpResponse, Task>? answer = null)
        {
            var collector = new Collector();
            collector._origin = await WebOrigin.StartAsync(async context =>
            {
                using var reader = new StreamReader(context.Request.Body);
                var post = new Post(context.Request.Method, context.Request.Path + context.Request.QueryString,
                    new HeaderDictionary(context.Request.Headers.ToDictionary()), await reader.ReadToEndAsync());
                collector._posts.Enqueue(post);
                await (answer?.Invoke(post, context.Response) ?? Task.CompletedTask);
            });
            return collector;
        }

        /// <summary>The first request to a path, when it has come.</summary>
        public async Task<Post> AtAsync(string path)
        {
            await Eventually.TrueAsync(() => _posts.Any(post => post.Path == path), $"nothing came to {path}");
            return _posts.First(post => post.Path == path);
        }

        public int Count(string path) => _posts.Count(post => post.Path == path);

        public ValueTask DisposeAsync() => _origin!.DisposeAsync();
    }

    /// <summary>One request through a route with the logger; the gateway may be given metadata first.</summary>
    static async Task<TestGateway> RequestAsync(Collector collector, string plugin, string config, string? metadata = null,
        string path = "/a?id=7", int requests = 1)
    {
        var gateway = await TestGateway.StartAsync();
        if (metadata is not null)
        {
            await gateway.PutAsync($"/plugin_metadata/{plugin}", metadata);
        }
        await using var origin = EchoOrigin.Start();
        await gateway.PutAsync("/routes/r1",
            $$"""{"name":"first","uri":"/*","upstream":{"nodes":{"127.0.0.1:{{origin.Port}}":1} },"plugins":{"{{plugin}}":{{config.Replace("PORT", $"{collector.Port}", StringComparison.Ordinal)}} } }""");
        for (var i = 0; i < requests; i++)
        {
            using var response = await gateway.Client.GetAsync(gateway.Url(path));
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }
        return gateway;
    }

    [Theory]
    [InlineData("8.11.0", false)]
    [InlineData("6.8.23", true)]
    public async Task Elasticsearch_gets_an_action_and_an_entry_on_lines_of_their_own(string version, bool typed)
    {
        await using var collector = await Collector.StartAsync((post, response) => post.Path == "/"
            ? response.WriteAsync($$"""{"version":{"number":"{{version}}"} }""") : Task.CompletedTask);
        await using var gateway = await RequestAsync(collector, "elasticsearch-logger",
            """{"endpoint_addrs":["http://127.0.0.1:PORT"],"field":{"index":"g-$arg_id-{%Y}"},"auth":{"username":"me","password":"secret"},"headers":{"X-Of":"team"},"batch_max_size":1}""");
        var post = await collector.AtAsync("/_bulk");
        Assert.Equal(("POST", "application/x-ndjson", "application/vnd.elasticsearch+json", "team"),
            (post.Method, (string?)post.Headers.ContentType, (string?)post.Headers.Accept, (string?)post.Headers["X-Of"]));
        Assert.Equal("Basic " + Convert.ToBase64String("me:secret"u8), (string?)post.Headers.Authorization);
        Assert.EndsWith("\n", post.Body, StringComparison.Ordinal);
        var lines = post.Body.TrimEnd('\n').Split('\n');
        Assert.Equal(2, lines.Length);
        Assert.Matches(typed ? "^\\{\"index\":\\{\"_index\":\"g-7-20\\d\\d\",\"_type\":\"_doc\"\\}\\}$"
            : "^\\{\"index\":\\{\"_index\":\"g-7-20\\d\\d\"\\}\\}$", lines[0]);
        Assert.Equal("r1", (string?)JsonNode.Parse(lines[1])!["route_id"]);
    }

    [Fact]
    public async Task Elasticsearchs_version_is_asked_for_once_and_a_refusal_is_told()
    {
        await using var collector = await Collector.StartAsync((post, response) =>
        {
            response.StatusCode = post.Path == "/" ? 200 : 429;
            return response.WriteAsync(post.Path == "/" ? """{"version":{"number":"8.1.0"}}""" : "too many");
        });
        await using var gateway = await RequestAsync(
            collector, "elasticsearch-logger", """{"endpoint_addr":"http://127.0.0.1:PORT","field":{"index":"g"},"batch_max_size":1}""",
            requests: 3);
        await gateway.ErrorLogSaysAsync(
            "Batch Processor[elasticsearch-logger] failed to process entries: elasticsearch server returned status: 429, body: too many");
        await Eventually.TrueAsync(() => collector.Count("/_bulk") == 3, "three batches were to come");
        Assert.Equal(1, collector.Count("/"));
    }

    [Fact]
    public async Task Loki_gets_a_stream_for_each_set_of_labels()
    {
        await using var collector = await Collector.StartAsync();
        await using var gateway = await RequestAsync(collector, "loki-logger",
            """{"endpoint_addrs":["http://127.0.0.1:PORT"],"tenant_id":"me","headers":{"X-Of":"team"},"log_labels":{"route":"$route_id","id":"$arg_id"},"batch_max_size":3}""", requests: 2);
        using var other = await gateway.Client.GetAsync(gateway.Url("/a?id=8"));
        var post = await collector.AtAsync("/loki/api/v1/push");
        Assert.Equal(("me", "team", "application/json"),
            ((string?)post.Headers["X-Scope-OrgID"], (string?)post.Headers["X-Of"], (string?)post.Headers.ContentType));
        var streams = JsonNode.Parse(post.Body)!["streams"]!.AsArray();
        Assert.Equal(["""{"id":"7","route":"r1"}""", """{"id":"8","route":"r1"}"""],
            streams.Select(stream => stream!["stream"]!.ToJsonString()));
        Assert.Equal([2, 1], streams.Select(stream => stream!["values"]!.AsArray().Count));
        var first = streams[0]!["values"]![0]!.AsArray();
        Assert.Matches("^[1-9][0-9]{18}$", (string?)first[0]);
        Assert.Equal("r1", (string?)JsonNode.Parse((string)first[1]!)!["route_id"]);
    }

    [Fact]
    public async Task Clickhouse_gets_an_insert_of_json_rows()
    {
        await using var collector = await Collector.StartAsync();
        await using var gateway = await RequestAsync(collector, "clickhouse-logger",
            """{"endpoint_addrs":["http://127.0.0.1:PORT/x?y=1"],"user":"me","password":"secret","database":"db","logtable":"t","batch_max_size":2,"log_format":{"at":"$uri"}}""", requests: 2);
        var post = await collector.AtAsync("/x?y=1");
        Assert.Equal(("me", "secret", "db"),
            ((string?)post.Headers["X-ClickHouse-User"], (string?)post.Headers["X-ClickHouse-Key"],
                (string?)post.Headers["X-ClickHouse-Database"]));
        Assert.Equal("""INSERT INTO t FORMAT JSONEachRow {"at":"/a","route_id":"r1"} {"at":"/a","route_id":"r1"}""", post.Body);
    }

    [Fact]
    public async Task Splunk_gets_events_and_its_refusal_is_told()
    {
        await using var collector = await Collector.StartAsync((_, response) =>
        {
            response.StatusCode = 403;
            return response.WriteAsync("""{"text":"Invalid token","code":4}""");
        });
        await using var gateway = await RequestAsync(collector, "splunk-hec-logging",
            """{"endpoint":{"uri":"http://127.0.0.1:PORT/services/collector","token":"t1","channel":"c1"},"log_format_extra":{"id":"$arg_id"},"batch_max_size":1}""");
        var post = await collector.AtAsync("/services/collector");
        Assert.Equal(("Splunk t1", "c1"), ((string?)post.Headers.Authorization, (string?)post.Headers["X-Splunk-Request-Channel"]));
        var entry = JsonNode.Parse(post.Body)!;
        Assert.Equal(("apache-apisix-splunk-hec-logging", "_json", "GET", 200, "7"),
            ((string?)entry["source"], (string?)entry["sourcetype"], (string?)entry["event"]!["request_method"],
                (int?)entry["event"]!["response_status"], (string?)entry["event"]!["id"]));
        await gateway.ErrorLogSaysAsync("failed to process entries: failed to send splunk, Invalid token");
    }

    [Fact]
    public async Task Skywalking_gets_logs_with_their_trace()
    {
        await using var collector = await Collector.StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await using var origin = EchoOrigin.Start();
        await gateway.PutAsync("/routes/r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:{{origin.Port}}":1} },"plugins":{"skywalking-logger":{"endpoint_addr":"http://127.0.0.1:{{collector.Port}}","batch_max_size":1} } }""");
        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url("/a"));
        request.Headers.Add("sw8", "1-dHJhY2U=-c2VnbWVudA==-3-QQ==-QQ==-QQ==-QQ==");
        using var response = await gateway.Client.SendAsync(request);
        var log = JsonNode.Parse((await collector.AtAsync("/v3/logs")).Body)![0]!;
        Assert.Equal("""{"traceId":"trace","traceSegmentId":"segment","spanId":3}""", log["traceContext"]!.ToJsonString());
        Assert.Equal(("APISIX", "APISIX Instance Name", "/a"),
            ((string?)log["service"], (string?)log["serviceInstance"], (string?)log["endpoint"]));
        Assert.Equal("r1", (string?)JsonNode.Parse((string)log["body"]!["json"]!["json"]!)!["route_id"]);
    }

    [Fact]
    public async Task Google_gets_entries_with_a_token_that_the_accounts_key_has_bought_once()
    {
        using var key = RSA.Create(2048);
        await using var collector = await Collector.StartAsync((post, response) =>
            post.Path == "/token" ? response.WriteAsync("""{"access_token":"at1","token_type":"Bearer","expires_in":3600}""")
            : response.WriteAsync("{}"));
        var config = new JsonObject
        {
            ["auth_config"] = new JsonObject
            {
                ["client_email"] = "me@p1", ["private_key"] = key.ExportRSAPrivateKeyPem(), ["project_id"] = "p1",
                ["token_uri"] = "http://127.0.0.1:PORT/token", ["entries_uri"] = "http://127.0.0.1:PORT/write",
                    ["scope"] = new JsonArray("a", "b"),
            },
            ["batch_max_size"] = 1,
        };
        await using var gateway = await RequestAsync(collector, "google-cloud-logging", config.ToJsonString(), requests: 2);
        await Eventually.TrueAsync(() => collector.Count("/write") == 2, "two batches were to come");
        Assert.Equal(1, collector.Count("/token"));
        var form = (await collector.AtAsync("/token")).Body;
        Assert.StartsWith("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=", form, StringComparison.Ordinal);
        var jwt = form[(form.LastIndexOf('=') + 1)..].Split('.');
        Assert.True(key.VerifyData(Encoding.ASCII.GetBytes($"{jwt[0]}.{jwt[1]}"), System.Buffers.Text.Base64Url.DecodeFromChars(jwt[2]),
            HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1));
        var claims = JsonNode.Parse(System.Buffers.Text.Base64Url.DecodeFromChars(jwt[1]))!;
        Assert.Equal(("me@p1", "a b", 3600L),
            ((string?)claims["iss"], (string?)claims["scope"], (long)claims["exp"]! - (long)claims["iat"]!));
        var write = await collector.AtAsync("/write");
        Assert.Equal("Bearer at1", (string?)write.Headers.Authorization);
        var entry = JsonNode.Parse(write.Body)!["entries"]![0]!;
        Assert.Equal(("GET", 200, "r1", "projects/p1/logs/apisix.apache.org%2Flogs", "global"),
            ((string?)entry["httpRequest"]!["requestMethod"], (int?)entry["httpRequest"]!["status"],
                (string?)entry["jsonPayload"]!["route_id"], (string?)entry["logName"],
            (string?)entry["resource"]!["type"]));
        Assert.Matches("^[0-9]+\\.[0-9]{3}s$", (string?)entry["httpRequest"]!["latency"]);
    }

    [Fact]
    public async Task Googles_account_may_be_in_a_file_that_comes_later()
    {
        using var key = RSA.Create(2048);
        await using var collector = await Collector.StartAsync((post, response) =>
            post.Path == "/token" ? response.WriteAsync("""{"access_token":"at1","token_type":"Bearer","expires_in":3600}""")
            : response.WriteAsync("{}"));
        var file = Path.Combine(Path.GetTempPath(), $"google-{Guid.NewGuid():N}.json");
        await using var gateway = await RequestAsync(collector, "google-cloud-logging",
            $$"""{"auth_file":"{{file}}","batch_max_size":1}""");
        await gateway.ErrorLogSaysAsync($"failed to fetch google-cloud-logging.oauth object: failed to read configuration, file: {file}");
        var account = new JsonObject
        {
            ["client_email"] = "me@p1", ["private_key"] = key.ExportRSAPrivateKeyPem(), ["project_id"] = "p1",
            ["token_uri"] = $"http://127.0.0.1:{collector.Port}/token", ["entries_uri"] = $"http://127.0.0.1:{collector.Port}/write",
        };
        await File.WriteAllTextAsync(file, account.ToJsonString());
        using var response = await gateway.Client.GetAsync(gateway.Url("/a"));
        Assert.Contains("\"logName\":\"projects/p1/", (await collector.AtAsync("/write")).Body, StringComparison.Ordinal);
        File.Delete(file);
    }

    [Fact]
    public async Task Loggly_gets_lines_in_bulk_with_its_tags()
    {
        await using var collector = await Collector.StartAsync();
        await using var gateway = await RequestAsync(collector, "loggly",
            """{"customer_token":"tok","tags":["a","b"],"batch_max_size":2,"log_format":{"at":"$uri"}}""",
            $$"""{"host":"http://127.0.0.1:{{collector.Port}}","protocol":"http"}""", requests: 2);
        var post = await collector.AtAsync("/bulk/tok/tag/bulk");
        Assert.Equal("""
            {"at":"/a","route_id":"r1"}
            {"at":"/a","route_id":"r1"}
            """, post.Body);
        Assert.Equal("a, b", (string?)post.Headers["X-LOGGLY-TAG"]);
    }

    [Fact]
    public async Task Loggly_gets_syslog_messages_whose_severity_is_of_the_status()
    {
        using var collector = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        await using var unused = await Collector.StartAsync();
        await using var gateway = await RequestAsync(unused, "loggly",
            """{"customer_token":"tok","severity":"notice","severity_map":{"200":"ERR"},"batch_max_size":1}""",
            $$"""{"host":"127.0.0.1","port":{{((IPEndPoint)collector.Client.LocalEndPoint!).Port}}}""");
        var text = Encoding.UTF8.GetString((await collector.ReceiveAsync().WaitAsync(TimeSpan.FromSeconds(30))).Buffer);
        Assert.Matches("^<11>1 [0-9T:.Z-]+ 127\\.0\\.0\\.1 apisix [0-9]+ - \\[tok@41058 tag=\"apisix\"\\] \\{", text);
    }

    [Fact]
    public async Task Datadog_gets_six_metrics_of_a_request_in_one_datagram()
    {
        using var collector = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        await using var unused = await Collector.StartAsync();
        await using var gateway = await RequestAsync(unused, "datadog",
            """{"include_path":true,"include_method":true,"constant_tags":["team:streams"],"batch_max_size":1}""",
            $$"""{"host":"127.0.0.1","port":{{((IPEndPoint)collector.Client.LocalEndPoint!).Port}},"namespace":"gate","constant_tags":["source:test"]}""");
        var lines = Encoding.UTF8.GetString((await collector.ReceiveAsync().WaitAsync(TimeSpan.FromSeconds(30))).Buffer).Split('\n');
        const string Tags =
            "|#source:test,team:streams,route_name:first,path:/*,method:GET,balancer_ip:127.0.0.1,response_status:200,response_status_class:2xx,scheme:http";
        Assert.Equal(["gate.request.counter:N|c", "gate.request.latency:N|h", "gate.upstream.latency:N|h", "gate.apisix.latency:N|h",
            "gate.ingress.size:N|ms", "gate.egress.size:N|ms"],
            lines.Select(line => Numbers().Replace(line, ":N|", 1)[..^Tags.Length]));
        Assert.All(lines, line => Assert.EndsWith(Tags, line, StringComparison.Ordinal));
    }

    [GeneratedRegex(@":[0-9.E-]+\|")]
    private static partial Regex Numbers();

    [Theory]
    [InlineData("loki-logger",
        """{"endpoint_addrs":["http://127.0.0.1:1"],"include_req_body":true,"include_req_body_expr":[["a","?","b"]]}""",
        "failed to validate the 'include_req_body_expr' expression")]
    [InlineData("elasticsearch-logger", """{"endpoint_addrs":["http://127.0.0.1:1/"],"field":{"index":"a"}}""", "failed to match pattern")]
    public async Task A_configuration_that_cannot_be_is_refused(string plugin, string config, string why)
    {
        await using var gateway = await TestGateway.StartAsync();
        var (status, text) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r1",
            $$"""{"uri":"/*","upstream":{"nodes":{"127.0.0.1:1":1} },"plugins":{"{{plugin}}":{{config}} } }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(why, (string?)text!["error_msg"], StringComparison.Ordinal);
    }
}

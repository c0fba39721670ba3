using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Grpc;

/// <summary>JSON from a client of plain HTTP, through the gateway's plugin, to Grpc.AspNetCore.</summary>
public sealed class GrpcTranscodeTests : IAsyncLifetime
{
    readonly GreeterService _service = new();
    WebOrigin _origin = null!;
    TestGateway _gateway = null!;

    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    const string Proto = """
        syntax = "proto3";
        package greet;
        service Greeter {
          rpc Say (Request) returns (Reply) {}
          rpc Count (Request) returns (stream Reply) {}
          rpc Join (stream Request) returns (Reply) {}
          rpc Chat (stream Request) returns (stream Reply) {}
          rpc Lost (Request) returns (Reply) {}
        }
        message Request { string name = 1; int64 number = 2; Person person = 3; }
        message Person { string name = 1; int32 age = 2; }
        message Reply { string message = 1; int64 number = 2; repeated string items = 3; }
        message Detail { int64 code = 1; string reason = 2; }
        """;

    public async ValueTask InitializeAsync()
    {
        _origin = await WebOrigin.StartAppAsync(
            app => app.MapGrpcService<GreeterService>(), protocols: HttpProtocols.Http2,
            services: services => services.AddSingleton(_service).AddGrpc());
        _gateway = await TestGateway.StartAsync();
        await _gateway.PutAsync("/protos/1", new JsonObject { ["content"] = Proto }.ToJsonString());
        await RouteAsync("Say");
        await RouteAsync("Count");
        await RouteAsync("Join");
        await RouteAsync("Chat");
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    /// <summary>A route <c>/METHOD</c>.</summary>
    Task RouteAsync(string method, string more = "", int? port = null) => _gateway.PutAsync($"/routes/{method}", $$$"""
        {"uri":"/{{{method}}}","plugins":{"grpc-transcode":{"proto_id":"1","service":"greet.Greeter","method":"{{{method}}}"{{{more}}}} },
         "upstream":{"scheme":"grpc","nodes":{"127.0.0.1:{{{port ?? _origin.Port}}}":1} } }
        """);

    async Task<(int Status, string Body, HttpResponseMessage Response)> AskAsync(HttpMethod method, string path, string? body = null,
        string type = "application/json", string? accept = null)
    {
        var response = await OpenAsync(method, path, body is null ? null : new StringContent(body, new MediaTypeHeaderValue(type)), accept);
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync(Cancellation), response);
    }

    Task<HttpResponseMessage> OpenAsync(HttpMethod method, string path, HttpContent? content = null, string? accept = null)
    {
        var request = new HttpRequestMessage(method, _gateway.Url(path)) { Content = content };
        if (accept is not null)
        {
            request.Headers.TryAddWithoutValidation("Accept", accept);
        }
        return _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancellation);
    }

    [Fact]
    public async Task A_message_is_made_of_the_query_a_form_or_JSON()
    {
        const string Expected = """{"message":"Hello world","number":5,"items":[]}""";
        var (status, body, response) = await AskAsync(HttpMethod.Get, "/Say?name=world&number=5");
        Assert.Equal((200, Expected, "application/json"), (status, body, response.Content.Headers.ContentType!.ToString()));
        Assert.Equal(Expected, (await AskAsync(HttpMethod.Post, "/Say", "name=world&number=5", "application/x-www-form-urlencoded")).Body);
        foreach (var method in (HttpMethod[])[HttpMethod.Post, HttpMethod.Put, HttpMethod.Patch])
        {
            Assert.Equal(Expected, (await AskAsync(method, "/Say", """{"name":"world","number":"#5","unknown":1}""")).Body);
        }
        Assert.Equal("Hello world, Jo is 4",
            (string)JsonNode.Parse(
                (await AskAsync(HttpMethod.Post, "/Say", """{"name":"world","person":{"name":"Jo","age":4} }""")).Body)!["message"]!);
    }

    [Fact]
    public async Task What_is_no_message_is_refused_before_the_service_is_asked()
    {
        Assert.Equal(400, (await AskAsync(HttpMethod.Post, "/Say", """{"number":"five"}""")).Status);
        await _gateway.ErrorLogSaysAsync("transform request error: failed to encode request data to protobuf");
        Assert.Equal(400, (await AskAsync(HttpMethod.Post, "/Say", "[1]")).Status);
        Assert.Empty(_service.Seen);
    }

    [Fact]
    public async Task A_method_that_the_proto_does_not_have_is_503()
    {
        await RouteAsync("None");
        Assert.Equal(503, (await AskAsync(HttpMethod.Get, "/None")).Status);
        await _gateway.ErrorLogSaysAsync("transform request error: Undefined service method: greet.Greeter/None end");
    }

    [Fact]
    public async Task A_proto_is_read_anew_when_it_changes()
    {
        Assert.Contains("\"message\"", (await AskAsync(HttpMethod.Get, "/Say")).Body, StringComparison.Ordinal);
        await _gateway.PutAsync("/protos/1",
            new JsonObject { ["content"] = Proto.Replace("string message", "string text", StringComparison.Ordinal) }.ToJsonString());
        Assert.Contains("\"text\"", (await AskAsync(HttpMethod.Get, "/Say")).Body, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", null)]
    [InlineData(""","show_status_in_body":true""",
        """{"error":{"code":14,"message":"out of service","details":[{"type_url":"type.googleapis.com/greet.Detail","value":"\b\u0001\u0012\u0005night"}]}}""")]
    [InlineData(""","show_status_in_body":true,"status_detail_type":"greet.Detail" """,
        """{"error":{"code":14,"message":"out of service","details":[{"code":1,"reason":"night"}]}}""")]
    [InlineData(""","show_status_in_body":true,"status_detail_type":"greet.Nothing" """,
        "failed to call pb.decode to decode details in grpc-status-details-bin")]
    public async Task A_status_in_the_head_becomes_one_of_HTTP(string more, string? expected)
    {
        await RouteAsync("Say", more);
        var (status, body, response) = await AskAsync(HttpMethod.Get, "/Say?name=fail");
        Assert.Equal((503, expected ?? ""), (status, body));
        Assert.Equal(("14", "out of service"),
            (response.Headers.GetValues("grpc-status").Single(), response.Headers.GetValues("grpc-message").Single()));
    }

    [Fact]
    public async Task So_does_a_status_in_the_trailers()
    {
        var asking = AskAsync(HttpMethod.Get, "/Say?name=late");
        // the head has come, and waits for the rest
        await Eventually.HoldsAsync(async () => (await _gateway.ControlAsync("/v1/streams")).ToJsonString()
            .Contains("/Say", StringComparison.Ordinal), "it is not under way");
        _service.Turns.Release();
        var (status, body, response) = await asking;
        Assert.Equal((404, "", "5"), (status, body, response.Headers.GetValues("grpc-status").Single()));
        await RouteAsync("Say", ""","show_status_in_body":true""");
        _service.Turns.Release();
        Assert.Equal("""{"error":{"code":5,"message":"nobody: ä"}}""", (await AskAsync(HttpMethod.Get, "/Say?name=late")).Body);
    }

    [Fact]
    public async Task A_method_that_the_service_does_not_have_is_501()
    {
        await RouteAsync("Lost");
        Assert.Equal(501, (await AskAsync(HttpMethod.Get, "/Lost")).Status);
    }

    [Fact]
    public async Task A_service_that_is_over_its_deadline_is_504()
    {
        await RouteAsync("Say", ""","deadline":300""");
        Assert.Equal(504, (await AskAsync(HttpMethod.Get, "/Say?name=hang")).Status);
        Assert.EndsWith("deadline=True", _service.Seen.First(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Who_speaks_HTTP_2_is_told_of_a_node_that_is_not_there_in_the_words_of_HTTP()
    {
        await RouteAsync("Say", port: 1);
        using var client = new HttpClient { DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };
        using var response = await client.GetAsync(_gateway.Url("/Say"), Cancellation);
        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
    }

    [Theory]
    [InlineData("text/event-stream", "text/event-stream", "data: {0}\n\n")]
    [InlineData("application/x-ndjson", "application/x-ndjson", "{0}\n")]
    public async Task Each_message_of_a_server_stream_arrives_before_the_next_is_sent(string accept, string type, string form)
    {
        _service.Turns.Release();
        using var response = await OpenAsync(HttpMethod.Get, "/Count?number=3", accept: accept);
        Assert.Equal(type, response.Content.Headers.ContentType!.ToString());
        using var body = await response.Content.ReadAsStreamAsync(Cancellation);
        for (var number = 0; number < 3; number++)
        {
            if (number > 0)
            {
                _service.Turns.Release();
            }
            var expected = form.Replace("{0}", Reply(number), StringComparison.Ordinal);
            Assert.Equal(expected, await ReadAsync(body, expected.Length));
        }
        Assert.Equal(0, await body.ReadAsync(new byte[1], Cancellation));
    }

    static string Reply(int number) => $$"""{"message":"","number":{{number}},"items":[]}""";

    static async Task<string> ReadAsync(Stream stream, int length)
    {
        var bytes = new byte[length];
        await stream.ReadExactlyAsync(bytes, Cancellation).AsTask().WaitAsync(TimeSpan.FromSeconds(20), Cancellation);
        return Encoding.UTF8.GetString(bytes);
    }

    [Fact]
    public async Task Others_get_one_array_whose_items_leave_as_they_come()
    {
        _service.Turns.Release();
        using var response = await OpenAsync(HttpMethod.Get, "/Count?number=2");
        using var body = await response.Content.ReadAsStreamAsync(Cancellation);
        Assert.Equal($"[{Reply(0)}", await ReadAsync(body, Reply(0).Length + 1));
        _service.Turns.Release();
        Assert.Equal($",{Reply(1)}]", await ReadAsync(body, Reply(1).Length + 2));
        using var none = await OpenAsync(HttpMethod.Get, "/Count?number=0");
        Assert.Equal("[]", await none.Content.ReadAsStringAsync(Cancellation));
    }

    [Theory]
    [InlineData("text/event-stream", "event: error\ndata: {0}\n\n")]
    [InlineData("application/x-ndjson", "{0}\n")]
    [InlineData("*/*", ",{0}]")]
    public async Task An_error_at_the_end_of_a_stream_is_the_last_thing_in_it(string accept, string form)
    {
        _service.Turns.Release(2);
        var (status, body, _) = await AskAsync(HttpMethod.Get, "/Count?number=1&name=enough", accept: accept);
        Assert.Equal(200, status);
        Assert.EndsWith(form.Replace("{0}", """{"error":{"code":10,"message":"enough"}}""", StringComparison.Ordinal), body,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_stream_whose_node_dies_is_no_whole_answer()
    {
        _service.Turns.Release();
        using var response = await OpenAsync(HttpMethod.Get, "/Count?number=3");
        using var body = await response.Content.ReadAsStreamAsync(Cancellation);
        await ReadAsync(body, Reply(0).Length + 1);
        await _origin.DisposeAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => body.ReadExactlyAsync(new byte[1], Cancellation).AsTask());
    }

    [Fact]
    public async Task A_node_that_dies_in_the_middle_of_a_message_is_an_error_of_HTTP()
    {
        await using var origin = await WebOrigin.StartAppAsync(
            app => app.Run(async context =>
            {
                context.Response.ContentType = "application/grpc";
                await context.Response.Body.WriteAsync(new byte[] { 0, 0, 0 });
                await context.Response.Body.FlushAsync();
                context.Abort();
            }),
            protocols: HttpProtocols.Http2);
        await RouteAsync("Say", port: origin.Port);
        var (status, body, _) = await AskAsync(HttpMethod.Get, "/Say");
        Assert.Equal((502, "{\"error_msg\":\"502 Bad Gateway\"}\n"), (status, body));
    }

    [Fact]
    public async Task Each_line_of_a_client_stream_arrives_before_the_next_is_sent()
    {
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(
            "POST /Join HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n");
        foreach (var name in (string[])["a", "b", "c"])
        {
            var line = $"{{\"name\":\"{name}\"}}\n";
            await client.SendAsync($"{line.Length:x}\r\n{line}\r\n");
            await Eventually.TrueAsync(() => _service.Seen.Contains(name), $"{name} did not arrive");
        }
        await client.SendAsync("0\r\n\r\n");
        Assert.Contains("""{"message":"a b c","number":0,"items":[]}""", await client.UntilAsync("]}"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_array_is_a_client_stream_too_and_an_object_one_message()
    {
        Assert.Equal("a b", Message((await AskAsync(HttpMethod.Post, "/Join", """[{"name":"a"},{"name":"b"}]""")).Body));
        Assert.Equal("a", Message((await AskAsync(HttpMethod.Post, "/Join", """{"name":"a"}""")).Body));

        static string Message(string body) => (string)JsonNode.Parse(body)!["message"]!;
    }

    [Fact]
    public async Task A_line_that_is_no_message_is_named()
    {
        var (status, body, _) = await AskAsync(HttpMethod.Post, "/Join", "{\"name\":\"a\"}\n\n{\"number\":[]}\n", "application/x-ndjson");
        Assert.Equal(400, status);
        await _gateway.ErrorLogSaysAsync("line 2 of the body: field number must be an integer");
        Assert.DoesNotContain("Hello", body, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Both_directions_flow_at_the_same_time()
    {
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(
            "POST /Chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\nAccept: text/event-stream\r\nTransfer-Encoding: "
                + "chunked\r\n\r\n");
        for (var number = 0; number < 3; number++)
        {
            var line = $"{{\"name\":\"{number}\"}}\n";
            await client.SendAsync($"{line.Length:x}\r\n{line}\r\n");
            Assert.Contains($"data: {{\"message\":\"re: {number}\"", await client.UntilAsync("\n\n"), StringComparison.Ordinal);
        }
        await client.SendAsync("0\r\n\r\n");
        await client.UntilAsync("0\r\n");
    }

    [Fact]
    public async Task An_answer_that_is_no_message_is_502()
    {
        await _gateway.PutAsync("/protos/1",
            new JsonObject { ["content"] = Proto.Replace("string message", "int32 message", StringComparison.Ordinal) }.ToJsonString());
        var (status, body, _) = await AskAsync(HttpMethod.Get, "/Say");
        Assert.Equal((502, "failed to decode response data by protobuf"), (status, body));
    }
}

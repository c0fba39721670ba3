using System.Net;
using System.Net.Http.Headers;
using System.Text;
using Grpc.Core;
using Grpc.Net.Client;
using Grpc.Net.Client.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Grpc;

/// <summary>Grpc.Net.Client.Web, through the gateway's plugin, to Grpc.AspNetCore, which speaks no gRPC-Web here.</summary>
public sealed class GrpcWebTests : IAsyncLifetime
{
    readonly GrpcEcho _echo = new();
    readonly List<IDisposable> _channels = [];
    WebOrigin _origin = null!;
    TestGateway _gateway = null!;

    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    /// <summary>Both forms, over both protocols.</summary>
    public static TheoryData<GrpcWebMode, string> Ways => new(
        from mode in (GrpcWebMode[])[GrpcWebMode.GrpcWeb, GrpcWebMode.GrpcWebText] from version in (string[])["1.1", "2.0"] select (mode,
            version));

    public async ValueTask InitializeAsync()
    {
        _origin = await WebOrigin.StartAppAsync(
            app => app.MapGrpcService<GrpcEcho>(), protocols: HttpProtocols.Http2,
            services: services => services.AddSingleton(_echo).AddGrpc(options => options.MaxReceiveMessageSize = null));
        _gateway = await TestGateway.StartAsync();
        await RouteAsync(_origin.Port);
    }

    public async ValueTask DisposeAsync()
    {
        _channels.ForEach(static channel => channel.Dispose());
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    Task RouteAsync(int port, string uri = "/test.*", string plugins = "") => _gateway.PutAsync("/routes/1",
        $$$"""{"uri":"{{{uri}}}","plugins":{"grpc-web":{} {{{plugins}}} },"upstream":{"scheme":"grpc","nodes":{"127.0.0.1:{{{port}}}":1} } }""");

    CallInvoker Client(GrpcWebMode mode, string version)
    {
        var channel = GrpcChannel.ForAddress($"http://{_gateway.EndPoint}", new GrpcChannelOptions
        {
            MaxReceiveMessageSize = null,
            HttpVersion = new Version(version),
            HttpVersionPolicy = HttpVersionPolicy.RequestVersionExact,
            HttpHandler = new GrpcWebHandler(mode, new SocketsHttpHandler()),
        });
        _channels.Add(channel);
        return channel.CreateCallInvoker();
    }

    /// <summary>The star of a route is the path that the upstream gets, so the tests' route has none in the way.</summary>
    async Task<CallInvoker> OpenAsync(GrpcWebMode mode, string version)
    {
        await RouteAsync(_origin.Port, "/*");
        return Client(mode, version);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task Unary_calls_carry_metadata_headers_and_trailers(GrpcWebMode mode, string version)
    {
        using var call = (await OpenAsync(mode, version)).AsyncUnaryCall(GrpcEcho.UnaryMethod, null,
            new CallOptions(new Metadata { { "x-test", "yes" } }), "hello");
        Assert.Equal("before", (await call.ResponseHeadersAsync).GetValue("x-header"));
        Assert.Equal("echo hello", await call);
        Assert.Equal("after", call.GetTrailers().GetValue("x-trailer"));
        Assert.Contains("x=yes", _echo.Seen.Single(), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task Each_message_of_a_server_stream_arrives_before_the_next_is_sent(GrpcWebMode mode, string version)
    {
        using var call = (await OpenAsync(mode, version)).AsyncServerStreamingCall(GrpcEcho.CountMethod, null, default, "3");
        for (var number = 0; number < 3; number++)
        {
            _echo.Turns.Release();
            Assert.True(await call.ResponseStream.MoveNext(Cancellation));
            Assert.Equal($"{number}", call.ResponseStream.Current);
        }
        _echo.Turns.Release();
        Assert.False(await call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal("3", call.GetTrailers().GetValue("x-count"));
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task A_status_of_the_service_is_passed_on(GrpcWebMode mode, string version)
    {
        var client = await OpenAsync(mode, version);
        var failed = await Assert.ThrowsAsync<RpcException>(
            async () => await client.AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, "fail"));
        Assert.Equal((StatusCode.NotFound, "gibt es nicht: ä %"), (failed.StatusCode, failed.Status.Detail));
        var method = new Method<string, string>(MethodType.Unary, "test.Nothing", "Here", GrpcEcho.UnaryMethod.RequestMarshaller,
            GrpcEcho.UnaryMethod.ResponseMarshaller);
        var missing = await Assert.ThrowsAsync<RpcException>(async () => await client.AsyncUnaryCall(method, null, default, ""));
        Assert.Equal((StatusCode.Unimplemented, "Service is unimplemented."), (missing.StatusCode, missing.Status.Detail));
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task Messages_of_megabytes_pass_in_both_directions(GrpcWebMode mode, string version)
    {
        var text = new string('x', 3_000_000);
        Assert.Equal($"echo {text}", await (await OpenAsync(mode, version)).AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, text));
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task A_node_that_is_not_there_is_a_status(GrpcWebMode mode, string version)
    {
        await RouteAsync(1, "/*");
        var failed = await Assert.ThrowsAsync<RpcException>(async () => await Client(mode, version)
            .AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, "a"));
        Assert.Equal((StatusCode.Unavailable, "502 Bad Gateway"), (failed.StatusCode, failed.Status.Detail));
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task A_stream_whose_node_dies_ends_with_a_status(GrpcWebMode mode, string version)
    {
        using var call = (await OpenAsync(mode, version)).AsyncServerStreamingCall(GrpcEcho.CountMethod, null, default, "3");
        _echo.Turns.Release();
        Assert.True(await call.ResponseStream.MoveNext(Cancellation));
        await _origin.DisposeAsync();
        var error = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
        Assert.StartsWith("sluice: ", error.Status.Detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_stream_ends_after_the_message_that_reaches_its_budget_with_one_status(string version)
    {
        await RouteAsync(_origin.Port, "/*", ""","streaming":{"max_bytes":12}""");
        using var call = Client(GrpcWebMode.GrpcWeb, version).AsyncServerStreamingCall(GrpcEcho.CountMethod, null, default, "5");
        _echo.Turns.Release(2);
        Assert.True(await call.ResponseStream.MoveNext(Cancellation));
        var end = await Assert.ThrowsAsync<RpcException>(async () =>
        {
            while (await call.ResponseStream.MoveNext(Cancellation))
            {
            }
        });
        Assert.Equal((StatusCode.ResourceExhausted, "sluice: max_bytes"), (end.StatusCode, end.Status.Detail));
    }

    [Fact]
    public async Task What_stands_for_the_star_of_the_route_is_the_path_of_the_call()
    {
        await RouteAsync(_origin.Port, "/grpc/web/*");
        using var response = await PostAsync("/grpc/web/test.Echo/Unary", "application/grpc-web",
            new ByteArrayContent("\0\0\0\0\u0001a"u8.ToArray()));
        var body = await response.Content.ReadAsByteArrayAsync(Cancellation);
        Assert.Equal("\0\0\0\0\u0006echo a", Encoding.Latin1.GetString(body.AsSpan(0, 11)));
        Assert.StartsWith("/test.Echo/Unary ", _echo.Seen.Single(), StringComparison.Ordinal);
        await RouteAsync(_origin.Port, "/test.Echo/Unary");
        using var exact = await PostAsync("/test.Echo/Unary", "application/grpc-web-text", new StringContent("AAAAAAFi"));
        Assert.StartsWith("AAAAAAZlY2hvIGI=", await exact.Content.ReadAsStringAsync(Cancellation), StringComparison.Ordinal);
    }

    Task<HttpResponseMessage> PostAsync(string path, string type, HttpContent content)
    {
        content.Headers.ContentType = new MediaTypeHeaderValue(type);
        return _gateway.Client.SendAsync(new HttpRequestMessage(HttpMethod.Post, _gateway.Url(path)) { Content = content },
            HttpCompletionOption.ResponseHeadersRead, Cancellation);
    }

    [Fact]
    public async Task Each_message_of_a_client_stream_arrives_before_the_next_is_sent()
    {
        await RouteAsync(_origin.Port, "/*");
        using var client = await RawClient.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync(
            "POST /test.Echo/Join HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web+proto\r\nTransfer-Encoding: chunked\r\n\r\n");
        foreach (var part in (string[])["a", "b", "c"])
        {
            await client.SendAsync($"6\r\n\0\0\0\0\u0001{part}\r\n");
            await Eventually.TrueAsync(() => _echo.Seen.Contains(part), $"{part} did not arrive");
        }
        await client.SendAsync("0\r\n\r\n");
        var answer = await client.UntilAsync("\r\n0\r\n\r\n");
        Assert.Contains("\0\0\0\0\u0003abc", answer, StringComparison.Ordinal);
        Assert.Contains("grpc-status:0\r\ngrpc-message:\r\n", answer, StringComparison.Ordinal);
        Assert.DoesNotContain("\r\n0\r\ngrpc-status", answer, StringComparison.Ordinal);
    }
}

using System.Net;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Grpc;

/// <summary>Grpc.Net.Client, through the gateway, to Grpc.AspNetCore.</summary>
public sealed class GrpcTests : IAsyncLifetime
{
    readonly GrpcEcho _echo = new();
    WebOrigin _origin = null!;
    TestGateway _gateway = null!;
    GrpcChannel _channel = null!;

    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    CallInvoker Client => _channel.CreateCallInvoker();

    static Task<WebOrigin> StartOriginAsync(GrpcEcho echo,
        Microsoft.AspNetCore.Server.Kestrel.Https.HttpsConnectionAdapterOptions? https = null) => WebOrigin.StartAppAsync(
        app => app.MapGrpcService<GrpcEcho>(), protocols: HttpProtocols.Http2, https: https,
        services: services => services.AddSingleton(echo).AddGrpc(options => options.MaxReceiveMessageSize = null));

    static GrpcChannel Channel(string address) => GrpcChannel.ForAddress(address, new GrpcChannelOptions
    {
        MaxReceiveMessageSize = null,
        HttpHandler =
            new SocketsHttpHandler { SslOptions =
                { RemoteCertificateValidationCallback = (_, certificate, _, _) => certificate is not null } },
    });

    public async ValueTask InitializeAsync()
    {
        _origin = await StartOriginAsync(_echo);
        _gateway = await TestGateway.StartAsync();
        await RouteAsync($"\"127.0.0.1:{_origin.Port}\":1");
        _channel = Channel($"http://{_gateway.EndPoint}");
    }

    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    Task RouteAsync(string nodes, string more = "", string plugins = "{}") => _gateway.PutAsync("/routes/1",
        $$"""{"uri":"/test.Echo/*","plugins":{{plugins}},"upstream":{"scheme":"grpc","nodes":{ {{nodes}} }{{more}} } }""");

    [Fact]
    public async Task Unary_calls_carry_metadata_headers_and_trailers()
    {
        using var call = Client.AsyncUnaryCall(GrpcEcho.UnaryMethod, null, new CallOptions(new Metadata { { "x-test", "yes" } }), "hello");
        Assert.Equal("before", (await call.ResponseHeadersAsync).GetValue("x-header"));
        Assert.Equal("echo hello", await call);
        Assert.Equal("after", call.GetTrailers().GetValue("x-trailer"));
        Assert.Equal($"/test.Echo/Unary host={_gateway.EndPoint} x=yes deadline=False", _echo.Seen.Single());
    }

    [Fact]
    public async Task The_service_knows_its_content_type_better_than_a_script()
    {
        await RouteAsync($"\"127.0.0.1:{_origin.Port}\":1",
            plugins: """{"serverless-pre-function":{"functions":["return function() ngx.header['Content-Type'] = 'text/plain' end"]}}""");
        using var call = Client.AsyncUnaryCall(GrpcEcho.UnaryMethod, null, new CallOptions(), "hello");
        Assert.Equal("echo hello", await call);
    }

    [Fact]
    public async Task Each_message_of_a_server_stream_arrives_before_the_next_is_sent()
    {
        using var call = Client.AsyncServerStreamingCall(GrpcEcho.CountMethod, null, default, "3");
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
    [InlineData("{\"max_events\":2}", "max_events")]
    [InlineData("{\"max_bytes\":12}", "max_bytes")]
    public async Task A_stream_ends_after_the_message_that_reaches_its_budget_with_a_status_that_says_so(string budget, string reason)
    {
        await RouteAsync($"\"127.0.0.1:{_origin.Port}\":1", plugins: $"{{\"streaming\":{budget}}}");
        using var call = Client.AsyncServerStreamingCall(GrpcEcho.CountMethod, null, default, "5");
        _echo.Turns.Release(2);
        Assert.True(await call.ResponseStream.MoveNext(Cancellation));
        Assert.True(await call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal("1", call.ResponseStream.Current);
        var end = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal((StatusCode.ResourceExhausted, $"sluice: {reason}"), (end.StatusCode, end.Status.Detail));
    }

    [Fact]
    public async Task A_script_sees_each_message()
    {
        await RouteAsync($"\"127.0.0.1:{_origin.Port}\":1", plugins:
            """{"serverless-post-function":{"phase":"event_filter","functions":["return function(conf, ctx, event) if event.n == 2 then return false end return event.data .. '!' end"]}}""");
        using var call = Client.AsyncServerStreamingCall(GrpcEcho.CountMethod, null, default, "3");
        _echo.Turns.Release(4);
        Assert.True(await call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal("0!", call.ResponseStream.Current);
        Assert.True(await call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal("2!", call.ResponseStream.Current);
        Assert.False(await call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal("3", call.GetTrailers().GetValue("x-count"));
    }

    [Fact]
    public async Task Each_message_of_a_client_stream_arrives_before_the_next_is_sent()
    {
        using var call = Client.AsyncClientStreamingCall(GrpcEcho.JoinMethod, null, default);
        foreach (var part in (string[])["a", "b", "c"])
        {
            await call.RequestStream.WriteAsync(part, Cancellation);
            await Eventually.TrueAsync(() => _echo.Seen.Contains(part), $"{part} did not arrive");
        }
        await call.RequestStream.CompleteAsync();
        Assert.Equal("abc", await call);
    }

    [Fact]
    public async Task Both_directions_flow_at_the_same_time()
    {
        using var call = Client.AsyncDuplexStreamingCall(GrpcEcho.ChatMethod, null, default);
        for (var number = 0; number < 5; number++)
        {
            await call.RequestStream.WriteAsync($"{number}", Cancellation);
            Assert.True(await call.ResponseStream.MoveNext(Cancellation));
            Assert.Equal($"re: {number}", call.ResponseStream.Current);
        }
        await call.RequestStream.CompleteAsync();
        Assert.False(await call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_client_that_is_silent_for_too_long_is_told_so(bool afterHead)
    {
        await RouteAsync($"\"127.0.0.1:{_origin.Port}\":1", plugins: """{"streaming":{"client_idle_timeout":"2s"}}""");
        if (afterHead)
        {
            using var chat = Client.AsyncDuplexStreamingCall(GrpcEcho.ChatMethod, null, default);
            await chat.RequestStream.WriteAsync("a", Cancellation);
            Assert.True(await chat.ResponseStream.MoveNext(Cancellation));
            var ended = await Assert.ThrowsAsync<RpcException>(() => chat.ResponseStream.MoveNext(Cancellation));
            Assert.Equal((StatusCode.DeadlineExceeded, "sluice: client_idle_timeout"), (ended.StatusCode, ended.Status.Detail));
            return;
        }
        using var join = Client.AsyncClientStreamingCall(GrpcEcho.JoinMethod, null, default);
        await join.RequestStream.WriteAsync("a", Cancellation);
        await Assert.ThrowsAsync<RpcException>(() => join.ResponseAsync.WaitAsync(TimeSpan.FromSeconds(30), Cancellation));
    }

    [Fact]
    public async Task Messages_of_megabytes_pass_in_both_directions()
    {
        var text = new string('x', 3_000_000);
        using var call = Client.AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, text);
        Assert.Equal($"echo {text}", await call);
    }

    [Fact]
    public async Task Many_calls_at_once_get_their_own_answers()
    {
        await Parallel.ForEachAsync(Enumerable.Range(0, 300),
            new ParallelOptions { MaxDegreeOfParallelism = 64, CancellationToken = Cancellation }, async (number, _) =>
        {
            var text = $"{number} {new string('x', number * 40)}";
            if (number % 3 > 0)
            {
                Assert.Equal($"echo {text}", await Client.AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, text));
                return;
            }
            using var chat = Client.AsyncDuplexStreamingCall(GrpcEcho.ChatMethod, null, default);
            for (var turn = 0; turn < 3; turn++)
            {
                await chat.RequestStream.WriteAsync($"{turn} {text}", Cancellation);
                Assert.True(await chat.ResponseStream.MoveNext(Cancellation));
                Assert.Equal($"re: {turn} {text}", chat.ResponseStream.Current);
            }
            await chat.RequestStream.CompleteAsync();
            Assert.False(await chat.ResponseStream.MoveNext(Cancellation));
        });
    }

    async Task<Status> FailsAsync(CallOptions options = default, string request = "hello")
    {
        var error = await Assert.ThrowsAsync<RpcException>(
            async () => await Client.AsyncUnaryCall(GrpcEcho.UnaryMethod, null, options, request));
        return error.Status;
    }

    [Fact]
    public async Task A_status_of_the_service_is_passed_on()
    {
        var status = await FailsAsync(request: "fail");
        Assert.Equal((StatusCode.NotFound, "gibt es nicht: ä %"), (status.StatusCode, status.Detail));
        await _gateway.PutAsync("/routes/2",
            $$"""{"uri":"/test.Nothing/*","upstream":{"scheme":"grpc","nodes":{"127.0.0.1:{{_origin.Port}}":1} } }""");
        var method = new Method<string, string>(MethodType.Unary, "test.Nothing", "Here", GrpcEcho.UnaryMethod.RequestMarshaller,
            GrpcEcho.UnaryMethod.ResponseMarshaller);
        var missing = await Assert.ThrowsAsync<RpcException>(async () => await Client.AsyncUnaryCall(method, null, default, ""));
        Assert.Equal((StatusCode.Unimplemented, "Service is unimplemented."), (missing.StatusCode, missing.Status.Detail));
    }

    [Fact]
    public async Task A_deadline_reaches_the_service_and_ends_the_call()
    {
        var status = await FailsAsync(new CallOptions(deadline: DateTime.UtcNow.AddSeconds(1)), "hang");
        Assert.Equal(StatusCode.DeadlineExceeded, status.StatusCode);
        Assert.EndsWith("deadline=True", _echo.Seen.First(), StringComparison.Ordinal);
        await Eventually.TrueAsync(() => _echo.Seen.Contains("cancelled"), "the service was not told");
    }

    [Fact]
    public async Task A_client_that_cancels_cancels_the_service()
    {
        using var cancel = new CancellationTokenSource();
        var failing = FailsAsync(new CallOptions(cancellationToken: cancel.Token), "hang");
        await Eventually.TrueAsync(() => _echo.Seen.Contains("hanging"), "the call did not arrive");
        await cancel.CancelAsync();
        Assert.Equal(StatusCode.Cancelled, (await failing).StatusCode);
        await Eventually.TrueAsync(() => _echo.Seen.Contains("cancelled"), "the service was not told");
    }

    [Fact]
    public async Task The_gateways_own_errors_are_gRPC_statuses()
    {
        await _gateway.AdminAsync(HttpMethod.Delete, "/routes/1");
        Assert.Equal(new Status(StatusCode.Unimplemented, "404 Route Not Found"), Plain(await FailsAsync()));
        await RouteAsync("\"127.0.0.1:1\":1");
        Assert.Equal(new Status(StatusCode.Unavailable, "502 Bad Gateway"), Plain(await FailsAsync()));
        await _gateway.ErrorLogSaysAsync("connect_refused");
        await RouteAsync($"\"127.0.0.1:{_origin.Port}\":1", plugins: """{"key-auth":{} }""");
        Assert.Equal(new Status(StatusCode.Unauthenticated, "Missing API key in request"), Plain(await FailsAsync()));

        static Status Plain(Status status) => new(status.StatusCode, status.Detail);
    }

    [Fact]
    public async Task A_call_whose_node_cannot_be_reached_goes_to_the_next()
    {
        await _gateway.PutAsync("/routes/1", $$"""
            {"uri":"/test.Echo/*","upstream":{"scheme":"grpc","nodes":[
              {"host":"127.0.0.1","port":1,"weight":1,"priority":1},{"host":"127.0.0.1","port":{{_origin.Port}},"weight":1}] } }
            """);
        Assert.Equal("echo hello", await Client.AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, "hello"));
    }

    [Fact]
    public async Task Silence_over_the_read_timeout_ends_a_call()
    {
        await RouteAsync($"\"127.0.0.1:{_origin.Port}\":1", ""","timeout":{"connect":1,"send":1,"read":0.3}""");
        var status = await FailsAsync(request: "hang");
        Assert.Equal((StatusCode.DeadlineExceeded, "sluice: read_timeout"), (status.StatusCode, status.Detail));
        await Eventually.TrueAsync(() => _echo.Seen.Contains("cancelled"), "the service was not told");
    }

    [Fact]
    public async Task A_stream_whose_node_dies_ends_with_a_status()
    {
        using var call = Client.AsyncServerStreamingCall(GrpcEcho.CountMethod, null, default, "3");
        _echo.Turns.Release();
        Assert.True(await call.ResponseStream.MoveNext(Cancellation));
        await _origin.DisposeAsync();
        var error = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(Cancellation));
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
        Assert.StartsWith("sluice: ", error.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TLS_on_both_sides()
    {
        using var certificate = ScriptedOrigin.SelfSigned("localhost");
        await using var origin = await StartOriginAsync(_echo, new() { ServerCertificate = certificate });
        await using var gateway = await TestGateway.StartAsync();
        gateway.Write("conf/server.crt", certificate.ExportCertificatePem());
        gateway.Write("conf/server.key", certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
        gateway.Write("conf/config.yaml", TestGateway.Config().Replace(
            "  control: {ip",
            "  ssl: {listen: [{ip: 127.0.0.1, port: 0}], ssl_cert: conf/server.crt, ssl_cert_key: conf/server.key}\n  control: {ip",
            StringComparison.Ordinal));
        await gateway.ReloadAsync();
        await gateway.PutAsync("/routes/1",
            $$"""{"uri":"/test.Echo/*","upstream":{"scheme":"grpcs","nodes":{"127.0.0.1:{{origin.Port}}":1} } }""");
        using var channel = Channel($"https://{gateway.Gateway.ProxyEndpoints[1]}");
        Assert.Equal("echo hello", await channel.CreateCallInvoker().AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, "hello"));

        await gateway.PutAsync("/routes/1",
            $$"""{"uri":"/test.Echo/*","upstream":{"scheme":"grpcs","nodes":{"127.0.0.1:{{origin.Port}}":1},"tls":{"verify":true} } }""");
        var error = await Assert.ThrowsAsync<RpcException>(async () => await channel.CreateCallInvoker()
            .AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, "hello"));
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
        await gateway.ErrorLogSaysAsync("tls_failed");
    }

    [Fact]
    public async Task A_scheme_that_is_not_there_is_refused()
    {
        var (status, body) = await _gateway.AdminAsync(HttpMethod.Put, "/upstreams/1", """{"scheme":"kafka","nodes":{"a:1":1} }""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains("upstream scheme \"kafka\" is not supported", (string)body!["error_msg"]!, StringComparison.Ordinal);
    }
}

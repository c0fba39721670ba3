using System.Net;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Upstreams;

/// <summary>An upstream that asks the gateway who it is.</summary>
public sealed class ClientCertificateTests : IDisposable
{
    readonly X509Certificate2 _server = ScriptedOrigin.SelfSigned("localhost");
    readonly X509Certificate2 _gateway = ScriptedOrigin.SelfSigned("gateway");
    readonly X509Certificate2 _other = ScriptedOrigin.SelfSigned("other");

    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _server.Dispose();
        _gateway.Dispose();
        _other.Dispose();
    }

    HttpsConnectionAdapterOptions Asking => new()
    {
        ServerCertificate = _server,
        ClientCertificateMode = ClientCertificateMode.RequireCertificate,
        ClientCertificateValidation = (certificate, _, _) => certificate.Subject is "CN=gateway" or "CN=other",
    };

    Task<WebOrigin> StartAsync() =>
        WebOrigin.StartAsync(context => context.Response.WriteAsync(context.Connection.ClientCertificate!.Subject), https: Asking);

    static string Pem(X509Certificate2 certificate) => JsonSerializer.Serialize(certificate.ExportCertificatePem());

    static string Key(X509Certificate2 certificate) =>
        JsonSerializer.Serialize(certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());

    static Task RouteAsync(TestGateway gateway, int port, string tls, string more = "") => gateway.PutAsync("/routes/1",
        $$"""{"uri":"/*","upstream":{"scheme":"https","nodes":{"127.0.0.1:{{port}}":1},"tls":{{tls}}{{more}} } }""");

    static Task SslAsync(TestGateway gateway, X509Certificate2 certificate) =>
        gateway.PutAsync("/ssls/mine", $$"""{"type":"client","cert":{{Pem(certificate)}},"key":{{Key(certificate)}} }""");

    [Fact]
    public async Task The_upstreams_own_certificate_is_shown_and_a_change_is_live()
    {
        await using var origin = await StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await RouteAsync(gateway, origin.Port, "{}");
        using var without = await gateway.Client.GetAsync(gateway.Url("/"), Cancellation);
        Assert.Equal(HttpStatusCode.BadGateway, without.StatusCode);
        foreach (var certificate in (X509Certificate2[])[_gateway, _other])
        {
            await RouteAsync(gateway, origin.Port, $$"""{"client_cert":{{Pem(certificate)}},"client_key":{{Key(certificate)}} }""");
            Assert.Equal(certificate.Subject, await gateway.Client.GetStringAsync(gateway.Url("/"), Cancellation));
        }
    }

    [Fact]
    public async Task The_certificate_may_be_an_ssl_resource_and_health_checks_show_it_too()
    {
        await using var origin = await StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await SslAsync(gateway, _gateway);
        await RouteAsync(gateway, origin.Port, """{"client_cert_id":"mine"}""", """
            ,"checks":{"active":{"type":"https","https_verify_certificate":false,"unhealthy":{"tcp_failures":1} } }
            """);
        Assert.Equal("CN=gateway", await gateway.Client.GetStringAsync(gateway.Url("/"), Cancellation));
        await SslAsync(gateway, _other);
        Assert.Equal("CN=other", await gateway.Client.GetStringAsync(gateway.Url("/"), Cancellation));
        Assert.Equal("healthy", (string)(await gateway.ControlAsync("/v1/healthcheck/routes/1"))["nodes"]![0]!["status"]!);

        // gone: the route does not go on without a certificate; back again: it goes on
        await gateway.AdminAsync(HttpMethod.Delete, "/ssls/mine?force=true");
        using var without = await gateway.Client.GetAsync(gateway.Url("/"), Cancellation);
        Assert.Equal(HttpStatusCode.BadGateway, without.StatusCode);
        await SslAsync(gateway, _gateway);
        Assert.Equal("CN=gateway", await gateway.Client.GetStringAsync(gateway.Url("/"), Cancellation));
    }

    [Fact]
    public async Task An_ssl_that_upstreams_show_is_neither_deleted_nor_changed_to_a_server_and_without_it_the_route_stays()
    {
        await using var origin = await StartAsync();
        await using var gateway = await TestGateway.StartAsync();
        await SslAsync(gateway, _gateway);
        var upstream =
            $$"""{"scheme":"https","nodes":{"127.0.0.1:{{origin.Port}}":1},"type":"roundrobin","tls":{"client_cert_id":"mine"} }""";
        await gateway.PutAsync("/upstreams/u1", upstream);
        await gateway.PutAsync("/services/s1", $$"""{"upstream":{{upstream}} }""");
        await gateway.PutAsync("/routes/own", $$"""{"uri":"/own","upstream":{{upstream}} }""");
        await gateway.PutAsync("/routes/by-upstream", """{"uri":"/by-upstream","upstream_id":"u1"}""");
        await gateway.PutAsync("/routes/by-service", """{"uri":"/by-service","service_id":"s1"}""");

        var (status, body) = await gateway.AdminAsync(HttpMethod.Delete, "/ssls/mine");
        Assert.Equal((400, "can not delete this ssl, upstream [u1] is still using it now"), ((int)status, (string)body!["error_msg"]!));
        (status, body) = await gateway.AdminAsync(HttpMethod.Patch, "/ssls/mine", """{"type":"server","snis":["a.example"]}""");
        Assert.Equal((400, "can not change the type of this ssl, upstream [u1] is still using it as a client certificate"),
            ((int)status, (string)body!["error_msg"]!));

        Assert.Equal(HttpStatusCode.OK, (await gateway.AdminAsync(HttpMethod.Delete, "/ssls/mine?force=true")).Status);
        await gateway.RestartAsync();
        foreach (var path in (string[])["/own", "/by-upstream", "/by-service"])
        {
            using var response = await gateway.Client.GetAsync(gateway.Url(path), Cancellation);
            Assert.Equal((path, HttpStatusCode.BadGateway), (path, response.StatusCode));
        }
    }

    [Fact]
    public async Task A_certificate_that_is_checked_is_checked_against_the_configured_roots()
    {
        await using var origin = await WebOrigin.StartAsync(context => context.Response.WriteAsync("ok"),
            https: new() { ServerCertificate = _server });
        await using var gateway = await TestGateway.StartAsync();
        async Task<HttpStatusCode> AskAsync(string host)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url("/")) { Headers = { Host = host } };
            using var response = await gateway.Client.SendAsync(request, Cancellation);
            return response.StatusCode;
        }
        await RouteAsync(gateway, origin.Port, """{"verify":true}""");
        Assert.Equal(HttpStatusCode.BadGateway, await AskAsync("localhost"));

        gateway.Write("conf/roots.pem", _server.ExportCertificatePem());
        gateway.Write("conf/config.yaml", TestGateway.Config().Replace(
            "  control: {ip", "  ssl: {ssl_trusted_certificate: conf/roots.pem}\n  control: {ip", StringComparison.Ordinal));
        await gateway.ReloadAsync();
        Assert.Equal(HttpStatusCode.OK, await AskAsync("localhost"));
        Assert.Equal(HttpStatusCode.BadGateway, await AskAsync("elsewhere"));

        gateway.Write("conf/roots.pem", "nothing");
        Assert.Contains(await gateway.Gateway.ReloadAsync(),
            problem => problem.ToString().Contains("ssl_trusted_certificate", StringComparison.Ordinal)
            && problem.Message.Contains("there is no PEM certificate in it", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_gRPC_upstream_gets_the_certificate_as_well()
    {
        await using var origin = await WebOrigin.StartAppAsync(app => app.MapGrpcService<GrpcEcho>(), protocols: HttpProtocols.Http2,
            https: Asking,
            services: services => services.AddSingleton(new GrpcEcho()).AddGrpc());
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/1", $$"""
            {"uri":"/*","upstream":{"scheme":"grpcs","nodes":{"127.0.0.1:{{origin.Port}}":1},"tls":{"client_cert":{{Pem(_gateway)}},"client_key":{{Key(_gateway)}} } } }
            """);
        using var channel = GrpcChannel.ForAddress($"http://{gateway.EndPoint}");
        Assert.Equal("echo hello", await channel.CreateCallInvoker().AsyncUnaryCall(GrpcEcho.UnaryMethod, null, default, "hello"));
    }

    [Fact]
    public async Task What_is_no_pair_of_certificate_and_key_is_refused()
    {
        await using var gateway = await TestGateway.StartAsync();
        async Task<string> RefusedAsync(string tls)
        {
            var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/upstreams/1",
                $$"""{"scheme":"https","nodes":{"a":1},"tls":{{tls}} }""");
            Assert.Equal(HttpStatusCode.BadRequest, status);
            return (string)body!["error_msg"]!;
        }
        var wrongKey = await RefusedAsync($$"""{"client_cert":{{Pem(_gateway)}},"client_key":{{Key(_other)}} }""");
        Assert.StartsWith("failed to parse client_cert or client_key: ", wrongKey, StringComparison.Ordinal);
        Assert.Equal("failed to decrypt previous encrypted key",
            await RefusedAsync($$"""{"client_cert":{{Pem(_gateway)}},"client_key":"{{new string('A', 200)}}"}"""));
        Assert.Equal("failed to fetch ssl info by ssl id [none], response code: 404", await RefusedAsync("""{"client_cert_id":"none"}"""));
        await gateway.PutAsync("/ssls/site", $$"""{"snis":["a.example"],"cert":{{Pem(_gateway)}},"key":{{Key(_gateway)}} }""");
        Assert.Equal("failed to fetch ssl info by ssl id [site], wrong ssl type", await RefusedAsync("""{"client_cert_id":"site"}"""));
    }
}

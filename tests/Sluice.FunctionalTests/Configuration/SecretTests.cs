using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Configuration;

/// <summary><c>$secret://</c> and <c>$env://</c> in plugins, consumers and certificates, against small servers that answer like the
/// managers.</summary>
public class SecretTests
{
    /// <summary>Answers each request with what the function says of its head and body; null = 404.</summary>
    static ScriptedOrigin Manager(Func<string, string, string?> answer) => ScriptedOrigin.Start(async connection =>
    {
        while (true)
        {
            var head = await connection.ReadHeadAsync();
            var length = System.Text.RegularExpressions.Regex.Match(head, @"\r\nContent-Length: (\d+)",
                System.Text.RegularExpressions.RegexOptions.IgnoreCase);
            var body = length.Success
                ? await connection.ReadAsync(int.Parse(length.Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture)) : "";
            var json = answer(head, body);
            await connection.SendAsync(
                $"HTTP/1.1 {(json is null ? "404 Not Found" : "200 OK")}\r\nContent-Length: {(json ?? "").Length}\r\n\r\n{json}");
        }
    });

    static ScriptedOrigin Vault(Func<string> key) => Manager((head, _) =>
        !head.Contains("X-Vault-Token: root\r\n", StringComparison.Ordinal) ? null
        : head.StartsWith("GET /v1/kv/apisix/jack HTTP/1.1", StringComparison.Ordinal) ? $$$"""{"data":{"auth-key":"{{{key()}}}"}}"""
        : head.StartsWith("GET /v1/kv2/data/jack HTTP/1.1", StringComparison.Ordinal)
        ? $$$$"""{"data":{"data":{"auth-key":"{{{{key()}}}}-v2"},"metadata":{"version":3}}}"""
        : null);

    static Task PutVaultAsync(TestGateway gateway, ScriptedOrigin vault, string token = "root") =>
        gateway.PutAsync("/secrets/vault/1", $$"""{"uri":"http://127.0.0.1:{{vault.Port}}","prefix":"kv/apisix","token":"{{token}}"}""");

    static async Task<HttpStatusCode> StatusAsync(TestGateway gateway, string path, string? key = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url(path));
        if (key is not null)
        {
            request.Headers.Add("apikey", key);
        }
        using var response = await gateway.Client.SendAsync(request);
        return response.StatusCode;
    }

    [Fact]
    public async Task A_consumer_is_known_by_a_key_that_is_in_vault()
    {
        var current = "first";
        await using var vault = Vault(() => current);
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync(apisix: "lru: {secret: {ttl: 0.2, neg_ttl: 0.2}}");
        await PutVaultAsync(gateway, vault);
        await gateway.PutAsync("/consumers", """{"username":"jack","plugins":{"key-auth":{"key":"$secret://vault/1/jack/auth-key"}}}""");
        await gateway.RouteAsync("r1", "/*", origin.Port, """ "plugins":{"key-auth":{}} """);

        await EventuallyAsync(HttpStatusCode.OK, () => StatusAsync(gateway, "/", "first"));
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync(gateway, "/", "$secret://vault/1/jack/auth-key"));
        current = "second";
        await EventuallyAsync(HttpStatusCode.OK, () => StatusAsync(gateway, "/", "second"));
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync(gateway, "/", "first"));
    }

    static async Task EventuallyAsync(HttpStatusCode status, Func<Task<HttpStatusCode>> ask)
    {
        var watch = System.Diagnostics.Stopwatch.StartNew();
        HttpStatusCode last;
        while ((last = await ask()) != status)
        {
            Assert.True(watch.Elapsed.TotalSeconds < 30, $"still {last}");
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public async Task A_plugin_gets_secrets_of_version_1_and_2_and_of_the_environment()
    {
        await using var vault = Vault(() => "s3cret");
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync(
            environment: name => name switch { "TOKEN" => "root", "TEAM" => """{"name":"blue"}""", _ => null });
        await PutVaultAsync(gateway, vault, "$env://TOKEN");
        await gateway.PutAsync("/secrets/vault/2", $$"""{"uri":"http://127.0.0.1:{{vault.Port}}","prefix":"kv2/data","token":"root"}""");
        await gateway.RouteAsync("r1", "/*", origin.Port,
            """ "plugins":{"proxy-rewrite":{"headers":{"set":{"X-One":"$secret://vault/1/jack/auth-key","X-Two":"$secret://vault/2/jack/auth-key","X-Team":"$env://TEAM/name"}}}} """);

        var echo = await gateway.Client.GetStringAsync(gateway.Url("/"));
        Assert.Contains("X-One: s3cret\r\n", echo, StringComparison.Ordinal);
        Assert.Contains("X-Two: s3cret-v2\r\n", echo, StringComparison.Ordinal);
        Assert.Contains("X-Team: blue\r\n", echo, StringComparison.Ordinal);
        var asked = vault.Accepted;
        await gateway.Client.GetStringAsync(gateway.Url("/"));
        Assert.Equal(asked, vault.Accepted);
        Assert.Contains("$secret://vault/1/jack/auth-key", (await gateway.AdminAsync(HttpMethod.Get, "/routes/r1")).Body!.ToJsonString(),
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("$secret://vault/1/nobody/auth-key", "vault cannot be asked: invalid status code 404")]
    [InlineData("$secret://vault/1/jack/none", "the secret has no property \"none\"")]
    [InlineData("$secret://vault/9/jack/auth-key", "there is no resource secrets/vault/9")]
    [InlineData("$env://NOT_SET", "the environment variable NOT_SET is not set")]
    public async Task A_reference_that_leads_nowhere_is_an_error_in_answer_and_log(string reference, string error)
    {
        await using var vault = Vault(() => "s3cret");
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync(environment: _ => null);
        await PutVaultAsync(gateway, vault);
        await gateway.RouteAsync("r1", "/*", origin.Port,
            $$$$$""" "plugins":{"proxy-rewrite":{"headers":{"set":{"X-One":"{{{{{reference}}}}}"}}}} """);

        using var response = await gateway.Client.GetAsync(gateway.Url("/"), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, response.StatusCode);
        Assert.Contains("the configuration of plugin proxy-rewrite refers to a secret that cannot be resolved",
            await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
        await gateway.ErrorLogSaysAsync($"route r1: plugin proxy-rewrite: {reference}: ");
        await gateway.ErrorLogSaysAsync(error);
        Assert.DoesNotContain("s3cret", gateway.ErrorLog, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AWS_is_asked_with_a_signed_request()
    {
        string? seen = null;
        await using var aws = Manager((head, body) =>
        {
            seen = head + body;
            return """{"Name":"team/jack","SecretString":"{\"auth-key\":\"from-aws\"}"}""";
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/secrets/aws/1",
            $$"""{"endpoint_url":"http://127.0.0.1:{{aws.Port}}","region":"eu-west-1","access_key_id":"AKID","secret_access_key":"never-sent","session_token":"st"}""");
        await gateway.RouteAsync("r1", "/*", origin.Port,
            """ "plugins":{"proxy-rewrite":{"headers":{"set":{"X-One":"$secret://aws/1/team/jack/auth-key"}}}} """);

        Assert.Contains("X-One: from-aws\r\n", await gateway.Client.GetStringAsync(gateway.Url("/")), StringComparison.Ordinal);
        Assert.Contains("X-Amz-Target: secretsmanager.GetSecretValue", seen, StringComparison.Ordinal);
        Assert.Contains(
            "/eu-west-1/secretsmanager/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "
                + "Signature=", seen, StringComparison.Ordinal);
        Assert.EndsWith("""{"SecretId":"team/jack","VersionStage":"AWSCURRENT"}""", seen, StringComparison.Ordinal);
        Assert.DoesNotContain("never-sent", seen, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Google_is_asked_with_a_token_for_the_signed_assertion_of_the_account()
    {
        using var key = RSA.Create(2048);
        var tokens = 0;
        await using var google = Manager((head, body) =>
        {
            if (head.StartsWith("POST /token ", StringComparison.Ordinal))
            {
                tokens++;
                var assertion = Uri.UnescapeDataString(body.Split("assertion=")[1]).Split('.');
                var good = key.VerifyData(Encoding.ASCII.GetBytes($"{assertion[0]}.{assertion[1]}"),
                    System.Buffers.Text.Base64Url.DecodeFromChars(assertion[2]), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
                var claims = JsonNode.Parse(System.Buffers.Text.Base64Url.DecodeFromChars(assertion[1]))!;
                return good && (string?)claims["iss"] == "sluice@p1.test" ? """{"access_token":"t1","expires_in":3600}""" : null;
            }
            return head.StartsWith("GET /v1/projects/p1/secrets/jack/versions/latest:access ", StringComparison.Ordinal)
                && head.Contains("Authorization: Bearer t1\r\n", StringComparison.Ordinal)
                ? $$$"""{"payload":{"data":"{{{Convert.ToBase64String("{\"a\":\"one\",\"b\":\"two\"}"u8)}}}"}}""" : null;
        });
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        var auth = new JsonObject
        {
            ["auth_config"] = new JsonObject
            {
                ["client_email"] = "sluice@p1.test", ["project_id"] = "p1", ["private_key"] = key.ExportPkcs8PrivateKeyPem(),
                ["token_uri"] = $"http://127.0.0.1:{google.Port}/token", ["entries_uri"] = $"http://127.0.0.1:{google.Port}/v1",
            },
        };
        await gateway.PutAsync("/secrets/gcp/1", auth.ToJsonString());
        await gateway.RouteAsync("r1", "/*", origin.Port,
            """ "plugins":{"proxy-rewrite":{"headers":{"set":{"X-A":"$secret://gcp/1/jack/a","X-B":"$secret://gcp/1/jack/b"}}}} """);

        var echo = await gateway.Client.GetStringAsync(gateway.Url("/"));
        Assert.Contains("X-A: one\r\n", echo, StringComparison.Ordinal);
        Assert.Contains("X-B: two\r\n", echo, StringComparison.Ordinal);
        Assert.Equal(1, tokens);
    }

    [Fact]
    public async Task What_an_upstream_is_shown_can_be_in_vault_and_changes_there()
    {
        using var server = ScriptedOrigin.SelfSigned("localhost");
        using var one = ScriptedOrigin.SelfSigned("one");
        using var two = ScriptedOrigin.SelfSigned("two");
        System.Security.Cryptography.X509Certificates.X509Certificate2? current = null;
        await using var vault = Manager((_, _) => current is null ? null
            : new JsonObject { ["data"] = new JsonObject { ["cert"] = current.ExportCertificatePem(),
                ["key"] = current.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem() } }.ToJsonString());
        await using var origin = await WebOrigin.StartAsync(
            context => context.Response.WriteAsync(context.Connection.ClientCertificate!.Subject), https: new()
        {
            ServerCertificate = server, ClientCertificateMode = ClientCertificateMode.RequireCertificate,
                ClientCertificateValidation = (_, _, _) => true,
        });
        await using var gateway = await TestGateway.StartAsync(apisix: "lru: {secret: {ttl: 0.2, neg_ttl: 0.2}}");
        await PutVaultAsync(gateway, vault);
        await gateway.PutAsync("/ssls/mine", """{"type":"client","cert":"$secret://vault/1/tls/cert","key":"$secret://vault/1/tls/key"}""");
        foreach (var (route,
            tls) in ((string, string)[])[("own",
                """{"client_cert":"$secret://vault/1/tls/cert","client_key":"$secret://vault/1/tls/key"}"""),
                ("ssl", """{"client_cert_id":"mine"}""")])
        {
            await gateway.PutAsync($"/routes/{route}",
                $$"""{"uri":"/{{route}}","upstream":{"scheme":"https","nodes":{"127.0.0.1:{{origin.Port}}":1},"tls":{{tls}} } }""");
            Assert.Equal(HttpStatusCode.ServiceUnavailable, await StatusAsync(gateway, $"/{route}"));
        }
        await gateway.ErrorLogSaysAsync(
            "the certificate for the upstream refers to a secret that is not known: $secret://vault/1/tls/cert");
        foreach (var certificate in new[] { one, two })
        {
            current = certificate;
            foreach (var route in (string[])["own", "ssl"])
            {
                await Eventually.HoldsAsync(async () => await BodyAsync($"/{route}") == certificate.Subject,
                    $"{route}: never {certificate.Subject}");
            }
        }

        async Task<string> BodyAsync(string path)
        {
            using var response = await gateway.Client.GetAsync(gateway.Url(path), TestContext.Current.CancellationToken);
            return await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public async Task The_CA_of_clients_can_be_in_the_environment()
    {
        using var ca = new TestAuthority();
        await using var gateway = await TestGateway.StartAsync(ssl: TestGateway.Https, environment: name => name == "CA" ? ca.Pem : null);
        await gateway.PutAsync("/ssls/1",
            TestAuthority.Ssl(["a.test"], [ca.Issue("a.test")], new JsonObject { ["client"] = new JsonObject { ["ca"] = "$env://CA" } }));
        await Eventually.TrueAsync(() => gateway.Gateway.TlsEndpoints.Count > 0, "HTTPS was not opened");
        var (certificate, key) = ca.IssueFiles("jack", client: true);
        string[] curl = ["-sk", "-o", "/dev/null", "-w", "%{http_code}", "--resolve",
            $"a.test:{gateway.Gateway.TlsEndpoints[0].Port}:127.0.0.1", $"https://a.test:{gateway.Gateway.TlsEndpoints[0].Port}/"];
        Assert.Equal("404", (await Tool.RunAsync("curl", [.. curl, "--cert", certificate, "--key", key])).Output);
        Assert.Equal("000", (await Tool.RunAsync("curl", curl)).Output);
    }

    [Fact]
    public async Task A_certificate_and_its_key_can_be_in_vault()
    {
        using var ca = new TestAuthority();
        var (certificate, key) = ca.Issue("a.test");
        await using var vault = Manager(
            (_, _) => new JsonObject { ["data"] = new JsonObject { ["cert"] = certificate, ["key"] = key } }.ToJsonString());
        await using var gateway = await TestGateway.StartAsync(ssl: TestGateway.Https);
        await PutVaultAsync(gateway, vault);
        await gateway.PutAsync("/ssls/1", """{"snis":["a.test"],"cert":"$secret://vault/1/tls/cert","key":"$secret://vault/1/tls/key"}""");
        await gateway.PutAsync("/ssls/2", """{"snis":["b.test"],"cert":"$secret://vault/1/tls/none","key":"$secret://vault/1/tls/key"}""");
        await Eventually.TrueAsync(() => gateway.Gateway.TlsEndpoints.Count > 0, "HTTPS was not opened");
        var tls = gateway.Gateway.TlsEndpoints[0];

        Assert.Contains("subject=CN = a.test",
            (await Tool.RunAsync("openssl", "s_client", "-connect", $"{tls}", "-servername", "a.test")).Output, StringComparison.Ordinal);
        Assert.Contains("alert internal error",
            (await Tool.RunAsync("openssl", "s_client", "-connect", $"{tls}", "-servername", "b.test")).Output, StringComparison.Ordinal);
        await gateway.ErrorLogSaysAsync(
            "/apisix/ssls/2: no handshake for \"b.test\": $secret://vault/1/tls/none: the secret has no property \"none\"");
    }
}

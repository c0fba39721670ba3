using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Sluice.Cli;
using static Sluice.FunctionalTests.Sources.EtcdGateway;

namespace Sluice.FunctionalTests.Sources;

/// <summary>etcd as the source of the configuration, with a real etcd.</summary>
public sealed class EtcdTests
{
    [Fact]
    public async Task Gateways_on_one_etcd_follow_each_other_and_whoever_else_writes()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var control = await StartAsync(etcd, ControlPlane);
        await using var one = await StartAsync(etcd);
        await using var two = await StartAsync(etcd, DataPlane);
        Assert.Empty(control.Gateway.ProxyEndpoints);
        Assert.Null(two.Gateway.AdminEndpoint);

        // through either Admin API, under APISIX's keys
        await control.PutAsync("/routes/r1", Route("/r1", "/from-control"));
        await LeadsAsync(one, "/r1", "/from-control");
        await LeadsAsync(two, "/r1", "/from-control");
        await one.PutAsync("/routes/r1", Route("/r1", "/from-one"));
        Assert.Equal("/from-one", await WhereAsync(one, "/r1"));
        await LeadsAsync(two, "/r1", "/from-one");
        var stored = JsonNode.Parse((await etcd.GetAsync("/apisix/routes/r1"))!)!;
        Assert.Equal("/r1", (string?)stored["uri"]);
        Assert.NotNull(stored["create_time"]);
        var (_, got) = await control.AdminAsync(HttpMethod.Get, "/routes/r1");
        Assert.True((long)got!["modifiedIndex"]! > (long)got["createdIndex"]!);

        // a reference to what another gateway wrote a moment ago
        await control.PutAsync("/services/s1", """{"plugins":{"redirect":{"uri":"/service","ret_code":302} } }""");
        await one.PutAsync("/routes/r2", """{"uri":"/r2","service_id":"s1"}""");
        await LeadsAsync(two, "/r2", "/service");

        // APISIX's own tools
        await etcd.PutAsync("/apisix/routes/", "init_dir");
        await etcd.PutAsync("/apisix/routes/raw", Route("/raw", "/raw-1"));
        await LeadsAsync(two, "/raw", "/raw-1");
        await etcd.PutAsync("/apisix/routes/raw", """{"uri":5}""");
        await two.ErrorLogSaysAsync("/apisix/routes/raw: invalid configuration: property \"uri\" validation failed");
        Assert.Equal("/raw-1", await WhereAsync(two, "/raw"));
        await etcd.PutAsync("/apisix/routes/raw", "{");
        await etcd.PutAsync("/apisix/routes/raw", Route("/raw", "/raw-2"));
        await LeadsAsync(two, "/raw", "/raw-2");

        // gone is gone
        Assert.Equal(HttpStatusCode.OK, (await one.AdminAsync(HttpMethod.Delete, "/routes/r1")).Status);
        await etcd.DeleteAsync("/apisix/routes/raw");
        await LeadsAsync(two, "/r1", "404");
        await LeadsAsync(two, "/raw", "404");
        await LeadsAsync(one, "/raw", "404");
        Assert.Equal(HttpStatusCode.NotFound, (await control.AdminAsync(HttpMethod.Delete, "/routes/r1")).Status);
    }

    [Fact]
    public async Task Writers_at_the_same_time_lose_nothing()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var one = await StartAsync(etcd);
        await using var two = await StartAsync(etcd);
        await one.PutAsync("/routes/r1", Route("/r1", "/x"));
        var gateways = new[] { one, two };
        var patches = Enumerable.Range(0, 20).Select(i => gateways[i % 2].AdminAsync(HttpMethod.Patch, "/routes/r1", $$"""{"labels":{"l{{i}}":"v"} }"""));
        Assert.All(await Task.WhenAll(patches), answer => Assert.Equal(HttpStatusCode.OK, answer.Status));
        Assert.Equal(20, JsonNode.Parse((await etcd.GetAsync("/apisix/routes/r1"))!)!["labels"]!.AsObject().Count);
        var posts = await Task.WhenAll(Enumerable.Range(0, 10).Select(i => gateways[i % 2].AdminAsync(HttpMethod.Post, "/routes", Route($"/p{i}", "/p"))));
        Assert.Equal(10, posts.Select(answer => (string?)answer.Body!["key"]).Distinct().Count());
    }

    [Fact]
    public async Task While_etcd_is_away_the_configuration_stays_and_afterwards_everything_goes_on()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var gateway = await StartAsync(etcd);
        await gateway.PutAsync("/routes/r1", Route("/r1", "/1"));
        await ReadySaysAsync(gateway, reachable: true);
        Assert.Contains("apisix_etcd_reachable 1", await MetricsAsync(gateway));

        await etcd.KillAsync();
        await ReadySaysAsync(gateway, reachable: false);
        Assert.Equal("/1", await WhereAsync(gateway, "/r1"));
        Assert.Contains("apisix_etcd_reachable 0", await MetricsAsync(gateway));
        var (status, body) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r2", Route("/r2", "/2"));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.StartsWith("etcd is not reachable (http://127.0.0.1:", (string?)body!["error_msg"]);
        Assert.Equal("404", await WhereAsync(gateway, "/r2"));
        await gateway.ErrorLogSaysAsync("etcd is away");

        await etcd.RunAsync();
        await etcd.PutAsync("/apisix/routes/r3", Route("/r3", "/3"));
        await LeadsAsync(gateway, "/r3", "/3");
        await gateway.PutAsync("/routes/r2", Route("/r2", "/2"));
        await ReadySaysAsync(gateway, reachable: true);
    }

    [Fact]
    public async Task A_start_while_etcd_is_away_goes_on_with_the_local_copy_and_without_one_says_so()
    {
        await using var etcd = await EtcdServer.StartAsync();
        var prefix = Directory.CreateTempSubdirectory("sluice-test-").FullName;
        var first = await StartAsync(etcd, prefix: prefix);
        first.KeepsPrefix = true;
        await first.PutAsync("/routes/r1", Route("/r1", "/1"));
        await first.DisposeAsync();
        var copy = Path.Combine(prefix, "data", "etcd-copy.jsonl");
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(copy));

        await etcd.KillAsync();
        await using var second = await StartAsync(etcd, prefix: prefix, retries: 0);
        Assert.Equal("/1", await WhereAsync(second, "/r1"));
        Assert.Contains("etcd is not reachable", await ReadyAsync(second));
        await second.ErrorLogSaysAsync("starting with the local copy");
        Assert.Contains("no copy of its configuration", await RefusalAsync(etcd));

        await etcd.RunAsync();
        await etcd.PutAsync("/apisix/routes/r1", Route("/r1", "/2"));
        await LeadsAsync(second, "/r1", "/2");
    }

    [Fact]
    public async Task After_a_broken_network_and_a_compaction_everything_is_read_anew()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var gateway = await StartAsync(etcd, etcd: "timeout: 3");
        await gateway.PutAsync("/routes/old", Route("/old", "/old"));
        await gateway.PutAsync("/routes/r1", Route("/r1", "/1"));

        etcd.Freeze();
        await etcd.DeleteAsync("/apisix/routes/old");
        await etcd.PutAsync("/apisix/routes/r1", Route("/r1", "/2"));
        await etcd.CompactAsync();
        await ReadySaysAsync(gateway, reachable: false);
        Assert.Equal("/1", await WhereAsync(gateway, "/r1"));

        etcd.Thaw();
        await LeadsAsync(gateway, "/r1", "/2");
        Assert.Equal("404", await WhereAsync(gateway, "/old"));
        await gateway.ErrorLogSaysAsync("compacted away");
    }

    [Fact]
    public async Task The_endpoints_are_tried_in_turn()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var other = await EtcdServer.StartAsync();
        var dead = other.Url;
        await other.DisposeAsync();
        await using var gateway = await StartAsync(etcd, hosts: $"{dead}, {etcd.Url}");
        await gateway.PutAsync("/routes/r1", Route("/r1", "/1"));
        Assert.Equal("/1", await WhereAsync(gateway, "/r1"));
        await ReadySaysAsync(gateway, reachable: true);
    }

    [Fact]
    public async Task Another_etcd_with_an_older_history_is_read_anew()
    {
        await using var etcd = await EtcdServer.StartAsync();
        var prefix = Directory.CreateTempSubdirectory("sluice-test-").FullName;
        var first = await StartAsync(etcd, prefix: prefix);
        first.KeepsPrefix = true;
        for (var i = 0; i < 5; i++)
        {
            await first.PutAsync("/routes/r1", Route("/r1", $"/{i}"));
        }
        await first.DisposeAsync();
        await using var restored = await EtcdServer.StartAsync();
        await restored.KillAsync();
        await using var second = await StartAsync(restored, prefix: prefix, retries: 0);
        Assert.Equal("/4", await WhereAsync(second, "/r1"));
        await restored.RunAsync();
        await LeadsAsync(second, "/r1", "404");
        await restored.PutAsync("/apisix/routes/r1", Route("/r1", "/new"));
        await LeadsAsync(second, "/r1", "/new");
    }

    [Fact]
    public async Task A_user_logs_in_and_a_wrong_password_stops_the_start()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await etcd.CallAsync("auth/user/add", """{"name":"root","password":"secret"}""");
        await etcd.CallAsync("auth/role/add", """{"name":"root"}""");
        await etcd.CallAsync("auth/user/grant", """{"user":"root","role":"root"}""");
        await etcd.CallAsync("auth/enable", "{}");
        Assert.Contains("user name is empty", await RefusalAsync(etcd));
        var wrong = await RefusalAsync(etcd, "user: root, password: guessed");
        Assert.Contains("authentication failed", wrong);
        Assert.DoesNotContain("guessed", wrong);
        await using var gateway = await StartAsync(etcd, etcd: "user: root, password: secret");
        await using var second = await StartAsync(etcd, DataPlane, etcd: "user: root, password: secret");
        await gateway.PutAsync("/routes/r1", Route("/r1", "/1"));
        await LeadsAsync(second, "/r1", "/1");
        // simple tokens die with the server that gave them
        await etcd.KillAsync();
        await etcd.RunAsync();
        await ReadySaysAsync(gateway, reachable: true);
        await gateway.PutAsync("/routes/r1", Route("/r1", "/2"));
        await LeadsAsync(second, "/r1", "/2");
    }

    [Fact]
    public async Task Etcd_over_TLS_is_checked_and_gets_the_gateways_certificate()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=etcd.test", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("etcd.test");
        request.CertificateExtensions.Add(names.Build());
        using var certificate = request.CreateSelfSigned(DateTimeOffset.Now.AddDays(-1), DateTimeOffset.Now.AddDays(1));
        await using var etcd = await EtcdServer.StartAsync(X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pfx), null));
        var prefix = Directory.CreateTempSubdirectory("sluice-test-").FullName;
        TestGateway.Write(prefix, "conf/cert.pem", certificate.ExportCertificatePem());
        TestGateway.Write(prefix, "conf/key.pem", key.ExportPkcs8PrivateKeyPem());
        var tls = $"tls: {{cert: {prefix}/conf/cert.pem, key: {prefix}/conf/key.pem";
        Assert.Contains("etcd is not reachable", await RefusalAsync(etcd, $"{tls}}}"));
        await using var careless = await StartAsync(etcd, etcd: $"{tls}, verify: false}}");
        await careless.PutAsync("/routes/r1", Route("/r1", "/1"));
        await using var careful = await TestGateway.RunAsync(prefix, TestGateway.Config()
            .Replace("    config_provider: embedded\n", $"    config_provider: etcd\n  etcd: {{host: ['{etcd.Url}'], {tls}, sni: etcd.test}}}}\n", StringComparison.Ordinal)
            .Replace("apisix:\n", $"apisix:\n  ssl: {{ssl_trusted_certificate: {prefix}/conf/cert.pem}}\n", StringComparison.Ordinal));
        Assert.Equal("/1", await WhereAsync(careful, "/r1"));
    }

    [Fact]
    public async Task A_resource_with_a_ttl_goes_away_on_its_own()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var gateway = await StartAsync(etcd);
        var (status, _) = await gateway.AdminAsync(HttpMethod.Put, "/routes/r1?ttl=1", Route("/r1", "/1"));
        Assert.Equal(HttpStatusCode.Created, status);
        await gateway.AdminAsync(HttpMethod.Put, "/routes/r2?ttl=1000", Route("/r2", "/2"));
        await LeadsAsync(gateway, "/r1", "404");
        Assert.Equal("/2", await WhereAsync(gateway, "/r2"));
        Assert.Equal(HttpStatusCode.BadRequest, (await gateway.AdminAsync(HttpMethod.Put, "/routes/r1?ttl=x", Route("/r1", "/1"))).Status);
    }

    [Fact]
    public async Task Init_etcd_marks_the_directories_once_under_the_configured_prefix()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var gateway = await StartAsync(etcd, etcd: "prefix: /other");
        var output = new StringWriter();
        var terminal = new Terminal(output, output, TimeProvider.System, _ => null);
        Assert.Equal(0, await CommandLine.RunAsync(["init_etcd", "-p", gateway.Prefix], terminal));
        Assert.Equal("init_dir", await etcd.GetAsync("/other/routes/"));
        Assert.Equal("init_dir", await etcd.GetAsync("/other/stream_routes/"));
        Assert.Contains("prepared /other", output.ToString());
        await gateway.PutAsync("/routes/r1", Route("/r1", "/1"));
        Assert.Equal("/other/routes/r1", (string?)(await gateway.AdminAsync(HttpMethod.Get, "/routes/r1")).Body!["key"]);
        Assert.NotNull(await etcd.GetAsync("/other/routes/r1"));
        await etcd.KillAsync();
        Assert.Equal(1, await CommandLine.RunAsync(["init_etcd", "-p", gateway.Prefix], terminal));
        Assert.Contains("etcd is not reachable", output.ToString());
    }
}

using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Sluice.Cli;
using Sluice.FunctionalTests.Origins;
using static Sluice.FunctionalTests.Configuration.EtcdGateway;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>etcd as the source of the configuration, with a real etcd.</summary>
public sealed class EtcdTests
{
    [Fact]
    public async Task A_resource_that_is_left_out_is_shown_with_what_is_wrong_and_can_be_mended()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await etcd.PutAsync("/apisix/routes/good", Route("/good", "/1"));
        await etcd.PutAsync("/apisix/routes/bad",
            """{"id":"bad","uri":"/bad","plugins":{"redirect":{"uri":"/2","ret_code":302},"nonexistent":{"key":"hush"}}}""");
        await using var gateway = await StartAsync(etcd);
        Assert.Equal("404", await WhereAsync(gateway, "/bad"));

        var (status, shown) = await gateway.AdminAsync(HttpMethod.Get, "/routes/bad");
        Assert.Equal((HttpStatusCode.OK, "/bad"), (status, (string?)shown!["value"]!["uri"]));
        Assert.Contains("unknown plugin [nonexistent]", (string?)shown["left_out"]);
        var (_, list) = await gateway.AdminAsync(HttpMethod.Get, "/routes");
        Assert.Equal(2, (int)list!["total"]!);
        Assert.Equal([true, false], list["list"]!.AsArray().Select(one => one!["left_out"] is not null));
        foreach (var page in (string[])["route/bad", "routes", "config"])
        {
            var text = (await gateway.ControlAsync("/v1/" + page)).ToJsonString();
            Assert.Contains("unknown plugin [nonexistent]", text);
            Assert.DoesNotContain("hush", text);
        }
        Assert.Contains("/apisix/routes/bad: ", await ReadyAsync());
        Assert.Contains("sluice_resources_left_out 1\n", await MetricsAsync());

        Assert.Equal(HttpStatusCode.OK,
            (await gateway.AdminAsync(HttpMethod.Patch, "/routes/bad", """{"plugins":{"nonexistent":null}}""")).Status);
        Assert.Equal("/2", await WhereAsync(gateway, "/bad"));
        Assert.Null((await gateway.AdminAsync(HttpMethod.Get, "/routes/bad")).Body!["left_out"]);
        Assert.DoesNotContain("warning", await ReadyAsync());
        Assert.Contains("sluice_resources_left_out 0\n", await MetricsAsync());

        // while it runs, what was in force before stays, and a write through the Admin API goes on top of what is stored
        await etcd.PutAsync("/apisix/routes/good", """{"id":"good","uri":5}""");
        await Eventually.HoldsAsync(async () => (await gateway.AdminAsync(HttpMethod.Get, "/routes/good")).Body!["left_out"] is not null,
            "it is not shown");
        Assert.Equal("/1", await WhereAsync(gateway, "/good"));
        await gateway.PutAsync("/routes/good", Route("/good", "/3"));
        Assert.Equal("/3", await WhereAsync(gateway, "/good"));
        await etcd.PutAsync("/apisix/routes/good", "{");
        await Eventually.HoldsAsync(async () => (await gateway.AdminAsync(HttpMethod.Get, "/routes/good")).Body!["left_out"] is not null,
            "it is not shown");
        Assert.Equal(HttpStatusCode.OK, (await gateway.AdminAsync(HttpMethod.Delete, "/routes/good")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await gateway.AdminAsync(HttpMethod.Get, "/routes/good")).Status);

        Task<string> ReadyAsync() => gateway.Client.GetStringAsync($"http://{gateway.Gateway.StatusEndpoint}/status/ready");

        Task<string> MetricsAsync() => gateway.Client.GetStringAsync($"http://{gateway.Gateway.MetricsEndpoint}/apisix/prometheus/metrics");
    }

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
        var patches = Enumerable.Range(0, 20)
            .Select(i => gateways[i % 2].AdminAsync(HttpMethod.Patch, "/routes/r1", $$"""{"labels":{"l{{i}}":"v"} }"""));
        Assert.All(await Task.WhenAll(patches), answer => Assert.Equal(HttpStatusCode.OK, answer.Status));
        Assert.Equal(20, JsonNode.Parse((await etcd.GetAsync("/apisix/routes/r1"))!)!["labels"]!.AsObject().Count);
        var posts = await Task.WhenAll(Enumerable.Range(0, 10)
            .Select(i => gateways[i % 2].AdminAsync(HttpMethod.Post, "/routes", Route($"/p{i}", "/p"))));
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
        await gateway.ErrorLogSaysAsync("etcd answers again, after");
    }

    /// <summary>What a write relies on belongs in its transaction: the others may change it while it is checked.</summary>
    [Fact]
    public async Task What_is_in_use_cannot_be_deleted_while_another_gateway_begins_to_use_it()
    {
        const int Rounds = 60;
        await using var etcd = await EtcdServer.StartAsync();
        await using var one = await StartAsync(etcd);
        await using var two = await StartAsync(etcd);
        var both = 0;
        for (var round = 0; round < Rounds; round++)
        {
            var (upstream, route) = ($"/upstreams/u{round}", $"/routes/r{round}");
            await one.PutAsync(upstream, """{"type":"roundrobin","nodes":{"127.0.0.1:1":1} }""");
            await two.PutAsync($"/routes/first{round}", $$"""{"uri":"/first","upstream_id":"u{{round}}"}""");
            Assert.Equal(HttpStatusCode.OK, (await two.AdminAsync(HttpMethod.Delete, $"/routes/first{round}")).Status);
            var deleting = one.AdminAsync(HttpMethod.Delete, upstream);
            var putting = two.AdminAsync(HttpMethod.Put, route, $$"""{"uri":"/{{round}}","upstream_id":"u{{round}}"}""");
            var (deleted, put) = ((await deleting).Status, (await putting).Status);
            Assert.True(deleted is HttpStatusCode.OK or HttpStatusCode.BadRequest, $"{deleted}");
            Assert.True(put is HttpStatusCode.Created or HttpStatusCode.BadRequest, $"{put}");
            both += deleted == HttpStatusCode.OK && put == HttpStatusCode.Created ? 1 : 0;
        }
        Assert.Equal(0, both);
    }

    [Fact]
    public async Task Two_gateways_do_not_give_one_key_to_two_consumers()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var one = await StartAsync(etcd);
        await using var two = await StartAsync(etcd);
        for (var round = 0; round < 20; round++)
        {
            var consumer = $$"""{"plugins":{"key-auth":{"key":"k{{round}}"} } }""";
            var answers = await Task.WhenAll(
                one.AdminAsync(HttpMethod.Put, $"/consumers/a{round}",
                    consumer.Replace("{\"plugins", $"{{\"username\":\"a{round}\",\"plugins", StringComparison.Ordinal)),
                two.AdminAsync(HttpMethod.Put, $"/consumers/b{round}",
                    consumer.Replace("{\"plugins", $"{{\"username\":\"b{round}\",\"plugins", StringComparison.Ordinal)));
            Assert.Single(answers, answer => answer.Status == HttpStatusCode.Created);
        }
    }

    [Fact]
    public async Task An_etcd_restored_from_a_snapshot_is_read_anew_also_when_it_is_past_the_known_revision()
    {
        await using var etcd = await EtcdServer.StartAsync();
        await using var gateway = await StartAsync(etcd, etcd: "timeout: 3");
        await gateway.PutAsync("/routes/kept", Route("/kept", "/kept"));
        await etcd.SaveAsync();
        await etcd.PutAsync("/apisix/routes/lost", Route("/lost", "/lost"));
        await etcd.PutAsync("/apisix/routes/same", Route("/same", "/before"));
        await LeadsAsync(gateway, "/lost", "/lost");
        await LeadsAsync(gateway, "/same", "/before");

        etcd.Freeze();
        await etcd.RestoreAsync();
        // the same number of writes and more, with the same keys at the same revisions and other contents
        await etcd.PutAsync("/apisix/routes/new", Route("/new", "/new"));
        await etcd.PutAsync("/apisix/routes/same", Route("/same", "/after"));
        await etcd.PutAsync("/apisix/routes/newer", Route("/newer", "/newer"));
        etcd.Thaw();

        await LeadsAsync(gateway, "/newer", "/newer");
        await LeadsAsync(gateway, "/new", "/new");
        await LeadsAsync(gateway, "/same", "/after");
        await LeadsAsync(gateway, "/lost", "404");
        Assert.Equal("/kept", await WhereAsync(gateway, "/kept"));
        await gateway.ErrorLogSaysAsync("etcd has another history");
    }

    [Fact]
    public async Task A_damaged_copy_is_called_damaged()
    {
        await using var etcd = await EtcdServer.StartAsync();
        var prefix = Directory.CreateTempSubdirectory("sluice-test-").FullName;
        var first = await StartAsync(etcd, prefix: prefix);
        await first.PutAsync("/routes/r1", Route("/r1", "/1"));
        first.KeepsPrefix = true;
        await first.DisposeAsync();
        await etcd.KillAsync();
        var copy = Path.Combine(prefix, "data", "etcd-copy.jsonl");
        await File.WriteAllLinesAsync(copy, (await File.ReadAllLinesAsync(copy))[..^1]);

        var refusal = await Assert.ThrowsAsync<Hosting.GatewayStartException>(() => StartAsync(etcd, prefix: prefix, retries: 0));

        Assert.Contains("etcd-copy.jsonl: it has no end", refusal.Message);
        Directory.Delete(prefix, recursive: true);
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
        Assert.Matches(@"etcd is not reachable \(http://127\.0\.0\.1:\d+: [a-zA-Z0-9/, ()]+\)", await ReadyAsync(second));
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
            .Replace("    config_provider: embedded\n",
                $"    config_provider: etcd\n  etcd: {{host: ['{etcd.Url}'], {tls}, sni: etcd.test}}}}\n", StringComparison.Ordinal)
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

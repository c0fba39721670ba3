using System.Diagnostics;
using System.Text.Json.Nodes;

namespace Sluice.FunctionalTests.Admin;

public sealed class DataEncryptionTests
{
    [Fact]
    public async Task Secrets_are_encrypted_in_the_store_and_in_the_answer_of_a_PUT_and_clear_in_a_GET()
    {
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/r1", """{"uri":"/*","plugins":{"key-auth":{},"redirect":{"uri":"/in","ret_code":302} } }""");
        var (_, put) = await gateway.AdminAsync(HttpMethod.Put, "/consumers",
            """{"username":"jack","plugins":{"key-auth":{"key":"auth-one"}}}""");
        var stored = (string?)put!["value"]!["plugins"]!["key-auth"]!["key"];
        Assert.NotEqual("auth-one", stored);
        var (_, got) = await gateway.AdminAsync(HttpMethod.Get, "/consumers/jack");
        Assert.Equal("auth-one", (string?)got!["value"]!["plugins"]!["key-auth"]!["key"]);
        Assert.Contains(stored!, Stored(gateway, "/apisix/consumers/jack"));
        Assert.DoesNotContain("auth-one", Stored(gateway, "/apisix/consumers/jack"));

        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url("/"));
        request.Headers.Add("apikey", "auth-one");
        using var response = await gateway.Client.SendAsync(request);
        Assert.Equal(302, (int)response.StatusCode);

        // after a restart as well
        gateway.KeepsPrefix = true;
        await gateway.DisposeAsync();
        await using var second = await TestGateway.RunAsync(gateway.Prefix, TestGateway.Config());
        Assert.Equal("auth-one",
            (string?)(await second.AdminAsync(HttpMethod.Get, "/consumers/jack")).Body!["value"]!["plugins"]!["key-auth"]!["key"]);
    }

    [Fact]
    public async Task A_private_key_is_encrypted_in_the_store_a_reference_is_not()
    {
        await using var gateway = await TestGateway.StartAsync(ssl: TestGateway.Https);
        using var ca = new TestAuthority();
        await gateway.PutAsync("/ssls/1", TestAuthority.Ssl(["a.test"], [ca.Issue("a.test")]));
        await gateway.PutAsync("/ssls/2", """{"sni":"b.test","cert":"$env://CERT","key":"$env://KEY"}""");
        Assert.DoesNotContain("PRIVATE KEY", Stored(gateway, "/apisix/ssls/1"));
        Assert.Contains("$env://KEY", Stored(gateway, "/apisix/ssls/2"));
    }

    [Fact]
    public async Task What_a_secret_manager_is_asked_with_is_encrypted_in_the_store()
    {
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/secrets/vault/1", """{"uri":"http://127.0.0.1:1","prefix":"kv/apisix","token":"hvs.hush"}""");
        await gateway.PutAsync("/secrets/vault/2", """{"uri":"http://127.0.0.1:1","prefix":"kv/apisix","token":"$env://TOKEN"}""");
        Assert.DoesNotContain("hvs.hush", Stored(gateway, "/apisix/secrets/vault/1"));
        Assert.Contains("$env://TOKEN", Stored(gateway, "/apisix/secrets/vault/2"));
        Assert.Equal("hvs.hush", (string?)(await gateway.AdminAsync(HttpMethod.Get, "/secrets/vault/1")).Body!["value"]!["token"]);

        gateway.KeepsPrefix = true;
        await gateway.DisposeAsync();
        await using var second = await TestGateway.RunAsync(gateway.Prefix, TestGateway.Config());
        Assert.Equal("hvs.hush", (string?)(await second.AdminAsync(HttpMethod.Get, "/secrets/vault/1")).Body!["value"]!["token"]);
    }

    [Fact]
    public async Task The_key_that_an_upstream_is_shown_is_encrypted_in_the_store_and_in_answers_and_may_come_back_so()
    {
        await using var gateway = await TestGateway.StartAsync();
        using var ca = new TestAuthority();
        var (certificate, key) = ca.Issue("gateway", client: true);
        var upstream = new JsonObject { ["scheme"] = "https", ["nodes"] = new JsonObject { ["127.0.0.1:1"] = 1 },
            ["tls"] = new JsonObject { ["client_cert"] = certificate, ["client_key"] = key } };
        await gateway.PutAsync("/upstreams/1", upstream.ToJsonString());
        await gateway.PutAsync("/routes/1", new JsonObject { ["uri"] = "/", ["upstream"] = upstream }.ToJsonString());
        Assert.DoesNotContain("PRIVATE KEY", Stored(gateway, "/apisix/upstreams/1"));
        Assert.DoesNotContain("PRIVATE KEY", Stored(gateway, "/apisix/routes/1"));

        var shown = (await gateway.AdminAsync(HttpMethod.Get, "/upstreams/1")).Body!["value"]!.AsObject();
        shown.Remove("create_time");
        shown.Remove("update_time");
        Assert.DoesNotContain("PRIVATE KEY", shown.ToJsonString());
        Assert.DoesNotContain("PRIVATE KEY", (await gateway.AdminAsync(HttpMethod.Get, "/routes")).Body!.ToJsonString());
        await gateway.PutAsync("/upstreams/1", shown.ToJsonString());
        Assert.Equal((string)shown["tls"]!["client_key"]!,
            (string)(await gateway.AdminAsync(HttpMethod.Get, "/upstreams/1")).Body!["value"]!["tls"]!["client_key"]!);
        gateway.KeepsPrefix = true;
        await gateway.RestartAsync();
        Assert.Contains("upstreams/1", (await gateway.ControlAsync("/v1/upstreams")).ToJsonString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Encryption_of_secrets_can_be_turned_off()
    {
        await using var gateway = await TestGateway.RunAsync(
            Directory.CreateTempSubdirectory("sluice-test-").FullName,
            TestGateway.Config().Replace("apisix:\n", "apisix:\n  data_encryption: {enable_encrypt_fields: false}\n",
                StringComparison.Ordinal));
        var (_, put) = await gateway.AdminAsync(HttpMethod.Put, "/consumers",
            """{"username":"jack","plugins":{"key-auth":{"key":"auth-one"}}}""");
        Assert.Equal("auth-one", (string?)put!["value"]!["plugins"]!["key-auth"]!["key"]);
    }

    static string Stored(TestGateway gateway, string key)
    {
        var start = new ProcessStartInfo("sqlite3",
            [Path.Combine(gateway.Prefix, "data", "sluice.db"),
                $"select value from entries where key = '{key}'"]) { RedirectStandardOutput = true };
        using var process = Process.Start(start)!;
        return process.StandardOutput.ReadToEnd();
    }
}

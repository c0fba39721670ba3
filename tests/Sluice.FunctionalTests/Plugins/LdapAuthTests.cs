using System.Net;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Plugins;

/// <summary>ldap-auth asks a real directory.</summary>
public sealed class LdapAuthTests
{
    const string Unknown = "{\"message\":\"Invalid user authorization\"}\n";

    [Fact]
    public async Task A_password_that_the_directory_knows_is_its_consumers()
    {
        await using var directory = await LdapServer.StartAsync();
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(directory, origin);
        Assert.Equal((401, "{\"message\":\"Missing related consumer\"}\n"), await AskAsync(gateway, "user01:password1"));
        await gateway.PutAsync("/consumers/jack",
            $$"""{"username":"jack","plugins":{"ldap-auth":{"user_dn":"cn=user01,{{LdapServer.Users}}"} } }""");

        var (status, body) = await AskAsync(gateway, "user01:password1");
        Assert.Equal(200, status);
        Assert.Contains("x-consumer-username: jack", body, StringComparison.OrdinalIgnoreCase);
        Assert.Equal((401, Unknown), await AskAsync(gateway, "user01:password2"));
        Assert.Equal((401, Unknown), await AskAsync(gateway, "user02:password1"));
        Assert.Equal((401, Unknown), await AskAsync(gateway, "comma,user:commapass"));
        await gateway.PutAsync("/consumers/jill",
            $$"""{"username":"jill","plugins":{"ldap-auth":{"user_dn":"cn=comma\\,user,{{LdapServer.Users}}"} } }""");
        Assert.Equal(200, (await AskAsync(gateway, "comma,user:commapass")).Status);
    }

    [Fact]
    public async Task An_empty_password_never_reaches_the_directory()
    {
        await using var directory = await LdapServer.StartAsync();
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(directory, origin, consumer: true);
        Assert.Equal((401, Unknown), await AskAsync(gateway, "user01:"));
        Assert.Equal((401, Unknown), await AskAsync(gateway, "user01: \t"));
        Assert.Equal((401, "{\"message\":\"Missing authorization in request\"}\n"), await AskAsync(gateway, null));
        Assert.Equal((401, "{\"message\":\"Invalid authorization in request\"}\n"), await AskAsync(gateway, "user01"));
        Assert.Equal(0, directory.Connections);
    }

    [Fact]
    public async Task A_directory_that_is_away_lets_nobody_in()
    {
        await using var directory = await LdapServer.StartAsync();
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(directory, origin, consumer: true);
        Assert.Equal(200, (await AskAsync(gateway, "user01:password1")).Status);
        await directory.KillAsync();
        Assert.Equal((401, Unknown), await AskAsync(gateway, "user01:password1"));
    }

    [Theory]
    [InlineData(false, 200)]
    [InlineData(true, 401)]
    public async Task Over_TLS_the_certificate_is_checked_when_asked_for(bool verify, int status)
    {
        using var authority = new TestAuthority();
        var (certificate, key) = authority.Issue("127.0.0.1");
        using var pair = X509Certificate2.CreateFromPem(certificate, key);
        await using var directory = await LdapServer.StartAsync(pair);
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(directory, origin, consumer: true,
            more: $""", "use_tls":true,"tls_verify":{(verify ? "true" : "false")}""");
        Assert.Equal(status, (await AskAsync(gateway, "user01:password1")).Status);
    }

    [Theory]
    [InlineData("ldap://", false)]
    [InlineData("ldaps://", true)]
    public async Task A_scheme_says_whether_it_is_TLS(string scheme, bool tls)
    {
        using var authority = new TestAuthority();
        var (certificate, key) = authority.Issue("127.0.0.1");
        using var pair = X509Certificate2.CreateFromPem(certificate, key);
        await using var directory = await LdapServer.StartAsync(tls ? pair : null);
        await using var origin = EchoOrigin.Start();
        await using var gateway = await StartAsync(directory, origin, consumer: true, scheme: scheme);
        Assert.Equal(200, (await AskAsync(gateway, "user01:password1")).Status);
    }

    static async Task<TestGateway> StartAsync(LdapServer directory, ScriptedOrigin origin, bool consumer = false, string more = "",
        string scheme = "")
    {
        var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/*", origin.Port,
            $$""" "plugins":{"ldap-auth":{"base_dn":"{{LdapServer.Users}}","ldap_uri":"{{scheme}}127.0.0.1:{{directory.Port}}","uid":"cn"{{more}}} } """);
        if (consumer)
        {
            await gateway.PutAsync("/consumers/jack",
                $$"""{"username":"jack","plugins":{"ldap-auth":{"user_dn":"cn=user01,{{LdapServer.Users}}"} } }""");
        }
        return gateway;
    }

    static async Task<(int Status, string Body)> AskAsync(TestGateway gateway, string? credentials)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, gateway.Url("/"));
        if (credentials is not null)
        {
            request.Headers.Authorization = new("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes(credentials)));
        }
        using var response = await gateway.Client.SendAsync(request, TestContext.Current.CancellationToken);
        if (response.StatusCode == HttpStatusCode.Unauthorized)
        {
            Assert.Equal("Basic realm=\"ldap\"", response.Headers.WwwAuthenticate.ToString());
        }
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }
}

namespace Sluice.Tests.Plugins.Traffic;

public class RealIpTests
{
    [Theory]
    [InlineData("{}", """property "source" is required""")]
    [InlineData("""{"source":"arg_a","trusted_addresses":["127.0.0.1/33"]}""",
        """property "trusted_addresses" validation failed: failed to validate item 1: object matches none of the required""")]
    [InlineData("""{"source":"arg_a","trusted_addresses":["::1/129"]}""", "invalid ip address: ::1/129")]
    public void Wrong_configurations_are_refused(string config, string error) => Assert.Equal(error, PluginTest.Check("real-ip", config));

    [Theory]
    [InlineData("1.1.1.1", "1.1.1.1", "0")]
    [InlineData("1.1.1.1:8080", "1.1.1.1", "8080")]
    [InlineData("2001:db8::1", "2001:db8::1", "0")]
    [InlineData("[2001:db8::1]:80", "2001:db8::1", "80")]
    [InlineData("1.1.1.1:65536", "192.0.2.1", "0")]
    [InlineData("jack", "192.0.2.1", "0")]
    [InlineData(null, "192.0.2.1", "0")]
    public async Task The_variable_says_who_asks(string? value, string address, string port)
    {
        var result = await Test("""{"source":"arg_who"}""").GetAsync("/" + (value is null ? "" : "?who=" + value));
        Assert.Equal((address, port), (result.Exchange.Get("remote_addr"), $"{result.Exchange.RemotePort}"));
    }

    [Fact]
    public async Task Later_plugins_see_the_address() =>
        Assert.Equal(403,
            (await new PluginTest("""{"real-ip":{"source":"arg_who"},"ip-restriction":{"blacklist":["1.1.1.1"]}}""").GetAsync(
                "/?who=1.1.1.1")).Status);

    [Theory]
    [InlineData("192.0.2.0/24", "1.1.1.1")]
    [InlineData("10.0.0.0/8", "192.0.2.1")]
    public async Task Only_trusted_peers_are_believed(string trusted, string address) =>
        Assert.Equal(address,
            (await Test($$$"""{"source":"arg_who","trusted_addresses":["{{{trusted}}}"]}""")
                .GetAsync("/?who=1.1.1.1")).Exchange.Get("remote_addr"));

    [Theory]
    [InlineData("""{"source":"http_x_forwarded_for"}""", "1.1.1.1, 192.128.1.1,  127.0.0.1", "127.0.0.1")]
    [InlineData("""{"source":"http_x_forwarded_for","recursive":true,"trusted_addresses":["192.0.2.9","192.128.0.0/16","127.0.0.0/24"]}""",
        "1.1.1.1, 192.128.1.1,  127.0.0.1", "1.1.1.1")]
    [InlineData("""{"source":"http_x_forwarded_for","recursive":true,"trusted_addresses":["192.0.2.9","192.128.0.0/16"]}""",
        "192.128.1.2, 192.128.1.1", "192.128.1.2")]
    public async Task Of_a_chain_it_is_the_last_that_is_not_trusted(string config, string chain, string address) =>
        Assert.Equal(address,
            (await Test(config).GetAsync("/", (":peer", PluginTest.TrustedProxy), ("X-Forwarded-For", chain))).Exchange.Get("remote_addr"));

    static PluginTest Test(string config) => new($$$"""{"real-ip":{{{config}}}}""");
}


using Sluice.Model.Settings;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline;

public class ClientAddressTests
{
    static Exchange Of(string nginxHttp, string apisix, string peer, params (string Name, string Value)[] headers)
    {
        var settings = SettingsReader.Parse("/", $"apisix: {{{apisix}}}\nnginx_config:\n  http: {{{nginxHttp}}}\n", null,
            _ => null).Settings!;
        var exchange = TestExchange.Of(TestExchange.Compile([], settings: settings), "http://host.test/", address: peer, headers: headers);
        ClientAddress.Find(exchange);
        return exchange;
    }

    [Theory]
    [InlineData("127.0.0.1", "192.0.2.7", "192.0.2.7")]
    [InlineData("127.0.0.1", "192.0.2.7:4711", "192.0.2.7")]
    [InlineData("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1")]
    [InlineData("127.0.0.1", "2001:db8::1", "2001:db8::1")]
    [InlineData("127.0.0.1", "not an address", "127.0.0.1")]
    [InlineData("127.0.0.1", "192.0.2.7:0", "127.0.0.1")]
    [InlineData("127.0.0.1", "192.0.2.1, 192.0.2.7", "192.0.2.7")]
    [InlineData("198.51.100.1", "192.0.2.7", "198.51.100.1")]
    public void By_default_only_the_machine_itself_may_name_a_client_in_X_Real_IP(string peer, string header, string expected) =>
        Assert.Equal(expected, Of("", "", peer, ("X-Real-IP", header)).Get("remote_addr"));

    [Theory]
    [InlineData("off", "192.0.2.1, 10.0.0.1", "10.0.0.1")]
    [InlineData("on", "192.0.2.1, 10.0.0.1", "192.0.2.1")]
    [InlineData("on", "203.0.113.9, 192.0.2.1, 10.0.0.1,10.0.0.2", "192.0.2.1")]
    [InlineData("on", "10.0.0.3, 10.0.0.1", "10.0.0.3")]
    [InlineData("on", "192.0.2.1, rubbish, 10.0.0.1", "10.0.0.1")]
    public void Recursive_means_the_last_address_that_is_not_trusted(string recursive, string header, string expected) =>
        Assert.Equal(expected,
            Of($"real_ip_header: X-Forwarded-For, real_ip_recursive: \"{recursive}\", real_ip_from: [10.0.0.0/8]", "", "10.1.1.1",
                ("X-Forwarded-For", header)).Get("remote_addr"));

    [Fact]
    public void The_connection_keeps_its_own_address_and_port()
    {
        var exchange = Of("", "", "127.0.0.1", ("X-Real-IP", "192.0.2.7:4711"));
        Assert.Equal(("192.0.2.7", "4711", "127.0.0.1"),
            (exchange.Get("remote_addr"), exchange.Get("remote_port"), exchange.Get("realip_remote_addr")));
        Assert.Equal("", Of("", "", "127.0.0.1", ("X-Real-IP", "192.0.2.7")).Get("remote_port"));
    }

    [Theory]
    [InlineData("", "127.0.0.1", false, true)]
    [InlineData("trusted_addresses: [10.0.0.0/8]", "10.0.0.1", true, true)]
    [InlineData("trusted_addresses: [10.0.0.0/8]", "127.0.0.1", false, false)]
    public void Only_trusted_addresses_may_say_scheme_host_and_port(string apisix, string peer, bool kept, bool chainKept)
    {
        var headers = Of("", apisix, peer, ("Host", "Own.Test:8080"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.test"),
            ("X-Forwarded-Port", "443"),
            ("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")).Request.Headers;
        Assert.Equal(kept ? ("https", "a.test", "443") : ("http", "Own.Test:8080", "8080"),
            ((string?)headers["X-Forwarded-Proto"], (string?)headers["X-Forwarded-Host"], (string?)headers["X-Forwarded-Port"]));
        Assert.Equal((kept, chainKept), (headers.ContainsKey("Forwarded"), headers.ContainsKey("X-Forwarded-For")));
    }

    [Fact]
    public void What_a_trusted_peer_leaves_out_or_empty_is_the_gateways_own_and_what_it_says_twice_stays_both()
    {
        var headers = Of("", "trusted_addresses: [10.0.0.0/8]", "10.0.0.1", ("Host", "own.test"), ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Proto", "grpc"), ("X-Forwarded-Host", "")).Request.Headers;
        Assert.Equal(("http, grpc", "own.test"), ((string?)headers["X-Forwarded-Proto"], (string?)headers["X-Forwarded-Host"]));
        Assert.True(headers.ContainsKey("X-Forwarded-Port"));
    }
}

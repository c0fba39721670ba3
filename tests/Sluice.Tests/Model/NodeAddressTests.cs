using Sluice.Model;

namespace Sluice.Tests.Model;

public class NodeAddressTests
{
    [Theory]
    [InlineData("127.0.0.1:80", "127.0.0.1", 80)]
    [InlineData("[::1]:8080", "::1", 8080)]
    [InlineData("[::1]", "::1", null)]
    [InlineData("::1", "::1", null)]
    [InlineData("my_host-1.example.com", "my_host-1.example.com", null)]
    public void Reads_host_and_port(string text, string host, int? port) =>
        Assert.Equal((true, host, port), (NodeAddress.TryParse(text, out var parsed, out var number), parsed, number));

    [Theory]
    [InlineData("")]
    [InlineData(":80")]
    [InlineData("host:")]
    [InlineData("host:0")]
    [InlineData("host:65536")]
    [InlineData("host:x")]
    [InlineData("[::1")]
    [InlineData("[::1]x")]
    [InlineData("[host]:80:90")]
    [InlineData("http://host:80")]
    [InlineData("a b")]
    [InlineData("a\0b")]
    public void Refuses_what_is_no_address(string text) => Assert.False(NodeAddress.TryParse(text, out _, out _));
}

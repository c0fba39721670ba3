using System.Buffers;
using System.Net;
using System.Text;
using CsCheck;
using Sluice.Net;

namespace Sluice.Tests.Net;

public class ProxyProtocolTests
{
    static bool? Parse(string latin1, out ProxyHeader? header, out int taken)
    {
        var bytes = new ReadOnlySequence<byte>(Encoding.Latin1.GetBytes(latin1));
        var result = ProxyHeader.TryParse(bytes, out header, out var end);
        taken = (int)bytes.Slice(0, end).Length;
        return result;
    }

    const string Signature = "\r\n\r\n\0\r\nQUIT\n";

    [Theory]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n", "192.0.2.1:4711", "198.51.100.1:443")]
    [InlineData("PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", "[2001:db8::1]:4711", "[2001:db8::2]:443")]
    [InlineData("PROXY UNKNOWN whatever\r\n", null, null)]
    [InlineData(Signature + "\x20\x00\0\0", null, null)]
    [InlineData(Signature + "\x21\x11\0\x0f\xc0\0\x02\x01\xc6\x33\x64\x01\x12\x67\x01\xbb\x04\0\0", "192.0.2.1:4711", "198.51.100.1:443")]
    [InlineData(Signature + "\x21\x12\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\x12\x67\x01\xbb", "192.0.2.1:4711", "198.51.100.1:443")]
    public void Both_versions_name_client_and_server(string header, string? source, string? destination)
    {
        Assert.True(Parse(header + "rest", out var parsed, out var taken));
        Assert.Equal((source, destination, header.Length), (parsed!.Source?.ToString(), parsed.Destination?.ToString(), taken));
        for (var length = 0; length < header.Length; length++)
        {
            Assert.Null(Parse(header[..length], out _, out _));
        }
    }

    [Theory]
    [InlineData("GET / HTTP/1.1\r\n\r\n")]
    [InlineData("PROXX")]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.1 4711\r\n")]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.1 4711 99999\r\n")]
    [InlineData("PROXY TCP4 192.0.2.1.1 198.51.100.1 4711 1\r\n")]
    [InlineData(Signature + "\x11\x11\0\x0c............")]
    [InlineData(Signature + "\x21\x11\0\x04....")]
    [InlineData(Signature + "\x21\x11\xff\xff")]
    public void A_header_that_is_not_of_the_PROXY_protocol_is_refused(string bytes) => Assert.False(Parse(bytes, out _, out _));

    [Fact]
    public void A_line_without_end_is_refused_and_rubbish_never_throws()
    {
        Assert.False(Parse("PROXY " + new string('x', 200), out _, out _));
        Gen.Select(Gen.OneOfConst("PROXY ", Signature, "", "\r\n"), Gen.String[Gen.Char['\0', '\xff'], 0, 40])
            .Sample((start, rest) => Parse(start + rest, out _, out _));
    }

    [Theory]
    [InlineData("192.0.2.1", "198.51.100.1", "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n")]
    [InlineData("::ffff:192.0.2.1", "198.51.100.1", "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n")]
    [InlineData("2001:db8::1", "2001:db8::2", "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n")]
    [InlineData("2001:db8::1", "198.51.100.1", "PROXY UNKNOWN\r\n")]
    public void What_is_written_is_version_1(string source, string destination, string expected) =>
        Assert.Equal(expected,
            Encoding.ASCII.GetString(ProxyHeader.Write(new(IPAddress.Parse(source), 1), new(IPAddress.Parse(destination), 2))));
}

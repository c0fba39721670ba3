using System.Buffers;
using System.Net.Security;
using System.Security.Authentication;
using CsCheck;
using Sluice.Net;

namespace Sluice.Tests.Net;

public class ClientHelloTests
{
    /// <summary>What .NET's client really sends.</summary>
    static byte[] Sent(string name, SslProtocols protocols = SslProtocols.Tls12 | SslProtocols.Tls13)
    {
        var wire = new Recorder();
        using var client = new SslStream(wire);
        Assert.ThrowsAny<Exception>(() => client.AuthenticateAsClient(new SslClientAuthenticationOptions
        {
            TargetHost = name, EnabledSslProtocols = protocols, ApplicationProtocols = [SslApplicationProtocol.Http2],
        }));
        return wire.ToArray();
    }

    /// <summary>Nobody answers.</summary>
    sealed class Recorder : MemoryStream
    {
        public override int Read(Span<byte> buffer) => 0;

        public override int Read(byte[] buffer, int offset, int count) => 0;

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => new(0);
    }

    static bool? Parse(byte[] bytes, out ClientHello? hello) => ClientHello.TryParse(new ReadOnlySequence<byte>(bytes), out hello);

    [Fact]
    public void A_real_hello_is_understood()
    {
        Assert.True(Parse(Sent("A.Example.COM"), out var hello));
        Assert.Equal("a.example.com", hello!.ServerName);
        Assert.True(hello.OffersTls13);
        Assert.True(hello.TakesEcdsa);
        Assert.Equal(["h2"], hello.Protocols);
        Assert.False(Parse(Sent("a.example", SslProtocols.Tls12), out hello) is true && hello!.OffersTls13);
    }

    [Fact]
    public void Every_beginning_asks_for_more_and_every_split_into_records_means_the_same()
    {
        var sent = Sent("a.example.com");
        for (var length = 0; length < sent.Length; length++)
        {
            Assert.Null(Parse(sent[..length], out _));
        }
        Gen.Int[1, sent.Length - 6].Sample(split =>
        {
            var message = sent[5..];
            byte[] Record(byte[] part) => [22, 3, 1, (byte)(part.Length >> 8), (byte)part.Length, .. part];
            Assert.True(Parse([.. Record(message[..split]), .. Record(message[split..])], out var hello));
            Assert.Equal("a.example.com", hello!.ServerName);
        }, iter: 100);
    }

    [Fact]
    public void Broken_hellos_never_throw()
    {
        var sent = Sent("a.example.com");
        Gen.Select(Gen.Int[0, sent.Length - 1], Gen.Byte).Sample((at, value) =>
        {
            var broken = (byte[])sent.Clone();
            broken[at] = value;
            Parse(broken, out _);
        }, iter: 2_000);
        Assert.False(Parse("GET / HTTP/1.1\r\n"u8.ToArray(), out _));
    }

    [Theory]
    [InlineData(new ushort[] { 0x0401, 0x0804 }, new ushort[] { 0x1301 }, true, false)]
    [InlineData(new ushort[] { 0x0403 }, new ushort[] { 0x1301 }, true, true)]
    [InlineData(new ushort[] { 0x0403 }, new ushort[] { 0xC02F }, false, false)]
    [InlineData(new ushort[] { 0x0403 }, new ushort[] { 0xC02B }, false, true)]
    public void Signatures_and_suites_say_whether_ECDSA_is_taken(ushort[] signatures, ushort[] suites, bool tls13, bool expected) =>
        Assert.Equal(expected, new ClientHello(null, signatures, suites, tls13, []).TakesEcdsa);
}

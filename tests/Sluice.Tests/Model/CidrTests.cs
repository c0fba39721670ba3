using System.Net;
using CsCheck;
using Sluice.Model;

namespace Sluice.Tests.Model;

public class CidrTests
{
    [Theory]
    [InlineData("127.0.0.1", "127.0.0.1", true)]
    [InlineData("127.0.0.1", "127.0.0.2", false)]
    [InlineData("10.1.2.3/8", "10.255.0.1", true)]
    [InlineData("10.0.0.0/8", "11.0.0.1", false)]
    [InlineData("10.0.0.0/8", "::ffff:10.0.0.1", true)]
    [InlineData("::ffff:10.0.0.0/104", "10.0.0.1", true)]
    [InlineData("0.0.0.0/0", "1.2.3.4", true)]
    [InlineData("0.0.0.0/0", "::1", false)]
    [InlineData("::/0", "2001:db8::1", true)]
    [InlineData("::/0", "1.2.3.4", false)]
    [InlineData("2001:db8::/32", "2001:db8:ffff::1", true)]
    [InlineData("2001:db8::/32", "2001:db9::1", false)]
    [InlineData("192.168.1.128/25", "192.168.1.127", false)]
    public void A_range_contains_the_addresses_that_it_covers(string range, string address, bool contains)
    {
        Assert.True(Cidr.TryParse(range, out var cidr));
        Assert.Equal(contains, cidr.Contains(IPAddress.Parse(address)));
        Assert.Equal(contains, CidrSet.Parse([range]).Contains(IPAddress.Parse(address)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("127.1")]
    [InlineData("1")]
    [InlineData("010.0.0.1")]
    [InlineData("0x7f.0.0.1")]
    [InlineData("256.0.0.1")]
    [InlineData("10.0.0.0/33")]
    [InlineData("10.0.0.0/")]
    [InlineData("10.0.0.0/-1")]
    [InlineData("10.0.0.0/8/8")]
    [InlineData("::/129")]
    [InlineData("[::1]")]
    [InlineData("fe80::1%eth0")]
    [InlineData("localhost")]
    public void Anything_else_is_refused(string text) => Assert.False(Cidr.TryParse(text, out _));

    [Fact]
    public void A_wrong_entry_of_a_list_is_named() =>
        Assert.Equal("invalid ip address or range: nonsense",
            Assert.Throws<FormatException>(() => CidrSet.Parse(["127.0.0.1", "nonsense"])).Message);

    [Fact]
    public void A_set_contains_what_one_of_its_ranges_contains() =>
        Gen.Select(Gen.Select(Gen.UInt[0, 0xffff], Gen.Int[16, 32]).Array[0, 12], Gen.UInt[0, 0xffff]).Sample((ranges, probe) =>
        {
            var texts = ranges.Select(range =>
                $"{new IPAddress((long)(range.Item1 & 0xff) << 24 | (range.Item1 >> 8) << 16)}/{range.Item2}").ToArray();
            var address = new IPAddress((long)(probe & 0xff) << 24 | (probe >> 8) << 16);
            var any = texts.Any(text => Cidr.TryParse(text, out var cidr) && cidr.Contains(address));
            return CidrSet.Parse(texts).Contains(address) == any;
        }, iter: 2000);

    [Fact]
    public void A_range_prints_with_its_network_address()
    {
        Assert.True(Cidr.TryParse("10.1.2.3/8", out var v4) && Cidr.TryParse("2001:db8::1/32", out var v6) && v4 != v6);
        Assert.Equal("10.0.0.0/8", v4.ToString());
    }
}

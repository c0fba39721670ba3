using System.Text;
using Sluice.Net.Http;

namespace Sluice.Tests.Net.Http;

public class ByteTextTests
{
    [Theory]
    [InlineData("/plain")]
    [InlineData("/\xc3\xa4")]
    [InlineData("/\xe4")]
    [InlineData("/\xe4\xc3\xa4\xff")]
    [InlineData("/\xe2\x82")]
    [InlineData("/\xf0\x9f\x92\xa9")]
    [InlineData("/\xf0\x9f\xb2\x80\x80")]
    [InlineData("\x80")]
    [InlineData("/\xed\xa0\x80")]
    public void Bytes_come_back_as_they_were(string latin1)
    {
        var bytes = Encoding.Latin1.GetBytes(latin1);
        Assert.Equal(bytes, ByteText.GetBytes(ByteText.Of(bytes)));
        Assert.Equal(latin1, ByteText.ToWire(ByteText.Of(bytes)));
    }

    [Fact]
    public void All_pairs_of_bytes_come_back()
    {
        for (var pair = 0; pair <= 0xffff; pair++)
        {
            byte[] bytes = [(byte)(pair >> 8), (byte)pair];
            Assert.Equal(bytes, ByteText.GetBytes(ByteText.Of(bytes)));
        }
    }

    [Fact]
    public void What_is_UTF8_is_that_text() => Assert.Equal("ä€💩", ByteText.Of(Encoding.UTF8.GetBytes("ä€💩")));
}

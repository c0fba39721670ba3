using Sluice.Relay.Topics;

namespace Sluice.Tests.Relay.Topics;

public class StreamIdsTests
{
    const string Id = "s_gABCDEFGHIJKLMNOPQRSTUV";

    [Theory]
    [InlineData(Id, "***")]
    [InlineData("a=" + Id + ".41&b=s_p0123456789abcdefghijkl.", "a=***&b=***.")]
    [InlineData("/x?last%5Fevent=s%5fg%41BCDEFGHIJKLMNOPQRSTUV%2E41%20", "/x?last%5Fevent=***%20")]
    [InlineData("100% sure, 100%", "100% sure, 100%")]
    [InlineData("s_gABC, and s_xABCDEFGHIJKLMNOPQRSTUV", "s_gABC, and s_xABCDEFGHIJKLMNOPQRSTUV")]
    public void An_id_is_hidden_however_it_is_written(string text, string shown) => Assert.Equal(shown, StreamIds.Hide(text));
}

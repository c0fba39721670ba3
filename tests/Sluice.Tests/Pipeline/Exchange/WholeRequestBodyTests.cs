using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline;

public sealed class WholeRequestBodyTests
{
    static string Text(ReadOnlyMemory<byte> body) => Encoding.UTF8.GetString(body.Span);

    sealed record Detection(bool CanHaveBody) : IHttpRequestBodyDetectionFeature;

    static Exchange Posting(string body, bool told = true)
    {
        var exchange = TestExchange.Of(TestExchange.Compile([]), "http://x/", "POST");
        exchange.Http.Request.Body = new MemoryStream(Encoding.UTF8.GetBytes(body));
        exchange.Http.Request.ContentLength = told ? body.Length : null;
        exchange.Http.Features.Set<IHttpRequestBodyDetectionFeature>(new Detection(true));
        return exchange;
    }

    static async Task<string> ForUpstreamAsync(Exchange exchange) =>
        await new StreamReader(exchange.Request.BodyReader.AsStream()).ReadToEndAsync();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_that_was_read_is_still_there_for_the_next_and_for_the_upstream(bool told)
    {
        var exchange = Posting("hello", told);
        Assert.Equal("hello", Text(await exchange.Body.ReadAsync(5)));
        Assert.Equal("hello", Text(await exchange.Body.ReadAsync(100)));
        Assert.Equal(5, exchange.Request.ContentLength);
        Assert.Equal("hello", await ForUpstreamAsync(exchange));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_over_the_limit_is_a_413(bool told)
    {
        var refused = await Assert.ThrowsAsync<BadHttpRequestException>(async () => await Posting("hello", told).Body.ReadAsync(4));
        Assert.Equal((413, "the request's body is larger than 4 bytes"), (refused.StatusCode, refused.Message));
        var read = Posting("hello", told);
        await read.Body.ReadAsync(5);
        Assert.Equal(413, (await Assert.ThrowsAsync<BadHttpRequestException>(async () => await read.Body.ReadAsync(4))).StatusCode);
    }

    [Fact]
    public async Task What_is_put_in_its_place_goes_to_the_upstream()
    {
        var exchange = Posting("hello");
        exchange.Body.Replace("{}"u8.ToArray(), "application/json");
        Assert.Equal("{}", Text(await exchange.Body.ReadAsync(2)));
        Assert.Equal((2, "application/json", "{}"),
            (exchange.Request.ContentLength, exchange.Request.ContentType, await ForUpstreamAsync(exchange)));
    }

    [Fact]
    public void The_need_for_a_body_is_a_buffering_rule_that_everybody_sees()
    {
        IBufferingRule rule = new Needy();
        Assert.True(rule.RequestBuffering);
        Assert.Null(rule.ResponseBuffering);
    }

    sealed class Needy : INeedsRequestBody
    {
        public int MaxRequestBodyBytes => 1;
    }
}

using System.Text;
using Sluice.Net.Http;

namespace Sluice.Tests.Net.Http;

public class WordsTests
{
    [Theory]
    [InlineData("X-A_b.1~", true)]
    [InlineData("", false)]
    [InlineData("a b", false)]
    [InlineData("a:b", false)]
    [InlineData("é", false)]
    [InlineData("a\"b", false)]
    public void Names_of_headers_are_tokens(string name, bool token)
    {
        Assert.Equal(token, HeaderName.IsToken(name));
        Assert.Equal(token, HeaderName.IsToken(Encoding.Latin1.GetBytes(name)));
    }

    [Theory]
    [InlineData("connection", true, true)]
    [InlineData("Keep-Alive", true, true)]
    [InlineData("proxy-connection", true, true)]
    [InlineData("Transfer-Encoding", true, true)]
    [InlineData("Content-Length", true, true)]
    [InlineData("upgrade", true, true)]
    [InlineData("TE", true, false)]
    [InlineData("expect", true, false)]
    [InlineData("HTTP2-Settings", true, false)]
    [InlineData("Trailer", false, false)]
    [InlineData("X-Keep-Alive", false, false)]
    public void Headers_of_one_connection_stay_on_it(string name, bool ofRequests, bool ofResponses)
    {
        Assert.Equal(ofRequests, HopByHop.ContainsOfRequest(name));
        Assert.Equal(ofResponses, HopByHop.Contains(name));
    }

    [Theory]
    [InlineData(200, "200 OK")]
    [InlineData(103, "103 Early Hints")]
    [InlineData(405, "405 Not Allowed")]
    [InlineData(413, "413 Request Entity Too Large")]
    [InlineData(503, "503 Service Temporarily Unavailable")]
    [InlineData(504, "504 Gateway Time-out")]
    [InlineData(422, "422 Unprocessable Entity")]
    [InlineData(599, "599")]
    public void A_status_has_nginx_s_phrase_or_the_registry_s(int status, string text) => Assert.Equal(text, StatusText.WithCode(status));

    [Theory]
    [InlineData("text/event-stream", true)]
    [InlineData("Text/Event-Stream ; charset=utf-8", true)]
    [InlineData("application/x-ndjson", true)]
    [InlineData("application/grpc+proto", true)]
    [InlineData("multipart/x-mixed-replace;boundary=x", true)]
    [InlineData("text/event-streams", false)]
    [InlineData("text/html", false)]
    [InlineData("", false)]
    public void Media_types_of_streams_are_told_by_the_whole_type(string contentType, bool stream) =>
        Assert.Equal(stream, MediaType.IsStream(contentType));
}

using Microsoft.AspNetCore.Http;
using Sluice.Pipeline;

namespace Sluice.Tests.Pipeline;

public class GrpcStatusTests
{
    [Theory]
    [InlineData("application/grpc", "HTTP/2", true)]
    [InlineData("application/grpc+proto", "HTTP/2", true)]
    [InlineData("application/grpc; x=y", "HTTP/3", true)]
    [InlineData("application/grpc-web", "HTTP/2", false)]
    [InlineData("application/grpc", "HTTP/1.1", false)]
    [InlineData("application/json", "HTTP/2", false)]
    [InlineData(null, "HTTP/2", false)]
    public void A_gRPC_request_is_known_by_its_type_and_protocol(string? type, string protocol, bool expected)
    {
        var request = new DefaultHttpContext().Request;
        (request.ContentType, request.Protocol) = (type, protocol);
        Assert.Equal(expected, GrpcStatus.IsAsked(request));
    }

    [Theory]
    [InlineData(400, 13)]
    [InlineData(401, 16)]
    [InlineData(403, 7)]
    [InlineData(404, 12)]
    [InlineData(429, 14)]
    [InlineData(500, 2)]
    [InlineData(503, 14)]
    [InlineData(504, 14)]
    public void Statuses_are_mapped_as_gRPC_says(int http, int grpc)
    {
        var answer = GrpcStatus.Of(Answer.Message(http, "so nicht: ä").With("X-A", "1"));
        Assert.Equal((200, "application/grpc", 0), (answer.Status, answer.ContentType, answer.Body.Length));
        Assert.Equal($"X-A=1 grpc-status={grpc} grpc-message=so nicht: %C3%A4",
            string.Join(' ', answer.Headers.Select(header => $"{header.Key}={header.Value}")));
    }

    [Fact]
    public void A_page_becomes_the_statuss_name() =>
        Assert.Equal("503 Service Temporarily Unavailable", GrpcStatus.Of(Answer.Bare(503)).Headers[^1].Value);
}

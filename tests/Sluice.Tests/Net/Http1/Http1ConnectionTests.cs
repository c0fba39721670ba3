using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using CsCheck;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Net.Http1;
using Sluice.Observability;

namespace Sluice.Tests.Net.Http1;

public class Http1ConnectionTests
{
    const string Get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    sealed class Application(RequestDelegate answer) : IHttpApplication<HttpContext>
    {
        public HttpContext CreateContext(IFeatureCollection contextFeatures) => ((Http1Connection)contextFeatures).Context;

        public Task ProcessRequestAsync(HttpContext context) => answer(context);

        public void DisposeContext(HttpContext context, Exception? exception)
        {
        }
    }

    /// <summary>All that the connection sends, to these bytes of a client that then sends no more; null: it was aborted.</summary>
    static async Task<string?> AskAsync(string sent, RequestDelegate answer)
    {
        var (toServer, toClient) = (new Pipe(), new Pipe());
        var aborted = false;
        await using var connection = new Connection(toServer.Reader, toClient.Writer, () => aborted = true);
        using var settings = new Http1Settings(TimeProvider.System);
        using var server = new Http1Server<HttpContext>(settings, new Application(answer), null,
            new GatewayMetrics(NullLogger.Instance, new()).Connections);
        await toServer.Writer.WriteAsync(Encoding.Latin1.GetBytes(sent));
        await toServer.Writer.CompleteAsync();
        var running = server.RunAsync(connection);
        var received = new StringBuilder();
        while (true)
        {
            var read = await toClient.Reader.ReadAsync();
            foreach (var segment in read.Buffer)
            {
                received.Append(Encoding.Latin1.GetString(segment.Span));
            }
            toClient.Reader.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted)
            {
                break;
            }
        }
        await running;
        return aborted ? null : received.ToString();
    }

    sealed class Connection(PipeReader input, PipeWriter output, Action aborted)
        : DefaultConnectionContext("test", new Both(input, output), new Both(input, output))
    {
        public override void Abort(ConnectionAbortedException abortReason) => aborted();
    }

    sealed record Both(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    static string Body(string answer) => answer[(answer.IndexOf("\r\n\r\n", StringComparison.Ordinal) + 4)..];

    [Fact]
    public async Task An_answer_that_is_whole_before_it_is_sent_has_a_length()
    {
        var answer = await AskAsync(Get, static http =>
        {
            http.Response.BodyWriter.Write("hello"u8);
            return Task.CompletedTask;
        });
        Assert.Contains("\r\nContent-Length: 5\r\n", answer, StringComparison.Ordinal);
        Assert.EndsWith("\r\n\r\nhello", answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_empty_answer_says_so() =>
        Assert.Contains("\r\nContent-Length: 0\r\n", await AskAsync(Get, static _ => Task.CompletedTask), StringComparison.Ordinal);

    /// <summary>Pieces of every size, written in parts, flushed or not: the chunks carry them.</summary>
    [Fact]
    public async Task What_is_written_in_pieces_arrives_in_chunks() =>
        await Gen.Select(Gen.Int[0, 9000], Gen.Bool).Array[1, 6].SampleAsync(async pieces =>
        {
            var answer = await AskAsync(Get, async http =>
            {
                await http.Response.BodyWriter.FlushAsync();
                foreach (var (size, flush) in pieces)
                {
                    http.Response.BodyWriter.Write(Enumerable.Repeat((byte)'x', size).ToArray());
                    if (flush)
                    {
                        await http.Response.BodyWriter.FlushAsync();
                    }
                }
            });
            Assert.Contains("\r\nTransfer-Encoding: chunked\r\n", answer, StringComparison.Ordinal);
            var decoder = new Sluice.Net.ChunkedDecoder();
            var chunks = Encoding.Latin1.GetBytes(Body(answer!));
            var payload = new byte[chunks.Length];
            Assert.Equal(chunks.Length, decoder.Decode(chunks, payload, out var written));
            Assert.True(decoder.Done);
            Assert.Equal(pieces.Sum(static piece => piece.Item1), written);
        }, iter: 60);

    [Fact]
    public async Task An_answer_shorter_than_announced_is_never_a_clean_end() =>
        Assert.Null(await AskAsync(Get, static async http =>
        {
            http.Response.ContentLength = 10;
            await http.Response.BodyWriter.WriteAsync("hello"u8.ToArray());
        }));

    [Fact]
    public async Task A_handler_that_fails_in_the_middle_is_never_a_clean_end() =>
        Assert.Null(await AskAsync(Get, static async http =>
        {
            await http.Response.BodyWriter.WriteAsync("hello"u8.ToArray());
            throw new InvalidOperationException("a bug");
        }));

    [Fact]
    public async Task What_was_written_and_not_sent_can_be_taken_back()
    {
        var answer = await AskAsync(Get, static http =>
        {
            http.Response.BodyWriter.Write("wrong"u8);
            http.Features.Get<IDiscardableAnswer>()!.Discard();
            http.Response.BodyWriter.Write("right"u8);
            return Task.CompletedTask;
        });
        Assert.EndsWith("\r\n\r\nright", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(204, "GET")]
    [InlineData(304, "GET")]
    [InlineData(200, "HEAD")]
    public async Task A_response_that_may_have_no_body_is_sent_without_one(int status, string method)
    {
        var answer = await AskAsync($"{method} / HTTP/1.1\r\nHost: a\r\n\r\n", async http =>
        {
            http.Response.StatusCode = status;
            await http.Response.BodyWriter.WriteAsync("hello"u8.ToArray());
        });
        Assert.EndsWith("\r\n\r\n", answer, StringComparison.Ordinal);
        Assert.DoesNotContain("Transfer-Encoding", answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_body_larger_than_allowed_is_refused_while_it_is_read() =>
        Assert.StartsWith("HTTP/1.1 413 ",
            await AskAsync("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n", static async http =>
        {
            http.Features.Get<IHttpMaxRequestBodySizeFeature>()!.MaxRequestBodySize = 5;
            try
            {
                await http.Request.BodyReader.ReadAsync();
            }
            catch (BadHttpRequestException e)
            {
                http.Response.StatusCode = e.StatusCode;
            }
        }), StringComparison.Ordinal);

    [Fact]
    public async Task Features_of_one_request_are_not_the_next_ones()
    {
        var seen = new List<object?>();
        await AskAsync(Get + Get, http =>
        {
            seen.Add(http.Items.Count);
            http.Items["a"] = "b";
            return Task.CompletedTask;
        });
        Assert.Equal([0, 0], seen);
    }
}

using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging.Abstractions;
using Sluice.Api;

namespace Sluice.Tests.Api;

public class ApiServerTests
{
    sealed class Lifetime : IHttpRequestLifetimeFeature
    {
        public bool Aborted { get; private set; }

        public CancellationToken RequestAborted { get; set; }

        public void Abort() => Aborted = true;
    }

    static async Task<(int Status, string Body, bool Aborted)> AskAsync(string method, string target, params ApiRoute[] routes)
    {
        var http = new DefaultHttpContext();
        var (body, lifetime) = (new MemoryStream(), new Lifetime());
        http.Features.Set<IHttpRequestLifetimeFeature>(lifetime);
        http.Response.Body = body;
        http.Request.Method = method;
        http.Features.Get<IHttpRequestFeature>()!.RawTarget = target;
        var table = new ApiTable(routes);
        await new ApiServer("test", () => table, new OpenGate(), NullLogger<ApiServer>.Instance).HandleAsync(http);
        return (http.Response.StatusCode, Encoding.UTF8.GetString(body.ToArray()), lifetime.Aborted);
    }

    static ApiRoute Route(string method, string pattern, string name) =>
        new(method, pattern, ApiAccess.Open,
            call =>
            JsonAnswer.Text(200,
                $"{name} {string.Join(',', call.Values.Select(value => $"{value.Key}={value.Value}"))} {string.Join('/', call.Rest)}".Trim()));

    [Theory]
    [InlineData("GET", "/v1/route/a%20b?x=1", "200 one id=a b")]
    [InlineData("HEAD", "/v1/route/a", "200 one id=a")]
    [InlineData("GET", "/v1/route/special", "200 special")]
    [InlineData("POST", "/v1/route/a", "404")]
    [InlineData("GET", "/v1/route", "404")]
    [InlineData("GET", "/v1/route/a/b", "404")]
    [InlineData("PUT", "/v1/files", "200 rest")]
    [InlineData("PUT", "/v1/files/a/b", "200 rest  a/b")]
    [InlineData("GET", "/v1/route/a%2Fb", "400")]
    public async Task The_first_endpoint_that_takes_a_request_answers_it(string method, string target, string expected)
    {
        var (status, body, _) = await AskAsync(
            method, target, Route("GET", "/v1/route/special", "special"), Route("GET", "/v1/route/{id}", "one"),
            Route("*", "/v1/files/{path...}", "rest"));
        Assert.Equal(expected, status == 200 ? $"{status} {body}" : $"{status}");
    }

    [Fact]
    public async Task A_streamed_answer_that_fails_is_cut_and_never_ends_as_if_it_were_whole()
    {
        var (status, body, aborted) = await AskAsync("GET", "/events", new ApiRoute("GET", "/events", ApiAccess.Open, static _ =>
            new StreamedAnswer(200, "text/event-stream", static async (stream, cancel) =>
            {
                await stream.WriteAsync("data: 1\n\n"u8.ToArray(), cancel);
                throw new InvalidOperationException();
            })));
        Assert.Equal((200, "data: 1\n\n", true), (status, body, aborted));
    }

    [Fact]
    public async Task A_handler_that_fails_is_a_500()
    {
        var (status, _, aborted) = await AskAsync("GET", "/x",
            new ApiRoute("GET", "/x", ApiAccess.Open, static IApiAnswer (_) => throw new InvalidOperationException()));
        Assert.Equal((500, false), (status, aborted));
    }

    [Theory]
    [InlineData("GET", "<p>")]
    [InlineData("HEAD", "")]
    public async Task A_file_is_sent_with_its_length(string method, string expected)
    {
        var file = new FileAnswer("text/html", static () => new MemoryStream("<p>"u8.ToArray()));
        var http = new DefaultHttpContext();
        http.Request.Method = method;
        http.Response.Body = new MemoryStream();
        await file.SendAsync(http);
        Assert.Equal((3, expected.Length), (http.Response.ContentLength, http.Response.Body.Length));
    }
}

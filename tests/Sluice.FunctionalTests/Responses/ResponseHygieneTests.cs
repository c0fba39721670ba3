using System.Net;
using Sluice.FunctionalTests.Origins;
using Sluice.FunctionalTests.Requests;

namespace Sluice.FunctionalTests.Responses;

/// <summary>An upstream's answer that could be understood in two ways is a 502: nobody behind the gateway takes a body for an
/// answer.</summary>
public sealed class ResponseHygieneTests(HygieneFixture fixture) : IClassFixture<HygieneFixture>
{
    const string Ok = "HTTP/1.1 200 OK\r\n";

    public static TheoryData<string> Bad() =>
    [
        Ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        Ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        Ok + "Content-Length: 2, 2\r\n\r\nab",
        Ok + "Content-Length: -2\r\n\r\nab",
        Ok + "Content-Length: +2\r\n\r\nab",
        Ok + "Content-Length: 99999999999999999999\r\n\r\nab",
        Ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Ok + "Transfer-Encoding: gzip\r\n\r\nab",
        Ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Ok + "X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        Ok + "X-A: a\rb\r\nContent-Length: 0\r\n\r\n",
        Ok + "X-A: a\nX-B: b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        Ok + "X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
        Ok + "X-A : a\r\nContent-Length: 0\r\n\r\n",
        Ok + "no colon\r\nContent-Length: 0\r\n\r\n",
        Ok + ": no name\r\nContent-Length: 0\r\n\r\n",
        " " + Ok + "Content-Length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
        Ok + "X-A: cut off",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        Ok + "X-A: " + new string('a', 70_000) + "\r\nContent-Length: 0\r\n\r\n",
        Ok + string.Concat(Enumerable.Repeat("X-A: b\r\n", 12_000)) + "Content-Length: 0\r\n\r\n",
        string.Concat(Enumerable.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50)) + Ok + "Content-Length: 0\r\n\r\n",
    ];

    [Theory]
    [MemberData(nameof(Bad), DisableDiscoveryEnumeration = true)]
    public async Task An_ambiguous_answer_is_a_502(string answer)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(answer);
        });
        await fixture.Gateway.RouteAsync("bad", "/bad", origin.Port);
        using var response = await fixture.Gateway.Client.GetAsync(fixture.Gateway.Url("/bad"), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
        Assert.Equal(["502"], response.Headers.GetValues("X-APISIX-Upstream-Status"));
        Assert.Equal("{\"error_msg\":\"502 Bad Gateway\"}\n",
            await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData(Ok + "Content-Length: 2\r\n\r\nok" + Ok + "Content-Length: 4\r\n\r\nevil")]
    [InlineData(Ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + Ok + "Content-Length: 4\r\n\r\nevil")]
    [InlineData("HTTP/1.1 204 No Content\r\n\r\n" + Ok + "Content-Length: 4\r\n\r\nevil")]
    [InlineData("HTTP/1.1 304 Not Modified\r\n\r\nok" + Ok + "Content-Length: 4\r\n\r\nevil")]
    public async Task What_comes_behind_an_answer_is_nobodys_answer(string answer)
    {
        await using var origin = ScriptedOrigin.Start(
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(answer);
                await connection.ReadEndAsync();
            },
            async connection =>
            {
                await connection.ReadHeadAsync();
                await connection.SendAsync(Ok + "Content-Length: 4\r\n\r\ngood");
            });
        await fixture.Gateway.RouteAsync("surplus", "/surplus", origin.Port);
        Assert.DoesNotContain("evil", await GetAsync(), StringComparison.Ordinal);
        Assert.Equal("good", await GetAsync());
        Assert.Equal(2, origin.Accepted);

        async Task<string> GetAsync()
        {
            using var response = await fixture.Gateway.Client.GetAsync(fixture.Gateway.Url("/surplus"),
                TestContext.Current.CancellationToken);
            return await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        }
    }

    [Theory]
    [InlineData(Ok + "Content-Length: 10\r\n\r\nhalf")]
    [InlineData(Ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")]
    [InlineData(Ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n")]
    [InlineData(Ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX A: b\r\n\r\n")]
    public async Task A_body_that_breaks_off_has_no_clean_end_for_the_client_either(string answer)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(answer);
        });
        await fixture.Gateway.RouteAsync("half", "/half", origin.Port);
        await Assert.ThrowsAsync<HttpRequestException>(
            () => fixture.Gateway.Client.GetStringAsync(fixture.Gateway.Url("/half"), TestContext.Current.CancellationToken));
    }
}

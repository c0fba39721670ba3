using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Responses;

/// <summary>Answers on their way to the client: interim ones, those without a body, trailers, framing, headers of one connection.</summary>
public sealed class ResponseTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>
{
    static ScriptedOrigin Answering(string answer) => ScriptedOrigin.Start(async connection =>
    {
        await connection.ReadHeadAsync();
        await connection.SendAsync(answer);
        await connection.ReadEndAsync();
    });

    async Task<(OriginConnection Connection, string Head)> GetAsync(ScriptedOrigin origin, string headers = "", string method = "GET",
        string? more = null)
    {
        var path = await fixture.RouteAsync(origin.Port, more);
        return await RawConnection.AskAsync(fixture.Gateway.EndPoint, $"{method} {path} HTTP/1.1\r\nHost: x.test\r\n{headers}\r\n");
    }

    /// <summary>That the connection is in order: the next request on it is answered.</summary>
    static async Task NextAsync(OriginConnection client)
    {
        await client.SendAsync("GET /nowhere HTTP/1.1\r\nHost: x.test\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 404 ", await client.ReadHeadAsync(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("100 Continue", 0)]
    [InlineData("102 Processing", 2)]
    [InlineData("103 Early Hints", 2)]
    public async Task Interim_answers_of_the_upstream_are_not_taken_for_the_answer(string interim, int passedOn)
    {
        await using var origin = Answering(
            $"HTTP/1.1 {interim}\r\nLink: </style.css>\r\n\r\nHTTP/1.1 {interim}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        var (client, head) = await GetAsync(origin);
        using (client)
        {
            for (; passedOn > 0; passedOn--)
            {
                Assert.StartsWith($"HTTP/1.1 {interim}\r\n", head, StringComparison.Ordinal);
                head = await client.ReadHeadAsync();
            }
            Assert.StartsWith("HTTP/1.1 200 OK\r\n", head, StringComparison.Ordinal);
            Assert.DoesNotContain("style.css", head, StringComparison.Ordinal);
            await client.ExpectAsync("ok");
            await NextAsync(client);
        }
    }

    [Theory]
    [InlineData("200 OK", "Content-Length: 5\r\n", "\r\nContent-Length: 5\r\n")]
    [InlineData("200 OK", "Transfer-Encoding: chunked\r\n", null)]
    [InlineData("404 Not Found", "Content-Length: 5\r\n", "\r\nContent-Length: 5\r\n")]
    public async Task An_answer_to_HEAD_has_the_length_but_no_body(string status, string headers, string? expected)
    {
        await using var origin = Answering($"HTTP/1.1 {status}\r\n{headers}\r\n");
        var (client, head) = await GetAsync(origin, method: "HEAD");
        using (client)
        {
            Assert.StartsWith($"HTTP/1.1 {status}\r\n", head, StringComparison.Ordinal);
            if (expected is not null)
            {
                Assert.Contains(expected, head, StringComparison.OrdinalIgnoreCase);
            }
            await NextAsync(client);
        }
    }

    [Theory]
    [InlineData("204 No Content", "")]
    [InlineData("304 Not Modified", "ETag: \"a\"\r\nContent-Length: 5\r\n")]
    [InlineData("304 Not Modified", "Transfer-Encoding: chunked\r\n")]
    public async Task An_answer_without_a_body_ends_with_its_head(string status, string headers)
    {
        await using var origin = Answering($"HTTP/1.1 {status}\r\n{headers}\r\n");
        var (client, head) = await GetAsync(origin);
        using (client)
        {
            Assert.StartsWith($"HTTP/1.1 {status}\r\n", head, StringComparison.Ordinal);
            Assert.DoesNotContain("Transfer-Encoding", head, StringComparison.OrdinalIgnoreCase);
            await NextAsync(client);
        }
    }

    [Theory]
    [InlineData(Protocol.Http1, true)]
    [InlineData(Protocol.Http1, false)]
    [InlineData(Protocol.TlsHttp1, true)]
    [InlineData(Protocol.H2c, true)]
    [InlineData(Protocol.TlsHttp2, false)]
    public async Task Trailers_of_an_answer_reach_the_client(Protocol protocol, bool buffering)
    {
        await using var origin = Answering(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n");
        var path = await fixture.RouteAsync(origin.Port,
            $$""" "plugins":{"proxy-buffering":{"disable_proxy_buffering":{{(buffering ? "false" : "true")}}} } """);
        using var response = await fixture.SendAsync(protocol, path);
        Assert.Equal("body", await response.Content.ReadAsStringAsync());
        Assert.Equal(["42"], response.TrailingHeaders.GetValues("X-Sum"));
    }

    [Fact]
    public async Task An_empty_chunked_answer_ends()
    {
        await using var origin = Answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        using var response = await fixture.SendAsync(Protocol.Http1, await fixture.RouteAsync(origin.Port));
        Assert.Equal("", await response.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task Headers_of_one_connection_stay_on_it()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            foreach (var hop in (string[])["Keep-Alive", "Proxy-Connection", "X-Named", "Upgrade", "TE:", "Transfer-Encoding", "Expect"])
            {
                Assert.DoesNotContain($"\r\n{hop}", head, StringComparison.OrdinalIgnoreCase);
            }
            Assert.Contains("\r\nX-Kept: 1\r\n", head, StringComparison.OrdinalIgnoreCase);
            await connection.SendAsync(
                "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-Private: "
                    + "1\r\nX-Public: 1\r\n" +
                "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        var (client, head) = await GetAsync(origin,
            "Connection: X-Named\r\nKeep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\nX-Named: 1\r\nX-Kept: 1\r\nTE: gzip\r\n");
        using (client)
        {
            foreach (var hop in (string[])["Keep-Alive:", "Proxy-Connection", "X-Private"])
            {
                Assert.DoesNotContain($"\r\n{hop}", head, StringComparison.OrdinalIgnoreCase);
            }
            Assert.Contains("\r\nX-Public: 1\r\n", head, StringComparison.OrdinalIgnoreCase);
            Assert.Contains("\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n", head, StringComparison.OrdinalIgnoreCase);
            await client.ExpectAsync("ok");
            await NextAsync(client);
        }
    }

    [Theory]
    [InlineData("HTTP/1.1", "", "\r\nTransfer-Encoding: chunked\r\n")]
    [InlineData("HTTP/1.0", "", "\r\nConnection: close\r\n")]
    public async Task An_answer_without_length_is_framed_as_the_client_understands_it(string version, string headers, string expected)
    {
        await using var origin = Answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
        var path = await fixture.RouteAsync(origin.Port);
        var (client, head) = await RawConnection.AskAsync(fixture.Gateway.EndPoint,
            $"GET {path} {version}\r\nHost: x.test\r\n{headers}\r\n");
        using (client)
        {
            Assert.Contains(expected, head, StringComparison.OrdinalIgnoreCase);
            if (version == "HTTP/1.0")
            {
                Assert.DoesNotContain("Transfer-Encoding", head, StringComparison.OrdinalIgnoreCase);
                Assert.Equal(("body", false), await client.ReadRestAsync());
            }
            else
            {
                Assert.Equal("body", await client.ReadChunkAsync());
            }
        }
    }

    [Theory]
    [InlineData("http { chunked_transfer_encoding off; }")]
    [InlineData("http { server { server_name x.test; chunked_transfer_encoding off; } }")]
    [InlineData("http { server { server_name x.test; location /a { chunked_transfer_encoding off; } } }")]
    public async Task Without_chunks_the_end_of_the_connection_is_the_end_of_the_answer(string nginx)
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await using var gateway = await TestGateway.StartAsync(nginx: nginx);
        await gateway.RouteAsync("r1", "/a", origin.Port);
        var (client, head) = await RawConnection.AskAsync(gateway.EndPoint, "GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n");
        using (client)
        {
            Assert.StartsWith("HTTP/1.1 200 OK\r\n", head, StringComparison.Ordinal);
            Assert.DoesNotContain("Transfer-Encoding", head, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain("Content-Length", head, StringComparison.OrdinalIgnoreCase);
            Assert.Contains("\r\nConnection: close\r\n", head, StringComparison.OrdinalIgnoreCase);
            await origin.SendAsync(EventOrigin.Event(0));
            await client.ExpectAsync(EventOrigin.Event(0));
            await origin.SendAsync(EventOrigin.Event(1));
            await client.ExpectAsync(EventOrigin.Event(1));
            origin.End();
            Assert.Equal(("", false), await client.ReadRestAsync());
        }
    }

    [Fact]
    public async Task Without_chunks_an_answer_with_a_length_keeps_it_and_the_connection()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync(nginx: "http { chunked_transfer_encoding off; }");
        await gateway.RouteAsync("r1", "/a", origin.Port);
        using var client = await RawConnection.ConnectAsync(gateway.EndPoint);
        for (var i = 0; i < 2; i++)
        {
            await client.SendAsync("HEAD /a HTTP/1.1\r\nHost: x.test\r\n\r\n");
            Assert.Contains("\r\nContent-Length: ", await client.ReadHeadAsync(), StringComparison.OrdinalIgnoreCase);
        }
    }

    [Fact]
    public async Task A_head_that_is_larger_than_the_limit_is_a_502()
    {
        await using var origin = Answering($"HTTP/1.1 200 OK\r\nX-Large: {new string('x', 70_000)}\r\nContent-Length: 0\r\n\r\n");
        using var response = await fixture.SendAsync(Protocol.Http1, await fixture.RouteAsync(origin.Port));
        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
    }
}

using System.Net;
using Sluice.FunctionalTests.Bodies;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>An upstream that dies in the middle of its answer: the client sees that the answer is not whole, in the words of each
/// framing.</summary>
public sealed class BrokenStreamTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>
{
    static readonly Dictionary<string, (string Head, string Body)> Answers = new()
    {
        ["FIN between chunks"] = ("Transfer-Encoding: chunked\r\n", "4\r\ndata\r\n"),
        ["FIN in a chunk"] = ("Transfer-Encoding: chunked\r\n", "ff\r\ndata"),
        ["FIN in a chunk's size"] = ("Transfer-Encoding: chunked\r\n", "4\r\ndata\r\n1"),
        ["FIN before the trailers end"] = ("Transfer-Encoding: chunked\r\n", "4\r\ndata\r\n0\r\nA: b\r\n"),
        ["bad chunk size"] = ("Transfer-Encoding: chunked\r\n", "4\r\ndata\r\nnonsense\r\n"),
        ["short Content-Length"] = ("Content-Length: 100\r\n", "data"),
    };

    public static TheoryData<string, Protocol, bool> Cases()
    {
        TheoryData<string, Protocol, bool> cases = [];
        foreach (var name in Answers.Keys)
        {
            foreach (var protocol in (Protocol[])[Protocol.Http1, Protocol.H2c])
            {
                cases.Add(name, protocol, true);
                cases.Add(name, protocol, false);
            }
        }
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task The_client_gets_what_came_and_then_an_abort(string answer, Protocol protocol, bool buffering)
    {
        var (head, body) = Answers[answer];
        var clientHasData = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync($"HTTP/1.1 200 OK\r\n{head}\r\n{body[..body.IndexOf("data", StringComparison.Ordinal)]}data");
            await clientHasData.Task;
            await connection.SendAsync(body[(body.IndexOf("data", StringComparison.Ordinal) + 4)..]);
        });
        var path = await fixture.RouteAsync(origin.Port, Buffering(buffering));
        using var response = await fixture.SendAsync(protocol, path);
        using var stream = await response.Content.ReadAsStreamAsync();
        var data = new byte[4];
        await stream.ReadExactlyAsync(data);
        Assert.Equal("data"u8.ToArray(), data);
        clientHasData.SetResult();

        var failure = await Assert.ThrowsAnyAsync<IOException>(async () => await stream.ReadAsync(data));
        if (protocol == Protocol.H2c)
        {
            // the stream is reset; the connection and its other streams live on
            Assert.Equal(HttpRequestError.HttpProtocolError, Assert.IsType<HttpProtocolException>(failure).HttpRequestError);
            using var next = await fixture.SendAsync(protocol, "/nowhere");
            Assert.Equal(HttpStatusCode.NotFound, next.StatusCode);
        }
    }

    [Fact]
    public async Task What_came_together_with_the_break_is_delivered_before_the_abort()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe last words");
        });
        var path = await fixture.RouteAsync(origin.Port);
        // many, since the bytes raced with the abort
        for (var i = 0; i < 300; i++)
        {
            using var client = await RawClient.ConnectAsync(fixture.Gateway.EndPoint);
            await client.SendAsync($"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            Assert.EndsWith("\r\n\r\nthe last words", await client.RestAsync());
        }
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_chunked_answer_that_breaks_off_has_no_last_chunk(bool buffering, bool reset)
    {
        await using var broken = new EventOrigin(Framing.ChunkPerEvent, contentType: "text/plain");
        var path = await fixture.RouteAsync(broken.Port, Buffering(buffering));
        var (client, _) = await RawConnection.GetAsync(fixture.Gateway.EndPoint, path);
        using (client)
        {
            await broken.SendAsync("data");
            Assert.Equal("data", await client.ReadChunkAsync());
            if (reset)
            {
                await broken.ResetAsync();
            }
            else
            {
                await broken.BreakOffAsync();
            }
            var rest = await client.ReadRestAsync();
            Assert.Equal("", rest.Text);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_close_delimited_answer_that_breaks_off_ends_with_a_reset(bool buffering)
    {
        await using var gateway = await TestGateway.StartAsync(
            nginx: $"http {{ chunked_transfer_encoding off; proxy_buffering {(buffering ? "on" : "off")}; }}");
        await using var broken = new EventOrigin(Framing.ChunkPerEvent, contentType: "text/plain");
        await gateway.RouteAsync("r1", "/stream", broken.Port);
        var (client, head) = await RawConnection.GetAsync(gateway.EndPoint, "/stream");
        using (client)
        {
            Assert.Contains("\r\nConnection: close\r\n", head, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain("Transfer-Encoding", head, StringComparison.OrdinalIgnoreCase);
            await broken.SendAsync("data");
            await client.ExpectAsync("data");
            await broken.BreakOffAsync();
            Assert.Equal(("", true), await client.ReadRestAsync());
        }
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public async Task A_silent_upstream_is_cut_off_after_the_read_timeout(bool buffering, bool filtered)
    {
        await using var silent = new EventOrigin(Framing.ChunkPerEvent, contentType: "text/plain");
        var path = await fixture.RouteAsync(silent.Port,
            """ "timeout":{"connect":10,"send":10,"read":0.3}, """ + Buffering(buffering, filtered));
        using var response = await fixture.SendAsync(Protocol.Http1, path);
        using var stream = await response.Content.ReadAsStreamAsync();
        await silent.SendAsync("data");
        await stream.ReadExactlyAsync(new byte[4]);
        await Assert.ThrowsAnyAsync<IOException>(async () => await stream.ReadAsync(new byte[1]));
        await silent.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
        await fixture.Gateway.ErrorLogSaysAsync("read_timeout");
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public async Task A_client_that_takes_nothing_is_cut_off_after_the_send_timeout(bool buffering, bool filtered)
    {
        // with buffering on, a small file, so that the upstream is held back too
        await using var gateway = await TestGateway.StartAsync(
            nginx: $"http {{ send_timeout 500ms; proxy_buffering {(buffering ? "on" : "off")}; proxy_max_temp_file_size 0; }}");
        var gone = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            var piece = new byte[64 * 1024];
            try
            {
                while (true)
                {
                    await connection.SendAsync(piece);
                }
            }
            catch (IOException)
            {
                gone.SetResult();
            }
        });
        await gateway.RouteAsync("r1", "/big", origin.Port, filtered ? $$""" "plugins":{ {{RelayedBytesTests.Untouched}} } """ : null);
        var (client, _) = await RawConnection.GetAsync(gateway.EndPoint, "/big");
        using (client)
        {
            await gone.Task.WaitAsync(TimeSpan.FromSeconds(30));
            var rest = await client.ReadRestAsync();
            Assert.True(rest.Reset);
            Assert.InRange(rest.Text.Length, 1, 100_000_000);
        }
    }

    [Fact]
    public async Task Over_HTTP2_a_client_that_takes_nothing_loses_its_stream_and_keeps_its_connection()
    {
        await using var gateway = await TestGateway.StartAsync(nginx: "http { send_timeout 500ms; proxy_buffering off; }");
        await using var origin = new EventOrigin(Framing.ChunkPerEvent, contentType: "text/plain");
        await gateway.RouteAsync("r1", "/big", origin.Port);
        async Task<HttpResponseMessage> GetAsync(string path) => await gateway.Client.SendAsync(
            new HttpRequestMessage(HttpMethod.Get, gateway.Url(path)) { Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact },
            HttpCompletionOption.ResponseHeadersRead);
        using var response = await GetAsync("/big");
        // more than the stream's window
        await origin.SendAsync(new string('x', 1_000_000));
        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
        using var body = await response.Content.ReadAsStreamAsync();
        await Assert.ThrowsAnyAsync<IOException>(() => body.CopyToAsync(Stream.Null));
        using var next = await GetAsync("/nowhere");
        Assert.Equal(HttpStatusCode.NotFound, next.StatusCode);
    }

    /// <param name="filtered">A body filter gets each piece and gives it back as it is.</param>
    static string Buffering(bool on, bool filtered = false) =>
        $$""" "plugins":{"proxy-buffering":{"disable_proxy_buffering":{{(on ? "false" : "true")}}}{{(filtered ? "," + RelayedBytesTests.Untouched : "")}} } """;
}

using System.Globalization;
using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Bodies;

/// <summary>A7: bodies of requests, streamed to the upstream as they come or sent when they are whole.</summary>
public sealed class RequestBodyTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>
{
    const string Off = """ "plugins":{"proxy-control":{"request_buffering":false}} """;
    const string On = """ "plugins":{"proxy-control":{"request_buffering":true}} """;

    /// <summary>A request's body that the test gives out piece by piece.</summary>
    sealed class DrivenContent(long? length) : HttpContent
    {
        readonly System.Threading.Channels.Channel<string> _pieces = System.Threading.Channels.Channel.CreateUnbounded<string>();

        public void Send(string piece) => _pieces.Writer.TryWrite(piece);

        public void End() => _pieces.Writer.TryComplete();

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.FlushAsync();
            await foreach (var piece in _pieces.Reader.ReadAllAsync())
            {
                await stream.WriteAsync(System.Text.Encoding.Latin1.GetBytes(piece));
                await stream.FlushAsync();
            }
        }

        protected override bool TryComputeLength(out long known)
        {
            known = length ?? 0;
            return length is not null;
        }
    }

    public static TheoryData<Protocol, bool> Uploads() => new()
    {
        { Protocol.Http1, true }, { Protocol.Http1, false }, { Protocol.H2c, true }, { Protocol.H2c, false }, { Protocol.TlsHttp2, false },
    };

    [Theory]
    [MemberData(nameof(Uploads))]
    public async Task With_buffering_off_the_upstream_sees_each_piece_before_the_next_is_sent(Protocol protocol, bool withLength)
    {
        using var content = new DrivenContent(withLength ? 12 : null);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            Assert.Contains(withLength ? "\r\nContent-Length: 12\r\n" : "\r\nTransfer-Encoding: chunked\r\n", head,
                StringComparison.OrdinalIgnoreCase);
            foreach (var piece in (string[])["one.", "two.", "six."])
            {
                content.Send(piece);
                Assert.Equal(piece, withLength ? await connection.ReadAsync(4) : await connection.ReadChunkAsync());
            }
            content.End();
            Assert.Equal("", withLength ? "" : await connection.ReadChunkAsync());
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        using var response = await SendAsync(protocol, await fixture.RouteAsync(origin.Port, Off), content);
        Assert.Equal("ok", await response.Content.ReadAsStringAsync());
    }

    [Theory]
    [MemberData(nameof(Uploads))]
    public async Task With_buffering_on_the_upstream_sees_nothing_before_the_body_is_whole(Protocol protocol, bool withLength)
    {
        using var content = new DrivenContent(withLength ? 8 : null);
        var whole = false;
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            Assert.True(Volatile.Read(ref whole), "the upstream was asked too early");
            // whole means known length, whatever the client said
            Assert.Contains("\r\nContent-Length: 8\r\n", head, StringComparison.OrdinalIgnoreCase);
            await connection.ExpectAsync("one.two.");
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        var sending = SendAsync(protocol, await fixture.RouteAsync(origin.Port, On), content);
        content.Send("one.");
        // time for a gateway that does not wait to be caught
        await Task.Delay(100, TestContext.Current.CancellationToken);
        Assert.Equal(0, origin.Accepted);
        Volatile.Write(ref whole, true);
        content.Send("two.");
        content.End();
        using var response = await sending;
        Assert.Equal("ok", await response.Content.ReadAsStringAsync());
    }

    [Theory]
    [InlineData("", "http { proxy_request_buffering off; }", true)]
    [InlineData("", "http { proxy_request_buffering on; server { server_name up.test; proxy_request_buffering off; } }", true)]
    [InlineData("", "http { proxy_request_buffering off; server { server_name up.test; location / { proxy_request_buffering on; } } }",
        false)]
    [InlineData("nginx_config: {http: {proxy_request_buffering: off}}", "", true)]
    [InlineData("nginx_config: {http: {proxy_request_buffering: off}}", "http { proxy_request_buffering on; }", false)]
    [InlineData("nginx_config: {http: {proxy_request_buffering: false}}", "http { server { server_name up.test; } }", true)]
    public async Task The_directive_does_the_same_as_the_plugin(string config, string nginx, bool streamed)
    {
        using var content = new DrivenContent(8);
        var seen = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            seen.SetResult();
            await connection.ExpectAsync("one.two.");
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        await using var gateway = await TestGateway.StartAsync(config, nginx);
        await gateway.RouteAsync("r1", "/up", origin.Port);
        using var request = new HttpRequestMessage(HttpMethod.Post, gateway.Url("/up")) { Content = content,
            Headers = { Host = "up.test" } };
        var sending = gateway.Client.SendAsync(request);
        content.Send("one.");
        if (streamed)
        {
            await seen.Task.WaitAsync(TimeSpan.FromSeconds(30));
        }
        else
        {
            await Task.Delay(100, TestContext.Current.CancellationToken);
            Assert.False(seen.Task.IsCompleted);
        }
        content.Send("two.");
        content.End();
        using var response = await sending;
        Assert.Equal("ok", await response.Content.ReadAsStringAsync());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Large_uploads_arrive_whole(bool buffered)
    {
        const int Size = 12_000_000;
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            long sum = 0;
            for (var at = 0; at < Size;)
            {
                await connection.ReadAsync(1);
                at++;
                var more = connection.TakeAll(Size - at);
                at += more.Length;
                sum += more.Sum(letter => (long)letter);
            }
            await connection.SendAsync(
                $"HTTP/1.1 200 OK\r\nContent-Length: {Size.ToString(CultureInfo.InvariantCulture).Length}\r\n\r\n{Size}");
            await connection.ReadEndAsync();
            Assert.NotEqual(0, sum);
        });
        var path = await fixture.RouteAsync(origin.Port, buffered ? On : Off);
        using var request = new HttpRequestMessage(HttpMethod.Put,
            fixture.Url(Protocol.Http1, path)) { Content = new ByteArrayContent(new byte[Size].Select((_, i) => (byte)i).ToArray()) };
        using var response = await fixture.Client(Protocol.Http1).SendAsync(request);
        Assert.Equal($"{Size}", await response.Content.ReadAsStringAsync());
        Assert.Empty(Directory.GetFiles(Path.Combine(fixture.Gateway.Prefix, "data", "tmp")));
    }

    [Theory]
    [InlineData(On)]
    [InlineData(Off)]
    public async Task A_client_that_expects_100_continue_gets_it_before_it_sends(string plugins)
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            Assert.DoesNotContain("Expect:", head, StringComparison.OrdinalIgnoreCase);
            await connection.ExpectAsync("body");
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        var path = await fixture.RouteAsync(origin.Port, plugins);
        using var client = await RawConnection.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync($"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 100 Continue\r\n", await client.ReadHeadAsync(), StringComparison.Ordinal);
        await client.SendAsync("body");
        Assert.StartsWith("HTTP/1.1 200 OK\r\n", await client.ReadHeadAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_client_that_is_refused_is_not_asked_for_its_body()
    {
        using var client = await RawConnection.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 404 ", await client.ReadHeadAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_answer_that_comes_before_the_body_is_sent_is_passed_on_at_once()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
            await connection.ReadEndAsync();
        });
        var path = await fixture.RouteAsync(origin.Port, Off);
        using var client = await RawConnection.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync($"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\nbegin");
        Assert.StartsWith("HTTP/1.1 413 ", await client.ReadHeadAsync(), StringComparison.Ordinal);
        await client.ExpectAsync("big");
    }

    [Theory]
    [InlineData(On)]
    [InlineData(Off)]
    public async Task A_client_that_leaves_in_the_middle_of_its_body_leaves_no_request_behind(string plugins)
    {
        var ends = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.ReadEndAsync();
            ends.SetResult();
        });
        var path = await fixture.RouteAsync(origin.Port, plugins);
        using (var client = await RawConnection.ConnectAsync(fixture.Gateway.EndPoint))
        {
            await client.SendAsync($"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbegin");
            if (plugins == Off)
            {
                await Eventually.TrueAsync(() => origin.Accepted == 1, "the upstream was not asked");
            }
        }
        if (plugins == Off)
        {
            await ends.Task.WaitAsync(TimeSpan.FromSeconds(30));
        }
        else
        {
            Assert.Equal(0, origin.Accepted);
        }
    }

    [Fact]
    public async Task Trailers_of_a_request_reach_the_upstream()
    {
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            Assert.Equal("body", await connection.ReadChunkAsync());
            Assert.Equal("", await connection.ReadChunkAsync());
            Assert.Equal("X-Sum: 42\r\n\r\n", await connection.ReadUntilAsync("\r\n\r\n"), ignoreCase: true);
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            await connection.ReadEndAsync();
        });
        var path = await fixture.RouteAsync(origin.Port, Off);
        using var client = await RawConnection.ConnectAsync(fixture.Gateway.EndPoint);
        await client.SendAsync(
            $"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 200 OK\r\n", await client.ReadHeadAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Both_directions_of_one_request_are_streams()
    {
        using var content = new DrivenContent(null);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n");
            while (await connection.ReadChunkAsync() is { Length: > 0 } piece)
            {
                await connection.SendAsync($"{piece.Length:x}\r\n{piece}\r\n");
            }
            await connection.SendAsync("0\r\n\r\n");
            await connection.ReadEndAsync();
        });
        var path = await fixture.RouteAsync(origin.Port, Off);
        using var response = await SendAsync(Protocol.H2c, path, content);
        using var body = await response.Content.ReadAsStreamAsync();
        var echo = new byte[5];
        foreach (var line in (string[])["ping\n", "pong\n"])
        {
            content.Send(line);
            await body.ReadExactlyAsync(echo).AsTask().WaitAsync(TimeSpan.FromSeconds(30));
            Assert.Equal(line, System.Text.Encoding.Latin1.GetString(echo));
        }
        content.End();
        Assert.Equal(0, await body.ReadAsync(echo));
    }

    Task<HttpResponseMessage> SendAsync(Protocol protocol, string path, HttpContent content) => fixture.Client(protocol).SendAsync(
        new HttpRequestMessage(HttpMethod.Post, fixture.Url(protocol, path))
        {
            Content = content,
            Version = protocol is Protocol.H2c or Protocol.TlsHttp2 ? HttpVersion.Version20 : HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        },
        HttpCompletionOption.ResponseHeadersRead);
}

using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams;

/// <summary>How many streams at a time: who is let in, who makes room, and that no place is lost whatever ends a stream.</summary>
public sealed class ConcurrentStreamsTests : IAsyncLifetime
{
    ScriptedOrigin _origin = null!;
    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            if (head.Contains("/body", StringComparison.Ordinal))
            {
                await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
            }
            else
            {
                var ends = head.Contains("/ends", StringComparison.Ordinal);
                await connection.SendAsync(
                    $"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n{(ends ? "0\r\n\r\n" : "")}");
                if (ends || head.Contains("/breaks", StringComparison.Ordinal))
                {
                    return;
                }
            }
            await connection.ReadEndAsync();
        });
        _gateway = await TestGateway.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    Task RouteAsync(string entry, string more = "") =>
        _gateway.RouteAsync("r1", "/*", _origin.Port,
            $$$""" "plugins":{"prometheus":{},"streaming":{"concurrent":[{"key":"$http_x_user",{{{entry}}}}]} {{{more}}} } """);

    async Task<OriginConnection?> OpenAsync(string path, string user)
    {
        var client = await RawConnection.ConnectAsync(_gateway.EndPoint);
        await client.SendAsync($"GET {path} HTTP/1.1\r\nHost: x\r\nX-User: {user}\r\n\r\n");
        var head = await client.ReadHeadAsync();
        if (head.StartsWith("HTTP/1.1 200 ", StringComparison.Ordinal))
        {
            return client;
        }
        Assert.StartsWith("HTTP/1.1 429 ", head, StringComparison.Ordinal);
        Assert.Matches("\r\nRetry-After: [456]\r\n", head);
        await client.ReadUntilAsync("""{"error_msg":"too many streams"}""");
        client.Dispose();
        return null;
    }

    [Fact]
    public async Task One_more_is_refused_where_its_key_has_as_many_as_it_may()
    {
        await RouteAsync("\"limit\":2");
        using var one = await OpenAsync("/a", "ann");
        using var two = await OpenAsync("/a", "ann");
        Assert.Null(await OpenAsync("/a", "ann"));
        using var other = await OpenAsync("/a", "bob");
        Assert.NotNull(other);
        using (var client = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/a")))
        {
            // who has no key is not counted
            using var response = await _gateway.Client.SendAsync(client, HttpCompletionOption.ResponseHeadersRead, Cancel);
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }
        // a smaller limit ends nobody, and counts who is there
        await RouteAsync("\"limit\":1");
        Assert.Null(await OpenAsync("/a", "ann"));
        await Eventually.TrueAsync(() => _gateway.Gateway.Live.Count == 3, "not three are left");
    }

    [Theory]
    [InlineData("evict_oldest")]
    [InlineData("evict_idle")]
    public async Task The_oldest_or_the_most_silent_makes_room(string onFull)
    {
        await RouteAsync($"\"limit\":2,\"on_full\":\"{onFull}\"");
        using var one = (await OpenAsync("/a", "ann"))!;
        using var two = (await OpenAsync("/a", "ann"))!;
        await Eventually.TrueAsync(() => _gateway.Gateway.Live.Count == 2, "not both are there");
        var first = _gateway.Gateway.Live.List()[0].Id;
        using var three = await OpenAsync("/a", "ann");
        Assert.NotNull(three);
        const string Words =
            "event: end\ndata: {\"reason\":\"evicted\",\"message\":\"another stream has taken this one's place\"}\n\n\r\n0\r\n\r\n";
        Assert.EndsWith(Words, await one.ReadUntilAsync("\r\n0\r\n\r\n"), StringComparison.Ordinal);
        await Eventually.TrueAsync(() => _gateway.Gateway.Live.FindEnded(first)?.Reason == "evicted", "the first was not evicted");
        Assert.Equal(2, _gateway.Gateway.Live.Count);
    }

    [Theory]
    [InlineData("leaves", "/a")]
    [InlineData("ends", "/ends")]
    [InlineData("breaks off", "/breaks")]
    [InlineData("no stream", "/body")]
    [InlineData("killed", "/a")]
    [InlineData("filter fails", "/a")]
    [InlineData("reload", "/a")]
    [InlineData("HTTP/2 reset", "/a")]
    [InlineData("budget", "/a")]
    public async Task A_place_is_given_back_whatever_ends_a_stream(string how, string path)
    {
        var more = how switch
        {
            "filter fails" =>
                ""","serverless-post-function":{"phase":"body_filter","functions":["return function() error('on purpose') end"]} """,
            _ => "",
        };
        await RouteAsync("\"limit\":1", more);
        if (how == "budget")
        {
            await _gateway.RouteAsync("r1", "/*", _origin.Port,
                """ "plugins":{"streaming":{"max_events":1,"concurrent":[{"key":"$http_x_user","limit":1}]}} """);
        }
        for (var i = 0; i < 3; i++)
        {
            if (how == "HTTP/2 reset")
            {
                using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url(path)) { Version = HttpVersion.Version20,
                    VersionPolicy = HttpVersionPolicy.RequestVersionExact };
                request.Headers.Add("X-User", "ann");
                using var response = await _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
                Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            }
            else
            {
                using var client = await RawConnection.ConnectAsync(_gateway.EndPoint);
                await client.SendAsync($"GET {path} HTTP/1.1\r\nHost: x\r\nX-User: ann\r\nConnection: close\r\n\r\n");
                if (how is "filter fails" or "breaks off" or "ends")
                {
                    await client.ReadRestAsync();
                }
                else
                {
                    await client.ReadUntilAsync(how == "no stream" ? "abc" : "data: 1\n\n");
                }
                if (how == "no stream")
                {
                    // it goes on, and holds no place
                    using var second = await OpenAsync("/a", "ann");
                    Assert.NotNull(second);
                }
                if (how == "killed")
                {
                    Assert.All(_gateway.Gateway.Live.List(), stream => Assert.True(stream.Kill("enough")));
                }
                if (how == "reload")
                {
                    await _gateway.ReloadAsync();
                    Assert.Null(await OpenAsync(path, "ann"));
                }
            }
            await Eventually.TrueAsync(() => _gateway.Gateway.Live.Count == 0, "the stream goes on");
        }
        // the places are those of before: what counts is where the entry stands
        await RouteAsync("\"limit\":1");
        using var last = await OpenAsync("/a", "ann");
        Assert.NotNull(last);
    }
}

using System.Net;
using Sluice.FunctionalTests.Origins;
using Sluice.Net;

namespace Sluice.FunctionalTests.Upstreams;

public sealed class OutgoingHttpTests : IDisposable
{
    readonly ManualClock _clock = new();
    readonly OutgoingHttp _http;

    public OutgoingHttpTests() => _http = new(_clock);

    static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _http.Dispose();

    static ScriptedOrigin Answering(string answer) => ScriptedOrigin.Start(async connection =>
    {
        while (true)
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(answer);
        }
    });

    Task<OutgoingResponse> GetAsync(ScriptedOrigin origin, OutgoingOptions? options = null, string scheme = "http") =>
        _http.SendAsync(OutgoingHttp.Request("GET", $"{scheme}://127.0.0.1:{origin.Port}/x"), options ?? new(), Cancellation);

    [Fact]
    public async Task A_connection_serves_the_next_call_too()
    {
        await using var origin = Answering("HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nhi");
        var first = await GetAsync(origin);
        Assert.Equal((200, "hi", "1"), (first.Status, first.Text, first.Header("x-a")));
        Assert.Equal(2, first.Headers.Count(header => header.Key == "X-A"));
        await GetAsync(origin);
        Assert.Equal(1, origin.Accepted);
        await GetAsync(origin, new() { KeepAlive = false });
        Assert.Equal(2, origin.Accepted);
    }

    [Fact]
    public async Task Redirects_are_answers()
    {
        await using var origin = Answering("HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n");
        Assert.Equal((302, "/y"), (await GetAsync(origin)) is var answer ? (answer.Status, answer.Header("Location")) : default);
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789x")]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789x\r\n0\r\n\r\n")]
    public async Task A_body_over_the_limit_is_a_failure(string answer)
    {
        await using var origin = Answering(answer);
        var failure = await Assert.ThrowsAsync<OutgoingException>(() => GetAsync(origin, new() { MaxResponseBytes = 10 }));
        Assert.Equal((OutgoingFailure.TooLarge, "the response is larger than 10 bytes"), (failure.Kind, failure.Message));
        Assert.Equal(11, (await GetAsync(origin, new() { MaxResponseBytes = 11 })).Body.Length);
    }

    [Fact]
    public async Task Silence_ends_a_call_at_its_time_limit()
    {
        var asked = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
            asked.SetResult();
            await connection.StallAsync();
        });
        var call = GetAsync(origin, new() { Timeout = TimeSpan.FromSeconds(3) });
        await asked.Task;
        _clock.Advance(TimeSpan.FromSeconds(3));
        var failure = await Assert.ThrowsAsync<OutgoingException>(() => call);
        Assert.Equal((OutgoingFailure.Timeout, "timeout"), (failure.Kind, failure.Message));
    }

    [Fact]
    public async Task What_goes_wrong_is_said_in_few_words()
    {
        int port;
        await using (var gone = Answering(""))
        {
            port = gone.Port;
        }
        var refused = await Assert.ThrowsAsync<OutgoingException>(
            () => _http.SendAsync(OutgoingHttp.Request("GET", $"http://127.0.0.1:{port}/"), new(), Cancellation));
        Assert.Equal((OutgoingFailure.Connect, "connection refused"), (refused.Kind, refused.Message));
        await using var closing = ScriptedOrigin.Start(async connection => await connection.ReadHeadAsync());
        var closed = await Assert.ThrowsAsync<OutgoingException>(() => GetAsync(closing));
        Assert.Equal((OutgoingFailure.Broken, "closed"), (closed.Kind, closed.Message));
    }

    [Fact]
    public async Task A_certificate_is_checked_unless_the_configuration_says_otherwise()
    {
        using var certificate = ScriptedOrigin.SelfSigned("out.test");
        await using var origin = ScriptedOrigin.StartTls(certificate, async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 204 No Content\r\n\r\n");
        });
        Assert.Equal(OutgoingFailure.Tls, (await Assert.ThrowsAsync<OutgoingException>(() => GetAsync(origin, scheme: "https"))).Kind);
        Assert.Equal(204, (await GetAsync(origin, new() { Tls = OutgoingTls.Unverified }, "https")).Status);
        // a connection of the one is not the other's
        Assert.Equal(OutgoingFailure.Tls, (await Assert.ThrowsAsync<OutgoingException>(() => GetAsync(origin, scheme: "https"))).Kind);
        var roots = new TrustedRoots(certificate.ExportCertificatePem());
        Assert.Equal(204, (await GetAsync(origin, new() { Tls = new() { Roots = roots, ServerName = "out.test" } }, "https")).Status);
        Assert.Equal(
            OutgoingFailure.Tls,
            (await Assert.ThrowsAsync<OutgoingException>(
                () => GetAsync(origin, new() { Tls = new() { Roots = roots, ServerName = "other.test" } }, "https"))).Kind);
    }

    [Fact]
    public async Task The_environments_proxy_is_not_used()
    {
        await using var origin = Answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        await using var proxy = Answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy");
        var before = HttpClient.DefaultProxy;
        HttpClient.DefaultProxy = new ProxyFor(origin.Port, new Uri($"http://127.0.0.1:{proxy.Port}"), before);
        try
        {
            Assert.Equal("hi", (await GetAsync(origin)).Text);
            Assert.Equal("proxy", (await GetAsync(origin, new() { Proxy = new Uri($"http://127.0.0.1:{proxy.Port}") })).Text);
        }
        finally
        {
            HttpClient.DefaultProxy = before;
        }
    }

    /// <summary>The process's proxy, of one port only: other tests run beside this one.</summary>
    sealed class ProxyFor(int port, Uri proxy, IWebProxy others) : IWebProxy
    {
        public ICredentials? Credentials { get; set; }

        public Uri? GetProxy(Uri destination) => destination.Port == port ? proxy : others.GetProxy(destination);

        public bool IsBypassed(Uri host) => host.Port != port && others.IsBypassed(host);
    }

    [Fact]
    public async Task Streams_are_read_as_they_come()
    {
        var go = new TaskCompletionSource();
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
            await go.Task;
            await connection.SendAsync("3\r\ntwo\r\n0\r\n\r\n");
        });
        using var response = await _http.OpenAsync(OutgoingHttp.Request("GET", $"http://127.0.0.1:{origin.Port}/"), new(), Cancellation);
        // the time limit is for the head
        _clock.Advance(TimeSpan.FromHours(1));
        var piece = new byte[3];
        await response.Stream.ReadExactlyAsync(piece, Cancellation);
        Assert.Equal("one"u8, piece);
        go.SetResult();
        await response.Stream.ReadExactlyAsync(piece, Cancellation);
        Assert.Equal("two"u8, piece);
    }

    [Fact]
    public async Task Settings_that_nobody_uses_any_more_leave_no_pools()
    {
        await using var origin = Answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        for (var i = 1; i <= 200; i++)
        {
            await GetAsync(origin, new() { MaxConnections = i });
        }
        Assert.InRange(_http.Pools, 1, 32);
    }
}

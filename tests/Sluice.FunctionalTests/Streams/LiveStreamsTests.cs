using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using Sluice.FunctionalTests.Origins;
using Sluice.Net;

namespace Sluice.FunctionalTests.Streams;

/// <summary>The registry of responses that are under way: who is in it, who looks on, who ends one.</summary>
public sealed class LiveStreamsTests : IAsyncLifetime
{
    readonly TaskCompletionSource _goOn = new(), _gone = new();
    ScriptedOrigin _origin = null!;
    TestGateway _gateway = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.SendAsync(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
            var end = connection.ReadEndAsync();
            if (await Task.WhenAny(_goOn.Task, end) == end)
            {
                _gone.SetResult();
                return;
            }
            await connection.SendAsync("9\r\ndata: 2\n\n\r\n12\r\ndata: 3\n\ndata: 4\n\n\r\n");
            await end;
        });
        _gateway = await TestGateway.StartAsync("nginx_config:\n  http:\n    access_log_format: '$uri|$status|$sluice_failure'");
        await _gateway.RouteAsync("live", "/live", _origin.Port);
    }

    public async ValueTask DisposeAsync()
    {
        _goOn.TrySetResult();
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    async Task<OriginConnection> OpenAsync()
    {
        var (client, head) = await RawConnection.GetAsync(_gateway.EndPoint, "/live");
        Assert.StartsWith("HTTP/1.1 200 ", head, StringComparison.Ordinal);
        await client.ExpectAsync("9\r\ndata: 1\n\n\r\n");
        return client;
    }

    async Task<JsonNode> RowAsync()
    {
        var list = await _gateway.ControlAsync("/v1/streams");
        Assert.Equal(1, (int?)list["total"]);
        return Assert.Single(list["streams"]!.AsArray())!;
    }

    async Task<(HttpStatusCode Status, string Body)> DeleteAsync(string id, bool withKey = true)
    {
        using var request = new HttpRequestMessage(HttpMethod.Delete, $"http://{_gateway.Gateway.ControlEndpoint}/v1/streams/{id}");
        if (withKey)
        {
            request.Headers.Add("X-API-KEY", TestGateway.AdminKey);
        }
        using var response = await _gateway.Client.SendAsync(request, Cancel);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(Cancel));
    }

    [Fact]
    public async Task A_stream_is_listed_while_it_runs_and_no_longer()
    {
        Assert.Equal(0, (int?)(await _gateway.ControlAsync("/v1/streams"))["total"]);
        using (await OpenAsync())
        {
            var row = await RowAsync();
            Assert.Equal(
                ("sse", "open", "live", "HTTP/1.1", "GET", "/live", $"127.0.0.1:{_origin.Port}", 9L, 0),
                ((string?)row["kind"], (string?)row["phase"], (string?)row["route"], (string?)row["protocol"], (string?)row["method"],
                    (string?)row["uri"],
                    (string?)row["node"], (long?)row["bytes"], (int?)row["taps"]));
            Assert.Equal(TestGateway.Transport == "epoll" ? "direct" : "verbatim", (string?)row["mode"]);
            Assert.NotNull(row["first_byte_ms"]);
            Assert.Equal((string?)row["id"], (string?)(await _gateway.ControlAsync($"/v1/streams/{row["id"]}"))["id"]);
        }
        await Eventually.TrueAsync(() => _gateway.Gateway.Live.Count == 0, "the stream stays in the list");
    }

    [Fact]
    public async Task An_administrator_ends_a_stream_and_nobody_else()
    {
        using var client = await OpenAsync();
        var id = (string)(await RowAsync())["id"]!;
        Assert.Equal(HttpStatusCode.Unauthorized, (await DeleteAsync(id, withKey: false)).Status);
        Assert.Equal((HttpStatusCode.NotFound, """{"error_msg":"no stream 0000-0"}""" + "\n"), await DeleteAsync("0000-0"));
        Assert.Equal(1, _gateway.Gateway.Live.Count);

        Assert.Equal((HttpStatusCode.OK, """{"ended":1}""" + "\n"), await DeleteAsync(id + "?reason=enough"));
        var (rest, _) = await client.ReadRestAsync().WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        // never a clean end
        Assert.Equal("", rest);
        await _gone.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
        Assert.Equal(HttpStatusCode.NotFound, (await DeleteAsync(id)).Status);
        await _gateway.ErrorLogSaysAsync($"stream {id} (route live, consumer -) is ended from 127.0.0.1: enough");
        var log = Path.Combine(_gateway.Prefix, "logs", "access.log");
        await Eventually.TrueAsync(() => File.Exists(log) && File.ReadAllText(log).Contains("/live|200|killed\n", StringComparison.Ordinal),
            "no line in the access log");
    }

    [Theory]
    [InlineData("{}", false)]
    [InlineData("{}", true)]
    [InlineData("""{"sse":{}}""", false)]
    [InlineData("""{"serverless-post-function":{"phase":"body_filter","functions":["return function() end"]}}""", true)]
    public async Task An_observer_sees_the_payload_in_every_mode_and_the_client_the_same_bytes(string plugins, bool http2)
    {
        await _gateway.RouteAsync("live", "/live", _origin.Port, $"\"plugins\":{plugins}");
        using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url("/live"))
        {
            Version = http2 ? HttpVersion.Version20 : HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        using var response = await _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        await using var body = await response.Content.ReadAsStreamAsync(Cancel);
        var piece = new byte[100];
        Assert.Equal(9, await body.ReadAsync(piece, Cancel));

        var stream = Assert.Single(_gateway.Gateway.Live.List());
        var (sees, fails) = (new Observer(), new Observer { Fails = true });
        using var one = stream.Tap(fails);
        using var tap = stream.Tap(sees);
        Assert.Equal(2, stream.Look()!.Taps);
        _goOn.SetResult();
        Assert.Equal("data: 2\n\ndata: 3\n\ndata: 4\n\n", await ReadAsync(body, 27));
        Assert.Equal("data: 2\n\ndata: 3\n\ndata: 4\n\n", sees.Text);
        Assert.False(sees.Ended);
        response.Dispose();
        await Eventually.TrueAsync(() => sees.Ended, "the observer was not told of the end");
    }

    [Fact]
    public async Task An_observer_that_was_taken_off_sees_nothing_more()
    {
        using var client = await OpenAsync();
        var observer = new Observer();
        Assert.Single(_gateway.Gateway.Live.List()).Tap(observer)!.Dispose();
        Assert.Equal(0, (int?)(await RowAsync())["taps"]);
        _goOn.SetResult();
        await client.ReadUntilAsync("data: 4\n\n");
        Assert.Equal("", observer.Text);
    }

    static async Task<string> ReadAsync(Stream body, int count)
    {
        var bytes = new byte[count];
        await body.ReadExactlyAsync(bytes, Cancel);
        return Encoding.Latin1.GetString(bytes);
    }

    sealed class Observer : IPieceObserver
    {
        readonly StringBuilder _seen = new();

        public bool Fails { get; init; }

        public bool Ended { get; private set; }

        public string Text { get { lock (_seen) { return _seen.ToString(); } } }

        public void OnPiece(ReadOnlySpan<byte> piece, bool last)
        {
            if (Fails)
            {
                throw new InvalidOperationException("an observer that fails");
            }
            lock (_seen)
            {
                _seen.Append(Encoding.Latin1.GetString(piece));
            }
            Ended |= last;
        }
    }
}

using System.Net;
using System.Net.Sockets;
using System.Text;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>The properties of sse-resume one by one, as a client sees them.</summary>
public sealed class ResumeRulesTests : IAsyncLifetime
{
    TestGateway _gateway = null!;
    ScriptedOrigin _origin = null!;

    static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _gateway = await TestGateway.StartAsync();
        // what position it was asked with, and then nothing
        _origin = ScriptedOrigin.Start(async connection =>
        {
            var head = await connection.ReadHeadAsync();
            var at = head.IndexOf("Last-Event-ID: ", StringComparison.OrdinalIgnoreCase);
            var position = at < 0 ? "none" : head[(at + "Last-Event-ID: ".Length)..head.IndexOf("\r\n", at, StringComparison.Ordinal)];
            var unit = $"data: {head.Split(' ')[1]} {position}\n\n";
            await connection.SendAsync(
                $"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{unit.Length:x}\r\n{unit}\r\n");
            await connection.ReadEndAsync();
        });
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _origin.DisposeAsync();
    }

    Task RouteAsync(string config, string more = "") =>
        _gateway.RouteAsync("r", "/live", _origin.Port, $"\"plugins\":{{\"sse-resume\":{config}{more}}}");

    async Task<HttpResponseMessage> OpenAsync(string path = "/live", params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, _gateway.Url(path));
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }
        return await _gateway.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
    }

    static string IdOf(HttpResponseMessage response) => response.Headers.GetValues("X-Sluice-Stream-Id").Single();

    static async Task<string> ReadAsync(HttpResponseMessage response, int bytes)
    {
        var buffer = new byte[bytes];
        await (await response.Content.ReadAsStreamAsync(Cancel)).ReadExactlyAsync(buffer, Cancel);
        return Encoding.UTF8.GetString(buffer);
    }

    static async Task ReadsAsync(HttpResponseMessage response, string expected) =>
        Assert.Equal(expected, await ReadAsync(response, expected.Length));

    [Theory]
    [InlineData("none", "")]
    [InlineData("id", "id: ID.0\n\n")]
    [InlineData("event", "id: ID.0\ndata:\n\n")]
    public async Task A_new_stream_can_begin_with_something_to_come_back_to(string prime, string block)
    {
        await RouteAsync($"{{\"prime\":\"{prime}\"}}");
        using var first = await OpenAsync();
        var id = IdOf(first);
        await ReadsAsync(first, block.Replace("ID", id, StringComparison.Ordinal) + $"id: {id}.1\ndata: /live none\n\n");
        // who comes back has it already
        using var again = await OpenAsync("/live", ("Last-Event-ID", id + ".0"));
        Assert.Equal(id, IdOf(again));
        await ReadsAsync(again, $"id: {id}.1\ndata: /live none\n\n");
    }

    [Fact]
    public async Task A_stream_that_is_bound_to_an_address_is_nobodys_elsewhere()
    {
        await RouteAsync("""{"bind":"ip"}""");
        using var first = await OpenAsync();
        var id = IdOf(first);
        using (var again = await OpenAsync("/live", ("Last-Event-ID", id + ".0")))
        {
            Assert.Equal(id, IdOf(again));
        }
        using var elsewhere = await AskFromAsync("127.0.0.2", $"GET /live HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}.0\r\n\r\n");
        var head = await elsewhere.ReadHeadAsync();
        Assert.StartsWith("HTTP/1.1 200 ", head, StringComparison.Ordinal);
        Assert.DoesNotContain(id, head, StringComparison.Ordinal);
        Assert.EndsWith("event: gap\ndata: {\"reason\":\"unknown\"}\n\n", await elsewhere.ReadUntilAsync("}\n\n"),
            StringComparison.Ordinal);
        using var stop = await AskFromAsync("127.0.0.2", $"DELETE /live HTTP/1.1\r\nHost: a\r\nX-Sluice-Stream-Id: {id}\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 404 ", await stop.ReadHeadAsync(), StringComparison.Ordinal);
    }

    async Task<OriginConnection> AskFromAsync(string address, string request)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Bind(new IPEndPoint(IPAddress.Parse(address), 0));
        await socket.ConnectAsync(_gateway.EndPoint, Cancel);
        var connection = new OriginConnection(socket, 1, Cancel);
        await connection.SendAsync(request);
        return connection;
    }

    [Theory]
    [InlineData("X-Other", "X-Other, X-Sluice-Stream-Id")]
    [InlineData("*", "*")]
    public async Task Scripts_of_other_sites_may_read_the_streams_id_where_cors_names_what_they_may(string exposed, string seen)
    {
        await RouteAsync("{}", $",\"cors\":{{\"allow_origins\":\"https://a.test\",\"expose_headers\":\"{exposed}\"}}");
        using var response = await OpenAsync("/live", ("Origin", "https://a.test"));
        Assert.Equal(seen, string.Join(", ", response.Headers.GetValues("Access-Control-Expose-Headers")));
    }

    [Fact]
    public async Task A_position_stands_where_it_may_and_nowhere_else()
    {
        await RouteAsync("""{"last_event_id":["after"]}""");
        using var first = await OpenAsync();
        var id = IdOf(first);
        using (var again = await OpenAsync($"/live?after={id}.0"))
        {
            Assert.Equal(id, IdOf(again));
        }
        // another name is an argument like any other, which the upstream gets
        using var other = await OpenAsync($"/live?last_event_id=7");
        await ReadsAsync(other, $"id: {IdOf(other)}.1\ndata: /live?last_event_id=7 none\n\n");
    }

    [Theory]
    [InlineData("s_g")]
    [InlineData("s_gAAAAAAAAAAAAAAAAAAAAAA.")]
    [InlineData("s_gAAAAAAAAAAAAAAAAAAAAAA.-1")]
    [InlineData("7")]
    public async Task What_is_no_position_of_ours_is_none(string position)
    {
        await RouteAsync("{}");
        foreach (var one in (string[])[position, new('7', 1025)])
        {
            using var response = await OpenAsync("/live", ("Last-Event-ID", one));
            // a stream from its beginning, and no gap
            Assert.StartsWith($"id: {IdOf(response)}.1\ndata: /live ",
                await ReadAsync(response, $"id: {IdOf(response)}.1\ndata: /live ".Length), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_further_client_takes_the_place_of_the_oldest()
    {
        await RouteAsync("""{"max_subscribers":2}""");
        using var first = await OpenAsync();
        var id = IdOf(first);
        await ReadsAsync(first, $"id: {id}.1\ndata: /live none\n\n");
        using var second = await OpenAsync("/live", ("Last-Event-ID", id + ".1"));
        using var third = await OpenAsync("/live", ("Last-Event-ID", id + ".0"));
        await ReadsAsync(third, $"id: {id}.1\ndata: /live none\n\n");
        // without words of its own a stream that is not whole breaks off
        await Assert.ThrowsAnyAsync<IOException>(() => ReadAsync(first, 1));
        Assert.Equal(2, _gateway.Gateway.Live.List().Count(static stream => stream.Look() is { Phase: not "detached" }));
    }

    [Fact]
    public async Task Without_join_the_same_key_is_another_stream()
    {
        await RouteAsync("""{"join":false}""");
        using var first = await OpenAsync("/live", ("Idempotency-Key", "k"));
        using var second = await OpenAsync("/live", ("Idempotency-Key", "k"));
        Assert.NotEqual(IdOf(first), IdOf(second));
    }
}

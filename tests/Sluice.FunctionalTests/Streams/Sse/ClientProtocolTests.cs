using System.Security.Cryptography.X509Certificates;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Streams.Sse;

/// <summary>The same streams whatever the client speaks, and over TLS to the upstream: event by event, and never a clean end to a broken
/// one.</summary>
public sealed class ClientProtocolTests(ProtocolsGateway fixture) : IClassFixture<ProtocolsGateway>, IDisposable
{
    const int Events = 5;
    static readonly int Bytes = Enumerable.Range(0, Events).Sum(id => EventOrigin.Event(id).Length);
    readonly X509Certificate2 _certificate = ScriptedOrigin.SelfSigned("origin");

    public static TheoryData<Framing, Protocol, bool, bool> Cases()
    {
        TheoryData<Framing, Protocol, bool, bool> cases = [];
        foreach (var framing in Enum.GetValues<Framing>())
        {
            foreach (var protocol in Enum.GetValues<Protocol>())
            {
                foreach (var buffering in (bool[])[true, false])
                {
                    cases.Add(framing, protocol, buffering, protocol is Protocol.TlsHttp1 or Protocol.H2c);
                }
            }
        }
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Each_event_arrives_before_the_next_is_sent(Framing framing, Protocol protocol, bool buffering, bool tlsUpstream)
    {
        await using var origin = new EventOrigin(framing, Bytes, certificate: tlsUpstream ? _certificate : null);
        using var response = await OpenAsync(origin, protocol, buffering, tlsUpstream);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());

        for (var id = 0; id < Events; id++)
        {
            await origin.SendAsync(EventOrigin.Event(id));
            Assert.Equal(EventOrigin.Event(id), (await events.NextAsync()).Event);
        }

        origin.End();
        Assert.Equal(0, await events.Body.ReadAsync(new byte[1]));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_stream_that_breaks_off_never_ends_cleanly(Framing framing, Protocol protocol, bool buffering, bool tlsUpstream)
    {
        await using var origin = new EventOrigin(framing, Bytes, certificate: tlsUpstream ? _certificate : null);
        using var response = await OpenAsync(origin, protocol, buffering, tlsUpstream);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        await origin.SendAsync(EventOrigin.Event(0));
        Assert.Equal(EventOrigin.Event(0), (await events.NextAsync()).Event);

        await origin.ResetAsync();

        await Assert.ThrowsAnyAsync<IOException>(async () => await events.Body.ReadAsync(new byte[1]));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_client_that_leaves_takes_its_upstream_along(Framing framing, Protocol protocol, bool buffering, bool tlsUpstream)
    {
        await using var origin = new EventOrigin(framing, Bytes, certificate: tlsUpstream ? _certificate : null);
        var response = await OpenAsync(origin, protocol, buffering, tlsUpstream);
        using (var events = new EventReader(await response.Content.ReadAsStreamAsync()))
        {
            await origin.SendAsync(EventOrigin.Event(0));
            await events.NextAsync();
        }

        // HttpClient closes the connection, or resets the stream, when a body is let go unread
        response.Dispose();

        await origin.ClientGone.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Theory]
    [InlineData(Protocol.Http1)]
    [InlineData(Protocol.H2c)]
    [InlineData(Protocol.TlsHttp1)]
    [InlineData(Protocol.TlsHttp2)]
    public async Task A_client_that_leaves_before_the_head_takes_its_upstream_along(Protocol protocol)
    {
        var asked = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var gone = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var origin = ScriptedOrigin.Start(async connection =>
        {
            await connection.ReadHeadAsync();
            asked.SetResult();
            await connection.ReadEndAsync();
            gone.SetResult();
        });
        var path = await fixture.RouteAsync(origin.Port);
        using var leave = new CancellationTokenSource();
        var sending = fixture.SendAsync(protocol, path, cancel: leave.Token);
        await asked.Task.WaitAsync(TimeSpan.FromSeconds(30));
        await leave.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => sending);
        await gone.Task.WaitAsync(TimeSpan.FromSeconds(30));
        // one that left is no failed node: nobody else is asked in its name
        Assert.Equal(1, origin.Accepted);
    }

    [Theory]
    [InlineData(Protocol.H2c)]
    [InlineData(Protocol.TlsHttp2)]
    public async Task Many_streams_of_one_connection_do_not_wait_for_each_other(Protocol protocol)
    {
        const int Streams = 20;
        var origins = Enumerable.Range(0, Streams).Select(_ => new EventOrigin(Framing.ChunkPerEvent)).ToArray();
        var readers = new EventReader[Streams];
        try
        {
            for (var i = 0; i < Streams; i++)
            {
                readers[i] = new EventReader(await (await OpenAsync(origins[i], protocol, i % 2 == 0, false)).Content.ReadAsStreamAsync());
            }
            for (var id = 0; id < 3; id++)
            {
                // backwards, so that nothing is in the order in which it was opened
                for (var i = Streams - 1; i >= id; i--)
                {
                    await origins[i].SendAsync(EventOrigin.Event(id));
                    Assert.Equal(EventOrigin.Event(id), (await readers[i].NextAsync()).Event);
                }
                await origins[id].BreakOffAsync();
                await Assert.ThrowsAnyAsync<IOException>(async () => await readers[id].Body.ReadAsync(new byte[1]));
            }
        }
        finally
        {
            foreach (var (origin, reader) in origins.Zip(readers))
            {
                reader?.Dispose();
                await origin.DisposeAsync();
            }
        }
    }

    async Task<HttpResponseMessage> OpenAsync(EventOrigin origin, Protocol protocol, bool buffering, bool tlsUpstream)
    {
        var path = await fixture.RouteAsync(origin.Port,
            $$""" "plugins":{"proxy-buffering":{"disable_proxy_buffering":{{(buffering ? "false" : "true")}}} } """,
            tlsUpstream ? "https" : "http");
        var response = await fixture.SendAsync(protocol, path);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        return response;
    }

    public void Dispose() => _certificate.Dispose();
}

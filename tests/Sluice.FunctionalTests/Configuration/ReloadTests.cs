using System.Net;
using Sluice.FunctionalTests.Origins;

namespace Sluice.FunctionalTests.Configuration;

/// <summary>Configuration changes under way: no request fails, no stream is interrupted.</summary>
public class ReloadTests
{
    [Theory]
    [InlineData(Framing.ChunkPerEvent)]
    [InlineData(Framing.CloseDelimited)]
    public async Task Streams_survive_every_change_of_what_they_came_through(Framing framing)
    {
        await using var origin = new EventOrigin(framing);
        await using var gateway = await TestGateway.StartAsync(nginx: "http { proxy_buffering off; }");
        await gateway.RouteAsync("r1", "/events", origin.Port);
        using var response = await gateway.Client.GetAsync(gateway.Url("/events"), HttpCompletionOption.ResponseHeadersRead);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        var id = 0;
        async Task NextAsync()
        {
            await origin.SendAsync(EventOrigin.Event(id));
            Assert.Equal(EventOrigin.Event(id++), (await events.NextAsync()).Event);
        }
        await NextAsync();

        await gateway.RouteAsync("r1", "/events", 1, """ "plugins":{"proxy-buffering":{"disable_proxy_buffering":false}} """);
        await NextAsync();
        gateway.Write("conf/nginx.conf", "http { proxy_buffering on; proxy_buffer_size 1k; chunked_transfer_encoding off; }");
        await gateway.ReloadAsync();
        await NextAsync();
        Assert.Equal(HttpStatusCode.OK, (await gateway.AdminAsync(HttpMethod.Delete, "/routes/r1")).Status);
        await NextAsync();
        gateway.Write("conf/config.yaml", "apisix: [nonsense");
        Assert.NotEmpty(await gateway.Gateway.ReloadAsync());
        await NextAsync();

        using var gone = await gateway.Client.GetAsync(gateway.Url("/events"));
        Assert.Equal(HttpStatusCode.NotFound, gone.StatusCode);
        origin.End();
        Assert.Equal(0, await events.Body.ReadAsync(new byte[1]));
    }

    [Fact]
    public async Task A_route_that_was_left_out_for_its_plugin_is_in_force_when_a_reload_brings_the_plugin()
    {
        await using var gateway = await TestGateway.StartAsync();
        await gateway.PutAsync("/routes/away", """{"uri":"/away","plugins":{"redirect":{"uri":"/there","ret_code":302}}}""");
        gateway.Write("conf/config.yaml", TestGateway.Config("plugins: [cors]"));
        await gateway.RestartAsync();
        Assert.Equal(HttpStatusCode.NotFound,
            (await gateway.Client.GetAsync(gateway.Url("/away"), TestContext.Current.CancellationToken)).StatusCode);
        await gateway.ReloadAsync();
        Assert.NotNull((await gateway.AdminAsync(HttpMethod.Get, "/routes/away")).Body!["left_out"]);

        gateway.Write("conf/config.yaml", TestGateway.Config("plugins: [cors, redirect]"));
        await gateway.ReloadAsync();
        Assert.Equal(HttpStatusCode.Found,
            (await gateway.Client.GetAsync(gateway.Url("/away"), TestContext.Current.CancellationToken)).StatusCode);
        Assert.Null((await gateway.AdminAsync(HttpMethod.Get, "/routes/away")).Body!["left_out"]);
    }

    [Fact]
    public async Task Streams_survive_the_closing_of_their_address()
    {
        await using var origin = new EventOrigin(Framing.ChunkPerEvent);
        await using var gateway = await TestGateway.StartAsync(nginx: $"http {{ server {{ listen {RawConnection.FreeAddress()}; }} }}");
        await gateway.RouteAsync("r1", "/events", origin.Port);
        var extra = gateway.Gateway.ProxyEndpoints.Single(endpoint => endpoint.Port != gateway.EndPoint.Port);
        using var response = await gateway.Client.GetAsync($"http://{extra}/events", HttpCompletionOption.ResponseHeadersRead);
        using var events = new EventReader(await response.Content.ReadAsStreamAsync());
        await origin.SendAsync(EventOrigin.Event(0));
        await events.NextAsync();

        gateway.Write("conf/nginx.conf", "");
        await gateway.ReloadAsync();

        Assert.DoesNotContain(extra, gateway.Gateway.ProxyEndpoints);
        await Eventually.TrueAsync(() => Refused(extra), "the address still accepts");
        await origin.SendAsync(EventOrigin.Event(1));
        Assert.Equal(EventOrigin.Event(1), (await events.NextAsync()).Event);
        origin.End();
        Assert.Equal(0, await events.Body.ReadAsync(new byte[1]));
    }

    [Fact]
    public async Task No_request_fails_while_everything_is_reloaded_and_rewritten()
    {
        await using var origin = EchoOrigin.Start();
        await using var gateway = await TestGateway.StartAsync();
        await gateway.RouteAsync("r1", "/a", origin.Port);
        using var stop = new CancellationTokenSource();
        var answered = 0;
        var asking = Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                using var response = await gateway.Client.GetAsync(gateway.Url("/a"));
                Assert.Equal(HttpStatusCode.OK, response.StatusCode);
                Assert.StartsWith("GET /a ", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
                Interlocked.Increment(ref answered);
            }
        })).ToArray();

        for (var round = 0; round < 15; round++)
        {
            gateway.Write("conf/nginx.conf",
                $"http {{ proxy_buffering {(round % 2 == 0 ? "off" : "on")}; server {{ server_name s{round}.test; }} }}");
            await gateway.ReloadAsync();
            await gateway.RouteAsync("r1", "/a", origin.Port, $$""" "labels":{"round":"{{round}}"} """);
            await gateway.RouteAsync($"other{round}", $"/other{round}", origin.Port);
            var before = Volatile.Read(ref answered);
            await Eventually.TrueAsync(() => Volatile.Read(ref answered) > before || Array.Exists(asking, task => task.IsCompleted),
                "nobody is answered");
        }

        await stop.CancelAsync();
        await Task.WhenAll(asking);
    }

    static bool Refused(IPEndPoint address)
    {
        using var socket = new System.Net.Sockets.Socket(address.AddressFamily, System.Net.Sockets.SocketType.Stream,
            System.Net.Sockets.ProtocolType.Tcp);
        try
        {
            socket.Connect(address);
            return false;
        }
        catch (System.Net.Sockets.SocketException)
        {
            return true;
        }
    }
}

using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Sluice.FunctionalTests.Streams.TcpUdp;

/// <summary>UDP through stream routes.</summary>
public class UdpTests
{
    static Task<TestGateway> StartAsync(TimeProvider? time = null) =>
        TestGateway.StartAsync(apisix: "proxy_mode: \"http&stream\"\nstream_proxy: {udp: [\"127.0.0.1:0\"]}", time: time);

    /// <summary>Answers each datagram with the port that it came from and itself.</summary>
    static UdpClient Echo(out int port)
    {
        var server = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        port = ((IPEndPoint)server.Client.LocalEndPoint!).Port;
        _ = Task.Run(async () =>
        {
            try
            {
                while (true)
                {
                    var received = await server.ReceiveAsync();
                    await server.SendAsync(Encoding.ASCII.GetBytes($"{received.RemoteEndPoint.Port}:").Concat(received.Buffer).ToArray(),
                        received.RemoteEndPoint);
                }
            }
            catch (Exception e) when (e is ObjectDisposedException or SocketException)
            {
                // the test is over
            }
        });
        return server;
    }

    /// <summary>Datagrams may be lost: asks again.</summary>
    static async Task<string> AskAsync(UdpClient client, IPEndPoint gateway, string text)
    {
        for (var i = 0; i < 40; i++)
        {
            await client.SendAsync(Encoding.ASCII.GetBytes(text), gateway);
            using var patience = new CancellationTokenSource(500);
            try
            {
                while (true)
                {
                    var answer = Encoding.ASCII.GetString((await client.ReceiveAsync(patience.Token)).Buffer);
                    if (answer.EndsWith(":" + text, StringComparison.Ordinal))
                    {
                        return answer;
                    }
                }
            }
            catch (OperationCanceledException)
            {
                // once more
            }
        }
        throw new TimeoutException("no answer");
    }

    [Fact]
    public async Task Each_client_is_a_session_and_silence_ends_it()
    {
        var clock = new ManualClock();
        using var echo = Echo(out var port);
        await using var gateway = await StartAsync(clock);
        await gateway.PutAsync("/stream_routes/1",
            $$"""{"upstream":{"type":"roundrobin","timeout":{"connect":5,"send":5,"read":1},"nodes":{"127.0.0.1:{{port}}":1} } }""");
        var address = gateway.Gateway.StreamEndpoints[0];
        using var one = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        using var two = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));

        var first = await AskAsync(one, address, "a");
        Assert.NotEqual(first.Split(':')[0], (await AskAsync(two, address, "b")).Split(':')[0]);
        Assert.Equal(first.Split(':')[0], (await AskAsync(one, address, "c")).Split(':')[0]);
        // after the silence the session, and with it the port towards the upstream, is another one
        await Eventually.HoldsAsync(async () =>
        {
            clock.Advance(TimeSpan.FromSeconds(1));
            return (await AskAsync(one, address, "d")).Split(':')[0] != first.Split(':')[0];
        }, "the session never ended");
        var stopping = gateway.Gateway.StopAsync(graceful: true);
        await Eventually.HoldsAsync(() =>
        {
            clock.Advance(TimeSpan.FromSeconds(1));
            return Task.FromResult(stopping.IsCompleted);
        }, "the gateway never stopped");
        await stopping;
    }

    [Fact]
    public async Task Plugins_hold_for_UDP_too_and_large_datagrams_pass()
    {
        using var echo = Echo(out var port);
        await using var gateway = await StartAsync();
        await gateway.PutAsync("/stream_routes/1",
            $$"""{"plugins":{"ip-restriction":{"whitelist":["192.0.2.1"]} },"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:{{port}}":1} } }""");
        using var client = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
        await client.SendAsync("x"u8.ToArray(), gateway.Gateway.StreamEndpoints[0], TestContext.Current.CancellationToken);
        await gateway.ErrorLogSaysAsync("stream route 1: plugin ip-restriction refused 127.0.0.1:");

        await gateway.PutAsync("/stream_routes/1", $$"""{"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:{{port}}":1} } }""");
        Assert.EndsWith(":" + new string('x', 20_000), await AskAsync(client, gateway.Gateway.StreamEndpoints[0], new string('x', 20_000)),
            StringComparison.Ordinal);
    }
}

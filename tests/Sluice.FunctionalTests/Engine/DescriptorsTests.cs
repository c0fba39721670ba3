using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Sluice.FunctionalTests.Cli;

namespace Sluice.FunctionalTests.Engine;

/// <summary>A gateway process of its own: the limit is the process's.</summary>
public class DescriptorsTests
{
    [Fact]
    public async Task Out_of_descriptors_new_connections_wait_and_are_served_later()
    {
        await using var fixture = new CommandFixture();
        await fixture.SucceedAsync("start");
        Assert.Equal(HttpStatusCode.OK, await fixture.StatusOfAsync("/clock"));
        var pid = fixture.Instance.RunningPid()!.Value;
        var open = Directory.GetFileSystemEntries($"/proc/{pid}/fd").Length;
        using (var limit = Process.Start("prlimit", [$"--pid={pid}", string.Create(CultureInfo.InvariantCulture, $"--nofile={open + 10}:{open + 10}")]))
        {
            await limit.WaitForExitAsync();
            Assert.Equal(0, limit.ExitCode);
        }

        var crowd = new List<Socket>();
        for (var number = 0; number < 60; number++)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            crowd.Add(socket);
            await socket.ConnectAsync(IPAddress.Loopback, fixture.ProxyPort);
        }
        var log = fixture.PathOf("logs/error.log");
        await Eventually.TrueAsync(() => File.ReadAllText(log).Contains("new connections wait", StringComparison.Ordinal), () => File.ReadAllText(log), seconds: 30);

        // who waits does not work: a loop that asked again and again would do so all the time
        var gateway = new GatewayProcess(pid);
        var leastWork = TimeSpan.MaxValue;
        for (var window = 0; window < 6 && leastWork.TotalMilliseconds > 50; window++)
        {
            var before = gateway.Work;
            await Task.Delay(500);
            leastWork = new[] { leastWork, gateway.Work - before }.Min();
        }
        Assert.InRange(leastWork.TotalMilliseconds, 0, 50);

        crowd.ForEach(socket => socket.Dispose());
        // 502 as long as the gateway still has to learn that the crowd is gone: there is no descriptor for the upstream either
        await Eventually.HoldsAsync(async () => await fixture.StatusOfAsync("/clock") == HttpStatusCode.OK, "nobody is served", seconds: 30);
    }
}

using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Sluice.FunctionalTests.Processes;

/// <summary>A gateway process of its own: the limit is the process's.</summary>
public class DescriptorsTests
{
    [Fact]
    public async Task A_limit_with_which_nobody_could_be_served_is_refused_at_the_start()
    {
        await using var fixture = new CommandFixture();
        using var process = fixture.LaunchWith(descriptors: 150, "run");
        var error = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Equal(1, process.ExitCode);
        Assert.Contains("too few file descriptors: the limit is 150", error);
    }

    [Theory]
    [InlineData("epoll")]
    [InlineData("sockets")]
    public async Task A_crowd_is_refused_before_the_last_descriptors_are_used_and_the_gateway_lives_on(string transport)
    {
        await using var fixture = new CommandFixture();
        fixture.WriteConfig($"sluice: {{transport: {transport}}}");
        using var process = fixture.LaunchWith(descriptors: 400, "start");
        await process.WaitForExitAsync();
        var pid = fixture.Instance.RunningPid();
        Assert.Contains("few file descriptors: of 400", await File.ReadAllTextAsync(fixture.PathOf("logs/error.log")));

        var crowd = new List<Socket>();
        var refused = false;
        for (var number = 0; number < 500; number++)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            crowd.Add(socket);
            try
            {
                await socket.ConnectAsync(IPAddress.Loopback, fixture.ProxyPort);
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
            {
                // the gateway was quicker than who connects
                refused = true;
            }
        }
        await Eventually.TrueAsync(() => refused || crowd.Exists(static socket => socket.Poll(0, SelectMode.SelectRead)),
            () => "nobody was refused", seconds: 30);
        // the framework's sockets look after they have accepted
        await Eventually.TrueAsync(() => Directory.GetFileSystemEntries($"/proc/{pid}/fd").Length < 400 - 60,
            () => "the reserve is used up", seconds: 30);
        crowd.ForEach(socket => socket.Dispose());
        await Eventually.HoldsAsync(IsServedAsync, "nobody is served", seconds: 30);

        async Task<bool> IsServedAsync()
        {
            try
            {
                return await fixture.StatusOfAsync("/clock") == HttpStatusCode.OK;
            }
            catch (HttpRequestException)
            {
                // refused as long as the gateway still has to learn that the crowd is gone
                return false;
            }
        }
    }

    [Fact]
    public async Task Out_of_descriptors_new_connections_wait_and_are_served_later()
    {
        await using var fixture = new CommandFixture();
        await fixture.SucceedAsync("start");
        Assert.Equal(HttpStatusCode.OK, await fixture.StatusOfAsync("/clock"));
        var pid = fixture.Instance.RunningPid()!.Value;
        var open = Directory.GetFileSystemEntries($"/proc/{pid}/fd").Length;
        using (var limit = Process.Start("prlimit",
            [$"--pid={pid}", string.Create(CultureInfo.InvariantCulture, $"--nofile={open + 10}:{open + 10}")]))
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
        await Eventually.TrueAsync(() => File.ReadAllText(log).Contains("new connections wait", StringComparison.Ordinal),
            () => File.ReadAllText(log), seconds: 30);

        // who waits does not work: a loop that asked again and again would do so all the time; one calm half second shows it, the runtime
        // compiles for a while after a start
        var gateway = new GatewayProcess(pid);
        var leastWork = TimeSpan.MaxValue;
        for (var window = 0; window < 40 && leastWork.TotalMilliseconds > 50; window++)
        {
            var before = gateway.Work;
            await Task.Delay(500);
            leastWork = new[] { leastWork, gateway.Work - before }.Min();
        }
        Assert.InRange(leastWork.TotalMilliseconds, 0, 50);

        crowd.ForEach(socket => socket.Dispose());
        // 502 as long as the gateway still has to learn that the crowd is gone: there is no descriptor for the upstream either
        await Eventually.HoldsAsync(async () => await fixture.StatusOfAsync("/clock") == HttpStatusCode.OK, "nobody is served",
            seconds: 30);
    }
}

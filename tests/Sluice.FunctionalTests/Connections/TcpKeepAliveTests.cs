using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Sluice.Net.Epoll;

namespace Sluice.FunctionalTests.Connections;

/// <summary>Clients that are gone without having said so: what the gateway asks of their connections.</summary>
public class TcpKeepAliveTests
{
    const int SocketLevel = 1, KeepAlive = 9, Tcp = 6, KeepIdle = 4, KeepInterval = 5, KeepCount = 6, UserTimeout = 18;

    /// <summary>The options of the gateway's side of a client's connection: it is one of this process's own sockets.</summary>
    static async Task<(int On, int Idle, int Interval, int Count, int Timeout)> OptionsAsync(IPEndPoint gateway)
    {
        using var client = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await client.ConnectAsync(gateway, TestContext.Current.CancellationToken);
        (int, int, int, int, int)? found = null;
        await Eventually.TrueAsync(() => (found = Find((IPEndPoint)client.LocalEndPoint!)) is not null, "the gateway's side is not there");
        return found!.Value;
    }

    static (int, int, int, int, int)? Find(IPEndPoint client)
    {
        foreach (var link in Directory.GetFileSystemEntries("/proc/self/fd"))
        {
            var descriptor = int.Parse(Path.GetFileName(link), CultureInfo.InvariantCulture);
            if (client.Equals(Posix.RemoteEndPoint(descriptor)))
            {
                return (Option(descriptor, SocketLevel, KeepAlive), Option(descriptor, Tcp, KeepIdle),
                    Option(descriptor, Tcp, KeepInterval),
                    Option(descriptor, Tcp, KeepCount), Option(descriptor, Tcp, UserTimeout));
            }
        }
        return null;
    }

    static int Option(int descriptor, int level, int name)
    {
        var (value, size) = (0, sizeof(int));
        Assert.Equal(0, getsockopt(descriptor, level, name, ref value, ref size));
        return value;
    }

    [DllImport("libc")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    static extern int getsockopt(int descriptor, int level, int name, ref int value, ref int size);

    static async Task ChangeAsync(TestGateway gateway, string from, string to)
    {
        gateway.Write("conf/config.yaml",
            File.ReadAllText(Path.Combine(gateway.Prefix, "conf/config.yaml")).Replace(from, to, StringComparison.Ordinal));
        await gateway.ReloadAsync();
    }

    [Fact]
    public async Task A_silent_client_is_asked_whether_it_is_there_and_a_reload_changes_that()
    {
        await using var gateway = await TestGateway.StartAsync("sluice: {streams: {tcp_keepalive: {probes: 4}}}");
        Assert.Equal((1, 60, 15, 4, 120_000), await OptionsAsync(gateway.EndPoint));
        await ChangeAsync(gateway, "{probes: 4}", "{idle: 20, interval: 5, probes: 3}");
        Assert.Equal((1, 20, 5, 3, 35_000), await OptionsAsync(gateway.EndPoint));
        await ChangeAsync(gateway, "idle: 20", "idle: 0");
        var (on, _, _, _, timeout) = await OptionsAsync(gateway.EndPoint);
        Assert.Equal((0, 0), (on, timeout));
    }
}

using System.Globalization;

namespace Sluice.FunctionalTests;

/// <summary>The kernel's own count: what other tests open meanwhile does not matter.</summary>
static class OpenConnections
{
    /// <summary>Sockets that some process still holds whose own port this is.</summary>
    public static int On(int port) => Rows().Count(row => PortOf(row[1]) == port);

    /// <summary>Sockets that some process still holds, connected to this port.</summary>
    public static int To(int port) => Rows().Count(row => PortOf(row[2]) == port);

    /// <summary>Bytes that came on connections of this port and that nobody has read.</summary>
    public static long UnreadOn(int port) => Rows().Where(row => PortOf(row[1]) == port)
        .Sum(row => long.Parse(row[4].AsSpan(row[4].IndexOf(':') + 1), NumberStyles.HexNumber, CultureInfo.InvariantCulture));

    public static Task NoneAsync(int port) =>
        Eventually.TrueAsync(() => On(port) == 0 && To(port) == 0,
            () => $"{On(port)} connections on and {To(port)} to port {port} are left", seconds: 30);

    static IEnumerable<string[]> Rows() => File.ReadAllLines("/proc/self/net/tcp").Skip(1)
        .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        // not listening, and not only the kernel's memory of a closed one
        .Where(row => row[3] != "0A" && row[9] != "0");

    static int PortOf(string address) =>
        int.Parse(address.AsSpan(address.IndexOf(':') + 1), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}

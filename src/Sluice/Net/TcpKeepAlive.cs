using System.Net.Sockets;
using Sluice.Model.Settings;
using Sluice.Net.Epoll;

namespace Sluice.Net;

/// <summary>Gives listening sockets what the connections that they accept shall have.</summary>
static class TcpKeepAlive
{
    /// <summary>The kernel's own bound.</summary>
    const int LongestSeconds = 32767, MostProbes = 127;

    const int SocketLevel = 1, KeepAlive = 9;
    const int Tcp = 6, KeepIdle = 4, KeepInterval = 5, KeepCount = 6, UserTimeout = 18;

    /// <summary>To a socket on Linux.</summary>
    public static void Apply(KeepAliveSettings settings, int descriptor)
    {
        var (isOn, idle, interval, probes) = Of(settings);
        Posix.SetOption(descriptor, SocketLevel, KeepAlive, isOn ? 1 : 0);
        Posix.SetOption(descriptor, Tcp, UserTimeout, isOn ? (idle + (interval * probes)) * 1000 : 0);
        if (isOn)
        {
            Posix.SetOption(descriptor, Tcp, KeepIdle, idle);
            Posix.SetOption(descriptor, Tcp, KeepInterval, interval);
            Posix.SetOption(descriptor, Tcp, KeepCount, probes);
        }
    }

    /// <summary>To a socket of the framework's.</summary>
    public static void Apply(KeepAliveSettings settings, Socket socket)
    {
        if (OperatingSystem.IsLinux())
        {
            Apply(settings, (int)socket.Handle);
            return;
        }
        var (isOn, idle, interval, probes) = Of(settings);
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, isOn);
        if (isOn)
        {
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, idle);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, interval);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, probes);
        }
    }

    static (bool IsOn, int Idle, int Interval, int Probes) Of(KeepAliveSettings settings) =>
        (settings.Idle > TimeSpan.Zero, Seconds(settings.Idle), Seconds(settings.Interval), Math.Clamp(settings.Probes, 1, MostProbes));

    static int Seconds(TimeSpan time) => Math.Clamp((int)Math.Ceiling(Math.Min(time.TotalSeconds, LongestSeconds)), 1, LongestSeconds);
}

/// <summary>The sockets that one address accepts with.</summary>
internal sealed class ListenSockets(KeepAliveSettings keepAlive)
{
    readonly List<Action<KeepAliveSettings>> _all = [];

    /// <param name="apply">Gives the socket what it is called with: now, and when that changes.</param>
    public void Add(Action<KeepAliveSettings> apply)
    {
        apply(keepAlive);
        _all.Add(apply);
    }

    /// <summary>For connections that are accepted from now on. While the address is open.</summary>
    public void Change(KeepAliveSettings other)
    {
        if (other != keepAlive)
        {
            keepAlive = other;
            _all.ForEach(apply => apply(other));
        }
    }
}

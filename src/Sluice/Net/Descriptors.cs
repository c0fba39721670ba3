using System.Globalization;

namespace Sluice.Net;

/// <summary>
/// File descriptors of the process, of which the system gives only so many (<c>ulimit -n</c>). Without one the runtime can load no code and
/// ends, so the last ones are kept: connections are refused before they are used up. The system always gives the lowest free number, so a
/// number tells how many are left.
/// </summary>
static class Descriptors
{
    /// <summary>For files, code that is loaded late, logs, and connections to upstreams of requests that were accepted.</summary>
    const int Reserve = 64;

    /// <summary>With fewer than so many left after the start, a gateway can serve next to nobody.</summary>
    const int Few = 256;

    static int? s_limit;

    /// <summary>How many the process may have; without bound where that cannot be found out.</summary>
    public static int Limit => s_limit ??= ReadLimit();

    /// <summary>Whether a connection that got this descriptor must be refused.</summary>
    public static bool IsShort(nint descriptor) => descriptor >= Limit - ReserveOf(Limit);

    /// <summary>Half of what goes to clients goes to upstreams, where the limit is small.</summary>
    internal static int ReserveOf(int limit) => Reserve + Math.Clamp(limit / 16, 0, 512);

    /// <exception cref="InvalidOperationException">A gateway cannot run with so few.</exception>
    public static void ThrowIfTooFew()
    {
        if (InUse() is { } used && Limit - used < ReserveOf(Limit))
        {
            throw new InvalidOperationException(
                $"too few file descriptors: the limit is {Limit}, {used} are in use before the first connection; raise it (ulimit -n 65536)");
        }
    }

    /// <summary>What to tell an operator of a limit that is small; null when it is not.</summary>
    public static string? Warning() => InUse() is { } used && Limit - used < Few + ReserveOf(Limit)
        ? $"few file descriptors: of {Limit}, {used} are in use and {ReserveOf(Limit)} are kept in reserve; a proxied request takes two. Raise the limit (ulimit -n 65536)"
        : null;

    static int? InUse()
    {
        try
        {
            return OperatingSystem.IsLinux() ? Directory.EnumerateFileSystemEntries("/proc/self/fd").Count() : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    static int ReadLimit()
    {
        const string Key = "Max open files";
        try
        {
            return OperatingSystem.IsLinux()
                && File.ReadLines("/proc/self/limits").FirstOrDefault(line => line.StartsWith(Key, StringComparison.Ordinal)) is { } line
                && int.TryParse(line.AsSpan(Key.Length).Trim().ToString().Split(' ')[0], NumberStyles.None, CultureInfo.InvariantCulture,
                    out var limit) ? limit : int.MaxValue;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return int.MaxValue;
        }
    }
}

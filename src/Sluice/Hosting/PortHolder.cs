using System.Globalization;

namespace Sluice.Hosting;

/// <summary>Who holds a TCP port, from /proc (Linux); for error messages.</summary>
static class PortHolder
{
    /// <summary><c> by nginx (pid 123)</c>, or nothing when it cannot be found out.</summary>
    public static string Describe(int port, bool isUdp = false)
    {
        try
        {
            return Inodes(port, isUdp) is { Count: > 0 } inodes && Find(inodes) is { } holder ? $" by {holder}" : "";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    /// <summary>Whether the process holds the port, and nobody else does.</summary>
    public static bool IsHeldOnlyBy(int pid, int port, bool isUdp)
    {
        try
        {
            var inodes = Inodes(port, isUdp);
            inodes.ExceptWith(Directory.EnumerateFiles($"/proc/{pid}/fd")
                .Select(descriptor => Path.GetFileName(File.ResolveLinkTarget(descriptor, false)?.ToString())).OfType<string>());
            return inodes.Count == 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>Socket inodes that listen on the port: lines of /proc/net/tcp with state 0A, of /proc/net/udp all.</summary>
    static HashSet<string> Inodes(int port, bool isUdp)
    {
        HashSet<string> inodes = [];
        foreach (var file in isUdp ? (string[])["/proc/net/udp", "/proc/net/udp6"] : ["/proc/net/tcp", "/proc/net/tcp6"])
        {
            foreach (var line in File.Exists(file) ? File.ReadLines(file).Skip(1) : [])
            {
                var fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
                if (fields.Length > 9 && (isUdp || fields[3] == "0A")
                    && int.Parse(fields[1].Split(':')[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture) == port)
                {
                    inodes.Add($"socket:[{fields[9]}]");
                }
            }
        }
        return inodes;
    }

    static string? Find(HashSet<string> inodes)
    {
        foreach (var process in Directory.EnumerateDirectories("/proc").Where(path => int.TryParse(Path.GetFileName(path), out _)))
        {
            try
            {
                foreach (var descriptor in Directory.EnumerateFiles(Path.Combine(process, "fd")))
                {
                    if (File.ResolveLinkTarget(descriptor, false)?.ToString() is { } target
                        && inodes.Any(inode => target.EndsWith(inode, StringComparison.Ordinal)))
                    {
                        return $"{File.ReadAllText(Path.Combine(process, "comm")).Trim()} (pid {Path.GetFileName(process)})";
                    }
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // gone meanwhile, or somebody else's
            }
        }
        return null;
    }
}

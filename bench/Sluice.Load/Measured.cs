using System.Globalization;
using System.Runtime.InteropServices;

namespace Sluice.Load;

/// <summary>What the kernel counts for a process and its children.</summary>
static partial class Measured
{
    /// <summary>CPU seconds of all threads, those that have ended included, with the kernel's nanoseconds
    /// (clock_getcpuclockid(3)).</summary>
    public static double Cpu(int pid) => Tree(pid).Sum(process =>
    {
        const int Scheduled = 2;
        return clock_gettime((~process << 3) | Scheduled, out var time) == 0 ? time.Seconds + (time.Nanoseconds / 1e9) : 0;
    });

    struct Time
    {
        public long Seconds;
        public long Nanoseconds;
    }

    [LibraryImport("libc")]
    private static partial int clock_gettime(int clock, out Time time);

    /// <summary>Resident bytes.</summary>
    public static long Memory(int pid) => Tree(pid).Sum(process =>
        Read($"/proc/{process}/status").Split('\n').Where(line => line.StartsWith("VmRSS:", StringComparison.Ordinal))
            .Sum(line => long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024));

    static IEnumerable<int> Tree(int pid)
    {
        yield return pid;
        foreach (var thread in Threads(pid))
        {
            foreach (var child in Read($"/proc/{pid}/task/{thread}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                foreach (var process in Tree(int.Parse(child, CultureInfo.InvariantCulture)))
                {
                    yield return process;
                }
            }
        }
    }

    static string[] Threads(int pid)
    {
        try
        {
            return [.. Directory.GetDirectories($"/proc/{pid}/task").Select(path => Path.GetFileName(path))];
        }
        catch (IOException)
        {
            return [];
        }
    }

    static string Read(string path)
    {
        try
        {
            return File.ReadAllText(path).Trim();
        }
        catch (IOException)
        {
            return "";
        }
    }
}

using System.Globalization;

namespace Sluice.Load;

/// <summary>What the kernel counts for a process and its children.</summary>
static class Measured
{
    /// <summary>CPU seconds of all threads, with the kernel's nanoseconds.</summary>
    public static double Cpu(int pid) => Tree(pid).Sum(process => Threads(process).Sum(thread =>
        long.Parse(Read($"/proc/{process}/task/{thread}/schedstat").Split(' ')[0] is { Length: > 0 } text ? text : "0", CultureInfo.InvariantCulture) / 1e9));

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

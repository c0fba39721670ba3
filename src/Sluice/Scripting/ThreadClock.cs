using System.Runtime.InteropServices;

namespace Sluice.Scripting;

/// <summary>
/// How long a thread has been on a processor, as other threads can ask it: a thread that the machine keeps waiting runs no further
/// meanwhile.
/// </summary>
static partial class ThreadClock
{
    [ThreadStatic] static int t_own;

    /// <summary>The calling thread's; 0: it has none.</summary>
    public static int Own => t_own != 0 ? t_own : t_own = Open();

    static int Open() => OperatingSystem.IsLinux() && GetClock(Self(), out var clock) == 0 ? clock : 0;

    /// <summary>Nanoseconds; null when there is no such clock, or its thread has ended.</summary>
    public static long? Read(int clock) =>
        clock != 0 && GetTime(clock, out var time) == 0 ? (time.Seconds * 1_000_000_000) + time.Nanoseconds : null;

    readonly record struct Time(long Seconds, long Nanoseconds);

    [LibraryImport("libc", EntryPoint = "pthread_self")]
    private static partial nint Self();

    [LibraryImport("libc", EntryPoint = "pthread_getcpuclockid")]
    private static partial int GetClock(nint thread, out int clock);

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int GetTime(int clock, out Time time);
}

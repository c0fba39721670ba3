using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sluice.Cli;

/// <summary>What a Unix daemon needs and .NET does not offer.</summary>
static partial class Native
{
    public const int Hangup = 1, Interrupt = 2, Quit = 3, Kill = 9, User1 = 10, Terminate = 15;

    const int ReadOnly = 0, WriteOnly = 1, Create = 0x40, Append = 0x400, CloseOnExec = 0x80000;
    const int LockShared = 1, LockNonBlocking = 4;
    const int DuplicateCloseOnExec = 1030;
    const nint DefaultHandler = 0;

    public static bool Signal(int pid, int signal) => KillProcess(pid, signal) == 0;

    /// <summary>Past .NET's own locking, which refuses even to read a file that is locked.</summary>
    public static SafeFileHandle OpenForReading(string path) => new(Open(path, ReadOnly | CloseOnExec, 0), ownsHandle: true);

    /// <summary>Whether somebody holds the file exclusively.</summary>
    public static bool IsLocked(SafeFileHandle file) => Flock((int)file.DangerousGetHandle(), LockShared | LockNonBlocking) != 0;

    /// <summary>Makes this process a session of its own, without terminal, its output going to a file.</summary>
    /// <returns>What standard error was before: the way to the process that waits for the start's outcome.</returns>
    public static FileStream Detach(string outputFile)
    {
        _ = SetSid();
        var parent = new SafeFileHandle(Fcntl(2, DuplicateCloseOnExec, 3), ownsHandle: true);
        using var nothing = new SafeFileHandle(Open("/dev/null", ReadOnly, 0), ownsHandle: true);
        using var output = new SafeFileHandle(Open(outputFile, WriteOnly | Create | Append, 0x1A0), ownsHandle: true); // 0640
        if (nothing.IsInvalid || output.IsInvalid || parent.IsInvalid)
        {
            throw new IOException($"cannot write {outputFile}");
        }
        _ = Dup2((int)nothing.DangerousGetHandle(), 0);
        _ = Dup2((int)output.DangerousGetHandle(), 1);
        _ = Dup2((int)output.DangerousGetHandle(), 2);
        return new FileStream(parent, FileAccess.Write, bufferSize: 0);
    }

    /// <summary>
    /// A process that a script started in the background, or nohup, was born ignoring some signals, and .NET leaves it at that: from now on
    /// they can be registered for.
    /// </summary>
    public static void Heed(IEnumerable<int> signals)
    {
        var ignored = OperatingSystem.IsLinux() ? IgnoredSignals() : 0;
        foreach (var signal in signals.Where(signal => (ignored >> (signal - 1) & 1) != 0))
        {
            _ = SetHandler(signal, DefaultHandler);
        }
    }

    /// <summary>One bit a signal, the lowest is signal 1.</summary>
    static ulong IgnoredSignals()
    {
        const string Key = "SigIgn:";
        var line = File.ReadLines("/proc/self/status").FirstOrDefault(line => line.StartsWith(Key, StringComparison.Ordinal));
        return line is null ? 0 : ulong.Parse(line.AsSpan(Key.Length).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    [LibraryImport("libc", EntryPoint = "signal")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint SetHandler(int signal, nint handler);

    [LibraryImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int KillProcess(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint Open(string path, int flags, int mode);

    [LibraryImport("libc", EntryPoint = "flock")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Flock(int file, int operation);

    [LibraryImport("libc", EntryPoint = "setsid")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int SetSid();

    [LibraryImport("libc", EntryPoint = "fcntl")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint Fcntl(int file, int command, int argument);

    [LibraryImport("libc", EntryPoint = "dup2")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Dup2(int from, int to);
}

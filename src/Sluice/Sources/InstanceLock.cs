using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Sluice.Sources;

/// <summary>
/// One Sluice per prefix: an flock on <c>data/sluice.lock</c>, held as long as the file is open. The kernel lets go of it when the process
/// dies in whatever way, so a file left behind means nothing. The pid and the prefix inside are for the error message of the second one.
/// </summary>
internal sealed partial class InstanceLock : IDisposable
{
    readonly FileStream _file;

    InstanceLock(FileStream file) => _file = file;

    /// <param name="directory"><c>sluice.data_dir</c>; null: data/ under the prefix.</param>
    /// <exception cref="PrefixInUseException">Another process (or another store of this one) holds the prefix.</exception>
    public static InstanceLock Acquire(string prefix, string? directory = null)
    {
        prefix = Path.GetFullPath(prefix);
        var path = Path.Combine(DataDirectory.Create(directory ?? DataDirectory.Of(prefix)), "sluice.lock");
        FileStream file;
        try
        {
            file = new FileStream(path, DataDirectory.Private(FileMode.OpenOrCreate, FileShare.None));
        }
        catch (IOException e) when (IsHeld(e))
        {
            var (pid, holdersPrefix) = ReadHolder(path);
            throw new PrefixInUseException(prefix, Path.GetDirectoryName(path)!, pid, holdersPrefix);
        }
        try
        {
            file.SetLength(0);
            file.Write(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{Environment.ProcessId}\n{prefix}\n")));
        }
        catch (IOException)
        {
            // a full disk: the lock holds, only the pid and the prefix will be missing in a message
        }
        return new InstanceLock(file);
    }

    public void Dispose() => _file.Dispose();

    static bool IsHeld(IOException e)
    {
        const int wouldBlockOnLinux = 11, wouldBlockOnMac = 35, sharingViolationOnWindows = unchecked((int)0x80070020);
        return e.HResult == (OperatingSystem.IsWindows() ? sharingViolationOnWindows : OperatingSystem.IsMacOS() ? wouldBlockOnMac
            : wouldBlockOnLinux);
    }

    /// <summary>Past .NET's own locking, which refuses even to read a file that is locked.</summary>
    static (int? Pid, string? Prefix) ReadHolder(string path)
    {
        if (!OperatingSystem.IsLinux())
        {
            return default;
        }
        const int readOnlyCloseOnExec = 0x80000;
        using var handle = new SafeFileHandle(Open(path, readOnlyCloseOnExec), ownsHandle: true);
        if (handle.IsInvalid)
        {
            return default;
        }
        var text = new byte[8 * 1024];
        var lines = Encoding.UTF8.GetString(text, 0, RandomAccess.Read(handle, text, 0)).Split('\n');
        return (int.TryParse(lines[0], NumberStyles.None, CultureInfo.InvariantCulture, out var pid) ? pid : null,
            lines.Length > 2 ? lines[1] : null);
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint Open(string path, int flags);
}

/// <summary><c>PREFIX/data</c>, or where <c>sluice.data_dir</c> says: for the gateway's user only.</summary>
static class DataDirectory
{
    const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    public static string Of(string prefix) => Path.Combine(prefix, "data");

    public static string Create(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            return Directory.CreateDirectory(path).FullName;
        }
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        var directory = Directory.CreateDirectory(path, OwnerOnly | UnixFileMode.UserExecute);
        Tighten(path, OwnerOnly | UnixFileMode.UserExecute);
        return directory.FullName;
    }

    public static void Tighten(string file) => Tighten(file, OwnerOnly);

    public static FileStreamOptions Private(FileMode mode, FileShare share)
    {
        var options = new FileStreamOptions { Mode = mode, Access = FileAccess.ReadWrite, Share = share, BufferSize = 0 };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = OwnerOnly;
        }
        return options;
    }

    static void Tighten(string path, UnixFileMode mode)
    {
        if (!OperatingSystem.IsWindows() && File.Exists(path) | Directory.Exists(path) && File.GetUnixFileMode(path) is var now
            && (now & ~mode) != 0)
        {
            File.SetUnixFileMode(path, now & mode);
        }
    }
}

using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Sluice.Sources;

/// <summary>
/// One Sluice per prefix: an flock on <c>data/sluice.lock</c>, held as long as the file is open. The kernel lets go of it when the process
/// dies in whatever way, so a file left behind means nothing. The pid inside is for the error message of the second one.
/// </summary>
public sealed partial class InstanceLock : IDisposable
{
    readonly FileStream _file;

    InstanceLock(FileStream file) => _file = file;

    /// <param name="directory"><c>sluice.data_dir</c>; null: data/ under the prefix.</param>
    /// <exception cref="PrefixInUseException">Another process (or another store of this one) holds the prefix.</exception>
    public static InstanceLock Acquire(string prefix, string? directory = null)
    {
        var path = Path.Combine(DataDirectory.Create(directory ?? DataDirectory.Of(prefix)), "sluice.lock");
        FileStream file;
        try
        {
            file = new FileStream(path, DataDirectory.Private(FileMode.OpenOrCreate, FileShare.None));
        }
        catch (IOException e) when (IsHeld(e))
        {
            throw new PrefixInUseException(prefix, ReadHolder(path));
        }
        try
        {
            file.SetLength(0);
            file.Write(Encoding.ASCII.GetBytes(Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "\n"));
        }
        catch (IOException)
        {
            // a full disk: the lock holds, only the pid will be missing in a message
        }
        return new InstanceLock(file);
    }

    public void Dispose() => _file.Dispose();

    static bool IsHeld(IOException e)
    {
        const int wouldBlockOnLinux = 11, wouldBlockOnMac = 35, sharingViolationOnWindows = unchecked((int)0x80070020);
        return e.HResult == (OperatingSystem.IsWindows() ? sharingViolationOnWindows : OperatingSystem.IsMacOS() ? wouldBlockOnMac : wouldBlockOnLinux);
    }

    /// <summary>Past .NET's own locking, which refuses even to read a file that is locked.</summary>
    static int? ReadHolder(string path)
    {
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }
        const int readOnlyCloseOnExec = 0x80000;
        using var handle = new SafeFileHandle(Open(path, readOnlyCloseOnExec), ownsHandle: true);
        if (handle.IsInvalid)
        {
            return null;
        }
        Span<byte> text = stackalloc byte[16];
        var length = RandomAccess.Read(handle, text, 0);
        return int.TryParse(text[..length].TrimEnd((byte)'\n'), CultureInfo.InvariantCulture, out var pid) ? pid : null;
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
        if (!OperatingSystem.IsWindows() && File.Exists(path) | Directory.Exists(path) && File.GetUnixFileMode(path) is var now && (now & ~mode) != 0)
        {
            File.SetUnixFileMode(path, now & mode);
        }
    }
}

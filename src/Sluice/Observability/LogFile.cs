using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sluice.Observability;

/// <summary>
/// Where log lines end: a file that is only ever appended to (so that two processes may share it during a restart), or standard output or
/// error by their names <c>/dev/stdout</c> and <c>/dev/stderr</c>.
/// </summary>
sealed partial class LogFile : IDisposable
{
    const int WriteOnly = 0x1, Create = 0x40, Append = 0x400, CloseOnExec = 0x80000;        // Linux, <fcntl.h>
    const int Mode = 0b110_100_000;                                                         // rw-r-----

    readonly string _path;
    readonly Stream? _standard;
    SafeFileHandle? _file;

    /// <exception cref="IOException">The file cannot be opened; the message names it.</exception>
    public LogFile(string path)
    {
        _path = path;
        _standard = path switch
        {
            "/dev/stdout" => Console.OpenStandardOutput(),
            "/dev/stderr" => Console.OpenStandardError(),
            _ => null,
        };
        if (_standard is null)
        {
            _file = Open(path);
        }
    }

    public async ValueTask WriteAsync(ReadOnlyMemory<byte> lines)
    {
        if (_standard is not null)
        {
            await _standard.WriteAsync(lines);
            await _standard.FlushAsync();
            return;
        }
        var file = _file!;
        // the offset only counts where there is no O_APPEND
        await RandomAccess.WriteAsync(file, lines, OperatingSystem.IsLinux() ? 0 : RandomAccess.GetLength(file));
    }

    /// <summary>Opens the path anew after the file was moved away. If that fails the old one stays in use.</summary>
    public void Reopen()
    {
        if (_standard is null)
        {
            var old = _file;
            _file = Open(_path);
            old?.Dispose();
        }
    }

    public void Dispose() => _file?.Dispose();

    /// <summary>Why a log cannot be at the path; null when it can. The file is there afterwards.</summary>
    public static string? WhyNot(string path)
    {
        try
        {
            if (path is not ("/dev/stdout" or "/dev/stderr") && Path.GetDirectoryName(path) is { Length: > 0 } directory
                && Directory.Exists(directory))
            {
                Open(path).Dispose();
            }
            return null;
        }
        catch (IOException e)
        {
            return e.Message;
        }
    }

    static SafeFileHandle Open(string path)
    {
        try
        {
            if (!OperatingSystem.IsLinux())
            {
                return File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
            }
            var descriptor = OpenFile(path, WriteOnly | Create | Append | CloseOnExec, Mode);
            return descriptor >= 0
                ? new SafeFileHandle(descriptor, ownsHandle: true)
                : throw new IOException(new Win32Exception(Marshal.GetLastPInvokeError()).Message);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new IOException($"cannot open log file \"{path}\": {e.Message}", e);
        }
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenFile(string path, int flags, int mode);
}

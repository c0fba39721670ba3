using System.Diagnostics;

namespace Sluice.FunctionalTests;

/// <summary>A file system of its own that is soon full.</summary>
sealed class TinyDisk : IDisposable
{
    TinyDisk(string path) => Path = path;

    public string Path { get; }

    /// <returns>Null: not allowed here.</returns>
    public static TinyDisk? Mount(string path, string size)
    {
        Directory.CreateDirectory(path);
        return Run("mount", "-t", "tmpfs", "-o", $"size={size}", "tmpfs", path) == 0 ? new TinyDisk(path) : null;
    }

    public void Dispose() => Run("umount", Path);

    static int Run(string program, params string[] arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
            process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return -1;
        }
    }
}

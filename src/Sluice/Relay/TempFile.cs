namespace Sluice.Relay;

/// <summary>A temporary file could not be made, written or read (a full disk, mostly). What cannot be written is held back; what cannot be
/// read ends the exchange with an error.</summary>
internal sealed class SpoolException(string message, Exception inner) : IOException(message, inner);

/// <summary>
/// An open file without a name: nobody else can open it, and it is gone when the gateway is, however that ends. Or one with a name, for
/// others to read until it is closed.
/// </summary>
sealed class TempFile : IDisposable
{
    readonly FileStream _file;
    readonly string _directory;

    TempFile(FileStream file, string directory)
    {
        _file = file;
        _directory = directory;
    }

    public static TempFile Create(string directory, bool named = false)
    {
        try
        {
            Directory.CreateDirectory(directory);
            var path = Path.Combine(directory, Guid.NewGuid().ToString("N"));
            var options = new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.ReadWrite,
                Share = FileShare.ReadWrite | FileShare.Delete,
                Options = named ? FileOptions.Asynchronous | FileOptions.DeleteOnClose : FileOptions.Asynchronous,
                BufferSize = 0,
            };
            if (!OperatingSystem.IsWindows())
            {
                options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            }
            var file = new FileStream(path, options);
            try
            {
                if (!named)
                {
                    File.Delete(path);
                }
            }
            catch
            {
                file.Dispose();
                throw;
            }
            return new TempFile(file, directory);
        }
        catch (Exception e) when (IsIo(e))
        {
            throw Failure(directory, "create", e);
        }
    }

    /// <summary>The file, from its start.</summary>
    public FileStream Stream
    {
        get
        {
            _file.Position = 0;
            return _file;
        }
    }

    public async ValueTask WriteAsync(ReadOnlyMemory<byte> data, long offset)
    {
        try
        {
            await RandomAccess.WriteAsync(_file.SafeFileHandle, data, offset);
        }
        catch (Exception e) when (IsIo(e))
        {
            throw Failure(_directory, "write", e);
        }
    }

    /// <summary>At least one byte; that the file has one at the offset is for the caller to know.</summary>
    public async ValueTask<int> ReadAsync(Memory<byte> buffer, long offset, CancellationToken cancel = default)
    {
        try
        {
            var count = await RandomAccess.ReadAsync(_file.SafeFileHandle, buffer, offset, cancel);
            return count > 0 ? count : throw new EndOfStreamException("the file is shorter than what was written to it");
        }
        catch (Exception e) when (IsIo(e))
        {
            throw Failure(_directory, "read", e);
        }
    }

    /// <summary>Gives the disk space back.</summary>
    public void Empty()
    {
        try
        {
            RandomAccess.SetLength(_file.SafeFileHandle, 0);
        }
        catch (Exception e) when (IsIo(e))
        {
            throw Failure(_directory, "empty", e);
        }
    }

    public void Dispose() => _file.Dispose();

    static bool IsIo(Exception e) =>
        e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException or ObjectDisposedException;

    static SpoolException Failure(string directory, string what, Exception e) =>
        new($"cannot {what} a temporary file in \"{directory}\": {e.Message}", e);
}

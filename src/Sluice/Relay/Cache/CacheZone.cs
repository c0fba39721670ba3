using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;

namespace Sluice.Relay.Cache;

/// <summary>
/// Stored responses of one zone, in memory or in files, the ones that were used last. A key has a response for each variant of the request
/// headers that the responses depend on. What is being stored cannot be found before it is complete, and one that was purged meanwhile is
/// not stored.
/// </summary>
/// <param name="directory">Where the files are; null: all is in memory.</param>
/// <param name="levels">How many digits of a file's name each directory above it has, as nginx's <c>levels</c>.</param>
/// <param name="most">Bytes that all stored responses take together.</param>
internal sealed partial class CacheZone(string? directory, int[] levels, long most, TimeProvider time, ILogger logger) : IAsyncDisposable
{
    /// <summary>So many variants a key has; the oldest goes.</summary>
    const int MaxVariants = 64;

    /// <summary>So much of what is on its way to a file, or not complete yet, may be in memory.</summary>
    const long MostHeldForFiles = 256L << 20;

    /// <summary>What nobody has asked for in so long goes (nginx's <c>inactive</c>).</summary>
    static readonly TimeSpan Inactive = TimeSpan.FromDays(1);

    static ReadOnlySpan<byte> Magic => "SLUICE-CACHE-1\r\n"u8;

    const int Preface = 16 + sizeof(int) + sizeof(long);

    readonly Lock _gate = new();
    readonly Dictionary<string, Slot> _slots = new(StringComparer.Ordinal);
    readonly LinkedList<CacheEntry> _byUse = [];
    readonly HashSet<CacheFill> _fills = [];
    readonly CancellationTokenSource _ends = new();
    readonly List<Task> _writing = [];
    long _bytes, _held;
    Task _loading = Task.CompletedTask;

    sealed class Slot
    {
        public string[] Vary = [];
        public readonly List<CacheEntry> Variants = [];
    }

    public bool IsInMemory => directory is null;

    /// <summary>Bytes of all that is stored.</summary>
    public long Bytes
    {
        get
        {
            lock (_gate)
            {
                return _bytes;
            }
        }
    }

    /// <summary>Bytes of what is not stored yet.</summary>
    public long Held => Interlocked.Read(ref _held);

    long Now => time.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>Takes in what is in the files already; until then it is not found.</summary>
    public CacheZone Load()
    {
        if (directory is not null)
        {
            _loading = Task.Run(() => LoadAsync(directory, _ends.Token));
        }
        return this;
    }

    /// <summary>The stored response for a request, fresh or not; null: there is none.</summary>
    /// <param name="header">What the request's header of this name says.</param>
    public CacheEntry? Find(string key, Func<string, string> header)
    {
        lock (_gate)
        {
            if (!_slots.TryGetValue(key, out var slot))
            {
                return null;
            }
            var variant = VariantOf(slot.Vary, header);
            if (slot.Variants.Find(entry => entry.Head.Variant == variant) is not { } found)
            {
                return null;
            }
            found.LastUsed = Now;
            _byUse.Remove(found.Place!);
            _byUse.AddFirst(found.Place!);
            return found;
        }
    }

    /// <summary>What a request has for the headers that a response depends on, as one text.</summary>
    public static string VariantOf(string[] vary, Func<string, string> header) =>
        vary.Length == 0 ? "" : string.Join('\0', vary.Select(header));

    /// <summary>Whether it is fresh now.</summary>
    public bool IsFresh(CacheEntry entry) => Now - entry.Head.Stored <= entry.Head.Lifetime;

    /// <summary>How old it is now, as RFC 9111 counts.</summary>
    public TimeSpan AgeOf(CacheEntry entry) => TimeSpan.FromMilliseconds(Math.Max(0, Now - entry.Head.Stored) + entry.Head.Age);

    /// <summary>Its body; null: its file is gone, and so is it.</summary>
    public CachedBody? Open(CacheEntry entry)
    {
        string? file;
        lock (_gate)
        {
            if (entry.Blocks is { } blocks)
            {
                return new(blocks, null, 0, entry.Length);
            }
            file = entry.File;
        }
        try
        {
            return file is null ? null : new(null, File.OpenHandle(file, options: FileOptions.Asynchronous), entry.Start, entry.Length);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogNoFile(file!, e.Message);
            lock (_gate)
            {
                Remove(entry);
            }
            return null;
        }
    }

    /// <summary>Forgets all variants of a key; false: there was none.</summary>
    public bool Purge(string key)
    {
        lock (_gate)
        {
            foreach (var fill in _fills)
            {
                fill.IsPurged |= fill.Head.Key == key;
            }
            if (!_slots.TryGetValue(key, out var slot))
            {
                return false;
            }
            foreach (var entry in slot.Variants.ToArray())
            {
                Remove(entry);
            }
            return true;
        }
    }

    /// <summary>Begins to copy a response that passes; null: it is too large.</summary>
    /// <param name="length">The body's length; null: nobody knows.</param>
    /// <param name="longest">The longest body that is stored.</param>
    public CacheFill? Begin(CachedHead head, long? length, long longest)
    {
        longest = Math.Min(longest, most - head.Bytes);
        if (longest < (length ?? 0))
        {
            return null;
        }
        var fill = new CacheFill(this, head, length, longest);
        lock (_gate)
        {
            _fills.Add(fill);
        }
        return fill;
    }

    /// <summary>Room for bytes of something that is not stored yet.</summary>
    internal bool TryHold(long bytes)
    {
        if (Interlocked.Add(ref _held, bytes) <= (IsInMemory ? most : MostHeldForFiles))
        {
            return true;
        }
        Interlocked.Add(ref _held, -bytes);
        return false;
    }

    internal void LetGo(CacheFill fill)
    {
        Interlocked.Add(ref _held, -fill.Length);
        lock (_gate)
        {
            _fills.Remove(fill);
        }
    }

    internal void Store(CacheFill fill, byte[][] blocks)
    {
        var entry = new CacheEntry(fill.Head, fill.Length) { Blocks = blocks, LastUsed = Now };
        lock (_gate)
        {
            _fills.Remove(fill);
            if (!fill.IsPurged && !_ends.IsCancellationRequested)
            {
                Add(entry);
                if (directory is not null)
                {
                    _writing.RemoveAll(static task => task.IsCompleted);
                    _writing.Add(Task.Run(() => WriteAsync(entry, blocks)));
                    return;
                }
            }
        }
        Interlocked.Add(ref _held, -fill.Length);
    }

    // -- Under the lock

    void Add(CacheEntry entry)
    {
        if (!_slots.TryGetValue(entry.Head.Key, out var slot))
        {
            _slots.Add(entry.Head.Key, slot = new());
        }
        if (!slot.Vary.AsSpan().SequenceEqual(entry.Head.Vary))
        {
            // what was stored depended on other headers
            foreach (var other in slot.Variants.ToArray())
            {
                Remove(other);
            }
            _slots[entry.Head.Key] = slot;
            slot.Vary = entry.Head.Vary;
        }
        if (slot.Variants.Find(other => other.Head.Variant == entry.Head.Variant) is { } same)
        {
            Remove(same);
        }
        if (slot.Variants.Count >= MaxVariants)
        {
            Remove(slot.Variants[0]);
        }
        _slots[entry.Head.Key] = slot;
        slot.Variants.Add(entry);
        entry.Place = _byUse.AddFirst(entry);
        _bytes += entry.Bytes;
        var oldest = Now - (long)Inactive.TotalMilliseconds;
        while (_byUse.Last is { Value: var last } && last != entry && (_bytes > most || last.LastUsed < oldest))
        {
            Remove(last);
        }
    }

    void Remove(CacheEntry entry)
    {
        if (entry.IsGone)
        {
            return;
        }
        entry.IsGone = true;
        _byUse.Remove(entry.Place!);
        _bytes -= entry.Bytes;
        var slot = _slots[entry.Head.Key];
        slot.Variants.Remove(entry);
        if (slot.Variants.Count == 0)
        {
            _slots.Remove(entry.Head.Key);
        }
        if (entry.File is { } file)
        {
            Delete(file);
        }
    }

    // -- Files

    string NewPath(CachedHead head)
    {
#pragma warning disable CA5351 // a name, as nginx makes it
        var name = Convert.ToHexStringLower(MD5.HashData(Encoding.UTF8.GetBytes(head.Key)));
#pragma warning restore CA5351
        var path = directory!;
        var end = name.Length;
        foreach (var digits in levels)
        {
            path = Path.Combine(path, name[(end - digits)..end]);
            end -= digits;
        }
        return Path.Combine(path,
            string.Create(CultureInfo.InvariantCulture, $"{name}.{Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(6))}"));
    }

    async Task WriteAsync(CacheEntry entry, byte[][] blocks)
    {
        var path = NewPath(entry.Head);
        var temporary = path + ".tmp";
        try
        {
            var head = JsonSerializer.SerializeToUtf8Bytes(entry.Head, CachedHeadJson.Default.CachedHead);
            var preface = new byte[Preface];
            Magic.CopyTo(preface);
            BinaryPrimitives.WriteInt32LittleEndian(preface.AsSpan(16), head.Length);
            BinaryPrimitives.WriteInt64LittleEndian(preface.AsSpan(20), entry.Length);
            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write,
                Options = FileOptions.Asynchronous };
            if (!OperatingSystem.IsWindows())
            {
                options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
                Directory.CreateDirectory(Path.GetDirectoryName(path)!, options.UnixCreateMode.Value | UnixFileMode.UserExecute);
            }
            await using (var stream = new FileStream(temporary, options))
            {
                await stream.WriteAsync(preface);
                await stream.WriteAsync(head);
                foreach (var block in blocks)
                {
                    await stream.WriteAsync(block);
                }
            }
            File.Move(temporary, path);
            lock (_gate)
            {
                if (entry.IsGone)
                {
                    Delete(path);
                }
                else
                {
                    (entry.File, entry.Start, entry.Blocks) = (path, Preface + head.Length, null);
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogNotWritten(path, e.Message);
            Delete(temporary);
            lock (_gate)
            {
                Remove(entry);
            }
        }
        finally
        {
            Interlocked.Add(ref _held, -entry.Length);
        }
    }

    static void Delete(string file)
    {
        try
        {
            File.Delete(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // what cannot be deleted is not found by anybody until the next start, and replaced then
        }
    }

    async Task LoadAsync(string root, CancellationToken ends)
    {
        try
        {
            if (!Directory.Exists(root))
            {
                return;
            }
            foreach (var path in Directory.EnumerateFiles(root, "*", SearchOption.AllDirectories))
            {
                if (ends.IsCancellationRequested)
                {
                    return;
                }
                if (await ReadAsync(path) is { } entry)
                {
                    Take(entry);
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogNotLoaded(root, e.Message);
        }
    }

    void Take(CacheEntry entry)
    {
        lock (_gate)
        {
            var known = _slots.TryGetValue(entry.Head.Key, out var slot);
            if (_ends.IsCancellationRequested || (known && slot!.Variants.Exists(other => other.File == entry.File)))
            {
                return;
            }
            if (known
                && slot!.Variants.Exists(other => other.Head.Stored >= entry.Head.Stored
                    && (other.Head.Variant == entry.Head.Variant || !slot.Vary.AsSpan().SequenceEqual(entry.Head.Vary))))
            {
                Delete(entry.File!);
                return;
            }
            Add(entry);
        }
    }

    /// <summary>What a file holds; null: it is none of these, or not complete.</summary>
    async Task<CacheEntry?> ReadAsync(string path)
    {
        try
        {
            using var handle = File.OpenHandle(path, options: FileOptions.Asynchronous);
            var preface = new byte[Preface];
            if (await RandomAccess.ReadAsync(handle, preface, 0) != Preface || !preface.AsSpan().StartsWith(Magic))
            {
                return null;
            }
            var (headLength, length) = (BinaryPrimitives.ReadInt32LittleEndian(preface.AsSpan(16)),
                BinaryPrimitives.ReadInt64LittleEndian(preface.AsSpan(20)));
            if (headLength is <= 0 or > 1 << 20 || RandomAccess.GetLength(handle) != Preface + headLength + length)
            {
                Delete(path);
                return null;
            }
            var bytes = new byte[headLength];
            if (await RandomAccess.ReadAsync(handle, bytes, Preface) != headLength
                || JsonSerializer.Deserialize(bytes, CachedHeadJson.Default.CachedHead) is not { } head)
            {
                return null;
            }
            return new(head, length) { File = path, Start = Preface + headLength, LastUsed = Now };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }

    public async ValueTask DisposeAsync()
    {
        Task[] writing;
        lock (_gate)
        {
            _ends.Cancel();
            writing = [.. _writing];
        }
        await _loading;
        await Task.WhenAll(writing);
        _ends.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "a stored response cannot be read from {File}: {Detail}")]
    partial void LogNoFile(string file, string detail);

    [LoggerMessage(Level = LogLevel.Error, Message = "a response cannot be stored in {File}: {Detail}")]
    partial void LogNotWritten(string file, string detail);

    [LoggerMessage(Level = LogLevel.Error, Message = "stored responses cannot be read from {Directory}: {Detail}")]
    partial void LogNotLoaded(string directory, string detail);
}

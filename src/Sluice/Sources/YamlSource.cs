using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Channels;
using Sluice.Model.Settings;

namespace Sluice.Sources;

/// <summary>
/// Standalone mode's <c>conf/apisix.yaml</c> under a prefix: read at the start, and again after each change. The file system tells of
/// changes at once; a look each second finds those that it does not tell of (network file systems, mounted volumes, links that were
/// turned).
/// </summary>
/// <param name="environment">Values for <c>${{NAME}}</c>; null: the process's environment.</param>
internal sealed partial class YamlSource(string prefix, TimeProvider time, ILogger logger, Func<string, string?>? environment = null,
    string name = YamlSource.Name)
{
    public const string Name = "conf/apisix.yaml";

    /// <summary>The same in JSON, for <c>config_provider: json</c>.</summary>
    public const string JsonName = "conf/apisix.json";

    public static string NameOf(ConfigProvider provider) => provider == ConfigProvider.Json ? JsonName : Name;

    /// <summary>Which of the two this is, as in places and log lines.</summary>
    public string FileName => name;

    /// <summary>An editor that writes in several steps gets so long between two of them.</summary>
    static readonly TimeSpan Settling = TimeSpan.FromMilliseconds(50);

    /// <summary>Somebody who never stops writing is not waited for.</summary>
    const int LongestSettling = 6;

    static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    readonly string _path = Path.GetFullPath(Path.Combine(prefix, name));
    readonly Func<string, string?> _environment = environment ?? Environment.GetEnvironmentVariable;
    readonly Lock _loading = new();
    Stamp _seen;
    byte[] _digest = [];
    string? _complaint;

    internal TimeSpan PollInterval { get; init; } = TimeSpan.FromSeconds(1);

    internal bool UseNotifications { get; init; } = true;

    /// <summary>Reads the file now, for a start or a reload. A file that is missing or half written is an error among the
    /// problems.</summary>
    public YamlResources Load()
    {
        lock (_loading)
        {
            return Read(out _);
        }
    }

    /// <summary>
    /// What the file says after each change since the last reading. Errors are among the problems: the configuration in use must stay then.
    /// A file that is missing, unreadable or half written is logged once and not passed on.
    /// </summary>
    public async IAsyncEnumerable<YamlResources> Watch([EnumeratorCancellation] CancellationToken cancel = default)
    {
        var changed = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
        using var notifications = UseNotifications ? ListenToFileSystem(() => changed.Writer.TryWrite(true)) : null;
        await using var timer = time.CreateTimer(_ => changed.Writer.TryWrite(true), null, TimeSpan.Zero, PollInterval);
        while (await changed.Reader.WaitToReadAsync(cancel))
        {
            changed.Reader.TryRead(out _);
            if (Stamp.Of(_path) is var stamp && stamp == _seen)
            {
                continue;
            }
            await Settle(stamp, cancel);
            if (ReadChange() is { } resources)
            {
                yield return resources;
            }
        }
    }

    async Task Settle(Stamp stamp, CancellationToken cancel)
    {
        for (var i = 0; i < LongestSettling; i++)
        {
            await Task.Delay(Settling, time, cancel);
            if (Stamp.Of(_path) is var now && now == stamp)
            {
                return;
            }
            else
            {
                stamp = now;
            }
        }
    }

    YamlResources? ReadChange()
    {
        lock (_loading)
        {
            var before = _digest;
            var resources = Read(out var isReadable);
            if (!isReadable)
            {
                if (resources.Problems[0].Message is var complaint && complaint != _complaint)
                {
                    LogUnreadable(resources.Problems[0].Place, complaint);
                    _complaint = complaint;
                }
                return null;
            }
            _complaint = null;
            if (!resources.IsComplete)
            {
                LogIncomplete(resources.Problems[0].Place,
                    name == JsonName ? resources.Problems[0].Message : "no #END at the end of the file, somebody is writing it");
                return null;
            }
            return before.AsSpan().SequenceEqual(_digest) ? null : resources;
        }
    }

    /// <summary>Remembers the stamp before reading: a change while it reads is seen the next time.</summary>
    YamlResources Read(out bool isReadable)
    {
        _seen = Stamp.Of(_path);
        isReadable = false;
        byte[] bytes;
        try
        {
            bytes = File.ReadAllBytes(_path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return YamlResources.Failed(name, $"there is no file {_path}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            _seen = Stamp.Unreadable;
            return YamlResources.Failed(name, $"cannot be read: {e.Message}");
        }
        isReadable = true;
        YamlResources resources;
        try
        {
            resources = YamlResources.Parse(StrictUtf8.GetString(bytes), name, _environment);
        }
        catch (DecoderFallbackException e)
        {
            var line = bytes.AsSpan(0, Math.Clamp(e.Index, 0, bytes.Length)).Count((byte)'\n') + 1;
            resources = YamlResources.Failed($"{name}:{line}", "not UTF-8");
        }
        if (resources.IsComplete)
        {
            _digest = SHA256.HashData(bytes);
        }
        return resources;
    }

    FileSystemWatcher? ListenToFileSystem(Action changed)
    {
        FileSystemWatcher? watcher = null;
        try
        {
            watcher = new FileSystemWatcher(Path.GetDirectoryName(_path)!, Path.GetFileName(_path))
            {
                NotifyFilter = NotifyFilters.FileName | NotifyFilters.LastWrite | NotifyFilters.Size,
            };
            watcher.Changed += (_, _) => changed();
            watcher.Created += (_, _) => changed();
            watcher.Renamed += (_, _) => changed();
            watcher.Deleted += (_, _) => changed();
            watcher.EnableRaisingEvents = true;
            return watcher;
        }
        catch (Exception e) when (e is IOException or ArgumentException or UnauthorizedAccessException)
        {
            // no such directory yet, or no inotify watch left: looking each second is enough
            watcher?.Dispose();
            return null;
        }
    }

    /// <summary>What tells one state of the file from another without reading it. Another file under its name has another time of
    /// birth.</summary>
    readonly record struct Stamp(bool Exists, DateTime Written, DateTime Created, long Length)
    {
        /// <summary>Like no file's, so that it is tried again: a change of permissions shows in none of these values.</summary>
        public static Stamp Unreadable { get; } = new(true, default, default, -1);

        public static Stamp Of(string path)
        {
            try
            {
                var file = File.ResolveLinkTarget(path, returnFinalTarget: true) is FileInfo target ? target : new FileInfo(path);
                return file.Exists ? new Stamp(true, file.LastWriteTimeUtc, file.CreationTimeUtc, file.Length) : default;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return default;
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Place}: {Problem}; the configuration in use stays")]
    partial void LogUnreadable(string place, string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Place}: {Problem}; the configuration in use stays")]
    partial void LogIncomplete(string place, string problem);
}

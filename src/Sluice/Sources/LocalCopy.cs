using System.Text.Json;
using System.Text.Json.Nodes;
using Sluice.Model.Json;

namespace Sluice.Sources;

/// <summary>
/// What a gateway last got from etcd, in <c>data/etcd-copy.jsonl</c> for its user only: a start while etcd is away goes on with it. Written
/// in the background, at most once in a while; a file that is damaged or of another prefix counts as none.
/// </summary>
/// <param name="directory">The data directory.</param>
internal sealed partial class LocalCopy(string directory, string prefix, TimeProvider time, ILogger<LocalCopy> logger) : IAsyncDisposable
{
    const int Format = 1;

    static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);

    readonly string _path = Path.Combine(directory, "etcd-copy.jsonl");
    readonly CancellationTokenSource _stopping = new();
    readonly Lock _scheduling = new();
    Func<StoreRange>? _waiting;
    Task _writing = Task.CompletedTask;

    /// <summary>Null: there is none that could be used.</summary>
    /// <param name="damage">Why the one that is there cannot be used; null when there is none, or it can.</param>
    public StoreRange? Read(out string? damage)
    {
        damage = null;
        try
        {
            return File.Exists(_path) ? Parse(File.ReadLines(_path)) : null;
        }
        catch (Exception e)
            when (e is IOException or UnauthorizedAccessException or JsonException or InvalidOperationException or FormatException
                or NullReferenceException)
        {
            damage =
                $"{_path}: {(e is FormatException or IOException or UnauthorizedAccessException ? e.Message : "a line of it is damaged")}";
            LogUnreadable(_path, e.Message);
            return null;
        }
    }

    StoreRange Parse(IEnumerable<string> lines)
    {
        var entries = new List<StoreEntry>();
        long revision = 0;
        foreach (var line in lines)
        {
            var value = JsonNode.Parse(line)!.AsObject();
            if (value["format"] is { } format)
            {
                if ((int)format != Format || (string?)value["prefix"] != prefix)
                {
                    throw new FormatException($"it is of another prefix ({(string?)value["prefix"]}) or of another version of Sluice");
                }
                revision = (long)value["revision"]!;
            }
            else if (value["end"] is { } count)
            {
                return (int)count == entries.Count ? new StoreRange(revision, entries)
                    : throw new FormatException("lines of it are missing");
            }
            else
            {
                entries.Add(new StoreEntry((string)value["key"]!, (string)value["value"]!, (long)value["create"]!, (long)value["mod"]!, 1));
            }
        }
        throw new FormatException("it has no end");
    }

    /// <summary>Has the newest state written soon.</summary>
    /// <param name="state">Asked when it is written.</param>
    public void Schedule(Func<StoreRange> state)
    {
        lock (_scheduling)
        {
            _waiting = state;
            if (_writing.IsCompleted)
            {
                _writing = Task.Run(WriteWaitingAsync);
            }
        }
    }

    async Task WriteWaitingAsync()
    {
        while (true)
        {
            Func<StoreRange>? state;
            lock (_scheduling)
            {
                (state, _waiting) = (_waiting, null);
                if (state is null)
                {
                    _writing = Task.CompletedTask;
                    return;
                }
            }
            Write(state());
            try
            {
                await Task.Delay(Pause, time, _stopping.Token);
            }
            catch (OperationCanceledException)
            {
                // what waits is written now
            }
        }
    }

    void Write(StoreRange range)
    {
        var temporary = _path + ".new";
        try
        {
            Directory.CreateDirectory(directory);
            using (var file = new FileStream(temporary, DataDirectory.Private(FileMode.Create, FileShare.None)))
            using (var lines = new StreamWriter(file, bufferSize: 1 << 16))
            {
                Line(new JsonObject { ["format"] = Format, ["prefix"] = prefix, ["revision"] = range.Revision });
                foreach (var entry in range.Entries)
                {
                    Line(new JsonObject { ["key"] = entry.Key, ["create"] = entry.CreateRevision, ["mod"] = entry.ModRevision,
                        ["value"] = entry.Value });
                }
                Line(new JsonObject { ["end"] = range.Entries.Count });
                lines.Flush();
                file.Flush(flushToDisk: true);

                void Line(JsonObject value) => lines.WriteLine(JsonBytes.Text(value));
            }
            File.Move(temporary, _path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogNotWritten(_path, e.Message);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        Task writing;
        lock (_scheduling)
        {
            writing = _writing;
        }
        await writing;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "the copy of etcd's configuration in {File} cannot be used: {Reason}")]
    partial void LogUnreadable(string file, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "the copy of etcd's configuration could not be written to {File}: {Reason}")]
    partial void LogNotWritten(string file, string reason);
}

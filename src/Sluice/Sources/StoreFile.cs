using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Data.Sqlite;

namespace Sluice.Sources;

/// <summary>The SQLite file of <see cref="EmbeddedStore"/>: one connection that writes, one that reads history. All SQL is here.</summary>
sealed class StoreFile : IDisposable
{
    const int SchemaVersion = 1;
    const int ApplicationId = 0x536C7563; // "Sluc"
    const int HistoryPage = 1000;
    const int Corrupt = 11, Full = 13, NotADatabase = 26;

    /// <summary>
    /// <c>entries</c> is the present, <c>history</c> the last changes (value null: deleted).
    /// <c>sum</c> guards against damage that leaves SQLite's own structures intact.
    /// </summary>
    const string Schema = """
        CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL);
        INSERT INTO state VALUES (1, 1, 0);
        CREATE TABLE entries (
          key TEXT PRIMARY KEY, value TEXT NOT NULL,
          create_revision INTEGER NOT NULL, mod_revision INTEGER NOT NULL, version INTEGER NOT NULL, sum INTEGER NOT NULL);
        CREATE TABLE history (
          revision INTEGER NOT NULL, sub INTEGER NOT NULL, key TEXT NOT NULL, value TEXT,
          create_revision INTEGER NOT NULL, version INTEGER NOT NULL, sum INTEGER NOT NULL,
          PRIMARY KEY (revision, sub));
        """;

    readonly string _path;
    readonly SqliteConnection _writer;
    readonly SqliteConnection _reader;
    readonly SqliteCommand _begin, _commit, _rollback, _put, _delete, _record, _forget, _advance;
    readonly Lock _reading = new();
    bool _closed;

    StoreFile(string path, StoreOptions options)
    {
        _path = path;
        _writer = Connect(path, SqliteOpenMode.ReadWrite);
        // FULL: the log is synced with each commit, so that a power cut loses nothing that was answered
        Execute(_writer, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304;");
        if (options.MaxPages is { } pages)
        {
            Execute(_writer, $"PRAGMA max_page_count = {pages};");
        }
        _begin = Prepare("BEGIN IMMEDIATE");
        _commit = Prepare("COMMIT");
        _rollback = Prepare("ROLLBACK");
        _put = Prepare(
            "INSERT OR REPLACE INTO entries VALUES ($key, $value, $create, $mod, $version, $sum)",
            "$key", "$value", "$create", "$mod", "$version", "$sum");
        _delete = Prepare("DELETE FROM entries WHERE key = $key", "$key");
        _record = Prepare(
            "INSERT INTO history VALUES ($revision, $sub, $key, $value, $create, $version, $sum)",
            "$revision", "$sub", "$key", "$value", "$create", "$version", "$sum");
        _forget = Prepare("DELETE FROM history WHERE revision <= $revision", "$revision");
        _advance = Prepare("UPDATE state SET revision = $revision, compacted = $compacted", "$revision", "$compacted");
        _reader = Connect(path, SqliteOpenMode.ReadWrite);
        Execute(_reader, "PRAGMA query_only = 1;");
    }

    public static StoreFile Open(string path, StoreOptions options)
    {
        try
        {
            if (File.Exists(path))
            {
                DataDirectory.Tighten(path);
                Inspect(path);
            }
            else
            {
                Create(path);
            }
            return new StoreFile(path, options);
        }
        catch (SqliteException e)
        {
            throw Translate(path, e);
        }
    }

    /// <summary>How SQLite writes: its journal, and how far a commit waits for the disk (2 is FULL).</summary>
    public (string Journal, long Synchronous) Writing
    {
        get
        {
            using var journal = _writer.CreateCommand();
            journal.CommandText = "PRAGMA journal_mode";
            using var synchronous = _writer.CreateCommand();
            synchronous.CommandText = "PRAGMA synchronous";
            return ((string)journal.ExecuteScalar()!, (long)synchronous.ExecuteScalar()!);
        }
    }

    public (IReadOnlyList<StoreEntry> Entries, long Revision, long Compacted) Load()
    {
        try
        {
            var entries = new List<StoreEntry>();
            using var command = Command(_reader, "SELECT key, value, create_revision, mod_revision, version, sum FROM entries");
            using (var rows = command.ExecuteReader())
            {
                while (rows.Read())
                {
                    var entry = new StoreEntry(rows.GetString(0), rows.GetString(1), rows.GetInt64(2), rows.GetInt64(3), rows.GetInt64(4));
                    entries.Add(rows.GetInt64(5) == Sum(entry) ? entry : throw Damaged(entry));
                }
            }
            command.CommandText = "SELECT revision, compacted FROM state";
            using var state = command.ExecuteReader();
            return state.Read()
                ? (entries, state.GetInt64(0), state.GetInt64(1))
                : throw new StoreCorruptException(_path, "it has lost its revision");
        }
        catch (SqliteException e)
        {
            throw Translate(_path, e);
        }
        catch (Exception e) when (e is InvalidCastException or InvalidOperationException)
        {
            throw new StoreCorruptException(_path, "a row is unreadable", e);
        }
    }

    /// <summary>All or nothing. Returns when it is on the disk.</summary>
    public void Write(IReadOnlyList<StoreEvent> events, long revision, long compacted, bool compact)
    {
        try
        {
            _begin.ExecuteNonQuery();
            var (last, sub) = (0L, 0);
            foreach (var (kind, entry) in events)
            {
                sub = entry.ModRevision == last ? sub + 1 : 0;
                last = entry.ModRevision;
                var sum = Sum(entry);
                if (kind == StoreEventKind.Put)
                {
                    Run(_put, entry.Key, entry.Value, entry.CreateRevision, entry.ModRevision, entry.Version, sum);
                }
                else
                {
                    Run(_delete, entry.Key);
                }
                Run(_record, last, sub, entry.Key, kind == StoreEventKind.Put ? entry.Value : DBNull.Value, entry.CreateRevision,
                    entry.Version, sum);
            }
            if (compact)
            {
                Run(_forget, compacted);
            }
            Run(_advance, revision, compacted);
            _commit.ExecuteNonQuery();
        }
        catch (Exception e)
        {
            RollBack();
            throw e is SqliteException error ? Translate(_path, error) : new StoreException($"the store {_path} failed: {e.Message}", e);
        }
    }

    /// <summary>Some of the changes from <paramref name="from"/> to <paramref name="to"/>: whole revisions. Null: the file was
    /// closed.</summary>
    public StoreChanges? ReadHistory(string prefix, long from, long to)
    {
        lock (_reading)
        {
            try
            {
                return _closed ? null : ReadHistoryPage(prefix, from, to);
            }
            catch (SqliteException e)
            {
                throw Translate(_path, e);
            }
        }
    }

    public void Dispose()
    {
        lock (_reading)
        {
            _closed = true;
            _reader.Dispose();
            _writer.Dispose();
        }
    }

    StoreChanges ReadHistoryPage(string prefix, long from, long to)
    {
        // one transaction: a compaction between the two reads would leave an unseen gap
        using var transaction = _reader.BeginTransaction(deferred: true);
        using var command = Command(_reader, "SELECT compacted FROM state");
        if (command.ExecuteScalar() is long compacted && from <= compacted)
        {
            throw new CompactedException(from, compacted);
        }
        command.CommandText = """
            SELECT revision, key, value, create_revision, version, sum FROM history
            WHERE revision BETWEEN $from AND $to AND substr(key, 1, length($prefix)) = $prefix ORDER BY revision, sub
            """;
        command.Parameters.AddWithValue("$from", from);
        command.Parameters.AddWithValue("$to", to);
        command.Parameters.AddWithValue("$prefix", prefix);
        using var rows = command.ExecuteReader();
        var events = new List<StoreEvent>();
        while (rows.Read())
        {
            var revision = rows.GetInt64(0);
            if (events.Count >= HistoryPage && events[^1].Entry.ModRevision is var covered && covered != revision)
            {
                return new StoreChanges(covered, events);
            }
            var kind = rows.IsDBNull(2) ? StoreEventKind.Delete : StoreEventKind.Put;
            var value = kind == StoreEventKind.Put ? rows.GetString(2) : "";
            var entry = new StoreEntry(rows.GetString(1), value, rows.GetInt64(3), revision, rows.GetInt64(4));
            events.Add(rows.GetInt64(5) == Sum(entry) ? new StoreEvent(kind, entry) : throw Damaged(entry));
        }
        return new StoreChanges(to, events);
    }

    /// <summary>Complete under another name first: a file called sluice.db is never half made, so an empty one is a damaged one.</summary>
    static void Create(string path)
    {
        var unfinished = path + ".new";
        if (new FileInfo(path + "-wal") is { Exists: true, Length: > 0 })
        {
            throw new StoreCorruptException(path, $"it is gone, but its log {path}-wal is there");
        }
        foreach (var leftover in new[] { unfinished, unfinished + "-wal", unfinished + "-shm", path + "-wal", path + "-shm" })
        {
            File.Delete(leftover);
        }
        new FileStream(unfinished, DataDirectory.Private(FileMode.CreateNew, FileShare.ReadWrite)).Dispose();
        using (var connection = Connect(unfinished, SqliteOpenMode.ReadWrite))
        {
            Execute(connection, $"PRAGMA application_id = {ApplicationId}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
            Execute(connection, $"BEGIN; {Schema} PRAGMA user_version = {SchemaVersion}; COMMIT;");
        }
        File.Move(unfinished, path);
    }

    /// <summary>Read only, so that not even a log is written back into a file that turns out to be damaged or of somebody else.</summary>
    static void Inspect(string path)
    {
        using (var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite))
        {
            Span<byte> header = stackalloc byte[100];
            if (file.ReadAtLeast(header, header.Length, throwOnEndOfStream: false) < header.Length
                || !header.StartsWith("SQLite format 3\0"u8))
            {
                throw new StoreCorruptException(path, file.Length == 0 ? "it is empty" : "it has no SQLite header");
            }
        }
        using var connection = Connect(path, SqliteOpenMode.ReadOnly);
        using var command = Command(connection, "PRAGMA application_id");
        if (command.ExecuteScalar() is not (long)ApplicationId)
        {
            throw new StoreVersionException(path, "it is a database, but not one of Sluice");
        }
        command.CommandText = "PRAGMA user_version";
        if (command.ExecuteScalar() is not long version || version != SchemaVersion)
        {
            throw new StoreVersionException(path,
                $"a newer Sluice wrote it (store version {command.ExecuteScalar()}, this one knows {SchemaVersion})");
        }
        command.CommandText = "PRAGMA quick_check(1)";
        if (command.ExecuteScalar() as string is var verdict && verdict != "ok")
        {
            throw new StoreCorruptException(path, verdict?.ReplaceLineEndings(" ") ?? "the check gave no answer");
        }
    }

    static StoreException Translate(string path, SqliteException e) => e.SqliteErrorCode switch
    {
        Corrupt or NotADatabase => new StoreCorruptException(path, e.Message, e),
        Full => new StoreFullException(path, e),
        _ when new DriveInfo(Path.GetDirectoryName(path)!).AvailableFreeSpace < 64 * 1024 => new StoreFullException(path, e),
        _ => new StoreException($"the store {path} failed: {e.Message}", e),
    };

    /// <summary>The first 8 bytes of a SHA-256 over everything that the row says.</summary>
    static long Sum(StoreEntry entry)
    {
        var text = Encoding.UTF8.GetBytes($"{entry.Key}\0{entry.Value}\0{entry.CreateRevision}\0{entry.ModRevision}\0{entry.Version}");
        return BinaryPrimitives.ReadInt64LittleEndian(SHA256.HashData(text));
    }

    StoreCorruptException Damaged(StoreEntry entry) => new(_path, $"the checksum of {entry.Key} is wrong");

    void RollBack()
    {
        try
        {
            _rollback.ExecuteNonQuery();
        }
        catch (SqliteException)
        {
            // SQLite has rolled back by itself already
        }
    }

    static SqliteConnection Connect(string path, SqliteOpenMode mode)
    {
        var connection = new SqliteConnection(
            new SqliteConnectionStringBuilder { DataSource = path, Mode = mode, Pooling = false, DefaultTimeout = 5 }.ConnectionString);
        try
        {
            connection.Open();
            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    SqliteCommand Prepare(string sql, params ReadOnlySpan<string> parameters)
    {
        var command = Command(_writer, sql);
        foreach (var parameter in parameters)
        {
            command.Parameters.Add(new SqliteParameter(parameter, DBNull.Value));
        }
        command.Prepare();
        return command;
    }

    static void Run(SqliteCommand command, params ReadOnlySpan<object> values)
    {
        for (var i = 0; i < values.Length; i++)
        {
            command.Parameters[i].Value = values[i];
        }
        command.ExecuteNonQuery();
    }

    static SqliteCommand Command(SqliteConnection connection, string sql)
    {
        var command = connection.CreateCommand();
#pragma warning disable CA2100 // all SQL is written in this file
        command.CommandText = sql;
#pragma warning restore CA2100
        return command;
    }

    static void Execute(SqliteConnection connection, string sql)
    {
        using var command = Command(connection, sql);
        command.ExecuteNonQuery();
    }
}
